"""
How work ends that was forked: what it leaves is what it would leave as a process of its own.
"""

from __future__ import annotations

import importlib
import re
import sys
from textwrap import dedent, indent

import pytest

from tests.working import Forking, makeWork

pytestmark = [
    pytest.mark.slow,
    pytest.mark.covered,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each runner is started anew"),
]

#: A job class, and a module that tells of its being taken apart.
MODULE = """
import ctypes, gc, os, sys, tempfile, threading, weakref
from twuws import UWSJob

class Witness:
    def __del__(self):
        if "UWS_JOB_ID" in os.environ:
            os.close(os.open(os.environ["TMPDIR"] + "/../apart", os.O_CREAT))

WITNESS = Witness()

def write():
    with open("file", "w") as file:
        file.write("all of it")

{before}

class Job(UWSJob):
    def run(self):
        global LEFT
{run}
"""


async def nothing(ref):
    pass


@pytest.fixture
def backend(tmp_path):
    backend = Forking(home=tmp_path / "home")
    yield backend
    backend.close()


@pytest.fixture
def bothEnds(backend, tmp_path, monkeypatch):
    """
    Have a job done by a fork, and by a process of its own; what each has left, and whether its
    modules were taken apart.
    """
    monkeypatch.syspath_prepend(str(tmp_path))

    async def end(importedOnce, before, run):
        path = tmp_path / "endingjob.py"
        path.write_text(MODULE.format(before=dedent(before), run=indent(dedent(run), " " * 8)))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "endingjob", raising=False)
        cls = importlib.import_module("endingjob").Job
        cls.importedOnce = importedOnce
        work = makeWork(tmp_path, cls)
        outcome = await (await backend.start(work, nothing)).ended
        place = work.directory
        left = {
            "outcome": outcome,
            "stdout": place.stdout.read_bytes(),
            "stderr": place.stderr.read_bytes(),
            "results": {one.name: one.read_bytes() for one in place.results.iterdir()},
            "temporary": (place.path / "tmp").exists(),
        }
        return left, (place.path / "apart").exists()

    async def ends(run, before=""):
        fork = await end(True, before, run)
        assert backend.forks == 1
        return fork, await end(False, before, run)

    return ends


async def leaves(bothEnds, run, before=""):
    """The same is left by both; what that is, and whether the fork's end was the short one."""
    (left, isApart), (usual, isUsuallyApart) = await bothEnds(run, before)
    assert left == usual
    assert isUsuallyApart
    return left, not isApart


async def test_short(bothEnds):
    left, isShort = await leaves(bothEnds, "print('said')")
    assert isShort
    assert left["stdout"] == b"said\n"


@pytest.mark.parametrize(
    "run",
    [
        "LEFT = open('file', 'w'); LEFT.write('all of it')",
        "LEFT = os.fdopen(os.open('file', os.O_CREAT | os.O_WRONLY), 'w'); LEFT.write('all of it')",
        """
        os.dup2(os.open('file', os.O_CREAT | os.O_WRONLY), 1)
        LEFT = open(1, 'w', closefd=False)
        LEFT.write('all of it')
        """,
        """
        taken = max(map(int, os.listdir('/proc/self/fd')[:-1]))
        os.close(taken)
        while (number := os.open('file', os.O_CREAT | os.O_WRONLY)) < taken:
            pass
        os.closerange(number + 1, number + 100)
        LEFT = open(number, 'w')
        LEFT.write('all of it')
        """,
    ],
    ids=["open", "fdopen", "instead of stdout", "instead of another"],
)
async def test_leftOpen(bothEnds, run):
    """What is in buffers is written."""
    left, isShort = await leaves(bothEnds, run)
    assert not isShort
    assert left["results"] == {"file": b"all of it"}


async def test_archiveLeftOpen(bothEnds):
    run = """
        import zipfile
        LEFT = zipfile.ZipFile('file.zip', 'w')
        LEFT.writestr(zipfile.ZipInfo('one'), 'content')
    """
    left, isShort = await leaves(bothEnds, run)
    assert not isShort
    assert left["results"]["file.zip"].endswith(b"\0\0"), "the directory of the archive"


