"""
What a request says: arguments in nevow style, and files.

Nothing here answers: what is wrong is raised, with a message for whoever asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.web.http import parse_qs

from twuws.errors import BadRequest, TooLarge, UnsupportedMediaType, UWSError
from twuws.submission import Upload
from twuws.values import mediaTypeOf
from twuws.web.bodies import tooLarge
from twuws.web.bodyfiles import WholeBody, removeFiles
from twuws.web.jsonbodies import isJSON, pairsOfJSON
from twuws.web.limits import USUAL, RequestLimits, tooMany, tooMuchText
from twuws.web.multipart import (
    HELD,
    MULTIPART,
    ByName,
    Form,
    boundaryOf,
    checkedName,
    checkedText,
    shown,
)
from twuws.web.references import referenced as referenced
from twuws.web.xmlbodies import isXML
from twuws.workdir import WorkDirs

#: Bodies up to this size, in bytes, are parsed in the reactor, larger ones in a thread.
#: Nothing goes to disk while so little is parsed.
SMALL_BODY = HELD

#: How many large bodies of text are parsed at a time.  Each may take some ten times its size in
#: memory, a CPU, and one of the reactor's ten threads, which others need as well.
AT_ONCE = 2
_turns = DeferredSemaphore(AT_ONCE)

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^;\s\"]+)", re.IGNORECASE)
_LOOKS_LIKE_A_FORM = re.compile(rb"[^\s<>&=]+=[^\s<>&]*(?:&[^\s<>&=]+=[^\s<>&]*)*\s*")

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
    documents: Collection[str] = (),
    maximumBody: int | None = None,
    limits: RequestLimits = USUAL,
) -> None:
    """
    Set C{request.args} to L{Arguments}, and C{request.files} to L{Upload}s by their part.

    Arguments come from the query, then from the form or the JSON object that a POST has.
    What the body says in the same words again, or under a name that differs in case, counts
    once.  The caller calls L{discard} when it is done with the request.

    @param request: a C{twisted.web} request, of a C{Site} that does not parse forms.
    @param uploads: where files go.
    @param fileNames: the names of parts that are files even if they do not look it.
    @param documents: the names of parameters that are XML documents.  If there is just one,
        a body that is XML is its value, and is not looked into here.
    @param maximumBody: in bytes; C{None} for any size.
    @param limits: what there can be in it.
    @raise UnsupportedMediaType: for a body of another kind; for other methods than POST
        the body is left alone.
    @raise BadRequest: L{TooLarge} too; nothing is left on disk then.
    """
    if isinstance(request.args, Arguments):
        return
    request.uploads = []
    rawQuery: bytes = request.uri.partition(b"?")[2]
    query, body = _pairs(rawQuery, limits), _Body()
    form: Form | None = getattr(request, "form", None)  # what has been taken of it as it came
    size = _size(request.content) + (form.fed if form is not None else 0)
    if maximumBody is not None and size > maximumBody:
        raise tooLarge(size, maximumBody)
    if request.method == b"POST" and (size or _mustHaveContent(request, documents)):
        if request.args != parse_qs(rawQuery, 1):
            _warnOfParsedForms()
        body = await _read(request, size, uploads, query, fileNames, documents, limits)
    if len(query) + len(body.pairs) > limits.parameters:
        raise tooMany(limits)
    request.uploads = body.paths
    request.args, request.files = _merged(query, body.pairs), body.files


async def readValue(
    request: Any,
    name: str,
    *,
    uploads: WorkDirs,
    fileNames: Collection[str] = (),
    textNames: Collection[str] = (),
    limits: RequestLimits = USUAL,
) -> None:
    """
    Set C{request.args}, or C{request.files} if that is what the parameter is, to the one
    value which the whole body is.

    @param textNames: the names of what is always text; what has another name, and is no file
        either, is whatever its value is.
    @raise BadRequest: L{TooLarge} too; nothing is left on disk then.
    """
    name = checkedName(name.encode("utf-8", "replace"), limits)
    _refuseEncoded(request)
    request.args, request.files = Arguments(), ByName()
    if not _isAmong(fileNames, name):
        try:
            request.args[name] = [_wholeText(request.content, name, limits)]
            return
        except (BadRequest, TooLarge):
            if _isAmong(textNames, name):
                raise
            request.content.seek(0)
    whole = WholeBody(request.content, uploads)
    upload = await whole.read(name, mediaTypeOf(_text(request.getHeader(b"content-type"))))
    request.files[name], request.uploads = [upload], whole.paths


def _isAmong(names: Collection[str], name: str) -> bool:
    return name.lower() in {known.lower() for known in names}


def _wholeText(content: IO[bytes], name: str, limits: RequestLimits) -> str:
    size = _size(content)
    if size > limits.valueSize:
        raise tooMuchText(name, size, limits)
    return checkedText(content.read(), name, limits)


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


def _mustHaveContent(request: Any, documents: Collection[str]) -> bool:
    """Whether a body is of a kind that is taken here, and cannot be empty."""
    kind = _text(request.getHeader(b"content-type")).partition(";")[0].strip().lower()
    return isJSON(kind) or (isXML(kind) and len(documents) == 1)


def _text(header: bytes | None) -> str:
    return (header or b"").decode("latin-1")


def _size(content: IO[bytes]) -> int:
    content.seek(0, 2)
    size = content.tell()
    content.seek(0)
    return size


@dataclass(kw_only=True)
class _Body:
    """What a body says: names and values, files by their part, and all temporary files."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    files: ByName[Upload] = field(default_factory=ByName)
    paths: list[Path] = field(default_factory=list)


