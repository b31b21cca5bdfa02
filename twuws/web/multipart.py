"""
Multipart forms as the clients of UWS really send them, and the files that are in them.

C{multipart} (PyPI) does the parsing.  Here is what it leaves open: which parts are files,
where their content goes, and what they are the values of (UWS 1.1, 2.2.3.1.1; DALI's
C{UPLOAD}).  Twisted's own parser is of no use for TOPCAT, and keeps all in memory.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from twuws.errors import BadRequest, TooLarge, UWSError
from twuws.submission import Upload
from twuws.values import mediaTypeOf
from twuws.web.bodyfiles import BodyFiles
from twuws.web.limits import USUAL, RequestLimits, tooMany, tooMuchText
from twuws.workdir import WorkDirs

T = TypeVar("T")

#: How long a header line of a part may be, in bytes: long file names are in there.
MAXIMUM_HEADER = 16 * 2**10
#: How much of one part, and of all parts, is held in memory before it goes to disk.
HELD = 64 * 2**10
HELD_TOGETHER = 2**20
#: A form is taken in the reactor as it comes for as long as it has so few parts.  What is held of
#: these leaves room for one more piece, so that small parts make no files there.
FEW_PARTS = 10

MULTIPART = "multipart/form-data"

_BOUNDARY = re.compile(r"[;\s]boundary\s*=\s*(?:\"([^\"]+)\"|([^;\s\"]+))", re.IGNORECASE)
_EXTENDED = re.compile(r";\s*(name|filename)\*\s*=\s*([\w-]+)'[\w-]*'([^;\s]+)", re.I | re.ASCII)
#: How a pair of a label and a URI begins.
_PAIR = re.compile(r"[^,]*,\s*[A-Za-z][A-Za-z0-9+.-]*:")
REFERENCE = re.compile(r"param:(\S+)", re.IGNORECASE)
#: Codecs that decode in linear time; ASCII is read as what it is a part of.
_CODECS = {
    "": "utf-8", "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8",
    "iso-8859-1": "latin-1", "latin1": "latin-1", "latin-1": "latin-1",
    "iso-8859-15": "iso-8859-15", "windows-1252": "cp1252",
}  # fmt: skip


class ByName(dict[str, list[T]]):
    """
    Lists of values by names that are equal whatever their case (DALI, 4.1).

    Iterating gives the spelling that was seen first.
    """

    def __init__(self, items: Any = ()) -> None:
        self._spelling: dict[str, str] = {}
        if items:
            self.update(items)

    def _spelt(self, name: str) -> str:
        return self._spelling.get(name.lower(), name)

    def __getitem__(self, name: str) -> list[T]:
        return dict.__getitem__(self, self._spelt(name))

    def __setitem__(self, name: str, values: list[T]) -> None:
        dict.__setitem__(self, self._spelling.setdefault(name.lower(), name), values)

    def __delitem__(self, name: str) -> None:
        dict.__delitem__(self, self._spelling.pop(name.lower(), name))

    if not TYPE_CHECKING:  # dict has its own, which pass by what is above
        __contains__, get = MutableMapping.__contains__, MutableMapping.get
        setdefault, update = MutableMapping.setdefault, MutableMapping.update
        popitem, clear = MutableMapping.popitem, MutableMapping.clear

        def pop(self, name, *default):
            return dict.pop(self, self._spelling.pop(name.lower(), name), *default)


def shown(text: str) -> str:
    """The beginning of what a client sent, for an error message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def checkedName(raw: bytes, limits: RequestLimits = USUAL) -> str:
    """The name of a parameter; L{BadRequest} if it cannot be one."""
    name = raw.decode("utf-8", "replace")
    if not name:
        raise BadRequest("A value has no name; write name=value.")
    if len(name) > limits.nameLength:
        most = f"{limits.nameLength} characters (limits.name-length)"
        raise BadRequest(f"Parameter {shown(name)}: names have at most {most}")
    if "\ufffd" in name or any(unicodedata.category(c) == "Cc" for c in name):
        raise BadRequest(f"Parameter {shown(name)}: names are UTF-8 and have no control characters")
    return name


