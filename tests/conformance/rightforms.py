"""
Reading requests, for a service that does everything right; see C{rightserver}.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from lxml import etree

from tests.conformance.rightjobs import File, Refused

LARGEST = 1_000_000  # bytes of a request
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))')
_NAME = re.compile(r'[; ]name="([^"]*)"')
_FILENAME = re.compile(r'filename="([^"]*)"')


def readBody(stream, headers, has):
    """The body of a request, in one piece or in chunks."""
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        body = b""
        while length := _chunkLength(stream):
            body += stream.read(length)
            stream.readline()
            if len(body) > LARGEST and not (has("takesAnySize") or has("chunksAnySize")):
                raise Refused(413, "The request is too large.")
        stream.readline()
        return body
    length = headers.get("Content-Length", "0")
    if not length.isdecimal():
        raise Refused(400, "Content-Length is no number")
    if has("refusesLate"):
        body = stream.read(int(length))
    if int(length) > LARGEST and not has("takesAnySize"):
        if has("largeCrashes"):
            raise Refused(500, "OutOfMemoryError")
        raise Refused(413, "The request is too large.")
    return body if has("refusesLate") else stream.read(int(length))


def _chunkLength(stream):
    line = stream.readline()
    if not line:
        raise ConnectionResetError
    return int(line.split(b";")[0], 16)


def readForm(body, contentType, has):
    """Names and values, in their order; a value is a text or a L{File}."""
    kind = contentType.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return list(_multipart(body, contentType, has))
    if kind in ("text/xml", "application/xml") and not has("no xml"):
        document = _checkedXML(body, has)
        return [] if has("xmlLost") else [("xml", document)]
    if kind not in ("", "application/x-www-form-urlencoded"):
        raise Refused(415, f"{kind} is no type for this")
    text = body.decode("utf-8", "replace")
    return parse_qsl(text, keep_blank_values=True, max_num_fields=1000)


def _multipart(body, contentType, has):
    found = _BOUNDARY.search(contentType)
    if not found:
        raise Refused(400, "There is no boundary")
    delimiter = b"--" + (found[1] or found[2]).encode()
    for part in body.split(delimiter)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        text = head.decode("utf-8", "replace")
        name = _NAME.search(text)
        if not name:
            raise Refused(400, "A part has no name")
        content = content.removesuffix(b"\r\n")
        filename = _FILENAME.search(text)
        if not filename:
            yield name[1], content.decode("utf-8", "replace")
            continue
        mediaType = re.search(r"(?im)^content-type: *([^\r\n]+)", text)
        if has("no uploads"):
            raise Refused(415, "There are no files here")
        if has("filenameCrashes") and "\0" in filename[1]:
            raise Refused(500, "IllegalArgumentException")
        kind = mediaType[1] if mediaType else "application/octet-stream"
        yield name[1], File(content, kind, filename[1])


def _checkedXML(body, has):
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as e:
        if has("takesAnyXML"):
            return body.decode("utf-8", "replace")
        raise Refused(400, f"This is not XML: {e}") from None
    if root.getroottree().docinfo.doctype and not has("takesDoctype"):
        raise Refused(400, "There may be no document type")
    return etree.tostring(root, encoding="unicode", with_tail=False)


def readInstant(text):
    """An instant as clients write it, in UTC; the date alone, or less, is its beginning."""
    for pattern in (
        "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y%m%d", "%Y",
    ):  # fmt: skip
        try:
            return datetime.strptime(text.removesuffix("Z"), pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise Refused(400, f"{text!r} is no instant in UTC")


def readInteger(text, name, least=0, most=2**31 - 1):
    if not re.fullmatch(r"-?[0-9]{1,30}", text) or not least <= int(text) <= most:
        raise Refused(400, f"{name} is a whole number from {least} to {most}, not {text[:40]!r}")
    return int(text)
