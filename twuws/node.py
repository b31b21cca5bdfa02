"""
One process that runs jobs, as the database knows it.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

import twuws
from twuws.database import Row, asJSON
from twuws.errors import StaleAttempt
from twuws.jobs import JobRecord
from twuws.jobstable import JobsTable

#: The PID namespace that is no container's, by its number in Linux.
_FIRST_NAMESPACE = 0xEFFFFFFC

#: How far two processes may be apart on when a third one started, s: that is counted from
#: the host's boot, which moves when the clock is set.
_TOLERANCE = 2.0


class Node:
    """
    This process: its identity, its lease, and what it takes from the queue.

    @ivar name: unique for each start of each process.
    @ivar lease: how long this node counts as alive after a heartbeat, s.
    @ivar workMayGoOn: how long work may go on alone after an orderly stop, s.
    """

    lease: float = 120
    workMayGoOn: float = 3600

    def __init__(self, table: JobsTable, services: Iterable[str], slots: int) -> None:
        self.table = table
        self.services = list(services)
        self.slots = slots
        self.name = secrets.token_hex(8)
        self.host = _hostName()
        self._leaseEnds = 0.0
        self.pid = os.getpid()
        self.started = psutil.Process(self.pid).create_time()
        self.goneNodes: list[str] = []

    def _args(self, **more: Any) -> dict[str, Any]:
        return {
            "node": self.name,
            "host": self.host,
            "services": self.services,
            "goneNodes": self.goneNodes,
            **more,
        }

    async def beat(self) -> None:
        """Say that this node is alive, and renew its lease."""
        # twistd may have daemonised, and so have forked, since this was made.
        self.pid = os.getpid()
        self.started = psutil.Process(self.pid).create_time()
        began = time.monotonic()
        args = self._args(
            pid=self.pid,
            started=self.started,
            version=twuws.__version__,
            slots=self.slots,
            lease=self.lease,
        )
        await self.table.run("beat", args)
        self._leaseEnds = began + self.lease

    async def leave(self) -> None:
        """Say for how long the work that is left behind may go on."""
        # With the first process of a container all others end, too.
        lease = 0 if self.pid == 1 else self.workMayGoOn
        await self.table.run("leave", self._args(lease=lease))

    async def claim(self) -> JobRecord | None:
        """Take the next job off the queue: it is EXECUTING then, with a new attempt."""
        if time.monotonic() > self._leaseEnds:  # else others would take it for lost
            await self.beat()
        return await self.table.one("claim", self._args())

    async def anyWaiting(self) -> bool:
        """Whether there is a job to claim, even if somebody holds it just now."""
        return bool(await self.table.run("anyWaiting", self._args()))

    async def remember(self, record: JobRecord, ref: dict[str, Any]) -> None:
        """
        Store how work is found again.

        @raise StaleAttempt: if the job is no longer this node's to do.
        """
        args = self._args(jobId=record.jobId, attempt=record.attempt, ref=asJSON(ref))
        if not await self.table.run("rememberWork", args):
            raise StaleAttempt

    async def stops(self) -> list[Row]:
        """Work that this node is to end."""
        return await self.table.run("stopsForNode", self._args())

    async def stopped(self, jobId: str, attempt: int) -> bool:
        """Note that work has been ended; true if its directory is to be removed."""
        rows = await self.table.run("stopped", {"jobId": jobId, "attempt": attempt})
        return any(row["remove_directory"] for row in rows)

    async def lookForGoneNodes(self) -> None:
        """
        Find out which nodes of this host are no more, whatever their lease says.
        """
        rows = await self.table.run("otherNodes", self._args())
        self.goneNodes = [
            row["node"] for row in rows if row["host"] == self.host and not _isAlive(row)
        ]

    async def lostWork(self) -> list[Row]:
        """Work of nodes that are gone."""
        return await self.table.run("lostWork", self._args())

    async def takeOver(self, row: Row) -> bool:
        """Make lost work this node's; false if another was faster."""
        args = self._args(jobId=row["job_id"], attempt=row["attempt"], oldNode=row["node"])
        return bool(await self.table.run("takeOver", args))

    async def forgetNodes(self) -> None:
        """Remove the rows of nodes that are gone and have left nothing behind."""
        await self.table.run("forgetNodes", self._args())


def _hostName() -> str:
    """
    What a process id belongs to: the host's name, in a container together with the host's
    boot and the container's PID namespace, for containers may well be called the same.
    """
    name = socket.gethostname()
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
    except OSError:  # not Linux
        return name
    return name if namespace == _FIRST_NAMESPACE else f"{name}/{boot}-{namespace}"


def _isAlive(row: Row) -> bool:
    """Whether the process that a row names is still there: by its start too, for pids recur."""
    try:
        process = psutil.Process(row["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(process.create_time() - row["started"]) < _TOLERANCE)
    except psutil.NoSuchProcess:
        return False
