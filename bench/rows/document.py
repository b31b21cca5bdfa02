"""
GET of a job document with 8 connections, beside a bare Klein handler that sends the same bytes;
and that handler after one SELECT, beside itself.

Each GET asks the database, for there may be other processes that change the job: a document that
was kept could be older than what its client has seen.  One SELECT of one row is what bounds this,
and on two cores, of which PostgreSQL and the load take their part, it leaves a bare handler 0.4 to
0.6 of its rate.  Of the CPU of a GET, in units of what the bare handler takes (0.2 ms):

    ====  ======================================================================
    1     Twisted's HTTP, Klein, and the line in the log: the bare handler
    0.5   a statement: txpostgres, the reactor's turns, psycopg2 (sync: 0.1)
    0.6   the row: 17 columns, of which 4 are JSON
    0.6   the record of the job, and its document
    1.2   who asks and what they may, the limits of the connection, URLs, ETag,
          Accept, and five headers more
    ====  ======================================================================

No function has more than 5 % of it.
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
