"""
What is broken, from a seed: each fault is injected, lasts, and is healed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg2

from tests.chaos.cluster import PATIENCE, Cluster, Node, faketime
from tests.chaos.journal import clock


@dataclass(kw_only=True)
class Fault:
    """One that was injected; C{jobId} is the job that it was at, if it was at one."""

    kind: str
    text: str = ""
    node: str | None = None
    jobId: str | None = None
    began: float = field(default_factory=clock)
    ended: float = 0.0


class Faults:
    """
    Injects faults, two of a different target at a time.

    @param kinds: which; all that can be had here if not given.
    @ivar injected: what has been injected.
    @ivar skipped: what can't be had here, and why.
    """

    def __init__(self, cluster: Cluster, seed: object, kinds: list[str] | None = None) -> None:
        self.cluster = cluster
        self.seed = seed
        self.injected: list[Fault] = []
        self.skipped: dict[str, str] = {}
        if not cluster.disk:
            self.skipped["disk"] = "no small disk can be mounted here, which takes root"
        if faketime() is None:
            self.skipped["clock"] = "there is no libfaketime here"
        unknown = set(kinds or ()) - set(KINDS)
        assert not unknown, f"no kinds of fault: {', '.join(sorted(unknown))}"
        self.kinds = [k for k in kinds or KINDS if k not in self.skipped]
        self.decoys: list[subprocess.Popen[bytes]] = []
        self.stopping = threading.Event()
        self.trouble: BaseException | None = None
        self._locks = {one: threading.Lock() for one in ["postgres", "disk", *self._names()]}
        self._threads: list[threading.Thread] = []

    def _names(self) -> list[str]:
        return [node.name for node in self.cluster.nodes]

    def counted(self) -> Counter[str]:
        """How many there were of each kind."""
        return Counter(one.kind for one in self.injected)

    def begin(self, threads: int = 2) -> None:
        for number in range(threads):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Inject no more, and wait until all is healed."""
        self.stopping.set()
        for thread in self._threads:
            thread.join(3 * PATIENCE)
            assert not thread.is_alive(), "a fault hangs"

    def close(self) -> None:
        for one in self.decoys:
            one.kill()
            one.wait()

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/faults/{number}")
        try:
            # Each kind comes before any comes again.
            while not self.stopping.is_set():
                order = list(self.kinds)
                rng.shuffle(order)
                for kind in order:
                    if self.stopping.wait(rng.uniform(0.3, 4)):
                        return
                    self.inject(kind, rng)
        except BaseException as e:
            self.trouble = e
            raise

    def inject(self, kind: str, rng: random.Random) -> None:
        """Inject one fault, unless its target has another one just now."""
        target, action = KINDS[kind]
        names = {"postgres": ["postgres"], "disk": ["disk"], "node": self._names(), "": []}
        wanted = names[target]
        rng.shuffle(wanted)
        for name in wanted or [""]:
            lock = self._locks.get(name, threading.Lock())
            if not lock.acquire(blocking=False):
                continue
            try:
                nodes = {node.name: node for node in self.cluster.nodes}
                fault = Fault(kind=kind, node=name if name in nodes else None)
                self.injected.append(fault)
                action(self, rng, fault, nodes.get(name) or rng.choice(self.cluster.nodes))
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                fault.text += " (there was no database to ask)"
            finally:
                fault.ended = clock()
                lock.release()
            return

    def pause(self, seconds: float) -> None:
        self.stopping.wait(seconds)


def _onStop(rng: random.Random) -> str:
    return rng.choice(["leave", "leave", "finish", "requeue", "abort"])


