"""
A service that nobody asks anything, with 1,000,000 jobs.

It renews its lease, and looks for jobs that are overdue, expired or lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.bed import Bed
from bench.figures import Figure, Target


def measure(bed: Bed) -> Iterator[Figure]:
    """Part of a core, and memory."""
    database = bed.many.database
    with bed.service("idle", database) as service:
        time.sleep(3 if bed.isShort else 10)  # what it does once, at the beginning
        seconds = 5 if bed.isShort else 30
        cpu = service.process.cpu()
        time.sleep(seconds)
        part = 100 * (service.process.cpu() - cpu) / seconds
        memory = service.process.memory()
    what = f"idle, {bed.manyJobs} jobs there"
    yield Figure(row="idle", what=f"{what}: of a core", value=part, unit="%",
                 target=Target(most=1, slack=3))  # fmt: skip
    yield Figure(row="idle", what=f"{what}: memory", value=memory, unit="MB",
                 target=Target(most=90, slack=1.1))  # fmt: skip
