"""
Connections to servers that clients name: to public addresses only, if that is asked for.

A name counts for the addresses that it has when it is connected to, and these are what is
connected to: nothing is looked up twice.
"""

from __future__ import annotations

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

#: How long what comes before the body of an answer can be, bytes.
LONGEST_HEAD = 128 * 2**10

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
    A connection that bears only so much before its answer begins.

    @ivar isAnswered: the answer's head was received.
    """

    isAnswered = False
    _received = 0
    _isLost = False

    def dataReceived(self, data: bytes) -> None:
        if not self.isAnswered:
            self._received += len(data)
            if self._received > LONGEST_HEAD:
                self.end()
                return
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._isLost = True
        super().connectionLost(reason)

    def end(self) -> None:
        """Close it at once, whatever the server thinks of that."""
        if not self._isLost:
            transport: Any = self.transport
            transport.abortConnection()


class _Connections(WrappingFactory[_Connection]):
    """Makes L{_Connection}s around the protocols of another factory."""

    protocol = _Connection
    noisy = False

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
        connecting = self._endpoint.connect(_Connections(protocolFactory))
        return connecting.addCallback(self._connected)

    def _connected(self, connection: _Connection) -> Any:
        self.connection = connection
        return connection.wrappedProtocol

    def end(self) -> None:
        """Let go of the server."""
        if self.connection is not None:
            self.connection.end()
