"""Creating jobs: all of it, or nothing."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from twuws import parameters as p
from twuws.database import Database
from twuws.errors import BadRequest, DatabaseUnavailable, JobNotFound, ParameterError
from twuws.jobs import UWSJob
from twuws.policy import Policy
from twuws.submission import Upload
from twuws.uws import UWS


class Cutout(UWSJob):
    """Cut."""

    ra = p.Real(minimum=0, maximum=360)
    label = p.Text()
    image = p.File()


@pytest.fixture
def make(database, tmp_path):
    """Makes facades over one database and directory."""

    def make(cls=UWS, jobClass=Cutout, **more):
        more = {"database": database, "directory": tmp_path / "jobs", "name": "cutout", **more}
        return cls(jobClass, **more)

    return make


@pytest.fixture
def uws(make):
    return make()


async def assertNothing(uws, database=None):
    """There is neither a row nor a directory."""
    assert await (database or uws.database).query("SELECT job_id FROM jobs") == []
    assert list(uws.workDirs.known()) == []


SOON = datetime.now(UTC).replace(microsecond=123000) + timedelta(days=1)


async def test_properties(uws):
    jobId = await uws.getNewJobId(
        owner="me",
        runId="r",
        executionDuration=7,
        destruction=SOON,
        quote=SOON,
        jobInfo={"a": 1},
        parameters={"LABEL": "x\x00\ue000\ud800", "other": ["1", "2"]},
    )
    job = await uws.getJob(jobId)
    assert (job.owner, job.runId, job.executionDuration) == ("me", "r", 7)
    assert (job.destruction, job.quote, job.jobInfo) == (SOON, SOON, {"a": 1})
    assert job.parameters == {"label": ("x\x00\ue000\ud800",), "other": ("1", "2")}
    assert (job.attempt, job.results, job.error, job.startTime) == (0, (), None, None)
    assert abs(datetime.now(UTC) - job.creationTime) < timedelta(seconds=30)


@pytest.mark.parametrize("name", ["colour", "phase", "jobId", "results", "creationTime"])
async def test_unknown_property(uws, name):
    with pytest.raises(TypeError, match=f"{name} .*destruction.*runId"):
        await uws.getNewJobId(**{name: "x"})
    await assertNothing(uws)


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({"parameters": {"ra": 361}}, ParameterError),
        ({"parameters": {"ra": "nan"}}, ParameterError),
        ({"parameters": {"ra": ["1", "2"]}}, ParameterError),
        ({"destruction": datetime(2020, 1, 1, tzinfo=UTC)}, BadRequest),
        ({"executionDuration": -1}, BadRequest),
        ({"runId": "a\x00b"}, BadRequest),
    ],
)
async def test_bad_values(uws, properties, error):
    with pytest.raises(error):
        await uws.getNewJobId(**properties)
    await assertNothing(uws)


async def test_policy(make):
    uws = make(
        policy=Policy(
            executionDuration=10, longestExecutionDuration=60, lifetime=100, longestLifetime=1000
        )
    )

    async def given(**properties):
        job = await uws.getJob(await uws.getNewJobId(**properties))
        return job.executionDuration, (job.destruction - job.creationTime).total_seconds()

    assert await given() == (10, 100)
    assert await given(executionDuration=0, destruction=SOON) == (60, 1000)
    assert await given(executionDuration=61) == (60, 100)
    in200 = datetime.now(UTC) + timedelta(seconds=200)
    duration, lifetime = await given(executionDuration=59, destruction=in200)
    assert duration == 59
    assert 190 < lifetime < 210


async def test_ids(uws, monkeypatch):
    ids = {uws._draft({}).jobId for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(set(one) <= set("0123456789abcdef") and len(one) >= 24 for one in ids)
    jobIds = await gatherResults([uws.getNewJobId() for _ in range(100)])
    assert len(set(jobIds)) == 100
    rows = await uws.database.query("SELECT job_id FROM jobs")
    assert {row["job_id"] for row in rows} == set(jobIds)


async def test_ids_cannot_be_guessed(uws):
    """Ten thousand show no order, and each digit is as likely as any other, wherever it is."""
    ids = [uws._draft({}).jobId for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{24,}", one) for one in ids)
    for digits in zip(*ids, strict=True):
        assert all(465 < n < 785 for n in Counter(digits).values())  # about 625, with sigma 24
        assert len(set(digits)) == 16
    rising = sum(one < other for one, other in pairwise(ids))
    assert 4700 < rising < 5300
    far = [abs(int(one, 16) - int(other, 16)) / 16 ** len(one) for one, other in pairwise(ids)]
    assert 0.30 < sum(far) / len(far) < 0.37  # of two that have nothing to do with each other


async def test_tries_for_the_database(make, database):
    """It has begun before there is a server, and ends well."""
    late = Database("host=/nonexistent", schema=database.schema)
    right, late.dsn = database.dsn, late.dsn
    uws = make(database=late)
    creating = uws.getNewJobId(timeout=10)
    await deferLater(database.reactor, 0.3)
    assert not creating.called
    late.dsn = right
    jobId = await creating
    assert (await uws.getJob(jobId)).phase == "PENDING"
    await late.stopService()


async def test_gives_up_on_the_database(make, database):
    late = Database("host=/nonexistent", schema=database.schema)
    uws = make(database=late)
    began = database.reactor.seconds()
    with pytest.raises(DatabaseUnavailable):
        await uws.getNewJobId(timeout=0.6)
    assert 0.2 < database.reactor.seconds() - began < 5
    assert await database.query("SELECT * FROM jobs") == []
    await late.stopService()


async def test_all_answers_lost(make, monkeypatch):
    """The job may be there though nobody heard so: then its directory is there, too."""
    uws = make()
    makeSome = uws.table.makeSome

    async def lossy(new):
        await makeSome(new)
        raise DatabaseUnavailable

    monkeypatch.setattr(uws.table, "makeSome", lossy)
    with pytest.raises(DatabaseUnavailable):
        await uws.getNewJobId(timeout=0)
    ((jobId, _),) = await uws.getIdsAndPhases()
    assert uws.workDirs.forJob(jobId).path.is_dir()


async def test_lost_answer(make, monkeypatch):
    """The connection is lost after the INSERT was committed: it is the same job."""
    uws = make()
    makeSome, tries = uws.table.makeSome, []

    async def lossy(new):
        result = await makeSome(new)
        tries.extend(one.job.jobId for one in new)
        if len(tries) == 1:
            raise DatabaseUnavailable
        return result

    monkeypatch.setattr(uws.table, "makeSome", lossy)
    jobId = await uws.getNewJobId()
    assert tries == [jobId, jobId]
    assert [r["job_id"] for r in await uws.database.query("SELECT job_id FROM jobs")] == [jobId]
    assert uws.workDirs.forJob(jobId).path.is_dir()


# From requests


def requestOf(args=None, files=None):
    return SimpleNamespace(args=args or {}, files=files or {})


def uploadOf(uws, content=b"content"):
    handle, path = uws.workDirs.newUpload()
    with handle:
        handle.write(content)
    return Upload(path=path, part="image", size=len(content))


async def test_from_request(uws):
    upload = uploadOf(uws)
    request = requestOf({"RA": ["10"], "x": ["y"]}, {"image": [upload]})
    jobId = await uws.getNewIdFromRequest(request, owner="me")
    job = await uws.getJob(jobId)
    assert (job.ra, job.owner, job.parameters["x"]) == (10, "me", ("y",))
    file = uws.workDirs.forJob(jobId).parameters / job.parameters["image"][0].file
    assert file.read_bytes() == b"content"
    assert not upload.path.exists()


class Synchronous(UWS):
    def setParamsFromRequest(self, job, request):
        job.ra = float(request.args["where"][0])
        self.seen = job.jobId


class Asynchronous(Synchronous):
    async def setParamsFromRequest(self, job, request):
        await self.database.query("SELECT 1")
        super().setParamsFromRequest(job, request)


class Deferring(Synchronous):
    def setParamsFromRequest(self, job, request):
        return self.database.query("SELECT 1").addCallback(
            lambda _: Synchronous.setParamsFromRequest(self, job, request)
        )


@pytest.mark.parametrize("cls", [Synchronous, Asynchronous, Deferring])
async def test_overridden(make, cls):
    uws = make(cls)
    jobId = await uws.getNewIdFromRequest(requestOf({"where": ["20"]}))
    assert uws.seen == jobId
    assert (await uws.getJob(jobId)).parameters == {"ra": ("20.0",)}


@pytest.mark.parametrize("cls", [Synchronous, Asynchronous, Deferring])
async def test_nothing_is_left_of_a_bad_request(make, cls):
    uws = make(cls)
    with pytest.raises(ParameterError):
        await uws.getNewIdFromRequest(requestOf({"where": ["400"]}))
    with pytest.raises(KeyError):
        await uws.getNewIdFromRequest(requestOf())
    await assertNothing(uws)


async def test_nothing_is_left_of_a_bad_insert(uws):
    upload = uploadOf(uws)
    request = requestOf({}, {"image": [upload]})
    with pytest.raises(BadRequest):
        await uws.getNewIdFromRequest(request, destruction=datetime(2020, 1, 1, tzinfo=UTC))
    await assertNothing(uws)


async def test_what_was_begun_is_ended(uws):
    """A client that hangs up gets a whole job, or none."""
    creating = uws.getNewJobId()
    creating.cancel()
    with pytest.raises(Exception, match="^$"):
        await creating
    while not (rows := await uws.database.query("SELECT job_id FROM jobs")):
        pass
    assert uws.workDirs.forJob(rows[0]["job_id"]).path.is_dir()


# Where jobs live


class Elsewhere(UWS):
    def getURLForId(self, jobId, jobListURL=None):
        return f"http://elsewhere.example/{jobId}"


async def test_urls(make):
    uws = make(jobListURL="http://example.org/list/")
    assert uws.getURLForId("a") == "http://example.org/list/a"
    assert uws.getURLForId("a", "http://other.example/x") == "http://other.example/x/a"
    assert make(Elsewhere).getURLForId("a", "http://x/") == "http://elsewhere.example/a"
    with pytest.raises(ValueError, match="jobListURL"):
        make().getURLForId("a")


@pytest.mark.parametrize("name", ["", "a b", "A", "a/b", "ä"])
def test_names(make, name):
    with pytest.raises(ValueError, match="cannot name a service"):
        make(name=name)


async def test_services_are_apart(make):
    """A job of one service is none of another's, in the same tables."""
    one, other = make(), make(name="other")
    jobId = await one.getNewJobId()
    for attempt in (other.getJob, other.run, other.abort, other.destroy, other.wait):
        with pytest.raises(JobNotFound):
            await attempt(jobId)
    assert await other.getIdsAndPhases() == []
    assert await other.cleanupJobsTable(includeAll=True) == []
    assert (await one.getJob(jobId)).phase == "PENDING"


