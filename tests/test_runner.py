"""
The runner: what becomes of a job in its directory, with real processes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import twuws
from tests.working import isAlive, makeRecord, readable, waitUntil
from twuws import family
from twuws.leases import LeaseFile
from twuws.phases import COMPLETED, ERROR
from twuws.workdir import WorkDir

pytestmark = [pytest.mark.slow, pytest.mark.covered]

ROOT = str(Path(twuws.__file__).parent.parent)
STDOUT = {"id": "out", "file": "out.txt", "mediaType": "text/plain", "stream": "stdout"}


def prepare(
    directory, *, command=None, jobClass=None, limits=None, parameters=None, runId=None, **more
):
    """A directory with C{job.json}, ready to be run."""
    place = WorkDir(directory / "job")
    record = replace(makeRecord(**(parameters or {})), runId=runId)
    place.writeJob(
        {
            "job": record.asJSON(),
            "attempt": 3,
            "jobClass": jobClass and f"tests.jobclasses:{jobClass}",
            "pythonPath": sys.path,
            "command": command,
            "stdin": None,
            "results": [],
            "limits": {
                "memory": None, "cpu": None, "fileSize": None, "output": 1000, "grace": 0.3,
                **(limits or {}),
            },
            "environment": {},
            **more,
        }
    )  # fmt: skip
    return place


def spawn(place, **more):
    return subprocess.Popen(
        [sys.executable, "-S", "-P", "-m", "twuws.runner", str(place.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ROOT, "SECRET": "xyzzy"},
        **more,
    )


def go(place, **more):
    process = spawn(place, **more)
    process.stdin.write(b"ready 3\ngo\n")
    process.stdin.flush()
    return process


def outcomeOf(directory, **more):
    """Run to the end, and say how that was."""
    place = prepare(directory, **more)
    with go(place) as process:
        news, trouble = process.communicate(timeout=30)
    assert (process.returncode, trouble) == (0, b"")
    assert news
    return place.readOutcome(), place


def messageOf(directory, **more):
    outcome, _ = outcomeOf(directory, **more)
    assert outcome.phase == ERROR
    assert len(outcome.error.message) <= 200
    return outcome.error.message


def sh(script, *arguments):
    return ["sh", "-c", script, "sh", *arguments]


def killed(*pids):
    return not any(isAlive(pid) for pid in pids)


# What goes well


def test_aCommandsResults(tmp_path):
    other = {"id": "two", "file": "2.csv", "mediaType": "text/csv"}
    absent = {"id": "three", "file": "3", "mediaType": "text/csv", "optional": True}
    outcome, place = outcomeOf(
        tmp_path,
        command=sh('printf "%s" "$1"; echo a,b >2.csv; pwd >&2', "é ü"),
        results=[STDOUT, other, absent],
    )
    assert outcome.phase == COMPLETED
    assert outcome.error is None
    events, _ = place.readEvents()
    assert [event["event"] for event in events] == ["started", "result", "result"]
    assert events[1] == {
        "event": "result", "attempt": 3, "id": "out", "file": "out.txt",
        "mediaType": "text/plain", "size": 5,
    }  # fmt: skip
    assert events[2]["id"] == "two"
    assert (place.results / "out.txt").read_text() == "é ü"
    assert place.stderr.read_text() == f"{place.results}\n"
    assert not (place.path / "tmp").exists()
    assert place.stderr.stat().st_mode & 0o077 == 0


def test_aJobClass(tmp_path):
    outcome, place = outcomeOf(tmp_path, jobClass="Sum", parameters={"numbers": ["1", "2.5"]})
    assert outcome.phase == COMPLETED
    assert (place.results / "sum.txt").read_bytes() == b"3.5"
    assert place.stdout.read_text() == "adding [1.0, 2.5]\n"
    started, progress, result = place.readEvents()[0]
    assert started["event"] == "started"
    assert (progress["fraction"], progress["message"]) == (0.5, "half of it")
    assert (result["id"], result["size"]) == ("sum", 3)


def test_lease(tmp_path):
    """The work goes on while somebody renews the lease, and ends before it does."""
    lease = LeaseFile(tmp_path, "node")
    lease.renew(family.clock() + 2)
    place = prepare(tmp_path, command=sh("trap '' TERM; echo $$; sleep 60 & wait; wait"))
    lease.take(place.path, 3)
    with go(place) as process:
        pid = waitUntil(lambda: readable(place.stdout))
        begun = family.clock()
        waitUntil(lambda: family.clock() > begun + 1)
        ends = family.clock() + 2
        lease.renew(ends)
        process.wait(20)
        assert ends - 0.3 - 0.7 < family.clock() < ends + 1  # it is renewed 2 s too early
        assert killed(int(pid))
    outcome = place.readOutcome()
    assert (outcome.phase, outcome.isLost, outcome.error.type) == (ERROR, True, "transient")


def test_leaseOfAnotherNode(tmp_path):
    """Work that is taken over depends on the lease of whoever did."""
    first, second = LeaseFile(tmp_path, "first"), LeaseFile(tmp_path, "second")
    first.renew(family.clock() + 1.5)
    second.renew(family.clock() + 60)
    place = prepare(tmp_path, command=sh("sleep 2.5"))
    first.take(place.path, 3)
    with go(place) as process:
        waitUntil(lambda: place.readEvents()[0])
        second.take(place.path, 3)
        process.wait(20)
    assert place.readOutcome().phase == COMPLETED


def test_leaseOfALaterAttempt(tmp_path):
    """Work that others have begun anew ends, and leaves them the directory as it is."""
    first, second = LeaseFile(tmp_path, "first"), LeaseFile(tmp_path, "second")
    first.renew(family.clock() + 1.5)
    second.renew(family.clock() + 60)
    place = prepare(tmp_path, command=sh("echo $$; exec sleep 60"))
    first.take(place.path, 3)
    with go(place) as process:
        pid = int(waitUntil(lambda: readable(place.stdout)))
        later = WorkDir(place.path, 4)
        later.writeJob({"attempt": 4})
        second.take(place.path, 4)
        before = sorted(path.name for path in place.path.iterdir())
        process.wait(20)
    assert process.returncode == 0
    assert killed(pid)
    assert sorted(path.name for path in place.path.iterdir()) == before
    assert not place.outcome.exists()


def test_leaseThatIsOver(tmp_path):
    """Nothing begins if the service has slept before it said so."""
    lease = LeaseFile(tmp_path, "node")
    lease.renew(family.clock() - 1)
    place = prepare(tmp_path, command=sh("touch begun"))
    lease.take(place.path, 3)
    with go(place) as process:
        process.wait(20)
    assert place.readOutcome().isLost
    assert not (place.results / "begun").exists()


def test_runnerIsKilled(tmp_path):
    """The work does not outlive whoever would end it."""
    place = prepare(tmp_path, command=sh("echo $$; exec sleep 60"))
    with go(place) as process:
        pid = waitUntil(lambda: readable(place.stdout))
        process.kill()
        waitUntil(lambda: killed(int(pid)), 5)


def test_attemptsAreKeptApart(tmp_path):
    """What another attempt has left, or still writes, is not taken for this one's."""
    outcome, place = outcomeOf(tmp_path, command=["true"])
    assert outcome.phase == COMPLETED
    for attempt, found in ((3, True), (4, False), (None, True)):
        other = WorkDir(place.path, attempt)
        assert (other.readOutcome() is not None) is found
        assert bool(other.readEvents()[0]) is found


