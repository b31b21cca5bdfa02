"""
Long answers: written as they are made, no faster than their client reads, and no faster than
others can bear.
"""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from twuws.web.accept import takesGzip
from twuws.web.headers import textOf, vary

#: How many turns the reactor has after each piece: an answer to somebody else takes four or five,
#: and those for which nobody has work take some 20 µs each.
TURNS = 4

#: Of zlib's levels: most of what is to be had, for little time.
_LEVEL = 3
_GZIP = 16 + zlib.MAX_WBITS


@implementer(IPushProducer)
class Paced:
    """
    Writes a long answer no faster than its client reads.

    @param reactor: has some turns after each piece that is written, so that others get theirs.
    @param mayCompress: compress it, if the client can read that.
    """

    def __init__(self, request: Any, reactor: Any, mayCompress: bool = False) -> None:
        self._request = request
        self._reactor = reactor
        self._open: Deferred[None] = succeed(None)
        self._gzip: Any = None
        if mayCompress:
            vary(request, "Accept-Encoding")
            if takesGzip(textOf(request, "accept-encoding")):
                request.setHeader("content-encoding", "gzip")
                self._gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        request.registerProducer(self, True)

    async def write(self, data: bytes) -> None:
        """Write some, and return when it is time for more."""
        self._request.write(self._gzip.compress(data) if self._gzip else data)
        for _ in range(TURNS):
            await deferLater(self._reactor, 0)
        waiter: Deferred[None] = Deferred()

        def go(_: None) -> None:
            waiter.callback(None)

        self._open.addCallback(go)
        await waiter

    def end(self) -> None:
        """All has been written."""
        if self._gzip:
            self._request.write(self._gzip.flush())

    def finish(self) -> None:
        """There is no more, whether it is whole or not."""
        if self._request.channel is not None:  # its client is still there
            self._request.unregisterProducer()

    def abort(self) -> None:
        """There would be more: end the connection, so that the client knows."""
        if self._request.channel is not None:
            self._request.transport.abortConnection()

    def pauseProducing(self) -> None:
        if self._open.called:
            self._open = Deferred()

    def resumeProducing(self) -> None:
        if not self._open.called:
            self._open.callback(None)

    def stopProducing(self) -> None:
        """The client has gone; the handler is cancelled."""
        self.resumeProducing()
