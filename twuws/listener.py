"""
LISTEN on a connection of its own, which comes back when it is lost.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws.database import LOST, Database, connect, shield
from twuws.errors import DatabaseUnavailable

log = Logger()


class Listener(Service):
    """
    Calls C{notified(payload)} for each NOTIFY on C{channel}.

    C{connected()} is called each time listening starts: whatever was notified while there
    was no connection is lost, so it is the time to look for oneself.
    """

    def __init__(
        self,
        database: Database,
        channel: str,
        notified: Callable[[str], object],
        connected: Callable[[], object] = lambda: None,
    ) -> None:
        self.database, self.channel = database, channel
        self.retry = backoffPolicy(initialDelay=0.2, maxDelay=10)
        self.notified, self.connected = notified, connected
        self._running: Deferred[None] = defer.succeed(None)

    def startService(self) -> None:
        super().startService()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._running.cancel()
        return self._running

    def _ended(self, failure: Failure) -> None:
        failure.trap(CancelledError)

    async def _run(self) -> None:
        self._attempt = 0
        while True:
            try:
                await self._listen()
                log.warn("listening again: the connection to the database was lost")
            except (*LOST, DatabaseUnavailable) as e:
                log.warn("not listening: {e}", e=e)
            self._attempt += 1
            await task.deferLater(self.database.reactor, self.retry(self._attempt))

    async def _listen(self) -> None:
        """Listen until the connection is lost."""
        connection = await connect(self.database.dsn, self.database.reactor)
        try:
            connection.addNotifyObserver(lambda n: self._call(self.notified, n.payload))
            # txpostgres cannot be cancelled without being asked twice
            await shield(connection.runOperation(f'LISTEN "{self.channel}"'))
            self._attempt = 0
            self._call(self.connected)
            await connection.lost
        finally:
            connection.close()

    def _call(self, callback: Callable[..., object], *args: str) -> None:
        """What a callback does wrong must not end the listening."""
        try:
            callback(*args)
        except Exception:
            log.failure("hearing of {channel}", channel=self.channel)
