"""
Whether a file is an XML document, without anything that reaches beyond it.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from lxml import etree

from twuws.errors import ParameterError

#: What libxml2 tells its programmers.
_HINT = re.compile(r",?( try| use)? XML_PARSE_HUGE( option)?")


class _Nothing:
    """A target that builds no tree, so that a document of any size takes no memory."""

    def doctype(self, *_: object) -> None:
        """Entities are declared in there: those that grow, and those that are files."""
        raise _HasDoctype

    def close(self) -> None:
        pass


class _HasDoctype(Exception):
    pass


def checkDocument(path: Path, name: str) -> None:
    """
    See that a file is an XML document without a DOCTYPE.  Blocks.

    @raise ParameterError: if it is not.
    """
    parser = etree.XMLParser(
        target=_Nothing(),  # type: ignore[arg-type]
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    try:
        with path.open("rb") as f:
            # To feed the parser would keep a tag of any size in memory.  Where lxml sees the
            # file's name, it takes some mistakes in it for trouble with reading.
            etree.parse(SimpleNamespace(read=f.read), parser)
    except _HasDoctype:
        raise ParameterError(name, "the document has a DOCTYPE; send it without") from None
    except etree.XMLSyntaxError as e:
        message = e.msg or "it is empty"
        raise _malformed(name, message.rpartition(", line ")[0] or message, e.lineno) from None
    # What is wrong with namespaces is told to whoever builds a tree, and else only noted.
    for error in parser.error_log.filter_from_errors():
        raise _malformed(name, error.message, error.line)


def _malformed(name: str, message: str, line: int | None) -> ParameterError:
    message = _HINT.sub("", message).strip()
    return ParameterError(name, f"line {line or 1}: {message}; send well-formed XML")
