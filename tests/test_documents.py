"""Jobs as XML: whole documents, and that any text at all survives in them."""

from __future__ import annotations

import io
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree
from pyvo.io.uws import parse_job, parse_job_list
from vo_models.uws import Jobs, JobSummary, Parameter, Parameters

from tests.validation import UWS, XSI, validate
from twuws.documents import (
    jobDocument,
    jobListDocument,
    jobListEnd,
    jobListStart,
    jobRef,
    parametersDocument,
    resultsDocument,
    xmlText,
)
from twuws.documents.xml import JOB_INFO, XLINK
from twuws.jobs import JobError, JobRecord, JobRef, Result, UWSJob
from twuws.phases import ABORTED, ARCHIVED, COMPLETED, ERROR, EXECUTING, PENDING, Phase
from twuws.values import FileValue, Values

URL = "https://example.org/data/cutout/jobs/1a2b"
CREATED = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NAMESPACES = (
    'xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
ANY_NAME = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 1), timezones=st.just(UTC))
SPECIMENS = "\0 \x01 \ud800 \udfff \ufffe \uffff \r\n \r ]]> <&>\"' \x7f\x85\u2028 \U0001f600 "


def makeJob(**properties: Any) -> UWSJob:
    known: dict[str, Any] = {"service": "s", "jobId": "1a2b", "creationTime": CREATED}
    return UWSJob(JobRecord(**known | properties))


def makeRef(**properties: Any) -> JobRef:
    known: dict[str, Any] = {"jobId": "1a2b", "phase": PENDING, "creationTime": CREATED}
    return JobRef(**known | properties)


def parsed(job: UWSJob) -> etree._Element:
    """The job's document, which has to be a good one."""
    return validate(jobDocument(job, URL))


def text(root: etree._Element, path: str) -> str:
    found = root.find(path.replace("uws:", UWS))
    assert found is not None, path
    return found.text or ""


def children(root: etree._Element, path: str) -> list[etree._Element]:
    return root.findall(path.replace("uws:", UWS))


# Whole documents


def test_anEmptyJobHasEveryElement() -> None:
    """Clients fail where an element is missing; what is not known is nil (2.2.2.2, S-003)."""
    document = jobDocument(makeJob(), URL)
    validate(document)
    expected = f"""<?xml version="1.0" encoding="UTF-8"?>
<uws:job {NAMESPACES} version="1.1">
  <uws:jobId>1a2b</uws:jobId>
  <uws:ownerId xsi:nil="true"/>
  <uws:phase>PENDING</uws:phase>
  <uws:quote xsi:nil="true"/>
  <uws:creationTime>2026-03-01T12:00:00.123Z</uws:creationTime>
  <uws:startTime xsi:nil="true"/>
  <uws:endTime xsi:nil="true"/>
  <uws:executionDuration>0</uws:executionDuration>
  <uws:destruction xsi:nil="true"/>
  <uws:parameters/>
  <uws:results/>
</uws:job>
"""
    assert document.decode() == expected


