"""Reading jobs, listing them, and waiting for them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from tests.working import until
from twuws.errors import JobNotFound
from twuws.jobs import UWSJob
from twuws.jobstable import ListFilters
from twuws.phases import ACTIVE, Phase
from twuws.uws import UWS


@pytest.fixture
def uws(database, tmp_path):
    """A service whose watcher listens."""
    import pytest_twisted

    uws = UWS(UWSJob, database=database, directory=tmp_path / "jobs", name="some")
    connected = Deferred()
    uws.watcher.observers.add(lambda *ignored: connected.called or connected.callback(None))
    uws.watcher.startService()
    pytest_twisted.blockon(connected)
    yield uws
    pytest_twisted.blockon(uws.watcher.stopService())


WAYS = {
    "PENDING": [],
    "QUEUED": ["QUEUED"],
    "EXECUTING": ["QUEUED", "EXECUTING"],
    "COMPLETED": ["QUEUED", "EXECUTING", "COMPLETED"],
    "ERROR": ["ERROR"],
    "ABORTED": ["ABORTED"],
    "UNKNOWN": ["QUEUED", "EXECUTING", "UNKNOWN"],
    "HELD": ["HELD"],
    "SUSPENDED": ["QUEUED", "EXECUTING", "SUSPENDED"],
    "ARCHIVED": ["ERROR", "ARCHIVED"],
}


async def jobIn(uws, phase, **properties):
    jobId = await uws.getNewJobId(**properties)
    for step in WAYS[phase]:
        await uws.changeToPhase(jobId, step)
    return jobId


# Lists


async def test_filters(uws):
    jobs = {}
    for owner in ("me", None):
        for phase in WAYS:
            jobs[await jobIn(uws, phase, owner=owner)] = (owner, phase)
            await uws.database.query("SELECT pg_sleep(0.002)")
    newestFirst = list(reversed(jobs))

    async def listed(**filters):
        pairs = await uws.getIdsAndPhases(**filters)
        assert all(jobs[jobId][1] == phase for jobId, phase in pairs)
        return [jobId for jobId, _ in pairs]

    def expected(wanted):
        return [jobId for jobId in newestFirst if wanted(*jobs[jobId])]

    assert await listed() == expected(lambda owner, phase: phase != "ARCHIVED")
    assert await listed(owner="me") == expected(lambda o, p: o == "me" and p != "ARCHIVED")
    assert await listed(owner="other") == []
    assert await listed(phase="ARCHIVED") == expected(lambda o, p: p == "ARCHIVED")
    assert await listed(phase=Phase.HELD) == expected(lambda o, p: p == "HELD")
    assert await listed(phase=["HELD", "ERROR"]) == expected(lambda o, p: p in ("HELD", "ERROR"))
    assert await listed(last=0) == []
    assert await listed(last=3) == expected(lambda o, p: p != "ARCHIVED")[:3]
    assert await listed(last=10**6) == expected(lambda o, p: p != "ARCHIVED")
    shown = (await uws.getJob(newestFirst[5])).creationTime
    assert await listed(after=shown) == [j for j in newestFirst[:5] if jobs[j][1] != "ARCHIVED"]
    assert await listed(after=datetime.now(UTC)) == []
    assert await listed(owner="me", phase="ERROR", last=1, after=datetime.min) == expected(
        lambda o, p: (o, p) == ("me", "ERROR")
    )
    with pytest.raises(ValueError, match="DONE"):
        uws.getIdsAndPhases(phase="DONE")


async def test_pages(uws):
    """Jobs of one instant are on one page each, whatever the size of pages."""
    jobIds = await gatherResults([uws.getNewJobId() for _ in range(20)])
    await uws.database.query("UPDATE jobs SET creation_time = '2026-01-02'")
    for last in (None, 7, 6, 20, 50):
        seen = []
        async for page in uws.pagesOfJobs(ListFilters(last=last), pageSize=3):
            assert len(page) <= 3
            seen += [ref.jobId for ref in page]
        assert seen == sorted(jobIds)[:last]
    assert len(await uws.getIdsAndPhases()) == 20


async def test_paging_while_jobs_come_and_go(uws):
    """What is there all the time is listed once; what goes takes no other with it."""
    jobIds = await gatherResults([uws.getNewJobId() for _ in range(30)])
    staying, going = set(jobIds[::2]), jobIds[1::2]
    seen = []
    async for page in uws.pagesOfJobs(ListFilters(), pageSize=3):
        seen += [ref.jobId for ref in page]
        await uws.getNewJobId()
        if going:
            await uws.destroy(going.pop())
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)
    await uws.directoriesRemoved()


async def test_runCanned(uws):
    jobId = await uws.getNewJobId(runId="r")
    (row,) = await uws.runCanned("getJob", {"jobId": jobId, "service": "some"})
    assert (dict(row)["run_id"], row["phase"]) == ("r", "PENDING")
    async with uws.database.transaction() as t:
        await uws.runCanned("deleteJob", {"jobId": jobId, "told": None}, t)
        known = {"jobIds": [jobId]}
        assert await uws.runCanned("jobsKnown", known, t) == []
        assert await uws.runCanned("jobsKnown", known) == [{"job_id": jobId}]
    with pytest.raises(KeyError):
        uws.runCanned("nothing")


async def test_read_together(uws, monkeypatch):
    """Jobs that are asked for at a time share statements; who has much is read by itself."""
    jobIds = [await uws.getNewJobId(runId=str(n)) for n in range(40)]
    large = await uws.getNewJobId(parameters={"p": secrets.token_hex(20_000)})
    asked, run = [], uws.table.run

    def note(statementId, *more):
        asked.append(statementId)
        return run(statementId, *more)

    monkeypatch.setattr(uws.table, "run", note)
    jobs = await gatherResults([uws.getJob(one) for one in (*jobIds, *jobIds)])
    assert [job.jobId for job in jobs] == [*jobIds, *jobIds]
    assert [job.runId for job in jobs[:40]] == list(map(str, range(40)))
    assert set(asked) == {"getSmallJobs"}
    assert len(asked) <= 2 + 80 / 16 + 1
    asked.clear()
    others = [uws.getJob(one) for one in jobIds[:3]]
    asking = [uws.getJob(large), uws.getJob("0" * 32)]
    found, nothing = await DeferredList(asking, consumeErrors=True)
    assert len(found[1].parameters["p"][0]) == 40_000
    assert nothing[1].check(JobNotFound)
    assert asked.count("getJob") == 2
    assert [job.jobId for job in await gatherResults(others)] == jobIds[:3]


async def test_large_ones_leave_connections_to_others(uws):
    """However many are asked for, for each takes long, and much memory."""
    large = await uws.getNewJobId(parameters={"p": secrets.token_hex(20_000)})
    most, one = [], uws.table.one

    async def count(statementId, *more):
        under.append(1)
        most.append(len(under))
        try:
            return await one(statementId, *more)
        finally:
            under.pop()

    under = []
    uws.table.one = count
    await gatherResults([uws.getJob(large) for _ in range(20)])
    assert (len(most), max(most)) == (20, 2)


async def test_large_ones_of_those_who_hang_up(uws):
    """What they have asked for goes on, and until it ends others do not begin beside it."""
    large = await uws.getNewJobId(parameters={"p": secrets.token_hex(20_000)})
    under, most, execute, over = [], [], uws.database.execute, Deferred()

    async def slowly(connection, cursor, sql, args):
        if "job_id = %(jobId)s" in sql:
            under.append(sql)
            most.append(len(under))
            await over
            under.pop()
        return await execute(connection, cursor, sql, args)

    uws.database.execute = slowly
    for _ in range(3):
        begun, reading = len(most), [uws.getJob(large) for _ in range(3)]
        await until(lambda begun=begun: len(most) >= begun + 2 or len(uws._largeReads.waiting) == 3)
        for one in reading:
            one.addErrback(lambda failure: failure.trap(CancelledError))
            one.cancel()
    assert max(most) == 2
    over.callback(None)
    await until(lambda: not under and uws._largeReads.tokens == 2)


@pytest.mark.parametrize("size", [1, 20_000])
async def test_cancelled_reads(uws, size):
    """Who gives up takes nothing from others who read the same at the same time."""
    jobId = await uws.getNewJobId(parameters={"p": secrets.token_hex(size)})
    for _ in range(4):
        reading = [uws.getJob(jobId) for _ in range(9)]
        for one in reading[::2]:
            one.cancel()
        ended = await DeferredList(reading, consumeErrors=True)
        assert [hasJob for hasJob, _ in ended] == [False, True] * 4 + [False]
        assert all(found.check(CancelledError) for _, found in ended[::2])
    assert (await uws.getJob(jobId)).jobId == jobId


# Waiting (1.15)


@pytest.mark.parametrize("phase", list(WAYS))
async def test_when_it_waits(uws, phase):
    """The decision table: who has nothing to wait for has its answer at once."""
    jobId = await jobIn(uws, phase)
    others = frozenset(Phase) - {Phase(phase)}
    for seconds in (5, -1):
        assert (await within(0.9, uws.wait(jobId, seconds, others))).phase == phase
    for phases in (None, frozenset({Phase(phase)})):
        for seconds in (5, -1):
            waiting = uws.wait(jobId, seconds, phases)
            if phase in ACTIVE:
                await until(lambda: uws.watcher.waiting() == 1)
                await uws.database.query("SELECT 1")
                assert not waiting.called
                waiting.cancel()
                with pytest.raises(CancelledError):
                    await waiting
            else:
                assert (await within(0.9, waiting)).phase == phase
            assert uws.watcher.waiting() == 0
    assert (await within(0.9, uws.wait(jobId, 0))).phase == phase
    assert uws.watcher.waiting() == 0


async def within(seconds, waiting):
    from twisted.internet import reactor

    return await waiting.addTimeout(seconds, reactor)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("PENDING", "QUEUED"),
        ("QUEUED", "EXECUTING"),
        ("EXECUTING", "COMPLETED"),
        ("PENDING", "HELD"),
    ],
)
@pytest.mark.parametrize("phases", [None, "same"])
async def test_woken_by_a_change(uws, old, new, phases):
    jobId = await jobIn(uws, old)
    waiting = [uws.wait(jobId, 20, phases and frozenset({Phase(old)})) for _ in range(10)]
    await until(lambda: uws.watcher.waiting() == 10)
    await until(lambda: len(uws.database._slots.pending) == uws.database.size)  # all have looked
    await uws.changeToPhase(jobId, new)
    for job in await gatherResults(waiting):
        assert job.phase == new
    assert uws.watcher.waiting() == 0


async def test_not_woken_by_less(uws):
    """What is no change of phase ends no wait, nor does another job's."""
    jobId, other = await uws.getNewJobId(), await uws.getNewJobId()
    waiting = uws.wait(jobId, 20)
    await until(lambda: uws.watcher.waiting() == 1)
    async with uws.changeableJob(jobId) as job:
        job.runId = "r"
    await uws.abort(other)
    uws.watcher.wakeAll()
    await uws.database.query("SELECT 1")
    await until(lambda: uws.watcher.waiting() == 1)
    assert not waiting.called
    await uws.abort(jobId)
    assert (await waiting).runId == "r"