@pytest.mark.parametrize("jobId", ["", "x", "../x", "a" * 300, "\x00", "ü", "a\n", "%s"])
async def test_ids_that_are_none(uws, jobId):
    for attempt in (uws.getJob, uws.run, uws.destroy, uws.wait):
        with pytest.raises(JobNotFound):
            await attempt(jobId)
    with pytest.raises(JobNotFound):
        async with uws.changeableJob(jobId):
            pass


async def test_every_method_is_a_deferred(uws):
    jobId = uws.getNewJobId()
    assert isinstance(jobId, Deferred)
    jobId = await jobId
    for result in (uws.getJob(jobId), uws.getIdsAndPhases(), uws.wait(jobId, 0), uws.abort(jobId)):
        assert isinstance(result, Deferred)
        await result


@pytest.mark.parametrize("runId", ["x" * 65, "a\x00", "a\x0b", "\uffff", "\ud800"])
async def test_run_ids_that_cannot_be(make, runId):
    uws = make()
    with pytest.raises(BadRequest, match="RUNID"):
        await uws.getNewJobId(runId=runId)
    assert await uws.getIdsAndPhases() == []
    jobId = await uws.getNewJobId(runId="x" * 64)
    with pytest.raises(BadRequest, match="RUNID"):
        await uws.update(jobId, runId=runId)
    assert (await uws.getJob(jobId)).runId == "x" * 64


