"""
Who waits for a job is woken when its phase changes, without asking again and again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred

from twuws.database import Database
from twuws.listener import Listener


class PhaseWatcher(Service):
    """
    One connection that listens, for any number of those who wait.

    A waiter costs an entry in a dictionary.  Waking is a hint: whoever is woken looks for
    itself, and all are woken when listening begins anew, since what was said meanwhile is
    lost.

    @ivar observers: called with job id, phase (C{-} if the job is gone) and service for
        each change, and with three times C{None} when listening begins anew.
    """

    def __init__(self, database: Database) -> None:
        self._listener = Listener(database, database.schema, self._notified, self._connected)
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self.observers: set[Callable[[str | None, str | None, str | None], object]] = set()

    def startService(self) -> None:
        super().startService()
        self._listener.startService()

    def stopService(self) -> Deferred[None]:
        """Wake all who wait, so that they can answer with the state as it is."""
        super().stopService()
        self.wakeAll()
        return maybeDeferred(self._listener.stopService)

    def changed(self, jobId: str) -> Deferred[None]:
        """
        A Deferred that fires when the job may have changed; cancel it to wait no longer.
        """
        waiter: Deferred[None] = Deferred(lambda gone: self._forget(jobId, gone))
        self._waiting.setdefault(jobId, []).append(waiter)
        return waiter

    def waiting(self) -> int:
        """How many wait now."""
        return sum(map(len, self._waiting.values()))

    def wakeAll(self) -> None:
        """Let everybody look."""
        for jobId in list(self._waiting):
            self.wake(jobId)

    def wake(self, jobId: str) -> None:
        """Let those look who wait for a job: its phase has changed, or may have."""
        for waiter in self._waiting.pop(jobId, ()):
            waiter.callback(None)

    def _forget(self, jobId: str, waiter: Deferred[None]) -> None:
        waiters = self._waiting.get(jobId, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiting.pop(jobId, None)

    def _notified(self, payload: str) -> None:
        if payload.count(" ") < 2:  # anybody can notify
            return
        jobId, phase, service = payload.split(" ", 2)
        self.wake(jobId)
        for observer in [*self.observers]:
            observer(jobId, phase, service)

    def _connected(self) -> None:
        self.wakeAll()
        for observer in [*self.observers]:
            observer(None, None, None)
