"""
One process that runs jobs, as the database knows it.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

import twuws
from twuws.backends.family import startOf
from twuws.database import Row, Transaction, asJSON
from twuws.endings import whyOf
from twuws.errors import StaleAttempt, Unavailable
from twuws.family import clock
from twuws.grouped import Grouped
from twuws.jobs import JobRecord
from twuws.jobstable import JobsTable, fromRow
from twuws.leases import LeaseFile
from twuws.policy import RunLimits as RunLimits

log = Logger()

#: How much earlier a node's work takes its lease for over than others do, s.
LEASE_SLACK = 2.0

#: The PID namespace that is no container's, by its number in Linux.
_FIRST_NAMESPACE = 0xEFFFFFFC


#: What becomes of jobs that run when their node is asked to leave: they go on for the next
#: process; the node waits for them; they are queued again, where their class allows it; they
#: are aborted.
ON_STOP = ("leave", "finish", "requeue", "abort")


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """
    How a process that runs jobs behaves.

    @ivar lease: how long it counts as alive after a heartbeat, s.
    @ivar workMayGoOn: how long work may go on alone after an orderly stop, s.
    @ivar onStop: one of L{ON_STOP}.
    @ivar stopTimeout: how long it waits for jobs to finish when it stops, s.
    @ivar host: what its host is called; hosts with the same name must be one.
    @ivar servesWeb: whether it answers HTTP, too.
    @ivar limits: on the jobs that run on all nodes.
    """

    lease: float = 120
    workMayGoOn: float = 3600
    onStop: str = "leave"
    stopTimeout: float = 3600
    host: str | None = None
    servesWeb: bool = False
    limits: RunLimits = field(default_factory=RunLimits)


class Node:
    """
    This process: its identity, its lease, and what it takes from the queue.

    @ivar name: unique for each start of each process.
    @ivar host: what a process id belongs to.
    @ivar leaseEnds: when this node counts as alive no more, on L{clock}.
    @ivar leaseFiles: the same for the processes of this host, by the root of the job
        directories that they work in.
    @ivar onLapse: called when the lease is found to have run out; it is not renewed before
        what this returns has fired.
    @ivar draining: how this node was asked to leave, by somebody elsewhere.
    @ivar isHeld: the last claim passed over a job, which somebody was changing just then.
    @ivar isLimited: the last claim passed over jobs, for limits or a hold.
    @ivar isMore: the last claim took something, and there is more.
    """

    def __init__(
        self,
        table: JobsTable,
        services: Iterable[str],
        slots: int,
        settings: NodeSettings | None = None,
        directories: Iterable[Path] = (),
    ) -> None:
        self.table = table
        self.counters = table.database.counters
        self.services = list(services)
        self.slots = slots
        self.settings = settings or NodeSettings()
        hostName = self.settings.host or socket.gethostname()
        self.host = self.settings.host or _uniqueHostName()
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", hostName)[:60].strip(".-") or "node"
        self.name = f"{readable}-{secrets.token_hex(4)}"
        self.leaseEnds = 0.0
        self.leaseFiles = {root: LeaseFile(root, self.name) for root in directories}
        self.onLapse: Callable[[], Deferred[Any]] = lambda: succeed(None)
        self.draining: str | None = None
        self.isHeld = self.isLimited = self.isMore = False
        self.goneNodes: list[str] = []
        self._remembering = Grouped(self._remember, table.database.reactor)

    def _args(self, **more: Any) -> dict[str, Any]:
        return {
            "node": self.name,
            "host": self.host,
            "services": self.services,
            "goneNodes": self.goneNodes,
            **more,
        }

    @property
    def hasLease(self) -> bool:
        """Whether this node counts as alive; if not, others may have its jobs."""
        return clock() < self.leaseEnds

    async def checkLease(self) -> None:
        """See whether the lease has run out, and have all work ended if it has."""
        ended = self.leaseEnds
        if ended and not self.hasLease:
            log.warn("the lease of {node} has run out: its work ends", node=self.name)
            self.counters.leaseLapses.inc()
            await self.onLapse()
            if self.leaseEnds == ended:  # who has seen it at the same time may have a new one
                self.leaseEnds = 0.0

    async def beat(self) -> None:
        """
        Say that this node is alive, and renew its lease: first for others, then for its work.

        @raise Unavailable: if either cannot be done; then the lease ends as it was to end.
        """
        pid = os.getpid()  # twistd may have daemonised, and so have forked, since this was made
        began, lease = clock(), self.settings.lease
        args = self._args(
            pid=pid,
            started=startOf(pid),
            version=twuws.__version__,
            slots=self.slots,
            servesWeb=self.settings.servesWeb,
            lease=lease,
        )
        rows = await self.table.run("beat", args)
        self.draining = rows[0]["draining"]
        await self.checkLease()  # it may be some time since anything was done here
        await self._renewFiles(began + lease - min(LEASE_SLACK, lease / 4))
        self.leaseEnds = max(self.leaseEnds, began + lease)
        self.counters.leaseRenewals.inc()

    async def _renewFiles(self, ends: float) -> None:
        reactor = self.table.database.reactor
        for lease in self.leaseFiles.values():
            try:
                await deferToThreadPool(reactor, reactor.getThreadPool(), lease.renew, ends)
            except OSError as e:
                raise Unavailable(f"The file {lease.path} cannot be written: {whyOf(e)}.") from e

    async def tellDraining(self, how: str) -> None:
        """Let others know that this node takes nothing new, and how it is about to leave."""
        await self.table.run("drain", self._args(how=how))

    async def leave(self) -> None:
        """Say for how long the work that is left behind may go on."""
        # With the first process of a container all others end, too.
        lease = 0 if os.getpid() == 1 else self.settings.workMayGoOn
        began = clock()
        await self.table.run("leave", self._args(lease=lease))
        await self._renewFiles(began + lease)

    async def claim(self) -> JobRecord | None:
        """Take the next job off the queue: it is EXECUTING then, with a new attempt."""
        return next(iter(await self.claims(1)), None)

    async def claims(self, places: int) -> list[JobRecord]:
        """
        Take the next jobs off the queue, as L{claim} does; there may be more than come.

        @param places: how many at most.
        """
        if not self.hasLease:  # else others would take it for lost
            await self.beat()
        limits = self.settings.limits
        args = self._args(
            limits=[limits.perService.get(name) for name in self.services],
            inAll=limits.inAll,
            perOwner=limits.perOwner,
            places=places if limits.areNone else 1,
        )
        rows = await self.table.run("claim", args)
        claimed = [row for row in rows if row["job_id"] is not None]
        possible = rows[0]["possible"]
        self.isMore = possible > len(claimed) > 0
        self.isHeld = possible > 0 and not claimed
        self.isLimited = rows[0]["passed"] > 0 and not self.isHeld
        for row in claimed:
            self.counters.claims.labels(row["service"]).inc()
        return [fromRow(row) for row in claimed]

    async def remember(self, record: JobRecord, ref: dict[str, Any]) -> None:
        """
        Store how work is found again.

        @raise StaleAttempt: if the job is no longer this node's to do.
        """
        if not await self._remembering.do((record.jobId, record.attempt, ref)):
            raise StaleAttempt

    async def _remember(self, refs: Sequence[tuple[str, int, dict[str, Any]]]) -> list[bool]:
        """Store some; whether each was this node's to do."""
        keys = ("job_id", "attempt", "ref")
        args = self._args(
            jobIds=[jobId for jobId, _, _ in refs],
            refs=asJSON([dict(zip(keys, one, strict=True)) for one in refs]),
        )
        rows = await self.table.run("rememberWork", args)
        found = {(row["job_id"], row["attempt"]) for row in rows}
        return [(jobId, attempt) in found for jobId, attempt, _ in refs]

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

    async def isBack(self, row: Row, t: Transaction) -> bool:
        """
        Whether work that seemed lost is not, for its node has come back.

        If not, that node can't begin the work while the transaction lasts, nor afterwards.
        """
        args = self._args(jobId=row["job_id"], attempt=row["attempt"], oldNode=row["node"])
        return not await self.table.run("stillLost", args, t)

    async def forgetNodes(self) -> list[str]:
        """Remove the rows of nodes that are gone and have left nothing behind; their names."""
        await self.table.run("forgetStops")
        return [row["node"] for row in await self.table.run("forgetNodes", self._args())]


def _uniqueHostName() -> str:
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
    return bool(row["pid"]) and startOf(row["pid"]) == str(row["started"])