def test_startedTellsWhoRuns(tmp_path):
    place = prepare(tmp_path, command=["sleep", "60"])
    with go(place) as process:
        (started,) = waitUntil(lambda: place.readEvents()[0])
        assert started["pid"] == process.pid
        assert started["host"] == os.uname().nodename
        assert started["attempt"] == 3
        assert started["started"] == family.startOf(process.pid)
        assert os.getsid(process.pid) == process.pid
        process.terminate()


def test_stdinIsTheGivenFile(tmp_path):
    place = prepare(tmp_path, command=["cat"], stdin="../parameters/file", results=[STDOUT])
    (place.parameters / "file").write_bytes(b"given")
    with go(place):
        pass
    assert (place.results / "out.txt").read_bytes() == b"given"


def test_exitOfAJobClassWithStatus0(tmp_path):
    outcome, _ = outcomeOf(tmp_path, jobClass="Failing", parameters={"how": "exitWell"})
    assert outcome.phase == COMPLETED


def test_aForkThatRaisesIsNotTheWork(tmp_path):
    outcome, _ = outcomeOf(tmp_path, jobClass="Failing", parameters={"how": "fork"})
    assert outcome.phase == COMPLETED


@pytest.mark.parametrize(
    "more",
    [
        {"command": ["env"], "results": [{**STDOUT, "file": "environment"}]},
        {"jobClass": "Environment"},
    ],
)
def test_theEnvironmentIsTheWorksOwn(tmp_path, more):
    _, place = outcomeOf(
        tmp_path, environment={"GIVEN": "1", "UWS_JOB_ID": "no"}, runId="night 3", **more
    )
    lines = (place.results / "environment").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    found.pop("PYTHONUNBUFFERED", None)
    assert found.pop("UWS_RUN_ID") == "night 3"
    jobId = place.readJob()["job"]["jobId"]
    assert found == {
        "PATH": os.environ["PATH"],
        "HOME": str(place.path / "tmp"),
        "TMPDIR": str(place.path / "tmp"),
        "LANG": "C.UTF-8",
        "GIVEN": "1",
        "UWS_JOB_ID": jobId,
        "UWS_WORK": f"{jobId}.3",
    }