def _kill(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.kill()
    away = rng.choice([0, 0.5, 3, 8, 12])
    fault.text = f"away for {away} s"
    faults.pause(away)
    node.start(_onStop(rng))


def _terminate(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.terminate()
    away = rng.choice([0, 0.5, 3])
    onStop = _onStop(rng)
    fault.text = f"away for {away} s, then with --on-stop {onStop}"
    faults.pause(away)
    node.start(onStop)


def _freeze(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.pause()
    seconds = rng.uniform(1.1, 2.2) * faults.cluster.lease
    fault.text = f"for {seconds:.1f} s"
    faults.pause(seconds)
    node.goOn()


def _nap(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.pause()
    faults.pause(rng.uniform(0.3, 0.8) * faults.cluster.lease)
    node.goOn()


def _clock(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    (node.kill if rng.random() < 0.5 else node.terminate)()
    offset = rng.choice([-1, 1]) * rng.uniform(120, 900)
    fault.text = f"{offset:+.0f} s"
    node.start(_onStop(rng), offset=offset)


def _cut(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    for _ in range(rng.choice([1, 1, 3])):
        node.proxy.cut()
        faults.pause(rng.uniform(0.05, 0.5))


def _delay(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.proxy.delay = rng.uniform(0.05, 0.6)
    fault.text = f"{node.proxy.delay:.2f} s"
    faults.pause(rng.uniform(3, 10))
    node.proxy.goOn()


def _stall(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.proxy.pause()
    seconds = rng.uniform(0.2, 1.8) * faults.cluster.lease
    fault.text = f"for {seconds:.1f} s"
    faults.pause(seconds)
    if rng.random() < 0.5:
        node.proxy.cut()
    node.proxy.goOn()


def _partition(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    node.proxy.refuse()
    seconds = rng.uniform(0.2, 1.8) * faults.cluster.lease
    fault.text = f"for {seconds:.1f} s"
    faults.pause(seconds)
    node.proxy.goOn()


def _fast(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    faults.cluster.postgres.restart("fast")


def _immediate(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    faults.cluster.postgres.restart("immediate")


def _away(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    seconds = rng.choice([1, 2, 4, 8, 12])
    fault.text = f"for {seconds} s"
    faults.cluster.postgres.stop(rng.choice(["fast", "immediate"]))
    faults.pause(seconds)
    faults.cluster.postgres.start()


def _paused(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    faults.cluster.postgres.pause()
    seconds = rng.uniform(0.5, 9)
    fault.text = f"for {seconds:.1f} s"
    faults.pause(seconds)
    faults.cluster.postgres.goOn()


def _listen(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    fault.text = f"{faults.cluster.postgres.terminate('LISTEN%')} ended"


def _backends(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    for _ in range(rng.choice([1, 1, 4])):
        ended = faults.cluster.postgres.terminate("%", rng.choice([1, 2, 10]))
        fault.text += f" {ended} ended"
        faults.pause(rng.uniform(0.05, 0.6))


def _killOne(isRunner: bool) -> Callable[[Faults, random.Random, Fault, Node], None]:
    def kill(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
        found = []
        for jobId, _, process in faults.cluster.work():
            with suppress(OSError):  # a runner leads its session
                if (os.getsid(process.pid) == process.pid) is isRunner:
                    found.append((jobId, process))
        if not found:
            fault.text = "there was none"
            return
        fault.jobId, process = rng.choice(found)
        fault.text = f"pid {process.pid}"
        with suppress(psutil.Error):
            process.kill()

    return kill


def _disk(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    faults.cluster.fillDisk()
    seconds = rng.uniform(0.5, 5)
    fault.text = f"for {seconds:.1f} s"
    faults.pause(seconds)
    faults.cluster.freeDisk()


def _directory(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    rows = faults.cluster.postgres.query(
        "SELECT job_id, phase FROM jobs WHERE phase IN ('QUEUED', 'EXECUTING', 'PENDING')"
    )
    if not rows:
        fault.text = "there was none"
        return
    row = rng.choice(sorted(rows, key=lambda r: r["phase"])[:20])
    fault.jobId = row["job_id"]
    fault.text = f"of a job that was {row['phase']}"
    shutil.rmtree(directoryOf(faults.cluster, row["job_id"]), ignore_errors=True)


def directoryOf(cluster: Cluster, jobId: str) -> Path:
    return cluster.jobs / jobId[:2] / jobId


def _pid(faults: Faults, rng: random.Random, fault: Fault, node: Node) -> None:
    """The runner's process id is another process's by the time a service is back."""
    node.kill()
    decoy = subprocess.Popen(["sleep", "86400"], start_new_session=True)
    faults.decoys.append(decoy)
    query = faults.cluster.postgres.query
    mine = "host = %s AND ref->>'backend' = 'process'"
    rows = query(f"SELECT job_id, ref FROM queue WHERE {mine}", (node.host,))
    decoys = {one.pid for one in faults.decoys}
    for row in rows:
        with suppress(ProcessLookupError):
            if row["ref"]["pid"] not in decoys:
                os.kill(row["ref"]["pid"], signal.SIGKILL)
    query(
        f"UPDATE queue SET ref = jsonb_set(ref, '{{pid}}', %s::text::jsonb) WHERE {mine}"
        " AND job_id = ANY(%s)",
        (str(decoy.pid), node.host, [row["job_id"] for row in rows]),
    )
    fault.text = f"of {len(rows)} jobs"
    time.sleep(0.2)
    node.start(_onStop(rng))


#: Each kind: what it is at, of which there is one fault at a time, and what is done.
KINDS: dict[str, tuple[str, Callable[[Faults, random.Random, Fault, Node], None]]] = {
    "kill": ("node", _kill),
    "terminate": ("node", _terminate),
    "freeze": ("node", _freeze),
    "nap": ("node", _nap),
    "clock": ("node", _clock),
    "cut": ("node", _cut),
    "delay": ("node", _delay),
    "stall": ("node", _stall),
    "partition": ("node", _partition),
    "pid": ("node", _pid),
    "fast": ("postgres", _fast),
    "immediate": ("postgres", _immediate),
    "away": ("postgres", _away),
    "paused": ("postgres", _paused),
    "listen": ("postgres", _listen),
    "backends": ("postgres", _backends),
    "work": ("", _killOne(False)),
    "runner": ("", _killOne(True)),
    "disk": ("disk", _disk),
    "directory": ("", _directory),
}
