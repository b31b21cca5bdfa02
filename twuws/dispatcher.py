"""
The Dispatcher: takes jobs off the queue while there is room, and sees their work to its end.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twuws.backends.process import ProcessBackend
from twuws.backends.reactor import ReactorBackend
from twuws.database import shield
from twuws.errors import DatabaseUnavailable, JobNotFound, StaleAttempt
from twuws.interfaces import Running, Work
from twuws.jobs import JobRecord, Outcome, UWSJob
from twuws.node import Node
from twuws.reporter import Reporter
from twuws.uws import UWS

log = Logger()


@dataclass(kw_only=True)
class _Run:
    """
    Work that this node watches.

    @ivar running: C{None} while it is being started.
    @ivar waiting: what is waited for while nothing needs to be recorded.
    @ivar over: fires when nothing more will be done for it here.
    """

    record: JobRecord
    backend: Any
    running: Running | None = None
    waiting: Deferred[Outcome] | None = None
    over: Deferred[None] | None = None


class Dispatcher(Service):
    """
    Claims jobs for the slots of its node, starts them, records how they end, and ends the
    work of jobs that were aborted or destroyed, whoever did that.

    It is woken by changes of phase; every C{interval} seconds it looks by itself.

    @param services: whose jobs to run.
    @param node: this process.
    @param backends: by name; C{process} and C{reactor} if not given.
    """

    interval = 30.0

    def __init__(
        self,
        services: Iterable[UWS],
        node: Node,
        backends: Mapping[str, Any] | None = None,
    ) -> None:
        self.services = {uws.name: uws for uws in services}
        self.node = node
        self.reactor = next(iter(self.services.values())).database.reactor
        self.backends: Mapping[str, Any] = backends or {
            "process": ProcessBackend(reactor=self.reactor),
            "reactor": ReactorBackend(reactor=self.reactor),
        }
        self._runs: dict[tuple[str, int], _Run] = {}
        self._ending: dict[tuple[str, int], Deferred[None]] = {}
        self._looking: Deferred[None] | None = None
        self._again = False
        self._loop = LoopingCall(self.look)
        self._loop.clock = self.reactor

    def startService(self) -> None:
        super().startService()
        for uws in self.services.values():
            if self.heard not in uws.watcher.observers:
                uws.watcher.observers.append(self.heard)
        self._loop.start(self.interval)

    async def stopService(self) -> None:
        """
        Take nothing new.  Work in processes of its own goes on, for whoever comes next to
        take over; work in this process is ended.
        """
        super().stopService()
        for uws in self.services.values():
            if self.heard in uws.watcher.observers:
                uws.watcher.observers.remove(self.heard)
        if self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            await shield(self._looking)
        for run in list(self._runs.values()):
            if run.running is not None and run.backend.name == "reactor":
                await run.backend.stop(run.running.ref, self._uws(run).limits.grace)
            elif run.waiting is not None:
                run.waiting.cancel()
        for over in [run.over for run in self._runs.values()] + list(self._ending.values()):
            if over is not None:
                await shield(over)

    @property
    def busy(self) -> int:
        """How many jobs are being done here."""
        return len(self._runs)

    def heard(self, jobId: str | None, phase: str | None, service: str | None) -> None:
        """A phase has changed somewhere; see L{PhaseWatcher}."""
        mine = any(known == jobId for known, _ in self._runs)
        if jobId is None or mine or (phase == "QUEUED" and service in self.services):
            self.look()

    def look(self) -> None:
        """See what there is to do, soon."""
        if not self.running:
            return
        if self._looking is not None:
            self._again = True
            return
        self._looking = Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        self._again = True
        while self._again and self.running:
            self._again = False
            try:
                await self.runOnce()
            except DatabaseUnavailable as e:
                log.warn("no jobs are taken: {e}", e=e)
            except Exception:
                log.failure("looking for jobs")
        self._looking = None

    async def runOnce(self) -> None:
        """End what is to be ended, and start what there is room for."""
        for row in await self.node.stops():
            self._end(row)
        while self.running and self.busy < self.node.slots:
            record = await self.node.claim()
            if record is None:
                return
            self._begin(_Run(record=record, backend=self._backendOf(record)))

    # Work that is to be done

    def _uws(self, run: _Run) -> UWS:
        return self.services[run.record.service]

    def _backendOf(self, record: JobRecord) -> Any:
        jobClass: Any = self.services[record.service].jobClass
        inReactor = inspect.iscoroutinefunction(getattr(jobClass, "run", None))
        return self.backends["reactor" if inReactor else "process"]

    def _workOf(self, record: JobRecord, reporter: Reporter) -> Work:
        uws = self.services[record.service]
        directory = uws.workDirs.forJob(record.jobId)
        job: UWSJob = uws.jobClass(record, workPlace=directory)
        return Work(
            job=job,
            directory=directory,
            news=reporter.news,
            limits=uws.limits,
            environment=dict(uws.environment),
        )

    def _begin(self, run: _Run, found: Running | None = None) -> None:
        key = run.record.jobId, run.record.attempt
        self._runs[key] = run
        run.over = Deferred.fromCoroutine(self._seeThrough(run, found))

        def forget(_: object) -> None:
            del self._runs[key]
            self.look()

        run.over.addErrback(
            lambda f: log.failure("{jobId} is not watched any more", f, jobId=run.record.jobId)
        )
        run.over.addBoth(forget)

    async def _seeThrough(self, run: _Run, found: Running | None) -> None:
        reporter = Reporter(self._uws(run), run.record)
        try:
            outcome = await self._outcome(run, reporter, found)
        except (StaleAttempt, CancelledError):  # ended by others, or left to others
            return
        try:
            await reporter.finish(outcome)
        except (StaleAttempt, JobNotFound):
            log.info("{jobId} was ended meanwhile", jobId=run.record.jobId)

    async def _outcome(self, run: _Run, reporter: Reporter, found: Running | None) -> Outcome:
        if found is not None:
            run.running = found
            reporter.news()
        else:
            try:
                run.running = await run.backend.start(
                    self._workOf(run.record, reporter),
                    lambda ref: self.node.remember(run.record, ref),
                )
            except (StaleAttempt, CancelledError):
                raise
            except DatabaseUnavailable as e:
                return Outcome.failed(f"The job could not be started: {e}", type="transient")
            except Exception as e:
                log.failure("{jobId} could not be started", jobId=run.record.jobId)
                return Outcome.failed(f"The job could not be started: {e}")
        assert run.running is not None
        run.waiting = run.running.ended
        try:
            return await run.waiting
        finally:
            run.waiting = None

    async def adopt(self, record: JobRecord, ref: dict[str, Any] | None) -> bool:
        """
        Watch work that an earlier process started; false if there is nothing left of it.

        Work that has ended meanwhile is recorded as it ended.
        """
        uws = self.services[record.service]
        reporter = Reporter(uws, record)
        backend = self._backendOf(record)
        work = self._workOf(record, reporter)
        outcome = await uws.inThread(work.directory.readOutcome)
        if outcome is not None:
            await reporter.finish(outcome)
            return True
        found = ref and await backend.find(work, ref)
        if not found:
            # it may have ended just now
            outcome = await uws.inThread(work.directory.readOutcome)
            if outcome is not None:
                await reporter.finish(outcome)
            return outcome is not None
        self._begin(_Run(record=record, backend=backend), found)
        return True

    # Work that is to be ended

    def _end(self, row: dict[str, Any]) -> None:
        key = row["job_id"], row["attempt"]
        if key in self._ending:
            return
        ending = self._ending[key] = Deferred.fromCoroutine(self._stop(row))
        ending.addErrback(
            lambda f: log.failure("{jobId} was not stopped; trying again", f, jobId=key[0])
        )
        ending.addBoth(lambda _: self._ending.pop(key) and None)

    async def _stop(self, row: dict[str, Any]) -> None:
        """End one piece of work, whoever started it, and then note that it has ended."""
        jobId, attempt, ref = row["job_id"], row["attempt"], row["ref"]
        uws = self.services[row["service"]]
        run = self._runs.get((jobId, attempt))
        if run is not None and run.running is not None:
            ref = run.running.ref
        if ref is not None and ref.get("backend") in self.backends:
            await self.backends[ref["backend"]].stop(ref, uws.limits.grace)
        if run is not None and run.over is not None:  # also while it is being started
            await shield(run.over)
        await self.node.stopped(jobId, attempt)
        if row["remove_directory"]:
            uws.removeDirectory(jobId)