def test_aJobClassHasTheServicesPath(tmp_path):
    here = str(Path(__file__).parent.parent)  # where twuws is installed there may be no tests
    _, place = outcomeOf(tmp_path, jobClass="Environment", pythonPath=[here, "/x/first"])
    path = (place.results / "path").read_text().splitlines()
    assert path[:2] == [here, "/x/first"]
    assert any(one.endswith("site-packages") for one in path)


def test_noFileDescriptorsLeak(tmp_path):
    place = prepare(tmp_path, command=["ls", "/proc/self/fd"], results=[STDOUT])
    source, sink = os.pipe()
    os.set_inheritable(sink, True)
    with go(place, pass_fds=(sink,)):
        pass
    os.close(source)
    os.close(sink)
    assert (place.results / "out.txt").read_text().split() == ["0", "1", "2", "3"]  # 3 is ls's own


# What goes wrong


def test_exitStatus(tmp_path):
    script = "echo first >&2; echo 'it is broken' >&2; echo >&2; exit 3"
    outcome, place = outcomeOf(tmp_path, command=["/bin/sh", "-c", script])
    assert outcome.error.message == "sh ended with exit status 3: it is broken"
    assert outcome.error.detail == "first\nit is broken"
    assert outcome.error.type == "fatal"
    assert place.stderr.read_text() == "first\nit is broken\n\n"


def test_exitStatusInItsLastWordsIsWhatCounts(tmp_path):
    message = messageOf(tmp_path, command=["sleep", "x"])
    assert message == "sleep ended with exit status 1: sleep: invalid time interval \u2018x\u2019"


def test_messagesAreShort(tmp_path):
    message = messageOf(tmp_path, command=sh("printf '%05000d' 1 >&2; exit 3"))
    assert message.startswith("sh ended with exit status 3: 000")
    assert message.endswith("…")


def test_exitStatusWithStderrAsAResult(tmp_path):
    errors = {"id": "errors", "file": "errors", "mediaType": "text/plain", "stream": "stderr"}
    message = messageOf(tmp_path, command=sh("echo oh >&2; exit 4"), results=[errors])
    assert message == "sh ended with exit status 4: oh"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGPIPE"])
def test_signal(tmp_path, name):
    message = messageOf(tmp_path, command=sh(f"kill -{name[3:]} $$"))
    assert message == f"sh was killed by signal {name}"


def test_noSuchProgram(tmp_path):
    outcome, _ = outcomeOf(tmp_path, command=["/opt/no/such"])
    assert outcome.error.message.startswith("The program such, or the interpreter")
    assert outcome.error.detail is None
    assert "/opt/no/such" in outcome.error.traceback  # for the operator


def test_programWithoutPermission(tmp_path):
    (tmp_path / "text").write_text("no program")
    message = messageOf(tmp_path, command=[str(tmp_path / "text")])
    assert message == "The program text may not be executed on this host"


