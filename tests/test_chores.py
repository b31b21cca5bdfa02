"""The services that move jobs by themselves, and what they do when something breaks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.jobclasses import Shell
from tests.test_database import databaseOf, ownServer  # noqa: F401, a fixture
from tests.working import isAlive, until
from twuws import schema
from twuws.backends.family import startOf
from twuws.chores import Deadlines, Reaper, Sweeper
from twuws.database import Database
from twuws.dispatcher import Dispatcher
from twuws.errors import DatabaseUnavailable, StaleAttempt
from twuws.interfaces import WorkLimits
from twuws.jobs import JobError, Outcome, Result, UWSJob
from twuws.jobservices import JobServices
from twuws.jobstable import JobsTable
from twuws.node import Node, NodeSettings, RunLimits, _uniqueHostName
from twuws.phases import COMPLETED, FINAL
from twuws.reporter import Reporter
from twuws.rescuer import Rescuer
from twuws.uws import UWS

pytestmark = [pytest.mark.slow, pytest.mark.covered]


class Again(Shell):
    """A program that may be started again."""

    restartable = True


class Here(UWSJob):
    """Runs in the reactor until it is told to end."""

    begun: list[Any] = []

    async def run(self):
        self.goOn = Deferred()
        self.begun.append(self)
        await self.goOn


class Stubborn(Here):
    """Does not hear when it is cancelled."""

    async def run(self):
        self.end = Deferred()
        self.begun.append(self)
        while not self.end.called:
            self.goOn = Deferred()
            try:
                await self.goOn
            except CancelledError:
                continue


CLASSES = {"shell": Shell, "again": Again, "here": Here, "stubborn": Stubborn}


def servicesOf(database, directory):
    return {
        name: UWS(
            cls,
            database=database,
            directory=directory,
            name=name,
            limits=WorkLimits(grace=0.2),
        )
        for name, cls in CLASSES.items()
    }


def serve(dsn, schemaName, directory):
    """What the process that is going to be killed does."""
    from twisted.internet import reactor

    database = Database(dsn, schema=schemaName)
    jobServices = JobServices(servicesOf(database, directory).values(), slots=8)
    jobServices.startService()
    reactor.run(installSignalHandlers=False)


@pytest.fixture
def services(database, tmp_path):
    Here.begun.clear()
    return servicesOf(database, tmp_path / "jobs")


@asynccontextmanager
async def running(services, slots=4):
    jobServices = JobServices(services.values(), slots=slots)
    jobServices.startService()
    try:
        await until(lambda: jobServices.running)
        yield jobServices
    finally:
        await jobServices.stopService()


async def started(uws, script="", **more):
    """A job that is queued."""
    parameters = {"script": script} if script else {}
    jobId = await uws.getNewJobId(parameters=parameters, **more)
    await uws.run(jobId)
    return jobId


async def ended(uws, jobId):
    while (job := await uws.wait(jobId, 1)).phase not in FINAL:
        pass
    return job


async def queueRow(uws, jobId):
    rows = await uws.database.query("SELECT * FROM queue WHERE job_id = %s", (jobId,))
    return rows[0] if rows else None


@asynccontextmanager
async def serviceProcess(uws):
    """Another process that runs jobs; killed at the end of the block, if not before."""
    database = uws.database
    args = (database.dsn, database.schema, str(uws.workDirs.root))
    code = f"from tests.test_chores import serve; serve(*{args!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def executing(uws, jobId):
    """The row of a job whose work has begun."""
    directory = uws.workDirs.forJob(jobId)
    await until(lambda: directory.events.exists() and directory.events.stat().st_size, 20)
    row = await queueRow(uws, jobId)
    assert row["ref"]["pid"]
    return row


async def killedWith(uws, *scripts):
    """Jobs that a process has begun before it was killed: rows of the queue."""
    async with serviceProcess(uws) as process:
        rows = []
        for script in scripts:
            jobId = await started(uws, script)
            rows.append(await executing(uws, jobId))
        process.send_signal(signal.SIGKILL)
        process.wait()
    return rows


# Killed


async def test_found_again(services):
    """Work outlives the service, and the next one records its end as if nothing had been."""
    uws = services["shell"]
    goes = uws.workDirs.root.parent / "goes"
    wait = f"echo before; while [ ! -e {goes} ]; do sleep 0.05; done; echo after"
    (row,) = await killedWith(uws, wait)
    async with running(services) as jobServices:
        await until(lambda: jobServices.dispatcher.busy == 1)
        taken = await queueRow(uws, row["job_id"])
        assert (taken["node"], taken["ref"]) == (jobServices.node.name, row["ref"])
        assert (await uws.getJob(row["job_id"])).phase == "EXECUTING"
        goes.touch()
        job = await ended(uws, row["job_id"])
        assert (job.phase, job.attempt, [r.id for r in job.results]) == ("COMPLETED", 1, ["out"])
        result = uws.workDirs.forJob(job.jobId).results / job.results[0].file
        assert result.read_text() == "before\nafter\n"


async def test_found_before_anything_new(services, monkeypatch):
    """The work that a node finds fills its slots, however long it looks for it."""
    uws = services["shell"]
    (row,) = await killedWith(uws, "sleep 600")
    waiting = await started(uws, "true")
    look = Node.lookForGoneNodes

    async def lookSlowly(node):
        await deferLater(uws.database.reactor, 0.3)
        await look(node)

    monkeypatch.setattr(Node, "lookForGoneNodes", lookSlowly)
    async with running(services, slots=1) as jobServices:
        await until(lambda: jobServices.dispatcher.busy)
        assert jobServices.dispatcher.knows(row["job_id"], row["attempt"])
        assert (await uws.getJob(waiting)).phase == "QUEUED"
        await uws.abort(row["job_id"])
        assert (await ended(uws, waiting)).phase == "COMPLETED"


async def test_ended_meanwhile(services):
    uws = services["shell"]
    wait = "while [ ! -e {} ]; do sleep 0.05; done; {}"
    goes = uws.workDirs.root.parent / "goes"
    rows = await killedWith(uws, wait.format(goes, "echo x"), wait.format(goes, "exit 3"))
    goes.touch()
    await until(
        lambda: all(uws.workDirs.forJob(row["job_id"]).outcome.exists() for row in rows), 10
    )
    async with running(services):
        jobs = [await ended(uws, row["job_id"]) for row in rows]
    assert [job.phase for job in jobs] == ["COMPLETED", "ERROR"]
    assert [r.id for r in jobs[0].results] == ["out"]
    assert "exit status 3" in jobs[1].error.message


def killFamily(row):
    runner = psutil.Process(row["ref"]["pid"])
    for process in [runner, *runner.children(recursive=True)]:
        process.kill()


async def test_vanished(services):
    uws = services["shell"]
    (row,) = await killedWith(uws, "sleep 61.7")
    killFamily(row)
    async with running(services):
        job = await ended(uws, row["job_id"])
    assert (job.phase, job.error.type, job.attempt) == ("ERROR", "transient", 1)
    assert "lost" in job.error.message
    assert "/" not in job.error.message
    assert await uws.database.query("SELECT * FROM stops") == []


async def test_vanished_and_restartable(services):
    uws = services["again"]
    (row,) = await killedWith(uws, 'case "$UWS_WORK" in *.1) sleep 61.7;; esac; echo again')
    killFamily(row)
    async with running(services):
        job = await ended(uws, row["job_id"])
    assert (job.phase, job.attempt) == ("COMPLETED", 2)
    assert await uws.database.query("SELECT * FROM stops") == []


async def test_runner_vanished(services):
    """Nothing of the work outlives its job, though its runner could not see to that."""
    uws = services["shell"]
    pidFile = uws.workDirs.root.parent / "pid"
    (row,) = await killedWith(uws, f"sleep 61.7 & echo $! > {pidFile}; wait")
    pid = int(await until(lambda: pidFile.exists() and pidFile.read_text()))
    psutil.Process(row["ref"]["pid"]).kill()
    async with running(services):
        job = await ended(uws, row["job_id"])
        assert (job.phase, job.error.type) == ("ERROR", "transient")
        assert not isAlive(pid)


async def test_stopped_by_the_next_one(services):
    """A job that was aborted while no service was there is ended by the next service."""
    uws = services["shell"]
    (row,) = await killedWith(uws, "sleep 61.7")
    await uws.destroy(row["job_id"])
    async with running(services):
        await until(lambda: not isAlive(row["ref"]["pid"]))
        directory = uws.workDirs.forJob(row["job_id"]).path
        await until(lambda: not directory.exists())


async def test_unreadable_outcome(services):
    """What the work has left in place of an outcome ends the job all the same."""
    uws = services["shell"]
    (row,) = await killedWith(uws, "sleep 61.7")
    killFamily(row)
    uws.workDirs.forJob(row["job_id"]).outcome.write_text("[nonsense")
    async with running(services):
        job = await ended(uws, row["job_id"])
    assert job.phase == "ERROR"
    assert "outcome" in job.error.message


# Stopped in order


async def test_process_work_goes_on(services):
    uws = services["shell"]
    goes = uws.workDirs.root.parent / "goes"
    async with running(services) as jobServices:
        jobId = await started(uws, f"while [ ! -e {goes} ]; do sleep 0.05; done")
        row = await executing(uws, jobId)
        first = jobServices.node.name
    assert isAlive(row["ref"]["pid"])
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    assert (await queueRow(uws, jobId))["node"] == first
    nodes = await uws.database.query(
        "SELECT lease_ends > now() + interval '50 min' AS long FROM nodes"
    )
    assert nodes == [{"long": True}]
    async with running(services) as jobServices:
        await until(lambda: jobServices.dispatcher.busy == 1)
        goes.touch()
        job = await ended(uws, jobId)
        assert (job.phase, job.attempt) == ("COMPLETED", 1)


async def test_reactor_work_ends(services):
    uws = services["here"]
    async with running(services):
        jobId = await started(uws)
        await until(lambda: Here.begun)
    job = await uws.getJob(jobId)
    assert (job.phase, job.error.type) == ("ERROR", "transient")


async def test_stop_at_any_time(services):
    """Stopping while work is being started waits for no work, and loses none."""
    uws = services["shell"]
    for delay in (0, 0.02, 0.1):
        async with running(services) as jobServices:
            jobId = await started(uws, "sleep 0.8")
            await until(lambda: jobServices.dispatcher.busy)
            await deferLater(uws.database.reactor, delay)
            stopping = Deferred.fromCoroutine(jobServices.stopService())
            await stopping.addTimeout(0.75, uws.database.reactor)
        assert (await uws.getJob(jobId)).phase == "EXECUTING"
        async with running(services):
            assert (await ended(uws, jobId)).phase == "COMPLETED"


async def test_stop_while_work_is_started(services):
    """What begins when the stop is under way is left to the next one, too."""
    uws = services["shell"]
    async with running(services) as jobServices:
        remembering, goOn = Deferred(), Deferred()
        remember = jobServices.node.remember

        async def held(record, ref):
            remembering.callback(None)
            await goOn
            await remember(record, ref)

        jobServices.node.remember = held
        jobId = await started(uws, "sleep 4")
        await remembering
        stopping = Deferred.fromCoroutine(jobServices.dispatcher.stopService())
        goOn.callback(None)
        await stopping.addTimeout(3, uws.database.reactor)
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    async with running(services):
        assert (await ended(uws, jobId)).phase == "COMPLETED"


async def test_stubborn_work_does_not_keep_us(services):
    uws = services["stubborn"]
    async with running(services):
        jobId = await started(uws)
        await until(lambda: Here.begun)
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    job = Here.begun.pop()
    job.end.callback(None)
    job.goOn.callback(None)
    await until(lambda: not uws.database._turns.waiting)
    while (await uws.getJob(jobId)).phase not in FINAL:
        pass


async def test_started_again(services):
    """The same services can be stopped and started."""
    uws = services["shell"]
    jobServices = JobServices(services.values())
    for _ in range(3):
        jobServices.startService()
        jobId = await started(uws, "true")
        assert (await Deferred.fromCoroutine(ended(uws, jobId))).phase == "COMPLETED"
        await jobServices.stopService()


# Without a database


@asynccontextmanager
async def cutOff(database):
    """No database for the time of the block."""
    dsn, database.dsn = database.dsn, "host=/nonexistent"
    for connection in list(database._slots.pending):
        if connection is not None:
            connection.close()
    try:
        yield
    finally:
        database.dsn = dsn


async def test_looks_again(services):
    """A look that fails at once is not the last one."""
    uws = services["shell"]
    async with running(services) as jobServices:
        await until(lambda: jobServices.dispatcher._looking is None)
        async with cutOff(uws.database):
            jobServices.dispatcher.look()
            await until(lambda: jobServices.dispatcher._looking is None)
        assert (await ended(uws, await started(uws, "true"))).phase == "COMPLETED"


async def test_ends_while_the_database_is_away(services, monkeypatch):
    monkeypatch.setattr(Reporter, "retryDelay", 0.05)
    uws = services["shell"]
    async with running(services) as jobServices:
        goes = uws.workDirs.root.parent / "goes"
        jobId = await started(uws, f"while [ ! -e {goes} ]; do sleep 0.05; done; echo x")
        await executing(uws, jobId)
        async with cutOff(uws.database):
            goes.touch()
            directory = uws.workDirs.forJob(jobId)
            await until(directory.outcome.exists)
            await deferLater(uws.database.reactor, 0.2)
            assert jobServices.dispatcher.busy == 1
        job = await ended(uws, jobId)
        assert (job.phase, [r.id for r in job.results]) == ("COMPLETED", ["out"])


@pytest.mark.parametrize("name", ["shell", "here"])
async def test_stopped_while_the_database_is_away(services, monkeypatch, name):
    """Nobody waits for a database to stop, and the next service records what had ended."""
    monkeypatch.setattr(Reporter, "retryDelay", 0.05)
    uws = services[name]
    async with running(services) as jobServices:
        jobId = await started(uws, "sleep 0.2" if name == "shell" else "")
        await (executing(uws, jobId) if name == "shell" else until(lambda: Here.begun))
        async with cutOff(uws.database):
            if name == "here":
                Here.begun[0].goOn.callback(None)
            else:
                await until(uws.workDirs.forJob(jobId).outcome.exists)
            await deferLater(uws.database.reactor, 0.1)
            stopping = Deferred.fromCoroutine(jobServices.stopService())
            await stopping.addTimeout(5, uws.database.reactor)
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    # The process would have ended now.
    await uws.database.query("UPDATE nodes SET pid = 0")
    async with running(services):
        assert (await ended(uws, jobId)).phase == "COMPLETED"


@pytest.mark.slow
async def test_server_restarts_while_work_ends(ownServer, tmp_path):  # noqa: F811, the fixture
    async with databaseOf(ownServer.dsn + " options='-c synchronous_commit=on'") as database:
        await schema.prepare(database)
        services = servicesOf(database, tmp_path / "jobs")
        uws = services["shell"]
        async with running(services):
            for number in (signal.SIGINT, signal.SIGQUIT):
                jobId = await started(uws, "sleep 0.3; echo x")
                await executing(uws, jobId)
                lost = ownServer.lost
                ownServer._child.transport.signalProcess(int(number))
                await lost
                while True:
                    try:
                        job = await ended(uws, jobId)
                        break
                    except DatabaseUnavailable:
                        await deferLater(database.reactor, 0.1)
                assert (job.phase, [r.id for r in job.results]) == ("COMPLETED", ["out"])


async def test_waits_for_its_first_database(services):
    uws = services["shell"]
    jobId = await started(uws, "true")
    async with cutOff(uws.database):
        jobServices = JobServices(services.values())
        jobServices.startService()
        await deferLater(uws.database.reactor, 0.1)
        assert not jobServices.running
    await until(lambda: jobServices.running)
    assert (await ended(uws, jobId)).phase == "COMPLETED"
    await jobServices.stopService()


async def test_another_schema(services):
    """On another version of the schema no jobs are run, and stopping is no trouble."""
    database = services["shell"].database
    jobId = await started(services["shell"], "true")
    await database.query("UPDATE version SET version = version + 1, works_with = version + 1")
    jobServices = JobServices(services.values())
    jobServices.startService()
    await jobServices._starting
    assert not jobServices.running
    await jobServices.stopService()
    assert (await services["shell"].getJob(jobId)).phase == "QUEUED"


# Chores


async def test_deadlines(services):
    uws = services["shell"]
    async with running(services):
        jobIds = [await started(uws, "sleep 61.7", executionDuration=1) for _ in range(3)]
        rows = [await executing(uws, jobId) for jobId in jobIds]
        await uws.update(jobIds[1], executionDuration=3600)
        await uws.update(jobIds[2], executionDuration=0)
        job = await ended(uws, jobIds[0])
        assert job.phase == "ABORTED"
        assert "1 s" in job.error.message
        assert 0.9 < (job.endTime - job.startTime).total_seconds() < 4
        await until(lambda: not isAlive(rows[0]["ref"]["pid"]))
        for jobId, row in zip(jobIds[1:], rows[1:], strict=True):
            assert (await uws.getJob(jobId)).phase == "EXECUTING"
            assert isAlive(row["ref"]["pid"])
            await uws.abort(jobId)
        await until(lambda: not any(isAlive(row["ref"]["pid"]) for row in rows))


async def test_deadlines_one_by_one(services):
    """One that somebody holds does not keep the others from being stopped."""
    uws = services["shell"]
    uws.lockTimeout = 0.1
    node = Node(uws.table, ["shell"], slots=1)
    jobIds = [await started(uws, "true", executionDuration=5) for _ in range(3)]
    for _ in jobIds:
        await node.claim()
    await uws.database.query(
        "UPDATE jobs SET start_time = start_time - interval '1 min';"
        " UPDATE queue SET deadline = deadline - interval '1 min'"
    )
    chore = Deadlines([uws], uws.database.reactor)
    async with uws.changeableJob(jobIds[0]):
        await chore.runOnce()
        phases = [(await uws.getJob(jobId)).phase for jobId in jobIds]
        assert phases == ["EXECUTING", "ABORTED", "ABORTED"]
    await chore.runOnce()
    assert (await uws.getJob(jobIds[0])).phase == "ABORTED"


async def test_reaper(services):
    uws = services["shell"]
    stays, goes = await uws.getNewJobId(), await uws.getNewJobId()
    await uws.database.query(
        "UPDATE jobs SET destruction = now() - interval '1 s' WHERE job_id = %s", (goes,)
    )
    uws.cleanupInterval = 0.05
    reaper = Reaper(uws)
    reaper.startService()
    await until(lambda: not uws.workDirs.forJob(goes).path.exists())
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    await uws.update(stays, destruction=soon)
    await until(lambda: not uws.workDirs.forJob(stays).path.exists())
    await reaper.stopService()
    assert datetime.now(UTC) > soon - timedelta(seconds=0.01)
    assert await uws.getIdsAndPhases() == []


# Nodes


def nodeOf(uws, **more):
    node = Node(JobsTable(uws.database), CLASSES, slots=1)
    vars(node).update(more)
    return node


async def test_claimed_work_is_not_lost(services):
    """From the first moment others know that the node is alive."""
    uws = services["shell"]
    node, other = nodeOf(uws), nodeOf(uws)
    await started(uws, "true")
    assert await node.claim()
    assert await other.lostWork() == []
    node.leaseEnds = 0.0  # it could not beat for long
    await uws.database.query("UPDATE nodes SET lease_ends = now() - interval '1 s'")
    assert len(await other.lostWork()) == 1
    assert await node.claim() is None
    assert await other.lostWork() == []


async def test_gone_nodes(services):
    """Who is gone, of those that say they are on this host."""
    uws = services["shell"]
    sleeper = subprocess.Popen(["sleep", "60"])
    zombie = subprocess.Popen(["true"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    me, other = nodeOf(uws), nodeOf(uws)
    await other.beat()
    left = nodeOf(uws)
    await left.beat()
    await left.leave()
    await me.beat()
    await until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
    began = startOf(sleeper.pid)
    for name, host, pid, when in (
        ("alive", me.host, sleeper.pid, began),
        ("number recurs", me.host, sleeper.pid, began + "0"),
        ("of another boot", me.host, sleeper.pid, "another" + began),
        ("ended", me.host, gone.pid, began),
        ("zombie", me.host, zombie.pid, began),
        ("elsewhere", "elsewhere", gone.pid, began),
        ("in a container of that name", me.host + "/1", gone.pid, began),
    ):
        await uws.database.query(
            "INSERT INTO nodes (node, host, pid, started, version, slots, services, lease_ends)"
            " VALUES (%s, %s, %s, %s, '', 1, '{}', now() + interval '1 min')",
            (name, host, pid, when),
        )
    await me.lookForGoneNodes()
    assert set(me.goneNodes) == {"number recurs", "of another boot", "ended", "zombie", left.name}
    await me.forgetNodes()
    rows = await uws.database.query("SELECT node FROM nodes")
    assert not {row["node"] for row in rows} & set(me.goneNodes)
    assert len(rows) == 5
    sleeper.kill()
    sleeper.wait()
    zombie.wait()


def test_host_name():
    """Containers may be called the same: then their PID namespaces tell them apart."""
    inside = subprocess.run(
        [
            *("unshare", "--pid", "--fork", sys.executable, "-c"),
            "from twuws.node import _uniqueHostName; print(_uniqueHostName())",
        ],
        capture_output=True,
        text=True,
    )
    if inside.returncode:
        pytest.skip(f"no namespaces here: {inside.stderr}")
    assert inside.stdout.strip() != _uniqueHostName()
    assert inside.stdout.partition("/")[0] == _uniqueHostName().partition("/")[0]


@pytest.fixture
def rescuer(services):
    """A Rescuer of this host, with a dispatcher that takes nothing from the queue."""
    return Rescuer(Dispatcher(services.values(), nodeOf(services["shell"], slots=0)))


async def claimedElsewhere(uws, script="true"):
    """A job that a node on another host has claimed, whose lease has run out."""
    node = nodeOf(uws, host="elsewhere/1")
    await started(uws, script)
    record = await node.claim()
    await node.remember(record, {"backend": "process", "host": "elsewhere", "pid": 1})
    await uws.database.query("UPDATE nodes SET lease_ends = now() - interval '1 s'")
    return node, record


async def test_lost_elsewhere(services, rescuer):
    uws = services["shell"]
    node, record = await claimedElsewhere(uws)
    await rescuer.runOnce()
    job = await uws.getJob(record.jobId)
    assert (job.phase, job.error.type) == ("ERROR", "transient")
    assert "on elsewhere ended" in job.error.message
    # If its node was only away, it ends the work when it is back.
    assert [(s["job_id"], s["attempt"]) for s in await node.stops()] == [(record.jobId, 1)]
    with pytest.raises(StaleAttempt):
        await uws.recordOutcome(record.jobId, 1, Outcome(phase=COMPLETED), (), {})
    await rescuer.runOnce()


async def test_lost_elsewhere_takes_no_place(services, rescuer):
    """What a host that never comes back was to end has ended with its lease: others may run."""
    uws = services["again"]
    node, record = await claimedElsewhere(uws)
    await rescuer.runOnce()
    assert len(await node.stops()) == 1
    limits = RunLimits(inAll=1, perOwner=1, perService={"again": 1})
    other = nodeOf(uws, settings=NodeSettings(limits=limits))
    await uws.database.query("UPDATE nodes SET lease_ends = now() + interval '1 min'")
    assert await other.claim() is None  # it may be ending just now
    await uws.database.query(
        "UPDATE nodes SET lease_ends = now() - interval '1 s' WHERE node = %s", (node.name,)
    )
    assert (await other.claim()).jobId == record.jobId


async def test_hosts_that_never_come_back_are_forgotten(services, rescuer):
    """With what they were to end, after a day."""
    uws = services["shell"]
    node, _ = await claimedElsewhere(uws)
    await rescuer.runOnce()
    await rescuer.runOnce()
    assert len(await node.stops()) == 1
    await uws.database.query(
        "UPDATE nodes SET lease_ends = now() - interval '25 h' WHERE node = %s", (node.name,)
    )
    await rescuer.runOnce()
    assert await uws.database.query("SELECT job_id FROM stops") == []
    assert await uws.database.query("SELECT node FROM nodes WHERE node = %s", (node.name,)) == []


async def test_lost_elsewhere_and_restartable(services, rescuer):
    uws = services["again"]
    node, record = await claimedElsewhere(uws)
    await rescuer.runOnce()
    assert (await uws.getJob(record.jobId)).phase == "QUEUED"
    assert len(await node.stops()) == 1
    assert (await nodeOf(uws).claim()).attempt == 2
    with pytest.raises(StaleAttempt):
        await uws.recordWork(record.jobId, 1, (), {})
    with pytest.raises(StaleAttempt):
        await uws.recordOutcome(record.jobId, 1, Outcome(phase=COMPLETED), (), {})


async def test_outcome_on_a_shared_disk(services, rescuer):
    uws = services["shell"]
    _, record = await claimedElsewhere(uws)
    uws.workDirs.forJob(record.jobId).writeOutcome(Outcome(phase=COMPLETED))
    await rescuer.runOnce()
    assert (await uws.getJob(record.jobId)).phase == "COMPLETED"


async def test_never_begun(services, rescuer):
    """Claimed, and its node was killed before anything was started."""
    uws = services["shell"]
    node = nodeOf(uws, pid=0)
    await started(uws, "true")
    record = await node.claim()
    await node.leave()
    # It is another attempt's.
    uws.workDirs.forJob(record.jobId).writeOutcome(Outcome(phase=COMPLETED))
    await rescuer.runOnce()
    assert (await uws.getJob(record.jobId)).phase == "QUEUED"
    for _ in range(2):
        again = nodeOf(uws, pid=0)
        assert await again.claim()
        await again.leave()
        await rescuer.runOnce()
    job = await uws.getJob(record.jobId)
    assert (job.phase, job.attempt, job.error.type) == ("ERROR", 3, "transient")


async def test_claim_unheard_of(services, rescuer):
    """The claim succeeded, but the connection was lost before its node heard of that."""
    uws = services["shell"]
    jobId = await started(uws, "true")
    assert await rescuer._node.claim()
    await rescuer.runOnce()
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    await uws.database.query("UPDATE queue SET claimed_at = now() - interval '31 s'")
    await rescuer.runOnce()
    assert (await uws.getJob(jobId)).phase == "QUEUED"


@pytest.mark.parametrize("error", [DatabaseUnavailable, ZeroDivisionError])
async def test_rescued_at_the_next_try(services, rescuer, monkeypatch, loggedErrors, error):
    """What was taken over is not forgotten if settling it fails."""
    uws = services["shell"]
    node = nodeOf(uws)
    jobIds = [await started(uws, "true") for _ in range(2)]
    for _ in jobIds:
        record = await node.claim()
        marker = f"{record.jobId}.1"
        ref = {"backend": "process", "pid": 2**22, "started": "x:0", "marker": marker}
        await node.remember(record, {**ref, "host": socket.gethostname()})
    await node.leave()

    async def fail(*ignored):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(rescuer._dispatcher.attempts, "adopt", fail)
        await rescuer._runQuietly()
    assert [(await uws.getJob(jobId)).phase for jobId in jobIds] == ["EXECUTING"] * 2
    await uws.destroy(jobIds[0])
    await rescuer.runOnce()
    assert (await uws.getJob(jobIds[1])).phase == "ERROR"
    assert {failure.type for failure in loggedErrors} <= {ZeroDivisionError}
    loggedErrors.clear()


# What work tells


async def claimed(uws):
    await started(uws, "true")
    return await nodeOf(uws).claim()


async def test_events_behind_nonsense(services):
    uws = services["shell"]
    record = await claimed(uws)
    directory = uws.workDirs.forJob(record.jobId)
    with directory.events.open("w") as events:
        events.write("nonsense\n" * 150_000)
    directory.furnish()
    (directory.results / "file").write_text("x")
    directory.addEvent("result", id="r", file="file", mediaType="text/plain", size=1)
    await Reporter(uws, record).finish(Outcome(phase=COMPLETED))
    job = await uws.getJob(record.jobId)
    assert [result.id for result in job.results] == ["r"]


async def test_outcome_that_is_no_utf8(services):
    """Messages may have the names of files that are not UTF-8."""
    uws = services["shell"]
    record = await claimed(uws)
    name = os.fsdecode(b"caf\xe9\x00")
    uws.workDirs.forJob(record.jobId).addEvent("progress", fraction=0.5, message=name)
    await Reporter(uws, record).finish(Outcome.failed(name, name))
    job = await uws.getJob(record.jobId)
    assert (job.phase, job.error.message, job.jobInfo["message"]) == ("ERROR", name, name)


async def test_ended_by_others_meanwhile(services, loggedErrors, monkeypatch):
    """What can't be recorded is not told twice, if others have ended the job since."""
    uws = services["here"]

    async def recordOutcome(jobId, *more):
        monkeypatch.undo()
        await uws.abort(jobId)
        raise ValueError("no such outcome")

    said = []
    async with running(services) as jobServices, telling(said):
        jobId = await started(uws)
        await until(lambda: Here.begun)
        monkeypatch.setattr(uws, "recordOutcome", recordOutcome)
        Here.begun[0].goOn.callback(None)
        await until(lambda: not len(jobServices.dispatcher.attempts))
    assert (await uws.getJob(jobId)).phase == "ABORTED"
    assert [failure.type for failure in loggedErrors] == [ValueError]
    loggedErrors.clear()
    assert said == [f"{jobId}: attempt 1 ended too late to be recorded"]


