"""
Answering a request: texts, documents, redirects, files, and what went wrong.
"""

from __future__ import annotations

import errno
import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from twisted.logger import Logger
from twisted.web.http import CACHED, NO_CONTENT, SEE_OTHER
from twisted.web.static import File

from twuws.documents import MEDIA_TYPE, VOTABLE, errorVOTable
from twuws.endings import whyOf
from twuws.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    Gone,
    NotAcceptable,
    NotAllowed,
    TooMany,
    Unavailable,
    UWSError,
)
from twuws.foreign import NotOurs, openRegular
from twuws.jobs import JobError
from twuws.web.accept import acceptable
from twuws.web.headers import textOf, vary
from twuws.web.settings import WebSettings

log = Logger()

#: How a link, or a socket, says that it is no file.
_REPLACED = (errno.ELOOP, errno.ENXIO)

#: In how many ranges of a file a client can be interested.
MOST_RANGES = 8

#: How much of a file is read, and written, at a time, bytes.  Twisted's 64 kB are four times as
#: many turns of the reactor, each with what it takes to see who reads how fast: a tenth more CPU.
PIECE = 256 * 2**10

TEXT = "text/plain; charset=utf-8"

#: What browsers show, and in which there is nothing that they would do.
_SHOWN = re.compile(
    r"text/(plain|csv|tab-separated-values)|image/(png|jpeg|gif|webp|tiff|fits)|audio/\S+|video/\S+"
    r"|application/(json|pdf)"
)
#: What a browser may do with a file that it shows all the same: nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"

_RANGE = re.compile(r"\s*(?=\d|-\d)(\d{0,18})-(\d{0,18})\s*", re.ASCII)

_XML = {"text/xml": MEDIA_TYPE, "application/xml": "application/xml; charset=utf-8"}


def body(request: Any, content: bytes, mediaType: str) -> bytes:
    """Say what the content is and how long, and return it."""
    request.setHeader("content-type", mediaType)
    request.setHeader("content-length", str(len(content)))
    return content


def text(request: Any, content: str, mediaType: str = TEXT) -> bytes:
    """A text, as it is: no line end is added (A-77)."""
    return body(request, content.encode("utf-8", "replace"), mediaType)


def xmlType(request: Any) -> str:
    """
    The media type that a document goes out with; C{text/xml} unless the client takes the
    other alone (U-016, U-017).

    @raise NotAcceptable: if the client takes no XML.
    """
    vary(request, "Accept")
    chosen = acceptable(textOf(request, "accept"), tuple(_XML))
    if chosen is None:
        raise NotAcceptable(f"This is to be had as {' or '.join(_XML)}; Accept says otherwise.")
    return _XML[chosen]


def document(request: Any, content: bytes) -> bytes:
    """An XML document; the same URL may have other forms for those who ask for them."""
    mediaType = xmlType(request)
    digest = blake2b(mediaType.encode() + content, digest_size=12)
    if _isKnown(request, digest.hexdigest()):
        return b""
    return body(request, content, mediaType)


def _isKnown(request: Any, tag: str) -> bool:
    """Name what is to be sent; whether the client has it already (RFC 9110, 13.1.2)."""
    tag = f'"{tag}"'
    headers = request.requestHeaders
    known = (textOf(request, "if-none-match") or "").replace("W/", "").replace(",", " ")
    if known:
        headers.setRawHeaders("if-none-match", [known])
        headers.removeHeader("if-modified-since")  # which would count less
    if textOf(request, "if-range") not in (None, tag):
        headers.removeHeader("range")
    return request.setETag(tag.encode()) is CACHED


def seeOther(request: Any, url: str) -> bytes:
    """303, and nothing else (A-82), to an absolute URL."""
    request.setResponseCode(SEE_OTHER)
    request.setHeader("location", url)
    return text(request, "")


def failure(request: Any, error: UWSError) -> bytes:
    """What is wrong, first thing in a plain text or, for who asks, a VOTable (A-76)."""
    request.etag = request.lastModified = None  # of what would have been the answer
    for name in ("content-range", "content-encoding"):
        request.responseHeaders.removeHeader(name)
    if isinstance(error, NotAllowed):
        request.setHeader("allow", ", ".join(error.allowed))
        if request.method == b"OPTIONS":
            request.setResponseCode(NO_CONTENT)
            return b""
    request.setResponseCode(error.status)
    if isinstance(error, Unavailable | TooMany):
        request.setHeader("retry-after", str(error.retryAfter))
    # What the database says is for the log: it names hosts and paths.
    if isinstance(error, DatabaseUnavailable):
        error = DatabaseBusy() if isinstance(error, DatabaseBusy) else DatabaseUnavailable()
    return explanation(request, str(error))


