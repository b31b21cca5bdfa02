"""
Work that another user than the service's does, for real and as root: what it is given, and what
it can do to the service, which it has not got away with.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace

import pytest
from twisted.web.test.requesthelper import DummyRequest

from tests import jobclasses
from tests.otherusers import OTHER, account, needsRoot, reachablePlace, reachablePython
from tests.working import makeWork
from twuws.backendcontract import BackendContract
from twuws.backends.process import ProcessBackend
from twuws.backends.reactor import ReactorBackend
from twuws.database import Database
from twuws.errors import ConfigError, Gone, JobFailure, StaleAttempt, UWSError
from twuws.foreign import NotOurs
from twuws.jobs import Outcome
from twuws.leases import FOLDER, LeaseFile
from twuws.phases import COMPLETED
from twuws.uws import UWS
from twuws.values import FileValue
from twuws.web import answers
from twuws.workdir import WorkDir, WorkDirs

pytestmark = [needsRoot, pytest.mark.slow]


@pytest.fixture
def place():
    with reachablePlace() as path:
        yield path


@pytest.fixture
def user():
    return account()


@pytest.fixture
def backend():
    return ProcessBackend(python=reachablePython())


@pytest.fixture
def victim(place):
    """A directory of root's with a file, which nobody else may read, let alone change."""
    directory = place / "victim"
    directory.mkdir(mode=0o700)
    (directory / "secret").write_text('{"phase": "COMPLETED"}')
    (directory / "secret").chmod(0o600)
    before = snapshot(directory)
    yield directory
    assert snapshot(directory) == before


def snapshot(directory):
    """All that can be changed of a directory and of what is in it."""
    every = [directory, *sorted(directory.rglob("*"))]
    return [
        (str(one), found.st_mode, found.st_uid, found.st_gid, one.is_file() and one.read_bytes())
        for one in every
        if (found := one.lstat())
    ]


def shell(place, script, user, **more):
    work = makeWork(place / "jobs" / "ab", jobclasses.Shell, script=script, **more)
    for folder in (place / "jobs", place / "jobs" / "ab"):
        folder.chmod(0o711)
    return replace(work, user=user)


async def printed(backend, work):
    outcome = await (await backend.start(work, nothing)).ended
    assert outcome.phase == COMPLETED, outcome
    return (work.directory.results / "out.txt").read_text()


async def nothing(ref):
    pass


def left(place, user, jobId="ab" + "0" * 22, attempt=None):
    """A job's directory as an attempt leaves it that was the user's."""
    directory = WorkDirs(place / "jobs").forJob(jobId, attempt)
    directory.create()
    directory.furnish()
    (directory.parameters / "sent").write_text("sent")
    directory.writeJob({"attempt": attempt or 1})
    directory.giveTo(user)
    return directory


# What work is given


async def test_whoItIs(backend, place, user):
    script = """
        echo "$(id -u) $(id -g) $(id -G) $(stat -c %u /proc/$PPID) $(umask)"
        stat -c '%u %a' ..; stat -c '%u %a' .; stat -c '%u %a' $HOME; stat -c '%a' ../..
        env; cat /proc/$PPID/environ
    """
    work = shell(place, script, user)
    said = (await printed(backend, work)).splitlines()
    groups = " ".join(map(str, user.groups))
    assert said[0] == f"{user.uid} {user.gid} {groups} {user.uid} 0077"
    assert said[1:5] == [f"{user.uid} 700", f"{user.uid} 700", f"{user.uid} 700", "711"]
    assert f"HOME={work.directory.path}/tmp" in said
    started = work.directory.readEvents()[0][0]
    assert started["event"] == "started"
    assert os.stat(work.directory.outcome).st_uid == user.uid


async def test_aClass(backend, place, user):
    work = makeWork(place / "jobs" / "ab", jobclasses.Sum, numbers=["1", "2"])
    outcome = await (await backend.start(replace(work, user=user), nothing)).ended
    if outcome.error and "ModuleNotFoundError" in outcome.error.message:
        pytest.skip("the tests are where the other user does not come to")
    assert outcome.phase == COMPLETED, outcome
    assert (work.directory.results / "sum.txt").stat().st_uid == user.uid


