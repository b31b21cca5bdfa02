"""
Small services that keep the jobs moving: each has an interval, and a C{runOnce}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws.chore import Chore
from twuws.errors import Unavailable, UWSError
from twuws.jobstable import JobsTable
from twuws.node import Node
from twuws.quoter import Quoter
from twuws.sweeping import MINIMUM_AGE, leftovers
from twuws.uws import UWS

log = Logger()

#: How many heartbeats there are in a lease.
BEATS = 12


class Heartbeat(Chore):
    """
    Renews the lease of a node; while the database is away it tries more often.

    @param beaten: called after each time.
    """

    def __init__(
        self, node: Node, reactor: Any, beaten: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(reactor)
        self._node = node
        self._reactor = reactor
        self._beaten = beaten
        self.interval = node.settings.lease / BEATS

    async def runOnce(self) -> None:
        wait = min(1.0, self.interval)
        while self.running:
            beating = Deferred.fromCoroutine(self._node.beat())
            try:
                # Not longer: on another connection it may be answered.
                await beating.addTimeout(self._node.settings.lease / 4, self._reactor)
                self._beaten()
                return
            except (Unavailable, TimeoutError) as e:
                self._node.counters.leaseRenewalFailures.inc()
                why = e if isinstance(e, Unavailable) else "There is no answer yet."
                log.warn("{node} has not renewed its lease: {why}", node=self._node.name, why=why)
                await deferLater(self._reactor, wait)


class LeaseGuard(Chore):
    """Has all work of a node ended whose lease has run out, for others may do it then."""

    def __init__(self, node: Node, reactor: Any) -> None:
        super().__init__(reactor)
        self._node = node
        self.interval = min(1.0, node.settings.lease / BEATS)

    async def runOnce(self) -> None:
        await self._node.checkLease()


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


class Forgetter(Chore):
    """Removes the records of jobs that were destroyed, once their time is over."""

    interval = 600

    def __init__(self, services: Sequence[UWS]) -> None:
        super().__init__(services[0].database.reactor)
        self._services = services

    async def runOnce(self) -> None:
        for uws in self._services:
            forgotten = await uws.forgetHistory()
            if forgotten:
                log.info("{service}: the records of {n} destroyed jobs removed",
                         service=uws.name, n=forgotten)  # fmt: skip


class Learner(Chore):
    """Keeps what quotes are made of up to date: how long the last jobs took."""

    interval = 10

    def __init__(self, services: Sequence[UWS], quoter: Quoter) -> None:
        super().__init__(services[0].database.reactor)
        self._watchers = {id(uws.watcher): uws.watcher for uws in services}.values()
        self._quoter = quoter

    def startService(self) -> None:
        for watcher in self._watchers:
            watcher.observers.append(self._heard)
        super().startService()

    async def stopService(self) -> None:
        for watcher in self._watchers:
            watcher.observers.remove(self._heard)
        await super().stopService()

    def _heard(self, jobId: str | None, phase: str | None, service: str | None) -> None:
        if self._quoter.heard(jobId, phase, service):
            self.now()

    async def runOnce(self) -> None:
        await self._quoter.learn()


class KeyForgetter(Chore):
    """
    Forgets the idempotency keys that are too old to stand for a job, and the tokens that are not
    good any more, some at a time.
    """

    interval = 3600
    batch = 1000

    def __init__(self, table: JobsTable) -> None:
        super().__init__(table.database.reactor)
        self._table = table

    async def runOnce(self) -> None:
        for statement in ("forgetKeys", "forgetTokens"):
            while len(await self._table.run(statement, {"limit": self.batch})) == self.batch:
                pass


class Sweeper(Chore):
    """
    Removes directories that no job has, and uploads that never came to a job: what a crash
    leaves that comes between a directory and its row.

    If the database knows none of the directories it is probably another one, and none is
    removed.
    """

    interval = 3600
    minimumAge = MINIMUM_AGE

    def __init__(self, services: Sequence[UWS]) -> None:
        super().__init__(services[0].database.reactor)
        self._services = services

    async def runOnce(self) -> None:
        for left in await leftovers(self._services, self.minimumAge):
            if left.isForeign:
                log.warn("{root}: the database knows none of its directories; is it the right"
                         " one?", root=left.root)  # fmt: skip
            await left.remove()
            if left.jobIds:
                log.info("{n} directories without a job removed", n=len(left.jobIds))