@asynccontextmanager
async def telling(said):
    """What the attempts tell the log meanwhile that is no trouble."""

    def observe(event):
        if event["log_namespace"] == "twuws.attempt" and event["log_level"] is LogLevel.info:
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)


async def test_suspended_work_that_ends(services):
    uws = services["shell"]
    record = await claimed(uws)
    await uws.changeToPhase(record.jobId, "SUSPENDED")
    await Reporter(uws, record).finish(Outcome(phase=COMPLETED))
    assert (await uws.getJob(record.jobId)).phase == "COMPLETED"
    assert await queueRow(uws, record.jobId) is None


async def test_slots(services):
    """No more than a node has places for, the oldest first."""
    uws = services["here"]
    async with running(services, slots=2):
        jobIds = await gatherResults([uws.getNewJobId() for _ in range(5)])
        for jobId in jobIds:
            await uws.run(jobId)
        done = []
        while len(done) < 5:
            await until(lambda: len(Here.begun) == min(2, 5 - len(done)))
            rows = await uws.database.query("SELECT phase, count(*) FROM jobs GROUP BY phase")
            counts = {row["phase"]: row["count"] for row in rows}
            assert counts.get("EXECUTING") == min(2, 5 - len(done))
            job = Here.begun.pop(0)
            job.goOn.callback(None)
            done.append(job.jobId)
            await ended(uws, job.jobId)
        # Of two that are started at a time either may begin first.
        assert all(abs(jobIds.index(jobId) - place) <= 1 for place, jobId in enumerate(done))