async def test_uploads(backend, place, user):
    """They can be read, and not changed."""
    work = makeWork(place / "jobs" / "ab", jobclasses.Filter, file=FileValue(file="f"))
    file = work.directory.parameters / "f"
    file.write_bytes(b"")
    file.chmod(0o600)
    await (await backend.start(replace(work, user=user), nothing)).ended
    assert (work.directory.results / "sum").read_text().startswith("e3b0c442")
    assert file.stat().st_uid == 0
    work = shell(place, "cd ../parameters; (echo x >> f || rm -f f || echo x > g); ls", user)
    (work.directory.parameters / "f").write_bytes(b"as it was")
    assert await printed(backend, work) == "f\n"
    assert (work.directory.parameters / "f").read_bytes() == b"as it was"


async def test_whatItCannotDo(backend, place, user, victim):
    """It sees no other job, of its own user neither, unless it is told where that is."""
    other = left(place, account(OTHER))
    LeaseFile(place / "jobs", "node").renew(1e9)
    lease = place / "jobs" / FOLDER / "node"
    secret = victim / "secret"
    attempts = [
        f"ls {place}/jobs",
        "ls ../..",
        f"ls {place}/jobs/{FOLDER}",
        f"ls {other.path}",
        f"cat {other.job}",
        f"cat {secret}",
        f"echo x > {lease}",
        f"rm -f {lease}",
        "echo x > ../job.json",
        f"mv ../parameters {place}/jobs/ab/x",
        f"ln {secret} hard",
        "mv .. ../../moved",
    ]
    script = "\n".join(f"({one}) 2>/dev/null && echo '{one}'" for one in attempts)
    work = shell(place, script + f"\ncat {lease} >/dev/null && echo fine", user)
    assert await printed(backend, work) == "fine\n"


class TestContract(BackendContract):
    """All that is asked of a backend, with another user."""

    @pytest.fixture(autouse=True)
    def _place(self):
        self.python = reachablePython()
        with reachablePlace() as self.place:
            yield

    def makeBackend(self):
        return ProcessBackend(python=self.python)

    def makeWork(self, directory, jobClass, news=lambda: None):
        work = super().makeWork(self.place, jobClass, news)
        return replace(work, user=account())


async def test_onlyRootCan(backend, place, user):
    work = shell(place, "true", user)
    os.seteuid(user.uid)
    try:
        with pytest.raises(ConfigError, match="Only root"):
            await backend.start(work, nothing)
    finally:
        os.seteuid(0)


async def test_notWithinTheService(place, user):
    work = makeWork(place / "jobs" / "ab", jobclasses.Async)
    with pytest.raises(ConfigError, match="the service's process"):
        await ReactorBackend().start(replace(work, user=user), nothing)


def test_notWithinTheServiceAtAll(place, user):
    """That is said at the start, and not when the first job is run."""
    database = Database("postgresql:///x?host=/nowhere")
    with pytest.raises(ConfigError, match=r"Async.run is async.* cannot be 'daemon'"):
        UWS(jobclasses.Async, database=database, directory=place, name="a", user=user)


# What it leaves for the service to stumble over


async def test_linksWhereTheRunnerWrites(backend, place, user, victim):
    """The runner is the same user, and can do no more."""
    secret = victim / "secret"
    names = "outcome.json.new outcome.json events.jsonl stdout stderr"
    script = f"cd ..; rm -f {names}; for n in {names}; do ln -s {secret} $n; done"
    outcome = await (await backend.start(shell(place, script, user), nothing)).ended
    assert outcome.phase != COMPLETED
    assert "COMPLETED" not in str(outcome.error)


@pytest.mark.parametrize("how", ["link", "hard", "fifo", "directory", "other"])
@pytest.mark.parametrize("name", ["outcome.json", "outcome.json.new", "events.jsonl", "job.json"])
def test_readAndWritten(place, user, victim, name, how):
    """Whatever the service finds there is neither followed, nor waited for, nor believed."""
    directory = left(place, user)
    path = directory.path / name
    path.unlink(missing_ok=True)
    if how == "link":
        path.symlink_to(victim / "secret")
    elif how == "hard":  # as where the system lets anybody make one
        os.link(victim / "secret", path)
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()
    else:
        path.write_text('{"phase": "COMPLETED", "event": "result", "attempt": 9}\n')
        os.chown(path, account(OTHER).uid, 0)
    if name == "outcome.json":
        with pytest.raises(OSError):  # noqa: PT011, which one is no matter
            directory.readOutcome()
    elif name == "events.jsonl":
        assert directory.readEvents() == ([], 0)
    elif name == "outcome.json.new":
        with pytest.raises(OSError):  # noqa: PT011
            directory.writeOutcome(Outcome(phase=COMPLETED))
        assert not directory.outcome.exists()
    else:
        assert not WorkDir(directory.path, attempt=1).isLate()
    if how == "hard":
        path.unlink()  # else it is one name more of the victim's


