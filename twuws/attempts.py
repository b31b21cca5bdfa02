"""
The attempts at jobs that a node makes: each is started or found again, and ended.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import Logger

from twuws import endings
from twuws.attempt import Attempt
from twuws.database import shield
from twuws.interfaces import Running
from twuws.jobs import JobRecord
from twuws.node import Node
from twuws.stopping import Stopper
from twuws.uws import UWS

log = Logger()

#: Why work ends that is given to other nodes.
GIVEN_BACK = "The node that ran the job was taken out of service."


class Attempts:
    """
    All work that this node watches.

    @param services: by name.
    @param backends: by name.
    @param freed: called when there is one less, with whether its end is recorded.
    @param failed: called when work has ended that was to be stopped, and the database could
        not be told.
    @ivar isOpen: false once the service stops: nothing is waited for any more.
    """

    def __init__(
        self,
        services: Mapping[str, UWS],
        node: Node,
        backends: Mapping[str, Any],
        freed: Callable[[bool], object],
        failed: Callable[[], object],
    ) -> None:
        self.services = services
        self.node = node
        self.backends = backends
        self.isOpen = False
        self.stopper = Stopper(services, node, backends, self._settle, failed)
        self._freed = freed
        self._attempts: dict[tuple[str, int], Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    @property
    def areEnding(self) -> bool:
        """Whether the end of any is being recorded just now."""
        return any(one.isEnding for one in self._attempts.values())

    def knows(self, jobId: str, attempt: int | None = None) -> bool:
        """Whether this attempt, or any at the job, is being made here."""
        if attempt is not None:
            return (jobId, attempt) in self._attempts
        return any(known == jobId for known, _ in self._attempts)

    def works(self, jobId: str) -> bool:
        """Whether work at the job is under way here, or about to be: not if it has ended."""
        return any(known == jobId and not one.isEnding
                   for (known, _), one in self._attempts.items())  # fmt: skip

    def underWay(self) -> list[tuple[JobRecord, Deferred[None]]]:
        """The jobs that are being done here, each with what fires when it is done with."""
        every = list(self._attempts.values())
        return [(one.record, one.over) for one in every if one.over is not None]

    def begin(self, record: JobRecord) -> None:
        """Start the work of a job that this node has claimed, and see it to its end."""
        # The notification comes later than the answer to the claim, on a busy machine by 6 ms.
        self.services[record.service].watcher.wake(record.jobId)
        self._begin(self._attemptAt(record))

    async def adopt(self, record: JobRecord, ref: dict[str, Any] | None, here: bool) -> bool:
        """
        Watch work that an earlier process started; false if there is nothing left of it.

        Work that has ended meanwhile is recorded as it ended.

        @param ref: C{None} if the work has never begun.
        @param here: whether the work was on this host.
        """
        if ref is None:
            return False
        attempt = self._attemptAt(record)
        grace = attempt.uws.limits.grace
        outcome = await attempt.outcomeLeft()
        if here and outcome is None and not await attempt.hasDirectory():
            await self.stopper.stopWork(ref, grace)
            outcome = endings.directoryGone()
        if outcome is None and here:
            found = await attempt.backend.find(attempt.work(), ref)
            if found is not None:
                await attempt.takeLease()
                self._begin(attempt, found)
                return True
            await self.stopper.stopWork(ref, grace)  # what has outlived its runner
            outcome = await attempt.outcomeLeft()  # it may have ended just now
        if outcome is None:
            return False
        await attempt.reporter.finish(outcome)
        return True

    def _attemptAt(self, record: JobRecord) -> Attempt:
        uws = self.services[record.service]
        jobClass: Any = uws.jobClass
        inReactor = inspect.iscoroutinefunction(getattr(jobClass, "run", None))
        backend = self.backends["reactor" if inReactor else "process"]
        return Attempt(uws, self.node, backend, record, lambda: self.isOpen)

    def _begin(self, attempt: Attempt, found: Running | None = None) -> None:
        key = attempt.record.jobId, attempt.record.attempt
        self._attempts[key] = attempt
        over = Deferred.fromCoroutine(attempt.seeThrough(found))

        def forget(_: object) -> None:
            del self._attempts[key]
            self._freed(attempt.isRecorded)

        attempt.over = over
        over.addErrback(lambda f: log.failure("{jobId} is not watched any more", f, jobId=key[0]))
        over.addBoth(forget)

    # Ending

    async def leave(self) -> None:
        """Let go of work in processes of its own, end what is in this one, and wait for that."""
        every = list(self._attempts.values())
        await gatherResults([Deferred.fromCoroutine(one.leave()) for one in every])
        ending = [one.over for one in self._attempts.values() if not one.isStuck]
        for over in [*ending, *self.stopper.underWay()]:
            if over is not None:
                await shield(over)

    def lapse(self) -> Deferred[Any]:
        """
        End all work, for others may do it now: the node's lease has run out.

        Most of it has seen so for itself by then.  Fires when nothing is left.
        """
        every = list(self._attempts.values())
        return gatherResults([self._giveUp(one, endings.UNWATCHED) for one in every])

    def giveBack(self) -> list[Deferred[None]]:
        """
        End the work of jobs that may be started again, so that others do them; the rest goes on.

        Returns what fires when that is done with.
        """
        every = [one for one in self._attempts.values() if one.mayBeAgain]
        for one in every:
            self._giveUp(one, GIVEN_BACK)
        return [one.over for one in every if one.over is not None]

    def _giveUp(self, attempt: Attempt, why: str) -> Deferred[Any]:
        attempt.given = attempt.given or why
        if attempt.running is None:
            attempt.waitNoLonger()
            return succeed(None)  # it will not begin
        grace = attempt.uws.limits.grace
        stopping = Deferred.fromCoroutine(self.stopper.stopWork(attempt.running.ref, grace))
        return stopping.addErrback(
            lambda f: log.failure("{jobId} cannot be ended", f, jobId=attempt.record.jobId)
        )

    def _settle(self, jobId: str, attempt: int) -> tuple[dict[str, Any] | None, Any]:
        """See L{Stopper}; what is waited for before work begins is waited for no longer."""
        found = self._attempts.get((jobId, attempt))
        if found is None:
            return None, None
        found.waitNoLonger()
        return (found.running.ref if found.running else None), found.over
