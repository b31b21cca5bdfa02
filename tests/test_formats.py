"""Formats of results, as clients choose them with DALI's RESPONSEFORMAT."""

from __future__ import annotations

import doctest

import pytest
import pytest_twisted
from lxml import etree
from twisted.internet.defer import Deferred

from tests.serving import HREF, serve, text
from tests.working import makeRecord
from twuws import UWSJob, config, formats
from twuws import parameters as p
from twuws.backends.commandline import expand, expandResults, formatIn
from twuws.documents.vosi import capabilitiesDocument
from twuws.errors import ConfigError, ParameterError
from twuws.examples.messier import Messier
from twuws.parameters import Format, ResponseFormat

VOTABLE = "application/x-votable+xml"
TWO = {"votable": VOTABLE, "csv": "text/csv;header=present"}
#: As TAP services have them.
SERIALIZED = {
    "b2": f"{VOTABLE};serialization=binary2",
    "votable": VOTABLE,
    "td": f"{VOTABLE};serialization=tabledata",
    "xml": "text/xml",
}


def parsed(declared, text):
    found = Format(formats=declared).parse(text)
    return found.name, found.mediaType


@pytest.mark.parametrize(
    ("text", "name", "mediaType"),
    [
        ("votable", "votable", VOTABLE),
        ("VOTable", "votable", VOTABLE),
        ("csv", "csv", "text/csv;header=present"),
        ("text/csv", "csv", "text/csv"),
        (" Text/CSV ", "csv", "Text/CSV"),
        ("text/csv;header=present", "csv", "text/csv;header=present"),
        ('text/csv; HEADER="Present"', "csv", 'text/csv; HEADER="Present"'),
        ('text/csv; header="pre\\sent"', "csv", 'text/csv; header="pre\\sent"'),
        ('text/csv;x="a;b,c";header=present', "csv", 'text/csv;x="a;b,c";header=present'),
        ("text/xml", "votable", "text/xml"),
        ("text/xml; serialization=tabledata", "votable", "text/xml; serialization=tabledata"),
    ],
)
def test_what_a_client_sends(text, name, mediaType):
    assert parsed(TWO, text) == (name, mediaType)


@pytest.mark.parametrize(
    "text",
    [
        *("fits", "vot", "text", "csv;header=present", "text/html", "application/xml", "*/*", ""),
        *("text/csv;header=absent", "text/csv;header", "text/csv header=present", "text/csv,"),
        *("text/csv;header=present\r\nX: y", 'text/csv;a="', "text/csv;a=\u00e4"),
    ],
)
def test_what_is_refused(text):
    with pytest.raises(ParameterError) as caught:
        parsed(TWO, text)
    known = f"is not one of votable ({VOTABLE}), csv (text/csv;header=present)"
    assert str(caught.value).endswith(known)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (VOTABLE, "b2"),
        (f"{VOTABLE};serialization=BINARY2", "b2"),
        (f"{VOTABLE};serialization=TABLEDATA", "td"),
        (f"{VOTABLE};serialization=fits", "votable"),
        ("text/xml", "xml"),
        ("text/xml;serialization=tabledata", "xml"),
    ],
)
def test_one_media_type_for_several(text, name):
    """The parameters decide, then the order; a declared text/xml is no VOTable."""
    assert parsed(SERIALIZED, text) == (name, text)


def test_other_spellings_of_votable_only():
    assert parsed({"votable": "text/xml"}, VOTABLE) == ("votable", VOTABLE)
    for declared, sent in (({"xml": "text/xml"}, VOTABLE), ({"csv": "text/csv"}, "text/xml")):
        with pytest.raises(ParameterError):
            parsed(declared, sent)


@pytest.mark.parametrize("text", ["csv", "CSV", "text/csv", "text/csv; header=present", "text/xml"])
def test_stored_as_it_was_sent(text):
    declared = Format(formats=TWO)
    assert declared.accept(text) == text
    assert declared.parse(declared.serialize(declared.parse(text))) == declared.parse(text)


def test_two_names_of_one_media_type():
    """What was chosen is what comes back."""
    declared = Format(formats={"csv": "text/csv", "excel": "text/csv"})
    assert declared.serialize(declared.parse("Excel")) == "excel"


def test_parameters_of_the_media_type():
    """For job classes, which are to do as they say."""
    found = Format(formats=TWO).parse('text/csv; Header=present;charset="UTF-8"')
    assert found.parameters == {"header": "present", "charset": "UTF-8"}


def valueOf(declared, **values):
    cls = type("Some", (UWSJob,), {"RESPONSEFORMAT": declared})
    return cls(makeRecord(**values)).RESPONSEFORMAT