def test_aFullJob() -> None:
    """Everything that a job can have, in the order of the schema."""
    job = makeJob(
        runId="night 7 & after",
        owner="vera@example.org",
        phase=ERROR,
        quote=CREATED + timedelta(minutes=1),
        startTime=CREATED + timedelta(seconds=1),
        endTime=CREATED + timedelta(seconds=2),
        executionDuration=600,
        destruction=CREATED + timedelta(days=7),
        parameters={
            "ra": ("10.5",),
            "band": ("g", "r"),
            "catalogue": (FileValue(file="my.csv", mediaType="text/csv", size=5),),
            "several": (FileValue(file="a"), FileValue(file="b c")),
            "UPLOAD": (FileValue(file="t/1", label="mine"), "theirs,http://example.com/t?a=1&b=2"),
            "binary part": ("\0",),
        },
        results=(
            Result(id="image", file="image.fits", mediaType="image/fits", size=2880),
            Result(id="a b/c", file="x"),
            Result(id="elsewhere", href="https://example.com/?a=1&b=2", mediaType=""),
        ),
        error=JobError(message="no such <band>", detail="more", type="transient"),
        jobInfo={
            "progress": 0.5,
            "done": False,
            "host": ["a", "b"],
            "note": None,
            "disk used": {"GB": 3, "of": {"what": "images"}},
            "matrix": [[1, 2], [3]],
            "when": CREATED,
            "nothing": [],
        },
    )
    document = jobDocument(job, URL)
    validate(document)
    expected = f"""<?xml version="1.0" encoding="UTF-8"?>
<uws:job {NAMESPACES} version="1.1">
  <uws:jobId>1a2b</uws:jobId>
  <uws:runId>night 7 &amp; after</uws:runId>
  <uws:ownerId>vera@example.org</uws:ownerId>
  <uws:phase>ERROR</uws:phase>
  <uws:quote>2026-03-01T12:01:00.123Z</uws:quote>
  <uws:creationTime>2026-03-01T12:00:00.123Z</uws:creationTime>
  <uws:startTime>2026-03-01T12:00:01.123Z</uws:startTime>
  <uws:endTime>2026-03-01T12:00:02.123Z</uws:endTime>
  <uws:executionDuration>600</uws:executionDuration>
  <uws:destruction>2026-03-08T12:00:00.123Z</uws:destruction>
  <uws:parameters>
    <uws:parameter id="ra">10.5</uws:parameter>
    <uws:parameter id="band">g</uws:parameter>
    <uws:parameter id="band">r</uws:parameter>
    <uws:parameter id="catalogue" byReference="true">{URL}/parameters/catalogue</uws:parameter>
    <uws:parameter id="several" byReference="true">{URL}/parameters/a</uws:parameter>
    <uws:parameter id="several" byReference="true">{URL}/parameters/b%20c</uws:parameter>
    <uws:parameter id="UPLOAD">mine,{URL}/parameters/t%2F1</uws:parameter>
    <uws:parameter id="UPLOAD">theirs,http://example.com/t?a=1&amp;b=2</uws:parameter>
    <uws:parameter id="binary part" byReference="true">{URL}/parameters/binary%20part</uws:parameter>
  </uws:parameters>
  <uws:results>
    <uws:result id="image" xlink:type="simple" xlink:href="{URL}/results/image" size="2880" mime-type="image/fits"/>
    <uws:result id="a b/c" xlink:type="simple" xlink:href="{URL}/results/a%20b%2Fc" mime-type="application/octet-stream"/>
    <uws:result id="elsewhere" xlink:type="simple" xlink:href="https://example.com/?a=1&amp;b=2"/>
  </uws:results>
  <uws:errorSummary type="transient" hasDetail="true">
    <uws:message>no such &lt;band&gt;</uws:message>
  </uws:errorSummary>
  <uws:jobInfo xmlns:info="urn:x-twuws:jobinfo">
    <info:progress>0.5</info:progress>
    <info:done>false</info:done>
    <info:host>a</info:host>
    <info:host>b</info:host>
    <info:note xsi:nil="true"/>
    <info:disk_x0020_used>
      <info:GB>3</info:GB>
      <info:of>
        <info:what>images</info:what>
      </info:of>
    </info:disk_x0020_used>
    <info:matrix>
      <info:item>1</info:item>
      <info:item>2</info:item>
    </info:matrix>
    <info:matrix>
      <info:item>3</info:item>
    </info:matrix>
    <info:when>2026-03-01T12:00:00.123Z</info:when>
  </uws:jobInfo>
</uws:job>
"""  # noqa: E501, as it goes out
    assert document.decode() == expected


