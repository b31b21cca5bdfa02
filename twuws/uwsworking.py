"""
What work tells of itself, and what becomes of jobs whose work is lost: for the services that
move jobs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from twisted.logger import Logger

from twuws.database import Transaction
from twuws.errors import StaleAttempt, Unavailable
from twuws.grouped import Grouped
from twuws.jobs import JobError, JobRecord, Outcome, Result
from twuws.jobstable import End, Told
from twuws.phases import ERROR, EXECUTING, IN_QUEUE, QUEUED, SUSPENDED, Phase
from twuws.times import formatInstant
from twuws.uwsholding import HeldJobs
from twuws.uwsreading import deferred

log = Logger()


class WorkedJobs(HeldJobs):
    """
    The jobs of one service, as those see them who do the work.  See L{twuws.uws.UWS}.

    Everything names the attempt that it is of; what is not the job's attempt any more changes
    nothing.
    """

    @cached_property
    def _ends(self) -> Grouped[End, bool]:
        return Grouped(partial(self.table.end, self.name), self.database.reactor)

    @deferred
    async def recordWork(
        self, jobId: str, attempt: int, results: Iterable[Result], jobInfo: Mapping[str, Any]
    ) -> None:
        """
        Show results and progress of work that goes on.

        @param results: all that this attempt has made by now.
        @param jobInfo: is added to what there is.
        @raise StaleAttempt: if this attempt is no longer the job's.
        """
        if not await self.table.reportWork(jobId, attempt, tuple(results), jobInfo):
            raise StaleAttempt

    @deferred
    async def recordOutcome(
        self,
        jobId: str,
        attempt: int,
        outcome: Outcome,
        results: Iterable[Result],
        jobInfo: Mapping[str, Any],
        node: str | None = None,
        claimed: JobRecord | None = None,
    ) -> None:
        """
        Record how an attempt ended, and the last that it told.

        Work that was lost is started again where its class allows that.

        @param node: where it ran, for the record.
        @param claimed: the job as it was when this attempt began; those of which this is known
            are recorded together, if many end at a time.
        @raise StaleAttempt: if this attempt is no longer the job's.
        """
        if claimed is not None and not outcome.isLost:
            end = End(
                job=claimed,
                outcome=outcome,
                results=tuple(results),
                jobInfo=jobInfo,
                node=node,
                quote=self.quoteAtEnd(claimed),
            )
            try:
                if await self._ends.do(end):
                    return
            except Unavailable:
                raise
            except Exception:  # of which end, the next will show
                log.failure("{jobId} or others: their end is recorded one by one", jobId=jobId)
        then = None
        async with self._ofAttempt(jobId, attempt) as (t, record, now):
            told = replace(record, results=tuple(results), jobInfo={**record.jobInfo, **jobInfo})
            if outcome.isLost and outcome.error is not None:
                then = await self._lose(t, record, told, outcome.error, now, node, ended=True)
            else:
                await self.table.change(record, told, t)
                where = Told(node=node)
                await self._move(t, record, outcome.phase, outcome.error, ended=True, told=where)
        if then is not None:
            self._countLoss(then)

    @deferred
    async def recordLoss(
        self,
        jobId: str,
        attempt: int,
        error: JobError,
        ended: bool,
        again: bool = False,
        node: str | None = None,
        unless: Callable[[Transaction], Awaitable[bool]] | None = None,
    ) -> None:
        """
        Record that an attempt's work is lost: the job is queued again, or is ERROR.

        @param ended: nothing of the work is left; if not, its node is to end it if it
            comes back.
        @param again: the job may be started again whatever its class says, for the work has
            never begun.
        @param node: where it was, for the record.
        @param unless: asked once the job is locked whether the work is there after all.
        @raise StaleAttempt: if this attempt is no longer the job's, or not lost.
        """
        async with self._ofAttempt(jobId, attempt) as (t, record, now):
            if unless is not None and await unless(t):
                raise StaleAttempt
            then = await self._lose(t, record, record, error, now, node, ended=ended, again=again)
        self._countLoss(then)

    def _countLoss(self, then: Phase) -> None:
        self.database.counters.lostAttempts.labels(self.name, then.value).inc()

    @asynccontextmanager
    async def _ofAttempt(
        self, jobId: str, attempt: int
    ) -> AsyncIterator[tuple[Transaction, JobRecord, datetime]]:
        """
        The job's row, locked, as EXECUTING or UNKNOWN.

        @raise StaleAttempt: if its work is another attempt's, or nobody's, by now.
        """
        async with self._locked(jobId) as (t, record, now):
            if record.attempt != attempt or record.phase not in IN_QUEUE - {QUEUED}:
                raise StaleAttempt
            if record.phase is SUSPENDED:  # it has gone on all the same
                await self._move(t, record, EXECUTING, told=Told(why="Its work has gone on."))
                record = replace(record, phase=EXECUTING)
            yield t, record, now

    async def _lose(
        self,
        t: Transaction,
        record: JobRecord,
        told: JobRecord,
        error: JobError,
        now: datetime,
        node: str | None,
        *,
        ended: bool,
        again: bool = False,
    ) -> Phase:
        """
        Queue a job again whose work is lost, or make it ERROR; C{jobInfo} tells of it.

        Returns the phase that it has then.
        """
        story = {
            "number": record.attempt,
            "node": node,
            "started": record.startTime and formatInstant(record.startTime),
            "lost": formatInstant(now),
            "why": error.message,
        }
        lost = [*told.jobInfo.get("lostAttempt", ()), story]
        await self.table.change(
            record, replace(told, jobInfo={**told.jobInfo, "lostAttempt": lost}), t
        )
        mayBeAgain = self.jobClass.restartable and record.attempt < self.jobClass.maxAttempts
        phase = QUEUED if again or mayBeAgain else ERROR
        where = Told(node=node, why=error.message)
        cause = None if phase is QUEUED else error
        await self._move(t, record, phase, cause, ended=ended, told=where)
        return phase
