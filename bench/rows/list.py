"""
The list of 100,000 jobs, beside lxml that writes the same bytes from a list in memory.

It is read in pages of 200, each a query of its own by the index on creation times.  After every 50
jobs the reactor has four turns for others: one would do, but an answer takes four or five, each of
which would wait for 50 jobs.  Half of the time (12 µs for a job) goes into the text, of which a
third is the creation time; a quarter into reading the page, a sixth into the values between.

Who else is asked meanwhile begins a request every 10 ms, on one connection.  If the machine is so
busy that an answer takes longer than that, it waits for all before it, list or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.bed import Bed, Service
from bench.client import getRequest
from bench.figures import Figure, Target, ratioOf
from bench.filling import fill, idOf
from bench.processes import Child
from bench.rates import Subject, others


def rates(bed: Bed, service: Service, bound: Child) -> tuple[list[float], list[float], list[float]]:
    """MB/s of the service, MB/s of lxml, and after how many ms the first byte came."""
    own, lxml, first = [], [], []
    for _ in range(bed.rounds):
        found = bound.ask("go")
        lxml.append(found["bytes"] / found["seconds"] / 1e6)
        found = bed.transfer.ask({"port": service.port, "path": "/five/async"})
        own.append(found["bytes"] / found["seconds"] / 1e6)
        first.append(1000 * found["first"])
    return own, lxml, first


def measure(bed: Bed) -> Iterator[Figure]:
    """Rate, first byte, memory, and what others see meanwhile."""
    number = 10_000 if bed.isShort else 100_000
    with bed.service("list") as service:
        fill(service.database, number)
        url = f"http://127.0.0.1:{service.port}/five/async/"
        bound = bed.begin(
            Child.module("bench.lxmllist", str(number), url, log=bed.directory / "lxml.log")
        )
        short = {"port": service.port, "path": "/five/async?LAST=1000"}
        bed.transfer.ask(short)
        before = service.process.memory()
        service.process.forgetPeak()
        own, lxml, first = rates(bed, service, bound)
        more = service.process.peak() - before
        phase = getRequest(service.port, f"/five/async/{idOf(1)}/phase")
        one = Subject(process=service.process, port=service.port, requests=[phase])
        with others(bed, one) as seen:
            bed.transfer.ask({"port": service.port, "path": "/five/async"})
        bound.end()
    what = f"list of {number} jobs"
    yield Figure(row="list", what=what, value=median(own), unit="MB/s", bound=median(lxml),
                 ratio=ratioOf(own, lxml),
                 target=Target(least=0.5, ofRatio=True, slack=4))  # fmt: skip
    yield Figure(row="list", what=f"{what}: first byte", value=median(first), unit="ms",
                 target=Target(most=50, slack=8))  # fmt: skip
    yield Figure(row="list", what=f"{what}: memory", value=more, unit="MB",
                 target=Target(most=20, slack=1.5))  # fmt: skip
    yield Figure(row="list", what=f"{what}: p99 of others", value=1000 * seen["p99"], unit="ms",
                 target=Target(most=50, slack=8))  # fmt: skip
