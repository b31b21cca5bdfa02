"""
From the POST that runs a job to when somebody who waits for it has seen that it is EXECUTING.

The one who waits has asked before, and asks again when the job is QUEUED.  On the way are two
transactions that PostgreSQL writes to the disk, one to queue the job (four round trips) and one to
claim it (one), and two notifications.  Between the second commit and the answer is one read.
Nothing is done in threads, and nothing waits for a time to go by.  So this is hardly more than two
commits; on a machine that is busy each of some dozen changes from one process to another waits
for its turn, and this is a multiple of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench.bed import Bed, Service
from bench.client import Client, millisecondsSince
from bench.figures import Figure, Target, quantile


def untilExecuting(asking: Client, waiting: Client, service: str = "pause") -> float:
    """Run a new job, and say after how many ms it was seen to be EXECUTING."""
    job = asking.create(service)
    waiting.begin("GET", job + "?WAIT=30&PHASE=PENDING")
    asking.get(job + "/phase")  # by now the other is waiting, too
    began = time.perf_counter()
    asking.begin("POST", job + "/phase", {"PHASE": "RUN"})
    phase = waiting.phase(waiting.end().text)
    while phase == "QUEUED":
        phase = waiting.phase(waiting.get(job + "?WAIT=30&PHASE=QUEUED"))
    took = millisecondsSince(began)
    asking.end()
    if phase != "EXECUTING":
        raise RuntimeError(f"the job is {phase} already, it should be EXECUTING for some time")
    asking.untilEnded(job)
    return took


def latencies(service: Service, number: int) -> list[float]:
    """So many, after some to warm up."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(service.client()) for _ in range(2))
        for _ in range(3):
            untilExecuting(one, other)
        return [untilExecuting(one, other) for _ in range(number)]


def measure(bed: Bed) -> Iterator[Figure]:
    """The median, and the 99th percentile."""
    found = latencies(bed.usual, 10 if bed.isShort else 100)
    for what, part, most in (("p50", 0.5, 15), ("p99", 0.99, 60)):
        yield Figure(
            row="executing",
            what=f"POST to EXECUTING seen by a waiter, {what}",
            value=quantile(found, part),
            unit="ms",
            target=Target(most=most, slack=8),
        )
