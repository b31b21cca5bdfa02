"""
One attempt at a job that a node makes, from its start to the record of its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws import endings
from twuws.errors import (
    DatabaseUnavailable,
    JobFailure,
    JobNotFound,
    ParameterError,
    StaleAttempt,
    Unavailable,
)
from twuws.fetching import Fetcher, isElsewhere
from twuws.interfaces import Running, Work
from twuws.jobs import JobError, JobRecord, Outcome, UWSJob
from twuws.node import Node
from twuws.phases import COMPLETED
from twuws.reporter import Reporter
from twuws.uws import UWS
from twuws.values import FileValue
from twuws.workdir import WorkDir

T = TypeVar("T")
log = Logger()

#: Why work ends that is in the process of a service that stops.
WITH_THE_SERVICE = "The service that ran the job was stopped."


class Attempt:
    """
    Work that this node watches, or is about to.

    @param isOpen: whether things are waited for; if not, this node stops.
    @ivar running: C{None} while it is being started.
    @ivar waiting: what is waited for while nothing needs to be recorded: the end of the work,
        or files for it.
    @ivar over: fires when nothing more will be done for it here.
    @ivar isEnding: the work has ended, which is being recorded.
    @ivar isRecorded: so it has been.
    @ivar isStuck: it was asked to stop, and does not.
    @ivar given: why it is ended from here, if it is; its job may be started again.
    """

    def __init__(
        self, uws: UWS, node: Node, backend: Any, record: JobRecord, isOpen: Callable[[], bool]
    ) -> None:
        self.uws = uws
        self.node = node
        self.backend = backend
        self.record = record
        self.isOpen = isOpen
        self.directory = uws.workDirs.forJob(record.jobId, record.attempt)
        self.reporter = Reporter(uws, record, isOpen, node=node.name)
        self.running: Running | None = None
        self.waiting: Deferred[Any] | None = None
        self.over: Deferred[None] | None = None
        self.isEnding = self.isRecorded = self.isStuck = False
        self.given: str | None = None

    @property
    def mayBeAgain(self) -> bool:
        """Whether others may do the job if this attempt is ended."""
        jobClass = self.uws.jobClass
        return jobClass.restartable and self.record.attempt < jobClass.maxAttempts

    def work(self) -> Work:
        """The work, as backends know it."""
        job: UWSJob = self.uws.jobClass(self.record, workPlace=self.directory)
        return Work(
            job=job,
            directory=self.directory,
            prepare=self._prepare,
            news=self.reporter.news,
            limits=self.uws.limits,
            environment=dict(self.uws.environment),
            user=self.uws.user,
        )

    async def seeThrough(self, found: Running | None = None) -> None:
        """
        Start the work, wait for its end, and record that.

        @param found: the work, if it has been started by an earlier process.
        """
        try:
            outcome = await self._outcome(found)
        except StaleAttempt:  # ended by others
            return
        except CancelledError:  # ended by others, or left to others
            if self.running is None:
                await self._queueAgain()
            return
        except DatabaseUnavailable as e:  # nothing has begun
            await self._queueAgain(e)
            return
        finally:
            self.reporter.stop()
        self.isEnding = True
        if self.given and outcome.phase is not COMPLETED:
            await self._record(endings.lost(self.given))
        else:
            await self._record(outcome, endings.directoryGone())

    async def leave(self) -> None:
        """Let go of work that is under way, if it is; work in this process ends."""
        waiting = self.waiting
        if waiting is None:
            return
        if self.running is not None and self.backend.name == "reactor":
            self.given = self.given or WITH_THE_SERVICE
            await self.backend.stop(self.running.ref, self.uws.limits.grace)
            self.isStuck = not waiting.called
        else:
            waiting.cancel()

    def waitNoLonger(self) -> None:
        """Do without what is waited for before the work begins."""
        if self.running is None and self.waiting is not None:
            self.waiting.cancel()

    # The end

    async def _record(self, outcome: Outcome, ifGone: Outcome | None = None) -> None:
        """
        Record how work ended, or leave that to the next node.

        An outcome that comes too late changes nothing, whichever try it is.

        @param ifGone: what to record if the job's directory is not there any more.
        """
        record = self.record
        try:
            try:
                await self.reporter.finish(outcome, ifGone)
                self.isRecorded = True
            except (StaleAttempt, JobNotFound, Unavailable):
                raise
            except Exception:
                log.failure("the end of {jobId} cannot be recorded", jobId=record.jobId)
                why = "The service could not record how the job ended; its log says why."
                outcome = Outcome.failed(why)
                anew = Reporter(self.uws, record, self.isOpen, node=self.node.name)
                await anew.finish(outcome)
        except (StaleAttempt, JobNotFound):  # it was ended by others meanwhile
            log.info("{jobId}: attempt {attempt} ended too late to be recorded",
                     jobId=record.jobId, attempt=record.attempt)  # fmt: skip
        except Unavailable:  # and this node stops: the next one is to find it
            await self._inDirectory(lambda place: place.writeOutcome(outcome))

    async def _queueAgain(self, reason: Unavailable | None = None) -> None:
        """Put back what was claimed but never started, once the database is there again."""
        record, node = self.record, self.node.name
        why = self.given or "The job could not be started."
        error = JobError(message=why, type="transient")
        while reason is None or self.isOpen():
            if reason is not None:
                log.warn("{jobId} is not started: {e}", jobId=record.jobId, e=reason)
                await deferLater(self.uws.database.reactor, 1)
            try:
                await self.uws.recordLoss(
                    record.jobId, record.attempt, error, ended=True, again=True, node=node
                )
                return
            except Unavailable as e:
                reason = e
            except (StaleAttempt, JobNotFound):  # it was ended
                return

    # The beginning

    async def _outcome(self, found: Running | None) -> Outcome:
        jobId = self.record.jobId
        if found is not None:
            self.running = found
            self.reporter.news()
        else:
            try:
                await self._start()
            except (StaleAttempt, CancelledError, DatabaseUnavailable):
                raise
            except JobFailure as e:
                return endings.ofException("", e)
            except ParameterError as e:  # what a client sent is no fault of the service
                return endings.notStarted(e)
            except OSError as e:
                log.error("{jobId} could not be started: {e}", jobId=jobId, e=e)
                return endings.notStored("The job could not be started", e)
            except Exception as e:
                log.failure("{jobId} could not be started", jobId=jobId)
                return endings.notStarted(e)
        assert self.running is not None
        self.waiting = waiting = self.running.ended
        if not self.isOpen():  # stopped while this was being started, or found
            Deferred.fromCoroutine(self.leave())
        try:
            return await waiting
        finally:
            self.waiting = None

    async def _start(self) -> None:
        async def remember(ref: dict[str, Any]) -> None:
            await self.node.remember(self.record, ref)
            if self.given:  # since it was claimed others may have been told to do it
                raise CancelledError

        self._checkLease()
        if isElsewhere(self.record):
            await self._inDirectory(self._open)
            await self._fetch()
            self._checkLease()
        self.running = await self.backend.start(self.work(), remember)

    def _open(self, place: WorkDir) -> None:
        """See that the directory is there, and ours; blocks."""
        if not place.isThere():
            raise JobFailure(endings.DIRECTORY_GONE)
        self._checkLease()
        place.takeBack()

    async def _prepare(self, more: Callable[[], object]) -> None:
        """See to all in the directory before the work begins, and do more there."""

        def makeReady(place: WorkDir) -> None:
            self._open(place)
            self._checkFiles()
            place.furnish()
            self._takeLease(place)
            more()

        if self.record.attempt == 1 and self.uws.user is None:
            await self._inDirectory(makeReady)
        else:  # there may be much to be removed, or to be given to somebody
            await self.uws.inThread(makeReady, self.directory)

    def _checkLease(self) -> None:
        """
        See that the job's directory is still ours: this process may have stood still, and others
        may have begun there.
        """
        if not self.node.hasLease:
            raise CancelledError

    async def _fetch(self) -> None:
        """Load the files that are still elsewhere; what is waited for can be cancelled."""
        self.waiting = Deferred.fromCoroutine(Fetcher(self.uws).fetch(self.record))
        try:
            self.record = await self.waiting
        finally:
            self.waiting = None

    def _checkFiles(self) -> None:
        """Raise L{JobFailure} unless the files are there that the client sent; blocks."""
        for name, values in self.record.parameters.items():
            for value in values:
                if isinstance(value, FileValue) and not os.path.isfile(
                    self.directory.parameterPath(value.file)
                ):
                    raise JobFailure(f"Parameter {name}: its file {value.file} is gone.")

    def _takeLease(self, place: WorkDir) -> None:
        lease = self.node.leaseFiles.get(self.uws.workDirs.root)
        if lease is not None:
            lease.take(place.path, self.record.attempt)

    # The directory

    async def _inDirectory(self, action: Callable[[WorkDir], T]) -> T:
        """Do something with the attempt's directory, in a thread."""
        return await self.uws.inSharedThread(action, self.directory)

    async def hasDirectory(self) -> bool:
        """Whether the job's directory is there."""
        return await self._inDirectory(WorkDir.isThere)

    async def takeLease(self) -> None:
        """Let the work depend on this node's lease."""
        await self._inDirectory(self._takeLease)

    async def outcomeLeft(self) -> Outcome | None:
        """What the work said of its end, if it did."""
        try:
            return await self._inDirectory(WorkDir.readOutcome)
        except (OSError, ValueError, TypeError, KeyError) as e:  # the work may write there
            log.error("the outcome of {jobId} cannot be read: {e}", jobId=self.record.jobId, e=e)
            return endings.unreadable(e)
