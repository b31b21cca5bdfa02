"""
The Rescuer: finds the work of nodes that are gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws.chore import Chore
from twuws.database import Row
from twuws.dispatcher import Dispatcher
from twuws.errors import DatabaseUnavailable, JobNotFound, StaleAttempt
from twuws.jobs import JobError
from twuws.leases import LeaseFile

log = Logger()


class Rescuer(Chore):
    """
    Finds the work of nodes that are gone: watches on what still runs on this host, records
    what has ended, and settles what is lost.

    Until it has done so once the dispatcher takes nothing: what is found fills its slots.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(dispatcher.reactor)
        self._dispatcher = dispatcher
        dispatcher.holdsBack = True  # also if it is started first
        self._node = dispatcher.node
        self.interval = min(30.0, self._node.settings.lease / 4)
        self._services = dispatcher.services
        self._turn = DeferredLock()
        # What was found, taken over where it is on this host, and not yet settled.
        self._lost: dict[tuple[str, int], Row] = {}

    def startService(self) -> None:
        self._dispatcher.holdsBack = True
        super().startService()

    async def runOnce(self) -> None:
        await self._turn.acquire()
        try:
            await self._runOnce()
        finally:
            self._turn.release()

    async def _runOnce(self) -> None:
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
            if self._dispatcher.isDraining and row["node"] != self._node.name:
                continue  # it would only be left again
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
        await self._forgetNodes()

    async def _forgetNodes(self) -> None:
        """Remove what is left of nodes that are gone and have left no work behind."""
        gone = await self._node.forgetNodes()
        for root, uws in {uws.workDirs.root: uws for uws in self._services.values()}.items():
            for name in gone:
                await uws.inThread(LeaseFile(root, name).remove)

    async def _rescue(self, row: Row) -> None:
        uws = self._services[row["service"]]
        record = (await uws.getJob(row["job_id"])).record
        if record.attempt != row["attempt"]:
            raise StaleAttempt
        here = row["host"] == self._node.host
        if await self._dispatcher.attempts.adopt(record, row["ref"], here):
            log.info("{jobId}: found again", jobId=record.jobId)
            self._node.counters.takeovers.labels(record.service).inc()
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
        await uws.recordLoss(
            record.jobId,
            record.attempt,
            error,
            ended=here,
            again=neverBegun,
            node=row["node"],
            unless=None if here else partial(self._node.isBack, row),
        )