async def test_time_is_up(uws):
    jobId = await uws.getNewJobId()
    began = uws.database.reactor.seconds()
    assert (await uws.wait(jobId, 0.2)).phase == "PENDING"
    assert 0.19 < uws.database.reactor.seconds() - began < 2
    uws.longestWait = 0.2
    for seconds in (-1, 1000):
        assert (await within(2, uws.wait(jobId, seconds))).phase == "PENDING"
    assert uws.watcher.waiting() == 0


async def test_destroyed_while_waiting(uws):
    jobId = await uws.getNewJobId()
    waiting = uws.wait(jobId, 20)
    await until(lambda: uws.watcher.waiting() == 1)
    await uws.destroy(jobId)
    with pytest.raises(JobNotFound):
        await waiting
    with pytest.raises(JobNotFound):
        await uws.wait(jobId, 20)
    assert uws.watcher.waiting() == 0
    await uws.directoriesRemoved()


async def test_cancelled_wait_leaves_nothing(uws):
    jobId = await uws.getNewJobId()
    for turns in range(12):
        waiting = uws.wait(jobId, 20)
        for _ in range(turns):
            await deferLater(uws.database.reactor, 0)
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        assert uws.watcher.waiting() == 0
        assert uws.watcher._waiting == {}


async def test_stop_answers(database, tmp_path):
    uws = UWS(UWSJob, database=database, directory=tmp_path / "jobs", name="other")
    uws.watcher.startService()
    jobId = await uws.getNewJobId()
    waiting = [uws.wait(jobId, 20) for _ in range(5)]
    await until(lambda: uws.watcher.waiting() == 5)
    await uws.watcher.stopService()
    assert [job.phase for job in await gatherResults(waiting)] == ["PENDING"] * 5
    assert (await within(0.9, uws.wait(jobId, 20))).phase == "PENDING"


async def test_changed_while_not_listening(uws):
    """What happened while the connection was away is seen when it is back."""
    jobId = await uws.getNewJobId()
    waiting = uws.wait(jobId, 20)
    await until(lambda: uws.watcher.waiting() == 1)
    async with uws.database.transaction() as t:
        await t.execute("SET LOCAL session_replication_role = replica")  # no trigger, no NOTIFY
        await t.execute("UPDATE jobs SET phase = 'HELD'")
    assert not waiting.called
    await uws.database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN \"%'"
    )
    assert (await waiting).phase == "HELD"
