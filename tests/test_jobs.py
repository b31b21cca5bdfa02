"""Jobs: their records, their parameters, and what may be changed where."""

from __future__ import annotations

import doctest
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twuws import jobs
from twuws.errors import Forbidden, NotPending, ParameterError
from twuws.jobs import CONTROL_NAMES, JobError, JobRecord, Outcome, Result, UWSJob
from twuws.parameters import File, Integer, Real, Text
from twuws.phases import COMPLETED, ERROR, PENDING, Phase
from twuws.times import formatInstant, parseInstant
from twuws.values import FileValue
from twuws.workplace import WorkPlace

CREATED = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


class Cutout(UWSJob):
    """
    Cut a piece out of an image.

    More about it.
    """

    ra = Real(minimum=0, maximum=360, required=True)
    size = Real(default=0.1)
    Band = Text(multiple=True)
    n = Integer(required=True, default=3)
    catalogue = File()


def makeJob(changeable: bool = True, kind: type[UWSJob] = Cutout, **properties: Any) -> Any:
    known: dict[str, Any] = {"service": "s", "jobId": "1a2b", "creationTime": CREATED}
    return kind(JobRecord(**known | properties), changeable=changeable)


# The record

INSTANTS = st.datetimes(timezones=st.just(UTC)).map(lambda one: parseInstant(formatInstant(one)))
OPTIONAL_TEXT = st.none() | ANY_TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=4,
)
ERRORS = st.builds(JobError, message=ANY_TEXT, detail=OPTIONAL_TEXT, type=ANY_TEXT)
FILES = st.builds(FileValue, file=ANY_TEXT, label=OPTIONAL_TEXT)
RESULTS = st.builds(
    Result, id=ANY_TEXT, file=OPTIONAL_TEXT, href=OPTIONAL_TEXT, size=st.none() | st.integers(0)
)
RECORDS = st.builds(
    JobRecord,
    service=ANY_TEXT,
    jobId=ANY_TEXT,
    phase=st.sampled_from(Phase),
    owner=OPTIONAL_TEXT,
    runId=OPTIONAL_TEXT,
    creationTime=INSTANTS,
    startTime=st.none() | INSTANTS,
    endTime=st.none() | INSTANTS,
    executionDuration=st.integers(0),
    destruction=st.none() | INSTANTS,
    quote=st.none() | INSTANTS,
    parameters=st.dictionaries(
        ANY_TEXT,
        st.lists(ANY_TEXT | FILES, max_size=2).map(tuple),
        max_size=3,
    ),
    results=st.lists(RESULTS, max_size=2).map(tuple),
    error=st.none() | ERRORS,
    jobInfo=st.dictionaries(ANY_TEXT, JSON, max_size=2),
    attempt=st.integers(0),
)


@given(RECORDS)
def test_aRecordComesBackFromJSON(record: JobRecord) -> None:
    """By way of real JSON, and with the phase as a Phase."""
    stored = json.loads(json.dumps(record.asJSON()))
    found = JobRecord.fromJSON(stored)
    assert found == record
    assert isinstance(found.phase, Phase)


def test_microsecondsAreNotKept() -> None:
    record = makeJob(creationTime=CREATED.replace(microsecond=123456)).record
    assert JobRecord.fromJSON(record.asJSON()).creationTime == CREATED.replace(microsecond=123000)


@given(st.sampled_from([COMPLETED, ERROR]), st.none() | ERRORS)
def test_anOutcomeComesBackFromJSON(phase: Phase, error: JobError | None) -> None:
    outcome = Outcome(phase=phase, error=error)
    assert Outcome.fromJSON(json.loads(json.dumps(outcome.asJSON()))) == outcome


def test_aFailedOutcome() -> None:
    error = JobError(message="m", detail="d", type="transient")
    assert Outcome.failed("m", "d", "transient") == Outcome(phase=ERROR, error=error)


# What may be changed

FIELDS = sorted(set(JobRecord.__dataclass_fields__) - {"service"})


def test_nothingCanBeChangedOutside() -> None:
    """Only C{changeableJob} has the lock on the row."""
    job = makeJob(changeable=False)
    before = job.record
    for field in FIELDS:
        message = f"^{field} of a job can be changed in changeableJob only$"
        with pytest.raises(Forbidden, match=message):
            setattr(job, field, getattr(job, field))
    assert job.record is before


