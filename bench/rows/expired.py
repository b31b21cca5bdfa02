"""
10,000 expired jobs are destroyed with their directories, and what others see meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.bed import Bed
from bench.client import getRequest
from bench.figures import Figure, Target
from bench.filling import fill, idOf, makeDirectories
from bench.processes import until
from bench.rates import Subject, others


def measure(bed: Bed) -> Iterator[Figure]:
    """The service finds them when it starts."""
    number = 500 if bed.isShort else 10_000
    with bed.service("expired") as service:
        service.process.end()
        database = service.database
        fill(database, number, age=3600, lifetime=60)
        fill(database, 1, phase="PENDING", mark="other")
        makeDirectories(service.jobs, [idOf(n) for n in range(1, number + 1)], b"a result\n")
        service.start()
        phase = getRequest(service.port, f"/five/async/{idOf(1, 'other')}/phase")
        one = Subject(process=service.process, port=service.port, requests=[phase])
        began, cpu = time.monotonic(), service.process.cpu()
        with others(bed, one) as seen:
            until(lambda: database.run("SELECT count(*) = 1 FROM jobs")[0][0], "all are gone",
                  300, every=0.2)  # fmt: skip
        left = sum(1 for _ in service.jobs.glob("[0-9a-f][0-9a-f]/*"))
        if left:
            raise RuntimeError(f"{left} directories are left")
        cpu = 1000 * (service.process.cpu() - cpu) / number
    yield Figure(
        row="expired", what=f"{number} expired jobs are destroyed: p99 of others",
        value=1000 * seen["p99"], unit="ms", target=Target(most=50, slack=8),
        more={"cpu": cpu, "seconds": time.monotonic() - began, "longest": 1000 * seen["longest"]},
    )  # fmt: skip