def explanation(request: Any, message: str, detail: str | None = None) -> bytes:
    """A message, first thing in a plain text or, for who asks, a VOTable (DALI 5.2)."""
    vary(request, "Accept")
    whole = message + (f"\n\n{detail}" if detail else "")
    if acceptable(textOf(request, "accept"), ("text/plain", VOTABLE)) == VOTABLE:
        return body(request, errorVOTable(whole), VOTABLE)
    return text(request, f"{whole}\n")


def detailOf(error: JobError, settings: WebSettings) -> str | None:
    """What clients are told of a job's error beyond its message; C{None} if nothing."""
    parts = [error.detail, error.traceback if settings.tracebacks else None]
    return "\n\n".join(part for part in parts if part) or None


def _ranges(header: str, size: int) -> str | None:
    """
    A C{Range} that names its bytes from the beginning, which C{File} needs; C{None} to pass it
    over (RFC 9110, 14.2).
    """
    unit, _, specs = header.partition("=")
    found = [_RANGE.fullmatch(spec) for spec in specs.split(",")]
    if unit.strip().lower() != "bytes" or None in found or len(found) > MOST_RANGES:
        return None
    ranges = []
    for first, last in (one.groups() for one in found if one):
        if not first:  # so many at the end; as good as none where there are none
            start = max(size - int(last or 0), 0)
            ranges.append(f"{start}-{max(size - 1, start)}")
        elif last and int(last) < int(first):
            return None
        else:
            ranges.append(f"{first}-{last}")
    return "bytes=" + ",".join(ranges)


def _confine(request: Any, name: str, mediaType: str) -> None:
    """
    See that a file does nothing in a browser: whoever has made it, or sent it, may mean harm to
    who looks at it, and it comes from the same origin as all of the service.
    """
    request.setHeader("content-security-policy", _POLICY)
    if not _SHOWN.fullmatch(mediaType.partition(";")[0].strip().lower()):
        encoded = quote(name, safe="")
        request.setHeader("content-disposition", f"attachment; filename*=UTF-8''{encoded}")


class _Leaf(File):
    """
    A file that has been opened, and nothing below it: what its name leads to by now may be
    something else.
    """

    isLeaf = True

    def __init__(self, path: Path, opened: IO[bytes], mediaType: str) -> None:
        super().__init__(str(path))
        self.type, self.encoding = mediaType, None
        self._opened = opened
        self.restat()

    def restat(self, reraise: bool = True) -> None:
        self._statinfo = os.fstat(self._opened.fileno())

    def openForReading(self) -> IO[bytes]:
        return self._opened

    def makeProducer(self, request: Any, fileForReading: IO[bytes]) -> Any:
        producer = super().makeProducer(request, fileForReading)
        producer.bufferSize = PIECE
        return producer


def file(
    request: Any, path: Path, mediaType: str, what: str = "", size: int | None = None
) -> File | bytes:
    """
    A file of a job, with ranges, for Klein to render.  Work, and people, can have made
    anything of it.

    @param what: what messages call it; the file by its name if not given.
    @param size: how large it was when it was whole, in bytes, if it cannot have got smaller.
    @raise Gone: if it is not there any more.
    @raise UWSError: if it cannot be read, or is not what it was.
    """
    what = what or f"The file {path.name}"
    opened = _opened(path, what)
    found = os.fstat(opened.fileno())
    if size is not None and found.st_size < size:
        log.error("{path} had {size} bytes, and has {left}", path=path, size=size,
                  left=found.st_size)  # fmt: skip
        raise UWSError(f"{what} is not whole any more: {found.st_size} of {size} bytes are left.")
    if _isKnown(request, f"{found.st_mtime_ns:x}-{found.st_size:x}"):
        return b""
    wanted = _ranges(textOf(request, "range") or "", found.st_size)
    if wanted is None:
        request.requestHeaders.removeHeader(b"range")  # then the whole file is a right answer
    else:
        request.requestHeaders.setRawHeaders(b"range", [wanted])
    _confine(request, path.name, mediaType)
    return _Leaf(path, opened, mediaType)


def _opened(path: Path, what: str) -> IO[bytes]:
    """A file, opened; see L{file}."""
    try:
        return openRegular(path)
    except OSError as e:
        isReplaced = isinstance(e, NotOurs) or e.errno in _REPLACED or os.path.islink(path.parent)
        isGone = isinstance(e, FileNotFoundError | NotADirectoryError)
        if isReplaced:
            log.error("{path} is no file of the job's any more: {e}", path=path, e=e)
            raise UWSError(f"{what} has been replaced by something else, and so is lost.") from e
        if isGone:
            raise Gone(f"{what} is not there any more: somebody has removed it.") from None
        log.error("{path} cannot be read: {e}", path=path, e=e)
        raise UWSError(f"{what} is there, but the service cannot read it: {whyOf(e)}.") from e