async def test_ends_while_somebody_holds_the_job(services):
    """The end of work waits for whoever is changing the job, however long that takes."""
    uws = services["here"]
    uws.lockTimeout = 0.1
    async with running(services):
        jobId = await started(uws)
        await until(lambda: Here.begun)
        async with uws.changeableJob(jobId) as job:
            Here.begun[0].goOn.callback(None)
            await deferLater(uws.database.reactor, 0.5)
            job.runId = "held"
        job = await ended(uws, jobId)
        assert (job.phase, job.runId) == ("COMPLETED", "held")


async def test_not_started_for_want_of_a_database(services, monkeypatch):
    """Work whose place could not be remembered has not begun: it is queued again."""
    uws = services["shell"]
    async with running(services, slots=1) as jobServices:
        node = jobServices.node
        remember, tries = node.remember, []

        async def failing(record, ref):
            tries.append(record.attempt)
            if len(tries) == 1:
                raise DatabaseUnavailable
            await remember(record, ref)

        monkeypatch.setattr(node, "remember", failing)
        jobId = await started(uws, "true")
        assert (await ended(uws, jobId)).phase == "COMPLETED"
        assert tries == [1, 2]


async def test_not_overdue(services):
    """Somebody gave it more time between the look and the deed."""
    uws = services["shell"]
    jobId = await started(uws, "true", executionDuration=60)
    assert await nodeOf(uws).claim()
    assert await uws.abortOverdue(jobId) is False
    assert (await uws.getJob(jobId)).phase == "EXECUTING"
    await uws.database.query("UPDATE jobs SET start_time = start_time - interval '61 s'")
    assert await uws.abortOverdue(jobId) is True
    assert (await uws.getJob(jobId)).phase == "ABORTED"


