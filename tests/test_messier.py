"""The example job class: its catalogue, its matching, and a run of it."""

from __future__ import annotations

import csv
import io
import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from twuws.errors import JobFailure
from twuws.examples import messier
from twuws.examples.cells import Column, Table, TableError
from twuws.examples.messier import Messier, Position, loadCatalogue, match, separation
from twuws.examples.tables import readTable
from twuws.jobs import JobRecord
from twuws.values import FileValue, Value
from twuws.workdir import WorkDir

_XSD = Path(__file__).parents[2] / "shared" / "xsd" / "VOTable.xsd"

TYPES = {
    "asterism", "double star", "emission nebula", "galaxy", "globular cluster", "open cluster",
    "planetary nebula", "reflection nebula", "star cloud", "supernova remnant",
}  # fmt: skip


def degreesOf(position: str) -> Position:
    """Degrees from C{"05 34 31.94 +22 00 52.2"}."""
    h, m, s, d, dm, ds = position.split()
    dec = abs(int(d)) + int(dm) / 60 + float(ds) / 3600
    return 15 * (int(h) + int(m) / 60 + float(s) / 3600), math.copysign(dec, float(d + "1"))


def named(name: str) -> messier.MessierObject:
    return next(one for one in loadCatalogue() if one.name == name)


class TestCatalogue:
    def test_complete(self) -> None:
        assert [one.name for one in loadCatalogue()] == [f"M{i}" for i in range(1, 111)]
        assert len({(one.ra, one.dec) for one in loadCatalogue()}) == 110

    def test_ranges(self) -> None:
        for one in loadCatalogue():
            assert 0 <= one.ra < 360, one
            assert -35 < one.dec < 70, one
            assert 1 < one.magnitude < 11, one
            assert re.fullmatch("[A-Z][A-Za-z]{2}", one.constellation), one
        assert {one.type for one in loadCatalogue()} == TYPES

    @pytest.mark.parametrize(
        ("name", "position"),
        [
            ("M1", "05 34 31.94 +22 00 52.2"),  # the Crab pulsar
            ("M2", "21 33 27.02 -00 49 23.7"),
            ("M13", "16 41 41.24 +36 27 35.5"),
            ("M22", "18 36 23.94 -23 54 17.1"),
            ("M27", "19 59 36.34 +22 43 16.1"),
            ("M31", "00 42 44.33 +41 16 07.5"),
            ("M42", "05 35 16.46 -05 23 22.8"),  # theta1 Orionis C
            ("M51", "13 29 52.70 +47 11 42.9"),
            ("M57", "18 53 35.08 +33 01 45.0"),
            ("M77", "02 42 40.71 -00 00 47.9"),
            ("M87", "12 30 49.42 +12 23 28.0"),
            ("M102", "15 06 29.50 +55 45 47.6"),  # NGC 5866
            ("M104", "12 39 59.43 -11 37 23.0"),
        ],
    )
    def test_knownPositions(self, name: str, position: str) -> None:
        one = named(name)
        assert separation((one.ra, one.dec), degreesOf(position)) * 3600 < 5

    @pytest.mark.parametrize(
        ("name", "type", "constellation"),
        [
            ("M24", "star cloud", "Sgr"),
            ("M25", "open cluster", "Sgr"),
            ("M40", "double star", "UMa"),
            ("M45", "open cluster", "Tau"),
            ("M48", "open cluster", "Hya"),
            ("M73", "asterism", "Aqr"),
            ("M91", "galaxy", "Com"),
            ("M102", "galaxy", "Dra"),
        ],
    )
    def test_thoseThatAreEasyToGetWrong(self, name: str, type: str, constellation: str) -> None:
        assert (named(name).type, named(name).constellation) == (type, constellation)

    def test_nearOnTheSky(self) -> None:
        """M84 and M86 are 17' apart, M81 and M82 37', M42 and M43 8': a check on all six."""
        for one, other, arcminutes in (("M84", "M86", 17), ("M81", "M82", 37), ("M42", "M43", 8)):
            a, b = named(one), named(other)
            assert separation((a.ra, a.dec), (b.ra, b.dec)) * 60 == pytest.approx(arcminutes, abs=1)


