"""A node's lease: what happens to its work, and to its jobs, when it runs out."""

from __future__ import annotations

import os

import pytest
from twisted.internet.defer import Deferred

from tests.jobclasses import Shell
from tests.working import isAlive, readable, until
from twuws import UWSJob
from twuws.dispatcher import Dispatcher
from twuws.errors import StaleAttempt
from twuws.family import clock
from twuws.interfaces import WorkLimits
from twuws.jobs import Outcome
from twuws.jobservices import JobServices
from twuws.leases import LeaseFile, WatchedLease
from twuws.node import Node, NodeSettings
from twuws.phases import COMPLETED
from twuws.rescuer import Rescuer
from twuws.uws import UWS


class Here(UWSJob):
    """Runs in the reactor until it is told to end."""

    restartable = True
    maxAttempts = 2
    begun: list[Here] = []

    async def run(self):
        self.goOn = Deferred()
        self.begun.append(self)
        await self.goOn


@pytest.fixture
def services(database, tmp_path):
    Here.begun.clear()
    return {
        name: UWS(
            cls,
            database=database,
            directory=tmp_path / "jobs",
            name=name,
            limits=WorkLimits(grace=0.2),
        )
        for name, cls in (("shell", Shell), ("here", Here))
    }


def nodeOf(services, host, lease=120.0):
    uws = services["shell"]
    settings = NodeSettings(host=host, lease=lease)
    return Node(uws.table, list(services), 1, settings, [uws.workDirs.root])


def rescuerOn(services, host):
    return Rescuer(Dispatcher(services.values(), nodeOf(services, host)))


async def started(uws, script=None):
    jobId = await uws.getNewJobId(parameters={} if script is None else {"script": script})
    await uws.run(jobId)
    return jobId


async def expire(uws):
    """Let everybody's lease run out, as the database sees it."""
    await uws.database.query("UPDATE nodes SET lease_ends = now() - interval '1 s'")


# The file


def test_file(tmp_path):
    """It is written in place, so that a full disk takes it, and is read again when it is over."""
    lease = LeaseFile(tmp_path / "jobs", "node")
    lease.renew(clock() + 100)
    before = os.stat(lease.path)
    job = tmp_path / "jobs/ab/abc"
    job.mkdir(parents=True)
    lease.take(job, 1)
    lease.take(job, 1)
    watched = WatchedLease(job, 1)
    assert watched.isThere
    assert not watched.isOver(before=90)
    assert watched.isOver(before=101)
    lease.renew(clock() + 1000)
    assert (os.stat(lease.path).st_ino, os.stat(lease.path).st_size) == (
        before.st_ino,
        before.st_size,
    )
    assert not watched.isOver(before=101)
    lease.remove()
    lease.remove()
    assert not watched.isOver(before=101)  # nobody knows better
    assert watched.isOver(before=1001)


def test_leaseOfALaterAttempt(tmp_path):
    """It is not for work that was held up until others had taken its place."""
    first, second = LeaseFile(tmp_path, "first"), LeaseFile(tmp_path, "second")
    first.renew(clock() + 1)
    first.take(tmp_path, 1)
    watched = WatchedLease(tmp_path, 1)
    second.renew(clock() + 1000)
    second.take(tmp_path, 2)
    assert watched.isOver(before=2)
    assert not WatchedLease(tmp_path, 2).isOver(before=2)


def test_noLease(tmp_path):
    watched = WatchedLease(tmp_path, 1)
    assert not watched.isThere
    assert not watched.isOver(before=10**9)


# A node that is not heard of


async def test_beat_renews_both(services):
    node = nodeOf(services, "a", lease=60)
    (lease,) = node.leaseFiles.values()
    before = clock()
    await node.beat()
    assert before + 57 < float(lease.path.read_text()) < clock() + 58.1
    assert node.hasLease
    rows = await node.table.database.query(
        "SELECT extract(epoch FROM lease_ends - now()) AS s FROM nodes"
    )
    assert 58 < rows[0]["s"] < 60.1


async def test_lapse(services):
    """All work is ended before the lease is renewed, whoever does it."""
    uws = services["shell"]
    jobServices = JobServices(services.values(), 2, NodeSettings(lease=120))
    jobServices.startService()
    await until(lambda: jobServices.running)
    here = await started(services["here"])
    shell = await started(uws, "echo $$ >&2; exec sleep 61.2")
    place = uws.workDirs.forJob(shell)
    await until(lambda: Here.begun and readable(place.stderr))
    pid = int(readable(place.stderr))
    node = jobServices.node
    node.leaseEnds = clock() - 1  # as after a sleep
    await node.beat()
    assert node.hasLease
    assert not isAlive(pid)
    job = await uws.wait(shell, 10, frozenset({"EXECUTING"}))
    assert (job.phase, job.error.type) == ("ERROR", "transient")
    assert "not heard of" in job.error.message
    # The other may be started again, and is.
    await until(lambda: len(Here.begun) == 2)
    assert Here.begun[1].attempt == 2
    story = (await services["here"].getJob(here)).jobInfo["lostAttempt"]
    assert [(one["number"], one["node"]) for one in story] == [(1, node.name)]
    assert "not heard of" in story[0]["why"]
    Here.begun[1].goOn.callback(None)
    assert (await services["here"].untilEnded(here, 10)).phase == "COMPLETED"
    await jobServices.stopService()


async def test_claimed_and_not_begun_when_the_lease_ran_out(services):
    """It does not begin any more, and is another's."""
    uws = services["shell"]
    node = nodeOf(services, "a")
    jobId = await started(uws, "true")
    record = await node.claim()
    await expire(uws)
    with pytest.raises(StaleAttempt):
        await node.remember(record, {"backend": "process"})
    await rescuerOn(services, "b").runOnce()
    assert (await uws.getJob(jobId)).phase == "QUEUED"
    await node.beat()
    with pytest.raises(StaleAttempt):
        await node.remember(record, {"backend": "process"})


