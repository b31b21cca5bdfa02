"""
Rates of requests, in rounds in which all who are compared take turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench import wrk
from bench.bed import Bed
from bench.figures import ratioOf
from bench.processes import Child


@dataclass(kw_only=True)
class Subject:
    """
    Who is asked, and what.

    @ivar requests: whole requests, which take turns.
    @ivar expect: the status of a good answer.
    @ivar rates: requests per second, by round.
    @ivar cpus: ms of CPU that a request costs the process, by round.
    """

    process: Child
    port: int
    requests: Sequence[str]
    expect: int = 200
    rates: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    def wish(self, **more: Any) -> dict[str, Any]:
        """For L{bench.load}."""
        return {"port": self.port, "requests": self.requests, "expect": self.expect, **more}

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def cpu(self) -> float:
        return median(self.cpus)


def run(load: Child, wish: Mapping[str, Any]) -> dict[str, Any]:
    """
    Send requests, and return what came of it.

    @raise RuntimeError: if an answer was not as expected.
    """
    return checked(load.ask(wish))


def checked(result: dict[str, Any]) -> dict[str, Any]:
    """The same result, if there were answers, and all were good."""
    if not result["requests"]:
        raise RuntimeError("nothing was answered")
    if result["failures"]:
        raise RuntimeError(f"{result['failures']} bad answers, such as {result['failure']}")
    return result


def once(bed: Bed, subject: Subject, seconds: float, connections: int) -> None:
    """One round for one of them."""
    began = subject.process.cpu()
    wish = subject.wish(seconds=seconds, connections=connections)
    result = checked(wrk.run(wish)) if wrk.isThere() else run(bed.load, wish)
    subject.rates.append(result["rate"])
    subject.cpus.append(1000 * (subject.process.cpu() - began) / result["requests"])


def interleaved(bed: Bed, one: Subject, other: Subject, connections: int = 8) -> dict[str, Any]:
    """
    What a L{bench.figures.Figure} says of how the rate of one compares to that of another.
    """
    for subject in (one, other):
        run(bed.load, subject.wish(count=300, connections=connections))  # to warm up
    for number in range(bed.rounds):
        inTurn = (one, other) if number % 2 else (other, one)
        for subject in inTurn:
            once(bed, subject, bed.seconds, connections)
    return {
        "value": one.rate,
        "unit": "/s",
        "bound": other.rate,
        "ratio": ratioOf(one.rates, other.rates),
        "more": {
            "cpu": one.cpu,
            "boundCpu": other.cpu,
            "cpuRatio": ratioOf(other.cpus, one.cpus),
        },
    }


@contextmanager
def others(bed: Bed, subject: Subject, pace: float = 0.01) -> Iterator[dict[str, Any]]:
    """
    Send a request every so many seconds while something else goes on.

    What came of it is in the dictionary that this gives, once the block has ended.
    """
    result: dict[str, Any] = {}
    bed.other.tell(subject.wish(connections=1, pace=pace, untilTold=True))
    try:
        yield result
    finally:
        bed.other.tell("enough")
        found = json.loads(bed.other.line())
    result.update(checked(found))
