"""
C{LAST=100} among 1,000,000 jobs, beside the same among 1,000.

The newest are at the beginning of the index on creation times, however many follow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from bench.bed import Bed
from bench.client import Client, millisecondsSince
from bench.figures import Figure, Target, ratioOf


def took(client: Client) -> float:
    """How many ms the list takes."""
    began = time.perf_counter()
    client.get("/five/async?LAST=100")
    return millisecondsSince(began)


def measure(bed: Bed) -> Iterator[Figure]:
    """The medians of both, who take turns."""
    with bed.many.client() as client, bed.few.client() as other:
        turns = [(took(client), took(other)) for _ in range(20 if bed.isShort else 200)]
    many, few = map(list, zip(*turns[5:], strict=True))
    what = f"LAST=100 of {bed.manyJobs} jobs"
    yield Figure(row="last", what=what, value=median(many), unit="ms", bound=median(few),
                 ratio=ratioOf(many, few),
                 target=Target(most=1.3, ofRatio=True, slack=2))  # fmt: skip
    yield Figure(row="last", what=f"{what}, at most", value=median(many), unit="ms",
                 target=Target(most=15, slack=8))  # fmt: skip
