"""
Deliberate bugs, by which is seen that the checker finds them: each changes the process of a
node that is about to start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

#: A lease that work never sees the end of, s.
_FOR_EVER = 1e6


def noFencing() -> None:
    """Attempts are not compared, and work does not end with its node's lease."""
    from twuws.jobstable import JobsTable
    from twuws.leases import LeaseFile
    from twuws.node import Node
    from twuws.statements import PREPARED, STATEMENTS
    from twuws.uwsworking import WorkedJobs

    del PREPARED["rememberWork"]
    STATEMENTS["rememberWork"] = """
        UPDATE queue q SET ref = r.ref
        FROM jsonb_to_recordset(%(refs)s) AS r (job_id text, attempt integer, ref jsonb)
        WHERE q.job_id = r.job_id RETURNING r.job_id, r.attempt"""
    for name in ("reportWork", "reportFetched"):
        STATEMENTS[name] = STATEMENTS[name].replace(
            "AND attempt = %(attempt)s AND phase = 'EXECUTING'", ""
        )

    async def checkLease(node: Node) -> None:
        pass

    async def endNothing(table: JobsTable, service: str, ends: Sequence[Any]) -> list[bool]:
        return [False for _ in ends]  # but one by one, below

    @asynccontextmanager
    async def ofAttempt(uws: Any, jobId: str, attempt: int) -> AsyncIterator[Any]:
        async with uws._locked(jobId) as (t, record, now):
            yield t, record, now

    renew = LeaseFile.renew

    def renewForEver(lease: LeaseFile, ends: float) -> None:
        renew(lease, ends + _FOR_EVER)

    # Each takes the place of a method on purpose, which mypy minds.
    LeaseFile.renew = renewForEver  # type: ignore[method-assign,assignment]
    Node.hasLease = property(lambda node: True)  # type: ignore[method-assign,assignment]
    Node.checkLease = checkLease  # type: ignore[method-assign,assignment]
    JobsTable.end = endNothing  # type: ignore[method-assign,assignment]
    WorkedJobs._ofAttempt = ofAttempt  # type: ignore[method-assign,assignment]


def noRowLock() -> None:
    """Who moves a job does not lock its row, nor wait for others in the same process."""
    from twuws.joblocks import JobLocks
    from twuws.statements import STATEMENTS

    STATEMENTS["lockJob"] = STATEMENTS["lockJob"].replace("FOR UPDATE", "")

    @asynccontextmanager
    async def held(locks: JobLocks, jobId: str, timeout: float) -> AsyncIterator[None]:
        yield

    # As above, on purpose.
    JobLocks.held = held  # type: ignore[method-assign,assignment]


def pidAlone() -> None:
    """A runner is found again by its process id alone."""
    import psutil

    from twuws.backends import family

    def isRunner(process: psutil.Process, ref: Any) -> bool:
        try:
            return process.pid == ref["pid"] and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    family.isRunner = isRunner


#: By the names that C{--bug} takes.
BUGS: dict[str, Callable[[], None]] = {
    "no-fencing": noFencing,
    "no-row-lock": noRowLock,
    "pid-alone": pidAlone,
}
