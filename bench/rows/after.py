"""
GET of a job document after 100,000 of them, beside a service that has just begun.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.bed import Bed, Service
from bench.client import getRequest
from bench.figures import Figure, Target
from bench.rates import Subject, interleaved, run
from bench.rows.document import FIVE


def subject(service: Service) -> Subject:
    """A job there, to ask for."""
    with service.client() as client:
        job = client.create("five", {**FIVE, "PHASE": "RUN"})
        client.untilEnded(job)
    return Subject(
        process=service.process, port=service.port, requests=[getRequest(service.port, job)]
    )


def measure(bed: Bed) -> Iterator[Figure]:
    """Rate, and memory."""
    number = 3000 if bed.isShort else 100_000
    with bed.service("used") as used:
        one = subject(used)
        run(bed.load, one.wish(count=2000))
        memory = used.process.memory()
        run(bed.load, one.wish(count=number))
        more = used.process.memory() - memory
        with bed.service("fresh") as fresh:
            compared = interleaved(bed, one, subject(fresh))
    yield Figure(row="after", what=f"GET job after {number} GETs",
                 target=Target(least=0.95, ofRatio=True, slack=1.5), **compared)  # fmt: skip
    yield Figure(row="after", what=f"GET job after {number} GETs: memory", value=more, unit="MB",
                 target=Target(most=5, slack=1))  # fmt: skip
