"""
When jobs that wait will be started: what is to come, played through.  No I/O.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

from twuws.policy import RunLimits


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that takes jobs: how many at a time, and of which services."""

    name: str
    slots: int
    services: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A job that runs, and for how many seconds it will go on."""

    service: str
    owner: str
    node: str | None
    left: float


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A job that is queued, and how many seconds it will run; C{queuedAt} only sorts."""

    jobId: str
    service: str
    owner: str
    priority: int
    queuedAt: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """
    All that runs and waits at an instant.

    @ivar beyond: how many jobs wait behind those in C{waiting}.
    """

    workers: tuple[Worker, ...]
    running: tuple[Running, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    limits: RunLimits = field(default_factory=RunLimits)
    beyond: int = 0

    def starts(self) -> dict[str, float]:
        """In how many seconds each job that waits will be started, of those that will be."""
        return _Play(self, self.waiting).starts()

    def startOfNext(self, service: str, priority: int, owner: str) -> float | None:
        """
        In how many seconds a job will be started that is queued now; C{None} if nobody is
        there to do it.
        """
        slots = sum(one.slots for one in self.workers if service in one.services)
        if not slots:
            return None
        new = Waiting(
            jobId="", service=service, owner=owner, priority=priority, queuedAt=math.inf, seconds=0
        )
        starts = _Play(self, (*self.waiting, new)).starts(until="")
        if "" not in starts:
            return None
        isLast = len(starts) == len(self.waiting) + 1
        average = sum(one.seconds for one in self.waiting) / max(1, len(self.waiting))
        return starts[""] + (self.beyond * average / slots if isLast else 0)


class _Play:
    """
    What is to come, by the rules of the claims: see the statement C{claim}.

    Jobs of the same service, priority and owner are a kind, of which only the first can be next.
    For each service there is a heap of the first ones, by which is to be next.  An entry may be
    out of date: then its job is no longer the first, or its owner has more that runs by now.
    """

    def __init__(self, line: Line, waiting: Iterable[Waiting]) -> None:
        self._limits = line.limits
        self._running = line.running
        self._byOwner: Counter[str] = Counter()
        self._byService: Counter[str] = Counter()
        self._free: Counter[frozenset[str]] = Counter()
        self._ends: list[tuple[float, int, str, str, frozenset[str] | None]] = []
        self._number = count()
        nodes = {one.name: one.services for one in line.workers}
        for one in line.workers:
            self._free[one.services] += one.slots
        for job in line.running:
            self._begin(job.service, job.owner, nodes.get(job.node or ""), job.left)
        self._kinds: dict[tuple[str, int, str], deque[Waiting]] = {}
        for new in sorted(waiting, key=lambda one: (one.queuedAt, one.jobId)):
            kind = (new.service, new.priority, new.owner)
            self._kinds.setdefault(kind, deque()).append(new)
        self._ofOwner: dict[str, list[tuple[str, int, str]]] = {}
        self._heaps: dict[str, list[tuple[int, int, float, str, str]]] = {}
        for kind, jobs in self._kinds.items():
            self._ofOwner.setdefault(kind[2], []).append(kind)
            self._heaps.setdefault(kind[0], []).append(self._entry(jobs[0]))
        for heap in self._heaps.values():
            heapify(heap)

    def _entry(self, job: Waiting) -> tuple[int, int, float, str, str]:
        return (-job.priority, self._byOwner[job.owner], job.queuedAt, job.jobId, job.owner)

    def _begin(self, service: str, owner: str, pool: frozenset[str] | None, end: float) -> None:
        self._byOwner[owner] += 1
        self._byService[service] += 1
        if pool is not None:
            self._free[pool] -= 1
        heappush(self._ends, (end, next(self._number), service, owner, pool))

    def starts(self, until: str | None = None) -> dict[str, float]:
        """When each job is started; all that come after the job C{until} are left out."""
        now, found = 0.0, {}
        while True:
            while (job := self._next()) is not None:
                self._kinds[job.service, job.priority, job.owner].popleft()
                self._advance(job.owner, job.service)
                found[job.jobId] = now
                if job.jobId == until:
                    return found
                self._begin(job.service, job.owner, self._poolFor(job.service), now + job.seconds)
            if not self._ends:
                return found
            now = max(now, self._end())

    def _end(self) -> float:
        """The next job ends; when."""
        end, _, service, owner, pool = heappop(self._ends)
        self._byOwner[owner] -= 1
        self._byService[service] -= 1
        if pool is not None:
            self._free[pool] += 1
        self._advance(owner)
        return end

    def _advance(self, owner: str, service: str | None = None) -> None:
        """Enter the first job of each kind of an owner anew, at all services or at one."""
        for kind in self._ofOwner.get(owner, ()):
            jobs = self._kinds[kind]
            if jobs and service in (None, kind[0]):
                heappush(self._heaps[kind[0]], self._entry(jobs[0]))

    def _next(self) -> Waiting | None:
        """The job that is started next, if any can be started now."""
        limits = self._limits
        if limits.inAll is not None and self._byService.total() >= limits.inAll:
            return None
        best: tuple[tuple[int, int, float, str, str], str] | None = None
        for service, heap in self._heaps.items():
            most = limits.perService.get(service)
            if not heap or (most is not None and self._byService[service] >= most):
                continue
            if self._poolFor(service) is not None and (first := self._first(service)) is not None:
                best = min(best, (first, service)) if best else (first, service)
        if best is None:
            return None
        entry, service = best
        return self._kinds[service, -entry[0], entry[4]][0]

    def _first(self, service: str) -> tuple[int, int, float, str, str] | None:
        """The entry at the top of a heap, once what is out of date has been taken off."""
        heap, most = self._heaps[service], self._limits.perOwner
        while heap:
            priority, running, _, jobId, owner = heap[0]
            jobs = self._kinds[service, -priority, owner]
            isFirst = bool(jobs) and jobs[0].jobId == jobId
            runs = self._byOwner[owner]
            # Who is anonymous is taken for somebody who has room: each has a limit alone.
            if isFirst and runs == running and (most is None or owner == "" or runs < most):
                return heap[0]
            heappop(heap)
            if isFirst and runs > running:
                heappush(heap, self._entry(jobs[0]))
        return None

    def _poolFor(self, service: str) -> frozenset[str] | None:
        """Some workers that have a slot for a service's jobs."""
        for pool, free in self._free.items():
            if free > 0 and service in pool:
                return pool
        return None
