"""
Making a job with five parameters, with 8 connections, beside a bare Klein handler that does one
INSERT and COMMIT through L{twuws.database}.

PostgreSQL waits for the disk at each COMMIT, so it is the disk that decides how far either can
go, and commits that come together share one wait.

The statement takes PostgreSQL 0.4 ms of CPU, and that of the bare handler 0.03: it goes by the
limits of an account, writes the job, the record of its change and six indexes.  With that, and the
directory that is made before the row, so that a crash leaves no row without one, the bare handler
has 0.4 of its rate: that is what bounds this, and the service has three quarters of it.

Of the CPU of the service (1.3 ms, and 0.4 of the bare handler) a sixth is the statement with the
row that comes back; a tenth each the form with its parameters, the line in the log, and the
directory.  Directories of jobs that are made at a time are made in one turn of a thread, and what
is in them once their work begins: three directories and a turn for each took 0.6 ms, most of it in
the kernel, which handed the interpreter's lock to and fro.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.bed import Bed
from bench.client import postRequest
from bench.figures import Figure, Target
from bench.rates import Subject, interleaved
from bench.rows.document import FIVE


def measure(bed: Bed) -> Iterator[Figure]:
    """The rates of both."""
    service, bounds = bed.usual, bed.bounds
    own = Subject(
        process=service.process,
        port=service.port,
        requests=[postRequest(service.port, "/five/async", FIVE)],
        expect=303,
    )

    def bare(path: str) -> Subject:
        request = postRequest(bounds.port, path, FIVE)
        return Subject(process=bounds.process, port=bounds.port, requests=[request], expect=303)

    yield Figure(
        row="create",
        what="create a job, five parameters, 8 connections",
        target=Target(least=0.7, ofRatio=True, slack=4),
        **interleaved(bed, own, bare("/insert")),
    )
    yield Figure(
        row="create",
        what="the bare handler with a job's row and directory",
        **interleaved(bed, bare("/create"), bare("/insert")),
    )