def test_theListOfJobs() -> None:
    """References in the order phase, runId, ownerId, creationTime, with everything (A-58)."""
    refs = [
        (makeRef(), URL),
        (makeRef(jobId="2", phase=ARCHIVED, runId='a"<&>', owner="vera"), URL + '?a="1"&b=2'),
    ]
    document = jobListDocument(refs)
    validate(document)
    expected = f"""<?xml version="1.0" encoding="UTF-8"?>
<uws:jobs {NAMESPACES} version="1.1">
  <uws:jobref id="1a2b" xlink:type="simple" xlink:href="{URL}"><uws:phase>PENDING</uws:phase>\
<uws:ownerId xsi:nil="true"/><uws:creationTime>2026-03-01T12:00:00.123Z</uws:creationTime></uws:jobref>
  <uws:jobref id="2" xlink:type="simple" xlink:href="{URL}?a=&quot;1&quot;&amp;b=2">\
<uws:phase>ARCHIVED</uws:phase><uws:runId>a"&lt;&amp;&gt;</uws:runId><uws:ownerId>vera</uws:ownerId>\
<uws:creationTime>2026-03-01T12:00:00.123Z</uws:creationTime></uws:jobref>
</uws:jobs>
"""  # noqa: E501, as it goes out
    assert document.decode() == expected


def test_aStreamedListIsTheDocument() -> None:
    refs = [(makeRef(jobId=str(n)), f"{URL}/{n}") for n in range(5)]
    pieces = [jobListStart("<?a b?>"), *(jobRef(*one) for one in refs), jobListEnd()]
    assert b"".join(pieces) == jobListDocument(refs, "<?a b?>")


def test_anEmptyList() -> None:
    assert len(validate(jobListDocument([]))) == 0


def test_containersAsDocuments() -> None:
    """They have no version, which would be invalid (S-007), and are there when empty (A-29)."""
    empty = makeJob()
    assert validate(parametersDocument(empty, URL)).keys() == []
    assert validate(resultsDocument(empty, URL)).keys() == []
    job = makeJob(parameters={"ra": ("1",)}, results=(Result(id="r", file="r"),))
    start = '<?xml version="1.0" encoding="UTF-8"?>\n<?a b?>\n'
    assert parametersDocument(job, URL, "<?a b?>").decode() == (
        f'{start}<uws:parameters {NAMESPACES}>\n  <uws:parameter id="ra">1</uws:parameter>\n'
        "</uws:parameters>\n"
    )
    assert resultsDocument(job, URL, "<?a b?>\n").decode() == (
        f'{start}<uws:results {NAMESPACES}>\n  <uws:result id="r" xlink:type="simple"'
        f' xlink:href="{URL}/results/r" mime-type="application/octet-stream"/>\n</uws:results>\n'
    )


def test_thePreambleIsBeforeTheDocumentElement() -> None:
    instruction = '<?xml-stylesheet type="text/xsl" href="/uws.xsl"?>'
    for document in (
        jobDocument(makeJob(), URL, instruction),
        jobListDocument([(makeRef(), URL)], instruction),
    ):
        found = validate(document).getprevious()
        assert isinstance(found, etree._ProcessingInstruction)
        assert found.target == "xml-stylesheet"


# Phases and errors


@pytest.mark.parametrize("phase", list(Phase))
def test_everyPhaseIsItsWord(phase: Phase) -> None:
    assert text(parsed(makeJob(phase=phase)), "uws:phase") == phase.value
    assert f"<uws:phase>{phase.value}</uws:phase>".encode() in jobRef(makeRef(phase=phase), URL)


@pytest.mark.parametrize("phase", list(Phase))
def test_errorsAreShownOfFailuresOnly(phase: Phase) -> None:
    """Some clients take any job with an errorSummary for failed (A-09)."""
    root = parsed(makeJob(phase=phase, error=JobError(message="m")))
    assert len(children(root, "uws:errorSummary")) == (phase in {ERROR, ABORTED, ARCHIVED})


