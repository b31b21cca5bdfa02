"""
Whether a document is one that UWS 1.1 allows, and that clients can read.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lxml import etree

UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"
XLINK = "{http://www.w3.org/1999/xlink}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"

_OURS = Path(__file__).parent / "schema" / "uws.rng"
_PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "xsd" / "UWS.xsd"


@cache
def _ourSchema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(_OURS))


@cache
def _publishedSchema() -> etree.XMLSchema | None:
    return etree.XMLSchema(etree.parse(_PUBLISHED)) if _PUBLISHED.is_file() else None


def validate(data: bytes) -> etree._Element:
    """
    Fail unless C{data} is a good document; return its document element.

    Good is: well-formed, UTF-8 and said so, valid by C{tests/schema/uws.rng} and, where it is
    there, by the published schema; with the literal prefixes that clients look for, and
    with results that can be told apart.
    """
    assert data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>'), data[:60]
    root = etree.fromstring(data)
    for schema in (_ourSchema(), _publishedSchema()):
        if schema is not None:
            assert schema.validate(root), f"{schema.error_log}\n{data.decode()}"
    assert root.nsmap["xlink"] == XLINK[1:-1]
    for element in root.iter(f"{UWS}*"):
        assert element.prefix == "uws", element.tag
    links = "//@*[namespace-uri() = $xlink and name() != concat('xlink:', local-name())]"
    assert not root.xpath(links, xlink=XLINK[1:-1])
    ids = [str(result.get("id")) for result in root.iter(f"{UWS}result")]
    assert len(ids) == len(set(ids)), f"results that are called the same: {ids}"
    return root
