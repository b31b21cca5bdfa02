"""Destroying jobs, one by one and by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from twisted.internet.defer import Deferred, gatherResults

from tests.working import until
from twuws.errors import Forbidden, IllegalMove, JobNotFound, NotPending, StaleAttempt
from twuws.jobs import JobError, Outcome, Result, UWSJob
from twuws.node import Node
from twuws.phases import COMPLETED
from twuws.policy import Policy
from twuws.uws import UWS


class Careful(UWSJob):
    """Looks before it goes."""

    seen: list[str] = []

    def prepareForDestruction(self):
        self.seen.append(self.jobId)
        if self.runId == "stays":
            raise ZeroDivisionError
        self.runId = "last words"


class Slow(UWSJob):
    """Takes its time to go."""

    waiting: list[tuple[UWSJob, Deferred[None]]] = []

    def prepareForDestruction(self):
        waiter = Deferred()
        self.waiting.append((self, waiter))
        return waiter


@pytest.fixture
def make(database, tmp_path):
    def make(cls=UWSJob):
        return UWS(cls, database=database, directory=tmp_path / "jobs", name="some")

    return make


@pytest.fixture
def uws(make):
    return make()


def hasDirectory(uws, jobId):
    return uws.workDirs.forJob(jobId).path.exists()


async def test_destroy(uws):
    jobId = await uws.getNewJobId()
    assert hasDirectory(uws, jobId)
    await uws.destroy(jobId)
    await uws.directoriesRemoved()
    assert not hasDirectory(uws, jobId)
    for attempt in (uws.getJob, uws.destroy, uws.run, uws.abort):
        with pytest.raises(JobNotFound, match=jobId):
            await attempt(jobId)


async def test_prepared_while_changeable(make):
    uws = make(Slow)
    jobId = await uws.getNewJobId()
    destroying = uws.destroy(jobId)
    await until(lambda: Slow.waiting)
    job, waiter = Slow.waiting.pop()
    job.runId = "can be assigned to"
    with pytest.raises(Exception, match="being changed"):
        async with uws.changeableJob(jobId, timeout=0.05):
            pass
    assert (await uws.getJob(jobId)).phase == "PENDING"
    waiter.callback(None)
    await destroying
    await uws.directoriesRemoved()
    assert not hasDirectory(uws, jobId)


async def test_refused(make):
    uws = make(Careful)
    jobId = await uws.getNewJobId(runId="stays")
    with pytest.raises(ZeroDivisionError):
        await uws.destroy(jobId)
    assert (await uws.getJob(jobId)).runId == "stays"
    assert hasDirectory(uws, jobId)
    assert Careful.seen[-1] == jobId
    async with uws.changeableJob(jobId) as job:
        job.runId = "goes"
    await uws.destroy(jobId)
    await uws.directoriesRemoved()
    assert not hasDirectory(uws, jobId)


async def test_twice_at_once(uws):
    jobId = await uws.getNewJobId()
    results = await gatherResults(
        [uws.destroy(jobId).addErrback(lambda f: f.trap(JobNotFound)) for _ in range(10)]
    )
    assert sorted(map(str, results)) == sorted(["None"] + [str(JobNotFound)] * 9)
    await uws.directoriesRemoved()


@pytest.fixture
def executing(uws):
    """A job that a node, which does not do it, has claimed."""
    import pytest_twisted

    async def claim():
        node = Node(uws.table, ["some"], slots=1)
        jobId = await uws.getNewJobId()
        await uws.run(jobId)
        record = await node.claim()
        await node.remember(record, {"backend": "none"})
        return node, record

    return pytest_twisted.blockon(Deferred.fromCoroutine(claim()))


async def test_directory_goes_with_the_work(uws, executing):
    node, record = executing
    await uws.destroy(record.jobId)
    (stop,) = await node.stops()
    assert (stop["job_id"], stop["attempt"]) == (record.jobId, 1)
    assert hasDirectory(uws, record.jobId)
    assert await node.stopped(record.jobId, 1)
    assert await node.stops() == []


async def test_aborted_then_destroyed(uws, executing):
    """The work of an aborted job may still be there when the job goes."""
    node, record = executing
    await uws.abort(record.jobId)
    assert [stop["job_id"] for stop in await node.stops()] == [record.jobId]
    await uws.destroy(record.jobId)
    await uws.directoriesRemoved()
    assert hasDirectory(uws, record.jobId)
    assert await node.stopped(record.jobId, 1)


async def test_aborted_and_stopped_then_destroyed(uws, executing):
    node, record = executing
    await uws.abort(record.jobId)
    assert not await node.stopped(record.jobId, 1)
    await uws.destroy(record.jobId)
    await uws.directoriesRemoved()
    assert not hasDirectory(uws, record.jobId)


# By the clock

PAST = "2026-01-02T00:00:00Z"


async def several(uws):
    """A job of each kind, by a name for it."""
    made = {}
    for name, phases, expired in (
        ("pending", [], False),
        ("forgotten", [], False),
        ("queued", ["QUEUED"], False),
        ("executing", ["QUEUED", "EXECUTING"], False),
        ("completed", ["QUEUED", "EXECUTING", "COMPLETED"], False),
        ("failed", ["ERROR"], False),
        ("aborted", ["ABORTED"], False),
        ("archived", ["ERROR", "ARCHIVED"], False),
        ("expired", [], True),
        ("expired and failed", ["ERROR"], True),
    ):
        jobId = made[name] = await uws.getNewJobId()
        for phase in phases:
            await uws.changeToPhase(jobId, phase)
        if expired:
            sql = "UPDATE jobs SET destruction = %s WHERE job_id = %s"
            await uws.database.query(sql, (PAST, jobId))
    sql = "UPDATE jobs SET creation_time = %s WHERE job_id = ANY(%s)"
    await uws.database.query(sql, (PAST, [made["forgotten"], made["queued"]]))
    return made


EXPIRED = {"expired", "expired and failed"}


@pytest.mark.parametrize(
    ("flags", "goes"),
    [
        ({}, EXPIRED),
        ({"includeFailed": True}, EXPIRED | {"failed", "aborted"}),
        ({"includeCompleted": True}, EXPIRED | {"completed"}),
        ({"includeForgotten": True}, EXPIRED | {"forgotten"}),
        (
            {"includeFailed": True, "includeCompleted": True, "includeForgotten": True},
            EXPIRED | {"failed", "aborted", "completed", "forgotten"},
        ),
        ({"includeAll": True}, None),
    ],
)
async def test_cleanup(uws, flags, goes):
    made = await several(uws)
    goes = set(made) if goes is None else goes
    wanted = {made[name] for name in goes}
    assert set(await uws.cleanupJobsTable(**flags, dryRun=True)) == wanted
    assert len(await uws.database.query("SELECT job_id FROM jobs")) == len(made)
    found = await uws.cleanupJobsTable(**flags)
    assert len(found) == len(wanted)
    assert set(found) == wanted
    rows = await uws.database.query("SELECT job_id FROM jobs")
    assert {row["job_id"] for row in rows} == set(made.values()) - wanted
    await uws.directoriesRemoved()
    assert {jobId for jobId in made.values() if hasDirectory(uws, jobId)} == {
        row["job_id"] for row in rows
    }
    assert await uws.cleanupJobsTable(**flags) == []


async def test_one_that_stays_is_passed_over(make, loggedErrors):
    uws = make(Careful)
    jobIds = [await uws.getNewJobId(runId="stays" if n == 2 else None) for n in range(5)]
    await uws.database.query("UPDATE jobs SET destruction = %s", (PAST,))
    assert set(await uws.cleanupJobsTable()) == {*jobIds} - {jobIds[2]}
    assert (await uws.getJob(jobIds[2])).runId == "stays"
    assert [failure.type for failure in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()
    await uws.directoriesRemoved()


async def test_more_than_a_batch(uws):
    await uws.database.query(
        "INSERT INTO jobs (job_id, service, execution_duration, destruction)"
        " SELECT md5(n::text), 'some', 0, timestamptz '2026-01-02' + (n / 100) * interval '1 s'"
        " FROM generate_series(1, 250) n"
    )
    assert len(set(await uws.cleanupJobsTable())) == 250
    assert await uws.database.query("SELECT job_id FROM jobs") == []
    await uws.directoriesRemoved()


async def test_changed_since_it_was_chosen(make):
    """A job that is given more time, or run, after it was chosen is not destroyed."""
    uws = make(Slow)
    for change in ("extend", "run"):
        first, second = sorted([await uws.getNewJobId(), await uws.getNewJobId()])
        await uws.database.query("UPDATE jobs SET creation_time = %s", (PAST,))
        if change == "extend":
            await uws.database.query("UPDATE jobs SET destruction = %s", (PAST,))
        cleaning = uws.cleanupJobsTable(includeForgotten=change == "run")
        await until(lambda: Slow.waiting)  # the first is being destroyed, the second chosen
        (job, waiter) = Slow.waiting.pop()
        assert job.jobId == first
        if change == "extend":
            await uws.update(second, destruction=datetime.now(UTC) + timedelta(hours=1))
        else:
            await uws.run(second)
        waiter.callback(None)
        assert await cleaning == [first]
        assert (await uws.getJob(second)).phase == ("QUEUED" if change == "run" else "PENDING")
        (destroying, _) = uws.destroy(second), await until(lambda: Slow.waiting)
        Slow.waiting.pop()[1].callback(None)
        await destroying
    await uws.directoriesRemoved()


async def test_read_only_where_it_is_read(uws):
    jobId = await uws.getNewJobId()
    with pytest.raises(Forbidden):
        (await uws.getJob(jobId)).destruction = None
    await uws.abort(jobId)
    await uws.abort(jobId)
    with pytest.raises(IllegalMove):
        await uws.run(jobId)


# Archiving


@pytest.fixture
def archiving(database, tmp_path):
    policy = Policy(archive=3600)
    return UWS(Careful, database=database, directory=tmp_path / "jobs", name="some", policy=policy)


async def expire(uws, *jobIds):
    """Let the destruction time of jobs pass."""
    await uws.database.query(
        "UPDATE jobs SET destruction = now() - interval '1 s' WHERE job_id = ANY(%s)",
        (list(jobIds),),
    )


async def test_archived(archiving):
    """Metadata are kept for a while, results are not, and the client cannot prolong that."""
    uws = archiving
    jobId = await uws.getNewJobId(runId="mine")
    await uws.changeToPhase(jobId, "ERROR", JobError(message="it failed"))
    async with uws.changeableJob(jobId) as job:
        job.results = (Result(id="r", file="r", mediaType="text/plain"),)
    before = await uws.getJob(jobId)
    await expire(uws, jobId)
    assert await uws.cleanupJobsTable() == [jobId]
    await uws.directoriesRemoved()
    assert not hasDirectory(uws, jobId)
    job = await uws.getJob(jobId)
    assert (job.phase, job.runId, job.error) == ("ARCHIVED", "mine", before.error)
    assert (job.startTime, job.endTime, job.results) == (before.startTime, before.endTime, ())
    left = (job.destruction - datetime.now(UTC)).total_seconds()
    assert 3500 < left < 3700
    with pytest.raises(NotPending, match="DESTRUCTION: the job is ARCHIVED"):
        await uws.update(jobId, destruction=datetime.now(UTC) + timedelta(days=1))
    assert Careful.seen.count(jobId) == 1
    assert await uws.cleanupJobsTable() == []
    await expire(uws, jobId)
    assert await uws.cleanupJobsTable() == [jobId]
    with pytest.raises(JobNotFound):
        await uws.getJob(jobId)
    assert Careful.seen.count(jobId) == 1


async def test_whatIsNotArchived(archiving):
    """What never ran, and what a client or an operator destroys."""
    uws = archiving
    pending, ended, archived = [await uws.getNewJobId() for _ in range(3)]
    await uws.abort(ended)
    await uws.abort(archived)
    await expire(uws, pending, archived)
    assert set(await uws.cleanupJobsTable()) == {pending, archived}
    with pytest.raises(JobNotFound):
        await uws.getJob(pending)
    await uws.destroy(archived)
    assert await uws.cleanupJobsTable(includeFailed=True) == [ended]
    for jobId in (ended, archived):
        with pytest.raises(JobNotFound):
            await uws.getJob(jobId)


async def test_archivedWhileItRuns(archiving):
    """Its work is ended, its directory goes with it, and what it tells later is not heard."""
    uws = archiving
    node = Node(uws.table, ["some"], slots=1)
    jobId = await uws.getNewJobId()
    await uws.run(jobId)
    record = await node.claim()
    await node.remember(record, {"backend": "none"})
    await expire(uws, jobId)
    assert await uws.cleanupJobsTable() == [jobId]
    job = await uws.getJob(jobId)
    assert (job.phase, job.startTime) == ("ARCHIVED", record.startTime)
    assert job.error.message == "The job was stopped, for its destruction time had come."
    assert [stop["job_id"] for stop in await node.stops()] == [jobId]
    assert hasDirectory(uws, jobId)
    with pytest.raises(StaleAttempt):
        await uws.recordOutcome(jobId, 1, Outcome(phase=COMPLETED), [], {})
    assert await node.stopped(jobId, 1)
