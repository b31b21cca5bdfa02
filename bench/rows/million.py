"""
To make, run and claim jobs beside 1,000,000 that are finished, and beside 1,000.

A claim looks at the C{queue} only, which has a row for each job that waits or runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from bench.bed import Bed
from bench.client import Client, millisecondsSince
from bench.figures import Figure, Target, ratioOf
from bench.rows.document import FIVE
from bench.rows.executing import untilExecuting


def creating(client: Client) -> float:
    """How many ms it takes to make a job."""
    began = time.perf_counter()
    client.create("five", FIVE)
    return millisecondsSince(began)


def measure(bed: Bed) -> Iterator[Figure]:
    """The medians of both, who take turns."""
    pairs = []
    with ExitStack() as stack:
        for service in (bed.many, bed.few):
            pairs.append([stack.enter_context(service.client()) for _ in range(2)])
        turns = [
            [(creating(one), untilExecuting(one, other)) for one, other in pairs]
            for _ in range(8 if bed.isShort else 40)
        ][2:]
    for place, what in enumerate(("create a job", "POST to EXECUTING seen")):
        many, few = ([turn[service][place] for turn in turns] for service in (0, 1))
        yield Figure(
            row="million", what=f"{what}, {bed.manyJobs} jobs there", value=median(many),
            unit="ms", bound=median(few), ratio=ratioOf(many, few),
            target=Target(most=1.3, ofRatio=True, slack=2),
        )  # fmt: skip
