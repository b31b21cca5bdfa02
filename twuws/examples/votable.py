"""
VOTable 1.1 to 1.5 in, with TABLEDATA, BINARY or BINARY2; VOTable 1.4 out.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias

from lxml import etree

from twuws.examples.cells import Cell, Column, Row, Table, TableError, formatCell

_Decoder: TypeAlias = Callable[[bytes, int], tuple[Cell, int]]

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: The VOTable primitives, and the C{struct} codes of one element each.
_CODES = {
    "boolean": "c", "bit": "", "unsignedByte": "B", "short": "h", "int": "i", "long": "q",
    "char": "s", "unicodeChar": "s", "float": "f", "double": "d", "floatComplex": "ff",
    "doubleComplex": "dd",
}  # fmt: skip
_BOOLEANS = {"T": "T", "1": "T", "F": "F", "0": "F"}


def readVOTable(data: bytes) -> Table:
    root, ns = _parseVOTable(data)
    table = root.find(f".//{ns}RESOURCE/{ns}TABLE")
    if table is None:
        raise TableError("The VOTable has no TABLE in a RESOURCE; it needs one.")
    columns = tuple(_readField(ns, i, f) for i, f in enumerate(table.findall(f"{ns}FIELD"), 1))
    if not columns:
        raise TableError("The first TABLE of the VOTable has no FIELD; it needs one per column.")
    return Table(columns=columns, rows=_readData(ns, columns, table.find(f"{ns}DATA")))


def _parseVOTable(data: bytes) -> tuple[Any, str]:
    """The root, and its namespace in braces; DTDs and entities are never looked at."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as e:
        raise TableError(f"The VOTable is not well-formed XML: {e.msg}") from e
    if root.getroottree().docinfo.internalDTD is not None:
        raise TableError("The VOTable has a DOCTYPE, which is not accepted; remove it.")
    name = etree.QName(root)
    if name.localname != "VOTABLE":
        raise TableError(f"The document is XML, but its root is {name.localname}, not VOTABLE.")
    return root, f"{{{name.namespace}}}" if name.namespace else ""


def _readField(ns: str, number: int, field: Any) -> Column:
    name = field.get("name") or field.get("ID") or f"col{number}"
    datatype = field.get("datatype", "char").strip()
    if datatype not in _CODES:
        raise TableError(f"FIELD {name!r}: datatype {datatype!r} is not one of {', '.join(_CODES)}")
    arraysize = (field.get("arraysize") or "").replace(" ", "") or None
    if arraysize and not re.fullmatch(r"(\d+x)*(\d+|\d*\*)", arraysize, re.ASCII):
        raise TableError(f"FIELD {name!r}: arraysize {arraysize!r} is not like 3, 2x3, * or 2x*")
    values = field.find(f"{ns}VALUES")
    return Column(
        name=name, datatype=datatype, arraysize=arraysize,
        unit=field.get("unit"), ucd=field.get("ucd"), xtype=field.get("xtype"),
        null=None if values is None else values.get("null"),
    )  # fmt: skip


def _readData(ns: str, columns: Sequence[Column], data: Any) -> list[Row]:
    if data is None:
        return []
    for child in data.iterchildren(f"{ns}*"):
        kind = etree.QName(child).localname
        if kind == "TABLEDATA":
            return [_readTR(ns, columns, i, tr) for i, tr in enumerate(child.iter(f"{ns}TR"), 1)]
        if kind in ("BINARY", "BINARY2"):
            stream = _readStream(kind, child.find(f"{ns}STREAM"))
            return list(_decodeRows(columns, stream, flagged=kind == "BINARY2"))
        raise TableError(f"DATA has {kind}; send TABLEDATA, BINARY or BINARY2 instead.")
    return []


def _readTR(ns: str, columns: Sequence[Column], number: int, tr: Any) -> Row:
    cells = ["".join(td.itertext()).strip() or None for td in tr.iterchildren(f"{ns}TD")]
    if len(cells) != len(columns):
        raise TableError(f"Row {number} has {len(cells)} TD; there are {len(columns)} FIELDs.")
    return tuple(None if c == column.null else c for c, column in zip(cells, columns, strict=True))


def _readStream(kind: str, stream: Any) -> bytes:
    if stream is None or stream.get("href"):
        raise TableError(f"{kind} has no STREAM of its own; send the data inline, in base64.")
    if stream.get("encoding") != "base64":
        raise TableError(f"The STREAM of {kind} must have encoding='base64'.")
    try:
        return base64.b64decode("".join((stream.text or "").split()), validate=True)
    except (binascii.Error, ValueError) as e:
        raise TableError(f"The STREAM of {kind} is not base64: {e}.") from e


