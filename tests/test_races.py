"""What happens when everybody wants the same at the same time."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.test_database import allOf
from tests.working import until
from twuws.database import Database
from twuws.errors import IllegalMove, Unavailable
from twuws.jobs import UWSJob
from twuws.jobservices import JobServices
from twuws.jobstable import JobsTable
from twuws.node import Node
from twuws.phases import FINAL
from twuws.uws import UWS
from twuws.workdir import WorkDir

pytestmark = [pytest.mark.slow, pytest.mark.covered]


class Counting(UWSJob):
    """Ends at once."""

    runs: list[str] = []

    async def run(self):
        self.runs.append(self.jobId)


@pytest.fixture
def uws(database, tmp_path):
    Counting.runs.clear()
    return UWS(Counting, database=database, directory=tmp_path / "jobs", name="some")


@asynccontextmanager
async def serving(*services, slots=4):
    jobServices = JobServices(services, slots=slots)
    jobServices.startService()
    try:
        await until(lambda: jobServices.running)
        yield jobServices
    finally:
        await jobServices.stopService()


def ended(uws, jobId):
    async def ended():
        while (job := await uws.wait(jobId)).phase not in FINAL:
            pass
        return job

    return Deferred.fromCoroutine(ended())


async def test_many_runs_of_one_job(uws):
    """One of them is heard, and the job is done once, while it may be done any time."""
    async with serving(uws):
        jobId = await uws.getNewJobId()
        results = await allOf(*(uws.run(jobId) for _ in range(200)))
        assert results.count(None) == 1
        assert all(result is None or result.check(IllegalMove) for result in results)
        job = await ended(uws, jobId)
        assert (job.phase, job.attempt) == ("COMPLETED", 1)
    assert Counting.runs == [jobId]


@pytest.mark.parametrize("much", [30, pytest.param(200, marks=pytest.mark.slow)])
async def test_abort_at_the_end(uws, much):
    """Whoever is first has it, and what has ended stays as it ended."""
    reactor = uws.database.reactor
    chance = random.Random(7)
    seen = {}

    async def race():
        jobId = await uws.getNewJobId()
        await uws.run(jobId)
        await deferLater(reactor, chance.uniform(0, 2 * usual))
        (result,) = await allOf(uws.abort(jobId))
        job = await ended(uws, jobId)
        assert job.phase == ("ABORTED" if result is None else "COMPLETED")
        assert result is None or result.check(IllegalMove)
        seen[jobId] = job.record

    async with serving(uws) as jobServices:
        began = reactor.seconds()
        jobIds = await gatherResults([uws.getNewJobId() for _ in range(10)])
        await gatherResults([uws.run(jobId) for jobId in jobIds])
        await gatherResults([ended(uws, jobId) for jobId in jobIds])
        usual = reactor.seconds() - began
        for _ in range(much // 10):
            await gatherResults([Deferred.fromCoroutine(race()) for _ in range(10)])
        await until(lambda: jobServices.dispatcher.busy == 0)
        for jobId, record in seen.items():
            assert (await uws.getJob(jobId)).record == record
    assert {record.phase for record in seen.values()} == {"ABORTED", "COMPLETED"}
    assert await uws.database.query("SELECT * FROM queue") == []
    assert await uws.database.query("SELECT * FROM stops") == []


async def test_claims(uws):
    """Four nodes empty a queue: each job once, and the older before the younger."""
    jobIds = await gatherResults([uws.getNewJobId() for _ in range(200)])
    await gatherResults([uws.run(jobId) for jobId in jobIds])
    rows = await uws.database.query("SELECT job_id FROM queue ORDER BY queued_at")
    places = {row["job_id"]: place for place, row in enumerate(rows)}
    databases = [Database(uws.database.dsn, schema=uws.database.schema, size=2) for _ in range(4)]
    claimed = []

    async def empty(node, mine):
        while (record := await node.claim()) is not None:
            claimed.append(record.jobId)
            mine.append(record)

    nodes = [Node(JobsTable(database), ["some"], slots=1) for database in databases]
    shares = [[] for _ in nodes]
    await gatherResults(
        [
            Deferred.fromCoroutine(empty(node, mine))
            for node, mine in zip(nodes, shares, strict=True)
        ]
    )
    assert sorted(claimed) == sorted(jobIds)
    assert all(shares)
    for mine in shares:
        order = [places[record.jobId] for record in mine]
        assert order == sorted(order)
        assert {record.attempt for record in mine} == {1}
    # Those who claim at the same time may be told in another order, by as many as they are.
    assert all(abs(places[jobId] - place) <= 12 for place, jobId in enumerate(claimed))
    rows = await uws.database.query("SELECT node, count(*) AS n FROM queue GROUP BY node")
    assert {row["node"]: row["n"] for row in rows} == {
        node.name: len(mine) for node, mine in zip(nodes, shares, strict=True)
    }
    for database in databases:
        await database.stopService()


async def test_nothing_to_claim(uws):
    node = Node(uws.table, ["some"], slots=1)
    jobId = await uws.getNewJobId()
    assert await node.claim() is None
    await uws.run(jobId)
    assert await Node(uws.table, ["other"], slots=1).claim() is None
    async with uws.changeableJob(jobId):
        assert await node.claim() is None  # rather than to wait
    assert (await node.claim()).jobId == jobId
    assert await node.claim() is None


async def test_held_while_it_could_be_claimed(uws):
    """A job that somebody held when the node looked is not left for long."""
    jobId = await uws.getNewJobId()
    await uws.run(jobId)
    async with AsyncExitStack() as stack:
        async with uws.changeableJob(jobId):
            jobServices = await stack.enter_async_context(serving(uws))
            await until(lambda: jobServices.dispatcher._looking is None)
            assert jobServices.dispatcher.busy == 0
        job = await ended(uws, jobId).addTimeout(5, uws.database.reactor)
        assert job.phase == "COMPLETED"


async def test_a_change_does_not_revert_another(uws):
    """Destruction, duration and phase of one job, changed by three at a time."""
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    for _ in range(20):
        jobId = await uws.getNewJobId()
        await gatherResults(
            [
                uws.update(jobId, destruction=later),
                uws.run(jobId),
                uws.update(jobId, executionDuration=77),
            ]
        )
        job = await uws.getJob(jobId)
        assert (job.phase, job.destruction, job.executionDuration) == ("QUEUED", later, 77)


async def test_created_at_once(uws):
    jobIds = await gatherResults([uws.getNewJobId(runId=str(n)) for n in range(100)])
    assert len(set(jobIds)) == 100
    for n, jobId in enumerate(jobIds):
        assert (await uws.getJob(jobId)).runId == str(n)


async def test_everything_at_once(uws):
    """Run, abort, change and destroy in any order: each job ends in one way, and no lock stays."""
    chance = random.Random(11)
    async with serving(uws) as jobServices:
        jobIds = await gatherResults([uws.getNewJobId() for _ in range(40)])
        actions = [
            (action, jobId)
            for jobId in jobIds
            for action in (
                uws.run,
                uws.abort,
                lambda jobId: uws.changeJob(jobId, lambda job: setattr(job, "runId", "r")),
                uws.destroy,
            )
        ]
        chance.shuffle(actions)
        results = await allOf(*(action(jobId) for action, jobId in actions))
        unexpected = [r for r in results if r is not None and r.check(Unavailable)]
        assert not unexpected
        await until(lambda: jobServices.dispatcher.busy == 0)
        await uws.directoriesRemoved()
        assert await uws.getIdsAndPhases() == []
        jobServices.dispatcher.look()
    assert await uws.database.query("SELECT * FROM queue") == []
    await uws.directoriesRemoved()
    assert list(uws.workDirs.known()) == []
    assert len(Counting.runs) == len(set(Counting.runs))


async def test_stood_still_before_the_beginning(uws, monkeypatch):
    """What a node has claimed it does not begin once its lease is over: it is queued again."""
    isThere = WorkDir.isThere

    def standStill(place):
        if place.attempt == 1:
            jobServices.node.leaseEnds = 0.001
        return isThere(place)

    monkeypatch.setattr(WorkDir, "isThere", standStill)
    async with serving(uws, slots=1) as jobServices:
        jobId = await uws.getNewJobId()
        await uws.run(jobId)
        job = await ended(uws, jobId)
    assert (job.phase, job.attempt) == ("COMPLETED", 2)
    assert Counting.runs == [jobId]
