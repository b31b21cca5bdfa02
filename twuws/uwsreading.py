"""
Reading jobs, and waiting for them: the part of the facade that changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from twuws.database import Database, Row, Transaction, shield
from twuws.errors import JobNotFound
from twuws.grouped import Grouped
from twuws.jobs import JobRecord, JobRef, UWSJob
from twuws.jobstable import JobEvent, JobsTable, ListFilters, eventFromRow
from twuws.names import isSafeName
from twuws.phases import ACTIVE, FINAL, IN_QUEUE, Phase
from twuws.phasewatcher import PhaseWatcher
from twuws.quoter import Quoter
from twuws.workdir import WorkDirs

P = ParamSpec("P")
T = TypeVar("T")


def deferred(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Deferred[T]]:
    """
    Make a facade method of a coroutine: it returns a Deferred, and what it began it ends.

    Cancelling the Deferred gives up waiting only, so that a client that hangs up leaves
    nothing half done.
    """

    @wraps(method)
    def facade(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return shield(Deferred.fromCoroutine(method(*args, **kwargs)))

    return facade


class ReadableJobs:
    """
    The jobs of one service, to look at.  See L{twuws.uws.UWS}.
    """

    #: The longest WAIT, s (2.2.1.2; what TCP connections bear).
    longestWait: float = 60
    #: Who knows when jobs will be complete; C{JobServices} sees to that.
    quoter: Quoter | None = None

    def __init__(
        self,
        jobClass: type[UWSJob],
        database: Database,
        directory: str | Path,
        name: str,
        watcher: PhaseWatcher | None,
    ) -> None:
        if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
            raise ValueError(f"{name!r} cannot name a service: use a-z, 0-9, _ and -")
        self.jobClass = jobClass
        self.database = database
        self.name = name
        self.table = JobsTable(database)
        self.workDirs = WorkDirs(directory)
        self.watcher = watcher or PhaseWatcher(database)
        # Some wait for each other instead of for a connection: a statement for each of a
        # thousand who are woken at a time takes ten times as long.
        self._reads = Grouped(partial(self.table.some, name), database.reactor, most=32)
        # Those that have much take some ten times that in memory, each.
        self._largeReads = DeferredSemaphore(2)
        # A turn in a thread for each takes as long as all else that it is to begin a job.
        self._turns: Grouped[Callable[[], Any], Any] = Grouped(
            partial(self.inThread, _doAll), database.reactor, most=16
        )

    def getJob(self, jobId: str) -> Deferred[UWSJob]:
        """
        The job, read-only, never blocked by a lock; raise L{JobNotFound} if there is none.
        """
        return Deferred.fromCoroutine(self._job(jobId))

    async def _job(self, jobId: str) -> UWSJob:
        return self._jobOf(await self._read(jobId))

    def quoted(self, job: UWSJob) -> Deferred[UWSJob]:
        """
        The same job with the quote that it has now (2.1.6, A-46): the one that it was given,
        or else an estimate, or C{None} while there is nothing to go by.

        Never fails; at most it asks the database once.
        """
        if self.quoter is None or job.quote is not None or job.phase in FINAL:
            return succeed(job)
        return shield(Deferred.fromCoroutine(self._quoted(job, self.quoter)))

    async def _quoted(self, job: UWSJob, quoter: Quoter) -> UWSJob:
        return self._jobOf(replace(job.record, quote=await quoter.quote(job.record)))

    def quoteAtEnd(self, record: JobRecord) -> datetime | None:
        """What a job that ends keeps for those who compare, if its work had begun."""
        hasBegun = record.phase in IN_QUEUE and record.startTime is not None
        return self.quoter.expected(record) if self.quoter is not None and hasBegun else None

    @deferred
    async def history(self, jobId: str) -> list[JobEvent]:
        """
        All changes of a job's phase, in order, also of one that was destroyed, as long as they
        are kept.

        @raise JobNotFound: if nothing is known of such a job.
        """
        rows = await self.table.run("history", self._key(jobId))
        if not rows:
            await self._read(jobId)  # it may be older than the records
        return [eventFromRow(row) for row in rows]

    async def _read(self, jobId: str) -> JobRecord:
        key = self._key(jobId)
        record = await self._reads.do(jobId)
        if record is None:
            await self._largeReads.acquire()
            record = await shield(Deferred.fromCoroutine(self._readLarge(key)))
        if record is None:
            raise JobNotFound(jobId)
        return record

    async def _readLarge(self, key: dict[str, str]) -> JobRecord | None:
        """The statement goes on if nobody waits for it any more: until then it has its place."""
        try:
            return await self.table.one("getJob", key)
        finally:
            self._largeReads.release()

    def wait(
        self, jobId: str, seconds: float = -1, phases: frozenset[Phase] | None = None
    ) -> Deferred[UWSJob]:
        """
        The job as it is once its phase changes, or after some seconds (2.2.1.2).

        Cancelling the Deferred ends the wait.

        @param seconds: -1 for as long as the service allows, C{longestWait}.
        @param phases: wait only if the phase is one of these; C{None} for any active one.
        @raise JobNotFound: if there is no such job, or it is destroyed meanwhile.
        """
        longest = self.longestWait if seconds < 0 else min(seconds, self.longestWait)
        awaited = ACTIVE & (phases or ACTIVE)
        seen: set[Phase] = set()

        def isTheSame(job: UWSJob) -> bool:
            seen.add(job.phase)
            return len(seen) == 1 and job.phase in awaited

        return Deferred.fromCoroutine(self._while(isTheSame, jobId, longest))

    def untilEnded(self, jobId: str, seconds: float) -> Deferred[UWSJob]:
        """
        The job once it has ended, or as it is after some seconds, or when the service stops.

        Cancelling the Deferred ends the wait.

        @raise JobNotFound: if there is no such job, or it is destroyed meanwhile.
        """
        waiting = self._while(lambda job: job.phase not in FINAL, jobId, seconds)
        return Deferred.fromCoroutine(waiting)

    async def _while(
        self, condition: Callable[[UWSJob], bool], jobId: str, seconds: float
    ) -> UWSJob:
        """Wait while a condition holds for a job, and there is somebody who tells of changes."""
        reactor = self.database.reactor
        giveUpAt = reactor.seconds() + seconds
        while True:
            changed = self.watcher.changed(jobId)  # before looking, lest it be missed
            try:
                job = await self.getJob(jobId)
                left = giveUpAt - reactor.seconds()
                if not condition(job) or left <= 0 or not self.watcher.running:
                    return job
                del job  # who waits need not keep it: 1.7 kB each
                await changed.addTimeout(left, reactor)
            except TimeoutError:
                pass
            finally:
                if not changed.called:
                    changed.addErrback(lambda _: None)
                    changed.cancel()

    def getIdsAndPhases(
        self,
        owner: str | None = None,
        phase: Phase | str | Iterable[Phase | str] | None = None,
        last: int | None = None,
        after: datetime | None = None,
    ) -> Deferred[list[tuple[str, Phase]]]:
        """
        Ids and phases of jobs, newest first (2.2.2.1).

        @param owner: only this one's jobs; C{None} for everybody's.
        @param phase: only jobs in this phase, or in one of these; C{None} for all but ARCHIVED.
        @param last: only so many, the newest; C{None} for all.
        @param after: only jobs created later than this.
        """
        some = [phase] if isinstance(phase, str) else phase or ()
        filters = ListFilters(phases=tuple(Phase(p) for p in some), after=after, last=last)

        async def collect() -> list[tuple[str, Phase]]:
            pages = self.pagesOfJobs(filters, owner, anyOwner=owner is None)
            return [(ref.jobId, ref.phase) async for page in pages for ref in page]

        return shield(Deferred.fromCoroutine(collect()))

    async def pagesOfJobs(
        self,
        filters: ListFilters,
        owner: str | None = None,
        anyOwner: bool = True,
        pageSize: int = 1000,
    ) -> AsyncIterator[list[JobRef]]:
        """
        The job list in pages, each a read of its own, so that no transaction waits for
        whoever reads slowly.
        """
        before: tuple[Any, str] = ("infinity", "")
        left = filters.last
        while left is None or left > 0:
            limit = pageSize if left is None else min(left, pageSize)
            page = await self.table.page(self.name, filters, owner, anyOwner, limit, before)
            yield page
            if len(page) < limit:
                return
            before = (page[-1].creationTime, page[-1].jobId)
            left = None if left is None else left - len(page)

    def runCanned(
        self, statementId: str, args: Any = None, conn: Transaction | None = None
    ) -> Deferred[list[Row]]:
        """
        Run one of L{twuws.statements.STATEMENTS} and return its rows as dictionaries.

        @param conn: a transaction to run it in; C{None} for one of its own.
        """
        return self.table.run(statementId, args, conn)

    def _key(self, jobId: str) -> dict[str, str]:
        """What names a job in statements; raise L{JobNotFound} for what can be no job's id."""
        if not isSafeName(jobId):
            raise JobNotFound(jobId)
        return {"jobId": jobId, "service": self.name}

    def _jobOf(self, record: JobRecord, changeable: bool = False) -> UWSJob:
        return self.jobClass(record, changeable=changeable)

    def inThread(self, action: Callable[..., T], *args: Any) -> Deferred[T]:
        """Do what blocks in a thread."""
        reactor = self.database.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), action, *args)

    async def inSharedThread(self, action: Callable[..., T], *args: Any) -> T:
        """
        Do what blocks for a moment in a thread, in turn with what others want done just now.
        """
        done: T | Failure = await self._turns.do(partial(action, *args))
        if isinstance(done, Failure):
            done.raiseException()
        return done


def _doAll(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do some things; what each returns, or how it has failed.  Blocks."""
    results: list[Any] = []
    for action in actions:
        try:
            results.append(action())
        except Exception:
            results.append(Failure())
    return results
