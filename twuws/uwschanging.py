"""
Changing jobs: locks, the properties that clients set, and the moves through the phases.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from twuws.accounts import NO_LIMITS
from twuws.database import Database, LockTimeout, Transaction, shield
from twuws.endings import whyOf
from twuws.errors import (
    BadRequest,
    IllegalMove,
    JobLocked,
    JobNotFound,
    NotPending,
    Unavailable,
    UWSError,
)
from twuws.joblocks import JobLocks
from twuws.jobs import JobError, JobRecord, UWSJob
from twuws.jobstable import NOTHING_TOLD, Told, fromRow
from twuws.phases import (
    ABORTED,
    ARCHIVED,
    ERROR,
    EXECUTING,
    FINAL,
    HELD,
    IN_QUEUE,
    PENDING,
    QUEUED,
    Phase,
    checkMove,
)
from twuws.phasewatcher import PhaseWatcher
from twuws.policy import FetchPolicy, Policy
from twuws.submission import FilesToAdopt, checkAmount
from twuws.uwsreading import ReadableJobs, deferred
from twuws.values import sizeOf

log = Logger()

#: How long a RUNID can be, in characters (DALI, 4.3.6).
LONGEST_RUNID = 64
#: How long an idempotency key can be, in characters.
LONGEST_KEY = 255
_KEY = re.compile(rf"[\x20-\x7e]{{1,{LONGEST_KEY}}}")
_XML_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


class Unset(Enum):
    """The type of L{UNSET}."""

    UNSET = "unset"


#: For arguments whose C{None} means something.
UNSET: Final = Unset.UNSET


def checkRunId(runId: str) -> str:
    """Return what can be a run id (D-036): all that XML can have, 64 characters at most."""
    if len(runId) > LONGEST_RUNID or not _XML_TEXT.fullmatch(runId):
        raise BadRequest(
            f"RUNID: {runId[:60]!r} is not {LONGEST_RUNID} characters at most that XML can have"
        )
    return runId


def checkKey(key: str) -> str:
    """Return what can be an idempotency key: printable ASCII, 255 characters at most."""
    if not _KEY.fullmatch(key):
        raise BadRequest(
            f"Idempotency-Key: {key[:60]!r} is not 1 to {LONGEST_KEY} printable ASCII characters"
        )
    return key


class ChangeableJobs(ReadableJobs):
    """
    The jobs of one service, to change one at a time.  See L{twuws.uws.UWS}.
    """

    #: How long a change waits for another change of the same job, s.
    lockTimeout: float = 10
    #: How many values a job can have, and how many bytes of text, whoever sends how little of it
    #: at a time.
    mostValues = 10_000
    mostText = 16 * 2**20
    #: What is loaded for jobs from the URIs that clients give.
    fetchPolicy = FetchPolicy()
    #: Of jobs that are queued without saying one.
    priority = 0
    #: What an owner, or an address from which jobs are made, can have.
    accountLimits = NO_LIMITS

    def __init__(
        self,
        jobClass: type[UWSJob],
        database: Database,
        directory: str | Path,
        name: str,
        watcher: PhaseWatcher | None,
        policy: Policy | None,
    ) -> None:
        super().__init__(jobClass, database, directory, name, watcher)
        self.policy = policy or Policy()
        self._locks = JobLocks(database.reactor)

    @asynccontextmanager
    async def changeableJob(
        self, jobId: str, timeout: float | None = None
    ) -> AsyncIterator[UWSJob]:
        """
        Hold a job so that nobody else can change it, here or in any other process.

        What was changed is written when the block ends; an exception changes nothing.

        @param timeout: how long to wait for others who hold it, s; then L{JobLocked}.
        """
        async with self._locked(jobId, timeout) as (t, record, _):
            job = self._jobOf(record, changeable=True)
            try:
                yield job
            finally:
                job.isChangeable = False
            await self.table.change(record, job.record, t)

    def changeJob(
        self, jobId: str, action: Callable[[UWSJob], Any], timeout: float | None = None
    ) -> Deferred[Any]:
        """
        C{changeableJob} for callers without C{async with}: C{action(job)}, then write.

        @param action: may return a Deferred; its result is this Deferred's.
        """

        async def change() -> Any:
            async with self.changeableJob(jobId, timeout) as job:
                return await maybeDeferred(action, job)

        return shield(Deferred.fromCoroutine(change()))

    @asynccontextmanager
    async def _locked(
        self, jobId: str, timeout: float | None = None
    ) -> AsyncIterator[tuple[Transaction, JobRecord, datetime]]:
        """The job's row, locked, in a transaction, with the database's time."""
        timeout = self.lockTimeout if timeout is None else timeout
        reactor = self.database.reactor
        giveUpAt = reactor.seconds() + timeout
        async with self._locks.held(jobId, timeout):
            left = max(0.001, giveUpAt - reactor.seconds())
            async with self.database.transaction(lockTimeout=left) as t:
                try:
                    rows = await self.table.run("lockJob", self._key(jobId), t)
                except LockTimeout:
                    raise JobLocked(jobId) from None
                if not rows:
                    raise JobNotFound(jobId)
                yield t, fromRow(rows[0]), rows[0]["now"]

    @deferred
    async def update(
        self,
        jobId: str,
        request: Any = None,
        *,
        runId: str | None = None,
        executionDuration: int | None = None,
        destruction: datetime | Unset | None = UNSET,
        phase: str | None = None,
        who: str | None = None,
    ) -> None:
        """
        Change what clients can change of a job, all of it or nothing.

        @param request: its C{args} and C{files} become parameters; for a PENDING job only
            (D-014), as is C{runId} (A-31).
        @param executionDuration: in s, until the job ends (A-45); the policy may make it less.
        @param destruction: until the job is ARCHIVED (A-45); the policy may make it sooner;
            C{None} for the service's default.
        @param phase: C{"RUN"} or C{"ABORT"}: what L{run} or L{abort} do, after the rest.
        @param who: asks for it, for the record.
        @raise NotPending: if it is too late for any of that.
        @raise BadRequest: for a destruction time in the past (A-42), or a value that is wrong.
        """
        async with self._locked(jobId) as (t, record, now):
            job = self._jobOf(record, changeable=True)
            if runId is not None:
                self._checkPhase(job, {PENDING}, "RUNID")
                job.runId = checkRunId(runId)
            if executionDuration is not None:
                self._checkPhase(job, set(Phase) - FINAL, "EXECUTIONDURATION")
                job.executionDuration = self.policy.of(job.owner).duration(executionDuration)
            if not isinstance(destruction, Unset):
                self._checkPhase(job, set(Phase) - {ARCHIVED}, "DESTRUCTION")
                if destruction is not None and destruction <= now:
                    raise BadRequest("DESTRUCTION: this instant has passed; give a later one")
                job.destruction = self.policy.of(job.owner).destruction(destruction, now)
            if request is not None:
                self._checkPhase(job, {PENDING}, "Parameters")
                files = self._filesOf(job, request)
                await maybeDeferred(self.setParamsFromRequest, job, request)
                checkAmount(job.parameters, self.mostValues, self.mostText)
                await self._checkStored(t, record, job.record)
                await self.storing(self.inThread(files.adopt, job.parameters))
            changed = await self.table.change(record, job.record, t)
            if phase == "RUN":
                await self._run(t, changed or record, who)
            elif phase is not None:
                await self._abort(t, changed or record, told=Told(who=who))
        if request is not None:
            await self.inThread(files.dropReplaced, record.parameters, job.parameters)

    async def _checkStored(self, t: Transaction, before: JobRecord, after: JobRecord) -> None:
        """See whether the account of a job can have what the files of this are more."""
        more, most = sizeOf(after.parameters) - sizeOf(before.parameters), self.accountLimits.stored
        if more > 0 and most is not None:
            await self.table.checkStored(before.jobId, more, most, t)

    async def storing(self, writing: Awaitable[object]) -> None:
        """
        Wait for what is written to a job's directory.

        @raise Unavailable: if it cannot be written to, saying why.
        """
        try:
            await writing
        except OSError as e:
            log.error("{service}: a job's directory cannot be written: {e}", service=self.name, e=e)
            raise Unavailable(f"The service cannot store this now: {whyOf(e)}.") from e

    def _filesOf(self, job: UWSJob, request: Any) -> FilesToAdopt:
        """The files of a request, for a job that may have some already."""
        return FilesToAdopt(
            self.workDirs.forJob(job.jobId),
            request,
            job.declarations,
            job.parameters,
            maySources=self.fetchPolicy.enabled,
        )

    def _checkPhase(self, job: UWSJob, phases: Set[Phase], what: str) -> None:
        if job.phase not in phases:
            raise NotPending(f"{what}: the job is {job.phase}, and this can be set no longer.")

    def setParamsFromRequest(self, job: UWSJob, request: Any) -> Any:
        """
        Take a job's parameters from a request; to be overridden.  May return a Deferred.

        As it is, the job class does it.

        @param request: see L{UWSJob.setParamsFromRequest}.
        """
        return job.setParamsFromRequest(request)

    # Phases

    @deferred
    async def changeToPhase(
        self,
        jobId: str,
        phase: Phase | str,
        error: JobError | None = None,
        timeout: float | None = None,
        told: Told = NOTHING_TOLD,
    ) -> None:
        """
        Move a job through the table of phases.

        Work that is under way is ended if the job leaves the phases that have work.

        @param error: why, for ERROR and ABORTED.
        @param told: what the record of the move says.
        @raise IllegalMove: if there is no such move; nothing is changed.
        """
        async with self._locked(jobId, timeout) as (t, record, _):
            await self._move(t, record, Phase(phase), error, told=told)

    @deferred
    async def run(self, jobId: str, who: str | None = None, priority: int | None = None) -> None:
        """
        Queue a PENDING or HELD job (2.2.3.5); while a hold keeps it, it is HELD.

        A job whose parameters are not complete is ERROR then, with a message that names
        what is missing.

        @param who: asks for it, for the record.
        @param priority: a higher one is started first; the job class's if not given.
        @raise IllegalMove: in any other phase (A-02).
        """
        async with self._locked(jobId) as (t, record, _):
            await self._run(t, record, who, priority)

    async def _run(
        self,
        t: Transaction,
        record: JobRecord,
        who: str | None = None,
        priority: int | None = None,
    ) -> None:
        told = Told(who=who)
        checkMove(record.phase, QUEUED)
        if record.phase in IN_QUEUE:  # from there the Rescuer may queue it, nobody else
            raise IllegalMove(f"The job is {record.phase}: it has been run already.")
        try:
            self._jobOf(record).checkComplete()
        except UWSError as e:
            await self._move(t, record, ERROR, JobError(message=str(e)), told=told)
        else:
            await self._move(t, record, QUEUED, told=told, priority=priority)

    @deferred
    async def abort(
        self, jobId: str, error: JobError | None = None, told: Told = NOTHING_TOLD
    ) -> None:
        """
        Abort a job that has not ended (2.2.3.6); one that is ABORTED stays as it is (A-03).

        @param error: why, where it is not the user who asks (A-08).
        @param told: what the record of the move says.
        @raise IllegalMove: if it has ended otherwise.
        """
        async with self._locked(jobId) as (t, record, _):
            await self._abort(t, record, error, told)

    async def _abort(
        self,
        t: Transaction,
        record: JobRecord,
        error: JobError | None = None,
        told: Told = NOTHING_TOLD,
    ) -> None:
        if record.phase != ABORTED:
            await self._move(t, record, ABORTED, error, told=told)

    @deferred
    async def abortOverdue(self, jobId: str) -> bool:
        """Abort a job that has run for longer than it may (2.1.4, A-08); false if it has not."""
        async with self._locked(jobId) as (t, record, now):
            limit = record.executionDuration
            if record.phase is not EXECUTING or record.startTime is None or limit == 0:
                return False
            if now < record.startTime + timedelta(seconds=limit):
                return False
            why = f"The execution duration of {limit} s was exceeded, and the job was stopped."
            await self._move(t, record, ABORTED, JobError(message=why))
            return True

    async def _move(
        self,
        t: Transaction,
        record: JobRecord,
        phase: Phase,
        error: JobError | None = None,
        ended: bool = False,
        told: Told = NOTHING_TOLD,
        priority: int | None = None,
    ) -> None:
        """
        Make a move, in both tables.  What would be QUEUED is HELD while a hold keeps it.

        @param ended: the work has ended by itself, so that nobody has to end it.
        @param told: what the record of the move says.
        @param priority: in the queue; the job class's if not given.
        """
        because: str | None = None
        if phase is QUEUED and (hold := await self.table.holdOn(record.jobId, t)) is not None:
            if record.phase is HELD:
                return
            phase, because = HELD, hold["why"]
            told = replace(told, why=told.why or because)
        checkMove(record.phase, phase)
        if phase is ERROR and error is None:
            error = JobError(message="The job failed.")
        isLeft = record.phase in IN_QUEUE
        if isLeft and phase is QUEUED:  # it is put there anew
            await self.table.dequeue(record.jobId, t, ended=ended)
        quote = self.quoteAtEnd(record) if phase in FINAL else None
        usual = self.priority
        isNew = record.phase is PENDING and phase is QUEUED
        most = self.accountLimits.queued if isNew else None
        await self.table.move(record, phase, error, t, told, priority, usual, because, quote, most)
        if isLeft and phase not in IN_QUEUE:
            await self.table.dequeue(record.jobId, t, ended=ended)
        if phase is EXECUTING and record.phase is QUEUED:
            await self.table.run("occupy", {"jobId": record.jobId}, t)
