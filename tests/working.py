"""
Helpers for tests that start work: jobs that no database knows, and waiting for conditions.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

import psutil
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from twuws.backends.process import ProcessBackend
from twuws.interfaces import Work, WorkLimits
from twuws.jobs import JobRecord
from twuws.phases import EXECUTING
from twuws.workdir import WorkDir


def makeRecord(**parameters):
    """A job that is executing, with parameters given as text, a file or a list of them."""
    return JobRecord(
        service="test",
        jobId=secrets.token_hex(12),
        phase=EXECUTING,
        creationTime=datetime(2026, 1, 2, tzinfo=UTC),
        parameters={
            name: tuple(value) if isinstance(value, list) else (value,)
            for name, value in parameters.items()
        },
        attempt=1,
    )


def makeWork(directory, cls, *, news=lambda: None, limits=None, environment=None, **parameters):
    """Work for a backend, in a directory of its own."""
    record = makeRecord(**parameters)
    place = WorkDir(directory / record.jobId)
    place.create()
    place.furnish()
    limits = {"grace": 0.3, **(limits or {})}
    return Work(
        job=cls(record),
        directory=place,
        prepare=deferToThread,
        news=news,
        limits=WorkLimits(**limits),
        environment=environment or {},
    )


async def until(condition, seconds=20.0):
    """Wait in the reactor until a condition holds; its value."""
    from twisted.internet import reactor

    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true"
        await deferLater(reactor, 0.01, lambda: None)
    return value


def waitUntil(condition, seconds=20.0):
    """The same without a reactor."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true"
        time.sleep(0.01)
    return value


def readable(path):
    """The whole lines of a file by now, once it has some."""
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else ""


def isAlive(pid):
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Forking(ProcessBackend):
    """
    A process backend that forks all runners that can be forked, the first, too.

    @ivar forks: how many were.
    """

    forks = 0

    def forkers(self):
        """The processes that it forks them from."""
        children = [one for one in psutil.Process().children() if isAlive(one.pid)]
        forking = [one for one in children if "twuws.forking" in one.cmdline()]
        home = str(self._forkers.home)  # those of another may be about to end
        return [one for one in forking if one.environ().get("HOME") == home]

    async def _fork(self, protocol, work, content):
        runner = await super()._fork(protocol, work, content)
        for forker in self._forkers._forkers.values():
            await until(lambda forker=forker: forker.isReady or not forker._isOpen)
        runner = runner or await super()._fork(protocol, work, content)
        self.forks += runner is not None
        return runner
