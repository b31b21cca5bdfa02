"""
The attempts at jobs that a node makes: each is started or found again, watched, and recorded.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws import endings
from twuws.database import shield
from twuws.errors import (
    DatabaseUnavailable,
    JobFailure,
    JobNotFound,
    ParameterError,
    StaleAttempt,
    Unavailable,
)
from twuws.fetching import Fetcher
from twuws.interfaces import Running, Work
from twuws.jobs import JobError, JobRecord, Outcome, UWSJob
from twuws.node import Node
from twuws.phases import COMPLETED
from twuws.reporter import Reporter
from twuws.stopping import Stopper
from twuws.uws import UWS
from twuws.values import FileValue
from twuws.workdir import WorkDir

T = TypeVar("T")
log = Logger()

#: Why work ends that is in the process of a service that stops.
WITH_THE_SERVICE = "The service that ran the job was stopped."

#: Why work ends that is given to other nodes.
GIVEN_BACK = "The node that ran the job was taken out of service."


@dataclass(kw_only=True)
class Attempt:
    """
    Work that this node watches.

    @ivar running: C{None} while it is being started.
    @ivar waiting: what is waited for while nothing needs to be recorded: the end of the work,
        or files for it.
    @ivar over: fires when nothing more will be done for it here.
    @ivar isStuck: it was asked to stop, and does not.
    @ivar given: why it is ended from here, if it is; its job may be started again.
    """

    record: JobRecord
    backend: Any
    running: Running | None = None
    waiting: Deferred[Any] | None = None
    over: Deferred[None] | None = None
    isStuck: bool = False
    given: str | None = None


class Attempts:
    """
    All work that this node watches.

    @param services: by name.
    @param backends: by name.
    @param freed: called when there is one less.
    @param failed: called when work has ended that was to be stopped, and the database could
        not be told.
    @ivar isOpen: false once the service stops: nothing is waited for any more.
    """

    def __init__(
        self,
        services: Mapping[str, UWS],
        node: Node,
        backends: Mapping[str, Any],
        freed: Callable[[], object],
        failed: Callable[[], object],
    ) -> None:
        self.services = services
        self.node = node
        self.backends = backends
        self.isOpen = False
        self.stopper = Stopper(services, node, backends, self._settle, failed)
        self._freed = freed
        self._attempts: dict[tuple[str, int], Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def knows(self, jobId: str, attempt: int | None = None) -> bool:
        """Whether this attempt, or any at the job, is being made here."""
        if attempt is not None:
            return (jobId, attempt) in self._attempts
        return any(known == jobId for known, _ in self._attempts)

    def underWay(self) -> list[tuple[JobRecord, Deferred[None]]]:
        """The jobs that are being done here, each with what fires when it is done with."""
        every = list(self._attempts.values())
        return [(one.record, one.over) for one in every if one.over is not None]

    def begin(self, record: JobRecord) -> None:
        """Start the work of a job that this node has claimed, and see it to its end."""
        self._begin(Attempt(record=record, backend=self._backendOf(record)))

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
        if here and outcome is None and not await self._hasDirectory(record):
            await self.stopper.stopWork(ref, work.limits.grace)
            outcome = endings.directoryGone()
        if outcome is None and here:
            found = await backend.find(work, ref)
            if found is not None:
                await self._watched(record)
                self._begin(Attempt(record=record, backend=backend), reporter, found)
                return True
            await self.stopper.stopWork(ref, work.limits.grace)  # what has outlived its runner
            outcome = await self._outcomeLeft(work)  # it may have ended just now
        if outcome is None:
            return False
        await reporter.finish(outcome)
        return True

    # Ending

    async def leave(self) -> None:
        """Let go of work in processes of its own, end what is in this one, and wait for that."""
        every = list(self._attempts.values())
        await gatherResults([Deferred.fromCoroutine(self._leave(one)) for one in every])
        ending = [one.over for one in self._attempts.values() if not one.isStuck]
        for over in [*ending, *self.stopper.underWay()]:
            if over is not None:
                await shield(over)

    async def _leave(self, attempt: Attempt) -> None:
        """Let go of work that is under way, if it is; work in this process ends."""
        waiting = attempt.waiting
        if waiting is None:
            return
        if attempt.running is not None and attempt.backend.name == "reactor":
            attempt.given = attempt.given or WITH_THE_SERVICE
            await attempt.backend.stop(attempt.running.ref, self._uws(attempt).limits.grace)
            attempt.isStuck = not waiting.called
        else:
            waiting.cancel()

    def lapse(self) -> Deferred[Any]:
        """
        End all work, for others may do it now: the node's lease has run out.

        Most of it has seen so for itself by then.  Fires when nothing is left.
        """
        every = list(self._attempts.values())
        return gatherResults([self._giveUp(one, endings.UNWATCHED) for one in every])

    def giveBack(self) -> list[Deferred[None]]:
        """
        End the work of jobs that may be started again, so that others do them; the rest goes on.

        Returns what fires when that is done with.
        """
        every = [one for one in self._attempts.values() if self._mayBeAgain(one)]
        for one in every:
            self._giveUp(one, GIVEN_BACK)
        return [one.over for one in every if one.over is not None]

    def _mayBeAgain(self, attempt: Attempt) -> bool:
        jobClass = self._uws(attempt).jobClass
        return jobClass.restartable and attempt.record.attempt < jobClass.maxAttempts

    def _giveUp(self, attempt: Attempt, why: str) -> Deferred[Any]:
        attempt.given = attempt.given or why
        if attempt.running is None:
            if attempt.waiting is not None:
                attempt.waiting.cancel()
            return succeed(None)  # it will not begin
        grace = self._uws(attempt).limits.grace
        stopping = Deferred.fromCoroutine(self.stopper.stopWork(attempt.running.ref, grace))
        return stopping.addErrback(
            lambda f: log.failure("{jobId} cannot be ended", f, jobId=attempt.record.jobId)
        )

    def _settle(self, jobId: str, attempt: int) -> tuple[dict[str, Any] | None, Any]:
        """See L{Stopper}; what is waited for before work begins is waited for no longer."""
        found = self._attempts.get((jobId, attempt))
        if found is None:
            return None, None
        if found.running is None and found.waiting is not None:
            found.waiting.cancel()
        return (found.running.ref if found.running else None), found.over

    # From beginning to end

    def _uws(self, attempt: Attempt) -> UWS:
        return self.services[attempt.record.service]

    def _backendOf(self, record: JobRecord) -> Any:
        jobClass: Any = self.services[record.service].jobClass
        inReactor = inspect.iscoroutinefunction(getattr(jobClass, "run", None))
        return self.backends["reactor" if inReactor else "process"]

    def _workOf(self, record: JobRecord, reporter: Reporter) -> Work:
        uws = self.services[record.service]
        directory = uws.workDirs.forJob(record.jobId, record.attempt)
        job: UWSJob = uws.jobClass(record, workPlace=directory)
        return Work(
            job=job,
            directory=directory,
            news=reporter.news,
            limits=uws.limits,
            environment=dict(uws.environment),
            user=uws.user,
        )

    def _reporter(self, record: JobRecord) -> Reporter:
        uws = self.services[record.service]
        return Reporter(uws, record, lambda: self.isOpen, node=self.node.name)

    def _begin(
        self, attempt: Attempt, reporter: Reporter | None = None, found: Running | None = None
    ) -> None:
        record = attempt.record
        key = record.jobId, record.attempt
        self._attempts[key] = attempt
        reporter = reporter or self._reporter(record)
        over = Deferred.fromCoroutine(self._seeThrough(attempt, reporter, found))

        def forget(_: object) -> None:
            del self._attempts[key]
            self._freed()

        attempt.over = over
        over.addErrback(lambda f: log.failure("{jobId} is not watched any more", f, jobId=key[0]))
        over.addBoth(forget)

    async def _seeThrough(
        self, attempt: Attempt, reporter: Reporter, found: Running | None
    ) -> None:
        try:
            outcome = await self._outcome(attempt, reporter, found)
        except StaleAttempt:  # ended by others
            return
        except CancelledError:  # ended by others, or left to others
            if attempt.running is None:
                await self._queueAgain(attempt)
            return
        except DatabaseUnavailable as e:  # nothing has begun
            await self._queueAgain(attempt, e)
            return
        if attempt.given and outcome.phase is not COMPLETED:
            outcome = endings.lost(attempt.given)
        elif not await self._hasDirectory(attempt.record):
            outcome = endings.directoryGone()
        await self._record(attempt.record, reporter, outcome)

    async def _record(self, record: JobRecord, reporter: Reporter, outcome: Outcome) -> None:
        """
        Record how work ended, or leave that to the next node.

        An outcome that comes too late changes nothing, whichever try it is.
        """
        try:
            try:
                await reporter.finish(outcome)
            except (StaleAttempt, JobNotFound, Unavailable):
                raise
            except Exception:
                log.failure("the end of {jobId} cannot be recorded", jobId=record.jobId)
                why = "The service could not record how the job ended; its log says why."
                outcome = Outcome.failed(why)
                await self._reporter(record).finish(outcome)
        except (StaleAttempt, JobNotFound):  # it was ended by others meanwhile
            log.info("{jobId}: attempt {attempt} ended too late to be recorded",
                     jobId=record.jobId, attempt=record.attempt)  # fmt: skip
        except Unavailable:  # and this node stops: the next one is to find it
            await self._inDirectory(record, lambda place: place.writeOutcome(outcome))

    async def _queueAgain(self, attempt: Attempt, reason: Unavailable | None = None) -> None:
        """Put back what was claimed but never started, once the database is there again."""
        record, node = attempt.record, self.node.name
        why = attempt.given or "The job could not be started."
        error = JobError(message=why, type="transient")
        while reason is None or self.isOpen:
            if reason is not None:
                log.warn("{jobId} is not started: {e}", jobId=record.jobId, e=reason)
                await deferLater(self._uws(attempt).database.reactor, 1)
            try:
                await self._uws(attempt).recordLoss(
                    record.jobId, record.attempt, error, ended=True, again=True, node=node
                )
                return
            except Unavailable as e:
                reason = e
            except (StaleAttempt, JobNotFound):  # it was ended
                return

    async def _outcome(
        self, attempt: Attempt, reporter: Reporter, found: Running | None
    ) -> Outcome:
        if found is not None:
            attempt.running = found
            reporter.news()
        else:
            try:
                await self._start(attempt, reporter)
            except (StaleAttempt, CancelledError, DatabaseUnavailable):
                raise
            except JobFailure as e:
                return endings.ofException("", e)
            except ParameterError as e:  # what a client sent is no fault of the service
                return endings.notStarted(e)
            except OSError as e:
                log.error("{jobId} could not be started: {e}", jobId=attempt.record.jobId, e=e)
                return endings.notStored("The job could not be started", e)
            except Exception as e:
                log.failure("{jobId} could not be started", jobId=attempt.record.jobId)
                return endings.notStarted(e)
        assert attempt.running is not None
        attempt.waiting = waiting = attempt.running.ended
        if not self.isOpen:  # stopped while this was being started, or found
            Deferred.fromCoroutine(self._leave(attempt))
        try:
            return await waiting
        finally:
            attempt.waiting = None

    async def _start(self, attempt: Attempt, reporter: Reporter) -> None:
        async def remember(ref: dict[str, Any]) -> None:
            await self.node.remember(attempt.record, ref)
            if attempt.given:  # since it was claimed others may have been told to do it
                raise CancelledError

        if not await self._hasDirectory(attempt.record):
            raise JobFailure(endings.DIRECTORY_GONE)
        self._checkLease()
        await self._inDirectory(attempt.record, WorkDir.takeBack)
        await self._fetch(attempt)
        self._checkLease()
        await self._checkFiles(attempt.record)
        await self._watched(attempt.record)
        work = self._workOf(attempt.record, reporter)
        self._checkLease()
        attempt.running = await attempt.backend.start(work, remember)

    def _checkLease(self) -> None:
        """
        See that the job's directory is still ours: this process may have stood still, and others
        may have begun there.
        """
        if not self.node.hasLease:
            raise CancelledError

    async def _fetch(self, attempt: Attempt) -> None:
        """Load the files that are still elsewhere; what is waited for can be cancelled."""
        fetcher = Fetcher(self._uws(attempt))
        attempt.waiting = Deferred.fromCoroutine(fetcher.fetch(attempt.record))
        try:
            attempt.record = await attempt.waiting
        finally:
            attempt.waiting = None

    async def _inDirectory(self, record: JobRecord, action: Callable[[WorkDir], T]) -> T:
        """Do something with an attempt's directory, in a thread."""
        uws = self.services[record.service]
        return await uws.inThread(action, uws.workDirs.forJob(record.jobId, record.attempt))

    async def _hasDirectory(self, record: JobRecord) -> bool:
        return await self._inDirectory(record, WorkDir.isThere)

    async def _checkFiles(self, record: JobRecord) -> None:
        """Raise L{JobFailure} unless the files are there that the client sent."""
        uws = self.services[record.service]
        directory = uws.workDirs.forJob(record.jobId)
        for name, values in record.parameters.items():
            for value in values:
                if isinstance(value, FileValue) and not await uws.inThread(
                    os.path.isfile, directory.parameterPath(value.file)
                ):
                    raise JobFailure(f"Parameter {name}: its file {value.file} is gone.")

    async def _watched(self, record: JobRecord) -> None:
        """Let a job's work depend on this node's lease."""
        lease = self.node.leaseFiles.get(self.services[record.service].workDirs.root)
        if lease is not None:
            take = lease.take
            await self._inDirectory(record, lambda place: take(place.path, record.attempt))

    async def _outcomeLeft(self, work: Work) -> Outcome | None:
        """What the work said of its end, if it did."""
        record = work.job.record
        try:
            return await self.services[record.service].inThread(work.directory.readOutcome)
        except (OSError, ValueError, TypeError, KeyError) as e:  # the work may write there
            log.error("the outcome of {jobId} cannot be read: {e}", jobId=record.jobId, e=e)
            return endings.unreadable(e)