def test_default():
    csv = ResponseFormat(name="csv", mediaType="text/csv;header=present")
    assert valueOf(Format(formats=TWO)).name == "votable"
    assert valueOf(Format(formats=TWO, default="csv")) == csv
    assert valueOf(Format(formats=TWO, default=csv)) == csv
    assert valueOf(Format(formats=TWO, required=True)) is None
    assert valueOf(Format(formats=TWO), RESPONSEFORMAT="csv") == csv


def test_multiple():
    declared = Format(formats=TWO, multiple=True)
    found = valueOf(declared, RESPONSEFORMAT=["csv", "text/xml"])
    assert [one.name for one in found] == ["csv", "votable"]
    assert [one.name for one in valueOf(declared)] == ["votable"]
    with pytest.raises(ParameterError, match="2 values were given"):
        Format(formats=TWO).acceptAll(("csv", "csv"))


@pytest.mark.parametrize(
    "wrong",
    [
        *({}, None, ["text/csv"], {"": "text/csv"}, {3: "text/csv"}, {"a;b": "text/csv"}),
        *({"csv": 3}, {"csv": "csv"}, {"csv": ""}, {"csv": "text/*"}, {"csv": "text/csv\n"}),
        *({"csv": "text/csv;a=b;a=c"}, {"csv": "text/csv", "CSV": "text/csv"}),
    ],
    ids=str,
)
def test_wrong_declarations(wrong):
    with pytest.raises(ValueError, match=r"expected|no media type|twice"):
        Format(formats=wrong)