def _decodeRows(columns: Sequence[Column], data: bytes, flagged: bool) -> Iterator[Row]:
    """Rows of BINARY; C{flagged} ones (BINARY2) begin with a bit per column, set for null."""
    decoders = [_decoder(column) for column in columns]
    width = (len(columns) + 7) // 8 if flagged else 0
    offset, number = 0, 0
    while offset < len(data):
        start, number, row = offset, number + 1, list[Cell]()
        flags, offset = data[offset : offset + width], offset + width
        for i, decode in enumerate(decoders):
            try:
                cell, offset = decode(data, offset)
            except (struct.error, IndexError) as e:
                raise TableError(
                    f"Row {number}, FIELD {columns[i].name!r}: the binary data do not fit the"
                    f" FIELD's datatype and arraysize, or end too early ({e})."
                ) from e
            isNull = flagged and flags[i // 8] & (0x80 >> i % 8)
            row.append(None if isNull or columns[i].null == str(cell) else cell)
        if offset == start:
            raise TableError("The binary data do not fit the FIELDs, whose rows have no bytes.")
        yield tuple(row)


def _decoder(column: Column) -> _Decoder:
    """What reads one cell of a column at an offset, and says where the next one is."""
    fixed, variable = _shape(column.arraysize)
    convert = _CONVERTERS.get(column.datatype, _fromNumbers)

    def decode(data: bytes, offset: int) -> tuple[Cell, int]:
        count = fixed
        if variable:
            (count,) = struct.unpack_from(">I", data, offset)
            offset += 4
        end = offset + _size(column.datatype, count)
        if end > len(data):
            raise IndexError(f"{end - len(data)} bytes are missing")
        return convert(column.datatype, data[offset:end], count), end

    return decode


def _shape(arraysize: str | None) -> tuple[int, bool]:
    """The number of elements, and whether it is in the stream instead (as their total)."""
    sizes = (arraysize or "1").split("x")
    if sizes[-1].endswith("*"):
        return 0, True
    return math.prod(map(int, sizes)), False


def _size(datatype: str, count: int) -> int:
    """In bytes, of C{count} elements."""
    if datatype == "bit":
        return (count + 7) // 8
    return count * (2 if datatype == "unicodeChar" else struct.calcsize(">" + _CODES[datatype]))


def _fromText(datatype: str, data: bytes, count: int) -> Cell:
    text = data.decode("utf-16-be" if datatype == "unicodeChar" else "utf-8", "replace")
    return text.split("\0", 1)[0].strip() or None


def _fromBooleans(datatype: str, data: bytes, count: int) -> Cell:
    values = [_BOOLEANS.get(one, "?") for one in data.decode("latin-1").upper()]
    return None if values in ([], ["?"]) else " ".join(values)


def _fromBits(datatype: str, data: bytes, count: int) -> Cell:
    return "".join(f"{byte:08b}" for byte in data)[:count] or None


def _fromNumbers(datatype: str, data: bytes, count: int) -> Cell:
    values: list[float] = list(struct.unpack(f">{_CODES[datatype] * count}", data))
    if datatype.startswith("float"):
        values = [_shortest(value) for value in values]
    if len(values) != 1:
        return " ".join(map(formatCell, values)) or None
    return None if math.isnan(values[0]) else values[0]


def _shortest(value: float) -> float:
    """The number with the fewest digits that is the same in single precision."""
    for digits in range(6, 9):
        text = float(f"{value:.{digits}g}")
        if abs(text) < 3.4e38 and struct.pack(">f", text) == struct.pack(">f", value):
            return text
    return value


_CONVERTERS: dict[str, Callable[[str, bytes, int], Cell]] = {
    "char": _fromText,
    "unicodeChar": _fromText,
    "boolean": _fromBooleans,
    "bit": _fromBits,
}


def writeVOTable(
    file: IO[bytes], columns: Sequence[Column], rows: Iterable[Row], infos: Mapping[str, str]
) -> None:
    """
    Write a VOTable 1.4 with one table of results, as DALI wants it.

    @param rows: read once, and written as they come.
    @param infos: names and values of INFO elements, besides QUERY_STATUS=OK.
    """
    with (
        etree.xmlfile(file, encoding="utf-8") as xf,
        xf.element("VOTABLE", {"version": "1.4", "xmlns": _NAMESPACE}),
        xf.element("RESOURCE", {"type": "results"}),
    ):
        for name, value in {"QUERY_STATUS": "OK", **infos}.items():
            xf.write(etree.Element("INFO", name=name, value=_forXML(value)))
        with xf.element("TABLE"):
            for column in columns:
                xf.write(_field(column))
            with xf.element("DATA"), xf.element("TABLEDATA"):
                for row in rows:
                    xf.write(_tr(row))


def _field(column: Column) -> Any:
    attributes = {
        "name": column.name, "datatype": column.datatype, "arraysize": column.arraysize,
        "unit": column.unit, "ucd": column.ucd, "xtype": column.xtype,
    }  # fmt: skip
    return etree.Element("FIELD", {k: _forXML(v) for k, v in attributes.items() if v})


def _tr(row: Row) -> Any:
    tr = etree.Element("TR")
    for cell in row:
        etree.SubElement(tr, "TD").text = _forXML(formatCell(cell))
    return tr


def _forXML(text: str) -> str:
    """The text with C{?} for each character that XML cannot have."""
    return text if text.isprintable() and text.isascii() else _NOT_XML.sub("?", text)
