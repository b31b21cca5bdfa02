"""Results and directories that somebody has removed, or made something else of."""

from __future__ import annotations

import os
import shutil

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.jobclasses import Bulky, Filter, Shell
from tests.serving import Noted, serve, text
from tests.working import isAlive, readable, until
from twuws.interfaces import WorkLimits
from twuws.jobservices import JobServices
from twuws.node import NodeSettings

pytestmark = [pytest.mark.slow, pytest.mark.covered]

GONE = "The job's directory is gone, with all that was in it."


@pytest.fixture
def start(database, tmp_path):
    """Start a service; stopped at the end."""
    begun = []

    async def start(jobClass, **more):
        limits = WorkLimits(grace=0.2)
        serving = await serve(database, tmp_path / "jobs", jobClass, limits=limits, **more)
        begun.append(serving)
        return serving

    yield start
    for serving in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))
        pytest_twisted.blockon(serving.uws.directoriesRemoved())


def placeOf(serving, url):
    return serving.uws.workDirs.forJob(url.rpartition("/")[2])


async def messageOf(serving, url):
    """Why a job is in ERROR."""
    job = await serving.ended(url)
    assert text(job, "phase") == "ERROR"
    return text(job, "errorSummary/message")


# Results


def removed(file):
    file.unlink()


def linked(file):
    file.unlink()
    file.symlink_to("/etc/hostname")


def linkedAbove(file):
    moved = file.parent.with_name("moved")
    file.parent.rename(moved)
    file.parent.symlink_to(moved)


def aDirectory(file):
    file.unlink()
    file.mkdir()


def aPipe(file):
    file.unlink()
    os.mkfifo(file)


def truncated(file):
    os.truncate(file, 5)


def emptied(file):
    os.truncate(file, 0)


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        (removed, 410, "not there any more"),
        (linked, 500, "replaced"),
        (linkedAbove, 500, "replaced"),
        (aDirectory, 500, "replaced"),
        (aPipe, 500, "replaced"),
        (truncated, 500, "5 of 8000 bytes"),
        (emptied, 500, "0 of 8000 bytes"),
    ],
)
async def test_result(serving, how, status, words):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    place = placeOf(serving, url)
    how(place.results / "result.csv")
    result = url + "/results/result"
    answer = await serving.get(result)
    assert answer.status == status
    assert "The result 'result' of this job" in answer.text
    assert words in answer.text
    assert str(place.path) not in answer.text
    for method, headers in (("HEAD", {}), ("GET", {"range": "bytes=0-3"})):
        assert (await serving.request(method, result, headers=headers)).status == status
    if how is not linkedAbove:
        assert (await serving.get(url + "/results/early")).text == "early\n"
    assert text(await serving.job(url), "phase") == "COMPLETED"
    assert (await serving.get(url + "/results")).status == 200
    again = await serving.create({"PHASE": "RUN"})
    await serving.ended(again)
    assert (await serving.get(again + "/results/result")).status == 200


async def test_unreadable(serving):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    file = placeOf(serving, url).results / "result.csv"
    file.chmod(0)
    isRoot = os.geteuid() == 0  # who may read it all the same
    if isRoot:
        os.seteuid(65534)
    try:
        answer = await serving.get(url + "/results/result")
    finally:
        if isRoot:
            os.seteuid(0)
    assert answer.status == 500
    assert "'result'" in answer.text
    assert "cannot read it: Permission denied" in answer.text
    assert str(file.parent) not in answer.text


async def test_larger(serving):
    """A file may have grown, and while the job runs it may have shrunk: that is its own matter."""
    url = await serving.create({"PHASE": "RUN", "seconds": "60"})
    file = placeOf(serving, url).results / "early.txt"
    while (answer := await serving.get(url + "/results/early")).status != 200:
        assert answer.status == 404
    file.write_bytes(b"x")
    assert (await serving.get(url + "/results/early")).text == "x"
    file.write_bytes(b"longer than before\n")
    assert (await serving.get(url + "/results/early")).text == "longer than before\n"
    assert (await serving.request("DELETE", url)).status == 303


async def test_uploadGone(start):
    serving = await start(Filter)
    url = await upload(serving)
    (placeOf(serving, url).parameters / "file").unlink()
    answer = await serving.get(url + "/parameters/file")
    assert (answer.status, "file" in answer.text) == (410, True)
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    assert await messageOf(serving, url) == "Parameter file: its file file is gone."


# Directories


def vanish(path):
    """Remove a directory in which others may make files meanwhile."""
    while path.exists():
        shutil.rmtree(path, ignore_errors=True)


async def upload(serving):
    answer = await serving.client.post(
        serving.url, files={"file": ("x", b"content")}, allow_redirects=False
    )
    assert answer.code == 303
    return answer.headers.getRawHeaders("location")[0]


