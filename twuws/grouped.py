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
    Does together what comes in one turn of the reactor, and then what came meanwhile.

    So many commits become one, and nobody waits for a time to go by.  Only if some take long the
    next begin beside them.

    @param action: does some, and says what became of each, in their order.
    @param reactor: whose turns these are.
    @param most: how many together.
    @param patience: how long others wait for those that go on, s.
    """

    def __init__(
        self,
        action: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        reactor: Any,
        most: int = 100,
        patience: float = 0.1,
    ) -> None:
        self._action = action
        self._reactor = reactor
        self._most = most
        self._patience = patience
        self._waiting: list[tuple[T, Deferred[R]]] = []
        self._isBusy = False

    def do(self, item: T) -> Deferred[R]:
        """
        Do one; fires with what became of it, or as C{action} failed.
        """
        done: Deferred[R] = Deferred()
        self._waiting.append((item, done))
        self._goOn()
        return done

    def _goOn(self) -> None:
        if self._waiting and not self._isBusy:
            self._isBusy = True
            self._reactor.callLater(0, self._begin)

    def _begin(self) -> None:
        group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        Deferred.fromCoroutine(self._doAll(group))

    async def _doAll(self, group: list[tuple[T, Deferred[R]]]) -> None:
        turn = self._reactor.callLater(self._patience, self._leaveTurn)
        results: Sequence[R] | Failure
        try:
            results = await self._action([item for item, _ in group])
            if len(results) != len(group):
                raise ValueError(f"{len(results)} results for {len(group)}")
        except BaseException:
            results = Failure()
        if turn.active():
            turn.cancel()
            self._leaveTurn()
        for number, (_, done) in enumerate(group):
            done.callback(results if isinstance(results, Failure) else results[number])

    def _leaveTurn(self) -> None:
        self._isBusy = False
        self._goOn()
