"""
What every backend has to do, as tests: L{twuws.interfaces.IBackend}, sentence by sentence.

For those who write backends, with pytest and pytest-twisted::

    from twuws.backendcontract import BackendContract

    class TestMyBackend(BackendContract):
        def makeBackend(self):
            return MyBackend()

Nothing but C{twuws}'s own words and Twisted is imported here, for the job classes below are
imported where the work is done.
"""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from twuws.errors import JobFailure, StaleAttempt
from twuws.interfaces import IBackend, Running, Work, WorkLimits
from twuws.jobs import JobRecord, UWSJob
from twuws.parameters import Real
from twuws.phases import COMPLETED, ERROR, EXECUTING
from twuws.workdir import WorkDir

#: How long work may take to be seen, or to have gone, s.
PATIENCE = 20.0


class Quick(UWSJob):
    """Makes one result."""

    def run(self) -> None:
        with self.openResult("answer", "text/plain") as out:
            out.write(b"42")


class Failing(UWSJob):
    """Fails."""

    def run(self) -> None:
        raise JobFailure("The sky is cloudy", "all of it")


class Lasting(UWSJob):
    """Makes one result and then goes on for longer than a test."""

    seconds = Real(default=300)

    def run(self) -> None:
        with self.openResult("begun", "text/plain") as out:
            out.write(b"yes")
        time.sleep(self.seconds)


