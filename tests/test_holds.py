"""What is not to run for now: holds on jobs, owners and services."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from twisted.internet.defer import gatherResults

from tests.serving import Noted, text
from twuws import uwsholding
from twuws.database import Database
from twuws.errors import BadRequest, IllegalMove, NotFound, Unavailable
from twuws.jobs import JobError
from twuws.jobservices import JobServices
from twuws.jobstable import JobsTable
from twuws.node import Node
from twuws.phases import ABORTED, EXECUTING, HELD, PENDING, QUEUED
from twuws.statements import STATEMENTS
from twuws.uws import UWS


@pytest.fixture
def make(database, tmp_path):
    """Makes facades over one database and directory."""

    def make(name="noted", jobClass=Noted, database=database, **more):
        return UWS(jobClass, database=database, directory=tmp_path / "jobs", name=name, **more)

    return make


@pytest.fixture
def uws(make):
    return make()


@pytest.fixture
def node(uws):
    """A node that claims of the services C{noted} and C{other}."""
    return Node(JobsTable(uws.database), ["noted", "other"], slots=10)


async def queued(uws, **properties):
    """A job that has been run."""
    jobId = await uws.getNewJobId(**properties)
    await uws.run(jobId)
    return jobId


async def phase(uws, jobId):
    return (await uws.getJob(jobId)).phase


async def claimed(node):
    record = await node.claim()
    return record and record.jobId


async def story(uws, jobId):
    """The phases of a job, with who asked for them and why."""
    rows = await uws.database.query(
        "SELECT phase, who, why FROM events WHERE job_id = %s ORDER BY event_id", (jobId,)
    )
    return [(row["phase"], row["who"], row["why"]) for row in rows]


# RUN under a hold


@pytest.mark.parametrize("what", ["service", "owner", "both", "everywhere", "job"])
async def test_run_under_a_hold(uws, node, what):
    """It is HELD, and says why; RUN changes nothing while the hold lasts; then it is queued."""
    jobId = await uws.getNewJobId(owner="anna")
    put = {
        "service": lambda: uws.holdAll(who="me", why="Repairs."),
        "owner": lambda: uws.holdAll("anna", who="me", why="Repairs."),
        "both": lambda: uws.holdAll("anna", who="me", why="Repairs."),
        "everywhere": lambda: uws.holdAll("anna", everyService=True, who="me", why="Repairs."),
        "job": lambda: uws.hold(jobId, "me", "Repairs."),
    }
    take = {
        "service": lambda: uws.releaseAll(who="you"),
        "owner": lambda: uws.releaseAll("anna", who="you"),
        "both": lambda: uws.releaseAll("anna", who="you"),
        "everywhere": lambda: uws.releaseAll("anna", everyService=True, who="you"),
        "job": lambda: uws.release(jobId, "you"),
    }
    await put[what]()
    assert await phase(uws, jobId) is PENDING
    for _ in range(2):
        await uws.run(jobId, who="anna")
        job = await uws.getJob(jobId)
        assert (job.phase, job.jobInfo) == (HELD, {"heldBecause": "Repairs."})
        assert await claimed(node) is None
    await take[what]()
    job = await uws.getJob(jobId)
    assert (job.phase, job.jobInfo) == (QUEUED, {})
    assert await claimed(node) == jobId
    assert (await story(uws, jobId))[1:3] == [
        ("HELD", "anna", "Repairs."),
        ("QUEUED", "you", "It is not held any more."),
    ]


async def test_nobody_else_is_held(uws, make, node):
    other = make("other")
    await uws.holdAll("anna")
    await uws.holdAll("")
    free = [await queued(uws, owner="ben"), await queued(other, owner="anna"), await queued(other)]
    held = [await queued(uws, owner="anna"), await queued(uws), await queued(uws, owner="")]
    assert [await phase(uws, one) for one in held] == [HELD] * 3
    assert {await claimed(node) for _ in range(4)} == {*free, None}


async def test_all_who_are_anonymous_are_held(uws, node):
    """Wherever they come from; before they are queued, while they are, and until released."""
    waiting = await uws.getNewJobId(client="192.0.2.1")
    await uws.run(waiting)
    await uws.holdAll("")
    later = await uws.getNewJobId(client="192.0.2.2")
    await uws.run(later)
    assert [await phase(uws, one) for one in (waiting, later)] == [HELD] * 2
    assert await claimed(node) is None
    await uws.releaseAll("")
    assert {await claimed(node) for _ in range(3)} == {waiting, later, None}


async def test_a_hold_that_is_not_settled_yet_counts(uws, node):
    """A claim that comes between finds nothing of whom the hold is for."""
    await uws.run(await uws.getNewJobId(client="192.0.2.1"))
    free = await queued(uws, owner="ben")
    hold = {"jobId": None, "service": None, "owner": "", "who": None, "why": None}
    await uws.table.run("putHold", hold)
    assert {await claimed(node) for _ in range(2)} == {free, None}


async def test_without_a_reason(uws):
    await uws.holdAll(why="")
    jobId = await queued(uws)
    assert (await uws.getJob(jobId)).jobInfo == {}


async def test_what_a_job_tells_otherwise_stays(uws):
    jobId = await uws.getNewJobId(jobInfo={"a": 1})
    await uws.hold(jobId, why="\x00\ud800Not now")
    await uws.run(jobId)
    assert (await uws.getJob(jobId)).jobInfo == {"a": 1, "heldBecause": "\ufffd\ufffdNot now"}
    await uws.abort(jobId)
    assert (await uws.getJob(jobId)).jobInfo == {"a": 1}


async def test_abort_and_destroy(uws, database):
    await uws.holdAll()
    jobId, second = await queued(uws), await queued(uws)
    await uws.hold(second)
    await uws.abort(jobId)
    await uws.destroy(second)
    assert await phase(uws, jobId) is ABORTED
    assert [one.jobId for one in await uws.getHolds()] == [None]
    assert await uws.releaseAll() == 0
    assert await phase(uws, jobId) is ABORTED


# What is under way already


async def test_what_is_queued_is_held_and_what_runs_goes_on(uws, make, node):
    other = make("other")
    running = await queued(uws)
    assert await claimed(node) == running
    waiting = [await queued(uws, owner=owner) for owner in ("anna", "ben", None)]
    elsewhere = await queued(other, owner="anna")
    assert await uws.holdAll(who="me", why="Repairs.") == 3
    assert [await phase(uws, one) for one in waiting] == [HELD] * 3
    assert await phase(uws, running) is EXECUTING
    assert (await uws.getJob(waiting[0])).jobInfo == {"heldBecause": "Repairs."}
    assert (await story(uws, waiting[0]))[-1] == ("HELD", "me", "Repairs.")
    assert await uws.holdAll("anna", everyService=True) == 1
    assert await phase(other, elsewhere) is HELD
    assert await claimed(node) is None
    assert await uws.database.query("SELECT job_id FROM queue") == [{"job_id": running}]


async def test_a_job_that_runs_is_held_when_it_would_be_queued_again(uws, node):
    jobId = await queued(uws)
    record = await node.claim()
    assert await uws.hold(jobId, why="Look at it first.") is EXECUTING
    lost = JobError(message="It was lost.")
    await uws.recordLoss(jobId, record.attempt, lost, ended=True, again=True)
    job = await uws.getJob(jobId)
    assert (job.phase, job.startTime) == (HELD, None)
    assert job.jobInfo["heldBecause"] == "Look at it first."
    assert await claimed(node) is None
    await uws.release(jobId)
    assert await claimed(node) == jobId


async def test_what_has_ended_is_not_held(uws):
    jobId = await uws.getNewJobId()
    await uws.abort(jobId)
    with pytest.raises(IllegalMove, match="ABORTED"):
        await uws.hold(jobId)
    assert await uws.getHolds() == []


# Several holds


async def test_other_holds_keep_it(uws):
    """A job is queued when the last of its holds is gone, and says why it is held until then."""
    jobId = await queued(uws, owner="anna")
    await uws.hold(jobId)
    await uws.holdAll(why="Repairs.")
    assert (await uws.getJob(jobId)).jobInfo == {"heldBecause": "Repairs."}
    await uws.holdAll("anna", everyService=True, why="Too many.")
    assert await uws.releaseAll() == 0
    job = await uws.getJob(jobId)
    assert (job.phase, job.jobInfo) == (HELD, {"heldBecause": "Too many."})
    assert await uws.release(jobId) is HELD
    with pytest.raises(NotFound, match="no hold on the job .* owner or service"):
        await uws.release(jobId)
    assert await uws.releaseAll("anna", everyService=True) == 1
    assert await phase(uws, jobId) is QUEUED


async def test_releasing_what_is_not_held(uws):
    jobId = await queued(uws)
    for release, what in (
        (lambda: uws.release(jobId), jobId),
        (uws.releaseAll, "the service noted"),
        (lambda: uws.releaseAll("anna"), "the owner 'anna' at the service noted"),
        (lambda: uws.releaseAll("", everyService=True), "those without an owner"),
    ):
        with pytest.raises(NotFound, match=f"no hold on .*{what}"):
            await release()
    with pytest.raises(BadRequest, match="each service"):
        await uws.holdAll(everyService=True)
    assert await phase(uws, jobId) is QUEUED


async def test_releasing_that_was_interrupted(uws, database):
    """The hold is gone, and some jobs are HELD still: it can be done again."""
    jobId = await uws.getNewJobId()
    await uws.hold(jobId)
    await uws.run(jobId)
    await uws.holdAll()
    second = await queued(uws)
    await database.query("DELETE FROM holds")
    assert await uws.release(jobId) is QUEUED
    assert await uws.releaseAll() == 1
    assert await phase(uws, second) is QUEUED


async def test_the_same_hold_again(uws):
    jobId = await uws.getNewJobId()
    began = datetime.now(UTC) - timedelta(seconds=30)
    await uws.holdAll("anna", who="me", why="a")
    await uws.hold(jobId, "me")
    await uws.holdAll("anna", who="you", why="b")
    first, second = await uws.getHolds()
    assert (first.jobId, first.service, first.owner) == (None, "noted", "anna")
    assert (first.who, first.why) == ("you", "b")
    assert (second.jobId, second.service, second.owner) == (jobId, "noted", None)
    assert began < first.since < second.since
    assert set(first.asJSON()) == {"jobId", "service", "owner", "since", "who", "why"}


async def test_holds_of_others(uws, make):
    other = make("other")
    await other.holdAll()
    await other.hold(await other.getNewJobId())
    await uws.holdAll("anna", everyService=True)
    assert [(one.service, one.owner) for one in await uws.getHolds()] == [(None, "anna")]


# The queue


async def test_priority_and_place_are_kept(uws, node):
    """Jobs are claimed after a hold in the order that they would have had."""
    first = await queued(uws, owner="a")
    urgent = await uws.getNewJobId(owner="a")
    await uws.run(urgent, priority=5)
    await uws.holdAll("a")
    late, lateUrgent = await uws.getNewJobId(owner="a"), await uws.getNewJobId(owner="a")
    await uws.run(late)
    await uws.run(lateUrgent, priority=5)
    await uws.hold(first)
    last = await queued(uws, owner="b")
    assert await uws.releaseAll("a") == 3
    await uws.release(first)
    order = [await claimed(node) for _ in range(6)]
    assert order[:2] == [urgent, lateUrgent]
    assert [one for one in order if one in (first, late)] == [first, late]
    assert last in order


async def test_in_batches(uws, node, monkeypatch):
    monkeypatch.setattr(uwsholding, "BATCH", 7)
    ids = [await queued(uws) for _ in range(30)]
    assert await uws.holdAll() == 30
    assert await uws.releaseAll() == 30
    assert [await claimed(node) for _ in range(30)] == ids


async def test_a_job_that_is_being_changed(uws, node):
    """It is waited for; if that takes too long it is said, and the job is not started."""
    busy, other = await queued(uws), await queued(uws)
    async with uws.changeableJob(busy):
        uws.lockTimeout = 0.3
        with pytest.raises(Unavailable, match="1 job is being changed"):
            await uws.holdAll()
        assert await phase(uws, other) is HELD
        uws.lockTimeout = 10
        waiting = uws.holdAll()
        assert not waiting.called
    assert await waiting == 1
    assert await phase(uws, busy) is HELD


async def test_claims_honour_holds(uws, node, database):
    """Also if a job is still QUEUED, for it could not be changed."""
    for args in ("'noted', NULL", "NULL, 'anna'", "'noted', 'anna'"):
        jobId = await queued(uws, owner="anna")
        await database.query(f"INSERT INTO holds (service, owner) VALUES ({args})")
        assert await claimed(node) is None
        await database.query("DELETE FROM holds")
        assert await claimed(node) == jobId


async def test_run_and_hold_at_once(uws, make, node):
    """Whichever is first, in the end no job is QUEUED under a hold, or HELD without one."""
    second = Database(uws.database.dsn, schema=uws.database.schema)
    second.startService()
    other = make(database=second)
    for number in range(8):
        ids = [await uws.getNewJobId(owner="anna") for _ in range(6)]
        held = other.holdAll("anna") if number % 2 else other.holdAll()
        await gatherResults([*(uws.run(one) for one in ids), held])
        assert [await phase(uws, one) for one in ids] == [HELD] * 6
        assert await claimed(node) is None
        late = [await uws.getNewJobId(owner="anna") for _ in range(4)]
        released = other.releaseAll("anna") if number % 2 else other.releaseAll()
        await gatherResults([*(uws.run(one) for one in late), released])
        assert [await phase(uws, one) for one in ids + late] == [QUEUED] * 10
        for one in ids + late:
            await uws.abort(one)
    await second.stopService()


async def test_what_a_run_costs(uws, database):
    """That holds are looked at takes no round trip more than a move to QUEUED always took."""
    jobId = await uws.getNewJobId()
    sent = []
    execute = database.execute

    def counted(connection, cursor, sql, args):
        sent.append(sql)
        return execute(connection, cursor, sql, args)

    database.execute = counted
    await uws.run(jobId)
    own = [sql for sql in sent if "jobs" in sql]
    assert len(own) == 3, own  # the lock, the hold, the move
    assert len(sent) == 4, sent  # with the end of the transaction, which begins with the first


async def test_run_that_has_looked_is_waited_for(uws, database):
    """A hold does not come between the look at the holds and the move to QUEUED."""
    jobId = await uws.getNewJobId()
    async with uws._locked(jobId) as (t, record, _):
        assert await uws.table.holdOn(jobId, t) is None
        holding = uws.holdAll()
        while not await database.query("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        await uws._move(t, record, QUEUED)
    assert await holding == 1
    assert await phase(uws, jobId) is HELD


async def test_released_jobs_are_started_at_once(uws):
    """Nobody polls for them."""
    services = JobServices([uws], slots=1)
    services.dispatcher.interval = 1000
    services.startService()
    while not services.running:
        await uws.database.query("SELECT 1")
    await uws.holdAll()
    jobId = await queued(uws)
    await uws.releaseAll()
    job = await uws.untilEnded(jobId, 10)
    assert job.phase == "COMPLETED"
    await services.stopService()


@pytest.mark.slow
async def test_ten_thousand(database, uws):
    """Beside a hundred thousand that have ended; by index."""
    await database.query(
        "INSERT INTO jobs (job_id, service, phase, end_time, execution_duration)"
        " SELECT 'e' || n, 'noted', 'ABORTED', now(), 0 FROM generate_series(1, 100000) n"
    )
    await database.query(
        "INSERT INTO jobs (job_id, service, phase, execution_duration)"
        " SELECT 'q' || n, 'noted', 'QUEUED', 0 FROM generate_series(1, 10000) n"
    )
    await database.query(
        "INSERT INTO queue (job_id, service) SELECT job_id, service FROM jobs"
        " WHERE phase = 'QUEUED'"
    )
    await database.query("ANALYZE jobs")
    assert await uws.holdAll() == 10000
    args = {"jobId": None, "service": "noted", "owner": None, "limit": 500, "who": None}
    rows = await database.query(
        "EXPLAIN (FORMAT JSON) " + STATEMENTS["settleHolds"], {**args, "why": None}
    )
    assert "jobs_held" in str(rows[0]["QUERY PLAN"])
    assert await uws.releaseAll() == 10000


# Over HTTP


@pytest.mark.slow
async def test_over_http(serving):
    """RUN is answered as ever; the document says what there is to say."""
    await serving.uws.holdAll(why="The disks are full.")
    for created in (False, True):
        url = await serving.create({"PHASE": "RUN"} if created else {})
        if not created:
            assert await serving.phase(url) == "PENDING"
        if not created:
            answer = await serving.post(url + "/phase", {"PHASE": "RUN"})
            assert (answer.status, answer.location) == (303, url)
        job = await serving.job(url, params={"WAIT": "20"})
        assert text(job, "phase") == "HELD"
        assert b"heldBecause>The disks are full.<" in (await serving.get(url)).content
        answer = await serving.post(url + "/phase", {"PHASE": "RUN"})
        assert (answer.status, answer.location) == (303, url)
        assert await serving.phase(url) == "HELD"
    aborted = await serving.create({"PHASE": "RUN"})
    assert (await serving.post(aborted + "/phase", {"PHASE": "ABORT"})).status == 303
    assert await serving.phase(aborted) == "ABORTED"
    assert await serving.uws.releaseAll() == 2
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"
    assert b"heldBecause" not in (await serving.get(url)).content
