"""
What went wrong as a VOTable (DALI 5.2, 5.4): for clients that ask for one.
"""

from __future__ import annotations

from typing import Any

from lxml import etree

from twuws.documents.xml import xmlText

#: What it is, for C{Content-Type}.
VOTABLE = "application/x-votable+xml"

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"


def errorVOTable(message: str) -> bytes:
    """
    A VOTable without a table, whose C{QUERY_STATUS} says what is wrong.

    Some clients look for the text C{<INFO name="QUERY_STATUS" value="ERROR">} as it stands,
    so there is no prefix, and the attributes come in this order.
    """
    unprefixed: Any = {None: _NAMESPACE}
    root = etree.Element(f"{{{_NAMESPACE}}}VOTABLE", version="1.4", nsmap=unprefixed)
    resource = etree.SubElement(root, f"{{{_NAMESPACE}}}RESOURCE", type="results")
    status = etree.SubElement(resource, f"{{{_NAMESPACE}}}INFO", name="QUERY_STATUS", value="ERROR")
    status.text = xmlText(message)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")
