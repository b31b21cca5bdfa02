"""
All that a run breaks: PostgreSQL, nodes that each reach it through a proxy of their own, and
one tree of job directories.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.chaos import gates, journal
from tests.chaos.launch import BUG
from tests.chaos.postgres import Postgres
from tests.chaos.proxy import Network, Proxy

HERE = Path(__file__).parent
LEASE = 6.0
#: How long anything may take to start or to end, s: a machine may be busy, or PostgreSQL away.
PATIENCE = 180.0
#: The limits on what runs at a time: of all services, and of one.
RUNNING = 7
RUNNING_OF = {"program": 2}
SERVICES = {
    "worked": "tests.chaos.jobs.Worked",
    "again": "tests.chaos.jobs.WorkedAgain",
    "awaited": "tests.chaos.jobs.Awaited",
    "once": "tests.chaos.jobs.AwaitedOnce",
}
_CONFIG = """
host = "{host}"
lease = {lease}
work-may-go-on = 20
stop-timeout = 4
cleanup-interval = 3
keep-history = 3600
running = {running}
longest-wait = 20
"""
_CLASS = """
[services.{name}]
class = "{path}"
[services.{name}.limits]
grace = 1
[services.{name}.environment]
{variable} = "{journal}"
"""
_PROGRAM = """
[services.program]
command = ["{python}", "-S", "-E", "{program}", "{{seconds}}"]
restartable = true
max-attempts = 4
running = {running}
[services.program.limits]
grace = 1
[services.program.environment]
{variable} = "{journal}"
[services.program.parameters.seconds]
type = "Real"
required = true
[services.program.results."result"]
type = "text/plain"
stream = "stdout"
"""
_FAKETIME = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def faketime() -> str | None:
    """The library that makes a process's wall clock wrong; C{None} if it is not there."""
    for pattern in _FAKETIME:
        if found := sorted(Path("/").glob(pattern[1:])):
            return str(found[0])
    return None


