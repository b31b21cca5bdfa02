"""
Cross-match positions with the Messier catalogue: a job class that is complete.

The catalogue is C{messier.csv} beside this module: positions in degrees (ICRS), V
magnitudes, the IAU's three-letter constellations.  Galaxies, globular clusters and
planetary nebulae are right to a few arc seconds; the middle of an open cluster or a
diffuse nebula is known to an arc minute or so at best.  M102 is NGC 5866, M24 the star
cloud IC 4715, and M40 is at its brighter star, with the magnitude of both.
"""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from math import atan2, cos, degrees, hypot, isfinite, radians, sin

from twuws import UWSJob
from twuws import parameters as p
from twuws.errors import JobFailure, ParameterError
from twuws.examples.cells import Column, Row, Table, TableError
from twuws.examples.tables import findPositions, readTable, writeCSV
from twuws.examples.votable import writeVOTable

#: Right ascension and declination, in degrees.
Position = tuple[float, float]

#: What is added to each input row.
MESSIER_COLUMNS = (
    Column(name="messier_name", arraysize="*", ucd="meta.id"),
    Column(name="type", arraysize="*", ucd="src.class"),
    Column(name="messier_ra", datatype="double", unit="deg", ucd="pos.eq.ra"),
    Column(name="messier_dec", datatype="double", unit="deg", ucd="pos.eq.dec"),
    Column(name="magnitude", datatype="float", unit="mag", ucd="phot.mag;em.opt.V"),
    Column(name="constellation", arraysize="*"),
    Column(name="separation", datatype="double", unit="deg", ucd="pos.angDistance"),
)
#: What the one position that was given instead of a table becomes.
POSITION_COLUMNS = (
    Column(name="in_ra", datatype="double", unit="deg", ucd="pos.eq.ra;meta.main"),
    Column(name="in_dec", datatype="double", unit="deg", ucd="pos.eq.dec;meta.main"),
)
#: The parameters of media types, as far as they are about how results are written.
_WRITTEN = {"serialization": "TABLEDATA", "charset": "utf-8"}
_ROWS_PER_REPORT = 5000


@dataclass(frozen=True, kw_only=True)
class MessierObject:
    """
    One object of the catalogue.

    @ivar ra: in degrees, as is C{dec}.
    @ivar magnitude: in V, of the whole object.
    """

    name: str
    type: str
    ra: float
    dec: float
    magnitude: float
    constellation: str


@dataclass(frozen=True, kw_only=True)
class Match:
    """
    An object near a position.

    @ivar index: which position, from 0.
    @ivar separation: in degrees.
    """

    index: int
    object: MessierObject
    separation: float


