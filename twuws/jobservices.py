"""
All that moves jobs by itself, as one service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws import schema
from twuws.chores import (
    Deadlines,
    Forgetter,
    Heartbeat,
    KeyForgetter,
    Learner,
    LeaseGuard,
    Reaper,
    Sweeper,
)
from twuws.database import shield
from twuws.dispatcher import Dispatcher
from twuws.errors import DatabaseUnavailable, SchemaMismatch, Unavailable, UWSError
from twuws.jobs import JobError
from twuws.jobstable import JobsTable, Told
from twuws.node import Node, NodeSettings
from twuws.quoter import Quoter
from twuws.rescuer import Rescuer
from twuws.uws import UWS

log = Logger()

#: How long it may take to end work when this process is to leave, s.
ENDING = 60.0


class JobServices(MultiService):
    """
    All that moves jobs by itself, for one process and any number of services.

    It begins by preparing the schema, and waits for the database if it must.  Stop it
    before the database.

    @param slots: how many jobs this process runs at a time; 0 for none.
    @param settings: of this process as a node.
    @param whenDrained: called when somebody elsewhere has asked this node to leave, and it
        has done what there was to do: now it is to be stopped.
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
        self._how: str | None = None
        self._enough: Deferred[None] = succeed(None)
        roots = {uws.workDirs.root for uws in self._services}
        names = [uws.name for uws in self._services]
        self.node = Node(JobsTable(database), names, slots, settings, roots)
        self.dispatcher = Dispatcher(self._services, self.node)
        self.node.onLapse = self.dispatcher.attempts.lapse
        self._rescuer = Rescuer(self.dispatcher)
        self._heartbeat = Heartbeat(self.node, database.reactor, self._beaten)
        chores: list[Service] = [
            *{id(uws.watcher): uws.watcher for uws in self._services}.values(),
            self._heartbeat,
            LeaseGuard(self.node, database.reactor),
            self.dispatcher,
            self._rescuer,
            Deadlines(self._services, database.reactor),
            *(Reaper(uws) for uws in self._services),
            Sweeper(self._services),
            Forgetter(self._services),
            KeyForgetter(self.node.table),
            Learner(self._services, self._quoter()),
        ]
        for chore in chores:
            chore.setServiceParent(self)

    def _quoter(self) -> Quoter:
        """Who makes the quotes for all services."""
        quoter = Quoter(
            self.node.table,
            {uws.name: uws.jobClass for uws in self._services},
            {uws.name: uws.priority for uws in self._services},
            self.node.settings.limits,
        )
        for uws in self._services:
            uws.quoter = quoter
        return quoter

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
        """This node may have been asked to leave, or another has left; see L{PhaseWatcher}."""
        if phase == "draining" and jobId == self.node.name:
            self._heartbeat.now()
        elif phase == "left":
            self._rescuer.now()

    def _beaten(self) -> None:
        asked = self.node.draining
        if asked is None or asked == self._how or not self.running:
            return
        log.info("{node} was asked to leave ({how})", node=self.node.name, how=asked)
        isFirst = self._draining is None
        drained: Deferred[Any] = self.drain(asked)
        drained.addErrback(lambda f: log.failure("leaving", f))
        if isFirst:  # else whoever was will stop this
            drained.addCallback(lambda _: self._whenDrained())

    def drain(self, how: str | None = None) -> Deferred[None]:
        """
        Take nothing new, and let the jobs that run here end as they are to; fires when they
        have, or have been given enough time.

        Who is not content with how they do that asks again.

        @param how: one of L{twuws.node.ON_STOP}; if not given, as before, or else as the
            settings say.
        """
        if self._draining is None:
            self._how = how or self.node.settings.onStop
            self._draining = Deferred.fromCoroutine(self._drain())
        elif how is not None:
            self._how = how
            self._stopWaiting()
        return shield(self._draining)

    async def _drain(self) -> None:
        for uws in self._services:
            uws.leaving = "This node is about to leave: it takes no jobs any more."
        await self.dispatcher.drain()
        how = None
        while how != self._how:
            how = self._how
            if how != "leave" and how != self.node.draining:
                self._tellOthers(how)
            over, seconds = await self._end(how)
            if how == self._how:
                await self._until(over, seconds)

    def _tellOthers(self, how: str | None) -> None:
        telling = Deferred.fromCoroutine(self.node.tellDraining(how or "leave"))
        telling.addErrback(lambda f: log.info("nobody else knows: {e}", e=f.value))

    async def _end(self, how: str | None) -> tuple[list[Deferred[None]], float]:
        """End what is to be ended; what there is to wait for, and how long, s."""
        attempts = self.dispatcher.attempts
        if how == "requeue":
            return attempts.giveBack(), ENDING
        if how == "abort":
            await self._abortAll()
        elif how != "finish":
            return [], 0
        over = [over for _, over in attempts.underWay()]
        return over, ENDING if how == "abort" else self.node.settings.stopTimeout

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

    async def _until(self, over: list[Deferred[None]], seconds: float) -> None:
        """Wait for all of these, unless that takes too long, or is not wanted any more."""
        self._enough = Deferred()
        DeferredList([shield(one) for one in over]).addCallback(lambda _: self._stopWaiting())
        try:
            await self._enough.addTimeout(seconds, self._database.reactor)
        except TimeoutError:
            log.warn("{n} jobs still run; their work goes on", n=len(self.dispatcher.attempts))

    def _stopWaiting(self) -> None:
        if not self._enough.called:
            self._enough.callback(None)

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
        except Unavailable as e:
            log.warn("nobody has heard of the stop: {e}", e=e)
        self._draining = self._how = self.node.draining = None
        self.dispatcher.isDraining = False
