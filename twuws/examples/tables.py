"""
Uploaded tables (VOTable 1.1 to 1.5, CSV, TSV) in, VOTable 1.4 and CSV out.

Nothing here knows about jobs.  Tables are held in memory; what is written is streamed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from twuws.examples.cells import Column, Row, Table, TableError, formatCell
from twuws.examples.votable import readVOTable

_WANTED = "send a VOTable, or CSV or TSV in UTF-8 with a header line"
_NUMBER = re.compile(
    r"(?![+-]?0\d+\Z)[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.ASCII | re.I
)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
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
        return readVOTable(data)
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


def writeCSV(file: IO[bytes], columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Write RFC 4180 CSV in UTF-8 with a header line; a null is an empty field."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(column.name for column in columns)
    writer.writerows(map(formatCell, row) for row in rows)
    text.detach()
