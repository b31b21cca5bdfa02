"""The disk full under the job directories: one job fails and says so, and the service goes on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
import pytest_twisted
import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.jobclasses import Bulky, Filter, Shell
from tests.serving import serve, text
from tests.test_admin import empty, place  # noqa: F401, fixtures
from tests.test_runner import STDOUT, go, prepare
from tests.working import makeWork, until, waitUntil
from twuws import parameters as p
from twuws.backends.process import ProcessBackend
from twuws.errors import Unavailable
from twuws.jobs import Outcome, UWSJob
from twuws.jobservices import JobServices
from twuws.jobstable import JobsTable
from twuws.leases import LeaseFile
from twuws.node import Node, NodeSettings
from twuws.phases import ERROR
from twuws.streams import reserve
from twuws.testing import running
from twuws.workdir import WorkDir

pytestmark = [pytest.mark.slow, pytest.mark.covered]

FULL = "the disk is full"


class Here(UWSJob):
    """Writes a large result in the reactor."""

    size = p.Integer(default=0)

    async def run(self):
        with self.openResult("large", "text/plain") as out:
            out.write(bytes(self.size))


class Disk:
    """A small disk of its own, with the job directories on it."""

    def __init__(self, path):
        self.path = path
        self.jobs = path / "jobs"
        self.filler = path / "filler"

    def fill(self):
        """Leave no room at all."""
        with self.filler.open("ab", buffering=0) as f:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while f.write(bytes(size)) == size:
                        pass
                except OSError as e:
                    if e.errno != errno.ENOSPC:
                        raise

    def free(self):
        self.filler.unlink()

    def known(self):
        """All that there is in the directories of jobs, and among uploads."""
        uploads = self.jobs / ".uploads"
        jobs = [path for folder in self.jobs.glob("[0-9a-f]*") for path in folder.iterdir()]
        return jobs + (list(uploads.iterdir()) if uploads.exists() else [])


def mounted(path, options):
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    return Disk(path)


def unmount(path):
    waitUntil(lambda: subprocess.run(["umount", str(path)], capture_output=True).returncode == 0)


@pytest.fixture
def disk(tmp_path):
    disk = mounted(tmp_path / "disk", "size=1m,mode=0700")
    yield disk
    unmount(disk.path)


@pytest.fixture
def start(database, disk):
    """Start a service whose jobs are on the small disk; stopped at the end."""
    begun = []

    async def start(jobClass, **more):
        serving = await serve(database, disk.jobs, jobClass=jobClass, slots=2, **more)
        begun.append(serving)
        return serving

    yield start
    for serving in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))
        pytest_twisted.blockon(serving.uws.directoriesRemoved())


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


def sent(url, form):
    """POST; status, location and text."""
    kind = "application/x-www-form-urlencoded"
    if isinstance(form, dict):
        form = urllib.parse.urlencode(form).encode()
    else:
        kind = "multipart/form-data; boundary=b"
    request = urllib.request.Request(url, form, {"Content-Type": kind})
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=30) as answer:
            return answer.status, None, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.status, answer.headers.get("Location"), answer.read().decode()


def got(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def multipart(size):
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    return head + bytes(size) + b"\r\n--b--\r\n"


async def create(serving, run=False, **form):
    return await serving.create({**form, **({"PHASE": "RUN"} if run else {})})


async def failed(serving, url):
    """The job's error, once it has failed; the same at error."""
    job = await serving.ended(url)
    assert text(job, "phase") == "ERROR"
    message = text(job, "errorSummary/message")
    assert str(serving.uws.workDirs.root) not in message
    kind = job.find(".//{*}errorSummary").get("type")
    assert (await serving.get(url + "/error")).text.startswith(message)
    return message, kind


async def completed(serving, url):
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"


# Creation


async def post(serving, size):
    answer = await serving.client.post(
        serving.url, files={"file": ("x", bytes(size))}, allow_redirects=False
    )
    return answer.code, await treq.text_content(answer), answer.headers.getRawHeaders("retry-after")


