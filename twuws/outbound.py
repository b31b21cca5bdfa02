"""
Connections to servers that clients name: to public addresses only, if that is asked for.

A name counts for the addresses that it has when it is connected to, and these are what is
connected to: nothing is looked up twice.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

#: How long what comes before the body of an answer can be, bytes: no longer than a line that
#: Twisted takes, which would just close the connection.
LONGEST_HEAD = 16 * 2**10
#: How many answers to the same request there can be: all but the last say 1xx.
MOST_HEADS = 10

#: How much of a body is handed on at once, bytes.
PIECE = 4 * 2**10
#: How long that can go on before others have their turn, s.
LONGEST_TURN = 0.005
#: For how long it then rests, as a multiple of how long it took.
REST = 3.0
#: Less than this at once, bytes, is a reason to let more come first,
SMALL = 512
#: which is what this is for, s.
SHORTEST_REST = 0.01

# Addresses of IPv6 that are unicast at all, and those that are IPv4's behind a translator.
_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")


def isPublic(address: str) -> bool:
    """
    Whether an IP address is one of the public Internet, for all to connect to.

    >>> isPublic("8.8.8.8"), isPublic("10.0.0.1"), isPublic("::ffff:127.0.0.1")
    (True, False, False)
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inside = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is None:
            return ip in _UNICAST and ip.is_global and not ip.is_multicast
        return inside.is_global and not inside.is_multicast
    return ip.is_global and not ip.is_multicast


@implementer(IResolutionReceiver)
class _Sieve:
    """Passes on the public ones of the addresses that a name has, and notes the others."""

    def __init__(self, receiver: Any, refused: list[str]) -> None:
        self._receiver = receiver
        self._refused = refused

    def resolutionBegan(self, resolution: Any) -> None:
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: Any) -> None:
        if isPublic(address.host):
            self._receiver.addressResolved(address)
        else:
            self._refused.append(address.host)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class PublicOnly:
    """
    A reactor in which names lead to public addresses only.

    Literal addresses, in whatever spelling, are resolved as names are.

    @ivar refused: the other addresses that were found.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.nameResolver = self
        self.refused: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError

    def resolveHostName(self, resolutionReceiver: Any, *args: Any, **more: Any) -> Any:
        sieve = _Sieve(resolutionReceiver, self.refused)
        return self._reactor.nameResolver.resolveHostName(sieve, *args, **more)


class _Connection(ProtocolWrapper):
    """
    A connection that takes only so much of the reactor's time, however small the pieces are
    in which its data comes, and that bears only so much before its answer begins.

    @ivar isAnswered: the answer's head was received.
    """

    isAnswered = False
    factory: _Connections

    def __init__(self, factory: Any, wrappedProtocol: Any) -> None:
        super().__init__(factory, wrappedProtocol)
        self._held = bytearray()  # not yet handed on
        self._headSize = 0
        self._heads = 0
        self._isPaused = False  # by who the data is for
        self._isHandingOn = False
        self._rest: Any = None
        self._isEnded = False
        self._lost: Failure | None = None
        self._isLossTold = False

    def dataReceived(self, data: bytes) -> None:
        if self._isEnded:
            return
        self._held += data
        self._handOn(SHORTEST_REST if len(data) < SMALL else 0.0)

    def pauseProducing(self) -> None:
        self._isPaused = True
        self._handOn()

    def resumeProducing(self) -> None:
        self._isPaused = False
        self._handOn()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        self._handOn()

    def end(self) -> None:
        """Close it at once, whatever the server thinks of that."""
        self._isEnded = True
        self._held.clear()
        self._isPaused = False
        self._rested()
        if self._lost is None:
            transport: Any = self.transport
            transport.abortConnection()

    def _handOn(self, rest: float = 0.0) -> None:
        """
        Hand on what is held, while it is wanted and does not take long.

        @param rest: how long nothing is to be handed on then, s.
        """
        if self._isHandingOn or self._rest is not None:
            return
        self._isHandingOn = True
        began = time.monotonic()
        took = 0.0
        try:
            while took < LONGEST_TURN and not self._isPaused and (piece := self._next()):
                super().dataReceived(piece)
                took = time.monotonic() - began
        finally:
            self._isHandingOn = False
        if self._lost is not None and not self._held:
            if not self._isLossTold:
                self._isLossTold = True
                super().connectionLost(self._lost)
            return
        if took >= LONGEST_TURN:
            rest = REST * took
        if rest > 0 and not self._isEnded:
            self._rest = self.factory.reactor.callLater(rest, self._rested)
        self._steer()

    def _rested(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and rest.active():
            rest.cancel()
        self._handOn()

    def _steer(self) -> None:
        """Let more come if there is room for it."""
        if self._lost is None and not self._isEnded:
            transport: Any = self.transport
            isWanted = not self._isPaused and self._rest is None
            (transport.resumeProducing if isWanted else transport.pauseProducing)()

    def _next(self) -> bytes:
        """What is to be handed on next: a line of the head, or a little of the body."""
        size = PIECE
        if not self.isAnswered:
            size = self._held.find(b"\n") + 1
            if not size and self._lost is not None:
                size = len(self._held)
            unended = 0 if size else len(self._held)
            if self._headSize + size + unended > LONGEST_HEAD or self._heads >= MOST_HEADS:
                self.end()
                return b""
        piece = bytes(self._held[:size])
        del self._held[:size]
        if not self.isAnswered:
            self._headSize += len(piece)
            self._heads += piece in (b"\n", b"\r\n")
        return piece


class _Connections(WrappingFactory[_Connection]):
    """Makes L{_Connection}s around the protocols of another factory."""

    protocol = _Connection
    noisy = False

    def __init__(self, wrappedFactory: Any, reactor: Any) -> None:
        super().__init__(wrappedFactory)
        self.reactor = reactor

    def doStart(self) -> None:
        """Nothing worth the log."""

    def doStop(self) -> None:
        """Nothing worth the log."""


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Way:
    """
    The way of one request to its server.

    @param reactor: in which names are looked for.
    """

    def __init__(self, reactor: Any, connectTimeout: float) -> None:
        self._reactor = reactor
        self._connectTimeout = connectTimeout
        self._endpoint: Any = None
        self.connection: _Connection | None = None

    def endpointForURI(self, uri: URI) -> Way:
        host = uri.host.decode("ascii")
        endpoint: Any = HostnameEndpoint(
            self._reactor, host, uri.port, timeout=self._connectTimeout
        )
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
        self._endpoint = endpoint
        return self

    def connect(self, protocolFactory: Any) -> Any:
        connecting = self._endpoint.connect(_Connections(protocolFactory, self._reactor))
        return connecting.addCallback(self._connected)

    def _connected(self, connection: _Connection) -> Any:
        self.connection = connection
        return connection.wrappedProtocol

    def end(self) -> None:
        """Let go of the server."""
        if self.connection is not None:
            self.connection.end()