async def test_back_in_time(services):
    """Work that seemed lost is left to its node if that is back before it is settled."""
    uws = services["shell"]
    node = nodeOf(services, "a")
    jobId = await started(uws, "true")
    record = await node.claim()
    await node.remember(record, {"backend": "process", "host": "a"})
    await expire(uws)
    other = nodeOf(services, "b")
    (row,) = await other.lostWork()
    async with uws.database.transaction() as t:
        assert not await other.isBack(row, t)
    await node.beat()
    async with uws.database.transaction() as t:
        assert await other.isBack(row, t)
    with pytest.raises(StaleAttempt):
        await uws.recordLoss(jobId, 1, None, ended=False, unless=lambda t: other.isBack(row, t))
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    assert not await other.takeOver(row)


async def test_attempts_are_counted(services):
    """A job whose work is lost again and again is given up."""
    uws = services["here"]
    jobId = await started(uws)
    for attempt, phase in ((1, "QUEUED"), (2, "ERROR")):
        node = nodeOf(services, f"host{attempt}")
        record = await node.claim()
        assert record.attempt == attempt
        await node.remember(record, {"backend": "reactor", "host": node.host})
        await expire(uws)
        await rescuerOn(services, "b").runOnce()
        assert (await uws.getJob(jobId)).phase == phase
    job = await uws.getJob(jobId)
    assert job.error.type == "transient"
    story = job.jobInfo["lostAttempt"]
    assert [one["number"] for one in story] == [1, 2]
    assert all(one["started"] <= one["lost"] and "lost" in one["why"] for one in story)
    rows = await uws.database.query(
        "SELECT phase, attempt, node, why FROM events WHERE job_id = %s ORDER BY event_id",
        (jobId,),
    )
    assert [(row["phase"], row["attempt"]) for row in rows] == [
        ("PENDING", 0),
        ("QUEUED", 0),
        ("EXECUTING", 1),
        ("QUEUED", 1),
        ("EXECUTING", 2),
        ("ERROR", 2),
    ]
    assert rows[2]["node"].startswith("host1-")
    assert rows[3]["node"] == rows[2]["node"]
    assert "lost" in rows[3]["why"]


async def test_what_an_old_attempt_says(services):
    """It changes nothing: neither results, nor progress, nor the end."""
    uws = services["here"]
    jobId = await started(uws)
    node = nodeOf(services, "a")
    await node.claim()
    await expire(uws)
    await rescuerOn(services, "b").runOnce()
    other = nodeOf(services, "b")
    assert (await other.claim()).attempt == 2
    before = (await uws.getJob(jobId)).record
    for old in (
        uws.recordWork(jobId, 1, (), {"progress": 1}),
        uws.recordOutcome(jobId, 1, Outcome(phase=COMPLETED), (), {}),
    ):
        with pytest.raises(StaleAttempt):
            await old
    assert (await uws.getJob(jobId)).record == before


# Leaving


async def begin(services, **settings):
    jobServices = JobServices(services.values(), 2, NodeSettings(**settings))
    jobServices.startService()
    await until(lambda: jobServices.running)
    return jobServices


@pytest.mark.parametrize("how", ["leave", "finish", "requeue", "abort"])
async def test_stop(services, how):
    """What becomes of jobs that run, one of them in a process of its own."""
    jobServices = await begin(services, onStop=how, stopTimeout=20)
    here = await started(services["here"])
    shell = await started(services["shell"], "echo $$ >&2; exec sleep 2")
    place = services["shell"].workDirs.forJob(shell)
    await until(lambda: Here.begun and readable(place.stderr))
    stopping = Deferred.fromCoroutine(jobServices.stopService())
    if how == "finish":
        late = await started(services["here"])
        Here.begun[0].goOn.callback(None)
    await stopping
    phases = {
        "leave": ("QUEUED", "EXECUTING"),
        "finish": ("COMPLETED", "COMPLETED"),
        "requeue": ("QUEUED", "EXECUTING"),
        "abort": ("ABORTED", "ABORTED"),
    }
    found = [(await services["here"].getJob(here)), (await services["shell"].getJob(shell))]
    assert tuple(job.phase for job in found) == phases[how]
    if how == "abort":
        assert all("taken out of service" in job.error.message for job in found)
        assert not isAlive(readable(place.stderr))
    if how == "finish":
        assert (await services["here"].getJob(late)).phase == "QUEUED"
    elif how != "abort":
        again = await begin(services)
        assert (await services["shell"].untilEnded(shell, 20)).phase == "COMPLETED"
        await until(lambda: len(Here.begun) == 2)
        await services["here"].abort(here)
        await again.stopService()


async def test_asked_to_leave(services):
    """Somebody elsewhere asks a node to go: it takes nothing more, and says when it is done."""
    drained: Deferred[None] = Deferred()
    jobServices = JobServices(services.values(), 1, NodeSettings(), lambda: drained.callback(None))
    jobServices.startService()
    await until(lambda: jobServices.running and jobServices.node.hasLease)
    jobId = await started(services["here"])
    await until(lambda: Here.begun)
    args = {"node": jobServices.node.name, "how": "finish"}
    assert await services["here"].runCanned("drain", args)
    await until(lambda: services["here"].leaving)
    late = await started(services["here"])
    assert not drained.called
    Here.begun[0].goOn.callback(None)
    await drained
    assert (await services["here"].getJob(jobId)).phase == "COMPLETED"
    assert (await services["here"].getJob(late)).phase == "QUEUED"
    await jobServices.stopService()
    assert await services["here"].runCanned("drain", args) == []  # it has left