def test_programThatIsNone(tmp_path):
    (tmp_path / "text").write_bytes(b"\x01\x02")
    (tmp_path / "text").chmod(0o755)
    message = messageOf(tmp_path, command=[str(tmp_path / "text")])
    assert message == "text is not a program that this host can execute"


def test_tooManyArguments(tmp_path):
    message = messageOf(tmp_path, command=["true", "x" * 3_000_000])
    assert message == "The parameters are too long for the command line of true"


def test_stdinThatIsMissing(tmp_path):
    message = messageOf(tmp_path, command=["cat"], stdin="../parameters/file")
    assert message == "FileNotFoundError: No such file or directory: parameters/file"


def test_missingResult(tmp_path):
    wanted = {"id": "map", "file": "map.fits", "mediaType": "image/fits"}
    message = messageOf(tmp_path, command=["true"], results=[wanted])
    assert message == ("true ended well, but its result map is missing: there is no file map.fits")


@pytest.mark.parametrize(
    "script",
    [
        "ln -s /etc/passwd f",
        "mkdir f",
        "mkfifo f",
        "cd ..; rm -r results; ln -s /etc results; ln -s /etc f",
    ],
)
def test_resultsAreRegularFiles(tmp_path, script):
    file = "passwd" if "results" in script else "f"
    wanted = {"id": "f", "file": file, "mediaType": "text/plain", "optional": True}
    message = messageOf(tmp_path, command=sh(script), results=[wanted])
    assert message == "sh ended well, but its result f is not a regular file"


def test_failureOfAJobClass(tmp_path):
    outcome, _ = outcomeOf(tmp_path, jobClass="Failing", parameters={"how": "failure"})
    assert vars(outcome.error) == {
        "message": "The sky is cloudy", "detail": "all of it", "type": "transient",
        "traceback": None,
    }  # fmt: skip


def test_parameterErrorInAJobClass(tmp_path):
    outcome, _ = outcomeOf(tmp_path, jobClass="Failing", parameters={"how": "parameter"})
    assert outcome.error.message == "Parameter how: it is no way to fail"
    assert outcome.error.detail is None


def test_exceptionInAJobClass(tmp_path):
    outcome, _ = outcomeOf(tmp_path, jobClass="Failing", parameters={"how": "exception"})
    assert outcome.error.message == "ZeroDivisionError: by nothing"
    assert outcome.error.detail is None
    assert "in _exception" in outcome.error.traceback
    assert "worker.py" not in outcome.error.traceback


def test_exitOfAJobClass(tmp_path):
    message = messageOf(tmp_path, jobClass="Failing", parameters={"how": "exit"})
    assert message == "Failing ended with exit status 7"


def test_jobClassThatIsMissing(tmp_path):
    message = messageOf(tmp_path, jobClass="Missing")
    assert message == "AttributeError: module 'tests.jobclasses' has no attribute 'Missing'"


def test_coroutineInAProcess(tmp_path):
    message = messageOf(tmp_path, jobClass="Async")
    assert message == (
        "TypeError: Async.run is a coroutine function, which runs in the reactor only"
    )


# Limits


def test_memoryOfAJobClass(tmp_path):
    message = messageOf(
        tmp_path, jobClass="Failing", parameters={"how": "memory"}, limits={"memory": 256 << 20}
    )
    assert message == "Failing needs more than 256 MiB, its memory limit"


def test_memoryOfACommand(tmp_path):
    script = "x = bytearray(1 << 30)"
    message = messageOf(
        tmp_path, command=[sys.executable, "-S", "-c", script], limits={"memory": 256 << 20}
    )
    assert message.endswith("ended with exit status 1: MemoryError")


@pytest.mark.parametrize("prefix", ["", "trap '' XCPU; "])
def test_cpuTime(tmp_path, monkeypatch, prefix):
    if prefix and resource.getrlimit(resource.RLIMIT_CPU)[1] != resource.RLIM_INFINITY:
        pytest.skip("needs an unlimited hard limit")
    message = messageOf(tmp_path, command=sh(prefix + "while :; do :; done"), limits={"cpu": 1})
    assert message == "sh used more than 1 s of CPU time, which is its limit"


