"""
Things that are done together while they come faster than they can be done one by one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
R = TypeVar("R")


class Grouped(Generic[T, R]):
    """
    Does the first at once, and those that come meanwhile together, once that is done.

    So many commits become one, and nobody waits for a time to go by.

    @param action: does some, and says what became of each, in their order.
    @param most: how many together.
    @param atOnce: how many of these groups go on at a time: with more than one, others are got
        ready while one waits for the disk.
    """

    def __init__(
        self,
        action: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        most: int = 100,
        atOnce: int = 1,
    ) -> None:
        self._action = action
        self._most = most
        self._waiting: list[tuple[T, Deferred[R]]] = []
        self._free = atOnce

    def do(self, item: T) -> Deferred[R]:
        """
        Do one; fires with what became of it, or as C{action} failed.
        """
        done: Deferred[R] = Deferred()
        self._waiting.append((item, done))
        if self._free:
            self._free -= 1
            Deferred.fromCoroutine(self._doAll())
        return done

    async def _doAll(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await self._action([item for item, _ in group])
                ended = list(zip(group, results, strict=True))
            except BaseException:
                failure = Failure()
                for _, done in group:
                    done.errback(failure)
            else:
                for (_, done), result in ended:
                    done.callback(result)
        self._free += 1
