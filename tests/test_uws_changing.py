"""Changing jobs: one at a time, all of it or nothing, and in nobody's way."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.test_database import allOf, assertWhole
from tests.working import until
from twuws import parameters as p
from twuws.database import Database
from twuws.errors import (
    BadRequest,
    Forbidden,
    JobLocked,
    JobNotFound,
    NotPending,
    ParameterError,
)
from twuws.jobs import UWSJob
from twuws.uws import UWS


class Cutout(UWSJob):
    """Cut."""

    ra = p.Real(minimum=0, maximum=360)


@pytest.fixture
def uws(database, tmp_path):
    return UWS(Cutout, database=database, directory=tmp_path / "jobs", name="cutout")


@asynccontextmanager
async def elsewhere(uws):
    """The same service in what could be another process."""
    database = Database(uws.database.dsn, schema=uws.database.schema, size=2)
    database.startService()
    try:
        yield UWS(Cutout, database=database, directory=uws.workDirs.root, name="cutout")
    finally:
        await database.stopService()


def run(coroutine):
    return Deferred.fromCoroutine(coroutine)


async def test_changes_are_written(uws):
    jobId = await uws.getNewJobId()
    quote = datetime(2099, 1, 1, tzinfo=UTC)
    async with uws.changeableJob(jobId) as job:
        job.ra = 10
        job.runId, job.quote, job.owner, job.executionDuration = "r", quote, "me", 5
        job.jobInfo = {"a": "b"}
        assert (await uws.getJob(jobId)).runId is None
    job = await uws.getJob(jobId)
    assert (job.ra, job.runId, job.quote, job.owner, job.executionDuration) == (
        10, "r", quote, "me", 5,
    )  # fmt: skip
    assert job.jobInfo == {"a": "b"}


async def test_changeJob(uws):
    jobId = await uws.getNewJobId()

    def change(job):
        job.runId = "r"
        return "result"

    async def slowly(job):
        await uws.database.query("SELECT 1")
        job.runId += "s"
        return job

    assert await uws.changeJob(jobId, change) == "result"
    job = await uws.changeJob(jobId, slowly)
    assert (await uws.getJob(jobId)).runId == "rs"
    with pytest.raises(Forbidden):
        job.runId = "t"
    with pytest.raises(ZeroDivisionError):
        await uws.changeJob(jobId, lambda job: change(job) and 1 / 0)
    assert (await uws.getJob(jobId)).runId == "rs"
    with pytest.raises(JobNotFound):
        await uws.changeJob("a" * 32, change)


async def test_exception_changes_nothing(uws):
    jobId = await uws.getNewJobId(runId="before")
    for error in (ZeroDivisionError, CancelledError, KeyboardInterrupt):
        with pytest.raises(error):
            async with uws.changeableJob(jobId) as job:
                job.runId = "after"
                raise error
        with pytest.raises(Forbidden, match="changeableJob"):
            job.runId = "later"
    with pytest.raises(ParameterError):
        async with uws.changeableJob(jobId) as job:
            job.runId = "after"
            job.ra = 400
    assert (await uws.getJob(jobId)).runId == "before"
    await assertWhole(uws.database)


async def test_not_changeable_outside(uws):
    jobId = await uws.getNewJobId()
    async with uws.changeableJob(jobId) as job:
        for name in ("phase", "jobId", "startTime", "attempt", "creationTime"):
            with pytest.raises(Forbidden, match=name):
                setattr(job, name, "x")
    for outside in (job, await uws.getJob(jobId)):
        with pytest.raises(Forbidden):
            outside.runId = "x"
        with pytest.raises(Forbidden):
            outside.ra = 1
    assert (await uws.getJob(jobId)).record.runId is None


async def test_nothing_is_lost_between_many(uws):
    """Many changes of one job, from two processes, each made of what it has read."""
    jobId = await uws.getNewJobId(runId="0")

    async def increment(some):
        async with some.changeableJob(jobId) as job:
            known = int(job.runId)
            await deferLater(uws.database.reactor, 0)
            job.runId = str(known + 1)

    async with elsewhere(uws) as other:
        await gatherResults([run(increment(some)) for some in [uws, other] * 25])
    assert (await uws.getJob(jobId)).runId == "50"
    assert uws._locks._locks == {}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_others_wait(uws, where):
    jobId = await uws.getNewJobId(runId="1")
    async with elsewhere(uws) as other:
        second = other if where == "elsewhere" else uws
        async with uws.changeableJob(jobId) as job:
            with pytest.raises(JobLocked, match=jobId):
                async with second.changeableJob(jobId, timeout=0.1):
                    pass
            waiting = second.changeJob(jobId, lambda job: setattr(job, "runId", job.runId + "3"))
            # Whoever only reads does not wait.
            assert (await second.getJob(jobId)).runId == "1"
            assert len(await second.getIdsAndPhases()) == 1
            assert (await second.wait(jobId, 0)).phase == "PENDING"
            await deferLater(uws.database.reactor, 0.05)
            assert not waiting.called
            job.runId += "2"
        await waiting
        assert (await uws.getJob(jobId)).runId == "123"


async def test_waiting_costs_no_connection(uws):
    """Fifty wait for one job, and there is still a connection for who asks for another."""
    jobId, free = await uws.getNewJobId(), await uws.getNewJobId()
    async with uws.changeableJob(jobId):
        waiting = [uws.changeJob(jobId, lambda job: None) for _ in range(50)]
        async with uws.changeableJob(free, timeout=1) as job:
            job.runId = "changed"
        assert not any(one.called for one in waiting)
    await gatherResults(waiting)
    assert (await uws.getJob(free)).runId == "changed"


async def test_many_jobs_at_once(uws):
    """Three hundred changes of three hundred jobs with eight connections."""
    jobIds = await gatherResults([uws.getNewJobId() for _ in range(300)])

    async def change(jobId):
        async with uws.changeableJob(jobId) as job:
            await deferLater(uws.database.reactor, 0)
            job.runId = jobId

    await gatherResults([run(change(jobId)) for jobId in jobIds])
    rows = await uws.database.query("SELECT count(*) AS n FROM jobs WHERE run_id = job_id")
    assert rows == [{"n": 300}]
    assert uws._locks._locks == {}
    await assertWhole(uws.database)


async def test_reading_while_all_change(uws):
    """Whoever changes a job can look at another, though all others change one, too."""
    jobIds = await gatherResults([uws.getNewJobId() for _ in range(40)])

    async def change(jobId, other):
        async with uws.changeableJob(jobId) as job:
            await deferLater(uws.database.reactor, 0.001)
            job.runId = (await uws.getJob(other)).jobId

    pairs = zip(jobIds, jobIds[1:] + jobIds[:1], strict=True)
    await gatherResults([run(change(*pair)) for pair in pairs])
    await assertWhole(uws.database)


async def test_cancelled(uws):
    """In the block, while waiting for it, and while it is written."""
    jobId = await uws.getNewJobId(runId="before")
    inside, forever = [], Deferred()

    async def change():
        async with uws.changeableJob(jobId) as job:
            job.runId = "after"
            inside.append(True)
            await forever

    first, second = run(change()), run(change())
    await until(lambda: inside)
    second.cancel()
    first.cancel()
    for failure in await allOf(first, second):
        assert failure.check(CancelledError)
    async with uws.changeableJob(jobId, timeout=1) as job:
        assert job.runId == "before"
    assert len(inside) == 1
    assert uws._locks._locks == {}
    await assertWhole(uws.database)


async def test_cancelled_at_any_time(uws):
    jobIds = await gatherResults([uws.getNewJobId(runId="before") for _ in range(24)])
    for turns, jobId in enumerate(jobIds):
        change = run(changeOnce(uws, jobId))
        for _ in range(turns):
            await deferLater(uws.database.reactor, 0)
        change.cancel()
        (failure,) = await allOf(change)
        async with uws.changeableJob(jobId, timeout=2) as job:
            assert job.runId in (("after",) if failure is None else ("before", "after"))
    assert uws._locks._locks == {}
    await assertWhole(uws.database)


async def changeOnce(uws, jobId):
    async with uws.changeableJob(jobId) as job:
        job.runId = "after"


# What clients can change


async def test_update(uws):
    jobId = await uws.getNewJobId()
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    request = SimpleNamespace(args={"ra": ["5"]}, files={})
    await uws.update(jobId, request, runId="r", executionDuration=9, destruction=soon)
    job = await uws.getJob(jobId)
    assert (job.ra, job.runId, job.executionDuration, job.destruction) == (5, "r", 9, soon)
    with pytest.raises(BadRequest, match="DESTRUCTION"):
        await uws.update(jobId, runId="x", destruction=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(ParameterError):
        await uws.update(jobId, SimpleNamespace(args={"ra": ["x"]}, files={}), runId="x")
    assert (await uws.getJob(jobId)).record == job.record
    await uws.changeToPhase(jobId, "HELD")
    with pytest.raises(NotPending):
        await uws.update(jobId, request)
    with pytest.raises(NotPending):
        await uws.update(jobId, runId="x", executionDuration=1)
    await uws.update(jobId, executionDuration=8)
    await uws.abort(jobId)
    with pytest.raises(NotPending):
        await uws.update(jobId, executionDuration=7)
    await uws.update(jobId, destruction=soon + timedelta(hours=1))
    job = await uws.getJob(jobId)
    assert (job.runId, job.executionDuration) == ("r", 8)
    assert job.destruction == soon + timedelta(hours=1)


async def test_run_is_for_those_that_have_not_been_run(uws):
    """Whoever sends RUN twice must not start the work anew."""
    from twuws.errors import IllegalMove

    for way in (["QUEUED"], ["QUEUED", "EXECUTING"], ["QUEUED", "EXECUTING", "SUSPENDED"],
                ["QUEUED", "EXECUTING", "UNKNOWN"], ["ABORTED"]):  # fmt: skip
        jobId = await uws.getNewJobId()
        for phase in way:
            await uws.changeToPhase(jobId, phase)
        before = (await uws.getJob(jobId)).record
        with pytest.raises(IllegalMove, match=way[-1]):
            await uws.run(jobId)
        assert (await uws.getJob(jobId)).record == before