async def test_goneWhilePending(start):
    serving = await start(Filter)
    url, other = await upload(serving), await upload(serving)
    vanish(placeOf(serving, url).path)
    assert (await serving.get(url + "/parameters/file")).status == 410
    assert text(await serving.job(url), "phase") == "PENDING"
    for one in (url, other):
        assert (await serving.post(one + "/phase", {"PHASE": "RUN"})).status == 303
    assert await messageOf(serving, url) == GONE
    assert not placeOf(serving, url).path.exists()
    assert (await serving.get(url + "/results/sum")).status == 404
    assert text(await serving.ended(other), "phase") == "COMPLETED"


async def test_goneWhileQueued(start):
    serving = await start(Shell, slots=0)
    urls = [await serving.create({"script": "true", "PHASE": "RUN"}) for _ in range(2)]
    vanish(placeOf(serving, urls[0]).path)
    serving.jobServices.node.slots = 1
    serving.jobServices.dispatcher.look()
    assert await messageOf(serving, urls[0]) == GONE
    assert text(await serving.ended(urls[1]), "phase") == "COMPLETED"


async def begun(serving, tmp_path, then):
    """A shell script that runs; its URL, its process, and what makes it go on."""
    goOn, pid = tmp_path / "goOn", tmp_path / "pid"
    script = f"echo $$ >{pid}; while ! [ -e {goOn} ]; do sleep 0.05; done; {then}"
    url = await serving.create({"script": script, "PHASE": "RUN"})
    process = int(await until(lambda: readable(pid)))
    return url, process, goOn


@pytest.mark.parametrize("then", ["true", "exit 3", "echo x >new", "kill -9 $PPID"])
async def test_goneWhileItRuns(start, tmp_path, then):
    serving = await start(Shell)
    url, _, goOn = await begun(serving, tmp_path, then)
    vanish(placeOf(serving, url).path)
    assert (await serving.get(url + "/stdout")).status == 404
    goOn.touch()
    assert await messageOf(serving, url) == GONE
    assert not placeOf(serving, url).path.exists()


async def test_goneWhileAClassRuns(start, tmp_path):
    serving = await start(Bulky)
    url = await serving.create({"after": str(tmp_path / "goOn"), "PHASE": "RUN"})
    await until(lambda: placeOf(serving, url).readEvents()[0])
    vanish(placeOf(serving, url).path)
    (tmp_path / "goOn").touch()
    assert await messageOf(serving, url) == GONE


@pytest.mark.parametrize("failure", [None, "it rains"])
async def test_goneWhileItRunsHere(start, failure):
    """In the reactor, whether the work notices or not."""
    serving = await start(Noted)
    more = {"failure": failure} if failure else {}
    url = await serving.create({"seconds": "0.3", "PHASE": "RUN", **more})
    await until(lambda: (placeOf(serving, url).results / "early.txt").exists())
    vanish(placeOf(serving, url).path)
    assert await messageOf(serving, url) == GONE


async def test_goneAndAborted(start, tmp_path):
    serving = await start(Shell)
    url, process, _ = await begun(serving, tmp_path, "true")
    vanish(placeOf(serving, url).path)
    assert (await serving.post(url + "/phase", {"PHASE": "ABORT"})).status == 303
    assert await serving.phase(url) == "ABORTED"
    await until(lambda: not isAlive(process))
    assert (await serving.request("DELETE", url)).status == 303
    assert (await serving.get(url)).status == 404


async def test_goneAndEndless(start, tmp_path):
    """Work that nobody can stop through its directory ends with the lease that it knew."""
    serving = await start(Shell, slots=0)
    settings = NodeSettings(lease=2)
    own = JobServices([serving.uws], 1, settings)
    own.startService()
    try:
        url, process, _ = await begun(serving, tmp_path, "true")
        vanish(placeOf(serving, url).path)
        assert await messageOf(serving, url) == GONE
        await until(lambda: not isAlive(process))
    finally:
        await own.stopService()


async def test_goneBeforeItIsFound(start, tmp_path):
    """The service was away meanwhile."""
    serving = await start(Shell, slots=0)
    first = JobServices([serving.uws], 1)
    first.startService()
    try:
        url, process, _ = await begun(serving, tmp_path, "true")
    finally:
        await first.stopService()
    vanish(placeOf(serving, url).path)
    assert isAlive(process)
    second = JobServices([serving.uws], 1)
    second.startService()
    try:
        assert await messageOf(serving, url) == GONE
        await until(lambda: not isAlive(process))
    finally:
        await second.stopService()


async def test_goneAfterwards(serving):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    vanish(placeOf(serving, url).path)
    answer = await serving.get(url + "/results/result")
    assert (answer.status, "'result'" in answer.text) == (410, True)
    assert text(await serving.job(url), "phase") == "COMPLETED"
    sync = serving.base + "/sync/" + url.rpartition("/")[2]
    assert (await serving.get(sync)).location == url + "/results/result"
    assert (await serving.get(url + "/stderr")).status == 404
    assert (await serving.request("DELETE", url)).status == 303
    await serving.uws.directoriesRemoved()
