"""
GET of a job document with 8 connections, beside a bare Klein handler that sends the same bytes;
and that handler after one SELECT, beside itself.

Each GET asks the database, for there may be other processes that change the job: a document that
was kept could be older than what its client has seen.  A SELECT for each GET leaves even a bare
handler no more than 0.6 to 0.65 of its rate.  So jobs that are asked for at a time share one, which
takes a fifth off a GET; it is prepared, which takes two thirds off what PostgreSQL does.

What a GET takes of CPU, in units of what the bare handler takes (0.18 ms):

    ====  ======================================================================
    1     Twisted's HTTP, Klein, and the line in the log: the bare handler
    0.2   the statement and its row: 17 columns, of which 4 are JSON
    0.2   the record of the job, and its document
    0.9   who asks and what they may, the limits of the connection, URLs, ETag,
          Accept, five headers more, and the turns of coroutines between them
    ====  ======================================================================

For half the rate of the bare handler, all but the first would have to be done in 1.  No function
of twuws has more than 3 % of it, so that is a matter of having less, and not of doing it faster.
The line in the log alone is 0.35, most of which Twisted takes to write the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.bed import Bed, Bounds
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
    yield Figure(
        row="document",
        what="GET job document, 8 connections",
        target=Target(least=0.5, ofRatio=True, slack=2),
        **interleaved(bed, own, _bare(bounds, path)),
    )
    looking = _bare(bounds, path.replace("/bytes/", "/looked/"))
    yield Figure(
        row="document",
        what="the bare handler after one SELECT",
        **interleaved(bed, looking, _bare(bounds, path)),
    )


def _bare(bounds: Bounds, path: str) -> Subject:
    return Subject(
        process=bounds.process, port=bounds.port, requests=[getRequest(bounds.port, path)]
    )
