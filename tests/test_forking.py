"""
Runners that are forked from a process which has imported their job class.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from textwrap import dedent

import psutil
import pytest

from tests.working import Forking, isAlive, makeWork, until
from twuws import family
from twuws.backends import forked
from twuws.phases import COMPLETED, ERROR

pytestmark = [
    pytest.mark.slow,
    pytest.mark.covered,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each runner is started anew"),
]

#: A job class that says what it is told.
CLASS = """
    import os, random, sys, tempfile
    from twuws import UWSJob
    class Job(UWSJob):
        def run(self):
            print({what})
"""


async def nothing(ref):
    pass


@pytest.fixture
def backend(tmp_path):
    backend = Forking(home=tmp_path / "home")
    yield backend
    backend.close()


@pytest.fixture
def define(tmp_path, monkeypatch):
    """Write a module with a job class; that class."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(what="'said'", before="", name="forkedjob"):
        path = tmp_path / f"{name}.py"
        path.write_text(dedent(before) + dedent(CLASS).format(what=what))
        stamp = time.time_ns() - 10**10 * len(path.read_text())  # one that shows any change
        os.utime(path, ns=(stamp, stamp))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name).Job

    return write


async def said(backend, work):
    running = await backend.start(work, nothing)
    outcome = await running.ended
    assert outcome.phase == COMPLETED, outcome
    return work.directory.stdout.read_text().strip()


async def test_likeAnyRunner(backend, define, tmp_path):
    """It is marked, called, and the leader of a session as one that was started is."""
    work = makeWork(tmp_path, define("sys.stdin.read(), os.system('sleep 60')"))
    running = await backend.start(work, nothing)
    pid = running.ref["pid"]
    process = psutil.Process(pid)
    assert process.environ()[family.MARK] == running.ref["marker"]
    assert process.cmdline()[1:4] == ["-m", "twuws.runner", str(work.directory.path)]
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert process.ppid() == backend.forkers()[0].pid
    await until(lambda: "sleep" in [one.name() for one in process.children(recursive=True)])
    every = process.children(recursive=True)
    assert all(one.environ()[family.MARK] == running.ref["marker"] for one in every)
    sockets = [one for one in process.net_connections("unix") if one.fd > 2]
    assert len(sockets) == 1, "but for the one that it tells its news by"
    await backend.stop(running.ref, 0.3)
    assert (await running.ended).phase == ERROR
    assert not any(isAlive(one.pid) for one in every)


async def test_eachIsNew(backend, define, tmp_path):
    """What a process has for itself is not that of the one it was forked from."""
    what = "random.random(), tempfile.gettempdir(), os.environ['HOME'], sys.argv[1]"
    before = "import tempfile; tempfile.gettempdir()"
    cls = define(what, before)
    works = [makeWork(tmp_path, cls) for _ in range(2)]
    first, second = [(await said(backend, work)).split() for work in works]
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert first[1] == first[2] == str(works[0].directory.path / "tmp")
    assert len(backend.forkers()) == 1


async def test_environment(backend, define, tmp_path, monkeypatch):
    """Modules are imported in the environment of their service, and with nothing of ours."""
    monkeypatch.setenv("SECRET", "xyzzy")
    before = "import os; SEEN = [os.environ.get(name) for name in ('GIVEN', 'SECRET')]"
    cls = define("*SEEN, os.environ.get('SECRET')", before)
    for given in ("a", "b"):
        work = makeWork(tmp_path, cls, environment={"GIVEN": given})
        assert await said(backend, work) == f"{given} None None"


async def test_changedModules(backend, define, tmp_path):
    """What has changed since is imported anew, as it would be by a process of its own."""
    assert await said(backend, makeWork(tmp_path, define("'old'"))) == "old"
    (forker,) = backend.forkers()
    assert await said(backend, makeWork(tmp_path, define("'new one'"))) == "new one"
    assert backend.forkers() == [forker]


@pytest.mark.parametrize(
    "before",
    [
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "OPEN = open(__file__)",
        "import tempfile; OPEN = tempfile.TemporaryFile(dir='/dev/shm')",
        "import socket; OPEN = socket.socketpair()",
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: None)",
    ],
    ids=["thread", "file", "memory", "socket", "signal"],
)
async def test_moreThanMemory(backend, define, tmp_path, before):
    """Modules that leave what a fork would share, or would not have, are imported for each."""
    cls = define(before=before)
    assert await said(backend, makeWork(tmp_path, cls)) == "said"
    assert backend.forks == 0


async def test_threadsThatKnow(backend, define, tmp_path):
    """Threads that are ended for each fork do no harm."""
    before = """
        import os, threading
        END = threading.Event()
        THREAD = threading.Thread(target=END.wait, daemon=True)
        THREAD.start()
        os.register_at_fork(before=lambda: (END.set(), THREAD.join()))
    """
    assert await said(backend, makeWork(tmp_path, define(before=before))) == "said"
    assert backend.forks == 1


async def test_notImportable(backend, define, tmp_path):
    """The end of the job says so, as if nothing were forked."""
    cls = define()
    (tmp_path / "forkedjob.py").write_text("1 / 0")
    running = await backend.start(makeWork(tmp_path, cls), nothing)
    assert "ZeroDivisionError" in (await running.ended).error.message