def test_someThingsCannotBeAssignedInside() -> None:
    for field in FIELDS:
        job = makeJob()
        if field in UWSJob.CHANGEABLE:
            setattr(job, field, "new")
            assert getattr(job, field) == "new"
        else:
            with pytest.raises(Forbidden, match=f"^{field} of a job cannot be assigned to$"):
                setattr(job, field, getattr(job, field))
    assert not {"phase", "jobId", "creationTime", "attempt"} & UWSJob.CHANGEABLE


def test_aChangeLeavesTheOldRecordAlone() -> None:
    """Readers that have it go on seeing what was true."""
    job = makeJob(parameters={"ra": ("1",)})
    before = job.record
    job.ra = 2
    job.runId = "night 7"
    assert (before.parameters, before.runId) == ({"ra": ("1",)}, None)
    assert (job.ra, job.runId) == (2.0, "night 7")


def test_parametersCannotBeSetOutside() -> None:
    job = makeJob(changeable=False)
    with pytest.raises(Forbidden):
        job.ra = 1
    assert job.ra is None


def test_parametersCanBeSetWhilePendingOnly() -> None:
    for phase in set(Phase) - {PENDING}:
        job = makeJob(phase=phase)
        with pytest.raises(NotPending, match=f"it is {phase}"):
            job.setParameter("ra", ["1"])
        with pytest.raises(NotPending):
            job.ra = 1
        assert job.parameters == {}


# Parameters

NAMES = ["ra", "RA", "size", "band", "BAND", "n", "free", "Free", "\u017fize", "catalogue"]
GIVEN = ["1", "2.5", "x", "", "400", "\0", FileValue(file="f")]
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from(GIVEN), max_size=3)), max_size=8
)


@given(STEPS)
@example([("ra", ["1"]), ("RA", []), ("free", ["x"]), ("FREE", ["y"])])
def test_oneParameterIsSetAndNoOther(steps: list[tuple[str, list[Any]]]) -> None:
    """All of its values, or, when they are refused, none of them."""
    job = makeJob()
    for name, values in steps:
        before = dict(job.parameters)
        try:
            job.setParameter(name, values)
        except ParameterError as e:
            found = e.name, dict(job.parameters)
            assert found == (job.canonicalName(name), before)
            continue
        same = [key for key in before if key.lower() == name.lower()]
        kept = {key: value for key, value in job.parameters.items() if key.lower() != name.lower()}
        assert kept == {key: value for key, value in before.items() if key not in same}
        own = [value for key, value in job.parameters.items() if key.lower() == name.lower()]
        assert own == ([tuple(values)] if values else [])
    names = [key.lower() for key in job.parameters]
    assert len(names) == len(set(names))


def test_replacingKeepsTheOrder() -> None:
    job = makeJob(parameters={"ra": ("1",), "free": ("x",), "size": ("2",)})
    job.setParameter("FREE", ["y"])
    assert list(job.parameters.items()) == [("ra", ("1",)), ("free", ("y",)), ("size", ("2",))]


@pytest.mark.parametrize("name", ["band", "BAND", "Band", "bAND"])
def test_namesAreTheDeclaredOnes(name: str) -> None:
    """However a client writes them (D-020, A-26)."""
    job = makeJob()
    job.setParameter(name, ["g"])
    assert job.parameters == {"Band": ("g",)}
    assert Cutout.canonicalName(name) == "Band"


def test_undeclaredNamesAreKeptAsSent() -> None:
    job = makeJob()
    job.setParameter("Free", ["1", "2"])
    job.setParameter("FREE", ["3"])
    assert job.parameters == {"Free": ("3",)}


def test_singleAndMultiple() -> None:
    job = makeJob()
    assert (job.ra, job.size, job.Band, job.n) == (None, 0.1, [], 3)
    with pytest.raises(ParameterError, match=r"^Parameter ra: 2 values .*, but it takes one$"):
        job.setParameter("RA", ["1", "2"])
    job.setParameter("Band", ["g", "r"])
    assert job.Band == ["g", "r"]
    job.Band = ["i"]
    assert job.Band == ["i"]
    job.Band = "abc"
    assert job.Band == ["abc"], "a word is a value, not three"
    job.Band = None
    assert "Band" not in job.parameters
    job.size = 2
    assert job.parameters["size"] == ("2",)
    job.size = None
    assert job.size == 0.1


