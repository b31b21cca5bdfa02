"""
10,000 WAITs that one process holds: what each takes of its memory, whether they ask the database
while nothing changes, and what others and they themselves see of it.

A waiter is a connection of Twisted's, its request, and an entry in a dictionary.  Who is woken
reads its job: one query and one document for each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from bench.bed import Bed, Service
from bench.client import getRequest
from bench.figures import Figure, Target, quantile
from bench.filling import fill, idOf
from bench.processes import Child, until
from bench.rates import Subject, others, run

STATEMENTS = "twuws_database_statement_seconds_count"

#: How many come at a time: with thousands in one moment, the last would be told 503.
AT_ONCE = 200

#: Ends jobs that wait, as a service would.
END = """
    UPDATE jobs SET phase = 'ABORTED', end_time = date_trunc('milliseconds', clock_timestamp()),
                    moved = jsonb_build_object('who', 'bench', 'at', clock_timestamp())
    WHERE job_id = ANY(%s)"""


class Waiters:
    """So many who wait, each for a job of its own, from number 1 on."""

    def __init__(self, bed: Bed, service: Service, number: int) -> None:
        self._service = service
        self.process = bed.begin(Child.module("bench.waiters", log=bed.directory / "waiters.log"))
        for first in range(1, number + 1, AT_ONCE):
            last = min(first + AT_ONCE - 1, number)
            paths = [f"/five/async/{idOf(n)}?WAIT=-1" for n in range(first, last + 1)]
            self._ask(paths)
            self._awaitAll(last)

    def _ask(self, paths: Sequence[str] = (), last: int = 0) -> list[tuple[int, float]]:
        wish = {"port": self._service.port, "paths": paths, "last": last}
        answers: list[tuple[int, float]] = self.process.ask(wish)
        return answers

    def _awaitAll(self, number: int) -> None:
        until(lambda: self._service.metric("twuws_waiters") >= number, f"{number} wait", 60,
              every=0.02)  # fmt: skip

    def end(self, connection: Any, numbers: Sequence[int]) -> float:
        """Let the jobs of some of them end; when that was begun."""
        began = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(END, ([idOf(n) for n in numbers],))
        return began

    def answered(self, number: int, since: int = 0) -> list[tuple[int, float]]:
        """When which of them were answered, once so many have been."""
        found = until(
            lambda: len(got := self._ask(last=since)) >= number and got,
            f"{number} answers", every=0.002 if number == 1 else 0.1,
        )  # fmt: skip
        return [(place + 1, at) for place, at in found]


def oneByOne(service: Service, waiters: Waiters, number: int) -> list[float]:
    """How many ms it takes until each of the first sees that its job has changed."""
    took = []
    with service.database.connection() as connection:
        for n in range(1, number + 1):
            began = waiters.end(connection, [n])
            took.append(1000 * (waiters.answered(1, n - 1)[0][1] - began))
    return took


def atOnce(service: Service, waiters: Waiters, first: int, last: int) -> float:
    """How long it takes until all the others see it, whose jobs change within a second, s."""
    began = time.monotonic()
    step = (last - first) // 10 + 1
    with service.database.connection() as connection:
        for n, start in enumerate(range(first, last + 1, step)):
            waiters.end(connection, range(start, min(start + step, last + 1)))
            time.sleep(max(0, began + 0.1 * (n + 1) - time.monotonic()))
    answers = waiters.answered(last - first + 1, first - 1)
    return max(at for _, at in answers) - began


def measure(bed: Bed) -> Iterator[Figure]:
    """All that is said of them."""
    number, some = (1000, 30) if bed.isShort else (10_000, 200)

    def figure(what: str, value: float, unit: str, most: float, slack: float) -> Figure:
        target = Target(most=most, slack=slack)
        what = f"{number} WAITs: {what}"
        return Figure(row="waits", what=what, value=value, unit=unit, target=target)

    tables = f"[limits]\nconnections = {number + 100}\n"
    with bed.service("waits", tables=tables, longest_wait=300) as service:
        fill(service.database, number, phase="PENDING")
        phase = getRequest(service.port, f"/five/async/{idOf(number)}/phase")
        one = Subject(process=service.process, port=service.port, requests=[phase])
        run(bed.load, one.wish(count=500))
        memory = service.process.memory()
        waiters = Waiters(bed, service, number)
        yield figure("memory of each", 1000 * (service.process.memory() - memory) / number, "kB",
                     30, 1.2)  # fmt: skip
        statements = service.metric(STATEMENTS)
        time.sleep(3)
        yield figure("statements in 3 s", service.metric(STATEMENTS) - statements, "", 20, 1)
        with others(bed, one) as seen:
            time.sleep(3)
        yield figure("p99 of others", 1000 * seen["p99"], "ms", 50, 8)
        changes = oneByOne(service, waiters, some)
        yield figure("a change seen, p99", quantile(changes, 0.99), "ms", 50, 8)
        last = atOnce(service, waiters, some + 1, number)
        yield figure("all change in 1 s, the last sees it after", last, "s", 5, 4)
        waiters.process.end()
