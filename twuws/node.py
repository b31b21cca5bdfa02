"""
One process that runs jobs, as the database knows it.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable
from typing import Any

import psutil

import twuws
from twuws.database import Row, asJSON
from twuws.errors import StaleAttempt
from twuws.jobs import JobRecord
from twuws.jobstable import JobsTable


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
        self.host = socket.gethostname()
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
        args = self._args(
            pid=self.pid,
            started=self.started,
            version=twuws.__version__,
            slots=self.slots,
            lease=self.lease,
        )
        await self.table.run("beat", args)

    async def leave(self) -> None:
        """Say for how long the work that is left behind may go on."""
        await self.table.run("leave", self._args(lease=self.workMayGoOn))

    async def claim(self) -> JobRecord | None:
        """Take the next job off the queue: it is EXECUTING then, with a new attempt."""
        return await self.table.one("claim", self._args())

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

    async def stopped(self, jobId: str, attempt: int) -> None:
        """Note that work has been ended."""
        await self.table.run("stopped", {"jobId": jobId, "attempt": attempt})

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


def _isAlive(row: Row) -> bool:
    """Whether the process that a row names is still there: by its start too, for pids recur."""
    try:
        return bool(abs(psutil.Process(row["pid"]).create_time() - row["started"]) < 0.1)
    except psutil.NoSuchProcess:
        return False
