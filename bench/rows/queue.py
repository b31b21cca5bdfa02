"""
A queue of 2,000 C{async def} jobs that do nothing, until it is empty, 8 at a time: beside
procrastinate and pgqueuer from PyPI, which do the same on the same PostgreSQL.

They are installed with the extra C{bench}; which of them is not there is left out.  What each
does for a job differs: here it is three commits (claimed, where its work is, how it ended), the
records of its phases, notifications, and a directory.  Jobs that are claimed, begin, or end at the
same time share these commits.

With half of the places in each group a job takes some 0.9 ms of CPU in the service and 1.0 in
PostgreSQL, where groups of two or three, each planned anew, took 2.0 and 2.2 beside it.  The
three statements alone, by a program that does nothing else, take 0.84 ms of that for 4 jobs at a
time, 0.54 for 8, and 3.1 for one: most of it is for a statement, whatever number of jobs it is
for.  With more places a job costs less.  In the service it is Deferreds, coroutines, paths, and
turns in threads, no part of which is large.

The commit that stores where the work is stays: a job that is claimed by a node which is then lost
is begun anew whatever its class, which could not be if that were stored with the claim.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from statistics import median

from bench.bed import Bed, Service
from bench.databases import Database
from bench.figures import Figure, Target
from bench.filling import fill, idOf, makeDirectories
from bench.processes import Child, until
from bench.rivals import DONE

OWN = (
    "SELECT NOT EXISTS (SELECT FROM uws.queue), (SELECT count(*) FROM uws.jobs"
    " WHERE phase = 'COMPLETED')"
)
#: As if their owners had queued them; the service hears of it once.
QUEUE = """
    SET session_replication_role = replica;
    UPDATE jobs SET phase = 'QUEUED';
    INSERT INTO queue (job_id, service, owner) SELECT job_id, service, '' FROM jobs;
    SELECT pg_notify('uws', min(job_id) || ' QUEUED noop') FROM jobs;
    RESET session_replication_role;"""


def untilDone(database: Database, sql: str, number: int, began: float) -> float:
    """How many jobs per second there have been, once all are done."""
    with database.connection() as connection, connection.cursor() as cursor:

        def done() -> bool:
            cursor.execute(sql)
            isDone, count = cursor.fetchone()
            if isDone and count != number:
                raise RuntimeError(f"{count} jobs of {number} have been done")
            return bool(isDone)

        until(done, f"{number} jobs", 300, every=0.02)
    return number / (time.monotonic() - began)


def own(bed: Bed, number: int) -> tuple[float, float]:
    """Jobs per second, and ms of CPU for each in the service."""
    with bed.service("queue", slots=8) as service:
        prepare(service, number)
        cpu = service.process.cpu()
        service.database.run(QUEUE)
        rate = untilDone(service.database, OWN, number, time.monotonic())
        return rate, 1000 * (service.process.cpu() - cpu) / number


def prepare(service: Service, number: int) -> None:
    """Make the jobs, PENDING."""
    fill(service.database, number, service="noop", phase="PENDING")
    makeDirectories(service.jobs, [idOf(n) for n in range(1, number + 1)])


def rival(bed: Bed, name: str, number: int) -> tuple[float, float]:
    """The same of another one."""
    database = bed.database()
    child = Child.module(
        "bench.rivals", name, database.url, str(number), log=bed.directory / f"{name}.log"
    )
    try:
        child.line()
        cpu = child.cpu()
        child.tell("go")
        rate = untilDone(database, DONE[name], number, float(child.line()))
        return rate, 1000 * (child.cpu() - cpu) / number
    finally:
        child.end()


def measure(bed: Bed) -> Iterator[Figure]:
    """A figure for each of the others, beside the same of ours."""
    number, rounds = (300, 1) if bed.isShort else (2000, 3)
    names = [name for name in DONE if find_spec(name)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("own", *names)}
    for _ in range(rounds):
        found["own"].append(own(bed, number))
        for name in names:
            found[name].append(rival(bed, name, number))
    rates = {name: median(rate for rate, _ in several) for name, several in found.items()}
    cpus = {name: median(cpu for _, cpu in several) for name, several in found.items()}
    for name in DONE:
        what = f"queue of {number} jobs, beside {name}"
        if name in names:
            yield Figure(
                row="queue", what=what, value=rates["own"], unit="/s", bound=rates[name],
                ratio=rates["own"] / rates[name], target=Target(least=1, ofRatio=True, slack=10),
                more={"cpu": cpus["own"], "boundCpu": cpus[name]},
            )  # fmt: skip
        else:
            yield Figure(row="queue", what=what, skipped=f"{name} is not installed")
