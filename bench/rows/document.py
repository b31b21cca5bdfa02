"""
GET of a job document with 8 connections, beside a bare Klein handler that sends the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.bed import Bed
from bench.client import getRequest
from bench.figures import Figure, Target
from bench.rates import Subject, interleaved

FIVE = {"image": "m31.fits", "ra": "10.68", "dec": "41.27", "size": "0.2", "mode": "fast"}


def measure(bed: Bed) -> Iterator[Figure]:
    """The rates of both."""
    service, bounds = bed.usual, bed.bounds
    with service.client() as client:
        job = client.create("five", {**FIVE, "PHASE": "RUN"})
        client.untilEnded(job)
        path = bounds.remember("/document", client.get(job))
    own = Subject(
        process=service.process, port=service.port, requests=[getRequest(service.port, job)]
    )
    bare = Subject(
        process=bounds.process, port=bounds.port, requests=[getRequest(bounds.port, path)]
    )
    yield Figure(
        row="document",
        what="GET job document, 8 connections",
        target=Target(least=0.5, ofRatio=True, slack=2),
        **interleaved(bed, own, bare),
    )