@pytest.mark.parametrize(
    ("error", "kind", "hasDetail"),
    [
        (JobError(message="m"), "fatal", "false"),
        (JobError(message="m", detail=""), "fatal", "false"),
        (JobError(message="m", detail="d"), "fatal", "true"),
        (JobError(message="m", type="transient"), "transient", "false"),
        (JobError(message="m", type="no such type"), "fatal", "false"),
    ],
)
def test_errorTypes(error: JobError, kind: str, hasDetail: str) -> None:
    (found,) = children(parsed(makeJob(phase=ERROR, error=error)), "uws:errorSummary")
    assert (found.get("type"), found.get("hasDetail")) == (kind, hasDetail)


def test_anEmptyOwnerIsNil() -> None:
    """An empty ownerId is valid, and an owner that nobody is (S-004)."""
    assert children(parsed(makeJob(owner="")), "uws:ownerId")[0].get(f"{XSI}nil") == "true"
    assert b'<uws:ownerId xsi:nil="true"/>' in jobRef(makeRef(owner=""), URL)


def test_anEmptyRunIdIsOne() -> None:
    """Nil is not allowed there (S-002), and what a client gave comes back (U-153)."""
    assert text(parsed(makeJob(runId="")), "uws:runId") == ""


@pytest.mark.parametrize("info", [{}, {"a": []}, {"a": (), "b": []}])
def test_noEmptyJobInfo(info: dict[str, Any]) -> None:
    assert children(parsed(makeJob(jobInfo=info)), "uws:jobInfo") == []


# Any text at all


@given(ANY_NAME, st.lists(ANY_TEXT, max_size=3))
@example("n\0", [SPECIMENS])
@example("\ud800/..", ["\0"])
@example("a/b?c#d%e", [*SPECIMENS.split(" ")])
@example("x", ["\r\n", " ", "\t", "a\rb", "\n"])
def test_anyParameterSurvives(name: str, values: list[str]) -> None:
    """As it was, or by reference: and then because XML cannot carry it (2.2.2.4)."""
    root = parsed(makeJob(parameters={name: tuple(values)}))
    found = children(root, "uws:parameters/uws:parameter")
    assert len(found) == len(values)
    for element, value in zip(found, values, strict=True):
        assert element.get("id") == xmlText(name)
        if element.get("byReference"):
            assert xmlText(value) != value
            prefix, _, quoted = str(element.text).rpartition("/")
            assert prefix == f"{URL}/parameters"
            assert unquote(quoted, errors="surrogatepass") == name
        else:
            assert (element.text or "") == value


@given(st.binary(max_size=60))
def test_binaryLikeParametersSurvive(data: bytes) -> None:
    """Bytes as a form may bring them: as Latin-1, or as UTF-8 with what is not escaped."""
    for value in (data.decode("latin-1"), data.decode("utf-8", "surrogateescape")):
        root = parsed(makeJob(parameters={"x": (value,)}))
        (found,) = children(root, "uws:parameters/uws:parameter")
        assert found.get("byReference") == "true" or (found.text or "") == value


@given(ANY_TEXT, ANY_TEXT, ANY_NAME)
@example(SPECIMENS, SPECIMENS, SPECIMENS)
def test_anyTextElsewhereSurvives(runId: str, message: str, owner: str) -> None:
    """But for what XML cannot carry, which is replaced (A-32)."""
    root = parsed(makeJob(runId=runId, owner=owner, phase=ERROR, error=JobError(message=message)))
    assert text(root, "uws:runId") == xmlText(runId)
    assert text(root, "uws:ownerId") == xmlText(owner)
    assert text(root, "uws:errorSummary/uws:message") == xmlText(message)


@given(ANY_NAME, ANY_NAME, ANY_NAME)
@example(SPECIMENS, SPECIMENS, SPECIMENS)
@example("a", "..", "..")
def test_anyFileSurvives(name: str, file: str, label: str) -> None:
    values: Values = {
        name: (FileValue(file=file, fileName=name),),
        "UPLOAD": (FileValue(file=file, label=label),),
    }
    root = parsed(makeJob(parameters=values, results=(Result(id=name, file=file),)))
    assert len(children(root, "uws:parameters/uws:parameter")) == len(values)


