"""
The facade: every rule about jobs is here, and holds whoever asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws.accounts import NO_LIMITS, AccountLimits
from twuws.database import Database, LockTimeout
from twuws.errors import (
    ConfigError,
    DatabaseUnavailable,
)
from twuws.grouped import Grouped
from twuws.hostusers import HostUser
from twuws.interfaces import WorkLimits
from twuws.jobs import JobRecord, UWSJob
from twuws.jobstable import NewJob
from twuws.phases import (
    PENDING,
)
from twuws.phasewatcher import PhaseWatcher
from twuws.policy import FetchPolicy, Policy
from twuws.sharing import Shares
from twuws.submission import FilesToAdopt, checkAmount
from twuws.uwschanging import checkKey, checkRunId
from twuws.uwsdestroying import DestroyableJobs
from twuws.uwsreading import deferred

T = TypeVar("T")
log = Logger()

#: What a new job can be given, beside parameters.
_INITIAL = frozenset(
    {"owner", "runId", "executionDuration", "destruction", "quote", "jobInfo", "isListed"}
)


class By(NamedTuple):
    """Who asks for a job, for the record, and where that comes from, for the limits."""

    who: str | None
    client: str | None


class UWS(DestroyableJobs):
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
    @param accountLimits: what an owner, or a client that is none, can have, at all services that
        share the database; any number if not given.
    @param user: as whom the work is done; only a service that is root can choose, and not for
        what happens within itself.
    @raise ConfigError: for such work.
    @ivar shares: the tokens by which its jobs are shared.
    @ivar leaving: why this process takes no jobs any more, if it is about to leave.
    """

    #: How often expired jobs are removed, s.
    cleanupInterval: float = 12 * 3600
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
        accountLimits: AccountLimits = NO_LIMITS,
        user: HostUser | None = None,
    ) -> None:
        super().__init__(jobClass, database, directory, name, watcher, policy)
        if user is not None and iscoroutinefunction(getattr(jobClass, "run", None)):
            within = f"{jobClass.__name__}.run is async, and so happens within the service"
            raise ConfigError([f"{name}: {within}, which cannot be {user.name!r} for it"])
        self.jobActions = jobActions
        self.jobListURL = jobListURL
        self.limits = limits or WorkLimits()
        self.environment = dict(environment or {})
        if cleanupInterval is not None:
            self.cleanupInterval = cleanupInterval
        if fetchPolicy is not None:
            self.fetchPolicy = fetchPolicy
        self.priority = jobClass.priority if priority is None else priority
        self.accountLimits = accountLimits
        self.user = user
        self.shares = Shares(self.table, name)
        self.leaving: str | None = None

    # Creating

    @deferred
    async def getNewJobId(
        self,
        timeout: float | None = None,
        *,
        who: str | None = None,
        client: str | None = None,
        idempotencyKey: str | None = None,
        **properties: Any,
    ) -> str:
        """
        Create a PENDING job and return its id.

        @param timeout: how long to try for the database, s.
        @param who: asks for it, for the record.
        @param client: where that comes from; a job without an owner counts for this, and
            without either it is bound to no limits.
        @param idempotencyKey: names the wish: if the owner, or the client if there is none, has
            had a job made with the same key in the last 24 hours, that one's id comes back, even
            if it has been destroyed since, and nothing else is done.
        @param properties: any of C{owner}, C{runId}, C{executionDuration}, C{destruction},
            C{quote}, C{jobInfo}, and C{parameters}, a dictionary of names and values.
        @raise ParameterError: for a value that its declaration refuses; no job is made.
        @raise BadRequest: for a destruction time in the past; no job is made.
        @raise Forbidden: C{TooMany} or C{TooLarge}, too, beyond what the account can have.
        """
        job = self._draft(properties)
        if (first := await self._madeBefore(job, idempotencyKey, client, timeout)) is not None:
            return first
        return await self._create(job, timeout, By(who, client), key=idempotencyKey)

    @deferred
    async def getNewIdFromRequest(
        self,
        request: Any,
        run: bool = False,
        *,
        who: str | None = None,
        client: str | None = None,
        idempotencyKey: str | None = None,
        **properties: Any,
    ) -> str:
        """
        Create a job from C{request.args} and C{request.files}, and return its id.

        C{setParamsFromRequest(job, request)} is called with the new job, before anybody
        can see it; on any error there, no job is left behind.

        @param run: queue it at once, as L{run} does; it is created queued, or not at all.
        @param who: asks for it, for the record.
        @param client: as for C{getNewJobId}.
        @param idempotencyKey: as for C{getNewJobId}.
        @param properties: as for C{getNewJobId}.
        """
        job = self._draft(properties)
        if (first := await self._madeBefore(job, idempotencyKey, client)) is not None:
            return first
        files = self._filesOf(job, request)
        await maybeDeferred(self.setParamsFromRequest, job, request)
        checkAmount(job.parameters, self.mostValues, self.mostText)
        by = By(who, client)
        return await self._create(job, self.requestTimeout, by, files, run, idempotencyKey)

    @deferred
    async def checkRoom(
        self, owner: str | None, client: str | None, isToRun: bool = False
    ) -> int | None:
        """
        See that somebody can have one more job now, before more is known of it; how many bytes
        they store, C{None} if no limits hold for them.

        @param isToRun: it is to be queued as well.
        @raise Forbidden: C{TooMany} or C{TooLarge}, too, if they cannot.
        """
        room = await self._rooms.do((owner, client, isToRun))
        if isinstance(room, Exception):
            raise room.with_traceback(None)  # which may be told to many
        return room

    @cached_property
    def _rooms(self) -> Grouped[tuple[str | None, str | None, bool], int | Exception | None]:
        return Grouped(self._findRooms, self.database.reactor, most=1000)

    async def _findRooms(
        self, asked: Sequence[tuple[str | None, str | None, bool]]
    ) -> list[int | Exception | None]:
        """Each once, however many large uploads of one account begin at a time."""
        found: dict[tuple[str | None, str | None, bool], int | Exception | None] = {}
        for owner, client, isToRun in dict.fromkeys(asked):
            try:
                room = await self.table.checkRoom(owner, client, self.accountLimits, isToRun)
            except Exception as e:
                found[owner, client, isToRun] = e
            else:
                found[owner, client, isToRun] = room
        return [found[one] for one in asked]

    @deferred
    async def storedBeside(self, jobId: str) -> int | None:
        """How many bytes the account of a job stores, but for this one; C{None} if it has none."""
        (row,) = await self.table.run("storedBeside", {"jobId": jobId}) or [{"stored": None}]
        return None if row["stored"] is None else int(row["stored"])

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
            executionDuration=self.policy.of(job.owner).duration(
                properties.get("executionDuration")
            ),
        )
        return job

    async def _create(
        self,
        job: UWSJob,
        timeout: float | None,
        by: By,
        files: FilesToAdopt | None = None,
        run: bool = False,
        key: str | None = None,
    ) -> str:
        workDir = self.workDirs.forJob(job.jobId)
        inDoubt = False

        def place() -> None:
            workDir.create()
            if files is not None:
                files.adopt(job.parameters)

        async def insert() -> str:
            nonlocal inDoubt
            try:
                return await self._insert(job, run, by, key)
            except DatabaseUnavailable as e:
                inDoubt = inDoubt or not isinstance(e, LockTimeout)
                raise

        try:
            await self.storing(self.inThread(place) if files else self.inSharedThread(place))
            made = await self._persistently(insert, timeout)
        except BaseException:
            if inDoubt:  # the row may be there all the same; if it is not, the Sweeper comes
                raise
            await self.inThread(workDir.remove)
            raise
        if made != job.jobId:  # another request with the same key was faster
            await self.inThread(workDir.remove)
            return made
        if job.runId is not None:  # for those who look for it later (D-036)
            log.info("{jobId} has RUNID {runId!r}", jobId=job.jobId, runId=job.runId)
        return job.jobId

    async def _madeBefore(
        self, job: UWSJob, key: str | None, client: str | None, timeout: float | None = None
    ) -> str | None:
        """The id of the job that a key stands for, if it has been used."""
        if key is None:
            return None
        wanted = (job.record, checkKey(key), client)
        return await self._persistently(lambda: self.table.ofKey(*wanted), timeout)

    async def _insert(self, job: UWSJob, run: bool, by: By, key: str | None) -> str:
        """
        Store a new job, and with it what its key stands for; its id.

        If the key stands for another job by now, nothing is stored, and that one's id comes
        back.
        """
        new = self._new(job, by)
        if not run and key is None:
            try:
                error = await self._making.do(new)
            except LockTimeout:  # for somebody's account, for which the others need not wait
                (error,) = await self.table.makeSome([new], isPatient=True)
            if error is not None:
                raise error
            return job.jobId
        # Who comes with the same key at the same time waits until this one is made, or not.
        lockTimeout = None if key is None else self.lockTimeout
        async with self.database.transaction(lockTimeout) as t:
            if key is not None:
                first = await self.table.useKey(job.record, key, by.client, t)
                if first is not None:  # even this one: then the answer was lost before
                    return first
            record = await self.table.make(new, t)
            if run and record.phase is PENDING:
                await self._run(t, record, by.who)
        return job.jobId

    @cached_property
    def _making(self) -> Grouped[NewJob, Exception | None]:
        # A statement for each takes as long as all else that PostgreSQL has to do for it.
        return Grouped(self.table.makeSome, self.database.reactor, most=16)

    def _new(self, job: UWSJob, by: By) -> NewJob:
        policy = self.policy.of(job.owner)
        return NewJob(
            job=job.record,
            lifetime=policy.lifetime,
            longestLifetime=policy.longestLifetime,
            who=by.who,
            client=by.client,
            limits=self.accountLimits,
        )

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
