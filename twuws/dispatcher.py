"""
The Dispatcher: takes jobs off the queue while there is room, and sees their work to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twuws.attempts import Attempts
from twuws.backends.forked import IMPORTS
from twuws.backends.process import ProcessBackend
from twuws.backends.reactor import ReactorBackend
from twuws.database import shield
from twuws.errors import Unavailable
from twuws.node import Node
from twuws.uws import UWS

log = Logger()


class Dispatcher(Service):
    """
    Claims jobs for the slots of its node, starts them, records how they end, and ends the
    work of jobs that were aborted or destroyed, whoever did that.

    It is woken by changes of phase; every C{interval} seconds it looks by itself, after
    C{shortly} where a job was held by somebody who changed it, and after C{retryDelay} where
    the database did not answer.

    @param services: whose jobs to run.
    @param node: this process.
    @param backends: by name; C{process} and C{reactor} if not given.
    @ivar attempts: the work that this node watches.
    @ivar holdsBack: take nothing, for there may be work here that is not known yet.
    @ivar isDraining: take nothing any more.
    """

    interval = 30.0
    shortly = 0.1
    retryDelay = 1.0

    def __init__(
        self,
        services: Iterable[UWS],
        node: Node,
        backends: Mapping[str, Any] | None = None,
    ) -> None:
        self.services = {uws.name: uws for uws in services}
        self.node = node
        one = next(iter(self.services.values()))
        self.reactor = one.database.reactor
        home = one.workDirs.root / IMPORTS
        process = ProcessBackend(reactor=self.reactor, host=node.host, home=home)
        self._closeBackends = process.close
        backends = backends or {
            "process": process,
            "reactor": ReactorBackend(self.reactor, node.host, lambda: node.hasLease),
        }
        self.holdsBack = False
        self.isDraining = False
        self.attempts = Attempts(self.services, node, backends, self._freed, self.lookAgain)
        self._looking: Deferred[None] | None = None
        self._again = self._stopsToo = False
        self._lastClaim = 0.0
        self._soon: Any = None
        self._loop = LoopingCall(self.look)
        self._loop.clock = self.reactor

    def startService(self) -> None:
        super().startService()
        self.attempts.isOpen = True
        for uws in self.services.values():
            uws.watcher.observers.add(self.heard)
        self._loop.start(self.interval)

    async def stopService(self) -> None:
        """
        Take nothing new.  Work in processes of its own goes on, for whoever comes next to
        take over; work in this process is ended.
        """
        super().stopService()
        self.attempts.isOpen = False
        for uws in self.services.values():
            uws.watcher.observers.discard(self.heard)
        if self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            await shield(self._looking)
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        await self.attempts.leave()
        self._closeBackends()

    async def drain(self) -> None:
        """Take nothing any more; then all that was taken is among the attempts."""
        self.isDraining = True
        if self._looking is not None:
            await shield(self._looking)

    @property
    def busy(self) -> int:
        """How many jobs are being done here."""
        return len(self.attempts)

    def knows(self, jobId: str, attempt: int) -> bool:
        """Whether this attempt is being made here."""
        return self.attempts.knows(jobId, attempt)

    def heard(self, jobId: str | None, phase: str | None, service: str | None) -> None:
        """A phase has changed somewhere; see L{PhaseWatcher}."""
        isQueued = phase == "QUEUED" and service in self.services
        isEnd = phase not in ("QUEUED", "EXECUTING", "COMPLETED")
        isOurs = phase != "EXECUTING" and jobId is not None and self.attempts.works(jobId)
        # What is just being claimed may be ours as well.
        if jobId is None or isOurs or (isEnd and self._looking is not None):
            self.look()
        elif isQueued or self.node.isLimited:
            self._lookForJobs()

    def look(self) -> None:
        """See what there is to do, soon."""
        self._stopsToo = True
        self._lookForJobs()

    def _freed(self, isRecorded: bool) -> None:
        """An attempt is over; unless its end is recorded, others may have left a stop for it."""
        if isRecorded:
            self._lookForJobs()
        else:
            self.look()

    def _lookForJobs(self) -> None:
        if not self.running:
            return
        if self._looking is not None:
            self._again = True
            return
        # Set before looking begins, for that can end at once, without a database.
        looking: Deferred[None] = Deferred()
        self._looking = looking

        def looked(_: object) -> None:
            self._looking = None
            looking.callback(None)

        Deferred.fromCoroutine(self._look()).addBoth(looked)

    def lookAgain(self) -> None:
        """Something could not be done, for the database did not answer: look once more, soon."""
        self._lookIn(self.retryDelay)

    def _lookIn(self, seconds: float) -> None:
        if self.running and (self._soon is None or not self._soon.active()):
            self._soon = self.reactor.callLater(seconds, self.look)

    async def _look(self) -> None:
        self._again = True
        while self._again and self.running:
            self._again = False
            stopsToo, self._stopsToo = self._stopsToo, False
            try:
                await (self.runOnce() if stopsToo else self._takeJobs())
            except Unavailable as e:
                log.warn("no jobs are taken: {e}", e=e)
                self.lookAgain()
            except Exception:
                log.failure("looking for jobs")

    async def runOnce(self) -> None:
        """Start what there is room for, and end what is to be ended."""
        try:
            await self._takeJobs()
        finally:
            await self.attempts.stopper.look()

    async def _takeJobs(self) -> None:
        isMore = True
        while isMore and self.running and self._hasRoom():
            if self._isWorthWaiting():
                self._lookIn(self.shortly)
                return
            self._lastClaim = self.reactor.seconds()
            for record in await self.node.claims(self.node.slots - self.busy):
                self.attempts.begin(record)
            isMore = self.node.isMore
            if self.node.isHeld:  # nobody will tell when it is let go
                self._lookIn(self.shortly)

    def _isWorthWaiting(self) -> bool:
        """
        Whether more places are about to get free, of a few that are: one claim for several jobs
        costs as much as for one.  To wait for all places would take a fifth less of the CPU time
        of jobs that do nothing, but then the service and PostgreSQL would wait for each other.
        """
        isFew = 2 * (self.node.slots - self.busy) < self.node.slots
        isSoon = self.reactor.seconds() < self._lastClaim + self.shortly
        return isFew and isSoon and self.attempts.areEnding

    def _hasRoom(self) -> bool:
        isOpen = not (self.holdsBack or self.isDraining or self.node.draining)
        return isOpen and self.busy < self.node.slots