async def test_notImportedOnce(backend, define, tmp_path):
    cls = define()
    cls.importedOnce = False
    assert await said(backend, makeWork(tmp_path, cls)) == "said"
    assert not backend.forkers()


async def test_atExit(backend, define, tmp_path):
    """What modules want done at exit is done once, by the work."""
    before = """
        import atexit, os
        atexit.register(lambda: "UWS_JOB_ID" in os.environ and os.write(1, b"bye"))
    """
    work = makeWork(tmp_path, define("'hello'", before))
    assert await said(backend, work) == "hello\nbye"


async def test_killed(backend, define, tmp_path):
    """Work goes on without the process that its runner was forked from, and its end is seen."""
    go = tmp_path / "go"
    # Not for ever: if this fails nobody ends it.
    looks = f"range(3000) if not os.path.exists({str(go)!r})"
    work = makeWork(
        tmp_path, define(f"[time.sleep(0.02) for _ in {looks}], 'went on'", "import time")
    )
    running = await backend.start(work, nothing)
    (forker,) = backend.forkers()
    forker.kill()
    await until(lambda: not backend.forkers())
    go.touch()
    assert (await running.ended).phase == COMPLETED
    assert "went on" in work.directory.stdout.read_text()
    assert await said(backend, makeWork(tmp_path, define())) == "said"
    assert backend.forks == 2


async def test_killedWithItsRunner(backend, define, tmp_path):
    """A runner that is lost with what it was forked from is noticed, too."""
    running = await backend.start(makeWork(tmp_path, define("os.system('sleep 60')")), nothing)
    for pid in (backend.forkers()[0].pid, running.ref["pid"]):
        os.kill(pid, signal.SIGKILL)
    outcome = await running.ended
    assert outcome.isLost


async def test_statusOfARunner(backend, define, tmp_path):
    running = await backend.start(makeWork(tmp_path, define("os.system('sleep 60')")), nothing)
    os.kill(running.ref["pid"], signal.SIGKILL)
    outcome = await running.ended
    assert outcome.isLost
    assert "SIGKILL" in outcome.error.message


async def test_aDirectoryThatIsGone(backend, define, tmp_path):
    """What a runner says before it ends is told as that of one that was started."""
    work = makeWork(tmp_path, define())
    work.directory.writeJob = lambda content: work.directory.job.write_text("{")
    outcome = await (await backend.start(work, nothing)).ended
    assert outcome.error.message == "The job's runner ended with exit status 1"
    assert "Traceback" in outcome.error.traceback


async def test_endsWithTheService(tmp_path):
    """It ends when nobody has the other end of its socket, and its runners do not."""
    script = """
        import sys
        from pathlib import Path
        from twisted.internet import reactor
        from twisted.internet.defer import ensureDeferred
        from tests import jobclasses
        from tests.working import Forking, makeWork, until
        async def begin():
            backend = Forking(home=Path(sys.argv[1]) / "home")
            work = makeWork(Path(sys.argv[1]), jobclasses.Shell, script="sleep 61.5")
            async def nothing(ref):
                pass
            running = await backend.start(work, nothing)
            await until(work.directory.events.exists)
            print(running.ref["pid"], backend.forkers()[0].pid, flush=True)
        ensureDeferred(begin())
        reactor.run()
    """
    with subprocess.Popen(
        [sys.executable, "-c", dedent(script), str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        runner, forker = map(int, process.stdout.readline().split())
        assert isAlive(forker)
        process.kill()
        process.wait()
        await until(lambda: not isAlive(forker))
    assert isAlive(runner)
    await until(lambda: psutil.Process(runner).children())
    for one in psutil.Process(runner).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it goes with another
            one.kill()
    await until(lambda: not isAlive(runner))


async def test_noRoomForTheMark(backend, define, tmp_path):
    """A runner whose mark would not fit is started, or else nobody could find it again."""
    cls = define()
    work = makeWork(tmp_path, cls)
    record = replace(work.job.record, jobId="f" * len(family.NO_MARK))
    assert await said(backend, replace(work, job=cls(record))) == "said"
    assert backend.forks == 0


async def test_frozen(backend, define, tmp_path, monkeypatch):
    """One that does not fork in time is not waited for; nor is a runner that comes later."""
    monkeypatch.setattr(forked, "PATIENCE", 0.3)
    cls = define()
    assert await said(backend, makeWork(tmp_path, cls)) == "said"
    (forker,) = backend.forkers()
    forker.suspend()
    assert await said(backend, makeWork(tmp_path, cls)) == "said"
    assert backend.forks == 1
    forker.resume()
    monkeypatch.setattr(forked, "PATIENCE", 20.0)
    assert await said(backend, makeWork(tmp_path, cls)) == "said"
    assert backend.forks == 2
    await until(lambda: not forker.children())


async def test_noHome(define, tmp_path):
    """Where it cannot be started runners are started anew."""
    (tmp_path / "file").touch()
    backend = Forking(home=tmp_path / "file" / "home")
    assert await said(backend, makeWork(tmp_path, define())) == "said"
    assert backend.forks == 0
    backend.close()