async def test_queued_again_without_results(services):
    uws = services["shell"]
    record = await claimed(uws)
    await uws.recordWork(record.jobId, 1, [Result(id="r", file="r")], {"progress": 0.5})
    assert len((await uws.getJob(record.jobId)).results) == 1
    await uws.changeToPhase(record.jobId, "QUEUED")
    assert (await uws.getJob(record.jobId)).results == ()


async def test_archived_keeps_its_error(services):
    uws = services["shell"]
    jobId = await uws.getNewJobId()
    await uws.changeToPhase(jobId, "ERROR", JobError(message="why", detail="at length"))
    before = await uws.getJob(jobId)
    await uws.changeToPhase(jobId, "ARCHIVED")
    after = await uws.getJob(jobId)
    assert (after.error, after.endTime) == (before.error, before.endTime)


async def test_sweeper(services):
    """What a crash left is removed when it is old, and nothing else."""
    uws = services["shell"]
    dirs = uws.workDirs
    kept = await uws.getNewJobId()
    orphans = {age: dirs.forJob(f"{age:02x}" * 16) for age in (1, 3)}
    uploads = {}
    for age, directory in orphans.items():
        directory.create()
        directory.furnish()
        (directory.results / "r").write_text("r")
        out, uploads[age] = dirs.newUpload()
        out.close()
    days = 86400.0
    for path, age in [
        (dirs.forJob(kept).path, 3),
        *((orphans[age].path, age) for age in orphans),
        *((uploads[age], age) for age in uploads),
    ]:
        then = time.time() - age * days
        os.utime(path, (then, then))
    sweeper = Sweeper(list(services.values()))
    sweeper.minimumAge = 2 * days
    await sweeper.runOnce()
    assert {jobId for jobId, _ in dirs.known()} == {kept, "01" * 16}
    assert [path.exists() for path in uploads.values()] == [True, False]


