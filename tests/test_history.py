"""The records: every change of phase is one row, which says when, where, who and why."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg2
import pytest

from tests.jobclasses import Shell
from twuws.chores import Deadlines, Forgetter, Reaper
from twuws.dispatcher import Dispatcher
from twuws.errors import IllegalMove, JobFailure, JobNotFound
from twuws.jobs import JobError, Outcome, UWSJob
from twuws.jobstable import Told
from twuws.node import Node, NodeSettings
from twuws.phases import MOVES, Phase
from twuws.policy import Policy
from twuws.rescuer import Rescuer
from twuws.uws import UWS, By

ME = Told(who="me", why="I want it.", node="here")


class Restartable(Shell):
    """A program that may be started again."""

    restartable = True


class Guarded(UWSJob):
    """Does not let itself be destroyed."""

    def prepareForDestruction(self):
        raise JobFailure("not now")


@pytest.fixture
def make(database, tmp_path):
    def make(cls=UWSJob, **policy):
        directory = tmp_path / "jobs"
        return UWS(
            cls, database=database, directory=directory, name="some", policy=Policy(**policy)
        )

    return make


@pytest.fixture
def uws(make):
    return make()


def told(events):
    """Of each event, what does not depend on the clock."""
    return [(e.phase and str(e.phase), e.attempt, e.node, e.who, e.why) for e in events]


async def rows(uws, jobId):
    return await uws.database.query("SELECT * FROM events WHERE job_id = %s", (jobId,))


# Moves

#: A way to each phase; QUEUED to EXECUTING by hand is no attempt.
WAYS = {
    "PENDING": [],
    "HELD": ["HELD"],
    "QUEUED": ["QUEUED"],
    "EXECUTING": ["QUEUED", "EXECUTING"],
    "SUSPENDED": ["QUEUED", "EXECUTING", "SUSPENDED"],
    "UNKNOWN": ["QUEUED", "EXECUTING", "UNKNOWN"],
    "COMPLETED": ["QUEUED", "EXECUTING", "COMPLETED"],
    "ERROR": ["ERROR"],
    "ABORTED": ["ABORTED"],
    "ARCHIVED": ["ABORTED", "ARCHIVED"],
}


@pytest.mark.parametrize("old", list(Phase))
async def test_everyMoveIsOneRow(uws, old):
    for new in Phase:
        jobId = await uws.getNewJobId(who="ann")
        for phase in WAYS[old]:
            await uws.changeToPhase(jobId, phase)
        before = await uws.history(jobId)
        assert [str(event.phase) for event in before] == ["PENDING", *WAYS[old]]
        if new not in MOVES[old]:
            with pytest.raises(IllegalMove):
                await uws.changeToPhase(jobId, new, told=ME)
            assert await uws.history(jobId) == before
            continue
        error = JobError(message="It rains.") if new in ("ERROR", "ABORTED") else None
        await uws.changeToPhase(jobId, new, error, told=ME)
        *same, last = await uws.history(jobId)
        assert same == before
        assert told([last]) == [(new, 0, "here", "me", "I want it.")]
        assert before[-1].at <= last.at <= datetime.now(UTC)


async def test_whatClientsDo(make):
    """Creating, running, aborting, and what is refused or changes no phase."""
    uws = make(Shell)
    jobId = await uws.getNewJobId(owner="ann", who="ann", parameters={"script": "true"})
    await uws.update(jobId, runId="r", who="ann")
    async with uws.changeableJob(jobId) as job:
        job.jobInfo = {"a": 1}
    await uws.run(jobId, "bob")
    with pytest.raises(IllegalMove):
        await uws.run(jobId, "bob")
    await uws.update(jobId, phase="ABORT", who="eve\0")
    await uws.abort(jobId, told=ME)
    assert told(await uws.history(jobId)) == [
        ("PENDING", 0, None, "ann", None),
        ("QUEUED", 0, None, "bob", None),
        ("ABORTED", 0, None, "eve\ufffd", None),
    ]
    (row, *_) = await rows(uws, jobId)
    assert (row["service"], row["owner"]) == ("some", "ann")


async def test_incomplete(make):
    """A job that lacks a parameter goes to ERROR when it is run: there is its reason."""
    uws = make(Shell)
    jobId = await uws.getNewJobId()
    await uws.update(jobId, phase="RUN", who="ann")
    (*_, last) = await uws.history(jobId)
    assert (last.phase, last.who) == ("ERROR", "ann")
    assert "script" in last.why


@pytest.mark.parametrize("isRun", [False, True])
async def test_triedTwice(uws, isRun):
    """A creation that is repeated, for its answer was lost, is one all the same."""
    job = uws._draft({})
    for _ in range(2):
        await uws._insert(job, isRun, By("ann", None), None)
    expected = ["PENDING", "QUEUED"] if isRun else ["PENDING"]
    assert [event.phase for event in await uws.history(job.jobId)] == expected


async def test_overdue(uws):
    jobId = await uws.getNewJobId(executionDuration=1)
    await uws.run(jobId)
    node = Node(uws.table, ["some"], slots=1)
    assert (await node.claim()).jobId == jobId
    past = "now() - interval '1 minute'"
    await uws.database.query(f"UPDATE queue SET deadline = {past}")
    await uws.database.query(f"UPDATE jobs SET start_time = {past}")
    await Deadlines([uws], uws.database.reactor).runOnce()
    why = "The execution duration of 1 s was exceeded, and the job was stopped."
    assert told(await uws.history(jobId))[1:] == [
        ("QUEUED", 0, None, None, None),
        ("EXECUTING", 1, node.name, None, None),
        ("ABORTED", 1, None, None, why),
    ]


async def test_byHand(uws):
    """Who changes jobs in the database itself is the user of the database."""
    before = await uws.getNewJobId(who="ann")
    jobId = "ab" * 16
    parts = uws.database.dsn, uws.database.schema
    connection = psycopg2.connect(parts[0])  # whose search_path is the usual one
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_user")
        ((user,),) = cursor.fetchall()
        for sql in (
            f"INSERT INTO {parts[1]}.jobs (job_id, service, execution_duration)"
            f" VALUES ('{jobId}', 'some', 0)",
            f"UPDATE {parts[1]}.jobs SET phase = 'HELD'",
            f"UPDATE {parts[1]}.jobs SET phase = 'HELD'",
            f"UPDATE {parts[1]}.jobs SET run_id = 'r'",
        ):
            cursor.execute(sql)
        byHand = (user, "It was changed in the database.")
        assert told(await uws.history(jobId)) == [
            ("PENDING", 0, None, *byHand),
            ("HELD", 0, None, *byHand),
        ]
        assert told(await uws.history(before))[1:] == [("HELD", 0, None, *byHand)]
        cursor.execute(f"DELETE FROM {parts[1]}.jobs WHERE job_id = '{jobId}'")
    connection.close()
    assert told(await uws.history(jobId))[2:] == [(None, 0, None, *byHand)]
    await uws.run(before, "ann")
    assert told(await uws.history(before))[2:] == [("QUEUED", 0, None, "ann", None)]


# Attempts


def nodeOf(uws, host):
    return Node(uws.table, ["some"], slots=1, settings=NodeSettings(host=host))


async def loseLease(uws):
    await uws.database.query("UPDATE nodes SET lease_ends = now() - interval '1 s'")


async def test_attempts(make):
    """Lost, started again on another node, lost again, given up."""
    uws = make(Restartable)
    uws.jobClass.maxAttempts = 2
    jobId = await uws.getNewJobId(parameters={"script": "true"}, who="ann")
    await uws.run(jobId, "ann")
    rescuer = Rescuer(Dispatcher([uws], nodeOf(uws, "rescue")))
    names = []
    for host in ("one", "two"):
        node = nodeOf(uws, host)
        names.append(node.name)
        record = await node.claim()
        await node.remember(record, {"backend": "process", "host": host, "pid": 1})
        await loseLease(uws)
        await rescuer.runOnce()
    lost = "The job's work was lost, because the process that ran it on {} ended." + (
        " Run it again as a new job."
    )
    assert told(await uws.history(jobId)) == [
        ("PENDING", 0, None, "ann", None),
        ("QUEUED", 0, None, "ann", None),
        ("EXECUTING", 1, names[0], None, None),
        ("QUEUED", 1, names[0], None, lost.format("one")),
        ("EXECUTING", 2, names[1], None, None),
        ("ERROR", 2, names[1], None, lost.format("two")),
    ]


async def test_takenOver(make):
    """Another node of the host records the end that it finds; a late one leaves no trace."""
    uws = make(Shell)
    jobId = await uws.getNewJobId(parameters={"script": "true"})
    await uws.run(jobId)
    first, second = nodeOf(uws, "one"), nodeOf(uws, "one")
    record = await first.claim()
    await first.remember(record, {"backend": "process", "host": "one", "pid": 1})
    outcome = Outcome.failed("It rained.")
    uws.workDirs.forJob(jobId, 1).writeOutcome(outcome)
    await loseLease(uws)
    await Rescuer(Dispatcher([uws], second)).runOnce()
    assert told(await uws.history(jobId))[2:] == [
        ("EXECUTING", 1, first.name, None, None),
        ("ERROR", 1, second.name, None, "It rained."),
    ]


async def test_goneOn(uws):
    """What was SUSPENDED and has ended has gone on meanwhile: two moves, two rows."""
    jobId = await uws.getNewJobId()
    await uws.run(jobId)
    await Node(uws.table, ["some"], slots=1).claim()
    await uws.changeToPhase(jobId, "SUSPENDED", told=ME)
    await uws.recordOutcome(jobId, 1, Outcome(phase=Phase.COMPLETED), [], {}, node="n")
    assert told(await uws.history(jobId))[3:] == [
        ("SUSPENDED", 1, "here", "me", "I want it."),
        ("EXECUTING", 1, None, None, "Its work has gone on."),
        ("COMPLETED", 1, "n", None, None),
    ]


# Destroyed jobs


async def destroyed(uws, **properties):
    jobId = await uws.getNewJobId(**properties)
    await uws.destroy(jobId, "ann")
    await uws.directoriesRemoved()
    return jobId


async def test_goesWithTheJob(uws):
    kept = await uws.getNewJobId()
    jobId = await destroyed(uws)
    assert await rows(uws, jobId) == []
    with pytest.raises(JobNotFound):
        await uws.history(jobId)
    assert len(await uws.history(kept)) == 1


async def test_isKept(make):
    uws = make(keepHistory=3600)
    jobId = await destroyed(uws, owner="ann")
    assert told(await uws.history(jobId)) == [
        ("PENDING", 0, None, None, None),
        (None, 0, None, "ann", None),
    ]
    assert [row["owner"] for row in await rows(uws, jobId)] == ["ann", "ann"]
    assert await uws.forgetHistory() == 0
    assert len(await uws.history(jobId)) == 2


async def test_notDestroyed(make):
    uws = make(Guarded, keepHistory=3600)
    jobId = await uws.getNewJobId()
    with pytest.raises(JobFailure):
        await uws.destroy(jobId)
    assert len(await uws.history(jobId)) == 1


async def test_expired(make):
    """By whom and why: the Reaper for the time that had come, others for what they say."""
    uws = make(keepHistory=3600)
    expired, failed = await uws.getNewJobId(), await uws.getNewJobId()
    await uws.abort(failed)
    await uws.database.query(
        "UPDATE jobs SET destruction = now() - interval '1 s' WHERE job_id = %s", (expired,)
    )
    await Reaper(uws).runOnce()
    assert await uws.cleanupJobsTable(includeFailed=True, who="admin ann@host") == [failed]
    await uws.directoriesRemoved()
    why = "Its destruction time had come."
    assert told(await uws.history(expired))[-1] == (None, 0, None, None, why)
    assert told(await uws.history(failed))[-1] == (None, 0, None, "admin ann@host", "A clean-up.")


async def test_archivedFirst(make):
    uws = make(archive=60)
    jobId = await uws.getNewJobId()
    await uws.run(jobId)
    await uws.database.query("UPDATE jobs SET destruction = now() - interval '1 s'")
    await uws.cleanupJobsTable()
    await uws.directoriesRemoved()
    assert told(await uws.history(jobId))[2:] == [
        ("ABORTED", 0, None, None, "The job was stopped, for its destruction time had come."),
        ("ARCHIVED", 0, None, None, "Its destruction time had come."),
    ]


async def test_forgotten(make, monkeypatch):
    """In batches, only what is old enough, and only of jobs that are gone."""
    monkeypatch.setattr("twuws.jobstable.BATCH", 2)
    uws = make(keepHistory=3600)
    old = [await destroyed(uws) for _ in range(5)]
    young, alive = await destroyed(uws), await uws.getNewJobId()
    await uws.database.query(
        "UPDATE events SET at = at - interval '2 hours' WHERE job_id <> %s", (young,)
    )
    await uws.database.query(
        "INSERT INTO events (job_id, service, attempt, at) VALUES ('x', 'other', 0, '2020-01-01')"
    )
    await Forgetter([uws]).runOnce()
    left = await uws.database.query("SELECT DISTINCT job_id FROM events")
    assert {row["job_id"] for row in left} == {young, alive, "x"}
    assert not set(old) & {young, alive}


async def test_forgettingReadsAnIndex(uws):
    """Forgetting costs what is forgotten, not what there is."""
    await uws.database.query(
        "INSERT INTO events (job_id, service, attempt, phase)"
        " SELECT md5((n / 4)::text), 'some', 1, CASE WHEN n %% 400 < 399 THEN 'QUEUED' END"
        " FROM generate_series(1, 40000) n",
        (),
    )
    await uws.database.query("ANALYZE events")
    from twuws.statements import STATEMENTS

    args = {"service": "some", "keepHistory": 3600, "limit": 500, "jobId": "x"}
    for name, index in (("forgetHistory", "events_of_gone"), ("history", "events_pkey")):
        plan = await uws.database.query("EXPLAIN " + STATEMENTS[name], args)
        text = "\n".join(str(next(iter(row.values()))) for row in plan)
        assert index in text
        assert "Seq Scan on events" not in text


# Over HTTP


async def test_whoAsks(serving):
    """Nobody is known yet; every request of theirs leaves its record."""
    uws = serving.uws
    for name, moves in (
        ("run", [("/phase", {"PHASE": "RUN"})]),
        ("abort", [("/phase", {"PHASE": "ABORT"})]),
        ("atTheJob", [("", {"PHASE": "ABORT"})]),
    ):
        url = await serving.create({"seconds": "0"})
        for path, form in moves:
            assert (await serving.post(url + path, form)).status == 303
        created, moved, *_ = await uws.history(url.rpartition("/")[2])
        assert (created.who, moved.who) == ("anonymous", "anonymous"), name
        await serving.ended(url)
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    jobId = url.rpartition("/")[2]
    node = serving.jobServices.node.name
    assert told(await uws.history(jobId)) == [
        ("PENDING", 0, None, "anonymous", None),
        ("QUEUED", 0, None, "anonymous", None),
        ("EXECUTING", 1, node, None, None),
        ("COMPLETED", 1, node, None, None),
    ]
    uws.policy = Policy(keepHistory=60)
    assert (await serving.request("DELETE", url)).status == 303
    assert told(await uws.history(jobId))[-1] == (None, 1, None, "anonymous", None)
    await uws.directoriesRemoved()


def test_askerIsTheOwnerWhereOneIsKnown():
    from twuws.web.identifying import askerOf

    class Request:
        owner: str | None = None

    assert askerOf(Request()) == askerOf(object()) == "anonymous"
    request = Request()
    request.owner = "ann"
    assert askerOf(request) == "ann"