@pytest.mark.parametrize(
    ("before", "run"),
    [
        ("import atexit", "atexit.register(write)"),
        ("import atexit; atexit.register(lambda: 'UWS_JOB_ID' in os.environ and write())", "pass"),
        (
            "",
            """
            def late():
                threading.main_thread().join()
                write()
            threading.Thread(target=late).start()
            """,
        ),
        (
            "from concurrent.futures import ThreadPoolExecutor",
            "LEFT = ThreadPoolExecutor(1); LEFT.submit(write)",
        ),
        (
            "import logging, logging.handlers",
            """
            file = logging.FileHandler('file')
            file.terminator = ''
            handler = logging.handlers.MemoryHandler(1000, target=file)
            logging.getLogger().addHandler(handler)
            logging.getLogger().error('all of it')
            """,
        ),
        ("", "weakref.finalize(WITNESS, write)"),
    ],
    ids=["hook", "module's hook", "thread", "pool", "logging", "finalize"],
)
async def test_doneBefore(bothEnds, before, run):
    """What Python does before modules are taken apart is done."""
    left, isShort = await leaves(bothEnds, run, before)
    assert isShort
    assert left["results"] == {"file": b"all of it"}


@pytest.mark.parametrize(
    "run", ["cycle = [file]; cycle.append(cycle)", "self.file, self.me = file, self"]
)
async def test_cycle(bothEnds, run):
    """Files that only garbage has are written whole, though Python may close them too early."""
    opening = "file = open('file', 'w'); file.write('all of it'); "
    (left, isApart), _ = await bothEnds(opening + run)
    assert not isApart
    assert left["results"] == {"file": b"all of it"}


async def test_processes(bothEnds):
    """They are waited for, and end as they always do."""
    run = """
        import multiprocessing
        multiprocessing.get_context('fork').Process(target=write).start()
    """
    left, _ = await leaves(bothEnds, run)
    assert left["results"] == {"file": b"all of it"}


async def test_temporaryDirectory(bothEnds):
    run = """
        LEFT = tempfile.TemporaryDirectory(dir='.')
        open(LEFT.name + '/file', 'w').close()
    """
    left, isShort = await leaves(bothEnds, run)
    assert isShort
    assert not left["results"]


@pytest.mark.parametrize(
    ("before", "run"),
    [
        ("", "ctypes.CDLL(None).printf(b'all of it')"),
        ("", "LEFT = open(1, 'w', closefd=False); LEFT.write('all of it')"),
        ("LEFT = open(1, 'w', closefd=False)", "LEFT.write('all of it')"),
        ("", "sys.stdout = LEFT = open(1, 'w', closefd=False); print('all of it', end='')"),
    ],
    ids=["C", "file", "module's file", "sys.stdout"],
)
async def test_buffersOfStdout(bothEnds, before, run):
    left, isShort = await leaves(bothEnds, run, before)
    assert isShort
    assert left["stdout"] == b"all of it"


@pytest.mark.parametrize(
    ("before", "run", "isShort"),
    [
        ("", "sys.exit(7)", False),
        ("", "sys.exit('why')", False),
        ("", "os._exit(7)", None),
        ("", "LEFT = open('file', 'w'); LEFT.write('x'); raise ValueError('why')", False),
        ("", "raise ValueError('why')", True),
        ("import atexit", "atexit.register(lambda: 1 / 0)", True),
        ("import atexit", "atexit.register(sys.exit, 7)", True),
        ("import atexit", "atexit.register(os._exit, 7)", None),
        ("import atexit", "atexit.register(os.kill, os.getpid(), 9)", None),
        ("", "threading.Thread(target=lambda: 1 / 0).start()", True),
        ("", "sys.stdout.close()", False),
        ("", "sys.stdout = None", False),
        ("", "LEFT = open('/dev/full', 'w'); LEFT.write('x')", False),
        ("", "sys.stdout = open('/dev/full', 'w'); sys.stdout.write('x')", False),
        ("", "os.close(1); LEFT = open(1, 'w', closefd=False); LEFT.write('x')", False),
    ],
)  # fmt: skip
async def test_trouble(bothEnds, before, run, isShort):
    """What is said of trouble is the same, and so is what becomes of the job."""
    (left, isApart), (usual, _) = await bothEnds(run, before)
    for one in (left, usual):
        one["stderr"] = re.sub(rb"0x[0-9a-f]+", b"0x", one["stderr"])
    assert left == usual
    if isShort is not None:
        assert isApart is not isShort