@cache
def loadCatalogue() -> tuple[MessierObject, ...]:
    """All 110 objects, M1 first."""
    text = resources.files(__package__).joinpath("messier.csv").read_text("utf-8")
    return tuple(
        MessierObject(
            name=row["name"], type=row["type"], ra=float(row["ra"]), dec=float(row["dec"]),
            magnitude=float(row["magnitude"]), constellation=row["constellation"],
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


def separation(one: Position, other: Position) -> float:
    """
    The great-circle distance of two positions; everything is in degrees.

    Vincenty's formula, which loses no digits at any distance.

    >>> round(separation((359.5, 0), (0.5, 0)), 12)
    1.0
    """
    dec1, dec2 = radians(one[1]), radians(other[1])
    difference = radians(other[0] - one[0])
    across = cos(dec2) * sin(difference)
    along = cos(dec1) * sin(dec2) - sin(dec1) * cos(dec2) * cos(difference)
    inward = sin(dec1) * sin(dec2) + cos(dec1) * cos(dec2) * cos(difference)
    return degrees(atan2(hypot(across, along), inward))


def match(positions: Iterable[Position], radius: float) -> Iterator[Match]:
    """
    The objects within C{radius} degrees of each position, nearest first.

    Positions are taken one by one, and their matches come in the same order.
    """
    byDec = sorted(loadCatalogue(), key=lambda one: one.dec)
    decs = [one.dec for one in byDec]
    reach = radius + 1e-9  # for the rounding of the sum; the separation decides
    for index, position in enumerate(positions):
        dec = position[1]
        near = byDec[bisect_left(decs, dec - reach) : bisect_right(decs, dec + reach)]
        found = [(separation(position, (one.ra, one.dec)), one) for one in near]
        for distance, one in sorted(found, key=lambda pair: pair[0]):
            if distance <= radius:
                yield Match(index=index, object=one, separation=distance)


def tablePositions(table: Table) -> list[Position]:
    """
    The positions of a table's rows.

    @raise TableError: for the first that is none, with its row's number, from 1.
    """
    if not table.rows:
        raise TableError("The table has no rows; it needs at least one.")
    ra, dec = findPositions(table)
    return [
        (_coordinate(table, i, ra, 0, 360), _coordinate(table, i, dec, -90, 90))
        for i in range(len(table.rows))
    ]


def _coordinate(table: Table, row: int, column: int, lowest: float, highest: float) -> float:
    cell = table.rows[row][column]
    where = f"Row {row + 1}, column {table.columns[column].name!r}:"
    wanted = f"it must be a number of degrees from {lowest} to {highest}"
    if cell is None:
        raise TableError(f"{where} the value is missing; {wanted}.")
    try:
        value = float(str(cell).replace("_", "?"))  # Python would take 1_000
    except ValueError:
        raise TableError(f"{where} {str(cell)[:40]!r} is not a number; {wanted}.") from None
    if not (isfinite(value) and lowest <= value <= highest):
        raise TableError(f"{where} {cell} is out of range; {wanted}.")
    return value


def outputColumns(inputColumns: Sequence[Column]) -> tuple[Column, ...]:
    """
    The input's columns, then ours.

    An input column that has the name of one of ours, in any case, gets C{in_} before it, as
    often as it takes.
    """
    taken = {column.name.lower() for column in (*inputColumns, *MESSIER_COLUMNS)}
    ours = {column.name for column in MESSIER_COLUMNS}
    renamed = []
    for column in inputColumns:
        name = column.name
        while name.lower() in (taken if name != column.name else ours):
            name = f"in_{name}"
        taken.add(name.lower())
        renamed.append(replace(column, name=name))
    return (*renamed, *MESSIER_COLUMNS)


def outputRow(inputRow: Row, found: Match) -> Row:
    """An input row, and the cells of L{MESSIER_COLUMNS} for one of its matches."""
    one = found.object
    about = (one.name, one.type, one.ra, one.dec, one.magnitude, one.constellation)
    return (*inputRow, *about, round(found.separation, 8))


class Messier(UWSJob):
    """Cross-match a table, or one position, with the Messier catalogue."""

    table = p.File(
        description="A VOTable, CSV or TSV with positions in degrees (ICRS); instead of ra and dec."
    )
    ra = p.Real(
        unit="deg", ucd="pos.eq.ra", minimum=0, maximum=360,
        description="Right ascension (ICRS) of one position; instead of a table.",
    )  # fmt: skip
    dec = p.Real(
        unit="deg", ucd="pos.eq.dec", minimum=-90, maximum=90,
        description="Declination (ICRS) of that position.",
    )  # fmt: skip
    radius = p.Real(
        unit="deg", ucd="pos.angDistance", default=0.5, minimum=0, maximum=180,
        description="How far from a position an object may be.",
    )  # fmt: skip
    RESPONSEFORMAT = p.Format(
        formats={"votable": "application/x-votable+xml", "csv": "text/csv;header=present"},
        description="What the main result is to be; there is always a CSV beside it.",
    )

    restartable = True

    def checkComplete(self) -> None:
        """Beyond what any job needs: a media type can ask for what is written here only."""
        super().checkComplete()
        for name, value in self.RESPONSEFORMAT.parameters.items():
            written = _WRITTEN.get(name, value)
            if value.lower() != written.lower():
                why = f"{name} is always {written}, and cannot be {value[:20]!r}"
                raise ParameterError("RESPONSEFORMAT", why)

    def run(self) -> None:
        """Write the matches twice, as what is asked for and as CSV."""
        try:
            table = self._input()
            positions = tablePositions(table)
        except TableError as e:
            raise JobFailure(str(e)) from e
        columns = outputColumns(table.columns)
        infos = {"radius": f"{self.radius}", "input_rows": f"{len(positions)}"}
        wanted = self.RESPONSEFORMAT
        file = "result.vot" if wanted.name == "votable" else "result"
        with self.openResult("result", wanted.mediaType, file) as out:
            rows = self._rows(table, positions, 0.0)
            if wanted.name == "votable":
                writeVOTable(out, columns, rows, infos)
            else:
                writeCSV(out, columns, rows)
        with self.openResult("result.csv", "text/csv") as out:
            writeCSV(out, columns, self._rows(table, positions, 0.5))
        self.reportProgress(1.0, f"positions matched: {len(positions)}")

    def _input(self) -> Table:
        """The uploaded table, or one of one row."""
        position = (self.ra, self.dec)
        if self.table is not None:
            if position != (None, None):
                raise JobFailure("Both a table and a position were given; give one of them.")
            return readTable(self.table)
        if position == (None, None):
            raise JobFailure("There is nothing to match; give a table, or ra and dec.")
        if None in position:
            missing = "ra" if self.ra is None else "dec"
            raise JobFailure(f"A position needs ra and dec, in degrees; {missing} is missing.")
        return Table(columns=POSITION_COLUMNS, rows=[position])

    def _rows(self, table: Table, positions: Sequence[Position], done: float) -> Iterator[Row]:
        """
        The rows of a result.

        @param done: the part of the work before this, which is one half of it.
        """
        for found in match(self._reporting(positions, done), self.radius):
            yield outputRow(table.rows[found.index], found)

    def _reporting(self, positions: Sequence[Position], done: float) -> Iterator[Position]:
        for i, position in enumerate(positions):
            if i % _ROWS_PER_REPORT == 0:
                what = f"{i} of {len(positions)} positions, {'result.csv' if done else 'result'}"
                self.reportProgress(done + i / len(positions) / 2, what)
            yield position
