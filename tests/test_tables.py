"""Reading uploaded tables, finding their positions, and writing results."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from twuws.examples.cells import Column, Row, Table, TableError
from twuws.examples.tables import findPositions, readTable, writeCSV
from twuws.examples.votable import writeVOTable

Read = Callable[[bytes | str], Table]

_XSD = Path(__file__).parents[2] / "shared" / "xsd" / "VOTable.xsd"
_VOT = "{http://www.ivoa.net/xml/VOTable/v1.3}"

FIELDS = """
<FIELD name="name" datatype="char" arraysize="*"/>
<FIELD name="greek" datatype="unicodeChar" arraysize="4"/>
<FIELD name="ra" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main"/>
<FIELD name="dec" datatype="float" unit="deg" ucd="pos.eq.dec;meta.main"/>
<FIELD name="n" datatype="int"><VALUES null="-99"/></FIELD>
<FIELD name="ok" datatype="boolean"/>
<FIELD name="byte" datatype="unsignedByte"/>
<FIELD name="short" datatype="short"/>
<FIELD name="long" datatype="long"/>
<FIELD name="pair" datatype="double" arraysize="2"/>
<FIELD name="list" datatype="long" arraysize="*"/>
<FIELD name="bits" datatype="bit" arraysize="10"/>
<FIELD name="z" datatype="floatComplex"/>
"""
TABLEDATA = """<TABLEDATA>
<TR><TD>Crab</TD><TD>αβ</TD><TD>83.633</TD><TD>22.0145</TD><TD>-7</TD><TD>T</TD><TD>200</TD>
<TD>-2</TD><TD>1099511627776</TD><TD>1.5 2.5</TD><TD>1 2 3</TD><TD>1010000001</TD>
<TD>0.5 -1</TD></TR>
<TR><TD></TD><TD>&#x3b3;</TD><TD>88.793</TD><TD></TD><TD>-99</TD><TD/><TD>1</TD><TD>3</TD><TD>-1</TD>
<TD>3.5 NaN</TD><TD/><TD>0000000000</TD><TD>0 0</TD></TR>
</TABLEDATA>"""
# What astropy 8.0.2 makes of this table.
BINARY = """
AAAABENyYWIDsQOyAAAAAEBU6IMSbpeNQbAdsv////lUyP/+AAABAAAAAAA/+AAAAAAAAEAEAAAAAAAAAAAAAwAAAAAAAAAB
AAAAAAAAAAIAAAAAAAAAA6BAPwAAAL+AAAAAAAAAA7MAAAAAAABAVjLAgxJumH/AAAD///+dPwEAA///////////QAwAAAAA
AAB/+AAAAAAAAAAAAAAAAAAAAAAAAAAA"""
BINARY2 = """
AAAAAAAEQ3JhYgOxA7IAAAAAQFTogxJul41BsB2y////+VTI//4AAAEAAAAAAD/4AAAAAAAAQAQAAAAAAAAAAAADAAAAAAAA
AAEAAAAAAAAAAgAAAAAAAAADoEA/AAAAv4AAABwAAAAAAAOzAAAAAAAAQFYywIMSbph/wAAA////nUYBAAP//////////0AM
AAAAAAAAf/gAAAAAAAAAAAAAAAAAAAAAAAAAAA=="""
TYPED: list[Row] = [
    ("Crab", "αβ", 83.633, 22.0145, -7, "T", 200, -2, 1099511627776, "1.5 2.5", "1 2 3",
     "1010000001", "0.5 -1.0"),
    (None, "\u03b3", 88.793, None, None, None, 1, 3, -1, "3.5 NaN", None, "0000000000", "0.0 0.0"),
]  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a table from bytes or text."""

    def fromData(data: bytes | str) -> Table:
        path = tmp_path / "upload"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return readTable(str(path))

    return fromData


def votable(data: str, fields: str = FIELDS, ns: str = _VOT[1:-1], version: str = "1.4") -> str:
    xmlns = f'xmlns="{ns}"' if ns else ""
    return (
        f'<?xml version="1.0"?>\n<!-- made by hand -->\n<VOTABLE version="{version}" {xmlns}>'
        f"<RESOURCE><TABLE>{fields}<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"
    )