def load(tmp_path, toml):
    path = tmp_path / "uws.toml"
    path.write_text(f"[services.noted]\n{toml}")
    (service,) = config.load(str(path)).services
    return service


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("parameters.f = {type = 'Format'}", ".f] formats: expected short names with"),
        ("parameters.f = {type = 'Format', formats = {}}", ".f] formats: expected short names"),
        ("parameters.f = {type = 'Format', formats = 3}", "found 3"),
        ("parameters.f = {type = 'Format', formats = {csv = 'csv'}}", "found {'csv': 'csv'}"),
        (
            "parameters.f = {type = 'Format', formats = {csv = 'text/csv'}, default = 'fits'}",
            "'fits' is not one of csv (text/csv)",
        ),
        ("results.r = {type = '{f}'}", ".r] type: expected the name of a Format parameter (none)"),
        ("parameters.f = {type = 'Text'}\nresults.r = {type = '{f}'}", "(none) in braces"),
        (
            "parameters.f = {type = 'Format', multiple = true, formats = {csv = 'text/csv'}}\n"
            "results.r = {type = '{f}'}",
            "(none) in braces, found 'f'",
        ),
        (
            "parameters.f = {type = 'Format', formats = {csv = 'text/csv'}}\n"
            "results.r = {type = '{g}'}",
            "(f) in braces, found 'g'",
        ),
        ("results.r = {type = 'text/{f}'}", "type: 'text/{f}': braces are around the name"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path, toml, expected):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"command = ['cat']\n{toml}\n")
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_mistake_in_a_format_is_told_once(tmp_path):
    """Not again where a result refers to it."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "command = ['cat']\nparameters.f.type = 'Format'\nresults.r.type = '{f}'\n")
    assert len(str(caught.value).splitlines()) == 1


class Convert(UWSJob):
    """As a program would."""

    RESPONSEFORMAT = Format(formats=TWO)
    many = Format(formats=TWO, multiple=True)
    word = p.Text()


def test_command_lines_have_the_short_name():
    def expanded(**values):
        command = ("p", "--to={RESPONSEFORMAT}")
        return expand(command, Convert(makeRecord(**values)))[1:]

    assert expanded() == ["--to=votable"]
    assert expanded(RESPONSEFORMAT="CSV") == ["--to=csv"]
    assert expanded(RESPONSEFORMAT="text/csv; header=present") == ["--to=csv"]


def test_types_of_results():
    job = Convert(makeRecord(RESPONSEFORMAT="text/xml"))
    results = ({"id": "a", "mediaType": "{RESPONSEFORMAT}"}, {"id": "b", "mediaType": "image/png"})
    assert expandResults(results, job) == [
        {"id": "a", "mediaType": "text/xml"},
        {"id": "b", "mediaType": "image/png"},
    ]
    assert formatIn("{a}") == "a"
    for wrong in ("{word}", "{many}", "{nope}", "text/{RESPONSEFORMAT}"):
        with pytest.raises(ValueError, match=r"type Format only|braces"):
            expandResults([{"mediaType": wrong}], job)


def test_capabilities():
    content = capabilitiesDocument("http://x", "X", {"RESPONSEFORMAT": Format(formats=TWO)})
    (param,) = etree.fromstring(content).iterfind(".//param")
    (dataType,) = param.iterfind("dataType")
    assert (dataType.text, dataType.get("arraysize")) == ("char", "*")
    assert param.get("use") == "optional"
    assert "one of votable (application/x-votable+xml), csv" in param.findtext("description")


def test_the_examples_in_the_module():
    found = doctest.testmod(formats)
    assert found.attempted
    assert not found.failed


# Over HTTP

ORION = {"ra": "83.82", "dec": "-5.39"}


@pytest.fixture
def start(database, tmp_path):
    """Serve a job class; what it returns is stopped in the end."""
    begun = []

    async def begin(jobClass):
        begun.append(await serve(database, tmp_path / "jobs", jobClass))
        return begun[-1]

    yield begin
    for one in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


async def run(serving, wanted):
    """What C{sync} leads to in the end: its result, or an error."""
    url = serving.base + "/sync"
    form = {**ORION, **({} if wanted is None else {"RESPONSEFORMAT": wanted})}
    answer = await serving.post(url, form)
    while answer.status == 303:
        answer = await serving.get(answer.location)
    return answer


async def test_clients_choose(start):
    """The media type is what was asked for, and so is what is in the result (D-027)."""
    serving = await start(Messier)
    for wanted, mediaType, begin in (
        (None, VOTABLE, "<VOTABLE"),
        ("text/csv;header=present", "text/csv;header=present", "in_ra,in_dec,"),
        ("CSV", "text/csv;header=present", "in_ra,in_dec,"),
        ("text/xml; serialization=tabledata", "text/xml; serialization=tabledata", "<VOTABLE"),
    ):
        answer = await run(serving, wanted)
        assert (answer.status, answer.headers["content-type"]) == (200, mediaType)
        assert answer.text.startswith(begin)
        assert "M42" in answer.text


async def test_clients_choose_what_there_is_not(start):
    """At once, where the declaration can tell; else when the job is to run."""
    serving = await start(Messier)
    for wanted in ("fits", "text/csv;header=absent"):
        answer = await run(serving, wanted)
        assert answer.status == 400
        expected = f"{wanted!r} is not one of votable ({VOTABLE}), csv (text/csv;header=present)"
        assert f"Parameter RESPONSEFORMAT: {expected}" in answer.text
    answer = await run(serving, f"{VOTABLE};serialization=BINARY2")
    assert answer.status == 400
    assert "serialization is always TABLEDATA, and cannot be 'BINARY2'" in answer.text


async def test_the_main_result_only(start):
    """Of several results the choice is about the primary one (D-028)."""
    serving = await start(Messier)
    url = await serving.create({**ORION, "RESPONSEFORMAT": "csv", "PHASE": "RUN"})
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"
    types = {one.get("id"): one.get("mime-type") for one in job.find("{*}results")}
    assert types == {"result": "text/csv;header=present", "result.csv": "text/csv"}
    contents = [(await serving.get(one.get(HREF))).content for one in job.find("{*}results")]
    assert contents[0] == contents[1]


async def test_checked_at_run(start):
    class Late(Messier):
        """Takes what it cannot do, and says so at RUN."""

        valuesAreCheckedAtRun = True

        async def run(self):
            pass

    serving = await start(Late)
    for name, value, expected in (
        ("RESPONSEFORMAT", "fits", "'fits' is not one of votable"),
        ("ra", "x", "'x' is not a number"),
    ):
        url = await serving.create({**ORION, name: value, "PHASE": "RUN"})
        job = await serving.ended(url)
        assert text(job, "phase") == "ERROR"
        assert expected in text(job, "errorSummary/message")


async def test_programs(start, tmp_path):
    service = load(
        tmp_path,
        """
command = ["echo", "{RESPONSEFORMAT}"]
parameters.RESPONSEFORMAT = {type = "Format", formats = {csv = "text/csv", text = "text/plain"}}
results.out = {type = "{RESPONSEFORMAT}", stream = "stdout"}
results.other = {type = "image/png", optional = true}
""",
    )
    serving = await start(service.jobClass)
    for wanted, mediaType, name in (
        (None, "text/csv", "csv"),
        ("text", "text/plain", "text"),
        ("Text/Plain;charset=utf-8", "Text/Plain;charset=utf-8", "text"),
    ):
        answer = await run(serving, wanted)
        assert (answer.status, answer.headers["content-type"]) == (200, mediaType)
        assert answer.text == f"{name}\n"