def test_anAttemptThatIsForged(place, user):
    """Work cannot make its job's later attempts come too late."""
    directory = left(place, user, attempt=2)
    directory.job.unlink()
    directory.job.write_text('{"attempt": 99}')
    os.chown(directory.job, user.uid, user.gid)
    directory.takeBack()
    directory.writeJob({"attempt": 2})


def test_anEarlierAttemptIsLate(place, user):
    directory = left(place, user, attempt=2)
    with pytest.raises(StaleAttempt):
        WorkDir(directory.path, attempt=1).takeBack()
    assert directory.path.stat().st_uid == user.uid


def test_takenBack(place, user, victim):
    """The next attempt finds the uploads, and nothing else."""
    directory = left(place, user)
    directory.job.unlink()
    directory.results.rmdir()
    for name in ("job.json.new", "results", "lease.2.new", "tmp", "outcome.json.new"):
        (directory.path / name).symlink_to(victim)
    (directory.path / "lease.2").mkdir()
    directory.path.chmod(0o777)
    directory.takeBack()
    assert [one.name for one in directory.path.iterdir()] == ["parameters"]
    found = directory.path.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o700)
    assert (directory.parameters / "sent").read_text() == "sent"
    LeaseFile(place / "jobs", "node").take(directory.path, 2)
    directory.writeJob({"attempt": 2})
    directory.giveTo(user)
    assert directory.results.lstat().st_uid == user.uid


@pytest.mark.parametrize("how", ["link", "own", "gone"])
def test_uploadsReplaced(place, user, victim, how):
    """What the service would load, move or remove there would be elsewhere."""
    directory = left(place, user)
    directory.parameters.rename(directory.path / "away")
    if how == "link":
        directory.parameters.symlink_to(victim)
    elif how == "own":
        directory.parameters.mkdir()
        os.chown(directory.parameters, user.uid, user.gid)
    directory.dropParameters(["secret"])
    with pytest.raises(JobFailure, match="gone"):
        directory.takeBack()
    directory.remove()
    assert not directory.path.exists()


def test_removedHoweverDeep(place, user, victim):
    directory = left(place, user)
    (directory.results / "link").symlink_to(victim)
    (directory.path / "tmp").symlink_to(victim)
    handle = os.open(directory.results, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    directory.remove()
    assert not directory.path.exists()


# What is served


def asked():
    return DummyRequest([b"x"])


@pytest.mark.parametrize("how", ["link", "hard", "above", "fifo", "other"])
def test_served(place, user, victim, how):
    directory = left(place, user)
    path = directory.results / "secret"
    if how == "link":
        path.symlink_to(victim / "secret")
    elif how == "hard":
        os.link(victim / "secret", path)
    elif how == "above":
        directory.results.rmdir()
        directory.results.symlink_to(victim)
    elif how == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("x")
        os.chown(path, account(OTHER).uid, 0)
    with pytest.raises(UWSError, match="replaced"):
        answers.file(asked(), path, "text/plain")
    if how == "hard":
        path.unlink()


def test_servedIsWhatWasLookedAt(place, user, victim):
    """What is under the name a moment later is not sent."""
    directory = left(place, user)
    path = directory.results / "result"
    path.write_text("the result")
    os.chown(path, user.uid, user.gid)
    found = answers.file(asked(), path, "text/plain")
    path.unlink()
    path.symlink_to(victim / "secret")
    found.restat(False)
    with found.openForReading() as f:
        assert f.read() == b"the result"
    assert found.getsize() == len("the result")
    with pytest.raises(Gone):
        answers.file(asked(), directory.results / "none", "text/plain")


def test_rootsOwnFileIsServed(place, user):
    """What the service itself has put there, which nobody else has a name for."""
    directory = left(place, user)
    with answers.file(asked(), directory.parameters / "sent", "text/plain").openForReading() as f:
        assert f.read() == b"sent"
    directory.outcome.write_text(json.dumps(Outcome(phase=COMPLETED).asJSON()))
    assert directory.readOutcome() == Outcome(phase=COMPLETED)
    with pytest.raises(NotOurs):
        os.link(directory.outcome, place / "another name")
        directory.readOutcome()
