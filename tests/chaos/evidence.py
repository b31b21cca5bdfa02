"""
What is left behind when a run has settled, for L{tests.chaos.checker} to look at.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos import journal
from tests.chaos.clients import Asker, Op
from tests.chaos.cluster import RUNNING_OF, Cluster
from tests.chaos.faults import Fault

#: How long what is wrong must stay so before it counts, s: things take their time.
PERSISTENT = 6.0


@dataclass(kw_only=True)
class Usage:
    """What a node needs: bytes, file descriptors, and connections to PostgreSQL."""

    memory: int
    files: int
    connections: int


@dataclass(kw_only=True)
class Evidence:
    """
    All that is known of a run.

    @ivar ops: the clients' logs.
    @ivar jobs: rows of the table, by id; C{queue}, C{stops} and C{events} are rows, too.
    @ivar spans: what the jobs said themselves.
    @ivar results: status and content by job and result, asked for over HTTP.
    @ivar mismatches: what one lease after the last fault was EXECUTING without work, or
        working without being EXECUTING, and stayed so.
    @ivar unsettled: jobs that were still in the queue when patience ended.
    @ivar work: processes of work that are left: job, attempt and pid.
    @ivar usage: by node, before and after.
    @ivar wallClock: the wall clock's seconds when the host's clock is 0.
    @ivar limits: on what runs, by service; C{None} is all.
    @ivar others: what else was found wrong while it went on.
    """

    ops: list[Op] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    queue: list[dict[str, Any]] = field(default_factory=list)
    stops: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    spans: list[journal.Span] = field(default_factory=list)
    results: dict[tuple[str, str], tuple[int | None, str]] = field(default_factory=dict)
    mismatches: list[tuple[str, str]] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    work: list[tuple[str, int, int]] = field(default_factory=list)
    usage: dict[str, tuple[Usage, Usage]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    wallClock: float = 0.0
    limits: Mapping[str | None, int] = field(default_factory=dict)
    others: list[tuple[str, str]] = field(default_factory=list)


def usageOf(cluster: Cluster) -> dict[str, Usage]:
    """What each node needs just now."""
    # The proxy has the other ends of the connections; the nodes' sockets tell whose they are.
    found = {}
    for node in cluster.nodes:
        assert node.process is not None
        process = psutil.Process(node.process.pid)
        connections = [
            one
            for one in process.net_connections("tcp")
            if one.raddr and one.raddr.port == node.proxy.port
        ]
        found[node.name] = Usage(
            memory=process.memory_info().rss,
            files=process.num_fds(),
            connections=len(connections),
        )
    return found


def mismatchesNow(cluster: Cluster) -> set[tuple[str, int, str]]:
    """Jobs that are EXECUTING without work, and work without such a job: just now."""
    work = {(jobId, attempt) for jobId, attempt, _ in cluster.work()}
    work |= _beatingLately(cluster.journal)
    rows = cluster.postgres.query("SELECT job_id, attempt FROM jobs WHERE phase = 'EXECUTING'")
    executing = {(row["job_id"], row["attempt"]) for row in rows}
    without = {(*one, "it is EXECUTING, and there is no work") for one in executing - work}
    return without | {(*one, "it works, and is not EXECUTING") for one in work - executing}


def _beatingLately(path: Path) -> set[tuple[str, int]]:
    with path.open("rb") as f:
        f.seek(max(0, os.fstat(f.fileno()).st_size - 65536))
        lines = f.read().decode("ascii").splitlines()[1:]
    found = set()
    for line in lines:
        work, _, kind, at = line.split()
        if kind != "end" and float(at) > journal.clock() - 1:
            jobId, _, attempt = work.rpartition(".")
            found.add((jobId, int(attempt)))
    return found


def watchMismatches(cluster: Cluster, seconds: float = PERSISTENT) -> list[tuple[str, str]]:
    """What is wrong all the time for some seconds; some more are given for it to be right."""
    wrong = mismatchesNow(cluster)
    until = time.monotonic() + seconds
    while wrong and time.monotonic() < until:
        time.sleep(0.5)
        wrong &= mismatchesNow(cluster)
    return [(jobId, f"attempt {attempt}: {what}") for jobId, attempt, what in sorted(wrong)]


def untilEmpty(cluster: Cluster, seconds: float) -> list[str]:
    """Wait until nothing is queued, runs or is being stopped; what did not end in time."""
    until = time.monotonic() + seconds
    while True:
        rows = cluster.postgres.query(
            "SELECT job_id FROM queue UNION SELECT job_id FROM stops"
            " UNION SELECT job_id FROM jobs WHERE phase IN ('QUEUED', 'EXECUTING', 'UNKNOWN')"
        )
        if not rows or time.monotonic() > until:
            return [row["job_id"] for row in rows]
        time.sleep(0.3)


def collect(cluster: Cluster, evidence: Evidence, asker: Asker) -> None:
    """Add what is in the database, in the journal, and to be had over HTTP."""
    query = cluster.postgres.query
    evidence.jobs = {row["job_id"]: row for row in query("SELECT * FROM jobs")}
    evidence.queue = query("SELECT * FROM queue")
    evidence.stops = query("SELECT * FROM stops")
    evidence.events = query("SELECT * FROM events ORDER BY event_id")
    evidence.spans = journal.read(cluster.journal)
    evidence.work = [(jobId, attempt, one.pid) for jobId, attempt, one in cluster.work()]
    evidence.wallClock = time.time() - journal.clock()
    limits: dict[str | None, int] = {None: cluster.running}
    limits.update(RUNNING_OF)
    evidence.limits = limits
    node = cluster.nodes[0].name
    for jobId, row in evidence.jobs.items():
        for one in row["results"] if row["phase"] == "COMPLETED" else ():
            op = Op(what="result", node=node, service=row["service"], jobId=jobId)
            path = f"/{row['service']}/async/{jobId}/results/{one['id']}"
            asker.ask(op, "GET", path)
            evidence.results[jobId, one["id"]] = op.status, op.text


#: What in a node's log is a bug rather than a fault that was injected.
_TROUBLE = re.compile(r"Unhandled error in Deferred|Traceback \(most recent call last\)|#critical")


def troubles(log: Path) -> Counter[str]:
    """The last lines of tracebacks in a node's log, and how often each is there."""
    found: Counter[str] = Counter()
    inside = False
    for line in log.read_text(errors="replace").splitlines():
        if _TROUBLE.search(line):
            inside = True
        elif inside and line and not line[0].isspace() and not line.startswith("20"):
            name = re.sub(r"[0-9a-f]{32}|\d+", "…", line)
            if re.match(r"[\w.]+(:|$)", name) and not name.startswith("---"):
                found[name[:160]] += 1
                inside = False
    return found
