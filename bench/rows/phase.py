"""
GET of a job's phase with 8 connections, beside a bare Klein handler that sends the same bytes.

The row is read as for a document, see L{bench.rows.document}, which tells where the time goes; what
is made of it is a word.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.bed import Bed
from bench.client import getRequest
from bench.figures import Figure, Target
from bench.rates import Subject, interleaved


def measure(bed: Bed) -> Iterator[Figure]:
    """The rates of both."""
    service, bounds = bed.usual, bed.bounds
    with service.client() as client:
        phase = client.create("noop") + "/phase"
        path = bounds.remember("/phase", client.get(phase))
    own = Subject(
        process=service.process, port=service.port, requests=[getRequest(service.port, phase)]
    )
    bare = Subject(
        process=bounds.process, port=bounds.port, requests=[getRequest(bounds.port, path)]
    )
    yield Figure(
        row="phase",
        what="GET phase, 8 connections",
        target=Target(least=0.5, ofRatio=True, slack=2),
        **interleaved(bed, own, bare),
    )
