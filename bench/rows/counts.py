"""
What does not depend on the machine: statements for each request, rows that LAST reads, and what
a row of the job list takes of memory.

A statement is a round trip: BEGIN goes with the first of a transaction, COMMIT is one, too.  The
targets of memory are guesses, until a run on a quiet machine has shown what they are to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bench.bed import Bed, Service
from bench.client import Client
from bench.databases import Database
from bench.figures import Figure, Target
from bench.processes import Child
from bench.rows.document import FIVE
from bench.rows.waits import STATEMENTS
from twuws.phases import ARCHIVED, Phase
from twuws.statements import STATEMENTS as SQL

#: Of each request, so that what a service does by itself counts for little.
NUMBER = 100


def statements(service: Service, request: Callable[[], object]) -> float:
    """How many statements a request takes."""
    before = service.metric(STATEMENTS)
    for _ in range(NUMBER):
        request()
    return round((service.metric(STATEMENTS) - before) / NUMBER, 1)


def ofRequests(service: Service, client: Client) -> Iterator[tuple[str, float, float]]:
    """What each is, how many statements it takes, and how many it may take."""
    job = client.create("five", FIVE)
    pending = iter([client.create("noop") for _ in range(2 * NUMBER)])

    def runOne() -> None:
        one = next(pending)
        client.post(one + "/phase", {"PHASE": "RUN"})
        client.untilEnded(one)

    yield "GET job document", statements(service, lambda: client.get(job)), 1
    yield "GET phase", statements(service, lambda: client.get(job + "/phase")), 1
    yield "LAST=100", statements(service, lambda: client.get("/five/async?LAST=100")), 1
    yield "create a job", statements(service, lambda: client.create("five", FIVE)), 1
    yield "RUN to COMPLETED, async def job", statements(service, runOne), 15


def rowsOfLast(database: Database) -> float:
    """How many rows of C{jobs} are read for LAST=100."""
    plan: dict[str, Any] = database.run(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {SQL['listJobs']}",
        {
            "service": "five", "owner": None, "anyOwner": False, "listedOnly": True, "limit": 100,
            "phases": [one.value for one in Phase if one is not ARCHIVED],
            "after": "-infinity", "beforeTime": "infinity", "beforeId": "",
        },
    )[0][0][0]["Plan"]  # fmt: skip

    def read(node: dict[str, Any]) -> float:
        below = node.get("Plans", ())
        if below:
            return sum(map(read, below))
        return float(
            node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        )

    return read(plan)


def measure(bed: Bed) -> Iterator[Figure]:
    """All of them."""

    def figure(what: str, value: float, unit: str, most: float, slack: float = 1) -> Figure:
        target = Target(most=most, slack=slack)
        return Figure(row="counts", what=what, value=value, unit=unit, target=target)

    with bed.usual.client() as client:
        for what, value, most in ofRequests(bed.usual, client):
            # What the service does by itself meanwhile is a few statements in all.
            yield figure(f"statements: {what}", value, "", most + 0.2)
    yield figure(f"rows read by LAST=100 of {bed.manyJobs}", rowsOfLast(bed.many.database), "", 101)
    child = Child.module("bench.allocations", bed.many.database.dsn, "five",
                         log=bed.directory / "allocations.log")  # fmt: skip
    found = child.ask("go")
    child.end()
    yield figure("blocks of memory for a row of the list", found["blocks"], "", 30)
    yield figure("memory for a row of the list", found["bytes"] / 1000, "kB", 3)
