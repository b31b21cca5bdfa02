"""
What a request says: arguments in nevow style, files, and what UWS itself takes of them.

Nothing here answers: what is wrong is raised, with a message for whoever asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import parse_qsl, unquote

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.web.http import parse_qs

from twuws.errors import BadRequest, TooLarge, UnsupportedMediaType
from twuws.jobstable import ListFilters
from twuws.phases import Phase
from twuws.submission import Upload
from twuws.times import LONGEST_DURATION, parseDuration, parseInstant
from twuws.uwschanging import UNSET, Unset
from twuws.web.multipart import (
    HELD,
    MAXIMUM_ALL_TEXT,
    MAXIMUM_PAIRS,
    MAXIMUM_TEXT,
    REFERENCE,
    ByName,
    Form,
    boundaryOf,
    checkedName,
    checkedText,
    removeFiles,
    shown,
    uploadPairs,
)
from twuws.workdir import WorkDirs

T = TypeVar("T")

#: Bodies up to this size, in bytes, are parsed in the reactor, larger ones in a thread.
#: Nothing goes to disk while so little is parsed.
SMALL_BODY = HELD
#: How long a RUNID can be, in characters (DALI, 4.3.6).
LONGEST_RUNID = 64

_FORM, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_LOOKS_LIKE_A_FORM = re.compile(rb"[^\s<>&=]+=[^\s<>&]*(?:&[^\s<>&=]+=[^\s<>&]*)*\s*")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_XML_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_WHOLE = re.compile(r"[+-]?\d{1,100}", re.ASCII)
_MEDIA_RANGE = re.compile(
    r"\s*(?P<type>\*|[\w!#$&^.+*-]+/[\w!#$&^.+*-]+)"
    r"(?P<parameters>(?:\s*;\s*[\w-]+\s*=\s*(?:\"(?:[^\"\\]|\\.)*\"|[^\s\",;]*))*)\s*(?:,|$)",
    re.ASCII,
)
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"")
_QUALITY = re.compile(r";\s*q\s*=\s*(?:(0?\.\d+|[01]\.?0*)\s*(?:;|$))?", re.IGNORECASE)

_log = Logger()


class Arguments(ByName[str]):
    """
    The text of a request: names, in any case, to lists of values.
    """


async def readArguments(
    request: Any,
    *,
    uploads: WorkDirs,
    fileNames: Collection[str] = (),
    maximumBody: int | None = None,
) -> None:
    """
    Set C{request.args} to L{Arguments}, and C{request.files} to L{Upload}s by their part.

    Arguments come from the query, then from the form that a POST has.  What the body says
    in the same words again, or under a name that differs in case, counts once.  The caller
    calls L{discard} when it is done with the request.

    @param request: a C{twisted.web} request, of a C{Site} that does not parse forms.
    @param uploads: where files go.
    @param fileNames: the names of parts that are files even if they do not look it.
    @param maximumBody: in bytes; C{None} for any size.
    @raise UnsupportedMediaType: for a body that is no form; for other methods than POST
        the body is left alone.
    @raise BadRequest: L{TooLarge} too; nothing is left on disk then.
    """
    if isinstance(request.args, Arguments):
        return
    request.uploads = []
    files: ByName[Upload] = ByName()
    rawQuery: bytes = request.uri.partition(b"?")[2]
    query, body = _pairs(rawQuery), list[tuple[str, str]]()
    size = _size(request.content)
    if maximumBody is not None and size > maximumBody:
        raise TooLarge(f"The body has {size} bytes; {maximumBody} is the most this service takes.")
    if request.method == b"POST" and size:
        if request.args != parse_qs(rawQuery, 1):
            _warnOfParsedForms()
        contentType = _text(request.getHeader(b"content-type"))
        kind = contentType.partition(";")[0].strip().lower()
        if kind == _MULTIPART:
            form = Form(request.content, boundaryOf(contentType), uploads)
            await form.read(query, fileNames, inThread=size > SMALL_BODY)
            body, files, request.uploads = form.texts, form.files, form.paths
        elif kind in (_FORM, ""):
            body = await _readForm(request.content, size, isDeclared=bool(kind))
        else:
            raise UnsupportedMediaType(
                f"A body of type {shown(kind)} cannot be read; send {_FORM} or {_MULTIPART}."
            )
    if len(query) + len(body) > MAXIMUM_PAIRS:
        raise TooLarge(f"A request can have {MAXIMUM_PAIRS} values.")
    request.args, request.files = _merged(query, body), files


def discard(request: Any) -> Deferred[None]:
    """
    Remove the temporary files of a request that nobody has moved.  Never fails.

    The work begins at once; who does not care for its end need not wait.
    """
    paths: list[Path] = getattr(request, "uploads", [])
    if not paths:
        return succeed(None)
    request.uploads = []
    return deferToThread(removeFiles, paths).addErrback(
        lambda failure: _log.failure("Uploads could not be removed", failure)
    )


@cache
def _warnOfParsedForms() -> None:
    _log.warn(
        "Twisted has parsed a form before twuws could: large uploads take much memory, and"
        " those of TOPCAT are refused.  Use Site(…, parsePOSTFormSubmission=False)."
    )


def _text(header: bytes | None) -> str:
    return (header or b"").decode("latin-1")


def _size(content: IO[bytes]) -> int:
    content.seek(0, 2)
    size = content.tell()
    content.seek(0)
    return size


async def _readForm(content: IO[bytes], size: int, isDeclared: bool) -> list[tuple[str, str]]:
    if size > MAXIMUM_ALL_TEXT:
        raise TooLarge(f"A form of {size} bytes: {MAXIMUM_ALL_TEXT} at most, more as {_MULTIPART}")

    def read() -> list[tuple[str, str]]:
        raw = content.read()
        if not isDeclared and (size > SMALL_BODY or not _LOOKS_LIKE_A_FORM.fullmatch(raw)):
            raise UnsupportedMediaType(
                f"The body has no Content-Type and is no form; send {_FORM} or {_MULTIPART}."
            )
        return _pairs(raw)

    return read() if size <= SMALL_BODY else await deferToThread(read)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    """Names and values of a query or a form.  Latin-1 brings the bytes through urllib."""
    text = raw.decode("latin-1").rstrip("\r\n")
    for piece in text.split("&", MAXIMUM_PAIRS):
        if len(piece) > 3 * MAXIMUM_TEXT:
            raise TooLarge(f"Parameter {shown(piece.partition('=')[0])}: its value is too long")
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, encoding="latin-1", max_num_fields=MAXIMUM_PAIRS
        )
    except ValueError:
        raise TooLarge(f"A request can have {MAXIMUM_PAIRS} values.") from None
    found = []
    for rawName, value in pairs:
        name = checkedName(rawName.encode("latin-1"))
        found.append((name, checkedText(value.encode("latin-1"), name)))
    return found


def _merged(*sources: list[tuple[str, str]]) -> Arguments:
    groups: dict[tuple[int, str], list[str]] = {}
    for number, source in enumerate(sources):
        for name, value in source:
            groups.setdefault((number, name), []).append(value)
    args = Arguments()
    for (_, name), values in groups.items():
        if args.get(name) != values:
            args.setdefault(name, []).extend(values)
    return args


def referenced(
    args: ByName[str], files: ByName[Upload], fileNames: Collection[str] = ()
) -> ByName[Upload]:
    """
    Say which parameters the files of a request are the values of.

    C{X=param:part} gives parameter X that file; so does C{UPLOAD=X,param:part} for a
    declared X, and any other label makes a value of C{UPLOAD} that has it.  A file that
    nothing refers to belongs to the declared parameter that its part is named like.

    @param args: references are taken out of it.
    @param fileNames: the declared File parameters; the result has their spelling.
    @return: where a client refers to one part twice, two uploads share a path.
    @raise BadRequest: for a reference to nothing, and for a file that is for nothing.
    """
    declared = {name.lower(): name for name in fileNames}
    values: ByName[Upload] = ByName()
    used: set[str] = set()

    def give(name: str, uri: str, label: str | None = None) -> None:
        found = REFERENCE.fullmatch(uri)
        part = unquote(found[1]) if found else ""
        several = files.get(part, [])
        if len(several) != 1:
            raise BadRequest(
                f"{label or name}: it refers to a part {shown(part)} with a file, and"
                f" {len(several)} parts of this request are called so; it takes one"
            )
        used.add(part.lower())
        values.setdefault(declared.get(name.lower(), name), []).append(
            replace(several[0], label=label)
        )

    labels: set[str] = set()
    for value in args.pop("UPLOAD", []):
        for label, uri in uploadPairs(value):
            if not _LABEL.fullmatch(label) or not REFERENCE.fullmatch(uri):
                raise BadRequest(
                    f"UPLOAD: {shown(value)} is not label,param:part, where the label has"
                    " letters, digits and _, and the part is in the same request; URLs to"
                    " load from are not supported yet"
                )
            if label.lower() in labels:
                raise BadRequest(f"UPLOAD: the label {label} is there more than once")
            labels.add(label.lower())
            isDeclared = label.lower() in declared
            give(label if isDeclared else "UPLOAD", uri, None if isDeclared else label)
    for name in list(args):
        references = [value for value in args[name] if REFERENCE.fullmatch(value.strip())]
        for value in references:
            give(name, value.strip())
        args[name] = [value for value in args[name] if value not in references]
        if references and not args[name]:
            del args[name]
    for name, several in files.items():
        if name.lower() in declared:
            if name.lower() not in used:
                values.setdefault(declared[name.lower()], []).extend(several)
        elif name.lower() not in used:
            known = ", ".join(declared.values()) or "none"
            raise BadRequest(f"Part {name}: nothing refers to it; parameters for files: {known}")
    return values


@dataclass(frozen=True, kw_only=True)
class Controls:
    """
    What a request tells UWS itself; C{None} for what it does not mention.

    @ivar destruction: C{None} asks for what the service gives by default (A-44);
        L{UNSET} says nothing.
    """

    phase: str | None = None
    action: str | None = None
    runId: str | None = None
    executionDuration: int | None = None
    destruction: datetime | Unset | None = UNSET


def takeControls(args: ByName[str]) -> Controls:
    """
    Take the control parameters (UWS 1.1, 2.1.11) out of the arguments.

    PHASE and ACTION come in upper case, whatever they are.

    @raise BadRequest: for a value that is none, and for several different ones.
    """
    found: dict[str, list[Any]] = {
        "phase": _taken(args, "PHASE", str.upper),
        "action": _taken(args, "ACTION", str.upper),
        "runId": _taken(args, "RUNID", _runId),
        "executionDuration": _taken(args, "EXECUTIONDURATION", parseDuration),
        "destruction": _taken(args, "DESTRUCTION", lambda v: parseInstant(v) if v else None),
    }
    return Controls(**{name: several[0] for name, several in found.items() if several})


def _taken(args: ByName[str], name: str, parse: Callable[[str], T]) -> list[T]:
    """The one value of a control parameter, or none."""
    values = [_parsed(name, value, parse) for value in args.pop(name, [])]
    if any(value != values[0] for value in values):
        raise BadRequest(f"{name}: it is given {len(values)} times, with different values")
    return values[:1]


def _parsed(name: str, value: str, parse: Callable[[str], T]) -> T:
    if len(value) > 200:
        raise BadRequest(f"{name}: {shown(value)} is too long")
    try:
        return parse(value if name == "RUNID" else value.strip())
    except ValueError as e:
        raise BadRequest(f"{name}: {e}") from None


def _runId(text: str) -> str:
    if len(text) > LONGEST_RUNID or not _XML_TEXT.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is not {LONGEST_RUNID} characters at most that XML can have"
        )
    return text


@dataclass(frozen=True, kw_only=True)
class Wait:
    """
    A request to block (UWS 1.1, 2.2.1.2).

    @ivar seconds: -1 for as long as the service lets anybody wait.
    @ivar phases: only while the job is in one of these; C{None} for any.
    """

    seconds: int
    phases: frozenset[Phase] | None = None


def readWait(args: ByName[str]) -> Wait | None:
    """
    What WAIT, and PHASE beside it, say (A-92); C{None} if there is no WAIT.
    """
    if "WAIT" not in args:
        return None
    several = [_parsed("WAIT", value, _whole) for value in args["WAIT"]]
    if min(several) < -1:
        raise BadRequest("WAIT: it is a number of seconds, or -1 for as long as possible")
    phases = _phases(args)
    limited = [seconds for seconds in several if seconds >= 0]
    return Wait(seconds=min(limited, default=-1), phases=frozenset(phases) if phases else None)


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a whole number")
    return min(int(text), LONGEST_DURATION)


def _phases(args: ByName[str]) -> tuple[Phase, ...]:
    """The phases that are asked for, each once, in their order."""
    values = [value.strip().upper() for value in args.get("PHASE", [])]
    for value in values:
        if value not in Phase.__members__:
            raise BadRequest(f"PHASE: {shown(value)} is not one of {', '.join(Phase)}")
    return tuple(Phase(value) for value in dict.fromkeys(values))


def readListFilters(args: ByName[str]) -> ListFilters:
    """
    What PHASE, AFTER and LAST say (A-53 to A-57); the latest AFTER, the smallest LAST.
    """
    last = [_parsed("LAST", value, _whole) for value in args.get("LAST", [])]
    if min(last, default=1) < 1:
        raise BadRequest("LAST: it is a number of jobs, 1 or more")
    after = [_parsed("AFTER", value, parseInstant) for value in args.get("AFTER", [])]
    return ListFilters(
        phases=_phases(args), after=max(after, default=None), last=min(last, default=None)
    )


def wantsHTML(accept: str | None) -> bool:
    """
    Whether an Accept is a browser's.  Java, too, names C{text/html}, so that is not enough.
    """
    ranges = _ranges(accept)
    return all(ranges.get(name, 0.0) > 0 for name in ("text/html", "application/xhtml+xml"))


def acceptable(accept: str | None, offered: list[str]) -> str | None:
    """
    The media type to answer with (RFC 9110, 12.5.1), the first of equals; C{None} if none fits.

    Parameters other than C{q} are passed over.  What is no Accept counts as C{*/*}.

    >>> acceptable("text/*;q=0.5, application/json", ["text/xml", "application/json"])
    'application/json'
    """
    ranges = _ranges(accept)

    def quality(mediaType: str) -> float:
        exact = mediaType.partition(";")[0].strip().lower()
        general = (exact, exact.partition("/")[0] + "/*", "*/*")
        return next((ranges[name] for name in general if name in ranges), 0.0)

    best = max(offered, key=quality, default=None)
    return best if best is not None and quality(best) > 0 else None


def _ranges(accept: str | None) -> dict[str, float]:
    """Media ranges to their quality."""
    found: dict[str, float] = {}
    blanksCollapsed = " ".join((accept or "").split())  # so that matching takes linear time
    rest = ",".join(one for one in blanksCollapsed.split(",") if one.strip())
    position = 0
    while position < len(rest):
        one = _MEDIA_RANGE.match(rest, position)
        quality = _QUALITY.search(_QUOTED.sub("", one["parameters"])) if one else None
        if one is None or (quality and quality[1] is None):
            return {"*/*": 1.0}
        name = "*/*" if one["type"] == "*" else one["type"].lower()
        found[name] = max(float(quality[1]) if quality else 1.0, found.get(name, 0.0))
        position = one.end()
    return found or {"*/*": 1.0}