def stream(kind: str, content: str | bytes) -> str:
    text = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return f'<{kind}><STREAM encoding="base64">{text}</STREAM></{kind}>'


class TestCSV:
    @pytest.mark.parametrize(
        "text",
        [
            "name,ra,dec\nCrab,83.6,22\nM 2,323.4,-0.8\n",
            "\ufeffname,ra,dec\r\nCrab,83.6,22\r\n\r\nM 2,323.4,-0.8",
            'name, ra, dec\n"Crab", 83.6, 22\nM 2,323.4,"-0.8"\n',
            "name\tra\tdec\nCrab\t83.6\t22\nM 2\t323.4\t-0.8\n",
            "name;ra;dec\nCrab;83.6;22\nM 2;323.4;-0.8\n",
        ],
        ids=["unix", "bom-crlf-blank", "quotes-spaces", "tabs", "semicolons"],
    )
    def test_dialects(self, read: Read, text: str) -> None:
        table = read(text)
        assert [c.name for c in table.columns] == ["name", "ra", "dec"]
        assert list(table.rows) == [("Crab", "83.6", "22"), ("M 2", "323.4", "-0.8")]

    def test_datatypesAreGuessed(self, read: Read) -> None:
        table = read("id,code,x,y,none\n1,007,1.5,1e3,\n-2,8,,nan,\n")
        assert [c.datatype for c in table.columns] == ["long", "char", "double", "double", "char"]
        assert table.rows[1] == ("-2", "8", None, "nan", None)

    def test_quotedFieldsMayHaveAnything(self, read: Read) -> None:
        assert read('a,b\n"x, ""y""\nz",1\n').rows == [('x, "y"\nz', "1")]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("", "The table is empty; send a VOTable, or CSV"),
            (" \n\n", "The table is empty"),
            ("a,b\n1,2\n3\n", "Line 3 has 1 fields, but the header line has 2"),
            ("1.5,2\n3,4\n", "Line 1 has numbers only; the first line must name the columns"),
            ("a,,c\n1,2,3\n", "Line 1: column 2 has no name"),
            ('a,b\n1,"2\n', "is not CSV: unexpected end of data"),
            (b"a,b\nx,\xe9\n", "Line 2: byte 6 of the file is not UTF-8"),
            (b"\x1f\x8b\x08\x00", "compressed"),
            (b"SIMPLE  =                    T", "a FITS file"),
        ],
    )
    def test_mistakes(self, read: Read, data: bytes | str, message: str) -> None:
        with pytest.raises(TableError) as caught:
            read(data)
        assert message in str(caught.value)


