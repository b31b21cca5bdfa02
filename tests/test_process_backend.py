"""
The process backend: work that the service starts, loses, finds again and stops.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

import twuws.backends.watching
from tests import jobclasses
from tests.working import Forking, isAlive, makeWork, readable, until
from twuws import UWSJob
from twuws.backends import family
from twuws.backends.process import ProcessBackend, classPath, jobFile
from twuws.errors import ConfigError, ParameterError, UWSError
from twuws.interfaces import IBackend
from twuws.phases import COMPLETED, ERROR
from twuws.values import FileValue

pytestmark = [pytest.mark.slow, pytest.mark.covered]

#: A child; one that forked twice; and one without our marks that cannot be asked to end.
ORPHANS = (
    "sleep 62.1 & echo $! >pid1;"
    "(setsid sh -c 'echo $$ >pid2; exec sleep 62.2' &);"
    "env -i sh -c 'echo $$ >pid3; trap \"\" TERM; while :; do sleep 0.1; done' &"
    "while [ ! -s pid1 -o ! -s pid2 -o ! -s pid3 ]; do sleep 0.01; done; echo >ready;"
)


async def nothing(ref):
    pass


@pytest.fixture(params=["started", "forked"])
def backend(request, tmp_path):
    """With runners that are each started, and with such as are forked."""
    if request.param == "started":
        yield ProcessBackend()
    elif sys.platform != "linux":
        pytest.skip("nothing is forked here")
    else:
        backend = Forking(home=tmp_path / "home")
        yield backend
        backend.close()


def shell(directory, script, **more):
    return makeWork(directory, jobclasses.Shell, script=script, **more)


async def started(backend, work, script="ready"):
    running = await backend.start(work, nothing)
    await until((work.directory.results / "ready").exists)
    return running


def pidsIn(work):
    return [int((work.directory.results / f"pid{n}").read_text()) for n in (1, 2, 3)]


def resultsIn(work):
    return [e["id"] for e in work.directory.readEvents()[0] if e["event"] == "result"]


def test_interface(backend):
    assert verifyObject(IBackend, backend)


# Starting


async def test_success(backend, tmp_path):
    refs: list[Any] = []

    work = shell(tmp_path, 'printf %s "$1"', argument="é ü")

    async def remember(ref):
        assert not work.directory.events.exists()
        refs.append(json.loads(json.dumps(ref)))

    running = await backend.start(work, remember)
    assert refs == [running.ref]
    assert running.ref["backend"] == "process"
    assert running.ref["marker"] == f"{work.job.jobId}.1"
    assert running.ref["started"] == family.startOf(running.ref["pid"])
    assert (await running.ended).phase == COMPLETED
    assert (work.directory.results / "out.txt").read_text() == "é ü"
    assert not isAlive(running.ref["pid"])


async def test_newsComesWithEachEventAndAtTheEnd(backend, tmp_path):
    seen = []
    work: Any = makeWork(
        tmp_path,
        jobclasses.Sum,
        numbers=["1", "2"],
        news=lambda: seen.append(len(work.directory.readEvents()[0])),
    )
    running = await backend.start(work, nothing)
    outcome = await running.ended
    assert outcome.phase == COMPLETED
    assert 1 <= seen[0] <= 3
    assert seen[-1] == 3


async def test_aFileAsStdin(backend, tmp_path):
    work = makeWork(tmp_path, jobclasses.Filter, file=FileValue(file="f"))
    (work.directory.parameters / "f").write_bytes(b"")
    outcome = await (await backend.start(work, nothing)).ended
    assert outcome.phase == COMPLETED
    assert (work.directory.results / "sum").read_text().startswith("e3b0c442")


async def test_failure(backend, tmp_path):
    running = await backend.start(shell(tmp_path, "echo oh >&2; exit 2"), nothing)
    outcome = await running.ended
    assert outcome.phase == ERROR
    assert outcome.error.message == "sh ended with exit status 2: oh"


async def test_theEnvironmentDoesNotLeak(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "xyzzy")
    work = shell(tmp_path, "env; cat /proc/$PPID/environ", environment={"GIVEN": "1"})
    await (await backend.start(work, nothing)).ended
    text = (work.directory.results / "out.txt").read_text()
    assert "GIVEN=1" in text
    assert f"UWS_JOB_ID={work.job.jobId}" in text
    assert "xyzzy" not in text


async def test_rememberThatFailsLeavesNothing(backend, tmp_path):
    refs: list[Any] = []

    async def remember(ref):
        refs.append(ref)
        raise ZeroDivisionError

    work = shell(tmp_path, "echo >ran")
    with pytest.raises(ZeroDivisionError):
        await backend.start(work, remember)
    assert not psutil.pid_exists(refs[0]["pid"])
    assert not work.directory.events.exists()
    assert list(work.directory.results.iterdir()) == []


async def test_workWaitsForRemember(backend, tmp_path):
    reached: Deferred[Any] = Deferred()
    remembered: Deferred[None] = Deferred()

    def remember(ref):
        reached.callback(ref)
        return remembered

    work = shell(tmp_path, "true")
    starting = Deferred.fromCoroutine(backend.start(work, remember))
    ref = await reached
    await until(lambda: os.getsid(ref["pid"]) == ref["pid"])
    assert not work.directory.events.exists()
    remembered.callback(None)
    assert (await (await starting).ended).phase == COMPLETED


async def test_cancellingStartLeavesNothing(backend, tmp_path):
    refs: list[Any] = []

    def remember(ref):
        refs.append(ref)
        return Deferred()

    work = shell(tmp_path, "echo >ran")
    starting = Deferred.fromCoroutine(backend.start(work, remember))
    await until(lambda: refs)
    starting.cancel()
    await until(lambda: starting.called)
    with pytest.raises(CancelledError):
        await starting
    assert not psutil.pid_exists(refs[0]["pid"])
    assert list(work.directory.results.iterdir()) == []


async def test_aRunnerThatCannotReadItsJob(backend, tmp_path):
    work = shell(tmp_path, "true")
    work.directory.writeJob = lambda content: work.directory.job.write_text("{")
    outcome = await (await backend.start(work, nothing)).ended
    assert outcome.error.message == "The job's runner ended with exit status 1"
    assert outcome.error.detail is None
    assert "Traceback" in outcome.error.traceback


async def test_anOutcomeThatNobodyCanRead(backend, tmp_path):
    work = shell(tmp_path, "rm -f ../outcome.json.new; mkdir ../outcome.json.new")
    outcome = await (await backend.start(work, nothing)).ended
    assert outcome.error.message.startswith("The end of the job's work could not be written: ")
    assert outcome.error.type == "transient"


async def test_manyAtOnce(backend, tmp_path):
    works = [shell(tmp_path, "echo $UWS_JOB_ID") for _ in range(6)]
    runnings = [await backend.start(work, nothing) for work in works]
    for work, running in zip(works, runnings, strict=True):
        assert (await running.ended).phase == COMPLETED
        assert (work.directory.results / "out.txt").read_text() == f"{work.job.jobId}\n"


# job.json


def test_jobFile(tmp_path):
    work = shell(tmp_path, "true", argument=["a", "b"], limits={"cpu": 3})
    content = json.loads(json.dumps(jobFile(work)))
    assert content["command"] == ["sh", "-c", "true", "sh", "a", "b"]
    assert content["jobClass"] is None
    assert content["attempt"] == 1
    assert content["results"][0]["stream"] == "stdout"
    assert content["limits"] == {
        "memory": None, "cpu": 3, "fileSize": None, "output": 1 << 20, "grace": 0.3,
    }  # fmt: skip
    assert all(os.path.isabs(path) for path in content["pythonPath"])
    content = jobFile(makeWork(tmp_path, jobclasses.Sum))
    assert content["jobClass"] == "tests.jobclasses:Sum"
    assert content["command"] is None


def test_valuesThatAreNoArguments(tmp_path):
    with pytest.raises(ParameterError, match="Parameter argument: "):
        jobFile(shell(tmp_path, "true", argument="a\0b"))


def test_classesThatNoProcessCanImport(monkeypatch):
    class Local(UWSJob):
        pass

    for cls in (Local, type("Nowhere", (UWSJob,), {"__module__": "tests.jobclasses"}),
                type("Sum", (UWSJob,), {"__module__": "__main__"})):  # fmt: skip
        with pytest.raises(ConfigError, match="cannot be imported by a process of its own"):
            classPath(cls)


# Stopping


async def test_stopEndsTheWholeFamily(backend, tmp_path):
    work = shell(tmp_path, ORPHANS + "sleep 60")
    running = await started(backend, work)
    begun = time.monotonic()
    await backend.stop(running.ref, 0.4)
    assert time.monotonic() - begun < 2.4
    assert not any(map(isAlive, [running.ref["pid"], *pidsIn(work)]))
    outcome = await running.ended
    assert (outcome.phase, outcome.error.type) == (ERROR, "transient")


async def test_nothingOfTheFamilyOutlivesTheWork(backend, tmp_path):
    work = shell(tmp_path, ORPHANS)
    running = await backend.start(work, nothing)
    assert (await running.ended).phase == COMPLETED
    assert not any(map(isAlive, pidsIn(work)))


async def test_stopGivesTimeToCleanUp(backend, tmp_path):
    script = "trap 'sleep 0.2; echo >cleaned; exit' TERM; echo >ready; while :; do sleep 0.01; done"
    work = shell(tmp_path, script, limits={"grace": 5})
    running = await started(backend, work)
    await backend.stop(running.ref, 5)
    assert (work.directory.results / "cleaned").exists()
    assert (await running.ended).phase == ERROR


async def test_stopKillsAfterTheGrace(backend, tmp_path):
    script = "trap '' TERM; echo >ready; while :; do sleep 0.05; done"
    work = shell(tmp_path, script, limits={"grace": 60})
    running = await started(backend, work)
    begun = time.monotonic()
    await backend.stop(running.ref, 0.3)
    assert 0.3 <= time.monotonic() - begun < 2.3
    assert not isAlive(running.ref["pid"])
    assert (await running.ended).phase == ERROR


async def test_stopOfWorkThatHasGone(backend, tmp_path):
    running = await backend.start(shell(tmp_path, "true"), nothing)
    await running.ended
    await backend.stop(running.ref, 5)
    await backend.stop(running.ref, 0)


async def test_stopTouchesNobodyElse(backend, tmp_path):
    """A process that has got the runner's number since is none of ours."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        ref = {
            "backend": "process", "host": backend.host, "pid": other.pid,
            "started": "another boot:17", "marker": "gone.1",
        }  # fmt: skip
        assert await backend.find(shell(tmp_path, "true"), ref) is None
        await backend.stop(ref, 0.1)
        assert other.poll() is None
        other.kill()


