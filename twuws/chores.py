"""
Small services that keep the jobs moving: each has an interval, and a C{runOnce}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws import schema
from twuws.database import Row, shield
from twuws.dispatcher import Dispatcher
from twuws.errors import (
    DatabaseUnavailable,
    JobNotFound,
    SchemaMismatch,
    StaleAttempt,
    UWSError,
)
from twuws.jobs import JobError
from twuws.jobstable import JobsTable
from twuws.node import Node
from twuws.uws import UWS

log = Logger()


class Chore(Service):
    """
    Does C{runOnce} at its start and then every C{interval} seconds.

    What goes wrong is logged, and done again the next time.
    """

    interval: float = 60

    def __init__(self, reactor: Any) -> None:
        self._loop = LoopingCall(self._runQuietly)
        self._loop.clock = reactor
        self._ended: Deferred[Any] = succeed(None)

    def startService(self) -> None:
        super().startService()
        self._ended = self._loop.start(self.interval)

    async def stopService(self) -> None:
        """Wait for a run that is under way."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        await shield(self._ended)

    async def _runQuietly(self) -> None:
        try:
            await self.runOnce()
        except DatabaseUnavailable as e:
            log.warn("{chore}: {e}", chore=type(self).__name__, e=e)
        except Exception:
            log.failure("{chore}", chore=type(self).__name__)

    async def runOnce(self) -> None:
        """Do it, once."""
        raise NotImplementedError


class Heartbeat(Chore):
    """Renews the lease of a node."""

    interval = 10

    def __init__(self, node: Node, reactor: Any) -> None:
        super().__init__(reactor)
        self._node = node

    async def runOnce(self) -> None:
        await self._node.beat()


class Deadlines(Chore):
    """Stops jobs that have run for longer than they may; then they are ABORTED (A-08)."""

    interval = 1

    def __init__(self, services: Sequence[UWS], reactor: Any) -> None:
        super().__init__(reactor)
        self._services = {uws.name: uws for uws in services}
        self._table = services[0].table

    async def runOnce(self) -> None:
        rows = await self._table.run("overdueJobs", {"services": list(self._services)})
        for row in rows:
            try:
                if await self._services[row["service"]].abortOverdue(row["job_id"]):
                    log.info("{jobId} ran for longer than it may", jobId=row["job_id"])
            except UWSError as e:  # somebody else has it just now
                log.info("{jobId}, which is overdue: {e}", jobId=row["job_id"], e=e)


class Reaper(Chore):
    """Destroys the expired jobs of one service, every C{uws.cleanupInterval} seconds."""

    def __init__(self, uws: UWS) -> None:
        super().__init__(uws.database.reactor)
        self._uws = uws
        self.interval = uws.cleanupInterval

    async def runOnce(self) -> None:
        destroyed = await self._uws.cleanupJobsTable()
        if destroyed:
            log.info("{service}: {n} expired jobs destroyed or archived",
                     service=self._uws.name, n=len(destroyed))  # fmt: skip

    async def stopService(self) -> None:
        """Wait for directories that are being removed, too."""
        await super().stopService()
        await self._uws.directoriesRemoved()


class Sweeper(Chore):
    """
    Removes directories that no job has, and uploads that never came to a job: what a crash
    leaves that comes between a directory and its row.

    If the database knows none of the directories it is probably another one, and nothing is
    removed.
    """

    interval = 3600

    #: How old, in s, what nobody knows must be; a job's directory is there before its row.
    minimumAge = 86400.0

    def __init__(self, services: Sequence[UWS]) -> None:
        super().__init__(services[0].database.reactor)
        self._services = {uws.workDirs.root: uws for uws in services}

    async def runOnce(self) -> None:
        for uws in self._services.values():
            orphans = await self._orphans(uws)
            for jobId in orphans:
                uws.removeDirectory(jobId)
            await uws.directoriesRemoved()
            if orphans:
                log.info("{n} directories without a job removed", n=len(orphans))

    async def _orphans(self, uws: UWS) -> list[str]:
        old = await uws.inThread(uws.workDirs.olderThan, self.minimumAge)
        known: set[str] = set()
        for start in range(0, len(old), 1000):
            some = {"jobIds": old[start : start + 1000]}
            known.update(row["job_id"] for row in await uws.table.run("jobsKnown", some))
        if old and not known:
            root = uws.workDirs.root
            log.warn("{root}: the database knows none of its directories; is it the right one?",
                     root=root)  # fmt: skip
            return []
        return [jobId for jobId in old if jobId not in known]


