"""
What clients are told of a failure has no paths of the server: files are called as they are in
the job's directory.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from tests.jobclasses import Opening, OpeningHere, Shell
from tests.serving import serve, text
from twuws import endings
from twuws.errors import ConfigError

pytestmark = [pytest.mark.covered]

PLACE = "/srv/the jobs/0a/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
NO_SPACES = PLACE.replace(" ", "")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"sh: 1: cannot open {NO_SPACES}/parameters/a: no", "sh: 1: cannot open parameters/a: no"),
        (f"'{NO_SPACES}/results'", "'results'"),
        (f"file={NO_SPACES}/.x,{NO_SPACES}/y", "file=.x,y"),
        (f"in {NO_SPACES}.", "in .."),
        (f"in ({NO_SPACES}) there", "in (.) there"),
        (f"in {NO_SPACES}/ there", "in . there"),
        ("/usr/share/x and http://a/b", "/usr/share/x and http://a/b"),
        (f"/data/{'a' * 32}.fits", f"/data/{'a' * 32}.fits"),
        (f"http://a{NO_SPACES}/x", f"http://a{NO_SPACES}/x"),
    ],
)
def test_withoutPlace(said, shown):
    assert endings.withoutPlace(said) == shown


def test_longTextsAreFast():
    """What a program says may be made to take long; it does not."""
    long = "/a" * 200_000 + " " + "/" + "0" * 200_000 + "x"
    assert endings.withoutPlace(long) == long


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"{PLACE}/lease.new", "lease.new"),
        (f"{PLACE}/results/a/{'0' * 30}/b".encode(), f"results/a/{'0' * 30}/b"),
        ("/srv/secret/catalogue", "catalogue"),
        ("/srv/secret/", "secret"),
        ("near/it", "near/it"),
        ("../parameters/f", "parameters/f"),
        (7, None),
        (None, None),
    ],
)
def test_fileOf(path, shown):
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    assert endings.fileOf(error) == shown
    said = endings.ofException("A", error).error.message
    assert said == ": ".join(
        filter(None, ("FileNotFoundError", "No such file or directory", shown))
    )
    assert endings.notStored("It", error).error.message.startswith("It: No such file or directory")


def test_couldNotBeStarted():
    """A mistake of the service's is for its log, one of the configuration's for all."""
    assert endings.notStarted(ConfigError(["a: b"])).error.message.endswith(": a: b")
    message = endings.notStarted(ValueError("/etc/secret")).error.message
    assert message.endswith(": the log of the service has a ValueError for it")


# In a whole service

slow = pytest.mark.slow


@pytest.fixture
def start(database, tmp_path):
    """Start a service; stopped at the end."""
    begun = []

    async def start(jobClass):
        begun.append(await serve(database, tmp_path / "jobs", jobClass))
        return begun[0]

    yield start
    for serving in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))


async def told(serving, url):
    """The message of a job in ERROR; no path is in anything that clients are told of it."""
    job = await serving.ended(url)
    assert text(job, "phase") == "ERROR"
    more = (await serving.get(url + "/error")).text
    message = text(job, "errorSummary/message")
    assert message in more
    assert str(serving.uws.workDirs.root) not in more
    assert "nowhere" not in more
    return message


NOT_THERE = "FileNotFoundError: No such file or directory: "


@slow
@pytest.mark.parametrize("jobClass", [Opening, OpeningHere])
@pytest.mark.parametrize(
    ("path", "shown"), [("map", "results/map"), ("/nowhere/at/all/map", "map")]
)
async def test_jobClass(start, jobClass, path, shown):
    serving = await start(jobClass)
    url = await serving.create({"path": path, "PHASE": "RUN"})
    assert await told(serving, url) == NOT_THERE + shown
    record = (await serving.uws.getJob(url.rpartition("/")[2])).record
    assert str(Path(serving.uws.workDirs.forJob(record.jobId).results, path)) in (
        record.error.traceback  # which is the operator's
    )


@slow
async def test_program(start):
    """A program names the files that it is given by their paths."""
    serving = await start(Shell)
    script = "cd ../parameters; echo look; cat $PWD/map; cat $PWD/map >&2; exit 2"
    url = await serving.create({"script": script, "PHASE": "RUN"})
    message = await told(serving, url)
    assert message.startswith("sh ended with exit status 2: cat: parameters/map: No such file")


@slow
async def test_programThatIsNotThere(start):
    class Elsewhere(Shell):
        command = ("/nowhere/program",)

    serving = await start(Elsewhere)
    url = await serving.create({"script": "true", "PHASE": "RUN"})
    assert "The program program, or the inter" in await told(serving, url)


@slow
@pytest.mark.parametrize("how", ["ln -s x", "mkdir"])
async def test_outcomeThatIsNone(start, how):
    """The path is in the log, and there alone."""
    serving = await start(Shell)
    errors = []

    def observe(event):
        if event["log_level"] >= LogLevel.error:
            errors.append(str(event.get("e", event.get("text", ""))))

    globalLogPublisher.addObserver(observe)
    try:
        script = f"trap '' TERM; {how} ../outcome.json; kill -9 $PPID; while :; do sleep 0.1; done"
        url = await serving.create({"script": script, "PHASE": "RUN"})
        message = await told(serving, url)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert message.startswith("The outcome cannot be read: ")
    assert "outcome.json" in message
    assert any("outcome.json" in error for error in errors)


@slow
async def test_outcomeThatCannotBeWritten(start):
    """The runner's last word is why, and not where."""
    serving = await start(Shell)
    script = "rm ../outcome.json.new; mkdir ../outcome.json.new"
    url = await serving.create({"script": script, "PHASE": "RUN"})
    message = await told(serving, url)
    assert message == "The end of the job's work could not be written: Is a directory"
