"""
Uploaded tables (VOTable 1.1 to 1.5, CSV, TSV) in, VOTable 1.4 and CSV out.

Nothing here knows about jobs.  Tables are held in memory; what is written is streamed.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from lxml import etree

#: C{None} is a null.  Arrays are text, as TABLEDATA has them; booleans are C{T} and C{F}.
Cell: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Cell, ...]
_Decoder: TypeAlias = Callable[[bytes, int], tuple[Cell, int]]

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_WANTED = "send a VOTable, or CSV or TSV in UTF-8 with a header line"
_NUMBER = re.compile(
    r"(?![+-]?0\d+\Z)[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.ASCII | re.I
)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: The VOTable primitives, and the C{struct} codes of one element each.
_CODES = {
    "boolean": "c", "bit": "", "unsignedByte": "B", "short": "h", "int": "i", "long": "q",
    "char": "s", "unicodeChar": "s", "float": "f", "double": "d", "floatComplex": "ff",
    "doubleComplex": "dd",
}  # fmt: skip
_BOOLEANS = {"T": "T", "1": "T", "F": "F", "0": "F"}
_RA_DEC_UCDS = (
    ("pos.eq.ra;meta.main", "pos.eq.dec;meta.main"),
    ("pos_eq_ra_main", "pos_eq_dec_main"),
    ("pos.eq.ra", "pos.eq.dec"),
)
_RA_DEC_NAMES = (
    ("ra", "dec"), ("ra", "de"), ("ra_j2000", "dec_j2000"), ("raj2000", "dej2000"),
    ("raj2000", "decj2000"), ("_raj2000", "_dej2000"), ("ra_icrs", "de_icrs"),
    ("ra_icrs", "dec_icrs"), ("_ra_icrs", "_de_icrs"), ("_ra.icrs", "_de.icrs"), ("_ra", "_de"),
    ("s_ra", "s_dec"), ("ra_deg", "dec_deg"), ("radeg", "decdeg"), ("radeg", "dedeg"),
    ("right_ascension", "declination"), ("alpha_j2000", "delta_j2000"), ("alpha", "delta"),
)  # fmt: skip


class TableError(ValueError):
    """A table cannot be read; the message is for the one who sent it."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """
    A column, in the words of VOTable's FIELD.

    @ivar arraysize: C{None} for a scalar.
    @ivar null: the text that stands for a null in the table that was read, if there is one.
    """

    name: str
    datatype: str = "char"
    unit: str | None = None
    ucd: str | None = None
    arraysize: str | None = None
    xtype: str | None = None
    null: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, and rows with one cell for each of them."""

    columns: tuple[Column, ...]
    rows: Sequence[Row]


def readTable(path: str | Path) -> Table:
    """
    Read a VOTable, CSV or TSV file, whichever it is.

    @raise TableError: if it is none of these, or has mistakes.
    """
    data = Path(path).read_bytes()
    start = data[:1024].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if not start:
        raise TableError(f"The table is empty; {_WANTED}.")
    for magic, kind in ((b"\x1f\x8b", "compressed (gzip)"), (b"SIMPLE  =", "a FITS file")):
        if data.startswith(magic):
            raise TableError(f"The table is {kind}; {_WANTED}.")
    if start.startswith(b"<"):  # in UTF-8 or UTF-16
        return _readVOTable(data)
    return _readCSV(data)


# CSV and TSV


def _readCSV(data: bytes) -> Table:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise TableError(f"Line {line}: byte {e.start} of the file is not UTF-8; {_WANTED}.") from e
    header, rows = None, list[Row]()
    for line, fields in _csvLines(text):
        if header is None:
            header = _checkHeader(line, fields)
        elif len(fields) != len(header):
            raise TableError(
                f"Line {line} has {len(fields)} fields, but the header line has {len(header)}."
            )
        else:
            rows.append(tuple(fields))
    columns = tuple(_guessColumn(name, i, rows) for i, name in enumerate(header or ()))
    return Table(columns=columns, rows=[tuple(cell or None for cell in row) for row in rows])


def _csvLines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and stripped fields of the lines that are not blank."""
    first = text.lstrip().split("\n", 1)[0]
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as e:
        raise TableError(f"Line {reader.line_num} is not CSV: {e}.") from e


def _checkHeader(line: int, fields: list[str]) -> list[str]:
    if all(_NUMBER.fullmatch(field) for field in fields):
        raise TableError(f"Line {line} has numbers only; the first line must name the columns.")
    if "" in fields:
        number = fields.index("") + 1
        raise TableError(f"Line {line}: column {number} has no name; the header must name each.")
    return fields


def _guessColumn(name: str, index: int, rows: Sequence[Row]) -> Column:
    cells = [str(row[index]) for row in rows if row[index]]
    if cells and all(map(_INTEGER.fullmatch, cells)):
        return Column(name=name, datatype="long")
    if cells and all(map(_NUMBER.fullmatch, cells)):
        return Column(name=name, datatype="double")
    return Column(name=name, datatype="char", arraysize="*")


# VOTable


def _readVOTable(data: bytes) -> Table:
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


# Positions


def findPositions(table: Table) -> tuple[int, int]:
    """
    The indices of the columns with right ascension and declination, in degrees.

    They are a pair: by UCD first (the main position, then any), else by name.  Case does
    not matter.

    @raise TableError: if there are none, or if they have a unit other than degrees.
    """
    ucds = [(column.ucd or "").strip().lower() for column in table.columns]
    names = [column.name.strip().lower() for column in table.columns]
    tries = [(ucds, pair) for pair in _RA_DEC_UCDS] + [(names, pair) for pair in _RA_DEC_NAMES]
    for where, (ra, dec) in tries:
        if ra in where and dec in where:
            return _inDegrees(table, where.index(ra)), _inDegrees(table, where.index(dec))
    raise TableError(
        "No position columns were found.  Looked for the UCDs pos.eq.ra and pos.eq.dec, then for"
        f" the names {', '.join(f'{ra}/{dec}' for ra, dec in _RA_DEC_NAMES)}.  The columns are: "
        + ", ".join(c.name + (f" (UCD {c.ucd})" if c.ucd else "") for c in table.columns)
    )


def _inDegrees(table: Table, index: int) -> int:
    column = table.columns[index]
    if column.unit and column.unit.strip().lower() not in ("deg", "degree", "degrees"):
        raise TableError(f"Column {column.name!r} has the unit {column.unit!r}; it must be in deg.")
    return index


# Writing


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


def writeCSV(file: IO[bytes], columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Write RFC 4180 CSV in UTF-8 with a header line; a null is an empty field."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(column.name for column in columns)
    writer.writerows(map(formatCell, row) for row in rows)
    text.detach()


def formatCell(cell: Cell) -> str:
    """
    A cell's text, as TABLEDATA has it.

    >>> formatCell(None), formatCell(0.1), formatCell(float("-inf"))
    ('', '0.1', '-Inf')
    """
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else "+Inf" if cell > 0 else "-Inf"
    return "" if cell is None else str(cell)
