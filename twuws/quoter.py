"""
When jobs will probably be complete: from the run times of like jobs, and what waits before them.

What there is to go by is read in the background, as jobs end.  Where jobs are in the queue is
looked at when somebody asks, once for all who do, and not again until something has moved.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twuws.database import Row, asJSON, shield
from twuws.errors import Unavailable
from twuws.family import clock
from twuws.jobs import JobRecord, UWSJob
from twuws.jobstable import JobsTable
from twuws.phases import EXECUTING, FINAL, PENDING, QUEUED
from twuws.policy import RunLimits
from twuws.runtimes import ENOUGH, Cost, Estimate, RunTimes, Sample
from twuws.values import valuesFromJSON
from twuws.waitingline import Line, Running, Waiting, Worker

log = Logger()

#: How many of a service's jobs count, the last that were completed.
SAMPLES = 100
#: How many jobs that wait are looked at one by one.
LONGEST_LINE = 1000
#: How long a document waits for a look at the queue, s.
PATIENCE = 0.25
#: A look at the queue is made at most this often, s, and takes a twentieth of the time at most.
RESPITE = 1.0
_SHARE = 20
#: How long a look holds if nothing is heard, s; and at most, if there is no other.
FRESH, STALE = 10.0, 60.0
#: A quote stays as it was given while it is right within this part of what is left, or so many s.
STEADY, STEADY_SECONDS = 0.1, 2.0
_REMEMBERED = 10_000


class Quoter:
    """
    Says when jobs will probably be complete.

    @param jobClasses: of the services whose jobs are asked for, by name.
    @param priorities: of their jobs, by name.
    @param limits: on what runs at a time, as those have it who take jobs.
    """

    def __init__(
        self,
        table: JobsTable,
        jobClasses: Mapping[str, type[UWSJob]],
        priorities: Mapping[str, int],
        limits: RunLimits,
    ) -> None:
        self._table = table
        self._jobClasses = dict(jobClasses)
        self._priorities = dict(priorities)
        self._limits = limits
        self._names = asJSON({name: list(c.costDependsOn) for name, c in jobClasses.items()})
        self._samples: dict[str, OrderedDict[str, tuple[datetime, Sample]]] = defaultdict(
            OrderedDict
        )
        self._runTimes: dict[str, RunTimes] = {}
        self._unread = set(jobClasses)
        self._anchor: tuple[datetime, float] | None = None
        self._line: Line | None = None
        self._starts: dict[str, float] = {}
        self._next: dict[tuple[str, int, str], float | None] = {}
        self._lookedAt = self._mayLookAt = -STALE
        self._hasMoved = True
        self._looking: Deferred[None] | None = None
        self._given: OrderedDict[str, datetime] = OrderedDict()

    # What there is to go by

    def heard(self, jobId: str | None, phase: str | None, service: str | None) -> bool:
        """
        Something has moved; see L{twuws.phasewatcher.PhaseWatcher}.

        @return: whether C{learn} is worth while at once.
        """
        self._hasMoved = True
        if jobId is None:
            self._unread.update(self._jobClasses)
        elif phase == "COMPLETED" and service in self._jobClasses:
            self._unread.add(service)
        return any(len(self._runTimes.get(name, ())) < ENOUGH for name in self._unread)

    def hasSomethingToGoBy(self, service: str) -> bool:
        """Whether jobs of a service can have a quote."""
        return service in self._runTimes

    async def learn(self) -> None:
        """Read how long the jobs took that were completed since the last time."""
        while self._unread:
            services, self._unread = sorted(self._unread), set()
            try:
                rows = await self._table.run("runTimes", self._argsFor(services))
            except BaseException:
                self._unread.update(services)
                raise
            for row in rows:
                self._add(row)
            for service in {row["service"] for row in rows}:
                samples = [sample for _, sample in self._samples[service].values()]
                self._runTimes[service] = await self._inThread(RunTimes, samples)

    def _argsFor(self, services: list[str]) -> dict[str, Any]:
        # Who ended at about the same time may have been written later.
        overlap = timedelta(seconds=60)
        return {
            "services": services,
            "after": [
                max(ended for ended, _ in known.values()) - overlap if known else "-infinity"
                for known in (self._samples[name] for name in services)
            ],
            "names": self._names,
            "limit": SAMPLES,
        }

    def _add(self, row: Row) -> None:
        self._setAnchor(row["now"])
        known = self._samples[row["service"]]
        cost = self._costIn(row["service"], row["parameters"])
        known[row["job_id"]] = row["end_time"], Sample(seconds=row["seconds"], cost=cost)
        while len(known) > SAMPLES:
            known.pop(min(known, key=lambda jobId: known[jobId][0]))

    def _costIn(self, service: str, stored: Mapping[str, Any] | None) -> Cost:
        jobClass = self._jobClasses.get(service)
        return jobClass.costOf(valuesFromJSON(stored or {})) if jobClass else ()

    def _setAnchor(self, now: datetime) -> None:
        self._anchor = now, clock()

    def _inThread(self, action: Any, *args: Any) -> Deferred[Any]:
        reactor = self._table.database.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), action, *args)

    # Quotes

    def expected(self, job: JobRecord) -> datetime | None:
        """When a job was to be complete that began when it did, for those who compare."""
        try:
            estimate = self._estimate(job)
        except Exception:
            log.failure("{jobId} has no quote", jobId=job.jobId)
            return None
        if estimate is None or job.startTime is None:
            return None
        return _after(job.startTime, _within(job.executionDuration, estimate.median))

    async def quote(self, job: JobRecord) -> datetime | None:
        """
        When a job will probably be complete; C{None} if there is nothing to go by.

        A quote that the job has already is the one.  It is C{None} in phases that nobody knows
        the end of.  Never fails, and never takes long.
        """
        if job.quote is not None or job.phase in FINAL:
            return job.quote
        try:
            left = await self._left(job)
        except Exception:
            log.failure("{jobId} has no quote", jobId=job.jobId)
            return None
        return None if left is None else self._steadily(job.jobId, left)

    async def _left(self, job: JobRecord) -> float | None:
        """How long it will be until a job is complete, s."""
        estimate = self._estimate(job)
        if estimate is None or self._anchor is None:
            return None
        if job.phase is EXECUTING and job.startTime is not None:
            ran = max(0.0, (self._now() - job.startTime).total_seconds())
            left = estimate.left(ran)
            limit = job.executionDuration
            return max(0.0, min(left, limit - ran)) if limit else left
        if job.phase not in (PENDING, QUEUED):
            return None
        await self._look()
        wait = self._wait(job)
        return None if wait is None else wait + _within(job.executionDuration, estimate.median)

    def _estimate(self, job: JobRecord) -> Estimate | None:
        known, jobClass = self._runTimes.get(job.service), self._jobClasses.get(job.service)
        if known is None or jobClass is None:
            return None
        return known.estimate(jobClass.costOf(job.parameters))

    def _now(self) -> datetime:
        """The time by the database's clock."""
        assert self._anchor is not None
        then, at = self._anchor
        return then + timedelta(seconds=clock() - at)

    def _steadily(self, jobId: str, left: float) -> datetime:
        """In so many seconds; as it was said before, if that is right by and large."""
        now = self._now()
        quote = _after(now, left).replace(microsecond=0) + timedelta(seconds=1)
        before = self._given.pop(jobId, None)
        if before is not None and before > now:
            off = abs((quote - before).total_seconds())
            quote = before if off <= max(STEADY_SECONDS, STEADY * left) else quote
        self._given[jobId] = quote
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        return quote

    # The queue

    def _wait(self, job: JobRecord) -> float | None:
        """How long it will be until a job is started that waits, or is run now, s."""
        since = clock() - self._lookedAt
        if self._line is None or since > STALE:
            return None
        start = self._starts.get(job.jobId)
        if start is None:
            kind = (job.service, self._priorities.get(job.service, 0), job.owner or "")
            if kind not in self._next:
                self._next[kind] = self._line.startOfNext(*kind)
            start = self._next[kind]
        return None if start is None else max(0.0, start - since)

    async def _look(self) -> None:
        """See to it that what is known of the queue is up to date, if that is soon done."""
        now = clock()
        isOld = self._hasMoved or now > self._lookedAt + FRESH
        if self._looking is None and isOld and now > self._mayLookAt:
            self._looking = looking = Deferred.fromCoroutine(self._lookOnce())
            looking.addErrback(lambda f: log.failure("looking at the queue", f))
            looking.addCallback(self._looked)
        if self._looking is not None:
            with suppress(TimeoutError):  # then it is what was known before
                await shield(self._looking).addTimeout(PATIENCE, self._table.database.reactor)

    async def _lookOnce(self) -> None:
        began, self._hasMoved = clock(), False
        try:
            args = {"names": self._names, "limit": LONGEST_LINE}
            (row,) = await self._table.run("lineNow", args)
            self._setAnchor(row["now"])
            looked = clock()
            self._line, self._starts = await self._inThread(self._playedThrough, row)
            self._next = {}
            self._lookedAt = looked
        except Unavailable as e:
            self._hasMoved = True
            log.info("the queue cannot be looked at: {e}", e=e)
        finally:
            ended = clock()
            self._mayLookAt = ended + max(RESPITE, _SHARE * (ended - began))

    def _looked(self, _: object) -> None:
        self._looking = None

    def _playedThrough(self, row: Row) -> tuple[Line, dict[str, float]]:
        line = self._lineIn(row)
        return line, line.starts()

    def _lineIn(self, row: Row) -> Line:
        """What a row of C{lineNow} says."""
        usual = median([
            estimate.median for one in self._runTimes.values() if (estimate := one.estimate())
        ] or [0.0])  # fmt: skip
        running, waiting = [], []
        for job in row["jobs"] or ():
            estimate = self._estimateIn(job) or Estimate(median=usual or 1.0, spread=0.5)
            duration, whose = job["duration"], {"service": job["service"], "owner": job["owner"]}
            if job["ran"] is not None:
                left = _within(duration, job["ran"] + estimate.left(job["ran"])) - job["ran"]
                running.append(Running(**whose, node=job["node"], left=max(0.0, left)))
            else:
                waiting.append(
                    Waiting(
                        **whose,
                        jobId=job["job_id"],
                        priority=job["priority"],
                        queuedAt=job["queued"],
                        seconds=_within(duration, estimate.mean),
                    )
                )
        return Line(
            workers=tuple(_workers(row["nodes"] or ())),
            running=tuple(running),
            waiting=tuple(waiting),
            limits=self._limits,
            beyond=row["waiting"] - len(waiting),
        )

    def _estimateIn(self, job: Mapping[str, Any]) -> Estimate | None:
        known = self._runTimes.get(job["service"])
        if known is None:
            return None
        return known.estimate(self._costIn(job["service"], job["parameters"]))


def _workers(rows: Iterable[Mapping[str, Any]]) -> Iterable[Worker]:
    for row in rows:
        services = frozenset(row["services"])
        yield Worker(name=row["node"], slots=row["slots"], services=services)


def _within(limit: int, seconds: float) -> float:
    """A run time, as far as an execution duration lets it; 0 is any."""
    return min(limit, seconds) if limit else seconds


def _after(instant: datetime, seconds: float) -> datetime:
    try:
        return instant + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(microsecond=0, tzinfo=UTC) - timedelta(days=1)