class TestSeparation:
    @pytest.mark.parametrize(
        ("one", "other", "expected"),
        [
            ((10, 20), (10, 20), 0),
            ((359.75, 0), (0.25, 0), 0.5),
            ((0, 89), (180, 89), 2),
            ((17, 90), (250, 89.5), 0.5),
            ((17, -90), (250, 90), 180),
            ((0, 0), (180, 0), 180),
            ((0, 0), (90, 45), 90),
            ((100, 0), (100, 1e-9), 1e-9),
            ((100, 60), (100 + 2e-9, 60), 1e-9),
        ],
    )
    def test_known(self, one: Position, other: Position, expected: float) -> None:
        assert separation(one, other) == pytest.approx(expected, rel=1e-4, abs=1e-15)
        assert separation(other, one) == pytest.approx(expected, rel=1e-4, abs=1e-15)


class TestMatch:
    def test_nearestFirstInTheOrderOfTheInput(self) -> None:
        found = list(match([(10.68, 41.27), (0, 0), (83.82, -5.39)], 0.8))
        assert [(m.index, m.object.name) for m in found] == [
            (0, "M31"), (0, "M32"), (0, "M110"), (2, "M42"), (2, "M43"),
        ]  # fmt: skip
        assert found[0].separation < found[1].separation < found[2].separation <= 0.8

    def test_theRadiusIsInclusive(self) -> None:
        m1 = named("M1")
        assert [m.separation for m in match([(m1.ra, m1.dec)], 0)] == [0]
        edge = separation((80, 20), (m1.ra, m1.dec))
        assert "M1" in [m.object.name for m in match([(80, 20)], edge)]
        assert "M1" not in [m.object.name for m in match([(80, 20)], edge * 0.999999)]

    def test_everythingIsWithin180Degrees(self) -> None:
        assert len(list(match([(0, 90)], 180))) == 110
        assert len(list(match([(123, -45)], 180))) == 110

    def test_acrossRightAscensionZero(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.catalogue(monkeypatch, (0.1, 10), (359.9, 10), (180, 10))
        for ra in (0, 360, 359.95, 0.05):
            assert len(list(match([(ra, 10)], 0.2))) == 2

    @pytest.mark.parametrize("pole", [90, -90])
    def test_nearThePoles(self, monkeypatch: pytest.MonkeyPatch, pole: int) -> None:
        near = math.copysign(89.7, pole)
        self.catalogue(monkeypatch, (0, near), (120, near), (240, near), (0, 0))
        assert len(list(match([(77, pole)], 0.301))) == 3
        assert len(list(match([(0, near)], 0.6))) == 3
        assert len(list(match([(180, near)], 0.2))) == 0

    def catalogue(self, patch: pytest.MonkeyPatch, *positions: Position) -> None:
        objects = tuple(
            messier.MessierObject(
                name=f"X{ra}", type="galaxy", ra=ra, dec=dec, magnitude=9, constellation="UMi"
            )
            for ra, dec in positions
        )
        patch.setattr(messier, "loadCatalogue", lambda: objects)


class TestTablePositions:
    def positions(self, *rows: tuple[str | float | None, ...]) -> list[Position]:
        columns = (Column(name="RA"), Column(name="Dec"))
        return messier.tablePositions(Table(columns=columns, rows=rows))

    def test_good(self) -> None:
        assert self.positions(("1.5", "-2"), (360, 90.0)) == [(1.5, -2), (360, 90)]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("05:34:31", "1"), "Row 2, column 'RA': '05:34:31' is not a number; it must be a"),
            (("-1", "1"), "Row 2, column 'RA': -1 is out of range; it must be a number of degrees"),
            (("1", "90.1"), "column 'Dec': 90.1 is out of range; it must be a number of degrees"),
            (("1", None), "Row 2, column 'Dec': the value is missing"),
            (("nan", "1"), "nan is out of range"),
        ],
    )
    def test_bad(self, row: tuple[str | None, ...], message: str) -> None:
        with pytest.raises(TableError) as caught:
            self.positions(("1", "2"), row)
        assert message in str(caught.value)

    def test_noRows(self) -> None:
        with pytest.raises(TableError, match="The table has no rows"):
            self.positions()