def checkedText(
    raw: bytes, name: str, limits: RequestLimits = USUAL, charset: str = "utf-8"
) -> str:
    """The text of a value; L{BadRequest} or L{TooLarge} that name the parameter otherwise."""
    if len(raw) > limits.valueSize:
        raise tooMuchText(name, len(raw), limits)
    codec = _CODECS.get(charset.strip().lower())
    if codec is None:
        raise BadRequest(f"Parameter {name}: charset {shown(charset)} is not known here; use UTF-8")
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        raise BadRequest(f"Parameter {name}: its value is not in {codec.upper()}") from None


def boundaryOf(contentType: str) -> bytes:
    """
    The boundary that a Content-Type gives, whatever it is made of; L{BadRequest} if none.

    >>> boundaryOf("multipart/form-data; boundary====17===")
    b'===17==='
    """
    found = _BOUNDARY.search(contentType)
    boundary = (found[1] or found[2]).rstrip() if found else ""  # RFC 2046, 5.1.1; gavo
    if not 0 < len(boundary) <= 200:
        raise BadRequest(
            "The Content-Type multipart/form-data needs a boundary of at most 200 characters."
        )
    return boundary.encode("latin-1", "replace")


@dataclass(kw_only=True)
class _Part:
    """One part of a form, its content in memory or, if C{path} is set, on disk."""

    name: str
    fileName: str | None
    mediaType: str
    charset: str
    held: bytearray = field(default_factory=bytearray)
    path: Path | None = None
    size: int = 0

    @classmethod
    def begin(cls, segment: Any, limits: RequestLimits) -> _Part:
        encoding = (segment.header("Content-Transfer-Encoding") or "binary").strip().lower()
        disposition = segment.header("Content-Disposition") or ""
        extended = {
            found[1].lower(): unquote(found[3], _CODECS.get(found[2].lower(), "utf-8"))
            for found in _EXTENDED.finditer(disposition)
        }
        raw = segment.name.encode("latin-1")
        name = checkedName(extended["name"].encode() if "name" in extended else raw, limits)
        if encoding not in ("binary", "8bit", "7bit"):
            raise BadRequest(f"Part {name}: send it as it is, not in {shown(encoding)}")
        fileName = segment.filename
        if fileName is not None:
            fileName = fileName.encode("latin-1").decode("utf-8", "replace")
        return cls(
            name=name,
            fileName=extended.get("filename", fileName),
            mediaType=mediaTypeOf(segment.header("Content-Type") or ""),
            charset=segment.charset or "",
        )

    def content(self) -> bytes:
        return bytes(self.held) if self.path is None else self.path.read_bytes()

    def references(self) -> list[str]:
        """The parts that this part, if it is text, refers to."""
        if self.fileName is not None or self.size > HELD:
            return []
        return referencesIn(self.name, self.content().decode("utf-8", "replace"))

    def upload(self, path: Path) -> Upload:
        base = re.split(r"[/\\]", self.fileName or "")[-1]
        hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
        clean = "".join(c for c in base if unicodedata.category(c) not in hidden).strip()[:255]
        return Upload(
            path=path,
            part=self.name,
            fileName=clean if clean.strip(".") else None,
            mediaType=self.mediaType,
            size=self.size,
        )