async def test_upload(disk, start):
    serving = await start(Filter)
    disk.fill()
    for size in (100, 200_000):
        status, said, retry = await post(serving, size)
        assert status == 503, said
        assert FULL in said
        assert retry
    assert disk.known() == []
    assert await serving.uws.getIdsAndPhases() == []
    disk.free()
    status, said, _ = await post(serving, 200_000)
    assert status == 303, said
    ((jobId, _),) = await serving.uws.getIdsAndPhases()
    await serving.uws.run(jobId)
    await completed(serving, f"{serving.url}/{jobId}")


async def test_noDirectoryCanBeMade(database, tmp_path):
    """Neither a job, nor a file for one."""
    disk = mounted(tmp_path / "disk", "size=1m,nr_inodes=16,mode=0700")
    serving = await serve(database, disk.jobs, jobClass=Filter)
    try:
        url = await create(serving)
        with pytest.raises(OSError, match="No space"):
            for number in range(100):
                (disk.path / f"file{number}").touch()
        answer = await serving.post("")
        assert (answer.status, FULL in answer.text) == (503, True), answer.text
        answer = await serving.request(
            "PUT", url + "/parameters/file", data=b"x", headers={"content-type": "text/plain"}
        )
        assert (answer.status, FULL in answer.text) == (503, True), answer.text
        assert len(await serving.uws.getIdsAndPhases()) == 1
        assert len(disk.known()) == 1
    finally:
        await serving.stop()
        unmount(disk.path)


# Starting and running


async def test_jobFile(disk, start):
    """No room for what is to be done; the next job has it again."""
    serving = await start(Shell)
    urls = [await create(serving, script="true") for _ in range(2)]
    disk.fill()
    await serving.post(urls[0] + "/phase", {"PHASE": "RUN"})
    message, kind = await failed(serving, urls[0])
    assert message == "The job could not be started: the disk is full"
    assert kind == "transient"
    disk.free()
    await serving.post(urls[1] + "/phase", {"PHASE": "RUN"})
    await completed(serving, urls[1])


@pytest.mark.parametrize("words", ["", "2>/dev/null"])
async def test_program(disk, start, words):
    """A program that finds no room for a file, whether it says so or not."""
    serving = await start(Shell)
    url = await create(serving, True, script=f"head -c 4000000 /dev/zero {words} >large")
    message, kind = await failed(serving, url)
    assert message.startswith(f"sh ended with exit status 1; {FULL}")
    assert kind == "transient"
    next_ = await create(serving, script="echo hello")
    assert (await serving.request("DELETE", url)).status == 303
    await serving.uws.directoriesRemoved()
    await serving.post(next_ + "/phase", {"PHASE": "RUN"})
    await completed(serving, next_)
    assert (await serving.get(next_ + "/results/out")).text == "hello\n"


@pytest.mark.parametrize("end", ["", "|| exit 0", "|| exit 3", "& trap '' PIPE; wait; exit 0"])
async def test_programThatPrints(disk, start, end):
    """What a program prints is whole or no result, whatever the program makes of that."""
    serving = await start(Shell)
    url = await create(serving, True, script=f"head -c 4000000 /dev/zero {end}")
    message, kind = await failed(serving, url)
    assert message == f"What sh wrote could not be stored whole: {FULL}"
    assert kind == "transient"
    assert (await serving.get(url + "/results/out")).status == 404


async def test_roomForAPart(disk, start, tmp_path):
    """What it wrote before the disk was full is not all, so it is not the result."""
    serving = await start(Shell)
    goOn = tmp_path / "goOn"
    script = f"echo a; while ! [ -e {goOn} ]; do sleep 0.05; done; head -c 9000 /dev/zero; exit 0"
    url = await create(serving, True, script=script)
    out = serving.uws.workDirs.forJob(url.rpartition("/")[2]).results / "out.txt"
    await until(lambda: out.exists() and out.stat().st_size)
    disk.fill()
    goOn.touch()
    message, _ = await failed(serving, url)
    assert message == f"What sh wrote could not be stored whole: {FULL}"
    assert out.stat().st_size > 2  # in the last page of the file there was room