@given(ANY_TEXT)
@example(SPECIMENS)
def test_xmlTextIsWhatXMLCanCarry(given: str) -> None:
    """What lxml takes is unchanged, and what it refuses is replaced, character by character."""

    def carried(character: str) -> str:
        try:
            etree.Element("a").text = character
        except ValueError:
            return "\ufffd"
        return character

    assert xmlText(given) == "".join(map(carried, given))


INFO = st.dictionaries(
    ANY_TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(INFO)
@example({"": 1, "1": "a", "a:b": None, "xmlns": 2, "-": 3, "ñ\u0131漢": 4, "\ud800": 5})
def test_anyJobInfoIsValid(info: dict[str, Any]) -> None:
    root = parsed(makeJob(jobInfo=info))
    for place in children(root, "uws:jobInfo"):
        assert all(etree.QName(one).namespace == JOB_INFO for one in place.iterdescendants())


@given(ANY_NAME, ANY_NAME, ANY_TEXT)
@example("a b", "a_x0020_b", "")
@example("x_", "x__", SPECIMENS)
def test_jobInfoNamesCanBeTold(one: str, other: str, value: str) -> None:
    """Different names are different elements, and what is in them comes back."""
    (place,) = children(parsed(makeJob(jobInfo={one: value, other: value})), "uws:jobInfo")
    assert len({element.tag for element in place}) == len({one, other})
    assert all((element.text or "") == xmlText(value) for element in place)


# The fast way is the right way


@given(ANY_TEXT, st.none() | ANY_TEXT, st.none() | ANY_TEXT, ANY_TEXT, INSTANTS)
@example(SPECIMENS, SPECIMENS, SPECIMENS, SPECIMENS + "\t\n", CREATED)
@example("a\r", "<\r", "&\n", '"', CREATED)
def test_jobRefIsWhatLxmlWrites(
    jobId: str, runId: str | None, owner: str | None, url: str, created: datetime
) -> None:
    """Byte for byte, whatever is in it."""
    ref = makeRef(jobId=jobId, runId=runId, owner=owner, creationTime=created)
    start, written = jobListStart(), jobRef(ref, url)
    etree.fromstring(start + written + jobListEnd())
    expected = etree.fromstring(start + jobListEnd())
    expected.text = None
    one = etree.SubElement(expected, f"{UWS}jobref", id=xmlText(jobId))
    one.set(f"{{{XLINK}}}type", "simple")
    one.set(f"{{{XLINK}}}href", xmlText(url))
    etree.SubElement(one, f"{UWS}phase").text = "PENDING"
    if runId is not None:
        etree.SubElement(one, f"{UWS}runId").text = xmlText(runId)
    if owner:
        etree.SubElement(one, f"{UWS}ownerId").text = xmlText(owner)
    else:
        etree.SubElement(one, f"{UWS}ownerId").set(f"{XSI}nil", "true")
    stamp = created.strftime("%m-%dT%H:%M:%S") + f".{created.microsecond // 1000:03}Z"
    etree.SubElement(one, f"{UWS}creationTime").text = f"{created.year:04}-{stamp}"
    whole = etree.tostring(expected, encoding="UTF-8")
    inner = whole[whole.index(b"<uws:jobref") : -len(b"</uws:jobs>")]
    # lxml closes what is empty at once, which is the same to any reader.
    inner = inner.replace(b"<uws:runId/>", b"<uws:runId></uws:runId>")
    assert written == b"  " + inner + b"\n"


# The validation that these tests stand on

GOOD = jobDocument(
    makeJob(
        phase=ERROR,
        runId="r",
        error=JobError(message="m"),
        results=(Result(id="a", file="a"), Result(id="b", file="b")),
        jobInfo={"i": 1},
    ),
    URL,
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (' version="1.1"', ""),
        (' version="1.1"', ' version="1.0"'),
        ("<uws:jobId>1a2b</uws:jobId>", "<uws:jobId/>"),
        (".123Z", ".123"),
        (".123Z", "+00:00"),
        ("T12:00:00.123Z", ""),
        ("<uws:creationTime>2026-03-01T12:00:00.123Z</uws:creationTime>", ""),
        ("<uws:creationTime>2026-03-01T12:00:00.123Z", '<uws:creationTime xsi:nil="true">'),
        ('<uws:startTime xsi:nil="true"/>', "<uws:startTime/>"),
        ('<uws:startTime xsi:nil="true"/>', ""),
        ('<uws:ownerId xsi:nil="true"/>', "<uws:ownerId/>"),
        ("<uws:runId>r</uws:runId>", '<uws:runId xsi:nil="true"/>'),
        (">ERROR<", "> ERROR<"),
        (">ERROR<", ">error<"),
        (">ERROR<", ">COMPLETED<"),
        ("Duration>0<", "Duration>-1<"),
        ("Duration>0<", "Duration>1.5<"),
        ("Duration>0<", "Duration>2147483648<"),
        ("  <uws:parameters/>\n", ""),
        ('id="b"', 'id="a"'),
        ('id="b"', 'id=""'),
        ('href="https:', 'href="'),
        (' xlink:type="simple"', ' xlink:type="result"'),
        (' xlink:type="simple"', ' xlink:type="simple" xlink:title="t"'),
        (' type="fatal"', ""),
        ("<uws:message>m</uws:message>", "m"),
        ("<info:i>1</info:i>", "1"),
        ("<info:i>1</info:i>", "<uws:i>1</uws:i>"),
        ("uws:", "u:"),
        ("xmlns:uws", "xmlns:u"),
        ('encoding="UTF-8"', 'encoding="US-ASCII"'),
    ],
)
def test_whatIsWrongIsFound(right: str, wrong: str) -> None:
    validate(GOOD)
    bad = GOOD.decode().replace(right, wrong)
    assert bad != GOOD.decode()
    with pytest.raises((AssertionError, etree.XMLSyntaxError)):
        validate(bad.encode())