def _inReactor(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """
    Make a test of a coroutine function, whatever the suite's C{conftest.py} does:
    pytest-twisted waits for the Deferred that a test returns.
    """

    @functools.wraps(test)
    def run(self: BackendContract, tmp_path: Path) -> Any:
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred

        deferred = Deferred.fromCoroutine(test(self, tmp_path))
        return deferred.addTimeout(2 * PATIENCE, reactor)

    del run.__dict__["__wrapped__"]  # pytest would take it for the coroutine function
    return run


class BackendContract:
    """
    Derive from it, call the class C{Test…}, and define L{makeBackend}.

    @cvar quick: a job class that makes the result C{answer}.
    @cvar failing: one that fails with the message "The sky is cloudy".
    @cvar lasting: one that makes the result C{begun} and then goes on for minutes.
    @cvar survives: whether work outlives the process that started it, so that it can be found.
    """

    quick: ClassVar[type[UWSJob]] = Quick
    failing: ClassVar[type[UWSJob]] = Failing
    lasting: ClassVar[type[UWSJob]] = Lasting
    survives: ClassVar[bool] = True

    def makeBackend(self) -> Any:
        """A backend that is ready for use, as a service would make it after its start."""
        raise NotImplementedError

    def makeWork(self, directory: Path, jobClass: type[UWSJob], news: Any = lambda: None) -> Work:
        """Work for it; to be overridden if a job's directory has to be in a certain place."""
        from twisted.internet.threads import deferToThread

        jobId = secrets.token_hex(16)
        record = JobRecord(
            service="contract",
            jobId=jobId,
            phase=EXECUTING,
            creationTime=datetime.now(UTC),
            attempt=1,
        )
        place = WorkDir(directory / jobId)
        place.create()
        place.furnish()
        return Work(
            job=jobClass(record),
            directory=place,
            prepare=deferToThread,
            news=news,
            limits=WorkLimits(grace=0.5),
        )

    @_inReactor
    async def test_provides(self, tmp_path: Path) -> None:
        """It is an L{IBackend}, and has a name."""
        backend = self.makeBackend()
        assert IBackend.providedBy(backend)
        assert isinstance(backend.name, str)
        assert backend.name

    @_inReactor
    async def test_completes(self, tmp_path: Path) -> None:
        """C{ended} fires with the outcome, when the results and the events are there."""
        news: list[None] = []
        work = self.makeWork(tmp_path, self.quick, lambda: news.append(None))
        running = await self.makeBackend().start(work, _forget)
        outcome = await running.ended
        assert (outcome.phase, outcome.error) == (COMPLETED, None)
        results = [one for one in work.directory.readEvents()[0] if one["event"] == "result"]
        assert [one["id"] for one in results] == ["answer"]
        assert work.directory.resultPath(results[0]["file"]).read_bytes() == b"42"
        assert news, "nobody was told of the events"

    @_inReactor
    async def test_fails(self, tmp_path: Path) -> None:
        """C{ended} fires with the outcome of work that fails, too: it never fails itself."""
        running = await self.makeBackend().start(self.makeWork(tmp_path, self.failing), _forget)
        outcome = await running.ended
        assert outcome.phase is ERROR
        assert outcome.error is not None
        assert outcome.error.message == "The sky is cloudy"
        assert outcome.error.detail == "all of it"

    @_inReactor
    async def test_remembersFirst(self, tmp_path: Path) -> None:
        """What finds the work is remembered before the work can produce anything."""
        work = self.makeWork(tmp_path, self.quick)
        remembered: list[dict[str, Any]] = []

        async def remember(ref: dict[str, Any]) -> None:
            remembered.append(ref)
            await _pause(0.5)  # work that does not wait for this is done by now
            assert not _traces(work)

        running = await self.makeBackend().start(work, remember)
        assert remembered == [running.ref]
        assert json.loads(json.dumps(running.ref)) == running.ref
        await running.ended
        assert _traces(work)

    @_inReactor
    async def test_notRemembered(self, tmp_path: Path) -> None:
        """If it cannot be remembered, nothing is left, and the caller hears of it."""
        work = self.makeWork(tmp_path, self.quick)
        refs: list[dict[str, Any]] = []

        async def refuse(ref: dict[str, Any]) -> None:
            refs.append(ref)
            raise StaleAttempt

        backend = self.makeBackend()
        raised = False
        try:
            await backend.start(work, refuse)
        except StaleAttempt:
            raised = True
        assert raised, "the error of remember() was swallowed"
        assert await backend.find(work, refs[0]) is None
        await _pause(0.5)
        assert not _traces(work)

    @_inReactor
    async def test_notPrepared(self, tmp_path: Path) -> None:
        """If the directory is not what it should be nobody hears of work, and nothing is left."""
        refs: list[dict[str, Any]] = []

        async def refuse(more: Callable[[], object]) -> None:
            raise StaleAttempt

        async def remember(ref: dict[str, Any]) -> None:
            refs.append(ref)

        work = replace(self.makeWork(tmp_path, self.quick), prepare=refuse)
        raised = False
        try:
            await self.makeBackend().start(work, remember)
        except StaleAttempt:
            raised = True
        assert raised, "the error of prepare() was swallowed, or it was not called"
        assert not refs
        await _pause(0.5)
        assert not _traces(work)

    @_inReactor
    async def test_stop(self, tmp_path: Path) -> None:
        """C{stop} returns once nothing of the work is left; C{ended} fires then, too."""
        backend = self.makeBackend()
        work, running = await self._begun(backend, tmp_path)
        await backend.stop(running.ref, 0.5)
        assert await self.makeBackend().find(work, running.ref) is None
        assert (await running.ended).phase is ERROR

    @_inReactor
    async def test_stopWhatHasEnded(self, tmp_path: Path) -> None:
        """To stop work that has gone already is no error, however often it is done."""
        backend = self.makeBackend()
        running = await backend.start(self.makeWork(tmp_path, self.quick), _forget)
        await running.ended
        await backend.stop(running.ref, 0.5)
        await backend.stop(running.ref, 0.5)
        await self.makeBackend().stop(running.ref, 0.5)

    @_inReactor
    async def test_findWhatHasGone(self, tmp_path: Path) -> None:
        """There is nothing to find of work that has ended."""
        backend = self.makeBackend()
        work = self.makeWork(tmp_path, self.quick)
        running = await backend.start(work, _forget)
        await running.ended
        assert await backend.find(work, running.ref) is None
        assert await self.makeBackend().find(work, running.ref) is None

    @_inReactor
    async def test_find(self, tmp_path: Path) -> None:
        """Another process finds work that goes on, by what was remembered, and can stop it."""
        backend, other = self.makeBackend(), self.makeBackend()
        work, running = await self._begun(backend, tmp_path)
        found = await other.find(work, json.loads(json.dumps(running.ref)))
        if not self.survives:
            assert found is None
            await backend.stop(running.ref, 0.5)
            await running.ended
            return
        assert found is not None
        assert found.ref == running.ref
        assert not found.ended.called
        await other.stop(found.ref, 0.5)
        assert (await found.ended).phase is ERROR
        assert (await running.ended).phase is ERROR

    async def _begun(self, backend: Any, directory: Path) -> tuple[Work, Running]:
        """Work that lasts, once it has done something."""
        work = self.makeWork(directory, self.lasting)
        running: Running = await backend.start(work, _forget)
        deadline = time.monotonic() + PATIENCE
        while not any(one["event"] == "result" for one in work.directory.readEvents()[0]):
            assert time.monotonic() < deadline, "the work does not begin"
            assert not running.ended.called, running.ended.result
            await _pause(0.02)
        return work, running


async def _forget(ref: dict[str, Any]) -> None:
    """A C{remember} that works, for tests that do not care."""


async def _pause(seconds: float) -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds, lambda: None)


def _traces(work: Work) -> list[str]:
    """What the work has produced by now."""
    results = [f"results/{path.name}" for path in work.directory.results.iterdir()]
    events = [one["event"] for one in work.directory.readEvents()[0] if one["event"] == "result"]
    outcome = ["outcome"] if work.directory.readOutcome() is not None else []
    return results + events + outcome
