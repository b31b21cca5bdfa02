"""
The ground of the state machine: a cluster that all its examples share, what is done to it, and
what must be so when an example has ended.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path

import psutil

from tests.chaos.checker import limits, moves, overlaps
from tests.chaos.clients import PATIENCE
from tests.chaos.cluster import RUNNING, Cluster
from tests.chaos.evidence import Evidence, untilEmpty, watchMismatches
from tests.chaos.example import LONG, Example
from tests.chaos.faults import KINDS, Fault, Faults, directoryOf
from tests.chaos.jobs import GATED
from tests.chaos.journal import read
from tests.chaos.model import FINAL, GONE, Job, Wish

#: How long a client waits for the answer of a node that stands still, s.
IMPATIENCE = 1.0
#: Work that nobody watches for less than this, s, goes on: its lease, less the time since it was
#: renewed, less how much earlier it ends than others take it.
SHORT = 2.0
#: The same for work that was told that it may go on alone.
LEFT = 10.0
#: How long after something was broken what had just begun may begin again, s.
UNREST = 3.0


class Ground(Example):
    """
    The same, and all that can be done to nodes and to PostgreSQL.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        super().__init__(cluster, seed)
        self._faults = Faults(cluster, seed)
        self._frozenSince = 0.0

    def close(self) -> None:
        super().close()
        self._faults.close()

    # What is done to nodes, and what that may lead to

    def broke(self, what: str, seconds: float, survives: float = SHORT) -> None:
        """
        Something was broken, and is whole again.

        @param seconds: for how long.
        @param survives: how long work survives that.
        """
        self.story.say(what, f"for {seconds:.2f} s")
        self.shake(fails=seconds > survives)
        self.unrestUntil = time.monotonic() + UNREST

    def crash(self, node: int) -> None:
        """Kill a node, and start it again at once."""
        began = time.monotonic()
        self.cluster.nodes[node].kill()
        self.shake(fails=False, here=True)
        self.cluster.nodes[node].start()
        self.broke("crash", time.monotonic() - began)

    def kill(self, node: int) -> None:
        """Kill a node."""
        self.cluster.nodes[node].kill()
        self.broke("kill", inf)

    def start(self, node: int) -> None:
        """Start a node that was killed."""
        self.cluster.nodes[node].start()
        self.broke("start", inf)

    def nap(self, node: int) -> None:
        """Let a node stand still for less than its lease."""
        began = time.monotonic()
        self.cluster.nodes[node].pause()
        time.sleep(1.2)
        self.cluster.nodes[node].goOn()
        self.broke("nap", time.monotonic() - began)

    def freeze(self, node: int) -> None:
        """Let a node stand still."""
        self.cluster.nodes[node].pause()
        self._frozenSince = time.monotonic()
        self.asker.patience[self.cluster.nodes[node].name] = IMPATIENCE
        self.broke("freeze", inf)

    def thaw(self, node: int, isLate: bool = False) -> None:
        """Let a node go on, maybe only when its lease has run out."""
        if isLate:
            until = self._frozenSince + 1.3 * self.cluster.lease
            time.sleep(max(0.0, until - time.monotonic()))
        self.cluster.nodes[node].goOn()
        self.asker.patience[self.cluster.nodes[node].name] = PATIENCE
        self.broke("thaw", inf)

    def restartPostgres(self) -> None:
        """As after a crash of the server."""
        began = time.monotonic()
        self.cluster.postgres.restart("immediate")
        self.broke("restart of PostgreSQL", time.monotonic() - began)

    def cutConnections(self) -> None:
        """Terminate all that nodes have to PostgreSQL."""
        self.cluster.postgres.terminate("%")
        self.broke("cut connections", 0.0)

    def reusePids(self, node: int) -> None:
        """Kill a node with all that it runs; the process ids are others' when it is back."""
        one = self.cluster.nodes[node]
        self.shake(fails=True)
        KINDS["pid"][1](self._faults, random.Random(0), Fault(kind="pid", node=one.name), one)
        self.broke("reuse pids", inf)

    def hold(self, service: str, isHeld: bool) -> None:
        """Let a service be held, or released, by an administrator."""
        held = self.held[service]
        wasOtherwise = held == {not isHeld}
        held.update((True, False))
        mine = [job for job in self.jobs if job.service == service]
        for job in mine:
            self.judge(job.wait)
        what = "hold" if isHeld else "release"
        done = self.cluster.admin(what, "--service", service)
        self.story.say(what, f"{service}: {done.stdout} {done.stderr}")
        nothing = "There is no hold" in done.stderr
        if nothing and wasOtherwise:
            self.wrong(f"{service} was held, and is not")
        if done.returncode == 0 or nothing:
            for job in mine:
                job.hold(isHeld)
            held.clear()
            held.add(isHeld)

    def drain(self, node: int, onStop: str) -> None:
        """Let an administrator take a node out of service, and start it again."""
        one = self.cluster.nodes[node]
        assert one.process is not None
        pid = (one.process.pid,)
        self.beware()
        self.shake(fails=False, here=True)
        for job in self.jobs:
            job.mayAbort = job.mayAbort or (onStop == "abort" and "EXECUTING" in job.reach())
        find = "SELECT node FROM nodes WHERE pid = %s"
        self.until(lambda: self.cluster.postgres.query(find, pid), "no such node")
        (row,) = self.cluster.postgres.query(find, pid)
        began = time.monotonic()
        done = self.cluster.admin("drain", row["node"], "--on-stop", onStop, "--wait", "60")
        self.story.say(f"drain to {onStop}", f"{row['node']}: {done.stdout} {done.stderr}")
        if done.returncode:
            self.wrong(f"a node does not leave: {done.stderr}")
        one.ended()
        one.start()
        self.broke("drain", time.monotonic() - began, survives=LEFT)

    def killWork(self, job: Job, isRunner: bool) -> None:
        """Kill what a job's work consists of, or what watches it, and see that it is noticed."""
        found = []
        for jobId, attempt, process in self.cluster.work():
            with suppress(OSError, psutil.Error):
                if jobId == job.jobId and (os.getsid(process.pid) == process.pid) is isRunner:
                    found.append((attempt, process))
        if not found:
            return
        self.judge(job.shake, True)
        job.mayFail = job.mayFail or not isRunner  # it was the work's own end
        self.story.say("kill a runner" if isRunner else "kill work", f"{job}: {found}")
        for _, process in found:
            with suppress(psutil.Error):
                process.kill()
        query = "SELECT 1 FROM jobs WHERE job_id = %s AND phase = 'EXECUTING' AND attempt = ANY(%s)"
        args = job.jobId, [attempt for attempt, _ in found]
        self.until(
            lambda: not self.cluster.postgres.query(query, args),
            f"{job}: its work was killed, and it is EXECUTING",
        )

    # The end of an example

    def settle(self) -> None:
        """Let everything end, see that it does, and that nothing is left."""
        if self.story.violation is not None:
            return
        for service in GATED:
            if True in self.held[service]:
                self.hold(service, False)
        self._waitForTimes()
        self._untilAll(lambda job: job.may <= {*FINAL, GONE}, self._end)
        for job in self.jobs:
            self.read(job, 0)
        self._checkWork()
        self._untilAll(lambda job: job.may == {GONE}, self._delete)
        for job in self.jobs:
            if job.jobId is not None:
                directory = directoryOf(self.cluster, job.jobId)
                self.until(partial(_isGone, directory), f"{directory} is left of {job}")
        for decoy in self._faults.decoys:
            if decoy.poll() is not None:
                self.wrong(f"a process of others was ended: pid {decoy.pid}")

    def _waitForTimes(self) -> None:
        """What had only a second to run, or to be there, is ended for that."""

        def isInTime(job: Job) -> bool:
            instants = [float(one or inf) for one in job.values["destruction"]]
            if max(instants) < time.time() + 3 and job.may != {GONE}:
                return False
            return job.values["duration"] != {1} or "EXECUTING" not in job.may

        self._untilAll(isInTime, lambda job: None)

    def _untilAll(self, isSo: Callable[[Job], bool], action: Callable[[Job], None]) -> None:
        """Wait for something to be so of all jobs, and do something about each that is not."""
        until = time.monotonic() + LONG
        while True:
            self.look()
            left = [job for job in self.jobs if job.jobId is not None and not isSo(job)]
            if not left:
                return
            if time.monotonic() > until:
                self.wrong(f"{', '.join(map(str, left))}: after {LONG} s")
            for job in left:
                action(job)
            time.sleep(0.1)

    def _end(self, job: Job) -> None:
        self.open(job, "complete")
        if "PENDING" in job.may:
            self.wish(job, (Wish(what="abort"), 0))

    def _delete(self, job: Job) -> None:
        self.wish(job, (Wish(what="delete"), 1))

    def _checkWork(self) -> None:
        """No work without an EXECUTING job, and none that there may not have been."""
        left = untilEmpty(self.cluster, LONG)
        left += [f"{jobId}: {text}" for jobId, text in watchMismatches(self.cluster)]
        left += [f"{jobId}: {process}" for jobId, _, process in self.cluster.work()]
        if left:
            self.wrong(f"it does not end: {left}")
        ids = [job.jobId for job in self.jobs]
        rows = self.cluster.postgres.query("SELECT * FROM jobs WHERE job_id = ANY(%s)", (ids,))
        evidence = Evidence(
            jobs={row["job_id"]: row for row in rows},
            events=self.events(ids),
            spans=[one for one in read(self.cluster.journal) if one.jobId in ids],
            limits={None: RUNNING},
        )
        for check in (overlaps, moves, limits):
            for one in check(evidence):
                self.wrong(f"{one.rule}: {one.jobId} {one.text}")
        begun = Counter(one.jobId for one in evidence.spans)
        for job in self.jobs:
            if job.jobId is not None and begun[job.jobId] > 1 and not job.isRestartable:
                self.wrong(f"{job} has run {begun[job.jobId]} times")


def _isGone(path: Path) -> bool:
    return not path.exists()
