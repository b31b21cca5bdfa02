"""
Things that are done together while they come faster than they can be done one by one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

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
    @param reactor: if given, a group begins with its next turn, so that all belong to it that
        come in this one; without, who comes first is a group alone.
    """

    def __init__(
        self,
        action: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        most: int = 100,
        atOnce: int = 1,
        reactor: Any = None,
    ) -> None:
        self._action = action
        self._most = most
        self._waiting: list[tuple[T, Deferred[R]]] = []
        self._free = atOnce
        self._reactor = reactor
        self._isSoon = False

    def do(self, item: T) -> Deferred[R]:
        """
        Do one; fires with what became of it, or as C{action} failed.
        """
        done: Deferred[R] = Deferred()
        self._waiting.append((item, done))
        if self._free and not self._isSoon:
            self._free -= 1
            if self._reactor is None:
                self._begin()
            else:
                self._isSoon = True
                self._reactor.callLater(0, self._begin)
        return done

    def _begin(self) -> None:
        self._isSoon = False
        Deferred.fromCoroutine(self._doAll())

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
