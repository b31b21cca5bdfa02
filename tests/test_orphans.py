"""
The node and the runner are killed at once: the work's first process dies with its runner, and
whatever came from that is ended by the next service on the host, before the job goes on.
"""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.test_chores import ended, executing, running, serviceProcess, started
from tests.test_chores import services as services
from tests.working import isAlive, until
from twuws.backends import family

pytestmark = [pytest.mark.slow, pytest.mark.covered]

#: A child; one in a session of its own; one that has neither our marks nor minds being asked
#: to end; and a child of a session of its own without our marks, which is known by its parent.
ORPHANS = (
    "sleep 63.1 & echo $! >pid1;"
    "(setsid sh -c 'echo $$ >pid2; exec sleep 63.2' &);"
    "env -i sh -c 'echo $$ >pid3; trap \"\" TERM; while :; do sleep 0.1; done' &"
    "(setsid sh -c 'setsid env -i sh -c \"echo \\$\\$ >pid4; exec sleep 63.4\" & wait' &);"
    "while [ ! -s pid1 -o ! -s pid2 -o ! -s pid3 -o ! -s pid4 ]; do sleep 0.01; done;"
    "echo $$ >pid0; echo >ready; wait;"
)

SCRIPT = f'case "$UWS_WORK" in *.1) {ORPHANS} ;; esac; echo again'


async def killed(uws):
    """Work whose node and runner are killed: its row, and who is left of it."""
    async with serviceProcess(uws) as node:
        jobId = await started(uws, SCRIPT)
        row = await executing(uws, jobId)
        results = uws.workDirs.forJob(jobId).results
        await until((results / "ready").exists)
        first, *others = (int((results / f"pid{n}").read_text()) for n in range(5))
        os.kill(node.pid, signal.SIGKILL)
        os.kill(row["ref"]["pid"], signal.SIGKILL)
        node.wait()
    await until(lambda: not isAlive(row["ref"]["pid"]) and not isAlive(first))
    assert all(map(isAlive, others))
    assert {process.pid for process in family.members(row["ref"])} >= set(others)
    return row, others


@pytest.fixture(autouse=True)
def nothingIsLeft():
    """What a test leaves when it fails is not for the next one."""
    yield
    for process in psutil.process_iter():
        try:
            if process.cmdline() in (["sleep", f"63.{n}"] for n in (1, 2, 4)):
                process.kill()
        except psutil.Error:
            continue


async def test_lost(services):
    """A job that may not be started again has failed, and nothing of it is left by then."""
    uws = services["shell"]
    row, others = await killed(uws)
    async with running(services):
        job = await ended(uws, row["job_id"])
        assert not any(map(isAlive, others))
    assert (job.phase, job.error.type, job.attempt) == ("ERROR", "transient", 1)
    assert "lost" in job.error.message
    assert family.members(row["ref"]) == []
    assert await uws.database.query("SELECT * FROM stops") == []


async def test_restartable(services):
    """One that may is, and its second attempt has the directory for itself."""
    uws = services["again"]
    row, others = await killed(uws)
    async with running(services):
        while (job := await uws.wait(row["job_id"], 1)).attempt == 1:
            assert job.phase in ("EXECUTING", "QUEUED")
        assert not any(map(isAlive, others))
        job = await ended(uws, row["job_id"])
    assert (job.phase, job.attempt) == ("COMPLETED", 2)
    assert not uws.workDirs.forJob(row["job_id"]).results.joinpath("pid1").exists()
    assert await uws.database.query("SELECT * FROM stops") == []


@pytest.mark.parametrize("verb", ["abort", "destroy"])
async def test_endedMeanwhile(services, verb):
    """One that its owner has ended while nobody was there stays so."""
    uws = services["again"]
    row, others = await killed(uws)
    await getattr(uws, verb)(row["job_id"])
    async with running(services):
        await until(lambda: not any(map(isAlive, others)))
        directory = uws.workDirs.forJob(row["job_id"]).path
        if verb == "destroy":
            await until(lambda: not directory.exists())
        else:
            assert (await uws.getJob(row["job_id"])).phase == "ABORTED"
    assert await uws.database.query("SELECT * FROM stops") == []