class Node:
    """
    One C{twistd uws}, which comes and goes.

    @ivar url: where it is, with a slash at its end; the same in all its lives.
    @ivar host: what its configuration calls its host.
    @ivar offset: how wrong its wall clock is, s.
    @ivar isPaused: it was told to stand still.
    """

    def __init__(self, cluster: Cluster, name: str, host: str, slots: int) -> None:
        self.name, self.host, self.slots = name, host, slots
        self.cluster = cluster
        self.proxy = Proxy(cluster.network, cluster.postgres.socket)
        self.log = cluster.directory / f"node-{name}.log"
        self.port = _freePort()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.offset = 0.0
        self.isPaused = False
        self.process: subprocess.Popen[bytes] | None = None
        self.config = cluster.directory / f"node-{name}.toml"
        self.config.write_text(cluster.config(host))

    def launch(self, onStop: str = "leave", offset: float = 0.0) -> None:
        """Start it, and don't wait for it."""
        assert not self.isThere
        self.offset = offset
        root = str(HERE.parent.parent)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
            journal.VARIABLE: str(self.cluster.journal),
        }
        library = faketime()
        if offset and library:
            environment |= {
                "LD_PRELOAD": library,
                "FAKETIME": f"{offset:+.0f}s",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        if self.cluster.bug:
            environment[BUG] = self.cluster.bug
        if self.cluster.gates:
            environment[gates.VARIABLE] = str(self.cluster.gates.directory)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.chaos.launch", "-n", "--pidfile=", "uws"),
                    *("--config", str(self.config), "--data-dir", str(self.cluster.data)),
                    *("--database", f"postgresql://uws@127.0.0.1:{self.proxy.port}/postgres"),
                    *("--listen", f"tcp:{self.port}:interface=127.0.0.1"),
                    *("--slots", str(self.slots), "--on-stop", onStop),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def start(self, onStop: str = "leave", offset: float = 0.0) -> None:
        """Start it, and wait until it answers."""
        self.launch(onStop, offset)
        self.awaitStart(onStop, offset)

    def awaitStart(self, onStop: str = "leave", offset: float = 0.0) -> None:
        """Wait until it answers; it is started again if it has ended instead."""
        until = time.monotonic() + PATIENCE
        while not self.answers():
            assert time.monotonic() < until, f"node {self.name} does not start; see {self.log}"
            if not self.isThere:
                time.sleep(0.5)
                self.launch(onStop, offset)
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it listens."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=2):
            return True
        return False

    @property
    def isThere(self) -> bool:
        """Whether its process lives, standing still or not."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.isThere:
            assert self.process is not None
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash would be; its work stays."""
        self.signal(signal.SIGKILL)
        self.ended()

    def terminate(self, seconds: float = PATIENCE) -> None:
        """SIGTERM, and wait until it has gone."""
        self.signal(signal.SIGTERM)
        self.ended(seconds)

    def ended(self, seconds: float = PATIENCE) -> None:
        """Wait until its process has gone."""
        self.isPaused = False
        if self.process is not None:
            self.process.wait(seconds)

    def pause(self) -> None:
        """SIGSTOP, to this process alone: its work goes on."""
        self.isPaused = True
        self.signal(signal.SIGSTOP)

    def goOn(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self.isPaused = False


class Cluster:
    """
    PostgreSQL and nodes, in a directory that L{close} leaves where it is.

    @param hosts: what each node's host is called; nodes on the same host see each other's
        processes, as in truth they all do.
    @param bug: a deliberate one, of L{tests.chaos.bugs}.
    @param running: how many jobs may run at a time, of all services.
    @param gated: whether there are gates, see L{tests.chaos.gates}.
    @param services: names and classes of jobs; there is C{program} besides.
    @ivar disk: whether the job directories are on a small disk of their own.
    @ivar known: jobs that are this run's, for their directories may be gone before their work.
    """

    #: The size of that disk, bytes.
    size = 192 << 20

    def __init__(
        self,
        directory: Path,
        hosts: Sequence[str] = ("a", "b", "c"),
        slots: int = 3,
        bug: str | None = None,
        lease: float = LEASE,
        running: int = RUNNING,
        gated: bool = False,
        services: Mapping[str, str] = SERVICES,
    ) -> None:
        self.directory, self.bug, self.lease = directory, bug, lease
        self.running, self.services = running, services
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.data = directory / "data"
        self.jobs = self.data / "jobs"
        self.jobs.mkdir(parents=True)
        self.journal = directory / "journal"
        self.journal.touch()
        self.gates = gates.Gates(directory / "gates") if gated else None
        self.disk = _mounted(self.jobs, self.size)
        self.known: set[str] = set()
        self.network = Network()
        self.postgres = Postgres(directory)
        self.nodes = [
            Node(self, f"{number}{host}", host, slots) for number, host in enumerate(hosts, 1)
        ]

    def config(self, host: str) -> str:
        """The configuration file of a node."""
        told = {"variable": journal.VARIABLE, "journal": self.journal}
        text = _CONFIG.format(host=host, lease=self.lease, running=self.running)
        for name, path in self.services.items():
            text += _CLASS.format(name=name, path=path, **told)
        return text + _PROGRAM.format(
            python=sys.executable,
            program=HERE / "program.py",
            running=RUNNING_OF["program"],
            **told,
        )

    def start(self) -> None:
        """Start all of it, and wait until it answers."""
        self.postgres.start()
        self.nodes[0].start()  # it makes the schema
        for node in self.nodes[1:]:
            node.launch()
        for node in self.nodes[1:]:
            node.awaitStart()

    def admin(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run C{twuws}, as an administrator would."""
        return subprocess.run(
            [
                *(sys.executable, "-m", "twuws.admin", "--config", str(self.nodes[0].config)),
                *("--data-dir", str(self.data), "--database", self.postgres.url, *words),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=HERE.parent.parent,  # where the classes of the jobs are
        )

    def fillDisk(self) -> None:
        """Leave not a byte under the job directories."""
        assert self.disk
        with suppress(OSError), (self.jobs / ".filler").open("wb", buffering=0) as f:
            while True:
                f.write(bytes(1 << 20))
        with suppress(OSError), (self.jobs / ".filler").open("ab", buffering=0) as f:
            while True:
                f.write(bytes(4096))

    def freeDisk(self) -> None:
        (self.jobs / ".filler").unlink(missing_ok=True)

    def work(self) -> Iterator[tuple[str, int, psutil.Process]]:
        """All processes of work, runners too: job id, attempt, process."""
        for pid in psutil.pids():
            with suppress(psutil.Error, OSError, ValueError):
                with open(f"/proc/{pid}/environ", "rb") as f:
                    variables = f.read().split(b"\0")
                mark = next((v for v in variables if v.startswith(b"UWS_WORK=")), None)
                if mark is None:
                    continue
                jobId, _, attempt = mark[9:].decode().rpartition(".")
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and self._isOurs(jobId):
                    yield jobId, int(attempt), process

    def _isOurs(self, jobId: str) -> bool:
        """Several runs may go on at a time on one machine."""
        if (self.jobs / jobId[:2] / jobId).exists():
            self.known.add(jobId)
        return jobId in self.known

    def close(self) -> None:
        """End all of it."""
        for node in self.nodes:
            node.kill()
            node.proxy.close()
        for _, _, process in list(self.work()):
            with suppress(psutil.Error):
                process.kill()
        if self.postgres.process is not None:
            self.postgres.goOn()
            self.postgres.stop("immediate")
        self.network.close()
        if self.disk:
            subprocess.run(["umount", "--lazy", str(self.jobs)], check=False)


def _mounted(directory: Path, size: int) -> bool:
    """Mount a small disk in memory, where that may be done."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    options = f"size={size},mode=0700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "twuws-chaos", str(directory)],
        check=False,
        capture_output=True,
    )
    return done.returncode == 0


def _freePort() -> int:
    """A port that nobody gets by chance: below those that connections are made from."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


@contextmanager
def cluster(**more) -> Iterator[Cluster]:
    """A cluster that runs, in a temporary directory, for as long as a block."""
    directory = Path(tempfile.mkdtemp(prefix="twuws-chaos-"))
    made = Cluster(directory, **more)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)
