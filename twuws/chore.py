"""
What small services that keep the jobs moving have in common.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twuws.database import shield
from twuws.errors import DatabaseUnavailable

log = Logger()


class Chore(Service):
    """
    Does C{runOnce} at its start and then every C{interval} seconds.

    What goes wrong is logged, and done again the next time.
    """

    interval: float = 60

    def __init__(self, reactor: Any) -> None:
        self._loop = LoopingCall(self._runQuietly)
        self._loop.clock = reactor
        self._ended: Deferred[Any] = succeed(None)
        self._extra: Deferred[None] = succeed(None)

    def startService(self) -> None:
        super().startService()
        self._ended = self._loop.start(self.interval)

    async def stopService(self) -> None:
        """Wait for a run that is under way."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        await shield(self._ended)
        await shield(self._extra)

    def now(self) -> None:
        """Do it once more, at once."""
        if self.running and self._extra.called:
            self._extra = Deferred.fromCoroutine(self._runQuietly())

    async def _runQuietly(self) -> None:
        try:
            await self.runOnce()
        except DatabaseUnavailable as e:
            log.warn("{chore}: {e}", chore=type(self).__name__, e=e)
        except Exception:
            log.failure("{chore}", chore=type(self).__name__)

    async def runOnce(self) -> None:
        """Do it, once."""
        raise NotImplementedError