@pytest.mark.parametrize("jobClass", [Bulky, Here])
async def test_jobClass(disk, start, jobClass):
    serving = await start(jobClass)
    url = await create(serving, True, size="4000000")
    message, kind = await failed(serving, url)
    assert message == f"{jobClass.__name__} could not write all that it had to: {FULL}"
    assert kind == "transient"
    await completed(serving, await create(serving, True))


async def test_fullWhileItRuns(disk, start, tmp_path):
    """What was begun can still tell how it ended: here well, here not."""
    serving = await start(Shell)
    goOn = tmp_path / "goOn"
    script = f"echo begun; while ! [ -e {goOn} ]; do sleep 0.05; done; exit {{}}"
    urls = [await create(serving, True, script=script.format(status)) for status in (0, 3)]
    for url in urls:
        work = serving.uws.workDirs.forJob(url.rpartition("/")[2])
        await until(lambda work=work: work.readEvents()[0])
        await until(lambda work=work: (work.results / "out.txt").stat().st_size)
    disk.fill()
    goOn.touch()
    await completed(serving, urls[0])
    message, kind = await failed(serving, urls[1])
    assert message == f"sh ended with exit status 3; {FULL}"
    assert kind == "transient"


async def test_noRoomForEvents(disk, start, tmp_path):
    """Results that cannot be recorded are none: the job must not look complete."""
    serving = await start(Bulky)
    goOn = tmp_path / "goOn"
    url = await create(serving, True, after=str(goOn), number="500")
    work = serving.uws.workDirs.forJob(url.rpartition("/")[2])
    await until(
        lambda: work.readEvents()[0] and work.outcome.with_name("outcome.json.new").exists()
    )
    disk.fill()
    goOn.touch()
    message, kind = await failed(serving, url)
    assert FULL in message
    assert kind == "transient"
    disk.free()
    await completed(serving, await create(serving, True, number="5"))


def test_longDetail(disk):
    """Where there is room for a message only, that is what there is."""
    long = "echo " + "x" * 3000 + " >&2; echo the end >&2; exit 5"
    work = prepare(
        disk.path, command=["sh", "-c", f"while ! [ -e go ]; do sleep 0.05; done; {long}"]
    )
    with go(work) as process:
        waitUntil(lambda: work.outcome.with_name("outcome.json.new").exists())
        disk.fill()
        work.results.joinpath("go").touch()
        process.communicate(timeout=30)
    assert process.returncode == 0
    error = work.readOutcome().error
    assert error.message == f"sh ended with exit status 5; {FULL}: the end"
    assert error.detail is None or len(error.detail) > 3000


def test_whatIsReserved(disk):
    """The room for an outcome is there when there is none for anything else."""
    work = WorkDir(disk.path, 1)
    reserve(str(work.path / "outcome.json.new"))
    disk.fill()
    with pytest.raises(OSError, match="No space"):
        work.addEvent("progress", fraction=0.5)
    detail = "x" * 50_000
    work.writeOutcome(Outcome.failed("It rained", detail, traceback=detail))
    outcome = work.readOutcome()
    assert (outcome.phase, outcome.error.message) == (ERROR, "It rained")
    assert outcome.error.detail is None


def test_tornEvent(disk):
    """Half of a line is no event, and does not spoil the next one."""
    work = WorkDir(disk.path, 1)
    work.addEvent("progress", fraction=0.25)
    disk.fill()
    with pytest.raises(OSError, match="No space"):
        while True:
            work.addEvent("progress", message="x" * 999)
    told = len(work.readEvents()[0])
    assert work.events.read_bytes()[-1:] != b"\n"  # there was room for a part of one
    disk.free()
    work.addEvent("result", id="r", file="r", mediaType="t/t")
    events, _ = work.readEvents()
    assert [event["event"] for event in events] == ["progress"] * told + ["result"]