def test_fileSizeOfACommand(tmp_path):
    command = ["dd", "if=/dev/zero", "of=large", "bs=1M", "count=1"]
    message = messageOf(tmp_path, command=command, limits={"fileSize": 65536})
    assert message == "dd wrote a file of more than 64 KiB, its file-size limit"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_fileSizeOfAStream(tmp_path, stream):
    """A result that is printed has the same limit, and so has one that just fits."""
    result = {**STDOUT, "stream": stream}
    to = ">&2" if stream == "stderr" else ""
    for size, phase in ((65536, COMPLETED), (65537, ERROR)):
        directory = tmp_path / str(size)
        directory.mkdir()
        outcome, _ = outcomeOf(
            directory,
            command=sh(f"head -c {size} /dev/zero {to}"),
            limits={"fileSize": 65536},
            results=[result],
        )
        assert outcome.phase == phase
    assert outcome.error.message == "sh wrote a file of more than 64 KiB, its file-size limit"


def test_fileSizeOfAJobClass(tmp_path):
    outcome, place = outcomeOf(
        tmp_path, jobClass="Failing", parameters={"how": "fileSize"}, limits={"fileSize": 65536}
    )
    expected = "Failing wrote a file of more than 64 KiB, its file-size limit"
    assert outcome.error.message == expected
    assert list(place.results.iterdir()) == []


def test_coreDumpsAreNone(tmp_path):
    _, place = outcomeOf(tmp_path, command=sh("ulimit -c"), results=[STDOUT])
    assert (place.results / "out.txt").read_text() == "0\n"


def test_outputIsBounded(tmp_path):
    script = "seq 100000; seq 100000 >&2; echo last >&2; exit 1"
    outcome, place = outcomeOf(tmp_path, command=sh(script), limits={"output": 20})
    for file in (place.stdout, place.stderr):
        assert file.read_text() == (
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n10"[:20] + "\n[Only the first 20 bytes are kept.]\n"
        )
    assert outcome.error.message == "sh ended with exit status 1: last"
    assert 3000 < len(outcome.error.detail) <= 4096


def test_outputThatJustFits(tmp_path):
    _, place = outcomeOf(tmp_path, command=sh("printf 12345"), limits={"output": 5})
    assert place.stdout.read_text() == "12345"


def test_aStreamThatIsAResultIsWhole(tmp_path):
    _, place = outcomeOf(
        tmp_path, command=["seq", "100000"], limits={"output": 20}, results=[STDOUT]
    )
    numbers = (place.results / "out.txt").read_text().splitlines()
    assert numbers == [str(n) for n in range(1, 100_001)]


def test_outputCanBeReadWhileItRuns(tmp_path):
    place = prepare(tmp_path, command=sh("echo out; echo err >&2; exec sleep 60"))
    with go(place) as process:
        waitUntil(lambda: readable(place.stdout) == "out\n")
        waitUntil(lambda: readable(place.stderr) == "err\n")
        assert process.poll() is None
        process.terminate()


# Before, after and during


def test_withoutGoNothingHappens(tmp_path):
    place = prepare(tmp_path, command=sh("echo >../here"))
    with spawn(place) as process:
        out, err = process.communicate(b"", timeout=30)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert sorted(path.name for path in place.path.iterdir()) == [
        "job.json", "parameters", "results",
    ]  # fmt: skip


def test_beforeGoNothingHappens(tmp_path):
    place = prepare(tmp_path, command=["true"])
    with spawn(place) as process:
        waitUntil(lambda: os.getsid(process.pid) == process.pid)
        assert [path.name for path in place.path.iterdir() if path.is_file()] == ["job.json"]
        process.stdin.write(b"ready 3\n")
        process.stdin.flush()
        waitUntil((place.path / "outcome.json.new").exists)
        assert not place.events.exists()
        process.communicate(b"go\n", timeout=30)
    assert place.readOutcome().phase == COMPLETED


def test_directoryOfAnotherAttempt(tmp_path):
    """Its service may have stood still, and others may have begun there: nothing is touched."""
    place = prepare(tmp_path, command=["true"])
    later = {**json.loads(place.job.read_text()), "attempt": 4}
    place.job.write_text(json.dumps(later))
    with go(place) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, b"", b"")
    assert [path.name for path in place.path.iterdir() if path.is_file()] == ["job.json"]