async def test_otherHosts(backend, tmp_path):
    ref = {"backend": "process", "host": "other", "pid": 1, "started": "x:0", "marker": "a.1"}
    assert await backend.find(shell(tmp_path, "true"), ref) is None
    with pytest.raises(UWSError, match="Work on other cannot be stopped from"):
        await backend.stop(ref, 0)


# Kill -9


async def test_aKilledRunner(backend, tmp_path):
    work = shell(tmp_path, ORPHANS + "sleep 60")
    running = await started(backend, work)
    os.kill(running.ref["pid"], signal.SIGKILL)
    outcome = await running.ended
    assert outcome.error.message == "The job's runner was killed by signal SIGKILL"
    assert outcome.error.type == "transient"
    assert not any(map(isAlive, pidsIn(work)))


#: A service that starts work, and says what the backend would remember.
SERVICE = """
import json, sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from tests import jobclasses
from tests.working import makeWork
from twuws.backends.process import ProcessBackend

work = makeWork(Path(sys.argv[1]), jobclasses.Shell, script=sys.argv[2])

async def remember(ref):
    print(json.dumps([ref, work.job.record.asJSON()]), flush=True)

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(ProcessBackend().start(work, remember)))
reactor.run()
"""


async def lost(tmp_path, script):
    """Work whose service was killed: its reference, and how to know its files."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(tmp_path), script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as service:
        assert service.stdout is not None
        ref, record = json.loads(service.stdout.readline())
        place = tmp_path / record["jobId"]
        await until(lambda: (place / "results" / "ready").exists())
        service.kill()
    work = makeWork(tmp_path, jobclasses.Shell, script=script)
    work.directory.remove()
    work.directory.__init__(place)
    return ref, work


async def test_findAfterTheServiceDied(backend, tmp_path):
    seen = []
    script = "echo >ready; while [ ! -e go ]; do sleep 0.01; done; echo done"
    ref, work = await lost(tmp_path, script)
    object.__setattr__(work, "news", lambda: seen.append(1))
    running = await backend.find(work, ref)
    assert running.ref == ref
    await until(lambda: seen)
    assert not running.ended.called
    (work.directory.results / "go").touch()
    assert (await running.ended).phase == COMPLETED
    assert resultsIn(work) == ["out"]
    assert await backend.find(work, ref) is None


async def test_findTellsOfNewEvents(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(twuws.backends.watching.Watch, "interval", 0.05)
    seen = []
    ref, work = await lost(tmp_path, "echo >ready; sleep 60")
    object.__setattr__(work, "news", lambda: seen.append(1))
    running = await backend.find(work, ref)
    await until(lambda: len(seen) == 1)
    work.directory.addEvent("progress", fraction=0.5)
    await until(lambda: len(seen) == 2)
    await backend.stop(ref, 0.1)
    assert (await running.ended).phase == ERROR


async def test_findWithoutPidfd(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(twuws.backends.watching.Watch, "interval", 0.05)
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    ref, work = await lost(tmp_path, "echo >ready; while [ ! -e go ]; do sleep 0.01; done")
    running = await backend.find(work, ref)
    (work.directory.results / "go").touch()
    assert (await running.ended).phase == COMPLETED


async def test_stopAfterServiceAndRunnerWereKilled(backend, tmp_path):
    ref, work = await lost(tmp_path, ORPHANS + "sleep 60")
    os.kill(ref["pid"], signal.SIGKILL)
    await until(lambda: not isAlive(ref["pid"]))
    assert any(map(isAlive, pidsIn(work)))
    assert await backend.find(work, ref) is None
    await backend.stop(ref, 0.2)
    assert not any(map(isAlive, pidsIn(work)))
    assert family.members(ref) == []


async def test_aFoundRunnerThatIsKilled(backend, tmp_path):
    ref, work = await lost(tmp_path, ORPHANS + "sleep 60")
    running = await backend.find(work, ref)
    os.kill(ref["pid"], signal.SIGKILL)
    outcome = await running.ended
    assert outcome.error.message == "The job's runner was killed, or its host restarted"
    assert outcome.error.type == "transient"
    assert not any(map(isAlive, pidsIn(work)))


# Letting go


async def test_lettingGoAndFindingAgain(backend, tmp_path):
    work = shell(tmp_path, "echo >ready; while [ ! -e go ]; do sleep 0.01; done; echo well")
    running = await started(backend, work)
    for again in (1, 2):
        running.ended.cancel()
        with pytest.raises(CancelledError):
            await running.ended
        assert isAlive(running.ref["pid"])
        running = await backend.find(work, running.ref)
        assert running is not None, again
    (work.directory.results / "go").touch()
    assert (await running.ended).phase == COMPLETED
    assert readable(work.directory.results / "out.txt") == "well\n"
