"""
Connections that are not held by who does nothing with them.

Twisted waits for as long as a byte comes each minute, and for ever for who does not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.web.http import RESPONSES, HTTPChannel

from twuws.proxies import networkOf

log = Logger()

#: How much of a body in chunks is read before others have their turn, bytes: it may be a thousand
#: chunks, each of which takes some ten microseconds.
CHUNKS_AT_A_TIME = 8192

#: How long whoever was refused has to read why, s, and what they may send meanwhile, bytes.
LINGER = 2.0
LINGER_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """
    What a connection can have, and how many there can be.

    @ivar headers: how many headers a request has at most.
    @ivar headerSize: how many bytes these and the request line have together, at most.
    @ivar headerTime: how long they may take, s, from the first byte on; C{None} for any time.
    @ivar bodyRate: how fast a body comes at least, bytes/s; C{None} for any rate.
    @ivar bodyGrace: for how long it may be slower than that, s.
    @ivar idleTime: how long a connection is kept on which no request comes, s.
    @ivar sendTime: how long a client may take to read what is held for it in memory, s, beside
        what that takes at L{bodyRate}; C{None} for any time.
    @ivar unsent: how much is held in memory at most for clients that do not read as fast as we
        write, all together, bytes; C{None} for any amount.
    @ivar perAddress: how many connections an address has at most; C{None} for any number.
    @ivar inAll: how many there are at most, of all; C{None} for any number.
    """

    headers: int = 200
    headerSize: int = 32 * 2**10
    headerTime: float | None = 30
    bodyRate: int | None = 1000
    bodyGrace: float = 30
    idleTime: float = 60
    sendTime: float | None = 300
    unsent: int | None = 256 * 2**20
    perAddress: int | None = None
    inAll: int | None = None


class _Doing(Enum):
    """What a connection is about."""

    NOTHING = "nothing"
    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"


class GuardedChannel(HTTPChannel):
    """
    The connection of one client, with deadlines for what it has to do.

    The site has C{limits}, and is asked to C{watch} a channel that has a deadline, for which
    it calls L{checkTime} from time to time.  Who waits for an answer has none.  It is told by
    C{holds} how much is in memory that the client has yet to read.

    Requests that a client sends at a time are answered one by one, and others have their turn
    between them.
    """

    site: Any
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._doing = _Doing.NOTHING
        self._readBy: float | None = None
        self._sentBy: float | None = None
        self._headerLines = self._headerBytes = self._unsent = 0
        self._lingering: Lingering | None = None
        self._isPaused = False
        self._answered: Any = None
        self._turn: Any = None
        self._usualSize: int | None = None
        self._isSecure: bool | None = None

    def connectionMade(self) -> None:
        limits = self.site.limits
        self.MAX_LENGTH = self.totalHeadersSize = limits.headerSize  # of one line, and of all
        self.maxHeaders = limits.headers + 1  # we count before it does
        super().connectionMade()

    def isSecure(self) -> bool:
        """Whether it is TLS, which each request asks several times."""
        if self._isSecure is None:
            self._isSecure = bool(super().isSecure())
        return self._isSecure

    # Reading

    def dataReceived(self, data: bytes) -> None:
        if self._doing is _Doing.NOTHING:
            self._beginHeaders()
        elif self._doing is _Doing.BODY:
            self._received(len(data))
        super().dataReceived(data)
        self._tellSite()

    def _beginHeaders(self) -> None:
        self._doing = _Doing.HEADERS
        self._headerLines = self._headerBytes = 0
        time = self.site.limits.headerTime
        self._readBy = None if time is None else self.site.reactor.seconds() + time

    def _received(self, size: int) -> None:
        """Each byte of a body gives time for others, but never more than to begin with."""
        limits, now = self.site.limits, self.site.reactor.seconds()
        if self._readBy is not None:
            more = max(self._readBy, now) + size / limits.bodyRate
            self._readBy = min(more, now + limits.bodyGrace)

    def lineReceived(self, line: bytes) -> None:
        limits = self.site.limits
        if self._doing is _Doing.NOTHING:  # it came before the last request was answered
            self._beginHeaders()
        self._headerBytes += len(line) + 2
        if self._headerBytes > limits.headerSize:
            self.lineLengthExceeded(line)
        elif self._headerLines > limits.headers and line:  # the first one is no header
            self.refuse(431, f"A request can have {limits.headers} headers (limits.headers).")
        else:
            self._headerLines += 1
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(
            431 if self._headerLines else 414,
            f"The URL and the headers of a request can have {self.site.limits.headerSize} bytes"
            " together (limits.header-size).",
        )

    def allHeadersReceived(self) -> None:
        limits = self.site.limits
        self._doing = _Doing.BODY
        hasRate = limits.bodyRate is not None
        self._readBy = self.site.reactor.seconds() + limits.bodyGrace if hasRate else None
        if self.requests[-1].requestHeaders.hasHeader(b"transfer-encoding"):
            self._usualSize = getattr(self.transport, "bufferSize", None)
            self.transport.bufferSize = CHUNKS_AT_A_TIME
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        self._doing = _Doing.ANSWER
        self._readBy = None
        if self._usualSize is not None:
            self.transport.bufferSize, self._usualSize = self._usualSize, None
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._doing = _Doing.NOTHING
        if self.persistent:
            self._answered = request
            self._awaitTurn()
        else:
            super().requestDone(request)

    def _awaitTurn(self) -> None:
        """Go on once others had their turn, and the client has read what it was answered."""
        if self._answered is not None and not self._isPaused and self._turn is None:
            self._turn = self.callLater(0, self._takeTurn)

    def _takeTurn(self) -> None:
        request, self._answered, self._turn = self._answered, None, None
        super().requestDone(request)
        self._tellSite()

    # Sending

    def write(self, data: bytes) -> None:
        self._unsent = len(data) + (self._unsent if self._isPaused else 0)
        super().write(data)
        if self._isPaused:
            self.site.holds(self, self._unsent)

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write."""
        self._isPaused = True
        limits = self.site.limits
        if limits.sendTime is not None:
            more = self._unsent / (limits.bodyRate or 1000)
            self._sentBy = self.site.reactor.seconds() + limits.sendTime + more
            self._tellSite()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """It has read all of it."""
        self._unsent = 0
        self._isPaused = False
        self._sentBy = None
        self._tellSite()
        self.site.holds(self, 0)
        super().resumeProducing()
        self._awaitTurn()

    # Deadlines

    def _tellSite(self) -> None:
        self.site.watch(self, self._readBy is not None or self._sentBy is not None)

    def checkTime(self, now: float) -> None:
        """End the connection if it is too late."""
        limits = self.site.limits
        if self._sentBy is not None and now > self._sentBy:
            log.info("{peer} does not read its answer", peer=self._peer())
            self.transport.abortConnection()
        elif self._readBy is not None and now > self._readBy:
            if self._doing is _Doing.HEADERS:
                why = f"The headers took longer than {limits.headerTime:g} s (limits.header-time)."
            else:
                why = (
                    f"The body came slower than {limits.bodyRate} bytes/s for"
                    f" {limits.bodyGrace:g} s (limits.body-rate, limits.body-grace)."
                )
            self.refuse(408, why)

    def refuse(self, status: int, message: str) -> None:
        """Say what is wrong, unless another answer has begun, and end the connection."""
        log.info("{peer} is refused: {why}", peer=self._peer(), why=message)
        self._readBy = self._sentBy = None
        self._tellSite()
        self.setTimeout(None)
        self.persistent = False
        if self.requests and self.requests[-1].startedWriting:
            self.transport.abortConnection()
            return
        self._lingering = lastWords(self, self.transport, status, message)
        self.dataReceived = self._lingering.passOver  # type: ignore[method-assign]
        self.clearLineBuffer()

    @property
    def place(self) -> str:
        """Where the client is: an address, or a network of them."""
        return networkOf(self._peer())

    def _peer(self) -> str:
        return str(getattr(self.transport.getPeer(), "host", "unix"))

    def connectionLost(self, reason: Any = None) -> None:
        self.site.watch(self, False)
        self.site.holds(self, 0)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._lingering is not None:
            self._lingering.stop()
        super().connectionLost(reason)