class TestOutputColumns:
    def test_oursKeepTheirNames(self) -> None:
        given = [Column(name=name) for name in ("ra", "TYPE", "in_type", "messier_name")]
        names = [column.name for column in messier.outputColumns(given)]
        assert names[:4] == ["ra", "in_in_TYPE", "in_type", "in_messier_name"]
        assert names[4:] == [
            "messier_name", "type", "messier_ra", "messier_dec", "magnitude", "constellation",
            "separation",
        ]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> WorkDir:
    made = WorkDir(tmp_path / "job")
    made.create()
    made.furnish()
    return made


def runMessier(place: WorkDir, upload: str | None = None, **texts: str) -> None:
    """Run the job class in a real job directory."""
    parameters: dict[str, tuple[Value, ...]] = {name: (text,) for name, text in texts.items()}
    if upload is not None:
        (place.parameters / "table").write_text(upload)
        parameters["table"] = (FileValue(file="table", size=len(upload)),)
    record = JobRecord(
        service="messier", jobId="0" * 24, creationTime=datetime.now(UTC), parameters=parameters
    )
    Messier(record, workPlace=place).run()


def csvResult(place: WorkDir) -> list[dict[str, str]]:
    text = place.resultPath("result.csv").read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


class TestRun:
    def test_onePosition(self, place: WorkDir) -> None:
        runMessier(place, ra="83.6", dec="22")
        (row,) = csvResult(place)
        assert list(row)[:3] == ["in_ra", "in_dec", "messier_name"]
        assert (row["in_ra"], row["messier_name"], row["type"]) == (
            "83.6", "M1", "supernova remnant",
        )  # fmt: skip
        assert 0.03 < float(row["separation"]) < 0.04

    def test_table(self, place: WorkDir) -> None:
        runMessier(place, "name,ra,dec\na,10.68,41.27\nb,0,0\nc,202.47,47.2\n", radius="0.8")
        found = [(row["name"], row["messier_name"]) for row in csvResult(place)]
        assert found == [("a", "M31"), ("a", "M32"), ("a", "M110"), ("c", "M51")]

    def test_bothResultsAreTheSameTable(self, place: WorkDir) -> None:
        runMessier(place, "type,ra,dec\nx,10.68,41.27\n")
        table = readTable(place.resultPath("result.vot"))
        names = [column.name for column in table.columns]
        rows = [
            {n: "" if c is None else c for n, c in zip(names, r, strict=True)} for r in table.rows
        ]
        assert rows == csvResult(place)
        assert names[0] == "in_type"

    def test_theVOTableIsValid(self, place: WorkDir) -> None:
        runMessier(place, ra="10.68", dec="41.27")
        document = etree.parse(place.resultPath("result.vot"))
        assert document.getroot().get("version") == "1.4"
        if _XSD.exists():
            etree.XMLSchema(etree.parse(_XSD)).assertValid(document)

    def test_whatItReports(self, place: WorkDir) -> None:
        runMessier(place, "ra,dec\n" + "0,0\n" * 6000)
        events, _ = place.readEvents()
        results = [(e["id"], e["mediaType"]) for e in events if e["event"] == "result"]
        assert results == [("result", "application/x-votable+xml"), ("result.csv", "text/csv")]
        fractions = [e["fraction"] for e in events if e["event"] == "progress"]
        assert fractions == sorted(fractions)
        assert (len(fractions), fractions[-1]) == (5, 1.0)

    @pytest.mark.parametrize(
        ("upload", "texts", "message"),
        [
            (None, {}, "There is nothing to match; give a table, or ra and dec."),
            (None, {"ra": "1"}, "A position needs ra and dec, in degrees; dec is missing."),
            (None, {"dec": "1"}, "A position needs ra and dec, in degrees; ra is missing."),
            ("ra,dec\n1,2\n", {"ra": "1"}, "Both a table and a position were given"),
            ("x,y\n1,2\n", {}, "The columns are: x, y"),
            ("ra,dec\n", {}, "The table has no rows"),
            ("ra,dec\n1,2\n1,x\n", {}, "Row 2, column 'dec': 'x' is not a number"),
        ],
    )
    def test_mistakes(
        self, place: WorkDir, upload: str | None, texts: dict[str, str], message: str
    ) -> None:
        with pytest.raises(JobFailure) as caught:
            runMessier(place, upload, **texts)
        assert message in str(caught.value)
        assert list(place.results.iterdir()) == []
