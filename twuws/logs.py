"""
What may be in a log: no line that a caller has made up, nothing that a terminal obeys, and no
secret of a URL.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.web.http import combinedLogFormatter
from zope.interface import implementer

#: What ends a line, moves a cursor, turns the direction of writing, or cannot be written at all.
_UNFIT = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
)
_UNFIT_IN_LINES = re.compile(f"[{_UNFIT}]")
_UNFIT_IN_A_LINE = re.compile(f"[\n{_UNFIT}]")

#: A job that is shared by its URL: whoever knows the last part may see it.
_SHARED = re.compile(rb"(/shared/[^/.]*\.[^/.]*\.)[^/?]+")

#: Who asks, in the URI of a request for a proxy.
_USER = re.compile(rb"//[^/?]*@")

#: How much of a URI is told, bytes.
_MOST_OF_URI = 1000


def oneLine(text: str) -> str:
    """
    Text as a part of one line.

    >>> oneLine("a\\n2026-01-01 b\\x1b[2J")
    'a\\\\n2026-01-01 b\\\\x1b[2J'
    """
    return _UNFIT_IN_A_LINE.sub(_escaped, text)


def lines(text: str) -> str:
    """The same for a text that has several: Twisted begins all but the first with a tab."""
    return _UNFIT_IN_LINES.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class _Failure:
    """A failure whose traceback is fit for a log."""

    def __init__(self, failure: Any, traceback: str) -> None:
        self._failure = failure
        self._traceback = traceback

    def getTraceback(self, *args: Any, **kwargs: Any) -> str:
        return self._traceback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._failure, name)


@implementer(ILogObserver)
def clean(event: LogEvent) -> None:
    """
    Make an event fit for a log, before others see it.

    Texts that it names become parts of one line; of a traceback, and of what says why nothing
    could be started, the lines stay.
    """
    hasLines = event.get("log_level") is LogLevel.critical
    for name, value in event.items():
        if name not in ("log_format", "log_failure") and isinstance(value, str | BaseException):
            text = _said(value)
            fit = lines(text) if hasLines or name == "log_text" else oneLine(text)
            if fit != text:
                event[name] = fit
    failure = event.get("log_failure")
    if failure is not None:
        traceback = failure.getTraceback()
        if (fit := lines(traceback)) != traceback:
            event["log_failure"] = _Failure(failure, fit)


def _said(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return type(value).__name__


def keepClean() -> None:
    """Have L{clean} look at all events of this process, before what begins to log later; once."""
    globalLogPublisher.addObserver(clean)


# Requests


def toldURI(uri: bytes) -> bytes:
    """
    What is told of a URI: where it leads to, without what was asked there, and without what
    gives access.

    >>> toldURI(b"/a/async?x=1"), toldURI(b"/a/shared/4f.99.c2VjcmV0/phase")
    (b'/a/async?...', b'/a/shared/4f.99..../phase')
    """
    path, mark, _ = uri.partition(b"?")
    if b"@" in path:
        path = _USER.sub(b"//", path, count=1)
    if b"/shared/" in path:
        path = _SHARED.sub(rb"\1...", path)
    return path[:_MOST_OF_URI] + mark + (b"..." if mark else b"")


class _Told:
    """A request as the log is told of it."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self.uri = toldURI(request.uri)

    def getHeader(self, name: bytes) -> bytes | None:
        """Not from where a client comes: that may be a URL that gives access."""
        found: bytes | None = None if name == b"referer" else self._request.getHeader(name)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def accessLine(timestamp: str, request: Any) -> str:
    """The line for a request that was answered, in the "combined" format."""
    return str(combinedLogFormatter(timestamp, _Told(request)))