def test_requestsReplaceSingleValuesAndAddToMultiple() -> None:
    """A-21, with UPLOAD among those that accumulate."""

    class Request:
        args = {"RA": ["1"], "band": ["g"], "free": ["x"], "UPLOAD": ["a,http://example.com/"]}
        files = {"upload": [FileValue(file="b", label="b")]}

    class Another(Request):
        args = {**Request.args, "free": ["x", "y"]}
        files = {"upload": [FileValue(file="c", label="c")]}

    job = makeJob()
    job.setParamsFromRequest(Request())
    job.setParamsFromRequest(Another())
    assert job.parameters["ra"] == ("1",)
    assert job.parameters["Band"] == ("g", "g")
    assert job.parameters["free"] == ("y",)  # undeclared, and so not there twice
    assert len(job.parameters["UPLOAD"]) == 4
    with pytest.raises(ParameterError, match="^Parameter UPLOAD: the label B is there already$"):
        job.setParameters([("UPLOAD", [FileValue(file="d", label="B")])], accumulate=True)
    assert len(job.parameters["UPLOAD"]) == 4


def test_requiredParameters() -> None:
    """A default is enough, an empty value is one, and the message says what is wanted."""
    job = makeJob()
    assert job.missing() == ["ra"]
    message = r"^Parameter ra: it is required, but was not given; it is a number from 0 to 360$"
    with pytest.raises(ParameterError, match=message):
        job.checkComplete()
    job.ra = 1
    assert job.missing() == []
    job.checkComplete()
    job.ra = None
    assert job.missing() == ["ra"]


def test_aFileIsItsPathWhereTheJobRuns() -> None:
    class Place(WorkPlace):
        def parameterPath(self, file: str) -> str:
            return f"/there/{file}"

    value = FileValue(file="f")
    job = makeJob(parameters={"catalogue": (value,)})
    assert job.catalogue is value
    assert Cutout(job.record, workPlace=Place()).catalogue == "/there/f"


# Declarations


def test_controlNamesAreRefused() -> None:
    assert {"phase", "action", "wait", "runid", "executionduration", "destruction"} <= CONTROL_NAMES
    for name in [*CONTROL_NAMES, *map(str.upper, CONTROL_NAMES)]:
        with pytest.raises(TypeError, match=f"^Bad.{name}: UWS gives this name another meaning$"):
            type("Bad", (UWSJob,), {name: Text()})


@pytest.mark.parametrize("name", ["owner", "setParameter", "results", "title"])
def test_namesOfTheJobItselfAreRefused(name: str) -> None:
    with pytest.raises(TypeError, match="is one of UWSJob itself"):
        type("Bad", (UWSJob,), {name: Text()})


@pytest.mark.parametrize("name", ["record", "isChangeable", "workPlace"])
def test_namesOfItsAttributesAreRefused(name: str) -> None:
    with pytest.raises(TypeError, match="is one of UWSJob itself"):
        type("Bad", (UWSJob,), {name: Text()})


def test_namesThatDifferInCaseOnlyAreRefused() -> None:
    with pytest.raises(TypeError, match="names differ in more than case"):
        type("Bad", (UWSJob,), {"ra": Text(), "RA": Text()})
    with pytest.raises(TypeError, match="names differ in more than case"):
        type("Bad", (Cutout,), {"RA": Text()})


def test_declarationsAreInherited() -> None:
    class Wider(Cutout):
        size = Real(default=1.0)
        more = Text()

    assert list(Wider.declarations) == [*Cutout.declarations, "more"]
    assert makeJob(kind=Wider).size == 1.0
    assert makeJob().size == 0.1
    assert "more" not in Cutout.declarations


def test_theTitleIsTheFirstLine() -> None:
    assert Cutout.title == "Cut a piece out of an image."

    class Untold(UWSJob):
        pass

    class Told(UWSJob):
        title = "Mine"

    assert (Untold.title, Told.title) == ("Untold", "Mine")


def test_onlyWorkThatRunsWritesResults() -> None:
    with pytest.raises(Forbidden, match="only work that runs can do this"):
        makeJob().openResult("r", "text/plain")
    with pytest.raises(Forbidden, match="only work that runs can do this"):
        makeJob().reportProgress(0.5)


def test_theExamplesInTheModule() -> None:
    assert not doctest.testmod(jobs).failed
