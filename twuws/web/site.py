"""
A site that leaves politely: who has sent a request gets an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.components import proxyForInterface
from twisted.web.server import Site

from twuws.logs import accessLine
from twuws.proxies import networkOf
from twuws.web.channel import ConnectionLimits, GuardedChannel, TurnedAway

log = Logger()

#: How many clients that are turned away are told why, at a time; fewer where there can be few
#: connections, for this takes some, too.
MOST_TOLD = 100


class PoliteSite(Site):
    """
    A site that knows its connections, and the requests that have begun and not ended.

    It speaks HTTP/1.1 only, for nothing limits the connections of HTTP/2.

    @param limits: what a connection can have, and how many there can be.
    @param spared: peers that have any number, such as proxies.
    @cvar patience: how long these may take to end by themselves, s, and how long then what was
        answered may take to be sent.
    @cvar interval: how often it looks for who is too late, s.
    """

    patience = 10.0
    interval = 1.0
    protocol: Any = GuardedChannel

    def __init__(
        self,
        resource: Any,
        makeRequest: Callable[..., Any],
        reactor: Any,
        limits: ConnectionLimits | None = None,
        spared: Callable[[str | None], bool] = lambda host: False,
    ) -> None:
        self.limits = limits or ConnectionLimits()
        super().__init__(
            resource,
            self._noting(makeRequest),
            parsePOSTFormSubmission=False,
            logFormatter=accessLine,
            reactor=reactor,
            timeout=self.limits.idleTime,
        )
        self.displayTracebacks = False
        self.turnedAway = 0
        self._spared = spared
        self._number: Counter[str] = Counter()
        self._watched: set[Any] = set()
        self._held: dict[Any, int] = {}
        self._watching: Any = None
        self._requests: set[Any] = set()
        self._connections: set[Any] = set()
        self._changed: Deferred[None] | None = None

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def buildProtocol(self, address: Any) -> Any:
        host = getattr(address, "host", None)
        place = None if self._spared(host) else networkOf(host or "unix")
        limits = self.limits
        if limits.inAll is not None and len(self._connections) >= limits.inAll:
            what = f"This service has {limits.inAll} connections, which are the most it can have"
            return self._turnAway(503, f"{what} (limits.connections): try again later.")
        if place and limits.perAddress is not None and self._number[place] >= limits.perAddress:
            what = f"You have {limits.perAddress} connections, and more are not to be had"
            return self._turnAway(429, f"{what} (limits.connections-per-address).")
        return _Connection(super().buildProtocol(address), self, place)

    def _turnAway(self, status: int, message: str) -> Any:
        """Tell a client why it is not answered; if there are many of them, just hang up."""
        if self.turnedAway >= min(MOST_TOLD, (self.limits.inAll or 4 * MOST_TOLD) // 4):
            return None
        self.turnedAway += 1
        return TurnedAway(self, status, message)

    def opened(self, connection: Any) -> None:
        self._connections.add(connection)
        if connection.place:
            self._number[connection.place] += 1

    def closed(self, connection: Any) -> None:
        if connection.place:
            self._number[connection.place] -= 1
            if not self._number[connection.place]:
                del self._number[connection.place]
        self._end(self._connections, connection)

    def watch(self, channel: Any, hasDeadline: bool) -> None:
        """Look at a channel's deadline each second, or do not any more."""
        if hasDeadline:
            self._watched.add(channel)
            if self._watching is None:
                self._watching = self.reactor.callLater(self.interval, self._look)
        else:
            self._watched.discard(channel)
            if not self._watched and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    def holds(self, channel: Any, size: int) -> None:
        """
        So much is in memory for a client that does not read it; if that is too much together, the
        longest held of the address that has most is cut off.
        """
        if size:
            self._held[channel] = size
        else:
            self._held.pop(channel, None)
        most = self.limits.unsent
        while most is not None and sum(self._held.values()) > most:
            by: Counter[str] = Counter()
            for one, held in self._held.items():
                by[one.place] += held
            ((worst, _),) = by.most_common(1)
            one = next(one for one in self._held if one.place == worst)
            del self._held[one]
            log.warn("{place} reads nothing of {size} bytes, and is cut off",
                     place=worst, size=by[worst])  # fmt: skip
            one.transport.abortConnection()

    def _look(self) -> None:
        self._watching = self.reactor.callLater(self.interval, self._look)
        now = self.reactor.seconds()
        for channel in list(self._watched):
            channel.checkTime(now)

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

    def __init__(self, protocol: Any, site: PoliteSite, place: str | None) -> None:
        super().__init__(protocol)
        self._site = site
        self.place = place
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._site.opened(self)
        self.protocol.makeConnection(transport)

    def connectionLost(self, reason: Any) -> None:
        self._site.closed(self)
        self.protocol.connectionLost(reason)