def test_noRoomForAnOutcome(disk):
    """The runner says why it leaves none."""
    work = prepare(disk.path, command=["true"], results=[STDOUT])
    disk.fill()
    with go(work) as process:
        _, trouble = process.communicate(timeout=30)
    assert process.returncode == 3
    assert trouble.decode() == f"twuws.runner: {work.path}: {FULL}\n"


async def test_backendWithoutAnOutcome(disk):
    from twisted.internet import reactor

    work = makeWork(disk.path, Shell, script="true")

    async def remember(ref):
        disk.fill()

    begun = await ProcessBackend(reactor).start(work, remember)
    error = (await begun.ended).error
    assert error.message == f"The end of the job's work could not be written: {FULL}"
    assert error.type == "transient"


# Leases


async def test_lease(disk, database):
    """A lease is renewed in place; where a new one can't be written the node does not count."""
    old = Node(JobsTable(database), ["some"], 1, NodeSettings(), [disk.jobs])
    await old.beat()
    path = old.leaseFiles[disk.jobs].path
    before = float(path.read_bytes())
    disk.fill()
    await deferLater(database.reactor, 0.01)
    await old.beat()
    assert float(path.read_bytes()) > before
    new = Node(JobsTable(database), ["some"], 1, NodeSettings(), [disk.jobs])
    with pytest.raises(Unavailable, match=FULL):
        await new.beat()
    with pytest.raises(Unavailable, match=FULL):
        await new.claim()
    assert not new.hasLease
    disk.free()
    await new.beat()
    assert new.hasLease


async def test_startedOnAFullDisk(disk, database, start):
    """A service that starts where there is no room serves, and runs jobs once there is some."""
    serving = await start(Shell)
    url = await create(serving, script="true")
    await serving.jobServices.stopService()
    disk.fill()
    await serving.uws.run(url.rpartition("/")[2])
    again = JobServices([serving.uws], slots=2)
    again.startService()
    try:
        await until(lambda: LeaseFile(disk.jobs, again.node.name).path.exists())
        assert await serving.phase(url) == "QUEUED"
        disk.free()
        await completed(serving, url)
    finally:
        await again.stopService()


def test_wholeService(place, tmp_path):  # noqa: F811
    """All of it in a process of its own: refusals, a job that fails, and then one that does not."""
    disk = mounted(tmp_path / "disk", "size=4m,mode=0755")
    try:
        with running(database=place.url, dataDir=disk.path / "data") as service:
            url = service.jobList("sleep")
            before, first, second = (sent(url, {"seconds": "0"})[1] for _ in range(3))
            assert sent(before + "/phase", {"PHASE": "RUN"})[0] == 303
            waitUntil(lambda: got(before + "/phase") == "COMPLETED")  # the node has its lease
            disk.fill()
            for size in (50_000, 3_000_000):
                status, _, said = sent(service.jobList("digest"), multipart(size))
                assert (status, FULL in said) == (503, True), said
            assert sent(first + "/phase", {"PHASE": "RUN"})[0] == 303
            waitUntil(lambda: got(first + "/phase") == "ERROR")
            assert FULL in got(first + "/error")
            disk.free()
            assert sent(second + "/phase", {"PHASE": "RUN"})[0] == 303
            waitUntil(lambda: got(second + "/phase") == "COMPLETED")
            assert "Traceback" not in service.log()
    finally:
        unmount(disk.path)


def test_messagesHaveNoPaths():
    """What is told of a disk is for clients."""
    from twuws.endings import notStored

    error = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/secret/file")
    assert notStored("It", error).error.message == f"It: {FULL}"
    other = OSError(errno.EIO, os.strerror(errno.EIO), "/secret/file")
    assert notStored("It", other).error.message == "It: Input/output error: file"
    assert "secret" not in json.dumps(notStored("It", other).asJSON())