@pytest.mark.parametrize("seconds", [-1, 2**31])
async def test_durations_that_cannot_be(make, seconds):
    uws = make()
    with pytest.raises(BadRequest, match="EXECUTIONDURATION"):
        await uws.getNewJobId(executionDuration=seconds)
    assert await uws.getIdsAndPhases() == []


class Needing(UWSJob):
    """Cannot run without."""

    ra = p.Real(required=True)


async def test_created_queued(make):
    """Run at once: never seen PENDING, and whole even if it cannot be run."""
    uws = make(jobClass=Needing)
    request = SimpleNamespace(args={"ra": ["1"]}, files={})
    jobId = await uws.getNewIdFromRequest(request, run=True)
    assert (await uws.getJob(jobId)).phase == "QUEUED"
    missing = SimpleNamespace(args={}, files={})
    jobId = await uws.getNewIdFromRequest(missing, run=True)
    job = await uws.getJob(jobId)
    assert job.phase == "ERROR"
    assert "ra" in job.error.message


async def test_directories_together(uws):
    """One that cannot be made is that job's trouble, and no other's."""
    jobIds = [f"{n:02x}job" for n in range(6)]
    uws.workDirs.root.mkdir(exist_ok=True)
    (uws.workDirs.root / "03").write_text("in the way")
    workDirs = [uws.workDirs.forJob(one) for one in jobIds]
    making = [Deferred.fromCoroutine(uws.inSharedThread(one.create)) for one in workDirs]
    results = await DeferredList(making, consumeErrors=True)
    assert [isMade for isMade, _ in results] == [True, True, True, False, True, True]
    assert results[3][1].check(OSError)
    assert [one.path.is_dir() for one in workDirs] == [isMade for isMade, _ in results]
