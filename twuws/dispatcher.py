"""
The Dispatcher: takes jobs off the queue while there is room, and sees their work to its end.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from twuws import endings
from twuws.backends.process import ProcessBackend
from twuws.backends.reactor import ReactorBackend
from twuws.database import shield
from twuws.errors import DatabaseUnavailable, JobFailure, JobNotFound, StaleAttempt, Unavailable
from twuws.fetching import Fetcher
from twuws.interfaces import Running, Work
from twuws.jobs import JobError, JobRecord, Outcome, UWSJob
from twuws.node import Node
from twuws.reporter import Reporter
from twuws.uws import UWS

log = Logger()


@dataclass(kw_only=True)
class _Run:
    """
    Work that this node watches.

    @ivar running: C{None} while it is being started.
    @ivar waiting: what is waited for while nothing needs to be recorded: the end of the work,
        or files for it.
    @ivar over: fires when nothing more will be done for it here.
    @ivar stuck: it was asked to stop, and does not.
    """

    record: JobRecord
    backend: Any
    running: Running | None = None
    waiting: Deferred[Any] | None = None
    over: Deferred[None] | None = None
    stuck: bool = False


class Dispatcher(Service):
    """
    Claims jobs for the slots of its node, starts them, records how they end, and ends the
    work of jobs that were aborted or destroyed, whoever did that.

    It is woken by changes of phase; every C{interval} seconds it looks by itself,
    and after C{shortly} where a job was held by somebody who changed it.

    @param services: whose jobs to run.
    @param node: this process.
    @param backends: by name; C{process} and C{reactor} if not given.
    @ivar holdsBack: take nothing, for there may be work here that is not known yet.
    """

    interval = 30.0
    shortly = 0.1

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
        self.holdsBack = False
        self._runs: dict[tuple[str, int], _Run] = {}
        self._ending: dict[tuple[str, int], Deferred[None]] = {}
        self._looking: Deferred[None] | None = None
        self._again = False
        self._soon: Any = None
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
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        runs = list(self._runs.values())
        await gatherResults([Deferred.fromCoroutine(self._leave(run)) for run in runs])
        ending = [run.over for run in self._runs.values() if not run.stuck]
        for over in [*ending, *self._ending.values()]:
            if over is not None:
                await shield(over)

    async def _leave(self, run: _Run) -> None:
        """Let go of work that is under way, if it is; work in this process ends."""
        waiting = run.waiting
        if waiting is None:
            return
        if run.running is not None and run.backend.name == "reactor":
            await run.backend.stop(run.running.ref, self._uws(run).limits.grace)
            run.stuck = not waiting.called
        else:
            waiting.cancel()

    @property
    def busy(self) -> int:
        """How many jobs are being done here."""
        return len(self._runs)

    def knows(self, jobId: str, attempt: int) -> bool:
        """Whether this attempt is being done here."""
        return (jobId, attempt) in self._runs

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
        # Set before looking begins, for that can end at once, without a database.
        looking: Deferred[None] = Deferred()
        self._looking = looking

        def looked(_: object) -> None:
            self._looking = None
            looking.callback(None)

        Deferred.fromCoroutine(self._look()).addBoth(looked)

    def _lookSoon(self) -> None:
        if self.running and (self._soon is None or not self._soon.active()):
            self._soon = self.reactor.callLater(self.shortly, self.look)

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

    async def runOnce(self) -> None:
        """End what is to be ended, and start what there is room for."""
        for row in await self.node.stops():
            self._end(row)
        while self.running and not self.holdsBack and self.busy < self.node.slots:
            record = await self.node.claim()
            if record is None:
                if await self.node.anyWaiting():  # nobody will tell when it is let go
                    self._lookSoon()
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

    def _reporter(self, record: JobRecord) -> Reporter:
        return Reporter(self.services[record.service], record, lambda: bool(self.running))

    def _begin(
        self, run: _Run, reporter: Reporter | None = None, found: Running | None = None
    ) -> None:
        key = run.record.jobId, run.record.attempt
        self._runs[key] = run
        reporter = reporter or self._reporter(run.record)
        run.over = Deferred.fromCoroutine(self._seeThrough(run, reporter, found))

        def forget(_: object) -> None:
            del self._runs[key]
            self.look()

        run.over.addErrback(
            lambda f: log.failure("{jobId} is not watched any more", f, jobId=run.record.jobId)
        )
        run.over.addBoth(forget)

    async def _seeThrough(self, run: _Run, reporter: Reporter, found: Running | None) -> None:
        try:
            outcome = await self._outcome(run, reporter, found)
        except StaleAttempt:  # ended by others
            return
        except CancelledError:  # ended by others, or left to others
            if run.running is None:
                await self._queueAgain(run)
            return
        except DatabaseUnavailable as e:  # nothing has begun
            await self._queueAgain(run, e)
            return
        try:
            await reporter.finish(outcome)
        except (StaleAttempt, JobNotFound):
            pass  # it was ended by others meanwhile, who have told the log
        except Unavailable:  # and this node stops: the next one is to find it
            uws = self._uws(run)
            await uws.inThread(uws.workDirs.forJob(run.record.jobId).writeOutcome, outcome)
        except Exception:
            log.failure("the end of {jobId} cannot be recorded", jobId=run.record.jobId)
            why = "The service could not record how the job ended; its log says why."
            await self._reporter(run.record).finish(Outcome.failed(why))

    async def _queueAgain(self, run: _Run, reason: Unavailable | None = None) -> None:
        """Put back what was claimed but never started, once the database is there again."""
        record = run.record
        error = JobError(message="The job could not be started.", type="transient")
        while reason is None or self.running:
            if reason is not None:
                log.warn("{jobId} is not started: {e}", jobId=record.jobId, e=reason)
                await deferLater(self.reactor, 1)
            try:
                await self._uws(run).recordLoss(
                    record.jobId, record.attempt, error, ended=True, again=True
                )
                return
            except Unavailable as e:
                reason = e
            except (StaleAttempt, JobNotFound):  # it was ended
                return

    async def _outcome(self, run: _Run, reporter: Reporter, found: Running | None) -> Outcome:
        if found is not None:
            run.running = found
            reporter.news()
        else:
            try:
                await self._fetch(run)
                run.running = await run.backend.start(
                    self._workOf(run.record, reporter),
                    lambda ref: self.node.remember(run.record, ref),
                )
            except (StaleAttempt, CancelledError, DatabaseUnavailable):
                raise
            except JobFailure as e:
                return endings.ofException("", e)
            except Exception as e:
                log.failure("{jobId} could not be started", jobId=run.record.jobId)
                return Outcome.failed(f"The job could not be started: {e}")
        assert run.running is not None
        run.waiting = waiting = run.running.ended
        if not self.running:  # stopped while this was being started, or found
            Deferred.fromCoroutine(self._leave(run))
        try:
            return await waiting
        finally:
            run.waiting = None

    async def _fetch(self, run: _Run) -> None:
        """Load the files that are still elsewhere; what is waited for can be cancelled."""
        run.waiting = Deferred.fromCoroutine(Fetcher(self._uws(run)).fetch(run.record))
        try:
            run.record = await run.waiting
        finally:
            run.waiting = None

    async def adopt(self, record: JobRecord, ref: dict[str, Any] | None, here: bool) -> bool:
        """
        Watch work that an earlier process started; false if there is nothing left of it.

        Work that has ended meanwhile is recorded as it ended.

        @param ref: C{None} if the work has never begun.
        @param here: whether the work was on this host.
        """
        if ref is None:
            return False
        backend, reporter = self._backendOf(record), self._reporter(record)
        work = self._workOf(record, reporter)
        outcome = await self._outcomeLeft(work)
        if outcome is None and here:
            found = await backend.find(work, ref)
            if found is not None:
                self._begin(_Run(record=record, backend=backend), reporter, found)
                return True
            await self._stopWork(ref, work.limits.grace)  # what has outlived its runner
            outcome = await self._outcomeLeft(work)  # it may have ended just now
        if outcome is None:
            return False
        await reporter.finish(outcome)
        return True

    async def _outcomeLeft(self, work: Work) -> Outcome | None:
        """What the work said of its end, if it did."""
        try:
            return await self.services[work.job.record.service].inThread(work.directory.readOutcome)
        except (OSError, ValueError, TypeError, KeyError) as e:  # the work may write there
            return Outcome.failed(f"The outcome cannot be read: {e}")

    # Work that is to be ended

    def _end(self, row: dict[str, Any]) -> None:
        key = row["job_id"], row["attempt"]
        if key in self._ending:
            return
        ending = self._ending[key] = Deferred.fromCoroutine(self._stop(row))
        ending.addErrback(
            lambda f: log.failure("{jobId} was not stopped; trying again", f, jobId=key[0])
        )

        def forget(_: object) -> None:
            del self._ending[key]

        ending.addBoth(forget)

    async def _stop(self, row: dict[str, Any]) -> None:
        """End one piece of work, whoever started it, and then note that it has ended."""
        jobId, attempt, ref = row["job_id"], row["attempt"], row["ref"]
        uws = self.services[row["service"]]
        run = self._runs.get((jobId, attempt))
        if run is not None and run.running is not None:
            ref = run.running.ref
        elif run is not None and run.waiting is not None:
            run.waiting.cancel()
        await self._stopWork(ref, uws.limits.grace)
        if run is not None and run.over is not None:  # also while it is being started
            await shield(run.over)
        if await self.node.stopped(jobId, attempt):
            uws.removeDirectory(jobId)

    async def _stopWork(self, ref: dict[str, Any] | None, grace: float) -> None:
        if ref is None or ref.get("backend") not in self.backends:
            return
        if ref.get("startTime", math.inf) < psutil.boot_time():
            return  # the host has been restarted since: its numbers are others' now
        await self.backends[ref["backend"]].stop(ref, grace)