@pytest.mark.parametrize("prefixes", [("uws:", "uws", "u"), ("xlink:", "xlink", "x")])
def test_otherPrefixesAreFound(prefixes: tuple[str, str, str]) -> None:
    """To XML they are the same; to clients they are not."""
    used, right, wrong = prefixes
    bad = GOOD.decode().replace(used, f"{wrong}:").replace(f"xmlns:{right}=", f"xmlns:{wrong}=")
    etree.fromstring(bad.encode())
    with pytest.raises((AssertionError, KeyError)):
        validate(bad.encode())


# What clients make of them

JOBS = [
    makeJob(),
    makeJob(phase=EXECUTING, startTime=CREATED, jobInfo={"progress": 0.5, "host": ["a", "b"]}),
    makeJob(
        phase=COMPLETED,
        runId="night 7",
        owner="vera",
        quote=CREATED,
        startTime=CREATED,
        endTime=CREATED + timedelta(seconds=3),
        destruction=CREATED + timedelta(days=1),
        executionDuration=600,
        parameters={"query": ("SELECT 1\r\nFROM a WHERE b < 3",), "band": ("g", "r"), "x": ("\0",)},
        results=(Result(id="result", file="r", mediaType="text/csv", size=3),),
    ),
    makeJob(phase=ERROR, error=JobError(message="no such band", detail="more", type="transient")),
    makeJob(phase=ABORTED, endTime=CREATED, jobInfo={"a": {"b": None}}),
]