async def test_sweeper_with_another_database(services):
    """A database that knows nothing of what is there is not believed."""
    uws = services["shell"]
    directory = uws.workDirs.forJob("ab" * 16)
    directory.create()
    os.utime(directory.path, (0, 0))
    await Sweeper([uws]).runOnce()
    assert directory.path.exists()
    os.utime(uws.workDirs.forJob(await uws.getNewJobId()).path, (0, 0))
    await Sweeper([uws]).runOnce()
    assert not directory.path.exists()


async def test_together(services, monkeypatch):
    """Jobs that begin or end at a time share their statements, and nothing else is asked then."""
    uws = services["here"]
    async with running(services, slots=4):
        jobIds = await gatherResults([uws.getNewJobId() for _ in range(4)])
        async with uws.database.transaction() as t:  # nobody hears of it before all are there
            await t.execute("SELECT pg_advisory_xact_lock(hashtext('claims of ' || %s))",
                            (uws.database.schema,))  # fmt: skip
            for jobId in jobIds:
                await uws.run(jobId)
        await until(lambda: len(Here.begun) == 4)
        row = await uws.database.query("SELECT count(DISTINCT xmin::text) AS n FROM queue")
        assert row == [{"n": 1}]  # the transactions that have written where the work is

        run, asked = JobsTable.run, []

        def counted(table, statementId, *args, **more):
            asked.append(statementId)
            return run(table, statementId, *args, **more)

        monkeypatch.setattr(JobsTable, "run", counted)
        for job in Here.begun:
            job.goOn.callback(None)
        for jobId in jobIds:
            await ended(uws, jobId)
        assert asked.count("endJobs") == 1
        assert asked.count("stopsForNode") == 0


async def test_aborted_while_its_end_is_recorded(services, monkeypatch):
    """What was to be stopped, and has ended by itself, does not keep its place."""
    uws = services["here"]
    end = uws.table.end

    async def tooLate(service, ends):
        await uws.changeToPhase(jobId, "ABORTED")
        return await end(service, ends)

    monkeypatch.setattr(JobsTable, "end", lambda table, *args: tooLate(*args))
    async with running(services):
        jobId = await started(uws)
        await until(lambda: Here.begun)
        Here.begun[0].goOn.callback(None)
        assert (await ended(uws, jobId)).phase == "ABORTED"
        seconds = uws.database.reactor.seconds
        deadline = seconds() + 8  # long before a node looks by itself
        while await uws.database.query("SELECT job_id FROM stops"):
            assert seconds() < deadline
            await deferLater(uws.database.reactor, 0.05)
