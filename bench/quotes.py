"""
How far quotes are off: a day of simulated jobs, and what twuws would have said of each.

    python bench/quotes.py --seed 7

Jobs of three kinds come from several owners, more by day than by night, some in bursts.  What
they take is a matter of their parameters and of chance.  They are run by the rules that claims
follow, at most so many at a time.  Each is asked for its quote when it is queued, and when it
starts, by the same arithmetic that the service uses, which knows what has been completed by then
and nothing else.

The tables say how far the time at which a job was complete is from its quote: in seconds, and as
a part of the time that was left by then.  What is above 0 was later than quoted.  No database
and no reactor take part.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from twuws.policy import RunLimits
from twuws.runtimes import Cost, Estimate, RunTimes, Sample
from twuws.waitingline import Line, Running, Waiting, Worker

HOUR = 3600.0
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: How many jobs come in each hour of the day, as a part of those at its busiest.
BY_HOUR = (1, 1, 1, 1, 1, 1, 2, 3, 6, 9, 10, 10, 8, 9, 10, 10, 9, 7, 5, 4, 3, 2, 2, 1)
OWNERS = ("anna", "ben", "cleo", "dora", "emil", "fay", "gus", "")
SAMPLES = 100
SLOTS = 4
LIMITS = RunLimits(perOwner=3)
#: By how much run times differ beyond what is known of the jobs, as a spread of their logarithms.
CHANCE = 0.35


@dataclass(kw_only=True)
class Job:
    """
    A job, with all that fate has in store for it, and what was quoted.

    @ivar seconds: how long it will run.
    @ivar quotes: what was left of it by its quote, and when that was asked for, by occasion.
    """

    jobId: str
    service: str
    owner: str
    queued: float
    cost: Cost
    seconds: float
    started: float = 0
    quotes: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def ended(self) -> float:
        """When it is complete."""
        return self.started + self.seconds


def kinds(rng: random.Random) -> tuple[str, Cost, float]:
    """A service, what a job of it says that its cost depends on, and what it takes, s."""
    chance = rng.lognormvariate(0, CHANCE)
    kind = rng.random()
    if kind < 0.6:  # it reads a file; how is a choice
        size, mode = rng.lognormvariate(math.log(5e7), 1.2), rng.choice(("fast", "fast", "slow"))
        factor = 4 if mode == "slow" else 1
        return "convert", (size, mode), (2 + factor * 20 * size / 5e7) * chance
    if kind < 0.9:  # it searches an area
        radius = rng.uniform(0.05, 2)
        return "search", (radius,), (1 + 40 * radius**2) * chance
    return "report", (), 15 * chance * rng.lognormvariate(0, 0.5)


def comings(rng: random.Random, hours: float, perHour: float) -> Iterator[float]:
    """When somebody comes: a Poisson process whose rate changes by the hour."""
    now = 8 * HOUR if hours < 24 else 0.0  # what is short is of the busy hours
    end = now + hours * HOUR
    while (now := now + rng.expovariate(perHour / HOUR)) < end:
        if rng.random() < BY_HOUR[int(now / HOUR) % 24] / max(BY_HOUR):
            yield now


def arrivals(rng: random.Random, hours: float, perHour: float) -> Iterator[Job]:
    """The jobs of a day in the order in which they come."""
    number = count()
    for now in comings(rng, hours, perHour):
        owner = rng.choices(OWNERS, range(len(OWNERS), 0, -1))[0]
        several = rng.randint(5, 30) if rng.random() < 0.03 else 1
        for _ in range(several):
            service, cost, seconds = kinds(rng)
            yield Job(
                jobId=f"{next(number):06}", service=service, owner=owner, queued=now, cost=cost,
                seconds=seconds,
            )  # fmt: skip


class Day:
    """
    The jobs of a day, as they come, run and end.

    @param dependsOn: whether job classes say what their cost depends on.
    """

    def __init__(self, dependsOn: bool = True) -> None:
        self._dependsOn = dependsOn
        self._samples: dict[str, deque[Sample]] = {}
        self._runTimes: dict[str, RunTimes] = {}
        self._waiting: list[Job] = []
        self._running: list[tuple[float, str, Job]] = []

    def play(self, jobs: Iterator[Job]) -> list[Job]:
        """All that were completed, in that order."""
        done = []
        coming = next(jobs, None)
        while coming is not None or self._running:
            if coming is not None and (not self._running or coming.queued < self._running[0][0]):
                now = coming.queued
                self._waiting.append(coming)
                self._quoteQueued(coming)
                coming = next(jobs, None)
            else:
                now, _, job = heappop(self._running)
                self._learn(job)
                done.append(job)
            self._claim(now)
        return done

    def _claim(self, now: float) -> None:
        """Start what can be started, as the statement C{claim} has it."""
        while len(self._running) < SLOTS:
            runs = Counter(job.owner for _, _, job in self._running)
            possible = [job for job in self._waiting if runs[job.owner] < (LIMITS.perOwner or 0)]
            if not possible:
                return
            job = min(possible, key=lambda one: (runs[one.owner], one.queued, one.jobId))
            self._waiting.remove(job)
            job.started = now
            heappush(self._running, (job.ended, job.jobId, job))
            if (estimate := self._estimate(job)) is not None:
                job.quotes["started"] = now, now + estimate.median

    def _learn(self, job: Job) -> None:
        samples = self._samples.setdefault(job.service, deque(maxlen=SAMPLES))
        cost = job.cost if self._dependsOn else ()
        samples.append(Sample(seconds=job.seconds, cost=cost))
        if len(samples) < 20 or int(job.jobId) % 10 == 0:  # in the background it is seldom, too
            self._runTimes[job.service] = RunTimes(samples)

    def _estimate(self, job: Job) -> Estimate | None:
        known = self._runTimes.get(job.service)
        return known.estimate(job.cost if self._dependsOn else ()) if known else None

    def _quoteQueued(self, job: Job) -> None:
        estimate = self._estimate(job)
        if estimate is not None:
            starts = self._line(job.queued).starts()
            job.quotes["queued"] = job.queued, job.queued + starts[job.jobId] + estimate.median

    def _line(self, now: float) -> Line:
        usual = Estimate(median=10, spread=0.5)
        return Line(
            workers=(
                Worker(name="n", slots=SLOTS,
                       services=frozenset({"convert", "search", "report"})),
            ),
            running=tuple(
                Running(service=job.service, owner=job.owner, node="n",
                        left=(self._estimate(job) or usual).left(now - job.started))
                for _, _, job in self._running
            ),
            waiting=tuple(
                Waiting(jobId=job.jobId, service=job.service, owner=job.owner, priority=0,
                        queuedAt=job.queued, seconds=(self._estimate(job) or usual).mean)
                for job in self._waiting
            ),
            limits=LIMITS,
        )  # fmt: skip


def errors(jobs: list[Job], occasion: str) -> list[tuple[float, float]]:
    """By how many seconds quotes were off, and by which part of what was left."""
    found = []
    for job in jobs:
        if occasion in job.quotes:
            asked, quote = job.quotes[occasion]
            found.append((job.ended - quote, (job.ended - quote) / (job.ended - asked)))
    return found


def quantile(values: list[float], part: float) -> float:
    """The value that so large a part of all is below."""
    inOrder = sorted(values)
    return inOrder[min(len(inOrder) - 1, int(part * len(inOrder)))] if inOrder else math.nan


def table(title: str, jobs: list[Job]) -> str:
    """What is printed of a day."""
    lines = [title, f"{'asked when':<12}{'quotes':>7}  {'off by':<12}"
             + "".join(f"{round(100 * q):>8} %" for q in QUANTILES)]  # fmt: skip
    for occasion in ("queued", "started"):
        off = errors(jobs, occasion)
        for what, values, form in (
            ("s", [seconds for seconds, _ in off], "{:>+10.1f}"),
            ("of the rest", [100 * part for _, part in off], "{:>+9.0f}%"),
            ("s, in all", [abs(seconds) for seconds, _ in off], "{:>10.1f}"),
        ):
            figures = "".join(form.format(quantile(values, q)) for q in QUANTILES)
            lines.append(f"{occasion:<12}{len(values):>7}  {what:<12}{figures}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="How far quotes are off.")
    parser.add_argument("--seed", type=int, default=1, help="another one is another day")
    parser.add_argument("--hours", type=float, default=24, help="less is of the busy hours")
    parser.add_argument("--per-hour", type=float, default=110, help="who comes in the busiest one")
    chosen = parser.parse_args(arguments)
    for dependsOn, title in (
        (True, "With what the cost depends on"),
        (False, "Without: a job is like all others of its service"),
    ):
        rng = random.Random(chosen.seed)
        jobs = Day(dependsOn).play(arrivals(rng, chosen.hours, chosen.per_hour))
        took = sorted(job.seconds for job in jobs)
        waited = [job.started - job.queued for job in jobs]
        print(table(title, jobs))
        print()
    shortest, longest, wait = quantile(took, 0.05), quantile(took, 0.95), quantile(waited, 0.95)
    print(f"{len(jobs)} jobs.  They ran for {shortest:.0f} to {longest:.0f} s (5 and 95 %),")
    print(f"and waited for up to {wait:.0f} s (95 %).")


if __name__ == "__main__":
    main()