class Lingering:
    """
    A client that has been told something, and may read it for a while.

    To close the connection at once would have the kernel reset it while the client still sends,
    and a reset overtakes the answer.  So only our side is closed.
    """

    def __init__(self, transport: Any, reactor: Any) -> None:
        self._transport = transport
        self._left = LINGER_BYTES
        self._call = reactor.callLater(LINGER, transport.abortConnection)
        # TLS may hold the answer back for a moment; what lies below it must not be closed.
        if ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def passOver(self, data: bytes) -> None:
        """It still sends."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abortConnection()

    def stop(self) -> None:
        """The connection is closed."""
        if self._call.active():
            self._call.cancel()


def lastWords(protocol: Any, transport: Any, status: int, message: str) -> Lingering:
    """Answer with a message, on a connection on which nothing else comes after it."""
    reason = RESPONSES.get(status, b"Request Header Fields Too Large")
    body = message.encode() + b"\n"
    again = b"Retry-After: 10\r\n" if status in (429, 503) else b""
    transport.write(
        b"HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n%s" % (status, reason, again, len(body), body)
    )
    return Lingering(transport, protocol.site.reactor)


class TurnedAway(Protocol):
    """A connection of which there are too many."""

    def __init__(self, site: Any, status: int, message: str) -> None:
        self.site = site
        self._answer = status, message
        self._lingering: Lingering | None = None

    def connectionMade(self) -> None:
        self._lingering = lastWords(self, self.transport, *self._answer)

    def dataReceived(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering.passOver(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.site.turnedAway -= 1
        if self._lingering is not None:
            self._lingering.stop()