class TestVOTable:
    @pytest.mark.parametrize(
        ("ns", "version"),
        [
            ("", "1.1"),
            ("http://www.ivoa.net/xml/VOTable/v1.1", "1.1"),
            ("http://www.ivoa.net/xml/VOTable/v1.2", "1.2"),
            ("http://www.ivoa.net/xml/VOTable/v1.3", "1.5"),
        ],
    )
    def test_tableData(self, read: Read, ns: str, version: str) -> None:
        table = read(votable(TABLEDATA, ns=ns, version=version))
        assert table.columns[2] == Column(
            name="ra", datatype="double", unit="deg", ucd="pos.eq.ra;meta.main"
        )
        assert table.rows[0][:5] == ("Crab", "αβ", "83.633", "22.0145", "-7")
        assert table.rows[1][:6] == (None, "\u03b3", "88.793", None, None, None)

    def test_utf16(self, read: Read) -> None:
        text = votable(TABLEDATA).replace('<?xml version="1.0"?>', "")
        assert read(text.encode("utf-16")).rows[0][1] == "αβ"

    @pytest.mark.parametrize(("kind", "content"), [("BINARY", BINARY), ("BINARY2", BINARY2)])
    def test_binary(self, read: Read, kind: str, content: str) -> None:
        assert read(votable(stream(kind, content))).rows == TYPED

    def test_nullsOfBinary2AreFlagsNotValues(self, read: Read) -> None:
        fields = "".join(f'<FIELD name="c{i}" datatype="short"/>' for i in range(9))
        values = b"".join(i.to_bytes(2, "big") for i in range(9))
        table = read(votable(stream("BINARY2", b"\x01\x80" + values), fields))
        assert table.rows == [(0, 1, 2, 3, 4, 5, 6, None, None)]

    def test_theFirstTableCounts(self, read: Read) -> None:
        text = votable(TABLEDATA)
        second = text.replace("</RESOURCE>", "<TABLE/></RESOURCE><RESOURCE><TABLE/></RESOURCE>")
        assert len(read(second).columns) == 13

    def test_noDataIsNoRows(self, read: Read) -> None:
        assert list(read(votable("").replace("<DATA></DATA>", "")).rows) == []
        assert list(read(votable("<TABLEDATA/>")).rows) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("<VOTABLE>", "The VOTable is not well-formed XML"),
            ("<html/>", "its root is html, not VOTABLE"),
            ("<VOTABLE/>", "has no TABLE in a RESOURCE"),
            (votable("", fields=""), "has no FIELD"),
            (votable("<FITS/>"), "DATA has FITS; send TABLEDATA, BINARY or BINARY2"),
            (votable("<BINARY/>"), "BINARY has no STREAM of its own"),
            (votable('<BINARY><STREAM href="file:///etc/passwd"/></BINARY>'), "send the data inl"),
            (votable("<BINARY><STREAM>x</STREAM></BINARY>"), "must have encoding='base64'"),
            (votable(stream("BINARY2", "A*==")), "STREAM of BINARY2 is not base64"),
            (votable(stream("BINARY", b"\0\0\0\x09abc")), "Row 1, FIELD 'name': the binary data"),
            (votable("<TABLEDATA><TR><TD/></TR></TABLEDATA>"), "Row 1 has 1 TD; there are 13"),
            (votable("", '<FIELD name="x" datatype="real"/>'), "FIELD 'x': datatype 'real' is not"),
            (
                votable("", '<FIELD name="x" datatype="int" arraysize="n"/>'),
                "FIELD 'x': arraysize 'n' is not like",
            ),
            (
                votable(stream("BINARY", b"x"), '<FIELD name="x" datatype="int" arraysize="0"/>'),
                "rows have no bytes",
            ),
        ],
    )  # fmt: skip
    def test_mistakes(self, read: Read, text: str, message: str) -> None:
        with pytest.raises(TableError) as caught:
            read(text)
        assert message in str(caught.value)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_doctypesAreRefused(self, read: Read, tmp_path: Path, encoding: str) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        text = f'<!DOCTYPE VOTABLE [<!ENTITY e SYSTEM "{secret.as_uri()}">]>' + votable(
            "<TABLEDATA><TR><TD>&e;</TD></TR></TABLEDATA>", '<FIELD name="x" datatype="char"/>'
        ).removeprefix('<?xml version="1.0"?>')
        with pytest.raises(TableError, match="has a DOCTYPE, which is not accepted") as caught:
            read(text.encode(encoding))
        assert "secret" not in str(caught.value)


class TestPositions:
    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            ("ra dec", (0, 1)),
            ("id DE RA", (2, 1)),
            ("_RAJ2000 _DEJ2000 RAJ2000 DEJ2000", (2, 3)),
            ("RA_ICRS x DE_ICRS", (0, 2)),
            ("ra raj2000 dej2000", (1, 2)),
            ("ra dec x|pos.eq.ra y|pos.eq.dec", (2, 3)),
            ("x|pos.eq.ra y|pos.eq.dec a|POS.EQ.RA;META.MAIN b|pos.eq.dec;meta.main", (2, 3)),
            ("y|POS_EQ_DEC_MAIN x|POS_EQ_RA_MAIN", (1, 0)),
            ("e|stat.error;pos.eq.ra f|stat.error;pos.eq.dec alpha delta", (2, 3)),
        ],
    )
    def test_found(self, columns: str, found: tuple[int, int]) -> None:
        assert findPositions(self.table(columns)) == found

    def test_notFound(self) -> None:
        with pytest.raises(TableError) as caught:
            findPositions(self.table("ra lat|pos.galactic.lat"))
        message = str(caught.value)
        assert "The columns are: ra, lat (UCD pos.galactic.lat)" in message
        assert "pos.eq.ra" in message
        assert "raj2000/dej2000" in message

    def test_unit(self) -> None:
        columns = (Column(name="RA", unit="h"), Column(name="Dec", unit="deg"))
        with pytest.raises(TableError, match="Column 'RA' has the unit 'h'; it must be in deg"):
            findPositions(Table(columns=columns, rows=[]))

    def table(self, columns: str) -> Table:
        pairs = [(*text.split("|"), None)[:2] for text in columns.split()]
        return Table(columns=tuple(Column(name=str(n), ucd=u) for n, u in pairs), rows=[])


