"""
The facade: every rule about jobs is here, and holds whoever asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws.database import Database, Row, Transaction, shield
from twuws.errors import (
    BadRequest,
    DatabaseUnavailable,
    JobNotFound,
)
from twuws.interfaces import WorkLimits
from twuws.jobs import JobError, JobRecord, UWSJob
from twuws.jobstable import Told
from twuws.phases import (
    ABORTED,
    ARCHIVED,
    FINAL,
    IN_QUEUE,
    PENDING,
)
from twuws.phasewatcher import PhaseWatcher
from twuws.policy import FetchPolicy, Policy
from twuws.submission import FilesToAdopt
from twuws.uwschanging import checkKey, checkRunId
from twuws.uwsreading import deferred
from twuws.uwsworking import WorkedJobs

T = TypeVar("T")
log = Logger()

#: What a new job can be given, beside parameters.
_INITIAL = frozenset(
    {"owner", "runId", "executionDuration", "destruction", "quote", "jobInfo", "isListed"}
)

#: The phases from which expired jobs are archived: what never ran leaves nothing to tell.
_ARCHIVABLE = (FINAL | IN_QUEUE) - {ARCHIVED}

_EXPIRED = Told(why="Its destruction time had come.")


class UWS(WorkedJobs):
    """
    One service: its jobs, and all that can be done with them.

    Every method but C{changeableJob} returns a Deferred.  Jobs that it hands out are
    read-only; by the time they are looked at the truth may have moved on.  Any method may
    fail with L{DatabaseUnavailable}, those that name a job with L{JobNotFound}, those that
    change one with L{JobLocked}.

    @param jobClass: the L{UWSJob} subclass.
    @param jobActions: the children of a job over HTTP, for the web floor; C{None} for the
        standard ones.
    @param database: where jobs are kept.
    @param directory: where the jobs' directories are.
    @param name: the service's name; several services share a database.
    @param watcher: who tells of changed phases; shared between services.
    @param jobListURL: where the jobs are, for those who ask without a request at hand.
    @param cleanupInterval: overrides the class's.
    @param limits: what the work of one job may use.
    @param environment: environment variables for the work.
    @param fetchPolicy: what is loaded from the URIs that clients give.
    @param priority: of its jobs; the job class's if not given.
    @ivar leaving: why this process takes no jobs any more, if it is about to leave.
    """

    #: How often expired jobs are removed, s.
    cleanupInterval: float = 12 * 3600
    #: After how long a job that was never run counts as forgotten, s.
    forgottenAfter: float = 86400
    #: How long C{getNewJobId} tries for the database, s.
    creationTimeout: float = 5
    #: The same for C{getNewIdFromRequest}, behind which somebody waits for an answer.
    requestTimeout: float = 1
    #: Raw XML before the document element of a job, and of the job list.
    jobdocPreamble = ""
    joblistPreamble = ""

    def __init__(
        self,
        jobClass: type[UWSJob],
        jobActions: Any = None,
        *,
        database: Database,
        directory: str | Path,
        name: str = "uws",
        watcher: PhaseWatcher | None = None,
        policy: Policy | None = None,
        jobListURL: str | None = None,
        cleanupInterval: float | None = None,
        limits: WorkLimits | None = None,
        environment: Mapping[str, str] | None = None,
        fetchPolicy: FetchPolicy | None = None,
        priority: int | None = None,
    ) -> None:
        super().__init__(jobClass, database, directory, name, watcher, policy)
        self.jobActions = jobActions
        self.jobListURL = jobListURL
        self.limits = limits or WorkLimits()
        self.environment = dict(environment or {})
        if cleanupInterval is not None:
            self.cleanupInterval = cleanupInterval
        if fetchPolicy is not None:
            self.fetchPolicy = fetchPolicy
        self.priority = jobClass.priority if priority is None else priority
        self.leaving: str | None = None
        self._removals: set[Deferred[None]] = set()

    # Creating

    @deferred
    async def getNewJobId(
        self,
        timeout: float | None = None,
        *,
        who: str | None = None,
        idempotencyKey: str | None = None,
        **properties: Any,
    ) -> str:
        """
        Create a PENDING job and return its id.

        @param timeout: how long to try for the database, s.
        @param who: asks for it, for the record.
        @param idempotencyKey: names the wish: if the owner has had a job made with the same
            key in the last 24 hours, that one's id comes back, even if it has been destroyed
            since, and nothing else is done.
        @param properties: any of C{owner}, C{runId}, C{executionDuration}, C{destruction},
            C{quote}, C{jobInfo}, and C{parameters}, a dictionary of names and values.
        @raise ParameterError: for a value that its declaration refuses; no job is made.
        @raise BadRequest: for a destruction time in the past; no job is made.
        """
        job = self._draft(properties)
        if (first := await self._madeBefore(job, idempotencyKey, timeout)) is not None:
            return first
        return await self._create(job, timeout, who=who, key=idempotencyKey)

    @deferred
    async def getNewIdFromRequest(
        self,
        request: Any,
        run: bool = False,
        *,
        who: str | None = None,
        idempotencyKey: str | None = None,
        **properties: Any,
    ) -> str:
        """
        Create a job from C{request.args} and C{request.files}, and return its id.

        C{setParamsFromRequest(job, request)} is called with the new job, before anybody
        can see it; on any error there, no job is left behind.

        @param run: queue it at once, as L{run} does; it is created queued, or not at all.
        @param who: asks for it, for the record.
        @param idempotencyKey: as for C{getNewJobId}.
        @param properties: as for C{getNewJobId}.
        """
        job = self._draft(properties)
        if (first := await self._madeBefore(job, idempotencyKey)) is not None:
            return first
        files = self._filesOf(job, request)
        await maybeDeferred(self.setParamsFromRequest, job, request)
        return await self._create(job, self.requestTimeout, files, run, who, idempotencyKey)

    def _draft(self, properties: dict[str, Any]) -> UWSJob:
        """A job that is nowhere but here."""
        parameters = properties.pop("parameters", {})
        for name in properties.keys() - _INITIAL:
            known = ", ".join(sorted({*_INITIAL, "parameters"}))
            raise TypeError(f"{name} is nothing that a new job can be given; that is {known}")
        record = JobRecord(
            service=self.name,
            jobId=secrets.token_hex(16),
            creationTime=datetime.min,
            **properties,
        )
        if runId := properties.get("runId"):
            checkRunId(runId)
        job = self._jobOf(record, changeable=True)
        for name, value in parameters.items():
            job.assignParameter(name, value)
        job.change(
            executionDuration=self.policy.duration(properties.get("executionDuration")),
        )
        return job

    async def _create(
        self,
        job: UWSJob,
        timeout: float | None,
        files: FilesToAdopt | None = None,
        run: bool = False,
        who: str | None = None,
        key: str | None = None,
    ) -> str:
        workDir = self.workDirs.forJob(job.jobId)
        try:
            await self.storing(workDir.create)
            if files is not None:
                await self.storing(files.adopt, job.parameters)
            made = await self._persistently(lambda: self._insert(job, run, who, key), timeout)
        except DatabaseUnavailable:
            raise  # the row may be there all the same; if it is not, the Sweeper comes
        except BaseException:
            await self.inThread(workDir.remove)
            raise
        if made != job.jobId:  # another request with the same key was faster
            await self.inThread(workDir.remove)
            return made
        if job.runId is not None:  # for those who look for it later (D-036)
            log.info("{jobId} has RUNID {runId!r}", jobId=job.jobId, runId=job.runId)
        return job.jobId

    async def _madeBefore(
        self, job: UWSJob, key: str | None, timeout: float | None = None
    ) -> str | None:
        """The id of the job that a key stands for, if it has been used."""
        if key is None:
            return None
        wanted = (job.record, checkKey(key))
        return await self._persistently(lambda: self.table.ofKey(*wanted), timeout)

    async def _insert(self, job: UWSJob, run: bool, who: str | None, key: str | None) -> str:
        """
        Store a new job, and with it what its key stands for; its id.

        If the key stands for another job by now, nothing is stored, and that one's id comes
        back.
        """
        if not run and key is None:
            await self._store(job, who)
            return job.jobId
        # Who comes with the same key at the same time waits until this one is made, or not.
        lockTimeout = None if key is None else self.lockTimeout
        async with self.database.transaction(lockTimeout) as t:
            if key is not None:
                first = await self.table.useKey(job.record, key, t)
                if first is not None:  # even this one: then the answer was lost before
                    return first
            record = await self._store(job, who, t)
            if run and record.phase is PENDING:
                await self._run(t, record, who)
        return job.jobId

    async def _store(
        self, job: UWSJob, who: str | None, conn: Transaction | None = None
    ) -> JobRecord:
        lifetimes = self.policy.lifetime, self.policy.longestLifetime
        record = await self.table.create(job.record, *lifetimes, conn, who)
        if record is None:
            raise BadRequest("DESTRUCTION: this instant has passed; give a later one")
        return record

    async def _persistently(
        self, action: Callable[[], Coroutine[Any, Any, T]], timeout: float | None
    ) -> T:
        """Do it, again while the database cannot be reached, for C{timeout} seconds."""
        reactor = self.database.reactor
        giveUpAt = reactor.seconds() + (self.creationTimeout if timeout is None else timeout)
        while True:
            try:
                return await action()
            except DatabaseUnavailable:
                if reactor.seconds() + 0.25 > giveUpAt:
                    raise
                await deferLater(reactor, 0.25)

    # Destroying

    @deferred
    async def destroy(self, jobId: str, who: str | None = None) -> None:
        """
        End a job's work, and remove its row and its directory (2.1.5).

        C{job.prepareForDestruction()} is called before, while the job is changeable; if it
        raises, nothing is destroyed.  For an archived job that has been done before.  The
        directory goes once its work has ended, or at once where there is none, in the
        background.

        @param who: asks for it, for the record.
        """
        await self._destroy(jobId, Told(who=who))

    async def _destroy(self, jobId: str, told: Told, seen: Row | None = None) -> bool:
        """
        Destroy a job, or archive it if it has expired and the policy says so; false if it is
        not as it was when it was chosen for that.

        @param told: what the record says, if the job has not expired.
        @param seen: its phase and destruction then.
        """
        async with self._locked(jobId) as (t, record, now):
            if seen and (seen["phase"], seen["destruction"]) != (record.phase, record.destruction):
                return False
            if record.phase is not ARCHIVED:
                job = self._jobOf(record, changeable=True)
                await maybeDeferred(job.prepareForDestruction)
            hasWork = await self.table.dequeue(jobId, t, removeDirectory=True)
            isExpired = seen and record.destruction and record.destruction <= now
            if isExpired and self.policy.archive and record.phase in _ARCHIVABLE:
                await self._archive(t, record, now)
            else:
                told = _EXPIRED if isExpired else told
                await self.table.delete(jobId, t, told, self.policy.keepHistory > 0)
        if not hasWork:
            self.removeDirectory(jobId)
        return True

    async def _archive(self, t: Transaction, record: JobRecord, now: datetime) -> None:
        """Keep the metadata of a job, until its destruction time comes again (U-092, U-093)."""
        if record.phase in IN_QUEUE:
            why = JobError(message="The job was stopped, for its destruction time had come.")
            await self.table.move(record, ABORTED, why, t)
        await self.table.move(record, ARCHIVED, None, t, _EXPIRED)
        until = now + timedelta(seconds=self.policy.archive)
        await self.table.change(record, replace(record, results=(), destruction=until), t)

    def removeDirectory(self, jobId: str) -> None:
        """Remove a job's directory in the background; a failure is logged."""
        removal = self.inThread(self.workDirs.forJob(jobId).remove)
        removal.addErrback(
            lambda f: log.failure("directory of {jobId} not removed", f, jobId=jobId)
        )
        self._removals.add(removal)
        removal.addBoth(lambda _: self._removals.discard(removal))

    @deferred
    async def directoriesRemoved(self) -> None:
        """Fires when no directory is being removed any more."""
        while self._removals:
            await shield(next(iter(self._removals)))

    @deferred
    async def cleanupJobsTable(
        self,
        includeFailed: bool = False,
        includeCompleted: bool = False,
        includeAll: bool = False,
        includeForgotten: bool = False,
        dryRun: bool = False,
        who: str | None = None,
    ) -> list[str]:
        """
        Destroy the expired jobs, or archive them for as long as the policy says (2.1.5), and
        return their ids.

        A job that cannot be destroyed is logged and passed over.

        @param includeFailed: also those in ERROR and ABORTED.
        @param includeCompleted: also those in COMPLETED.
        @param includeAll: also all others.
        @param includeForgotten: also those that have been PENDING for C{forgottenAfter}.
        @param dryRun: destroy nothing.
        @param who: asks for those that have not expired, for the record.
        """
        flags = {
            "includeFailed": includeFailed,
            "includeCompleted": includeCompleted,
            "includeAll": includeAll,
            "includeForgotten": includeForgotten,
            "forgottenAfter": self.forgottenAfter,
        }
        done = []
        async for row in self.table.toClean(self.name, flags):
            if dryRun or await self._destroyedQuietly(row, Told(who=who, why="A clean-up.")):
                done.append(row["job_id"])
        return done

    async def _destroyedQuietly(self, seen: Row, told: Told) -> bool:
        try:
            return await self._destroy(seen["job_id"], told, seen)
        except JobNotFound:
            return False
        except DatabaseUnavailable:
            raise
        except Exception:
            log.failure("{jobId} was not destroyed", jobId=seen["job_id"])
            return False

    @deferred
    async def forgetHistory(self) -> int:
        """
        Remove the records of jobs that were destroyed longer ago than the policy keeps them;
        of how many jobs.
        """
        batches = self.table.forgetHistory(self.name, self.policy.keepHistory)
        return sum([forgotten async for forgotten in batches])

    # For those who build on this

    def getURLForId(self, jobId: str, jobListURL: str | None = None) -> str:
        """
        The absolute URL of a job, without a slash at its end; to be overridden where jobs
        live elsewhere.

        @param jobListURL: the job list as the client knows it; the web floor supplies it.
        """
        base = jobListURL or self.jobListURL
        if base is None:
            raise ValueError(f"{self.name}: no jobListURL is known without a request")
        return f"{base.rstrip('/')}/{jobId}"