async def _read(
    request: Any,
    size: int,
    uploads: WorkDirs,
    query: list[tuple[str, str]],
    fileNames: Collection[str],
    documents: Collection[str],
    limits: RequestLimits,
) -> _Body:
    """Read a body as what its Content-Type says that it is."""
    _refuseEncoded(request)
    content: IO[bytes] = request.content
    contentType = _text(request.getHeader(b"content-type"))
    kind = contentType.partition(";")[0].strip().lower()
    if kind == MULTIPART:
        form = getattr(request, "form", None) or Form(
            content, boundaryOf(contentType), uploads, limits
        )
        await form.read(query, fileNames, inThread=size > SMALL_BODY)
        return _Body(pairs=form.texts, files=form.files, paths=form.paths)
    if kind in (_FORM, ""):
        return _Body(pairs=await _readForm(content, size, limits, isDeclared=bool(kind)))
    if isJSON(kind):
        _refuseCharset(contentType)
        return _Body(pairs=await _readText(content, size, limits, pairsOfJSON))
    if isXML(kind) and len(documents) == 1:
        (name,) = documents
        whole = WholeBody(content, uploads)
        upload = await whole.read(name, mediaTypeOf(contentType))
        return _Body(files=ByName({name: [upload]}), paths=whole.paths)
    known = [_FORM, MULTIPART, _JSON] + ["application/xml"] * (len(documents) == 1)
    raise UnsupportedMediaType(
        f"A body of type {shown(kind)} cannot be read here; send {_alternatives(known)}."
    )


def _alternatives(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]


def _refuseEncoded(request: Any) -> None:
    encoding = _text(request.getHeader(b"content-encoding")).strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(
            f"The body's Content-Encoding {shown(encoding)} is not taken; send it as it is."
        )


def _refuseCharset(contentType: str) -> None:
    found = _CHARSET.search(contentType)
    if found and found[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"JSON in {shown(found[1])} cannot be read; send UTF-8.")


async def _readText(
    content: IO[bytes],
    size: int,
    limits: RequestLimits,
    parse: Callable[[bytes, RequestLimits], list[tuple[str, str]]],
) -> list[tuple[str, str]]:
    """Parse a body that has no files: a large one in a thread."""
    if size > limits.textSize:
        most = f"{limits.textSize} at most (limits.text-size), more as {MULTIPART}"
        raise TooLarge(f"A form of {size} bytes: {most}")
    if size <= SMALL_BODY:
        return parse(content.read(), limits)

    def parsed() -> list[tuple[str, str]] | UWSError:
        try:
            return parse(content.read(), limits)
        except UWSError as e:
            # What it has come by has the body, and would keep it for as long as garbage is.
            e.__context__ = None
            return e.with_traceback(None)

    found = await _turns.run(deferToThread, parsed)
    if isinstance(found, UWSError):
        raise found
    return found


async def _readForm(
    content: IO[bytes], size: int, limits: RequestLimits, isDeclared: bool
) -> list[tuple[str, str]]:
    def parse(raw: bytes, limits: RequestLimits) -> list[tuple[str, str]]:
        if not isDeclared and (size > SMALL_BODY or not _LOOKS_LIKE_A_FORM.fullmatch(raw)):
            raise UnsupportedMediaType(
                f"The body has no Content-Type and is no form; send {_FORM} or {MULTIPART}."
            )
        return _pairs(raw, limits)

    return await _readText(content, size, limits, parse)


def _pairs(raw: bytes, limits: RequestLimits) -> list[tuple[str, str]]:
    """Names and values of a query or a form.  Latin-1 brings the bytes through urllib."""
    if not raw:
        return []
    text = raw.decode("latin-1").rstrip("\r\n")
    if text.count("&") >= limits.parameters:
        raise tooMany(limits)
    for piece in text.split("&"):
        if len(piece) > 3 * limits.valueSize + 3 * limits.nameLength:
            raise tooMuchText(shown(piece.partition("=")[0]), len(piece), limits)
    found = []
    for rawName, value in parse_qsl(text, keep_blank_values=True, encoding="latin-1"):
        name = checkedName(rawName.encode("latin-1"), limits)
        found.append((name, checkedText(value.encode("latin-1"), name, limits)))
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