ORPHANS = (
    "sleep 61.1 & echo $! >pid1;"  # a child
    "(setsid sh -c 'echo $$ >pid2; exec sleep 61.2' &);"  # one that forked twice
    "env -i setsid sh -c 'echo $$ >pid3; trap \"\" TERM; while :; do sleep 0.1; done' &"
    "while [ ! -s pid1 -o ! -s pid2 -o ! -s pid3 ]; do sleep 0.01; done;"
)


def pidsIn(place):
    return [int((place.results / f"pid{n}").read_text()) for n in (1, 2, 3)]


def test_nothingOutlivesTheWork(tmp_path):
    outcome, place = outcomeOf(tmp_path, command=sh(ORPHANS))
    assert outcome.phase == COMPLETED
    assert killed(*pidsIn(place))


def test_nothingOutlivesAJobClass(tmp_path):
    outcome, _ = outcomeOf(tmp_path, jobClass="Failing", parameters={"how": "orphan"})
    assert outcome.phase == COMPLETED
    assert not [p for p in psutil.process_iter(["cmdline"]) if "61.5" in (p.info["cmdline"] or ())]


def test_terminationReachesAll(tmp_path):
    place = prepare(
        tmp_path, command=sh(ORPHANS + "echo >ready; trap '' TERM; while :; do sleep 0.1; done")
    )
    with go(place) as process:
        waitUntil((place.results / "ready").exists)
        process.terminate()
    assert killed(*pidsIn(place))
    outcome = place.readOutcome()
    assert outcome.phase == ERROR
    assert outcome.error.message == "The work was stopped before it had ended"
    assert process.returncode == 0


def test_terminationGivesTimeToCleanUp(tmp_path):
    script = "trap 'echo clean >cleaned; exit 0' TERM; echo >ready; while :; do sleep 0.01; done"
    place = prepare(tmp_path, command=sh(script), limits={"grace": 5})
    with go(place) as process:
        waitUntil((place.results / "ready").exists)
        process.terminate()
    assert (place.results / "cleaned").exists()
    assert place.readOutcome().phase == ERROR


def test_theServiceMayGoAway(tmp_path):
    place = prepare(tmp_path, jobClass="Sum", parameters={"numbers": "1"})
    process = go(place)
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
    assert process.wait(10) == 0
    assert place.readOutcome().phase == COMPLETED


def test_aServiceThatDoesNotReadNewsHoldsNobodyUp(tmp_path):
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    with suppress(BlockingIOError):
        while True:
            os.write(sink, bytes(4096))
    os.set_blocking(sink, True)
    place = prepare(tmp_path, jobClass="Sum", parameters={"numbers": "1"})
    process = subprocess.Popen(
        [sys.executable, "-m", "twuws.runner", str(place.path)],
        stdin=subprocess.PIPE,
        stdout=sink,
        env={"PYTHONPATH": ROOT},
    )
    process.communicate(b"ready 3\ngo\n", timeout=30)
    os.close(source)
    os.close(sink)
    assert place.readOutcome().error is None


def test_anUnwritableDirectory(tmp_path):
    place = prepare(tmp_path, command=["true"])
    (place.path / "outcome.json.new").mkdir()  # root may write where it has no permission to
    with go(place) as process:
        _, trouble = process.communicate(timeout=30)
    assert process.returncode == 3
    assert trouble.startswith(f"twuws.runner: {place.path}: ".encode())
    assert trouble.count(b"\n") == 1


def test_anUnusableDirectoryIsToldIfItCanBe(tmp_path):
    place = prepare(tmp_path, command=["true"])
    (place.path / "tmp").write_text("in the way")
    with go(place) as process:
        process.communicate(timeout=30)
    assert process.returncode == 0
    error = place.readOutcome().error
    assert error.message == "The work's directory could not be used: File exists: tmp"
    assert error.type == "transient"


def test_workThatSignalsItsRunnerStopsItself(tmp_path):
    place = prepare(tmp_path, command=sh("trap '' TERM; kill -TERM $PPID; sleep 60"))
    with go(place) as process:
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert place.readOutcome().phase == ERROR
