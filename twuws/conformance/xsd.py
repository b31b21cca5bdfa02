"""
The published schema, as somebody has it in a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from twuws.conformance.outcomes import Unusable

#: What UWS uses of XLink, for those who have the schema of UWS alone.
_XLINK = b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"
    targetNamespace="http://www.w3.org/1999/xlink">
  <xs:attribute name="type">
    <xs:simpleType>
      <xs:restriction base="xs:token">
        <xs:enumeration value="simple"/>
        <xs:enumeration value="extended"/>
        <xs:enumeration value="title"/>
        <xs:enumeration value="resource"/>
        <xs:enumeration value="locator"/>
        <xs:enumeration value="arc"/>
        <xs:enumeration value="none"/>
      </xs:restriction>
    </xs:simpleType>
  </xs:attribute>
  <xs:attribute name="href" type="xs:anyURI"/>
</xs:schema>"""


class _Local(etree.Resolver):
    """Find what a schema imports beside it, and nowhere else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def resolve(self, url: Any, publicId: Any, context: Any) -> Any:  # type: ignore[override]
        name = (url or "").rpartition("/")[2]
        beside = self._directory / name
        if name and beside.is_file():
            return self.resolve_string(beside.read_bytes(), context, base_url=url)
        if "xlink" in name:
            return self.resolve_string(_XLINK, context, base_url=url)
        return self.resolve_empty(context)  # type: ignore[attr-defined]


class PublishedSchema:
    """
    A schema from a file.

    @raise Unusable: if it cannot be read, or is no schema.
    """

    def __init__(self, path: Path) -> None:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        parser.resolvers.add(_Local(path.parent))
        try:
            root = etree.fromstring(path.read_bytes(), parser, base_url=str(path))
            self._schema = etree.XMLSchema(root)
        except OSError as e:
            raise Unusable(f"{path} cannot be read: {e.strerror}") from None
        except (etree.XMLSyntaxError, etree.XMLSchemaParseError) as e:
            raise Unusable(f"{path} is no schema: {e}") from None

    def problems(self, root: etree._Element) -> list[str]:
        """What is not as the schema says."""
        if self._schema.validate(root):
            return []
        log: Any = self._schema.error_log
        return [f"by the published schema, {one.message}" for one in log]
