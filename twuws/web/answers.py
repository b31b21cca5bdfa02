"""
Answering a request: texts, documents, redirects, files, and what went wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.web.http import SEE_OTHER
from twisted.web.static import File
from zope.interface import implementer

from twuws.documents import MEDIA_TYPE
from twuws.errors import DatabaseUnavailable, NotAllowed, NotFound, Unavailable, UWSError

#: In how many ranges of a file a client can be interested.
MOST_RANGES = 8

TEXT = "text/plain; charset=utf-8"

_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", re.ASCII)


def body(request: Any, content: bytes, mediaType: str) -> bytes:
    """Say what the content is and how long, and return it."""
    request.setHeader("content-type", mediaType)
    request.setHeader("content-length", str(len(content)))
    return content


def text(request: Any, content: str, mediaType: str = TEXT) -> bytes:
    """A text, as it is: no line end is added (A-77)."""
    return body(request, content.encode("utf-8", "replace"), mediaType)


def document(request: Any, content: bytes) -> bytes:
    """An XML document; the same URL may have other forms for those who ask for them."""
    request.setHeader("vary", "Accept")
    return body(request, content, MEDIA_TYPE)


def seeOther(request: Any, url: str) -> bytes:
    """303, and nothing else (A-82), to an absolute URL."""
    request.setResponseCode(SEE_OTHER)
    request.setHeader("location", url)
    return text(request, "")


def failure(request: Any, error: UWSError) -> bytes:
    """What is wrong, first thing in a plain text (A-76)."""
    request.setResponseCode(error.status)
    if isinstance(error, NotAllowed):
        request.setHeader("allow", ", ".join(error.allowed))
    if isinstance(error, Unavailable):
        request.setHeader("retry-after", str(error.retryAfter))
    # What the database says is for the log: it names hosts and paths.
    message = DatabaseUnavailable() if isinstance(error, DatabaseUnavailable) else error
    return text(request, f"{message}\n")


class _Leaf(File):
    """A file, and nothing below it."""

    isLeaf = True


def file(request: Any, path: Path, mediaType: str) -> File:
    """
    A file, with ranges, for Klein to render.

    @raise NotFound: if it is not there, or leads out of its directory.
    """
    if not path.is_file() or path.is_symlink():
        raise NotFound(f"The file {path.name} is not there any more.")
    request.setHeader("x-content-type-options", "nosniff")
    if (request.getHeader("range") or "").count(",") >= MOST_RANGES:
        request.requestHeaders.removeHeader(b"range")  # then the whole file is a right answer
    resource = _Leaf(str(path))
    resource.type, resource.encoding = mediaType, None
    return resource


def resourceURL(request: Any, publicURL: str | None) -> str:
    """
    The absolute URL of the resource that this request has come down to, as its client knows
    it, without a slash at its end.

    @param publicURL: what it is, where that is known.
    """
    if publicURL is not None:
        return publicURL.rstrip("/")
    host = (request.getHeader("host") or "").strip()
    if not _HOST.fullmatch(host):
        address = request.getHost()
        host = f"{address.host}:{address.port}" if hasattr(address, "port") else "localhost"
    scheme = "https" if request.isSecure() else "http"
    segments = getattr(request, "mountPath", request.prepath)
    path = "".join("/" + quote(segment, safe="") for segment in segments if segment)
    return f"{scheme}://{host}{path}"


@implementer(IPushProducer)
class Paced:
    """
    Writes a long answer no faster than its client reads.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._open: Deferred[None] = succeed(None)
        request.registerProducer(self, True)

    def write(self, data: bytes) -> Deferred[None]:
        """Write some; the Deferred fires when it is time for more."""
        self._request.write(data)
        waiter: Deferred[None] = Deferred()

        def go(_: None) -> None:
            waiter.callback(None)

        self._open.addCallback(go)
        return waiter

    def finish(self) -> None:
        """There is no more."""
        self._request.unregisterProducer()

    def abort(self) -> None:
        """There would be more: end the connection, so that the client knows."""
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
