"""
Making a job with five parameters, with 8 connections, beside a bare Klein handler that does one
INSERT and COMMIT through L{twuws.database}.

PostgreSQL waits for the disk at each COMMIT, so it is the disk that decides how far either can
go, and commits that come together share one wait.

The statement goes by the limits of an account, writes the job, the record of its change and six
indexes.  With that, and the directory that is made before the row, so that a crash leaves no row
without one, the bare handler has 0.35 to 0.4 of its rate.  That is what bounds this, and what the
second line has the service beside.

Jobs that are made at a time are made by one statement.  It calls a function, whose plans PostgreSQL
keeps: 0.2 ms of CPU for a job, where a statement for each, planned anew, took 0.5 to 0.7.

Of the CPU of the service (1.1 to 1.4 ms, and 0.5 of the bare handler) a tenth each is the
statement, the form with its parameters, the line in the log, and the directory.  Directories of
jobs that are made at a time are made in one turn of a thread, and what is in them once their work
begins: three directories and a turn for each took 0.6 ms, most of it in the kernel, which handed
the interpreter's lock to and fro.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.bed import Bed, Bounds, Service
from bench.client import postRequest
from bench.figures import Figure, Target
from bench.rates import Subject, interleaved
from bench.rows.document import FIVE


def measure(bed: Bed) -> Iterator[Figure]:
    """The rates of both."""
    service, bounds = bed.usual, bed.bounds

    def posting(to: Service | Bounds, path: str) -> Subject:
        request = postRequest(to.port, path, FIVE)
        return Subject(process=to.process, port=to.port, requests=[request], expect=303)

    def beside(path: str) -> dict[str, Any]:
        return interleaved(bed, posting(service, "/five/async"), posting(bounds, path))

    what = "create a job, five parameters, 8 connections"
    yield Figure(
        row="create",
        what=what,
        # The short form cannot ask for much of that: the next line says why, and asks for more.
        target=Target(least=0.7, ofRatio=True, slack=4),
        **beside("/insert"),
    )
    yield Figure(
        row="create",
        what="the same, beside one that makes a job's row and directory",
        target=Target(least=0.7, ofRatio=True, slack=1.75),
        **beside("/create"),
    )