def milliseconds(instant: datetime | None) -> datetime | None:
    return instant and instant.replace(microsecond=instant.microsecond // 1000 * 1000)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.phase)
def test_pyvoReadsTheJob(job: UWSJob) -> None:
    """Everything, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = parse_job(io.BytesIO(jobDocument(job, URL)))
    assert (seen.jobid, seen.phase, seen.version) == (job.jobId, job.phase, "1.1")
    assert (seen.runid, seen.ownerid) == (job.runId, job.owner)
    for theirs, ours in (
        (seen.quote, job.quote),
        (seen.creationtime, job.creationTime),
        (seen.starttime, job.startTime),
        (seen.endtime, job.endTime),
        (seen.destruction, job.destruction),
    ):
        assert (theirs and theirs.to_datetime(timezone=UTC)) == milliseconds(ours)
    assert seen.executionduration.to_value("s") == job.executionDuration
    # The one that XML cannot carry is by reference.
    expected = [
        (name, f"{URL}/parameters/{name}" if one == "\0" else one, one == "\0")
        for name, values in job.parameters.items()
        for one in values
    ]
    assert [(p.id_, p.content, bool(p.byreference)) for p in seen.parameters] == expected
    assert [(r.id_, r.href, r.size, r.mimetype) for r in seen.results] == [
        (r.id, f"{URL}/results/{r.id}", r.size, r.mediaType) for r in job.results
    ]
    if job.error:
        assert seen.errorsummary.message.content == job.error.message
        assert (seen.errorsummary.type_, seen.errorsummary.has_detail) == ("transient", True)
    else:
        assert seen.errorsummary is None


class Known(Parameters):
    """vo-models wants to be told what parameters there are."""

    query: Parameter | None = Parameter(id="query")
    band: list[Parameter] | None = None
    x: Parameter | None = Parameter(id="x")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.phase)
def test_voModelsReadTheJob(job: UWSJob) -> None:
    """Everything but jobInfo, of which it keeps the white space only."""
    seen: Any = JobSummary[Known].from_xml(jobDocument(job, URL))
    assert (seen.job_id, seen.phase.value, seen.version) == (job.jobId, job.phase, "1.1")
    assert (seen.run_id, seen.owner_id) == (job.runId, job.owner)
    assert seen.creation_time == milliseconds(job.creationTime)
    assert (seen.start_time, seen.end_time) == (
        milliseconds(job.startTime),
        milliseconds(job.endTime),
    )
    assert (seen.quote, seen.destruction) == (
        milliseconds(job.quote),
        milliseconds(job.destruction),
    )
    assert seen.execution_duration == job.executionDuration
    assert [(r.id, r.href, r.size, r.mime_type) for r in seen.results.results] == [
        (r.id, f"{URL}/results/{r.id}", r.size, r.mediaType) for r in job.results
    ]
    assert (seen.error_summary and seen.error_summary.message) == (job.error and job.error.message)
    if job.parameters:
        assert seen.parameters.query.value == job.parameters["query"][0]
        assert [one.value for one in seen.parameters.band] == ["g", "r"]
        assert seen.parameters.x.by_reference


REFS = [
    (makeRef(jobId="3", phase=EXECUTING, runId="a & b", owner="vera"), URL),
    (makeRef(jobId="2"), URL + "2"),
]


@pytest.mark.parametrize("refs", [REFS, []])
def test_pyvoReadsTheList(refs: list[tuple[JobRef, str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = parse_job_list(io.BytesIO(jobListDocument(refs)))
    assert [(one.jobid, one.phase, one.runid, one.ownerid) for one in seen] == [
        (ref.jobId, ref.phase, ref.runId, ref.owner) for ref, _ in refs
    ]
    for one in seen:
        assert one.creationtime.to_datetime(timezone=UTC) == milliseconds(CREATED)


@pytest.mark.parametrize("refs", [REFS, []])
def test_voModelsReadTheList(refs: list[tuple[JobRef, str]]) -> None:
    seen: Any = Jobs.from_xml(jobListDocument(refs))
    assert [
        (one.job_id, one.href, one.phase.value, one.run_id, one.owner_id) for one in seen.jobref
    ] == [(ref.jobId, url, ref.phase, ref.runId, ref.owner) for ref, url in refs]
    assert all(one.creation_time == milliseconds(CREATED) for one in seen.jobref)