class Rescuer(Chore):
    """
    Finds the work of nodes that are gone: watches on what still runs on this host, records
    what has ended, and settles what is lost.

    Until it has done so once the dispatcher takes nothing: what is found fills its slots.
    """

    interval = 30

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher.reactor)
        self._dispatcher = dispatcher
        self._node = dispatcher.node
        self._services = dispatcher.services
        # What was found, taken over where it is on this host, and not yet settled.
        self._lost: dict[tuple[str, int], Row] = {}

    def startService(self) -> None:
        self._dispatcher.holdsBack = True
        super().startService()

    async def runOnce(self) -> None:
        try:
            await self._untilThere(self._rescueAll)
        except DatabaseUnavailable:
            raise
        except Exception:
            self._letGo()
            raise
        self._letGo()

    async def _untilThere(self, action: Callable[[], Awaitable[None]]) -> None:
        """Do it; as long as the dispatcher depends on it, until the database is there."""
        while True:
            try:
                return await action()
            except DatabaseUnavailable as e:
                if not (self._dispatcher.holdsBack and self.running):
                    raise
                log.warn("no jobs are taken: {e}", e=e)
                await deferLater(self._dispatcher.reactor, 1)

    def _letGo(self) -> None:
        if self._dispatcher.holdsBack:
            self._dispatcher.holdsBack = False
            self._dispatcher.look()

    async def _rescueAll(self) -> None:
        await self._node.lookForGoneNodes()
        for row in await self._node.lostWork():
            if self._dispatcher.knows(row["job_id"], row["attempt"]):
                continue
            # What is on another host can be neither watched nor ended from here.
            if row["host"] != self._node.host or await self._node.takeOver(row):
                self._lost[row["job_id"], row["attempt"]] = row
        for key, row in list(self._lost.items()):
            try:
                await self._rescue(row)
            except (StaleAttempt, JobNotFound):  # it was ended or destroyed meanwhile
                pass
            except DatabaseUnavailable:
                raise
            except Exception:
                log.failure("{jobId} is still to be rescued", jobId=row["job_id"])
                continue
            del self._lost[key]
        if self._node.goneNodes:
            self._dispatcher.look()  # they may have left something to be stopped
        await self._node.forgetNodes()

    async def _rescue(self, row: Row) -> None:
        uws = self._services[row["service"]]
        record = (await uws.getJob(row["job_id"])).record
        if record.attempt != row["attempt"]:
            raise StaleAttempt
        here = row["host"] == self._node.host
        if await self._dispatcher.adopt(record, row["ref"], here):
            log.info("{jobId}: found again", jobId=record.jobId)
            return
        log.warn("{jobId}: its work is lost", jobId=record.jobId)
        host = row["host"].partition("/")[0]
        why = (
            f"The job's work was lost, because the process that ran it on {host} ended."
            " Run it again as a new job."
        )
        error = JobError(message=why, type="transient")
        # Without a reference the work has never begun; but it may be what ends its nodes.
        neverBegun = row["ref"] is None and record.attempt < 3
        again = neverBegun or uws.jobClass.restartable
        await uws.recordLoss(record.jobId, record.attempt, error, ended=here, again=again)


class JobServices(MultiService):
    """
    All that moves jobs by itself, for one process and any number of services.

    It begins by preparing the schema, and waits for the database if it must.  Stop it
    before the database.

    @param slots: how many jobs this process runs at a time; 0 for none.
    """

    def __init__(self, services: Iterable[UWS], slots: int = 2) -> None:
        super().__init__()
        jobServices = list(services)
        self._database = database = jobServices[0].database
        self._starting: Deferred[None] = succeed(None)
        self.node = Node(JobsTable(database), [uws.name for uws in jobServices], slots)
        self.dispatcher = Dispatcher(jobServices, self.node)
        chores: list[Service] = [
            *{id(uws.watcher): uws.watcher for uws in jobServices}.values(),
            Heartbeat(self.node, database.reactor),
            self.dispatcher,
            Rescuer(self.dispatcher),
            Deadlines(jobServices, database.reactor),
            *(Reaper(uws) for uws in jobServices),
            Sweeper(jobServices),
        ]
        for chore in chores:
            chore.setServiceParent(self)

    def startService(self) -> None:
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._notStarted)

    async def _start(self) -> None:
        while True:
            try:
                await schema.prepare(self._database)
                break
            except DatabaseUnavailable as e:
                log.warn("waiting for the database: {e}", e=e)
                await deferLater(self._database.reactor, 1)
        super().startService()

    def _notStarted(self, failure: Failure) -> None:
        if failure.check(SchemaMismatch):
            log.error("no jobs are run: {e}", e=failure.value)
        elif not failure.check(CancelledError):
            log.failure("no jobs are run", failure)

    async def stopService(self) -> None:
        """Stop everything; work in processes of its own goes on."""
        self._starting.cancel()
        await shield(self._starting)
        if not self.running:
            return
        await super().stopService()
        try:
            await self.node.leave()
        except DatabaseUnavailable as e:
            log.warn("the database did not hear of the stop: {e}", e=e)
