"""
All that moves jobs by itself, as one service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws import schema
from twuws.chores import Deadlines, Heartbeat, KeyForgetter, LeaseGuard, Reaper, Sweeper
from twuws.database import shield
from twuws.dispatcher import Dispatcher
from twuws.errors import DatabaseUnavailable, SchemaMismatch, UWSError
from twuws.jobs import JobError
from twuws.jobstable import JobsTable, Told
from twuws.node import Node, NodeSettings
from twuws.rescuer import Rescuer
from twuws.uws import UWS

log = Logger()


class JobServices(MultiService):
    """
    All that moves jobs by itself, for one process and any number of services.

    It begins by preparing the schema, and waits for the database if it must.  Stop it
    before the database.

    @param slots: how many jobs this process runs at a time; 0 for none.
    @param settings: of this process as a node.
    @param whenDrained: called when somebody elsewhere has asked this node to leave, and it
        has done what there was to do.
    """

    def __init__(
        self,
        services: Iterable[UWS],
        slots: int = 2,
        settings: NodeSettings | None = None,
        whenDrained: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self._services = list(services)
        self._database = database = self._services[0].database
        self._whenDrained = whenDrained
        self._starting: Deferred[None] = succeed(None)
        self._draining: Deferred[None] | None = None
        roots = {uws.workDirs.root for uws in self._services}
        names = [uws.name for uws in self._services]
        self.node = Node(JobsTable(database), names, slots, settings, roots)
        self.dispatcher = Dispatcher(self._services, self.node)
        self.node.onLapse = self.dispatcher.attempts.lapse
        self._heartbeat = Heartbeat(self.node, database.reactor, self._beaten)
        chores: list[Service] = [
            *{id(uws.watcher): uws.watcher for uws in self._services}.values(),
            self._heartbeat,
            LeaseGuard(self.node, database.reactor),
            self.dispatcher,
            Rescuer(self.dispatcher),
            Deadlines(self._services, database.reactor),
            *(Reaper(uws) for uws in self._services),
            Sweeper(self._services),
            KeyForgetter(self.node.table),
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
        for uws in self._services:
            uws.leaving = None
            if self._heard not in uws.watcher.observers:
                uws.watcher.observers.append(self._heard)
        super().startService()

    def _notStarted(self, failure: Failure) -> None:
        if failure.check(SchemaMismatch):
            log.error("no jobs are run: {e}", e=failure.value)
        elif not failure.check(CancelledError):
            log.failure("no jobs are run", failure)

    # Leaving

    def _heard(self, jobId: str | None, phase: str | None, service: str | None) -> None:
        """Somebody elsewhere may have asked this node to leave; see L{PhaseWatcher}."""
        if phase == "draining" and jobId == self.node.name:
            self._heartbeat.now()

    def _beaten(self) -> None:
        if self.node.draining is not None and self._draining is None and self.running:
            log.info("{node} was asked to leave ({how})", node=self.node.name,
                     how=self.node.draining)  # fmt: skip
            drained: Deferred[Any] = self.drain(self.node.draining)
            drained.addCallbacks(lambda _: self._whenDrained(), lambda f: log.failure("leaving", f))

    def drain(self, how: str | None = None) -> Deferred[None]:
        """
        Take nothing new, and let the jobs that run here end as they are to; fires when they
        have, or have been given enough time.

        @param how: one of L{twuws.node.ON_STOP}; as the settings say if not given.
        """
        if self._draining is None:
            drained = Deferred.fromCoroutine(self._drain(how or self.node.settings.onStop))
            self._draining = drained
        return shield(self._draining)

    async def _drain(self, how: str) -> None:
        self.dispatcher.isDraining = True
        for uws in self._services:
            uws.leaving = "This node is about to leave: it takes no jobs any more."
        attempts = self.dispatcher.attempts
        if how == "requeue":
            await attempts.giveBack()
        elif how == "abort":
            await self._abortAll()
        if how in ("finish", "abort"):
            await self._untilEmpty(self.node.settings.stopTimeout if how == "finish" else 60)

    async def _abortAll(self) -> None:
        why = "The job was stopped, for the node that ran it was taken out of service."
        for record, _ in self.dispatcher.attempts.underWay():
            uws = next(one for one in self._services if one.name == record.service)
            try:
                await uws.abort(
                    record.jobId, JobError(message=why, type="transient"), Told(node=self.node.name)
                )
            except UWSError as e:  # it has ended by itself, or it goes on
                log.info("{jobId} was not aborted: {e}", jobId=record.jobId, e=e)
        self.dispatcher.look()

    async def _untilEmpty(self, seconds: float) -> None:
        reactor = self._database.reactor
        giveUpAt = reactor.seconds() + seconds
        for _, over in self.dispatcher.attempts.underWay():
            try:
                await shield(over).addTimeout(max(0.0, giveUpAt - reactor.seconds()), reactor)
            except TimeoutError:
                log.warn("{n} jobs still run; their work goes on", n=len(self.dispatcher.attempts))
                return

    async def stopService(self) -> None:
        """Let the jobs that run here end as the settings say, and stop everything else."""
        self._starting.cancel()
        await shield(self._starting)
        if not self.running:
            return
        await self.drain()
        for uws in self._services:
            if self._heard in uws.watcher.observers:
                uws.watcher.observers.remove(self._heard)
        await super().stopService()
        try:
            await self.node.leave()
        except DatabaseUnavailable as e:
            log.warn("the database did not hear of the stop: {e}", e=e)
        self._draining = None
        self.dispatcher.isDraining = False
