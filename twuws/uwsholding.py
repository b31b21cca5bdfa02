"""
What is not to run for now: holds on jobs, on owners, on a service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from twuws.errors import BadRequest, IllegalMove, NotFound, Unavailable
from twuws.jobstable import Hold, storable
from twuws.phases import FINAL, HELD, Phase
from twuws.uwschanging import ChangeableJobs
from twuws.uwsreading import deferred

#: How many jobs are moved in one transaction.
BATCH = 500
_RELEASED = "It is not held any more."


class HeldJobs(ChangeableJobs):
    """
    The jobs of one service, and what keeps them from running.  See L{twuws.uws.UWS}.

    While a hold keeps a job, RUN makes it HELD; what is QUEUED becomes HELD, and what runs
    goes on.  When no hold keeps it any more it is QUEUED, at the place that it had.  Nothing
    else makes a job HELD.
    """

    @deferred
    async def hold(self, jobId: str, who: str | None = None, why: str | None = None) -> Phase:
        """
        Keep a job from running, now or when it is run; the phase that it has then.

        @param who: asks for it, for the record.
        @param why: for whoever looks at the job, in a sentence.
        @raise IllegalMove: if it has ended.
        """
        async with self._locked(jobId) as (t, record, _):
            if record.phase in FINAL:
                raise IllegalMove(f"The job is {record.phase}: there is nothing to hold.")
            await self.table.run("holdsStay", conn=t)
            await self.table.run("putHold", _hold(jobId=jobId, who=who, why=why), t)
            await self.table.run("settleHolds", _scope(jobId=jobId, who=who), t)
            return await self._phase(t, jobId)

    @deferred
    async def release(self, jobId: str, who: str | None = None) -> Phase:
        """
        Take the hold off a job; the phase that it has then.

        It is HELD still while a hold on its owner or its service keeps it.

        @raise NotFound: if no hold is on the job, and it is not HELD without one.
        """
        async with self._locked(jobId) as (t, record, _):
            await self.table.run("holdsStay", conn=t)
            wasHeld = await self.table.run("takeHold", _hold(jobId=jobId), t)
            await self.table.run("settleHolds", _scope(jobId=jobId, who=who), t)
            phase = await self._phase(t, jobId)
            if not wasHeld and phase is record.phase:
                more = " It is HELD by a hold on its owner or service." if phase is HELD else ""
                raise NotFound(f"There is no hold on the job {jobId}.{more}")
            return phase

    async def _phase(self, t: Any, jobId: str) -> Phase:
        record = await self.table.one("getJob", self._key(jobId), t)
        assert record is not None  # its row is locked
        return record.phase

    @deferred
    async def holdAll(
        self,
        owner: str | None = None,
        *,
        everyService: bool = False,
        who: str | None = None,
        why: str | None = None,
    ) -> int:
        """
        Keep the jobs of this service from running; how many became HELD.

        @param owner: only this one's jobs, C{""} for those of nobody in particular.
        @param everyService: the owner's jobs at all services.
        @param who: asks for it, for the record.
        @param why: for whoever looks at such a job, in a sentence.
        @raise BadRequest: for everybody's jobs at all services.
        @raise Unavailable: if others are changing jobs that are to be HELD, and do not end;
            those are not started all the same.
        """
        where = self._where(owner, everyService)
        async with self.database.transaction(self.lockTimeout) as t:
            await self.table.run("holdsChange", conn=t)
            await self.table.run("putHold", _hold(**where, who=who, why=why), t)
        return await self._settle(where, who)

    @deferred
    async def releaseAll(
        self, owner: str | None = None, *, everyService: bool = False, who: str | None = None
    ) -> int:
        """
        Take away what C{holdAll} put there with the same arguments; how many jobs are QUEUED
        by that, which are those that no other hold keeps.

        Who was interrupted in that can do it again.

        @raise NotFound: if there is no such hold, and no HELD job without one.
        @raise Unavailable: if others are changing jobs that are to be QUEUED, and do not end.
        """
        where = self._where(owner, everyService)
        async with self.database.transaction(self.lockTimeout) as t:
            await self.table.run("holdsChange", conn=t)
            wasHeld = await self.table.run("takeHold", _hold(**where), t)
        moved = await self._settle(where, who)
        if not wasHeld and not moved:
            raise NotFound(f"There is no hold on {_described(where)}.")
        return moved

    def getHolds(self) -> Deferred[list[Hold]]:
        """The holds that concern this service, the oldest first."""
        return Deferred.fromCoroutine(self.table.holds(self.name))

    def _where(self, owner: str | None, everyService: bool) -> dict[str, str | None]:
        if owner is None and everyService:
            raise BadRequest("Everybody's jobs at all services: hold each service instead.")
        return {"owner": owner, "service": None if everyService else self.name}

    async def _settle(self, where: Mapping[str, str | None], who: str | None) -> int:
        """Give all jobs the phase that the holds say, in batches; how many have another."""
        reactor = self.database.reactor
        moved = 0
        giveUpAt = reactor.seconds() + self.lockTimeout
        while True:
            async with self.database.transaction(self.lockTimeout) as t:
                await self.table.run("holdsStay", conn=t)
                row = (await self.table.run("settleHolds", _scope(**where, who=who), t))[0]
            moved += int(row["moved"])
            if not row["possible"]:
                return moved
            if row["settled"]:
                giveUpAt = reactor.seconds() + self.lockTimeout
            elif reactor.seconds() > giveUpAt:
                jobs = "1 job is" if row["possible"] == 1 else f"{row['possible']} jobs are"
                raise Unavailable(f"{jobs} being changed by somebody else; try again.")
            else:
                await deferLater(reactor, 0.1)


def _hold(**given: str | None) -> dict[str, str | None]:
    """The arguments of the statements that put a hold there and take it away."""
    names = ("jobId", "service", "owner", "who", "why")
    args = {name: storable(given.get(name)) for name in names}
    return {**args, "why": args["why"] or None}


def _scope(**given: str | None) -> dict[str, Any]:
    """The arguments of the statement that gives jobs the phase which the holds say."""
    everything = {"jobId": None, "service": None, "owner": None}
    return {**everything, "limit": BATCH, "why": _RELEASED, **given}


def _described(where: Mapping[str, str | None]) -> str:
    owner, service = where["owner"], where["service"]
    whose = "" if owner is None else f"the owner {owner!r}" if owner else "those without an owner"
    place = "" if service is None else f"the service {service}"
    return " at ".join(part for part in (whose, place) if part)
