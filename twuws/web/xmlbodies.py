"""
XML documents that clients send: well-formed, and without anything that reaches beyond them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from twisted.internet.threads import deferToThread

from twuws.submission import Upload
from twuws.web.multipart import ByName
from twuws.wellformed import checkDocument


def isXML(kind: str) -> bool:
    """Whether a media type, in lower case and without parameters, is XML (RFC 7303)."""
    return kind in ("text/xml", "application/xml") or kind.endswith("+xml")


async def checkDocuments(files: ByName[Upload], names: Collection[str]) -> None:
    """
    See that what parameters of type Document have got are documents, as far as it is here;
    what is elsewhere is seen to when it is loaded.

    @param files: by parameter.
    @param names: the parameters that are documents.
    @raise ParameterError: naming the parameter, the line, and what is wrong there.
    """
    found = {
        upload.path: name
        for name in names
        for upload in files.get(name, [])
        if upload.path is not None  # it is elsewhere
    }
    if found:
        await deferToThread(_checkAll, found)


def _checkAll(found: dict[Path, str]) -> None:
    for path, name in found.items():
        checkDocument(path, name)
