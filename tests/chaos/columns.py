"""
The columns of the matrix: a fault, and what is done to inject and to heal it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import psycopg2

if TYPE_CHECKING:
    from tests.chaos.playing import Fate, Play

#: For how long PostgreSQL is away, s.
AWAY = 30.0

#: A lease that outlasts that, and all that a busy machine may need; and one that does not, s.
LONG_LEASE = 45.0
SHORT_LEASE = 8.0

#: The table in which somebody else holds the row that a node is about to change.
HELD_IN = {
    "QUEUED": "queue",
    "claimed": "queue",
    "started": "queue",
    "EXECUTING": "nodes",
    "ended": "jobs",
    "aborting": "stops",
    "deleting": "stops",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """
    A fault.

    @ivar what: is broken.
    @ivar inject: breaks it, opens the gates, and heals it.
    @ivar seconds: how long jobs work that are EXECUTING then: longer than it takes to break.
    @ivar lease: of the nodes, s.
    @ivar hosts: with a node on each; the fault is at the first, which has all of the jobs.
    @ivar isLosing: work is lost, which is seen by the end of a lease.
    @ivar settled: how long it takes at most after that until all have ended, s.
    """

    what: str
    inject: Callable[[Play], None]
    seconds: float = 10.0
    lease: float = LONG_LEASE
    hosts: tuple[str, ...] = ("a",)
    isLosing: bool = False
    settled: float = 25.0


def _kill(play: Play) -> None:
    play.first.kill()
    play.open()
    play.first.start()


def _lost(play: Play) -> None:
    play.first.kill()
    play.open()


def _freeze(play: Play) -> None:
    play.first.pause()
    play.open()
    time.sleep(2 * play.column.lease)
    play.first.goOn()


def _disk(play: Play) -> None:
    play.cluster.fillDisk()
    play.open()
    time.sleep(4)
    play.cluster.freeDisk()


def _killProcesses(isRunner: bool) -> Callable[[Play], None]:
    def kill(play: Play) -> None:
        for _, _, process in list(play.cluster.work()):
            with suppress(OSError, psutil.Error):  # a runner leads its session
                if (os.getsid(process.pid) == process.pid) is isRunner:
                    process.kill()
        play.open()

    return kill


def _immediate(play: Play) -> None:
    play.cluster.postgres.stop("immediate")
    play.open()
    time.sleep(0.5)
    play.cluster.postgres.start()


def _listen(play: Play) -> None:
    with play.waiting():
        assert play.cluster.postgres.terminate("LISTEN%") == 1
        play.open()


def _working(play: Play) -> None:
    for fate in play.fates:
        with play.guarded(fate):
            _terminateWorking(play, fate)
    play.open()


#: Whether that was done all the same which a connection was lost on.
_IS_STOPPED = "SELECT NOT EXISTS (SELECT FROM stops WHERE job_id = %(id)s) AS done"
_ONCE_MORE = {
    "QUEUED": "SELECT attempt > 0 AS done FROM jobs WHERE job_id = %(id)s",
    "aborting": _IS_STOPPED,
    "deleting": _IS_STOPPED,
}


def _terminateWorking(play: Play, fate: Fate) -> None:
    """End the connection on which a node does what ends a job's state."""
    query = play.cluster.postgres.query
    with _held(play, HELD_IN[fate.cell.state], fate.jobId) as holder:
        play.openFor(fate)
        until = time.monotonic() + 20
        blocked = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        while not (found := query(blocked, (holder,))):
            assert time.monotonic() < until, "no connection works for this job"
            time.sleep(0.02)
        for row in found:
            query("SELECT pg_terminate_backend(%s)", (row["pid"],))
    if fate.cell.state in _ONCE_MORE:  # and nothing else happens that would wake the node
        until = time.monotonic() + 8
        while not query(_ONCE_MORE[fate.cell.state], {"id": fate.jobId})[0]["done"]:
            assert time.monotonic() < until, "it was not tried again"
            time.sleep(0.05)


@contextmanager
def _held(play: Play, table: str, jobId: str) -> Iterator[int]:
    """Hold rows so that nobody can write them; the process id of who does."""
    with closing(psycopg2.connect(play.cluster.postgres.dsn)) as connection:
        with connection.cursor() as cursor:
            where = "" if table == "nodes" else " WHERE job_id = %s"
            cursor.execute(f"SELECT FROM uws.{table}{where} FOR UPDATE", (jobId,))
            assert cursor.rowcount == 1, f"{table} has no row of it"
        yield connection.info.backend_pid


def _away(play: Play) -> None:
    play.cluster.postgres.stop("immediate")
    until = time.monotonic() + AWAY
    play.open()
    play.checkUnavailable()
    time.sleep(until - time.monotonic())
    play.cluster.postgres.start()


COLUMNS = {
    "kill": Column(what="SIGKILL of the service, which is back at once", inject=_kill),
    "lost": Column(
        what="SIGKILL of the service, and nobody is back on its host",
        inject=_lost,
        hosts=("a", "b"),
        lease=SHORT_LEASE,
        seconds=14,
        isLosing=True,
    ),
    "freeze": Column(
        what="SIGSTOP of the service for two leases",
        inject=_freeze,
        hosts=("a", "b"),
        lease=SHORT_LEASE,
        seconds=14,
        isLosing=True,
    ),
    "disk": Column(what="no room for job directories", inject=_disk),
    "work": Column(what="SIGKILL of the work's processes", inject=_killProcesses(False)),
    "runner": Column(what="SIGKILL of the runners", inject=_killProcesses(True)),
    "immediate": Column(what="PostgreSQL restarted immediately", inject=_immediate),
    "listen": Column(what="pg_terminate_backend of the LISTEN", inject=_listen, settled=15),
    "working": Column(
        what="pg_terminate_backend of connections that work", inject=_working, seconds=25
    ),
    "away": Column(
        what="PostgreSQL away for 30 s of a lease of 45 s",
        inject=_away,
        seconds=AWAY + 5,
    ),
    "long": Column(
        what="PostgreSQL away for 30 s, with a lease of 8 s",
        inject=_away,
        lease=SHORT_LEASE,
        seconds=14,
        isLosing=True,
    ),
}
