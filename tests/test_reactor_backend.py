"""
The reactor backend: job classes whose run is a coroutine.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from tests.working import makeWork
from twuws import UWSJob, parameters
from twuws.backends.reactor import ReactorBackend
from twuws.errors import JobFailure
from twuws.interfaces import IBackend
from twuws.phases import COMPLETED, ERROR


class Greeting(UWSJob):
    """Greets."""

    name = parameters.Text()
    person = parameters.Text(default="world")

    async def run(self):
        self.reportProgress(0.5, "half")
        with self.openResult("greeting", "text/plain") as out:
            out.write(f"Hello {self.person}".encode())


class Raising(UWSJob):
    """Raises what it is told."""

    raised: ClassVar[BaseException]

    async def run(self):
        raise type(self).raised


class Waiting(UWSJob):
    """Waits for ever, or refuses to stop."""

    first: ClassVar[Deferred[None]]
    second: ClassVar[Deferred[None] | None]
    started: ClassVar[bool]

    async def run(self):
        cls = type(self)
        cls.started = True
        try:
            await cls.first
        except CancelledError:
            if cls.second is None:
                raise
            await cls.second


class Plain(UWSJob):
    """No coroutine."""

    def run(self):
        pass


async def nothing(ref):
    pass


@pytest.fixture
def backend():
    return ReactorBackend()


@pytest.fixture
def waiting():
    Waiting.first, Waiting.second, Waiting.started = Deferred(), None, False
    return Waiting


async def ended(backend, work):
    return await (await backend.start(work, nothing)).ended


def test_interface(backend):
    assert verifyObject(IBackend, backend)


async def test_success(backend, tmp_path):
    seen, refs = [], []

    async def remember(ref):
        refs.append(ref)
        assert not work.directory.events.exists()

    work = makeWork(tmp_path, Greeting, person="Ada", news=lambda: seen.append(1))
    running = await backend.start(work, remember)
    assert refs == [running.ref]
    assert (running.ref["backend"], running.ref["pid"]) == ("reactor", os.getpid())
    outcome = await running.ended
    assert (outcome.phase, outcome.error) == (COMPLETED, None)
    assert (work.directory.results / "greeting").read_bytes() == b"Hello Ada"
    assert [e["event"] for e in work.directory.readEvents()[0]] == ["progress", "result"]
    assert len(seen) == 2
    assert not work.directory.outcome.exists()
    assert not work.directory.job.exists()


async def test_eventsOfAnEarlierAttemptAreGone(backend, tmp_path):
    work = makeWork(tmp_path, Greeting)
    work = replace(work, job=Greeting(replace(work.job.record, attempt=2)))
    work.directory.addEvent("result", id="old")
    assert (await ended(backend, work)).phase == COMPLETED
    assert "old" not in [e.get("id") for e in work.directory.readEvents()[0]]


async def test_rememberThatFails(backend, tmp_path, waiting):
    async def remember(ref):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await backend.start(makeWork(tmp_path, waiting), remember)
    assert not waiting.started


@pytest.mark.parametrize(
    ("error", "message", "type"),
    [
        (JobFailure("cloudy", "detail", transient=True), "cloudy", "transient"),
        (ZeroDivisionError("by 0"), "ZeroDivisionError: by 0", "fatal"),
        (MemoryError(), "Raising ran out of memory", "fatal"),
        (SystemExit(3), "Raising ended with exit status 3", "fatal"),
        (CancelledError(), "The work was stopped before it had ended", "transient"),
    ],
)
async def test_exceptions(backend, tmp_path, error, message, type):
    Raising.raised = error
    outcome = await ended(backend, makeWork(tmp_path, Raising))
    assert outcome.phase == ERROR
    assert (outcome.error.message, outcome.error.type) == (message, type)


async def test_traceback(backend, tmp_path):
    Raising.raised = ZeroDivisionError()
    error = (await ended(backend, makeWork(tmp_path, Raising))).error
    assert error.detail is None
    assert "raise type(self).raised" in error.traceback
    assert "backends/reactor.py" not in error.traceback


async def test_noCoroutine(backend, tmp_path):
    outcome = await ended(backend, makeWork(tmp_path, Plain))
    assert outcome.error.message.startswith("TypeError: ")


async def test_stop(backend, tmp_path, waiting):
    running = await backend.start(makeWork(tmp_path, waiting), nothing)
    assert waiting.started
    assert not running.ended.called
    await backend.stop(running.ref, 5)
    outcome = await running.ended
    assert outcome.error.message == "The work was stopped before it had ended"
    assert outcome.error.type == "transient"
    await backend.stop(running.ref, 5)


async def test_stopWaitsUntilItHasEnded(backend, tmp_path, waiting):
    waiting.second = Deferred()
    running = await backend.start(makeWork(tmp_path, waiting), nothing)
    stopping: Any = Deferred.fromCoroutine(backend.stop(running.ref, 5))
    assert not stopping.called
    waiting.second.callback(None)
    assert stopping.called
    await stopping
    assert (await running.ended).phase == COMPLETED


async def test_stopOfWorkThatRefuses(backend, tmp_path, waiting):
    logged: list[Any] = []
    waiting.second = Deferred()
    running = await backend.start(makeWork(tmp_path, waiting), nothing)
    observe: Any = logged.append
    globalLogPublisher.addObserver(observe)
    begun = time.monotonic()
    await backend.stop(running.ref, 0.1)
    globalLogPublisher.removeObserver(observe)
    assert 0.1 <= time.monotonic() - begun < 1
    assert [event["marker"] for event in logged if "marker" in event] == [running.ref["marker"]]
    assert not running.ended.called
    waiting.second.callback(None)
    await running.ended


async def test_nothingIsFound(backend, tmp_path):
    work = makeWork(tmp_path, Greeting)
    running = await backend.start(work, nothing)
    await running.ended
    assert await backend.find(work, running.ref) is None


class Writing(UWSJob):
    """Writes when it is told to, once and again."""

    told: ClassVar[list[Deferred[None]]]

    async def run(self):
        for number, told in enumerate(type(self).told):
            await told
            with self.openResult(f"r{number}", "text/plain") as out:
                out.write(b"written")


async def test_noStepWithoutALease(tmp_path):
    """
    Work whose node has stood still until others could do the work writes nothing any more,
    not even before the node has found out.
    """
    isAllowed = [True]
    Writing.told = [Deferred(), Deferred()]
    work = makeWork(tmp_path, Writing)
    backend = ReactorBackend(mayGoOn=lambda: isAllowed[0])
    running = await backend.start(work, nothing)
    Writing.told[0].callback(None)
    isAllowed[0] = False
    Writing.told[1].callback(None)
    outcome = await running.ended
    assert (outcome.phase, outcome.isLost) == (ERROR, True)
    assert [path.name for path in work.directory.results.iterdir()] == ["r0"]