class TestWriting:
    columns = (
        Column(name="id", datatype="long"),
        Column(name="na<me", arraysize="*", ucd="meta.id"),
        Column(name="x", datatype="double", unit="deg", ucd="pos.eq.ra;meta.main"),
    )
    rows: tuple[Row, ...] = ((1, 'a, "b" & <c>', 0.1), (None, "ü\x01", float("inf")))

    def written(self) -> bytes:
        out = io.BytesIO()
        writeVOTable(out, self.columns, iter(self.rows), {"radius": "0.5"})
        return out.getvalue()

    def test_votable(self) -> None:
        root = etree.fromstring(self.written())
        assert (root.tag, root.get("version")) == (_VOT + "VOTABLE", "1.4")
        resource = root.find(f"{_VOT}RESOURCE")
        assert resource is not None
        assert resource.get("type") == "results"
        infos = {i.get("name"): i.get("value") for i in resource.findall(f"{_VOT}INFO")}
        assert infos == {"QUERY_STATUS": "OK", "radius": "0.5"}
        cells = [[td.text for td in tr] for tr in root.iter(f"{_VOT}TR")]
        assert cells == [["1", 'a, "b" & <c>', "0.1"], [None, "ü?", "+Inf"]]

    def test_votableIsValid(self) -> None:
        root = etree.fromstring(self.written())
        assert len(root.findall(f".//{_VOT}FIELD")) == 3
        if _XSD.exists():
            etree.XMLSchema(etree.parse(_XSD)).assertValid(root)

    def test_whatIsWrittenCanBeRead(self, read: Read) -> None:
        table = read(self.written())
        assert table.columns == self.columns
        assert table.rows[0] == ("1", 'a, "b" & <c>', "0.1")

    def test_csv(self) -> None:
        out = io.BytesIO()
        writeCSV(out, self.columns, iter(self.rows[:1]))
        assert out.getvalue() == b'id,na<me,x\r\n1,"a, ""b"" & <c>",0.1\r\n'
        assert len(list(csv.reader(io.StringIO(out.getvalue().decode())))) == 2


class TestAstropy:
    """What astropy writes we read, and the other way round."""

    @pytest.mark.parametrize("kind", ["tabledata", "binary", "binary2"])
    def test_itsTables(self, read: Read, kind: str) -> None:
        astropy = pytest.importorskip("astropy.io.votable")
        out = io.BytesIO()
        astropy.parse(io.BytesIO(votable(TABLEDATA).encode())).to_xml(out, tabledata_format=kind)
        rows = read(out.getvalue()).rows
        assert [(row[0], float(str(row[2]))) for row in rows] == [("Crab", 83.633), (None, 88.793)]
        assert [row[8:12] for row in rows] == [
            tuple(str(c) if kind == "tabledata" and c is not None else c for c in row[8:12])
            for row in TYPED
        ]

    def test_ourTables(self) -> None:
        astropy = pytest.importorskip("astropy.io.votable")
        columns, rows = TestWriting.columns[::2], [(1, 0.1), (2, None)]
        out = io.BytesIO()
        writeVOTable(out, columns, rows, {})
        table = astropy.parse_single_table(out, verify="exception").to_table()
        assert (list(table["id"]), table["x"][0]) == ([1, 2], 0.1)
        assert str(table["x"].unit) == "deg"
