"""
Headers that every answer has, and those by which a script on another site may see it (CORS).
"""

from __future__ import annotations

from typing import Any

from twisted.web.http import NO_CONTENT, stringToDatetime
from twisted.web.server import version

import twuws
from twuws.web.settings import WebSettings

_SERVER = f"twuws/{twuws.__version__} {version.decode('ascii')}".encode()
_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
#: What scripts may read beside what the Fetch standard always lets them.
_EXPOSED = "Location, ETag, Allow, Retry-After, Content-Length, Content-Range, Accept-Ranges"
#: For how long a browser may remember what it was allowed, s.
_REMEMBERED = "86400"


def begin(request: Any, settings: WebSettings) -> None:
    """Set what every answer has; who answers may set it otherwise."""
    request.setHeader(b"server", _SERVER)
    request.setHeader(b"cache-control", b"private, no-cache")  # ask again each time, by ETag
    request.setHeader(b"x-content-type-options", b"nosniff")
    _dropNoDate(request)
    if not settings.origins:
        return
    vary(request, "Origin")
    origin = textOf(request, "origin")
    if "*" in settings.origins:
        request.setHeader("access-control-allow-origin", "*")
    elif origin in settings.origins:
        request.setHeader("access-control-allow-origin", origin)
    else:
        return
    request.setHeader("access-control-expose-headers", _EXPOSED)


def _dropNoDate(request: Any) -> None:
    """A date that is none does not count (RFC 9110, 13.1.3); Twisted stumbles over some."""
    since: bytes | None = request.getHeader(b"if-modified-since")
    if since is not None:
        try:
            stringToDatetime(since.partition(b";")[0])
        except (ValueError, IndexError, AssertionError):
            request.requestHeaders.removeHeader(b"if-modified-since")


def isPreflight(request: Any) -> bool:
    """Whether a browser asks if a script may do what it is about to."""
    return (
        request.method == b"OPTIONS"
        and textOf(request, "access-control-request-method") is not None
        and request.responseHeaders.hasHeader("access-control-allow-origin")
    )


def answerPreflight(request: Any) -> bytes:
    """It may: L{begin} has looked where it comes from."""
    request.setHeader("access-control-allow-methods", _METHODS)
    wanted = textOf(request, "access-control-request-headers")
    if wanted is not None:
        request.setHeader("access-control-allow-headers", wanted)
    request.setHeader("access-control-max-age", _REMEMBERED)
    request.setResponseCode(NO_CONTENT)
    return b""


def textOf(request: Any, name: str) -> str | None:
    """A header of a request, whatever bytes are in it; C{None} if it is not there."""
    value: bytes | None = request.getHeader(name.encode())
    return None if value is None else value.decode("latin-1")


def allOf(request: Any, name: str) -> list[str]:
    """All that a request has of a header, whatever bytes are in it."""
    values = request.requestHeaders.getRawHeaders(name.encode(), ())
    return [value.decode("latin-1") for value in values]


def vary(request: Any, header: str) -> None:
    """Note that the answer depends on a header of the request."""
    if header not in (request.responseHeaders.getRawHeaders("vary") or ()):
        request.responseHeaders.addRawHeader("vary", header)