class Form(BodyFiles):
    """
    The multipart form in the body of one request.

    @ivar fed: how many bytes of it have been taken before it is read.
    @ivar texts: names and values of the parts that are text, in their order.
    @ivar files: the parts that are files.
    """

    def __init__(
        self,
        content: IO[bytes],
        boundary: bytes,
        uploads: WorkDirs,
        limits: RequestLimits = USUAL,
    ) -> None:
        super().__init__(content, uploads)
        self._limits = limits
        self.texts: list[tuple[str, str]] = []
        self.files: ByName[Upload] = ByName()
        self.fed = 0
        self._error: UWSError | None = None
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=MAXIMUM_HEADER,
            max_segment_count=limits.parameters,
            header_charset="latin1",
        )
        self._parts: list[_Part] = []
        self._fileParts: list[_Part] = []
        self._heldTogether = 0

    async def read(
        self, query: Collection[tuple[str, str]], fileNames: Collection[str], inThread: bool
    ) -> None:
        """
        Read the form; if that fails, or nobody waits any more, no file is left.

        @param query: names and values of the query, which can refer to parts, too.
        @param fileNames: parts that are files even if they do not look it.
        @param inThread: for a form that is too large to be parsed in the reactor.  A small
            one goes to a thread only if it has files.
        """
        decide = partial(self._decide, query, fileNames)
        steps: list[Callable[[], None]] = [self._parse, decide, self._store]
        if not inThread:
            self._parse()
            decide()
            steps = [self._store] if self._fileParts else []
        if steps:
            await self._inThread(steps)

    def feed(self, data: bytes) -> bool:
        """
        Take what has come of the body, before the rest is there, if that is little work: a large
        file is written once then.

        @return: whether it was taken.  If not, this and all that follows is to be in the content.
        @raise OSError: if it cannot be written.
        """
        if len(self._parts) > FEW_PARTS:
            return False
        self.fed += len(data)
        if self._error is None and not self._parser.closed:
            try:
                self._parsePiece(data)
            except UWSError as e:  # for who reads it; what follows is nothing to anybody
                self._error = e
        return True

    def _parse(self) -> None:
        if self._error is not None:
            raise self._error
        while not self._parser.closed:
            self._parsePiece(self._chunk())

    def _parsePiece(self, data: bytes) -> None:
        """Take some more of the form; its end, if there is nothing."""
        try:
            for event in self._parser.parse(data):
                self._happened(event)
        except ParserLimitReached as e:
            most = f"{self._limits.parameters} parts (limits.parameters)"
            raise TooLarge(
                f"The multipart form goes beyond what is taken, which is {most}, and headers of"
                f" {MAXIMUM_HEADER} bytes in each: {e}"
            ) from None
        except MultipartError as e:
            raise BadRequest(f"The multipart form is malformed: {e}") from None

    def _happened(self, event: Any) -> None:
        if isinstance(event, MultipartSegment):
            self._parts.append(_Part.begin(event, self._limits))
        elif event is not None:
            self._write(self._parts[-1], event)
        elif self._out is not None:
            self._out.close()
            self._out = None

    def _write(self, part: _Part, data: bytes) -> None:
        part.size += len(data)
        full = part.size > HELD or self._heldTogether + len(data) > HELD_TOGETHER
        if full and self._out is None:
            self._out, part.path = self._newFile()
            self._out.write(part.held)
            self._heldTogether -= len(part.held)
            part.held.clear()
        if self._out is not None:
            self._out.write(data)
        else:
            part.held += data
            self._heldTogether += len(data)

    def _decide(self, query: Collection[tuple[str, str]], fileNames: Collection[str]) -> None:
        """Tell the files from the text: a reference may follow what it refers to."""
        parts = [part for part in self._parts if part.size or part.fileName != ""]
        if len(parts) + len(query) > self._limits.parameters:
            raise tooMany(self._limits)
        named = {name.lower() for name in fileNames}
        for name, value in query:
            named.update(referencesIn(name, value))
        refers = [part.references() for part in parts]
        named.update(name for names in refers for name in names)
        texts: list[_Part] = []
        for part, names in zip(parts, refers, strict=True):
            isFile = part.fileName is not None or (not names and part.name.lower() in named)
            (self._fileParts if isFile else texts).append(part)
        most = self._limits.textSize
        if sum(part.size for part in texts) > most:
            raise TooLarge(f"The text in a form can have {most} bytes together (limits.text-size).")
        for part in texts:
            text = checkedText(part.content(), part.name, self._limits, part.charset)
            self.texts.append((part.name, text))
            if part.path is not None:
                part.path.unlink()

    def _store(self) -> None:
        for part in self._fileParts:
            if part.path is None:
                out, part.path = self._newFile()
                with out:
                    out.write(part.held)
            self.files.setdefault(part.name, []).append(part.upload(part.path))


def referencesIn(name: str, value: str) -> list[str]:
    """The parts that a value refers to, in lower case."""
    if "param:" not in value.lower():
        return []
    uris = [uri for _, uri in uploadPairs(value)] if name.lower() == "upload" else [value]
    found = [REFERENCE.fullmatch(uri.strip()) for uri in uris]
    return [unquote(one[1]).lower() for one in found if one]


def uploadPairs(value: str) -> Iterator[tuple[str, str]]:
    """
    Labels and URIs, of which older clients send several in one value (TAP 1.0, 2.5.2).

    A semicolon that no pair follows is part of a URI.  This takes linear time.
    """
    pairs: list[list[str]] = []
    for piece in value.split(";"):
        if not pairs or not piece.strip() or _PAIR.match(piece.lstrip()):
            pairs.append([piece])
        else:
            pairs[-1].append(piece)
    for pieces in pairs:
        if pair := ";".join(pieces).strip():
            label, _, uri = pair.partition(",")
            yield label.strip(), uri.strip()
