"""
A site that leaves politely: who has sent a request gets an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.components import proxyForInterface
from twisted.web.server import Site

from twuws.logs import accessLine

log = Logger()


class PoliteSite(Site):
    """
    A site that knows its connections, and the requests that have begun and not ended.

    @cvar patience: how long these may take to end by themselves, s, and how long then what was
        answered may take to be sent.
    """

    patience = 10.0

    def __init__(self, resource: Any, makeRequest: Callable[..., Any], reactor: Any) -> None:
        super().__init__(
            resource,
            self._noting(makeRequest),
            parsePOSTFormSubmission=False,
            logFormatter=accessLine,
            reactor=reactor,
        )
        self.displayTracebacks = False
        self._requests: set[Any] = set()
        self._connections: set[Any] = set()
        self._changed: Deferred[None] | None = None

    def buildProtocol(self, address: Any) -> Any:
        return _Connection(super().buildProtocol(address), self)

    def opened(self, connection: Any) -> None:
        self._connections.add(connection)

    def closed(self, connection: Any) -> None:
        self._end(self._connections, connection)

    def _noting(self, makeRequest: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            request = makeRequest(*args, **kwargs)
            self._requests.add(request)
            request.notifyFinish().addBoth(lambda _: self._end(self._requests, request))
            return request

        return make

    def _end(self, group: set[Any], one: Any) -> None:
        group.discard(one)
        if self._changed is not None and not group:
            changed, self._changed = self._changed, None
            changed.callback(None)

    async def leave(self) -> None:
        """
        Let the requests that are under way end, and close all connections.

        Nobody may be listening any more.
        """
        await self._untilEmpty(self._requests)
        if self._requests:
            log.warn("requests are cut off that have not ended: {n}", n=len(self._requests))
        for connection in list(self._connections):
            connection.transport.loseConnection()  # once all that was answered is sent
        await self._untilEmpty(self._connections)

    async def _untilEmpty(self, group: set[Any]) -> None:
        giveUpAt = self.reactor.seconds() + self.patience
        while group and (left := giveUpAt - self.reactor.seconds()) > 0:
            self._changed = Deferred()
            try:
                await self._changed.addTimeout(left, self.reactor)
            except TimeoutError:
                self._changed = None
                return


class _Connection(proxyForInterface(IProtocol, "protocol")):  # type: ignore[misc]
    """What a connection's protocol is wrapped in, so that its site knows of it."""

    def __init__(self, protocol: Any, site: PoliteSite) -> None:
        super().__init__(protocol)
        self._site = site
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._site.opened(self)
        self.protocol.makeConnection(transport)

    def connectionLost(self, reason: Any) -> None:
        self._site.closed(self)
        self.protocol.connectionLost(reason)
