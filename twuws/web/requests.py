"""
What a request says: arguments in nevow style, and files.

Nothing here answers: what is wrong is raised, with a message for whoever asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, unquote

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.web.http import parse_qs

from twuws.errors import BadRequest, TooLarge, UnsupportedMediaType
from twuws.submission import Upload
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

#: Bodies up to this size, in bytes, are parsed in the reactor, larger ones in a thread.
#: Nothing goes to disk while so little is parsed.
SMALL_BODY = HELD

_FORM, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_LOOKS_LIKE_A_FORM = re.compile(rb"[^\s<>&=]+=[^\s<>&]*(?:&[^\s<>&=]+=[^\s<>&]*)*\s*")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)

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


def readValue(request: Any, name: str) -> tuple[str, str]:
    """
    A parameter's name and its value, which is the whole body.

    @raise BadRequest: L{TooLarge} too.
    """
    name = checkedName(name.encode("utf-8", "replace"))
    size = _size(request.content)
    if size > MAXIMUM_TEXT:
        raise TooLarge(f"Parameter {name}: {size} bytes; as text it can have {MAXIMUM_TEXT}")
    return name, checkedText(request.content.read(), name)


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
