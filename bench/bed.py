"""
What all rows share: a PostgreSQL, services, what bounds them, and load, each in a process.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Self

from psycopg2.extensions import make_dsn

from bench.client import Client
from bench.databases import Database
from bench.filling import fill
from bench.processes import Child, freePort, until

#: twistd, whatever is on the path.
TWISTD = "from twisted.scripts.twistd import run; run()"
SERVICES = """
[services.noop]
class = "bench.jobclasses.Noop"
[services.pause]
class = "bench.jobclasses.Pause"
[services.plain]
class = "bench.jobclasses.Plain"
[services.five]
class = "bench.jobclasses.Five"
[services.taking]
class = "bench.jobclasses.Taking"
[services.program]
command = ["true"]
"""


class Service:
    """
    A C{twistd uws} in a process of its own.

    @ivar jobs: where the directories of its jobs are.
    """

    def __init__(
        self, bed: Bed, name: str, database: Database, options: Mapping[str, Any], tables: str
    ) -> None:
        self.name = name
        self.database = database
        self.port = freePort()
        self.metrics = freePort()
        self.directory = bed.directory / name
        self.directory.mkdir()
        self.jobs = self.directory / "data" / "jobs"
        config = self.directory / "uws.toml"
        given: dict[str, Any] = {
            "listen": f"tcp:{self.port}:interface=127.0.0.1",
            "metrics": f"tcp:{self.metrics}:interface=127.0.0.1",
            "database": database.url,
            "data-dir": str(self.directory / "data"),
            "slots": 8,
            "on-stop": "abort",
            **options,
        }
        lines = [f"{key} = {_toml(value)}" for key, value in given.items()]
        config.write_text("\n".join(lines) + SERVICES + tables, "utf-8")
        self.log = self.directory / "twistd.log"
        self.command = [
            *(sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", "--reactor=epoll"),
            *(f"--logfile={self.log}", "uws", f"--config={config}"),
        ]

    def start(self) -> Self:
        """Start it, and return once it answers."""
        self.process = Child(self.command, self.directory / "stderr.log")
        until(self.answers, f"{self.name}: {self.log}", every=0.005)
        return self

    def answers(self) -> bool:
        """Whether it answers by now."""
        if self.process.process.poll() is not None:
            raise RuntimeError(f"{self.name} has ended: {self.process.said()}{self._said()}")
        return isAnswered(self.port, "/noop/availability")

    def _said(self) -> str:
        return self.log.read_text("utf-8", "replace")[-2000:] if self.log.exists() else ""

    def client(self, timeout: float = 120) -> closing[Client]:
        return closing(Client(self.port, timeout))

    def metric(self, name: str) -> float:
        """The value of one of its metrics, which has no labels."""
        with closing(Client(self.metrics)) as client:
            for line in client.get("/metrics").splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        raise RuntimeError(f"there is no metric {name}")


def isAnswered(port: int, path: str) -> bool:
    """Whether there is somebody at a port by now."""
    try:
        with closing(Client(port)) as client:
            client.get(path)
    except OSError:
        return False
    return True


class Bounds:
    """See L{bench.bounds}."""

    def __init__(self, bed: Bed, database: Database) -> None:
        self.files = bed.directory / "files"
        self.files.mkdir()
        log = bed.directory / "bounds.log"
        self.process = Child.module(
            "bench.bounds", str(log), database.dsn, str(self.files), log=log
        )
        self.port, self.plainPort = map(int, self.process.line().split())

    def remember(self, path: str, content: str) -> str:
        """Have something to send; the path where it is."""
        with closing(Client(self.port)) as client:
            client._connection.request("POST", f"/bytes{path}", content, {"Content-Type": "x/y"})
            client.end()
        return f"/bytes{path}"


class Bed:
    """
    Everything that rows need, made when it is first asked for.

    @ivar isShort: whether to be quick, and content with less.
    @ivar rounds: how often to measure each thing.
    @ivar seconds: how long to send requests in a round.
    """

    def __init__(self, isShort: bool = False) -> None:
        self.isShort = isShort
        self.rounds = 3 if isShort else 5
        self.seconds = 0.7 if isShort else 2.0
        self.directory = Path(tempfile.mkdtemp(prefix="twuws-bench-"))
        self.directory.chmod(0o755)  # for the user that PostgreSQL runs as
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._numbers = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def begin(self, child: Child) -> Child:
        """See to it that a process ends with the rest."""
        self._stack.callback(child.end)
        return child

    @cached_property
    def postgres(self) -> Child:
        """The process that PostgreSQL is a child of."""
        directory = self.directory / "postgres"
        log = self.directory / "postgres.log"
        return self.begin(Child.module("bench.postgres", str(directory), log=log))

    @cached_property
    def dsn(self) -> str:
        return self.postgres.line()

    def database(self, name: str | None = None) -> Database:
        """A new database."""
        name = name or f"bench{next(self._numbers)}"
        everybody = Database(make_dsn(self.dsn))
        everybody.run(f'CREATE DATABASE "{name}"')
        return Database(make_dsn(self.dsn, dbname=name))

    @contextmanager
    def service(
        self, name: str, database: Database | None = None, tables: str = "", **options: Any
    ) -> Iterator[Service]:
        """
        A service that is started now, and ended afterwards.

        @param tables: more of its configuration.
        @param options: keys of its configuration, with C{_} for C{-}.
        """
        name = f"{name}{next(self._numbers)}"
        given = {key.replace("_", "-"): value for key, value in options.items()}
        one = Service(self, name, database or self.database(), given, tables)
        try:
            yield one.start()
        finally:
            if hasattr(one, "process"):
                one.process.end()
            shutil.rmtree(one.directory, ignore_errors=True)

    @cached_property
    def usual(self) -> Service:
        """The service that rows use which need no other."""
        return self._stack.enter_context(self.service("usual"))

    @property
    def manyJobs(self) -> int:
        """How many jobs L{many} has."""
        return 20_000 if self.isShort else 1_000_000

    @cached_property
    def many(self) -> Service:
        """A service with 1,000,000 jobs, all COMPLETED."""
        return self._filled("many", self.manyJobs)

    @cached_property
    def few(self) -> Service:
        """The same with 1,000."""
        return self._filled("few", 1000)

    def _filled(self, name: str, number: int) -> Service:
        service = self._stack.enter_context(self.service(name))
        fill(service.database, number)
        return service

    @cached_property
    def bounds(self) -> Bounds:
        bounds = Bounds(self, self.database("bounds"))
        self.begin(bounds.process)
        return bounds

    def newLoad(self) -> Child:
        """Another process that sends requests."""
        return self.begin(Child.module("bench.load", log=self.directory / "load.log"))

    @cached_property
    def load(self) -> Child:
        """The process that sends requests."""
        return self.newLoad()

    @cached_property
    def transfer(self) -> Child:
        """The process that reads and sends what is long."""
        return self.begin(Child.module("bench.transfer", log=self.directory / "load.log"))

    @cached_property
    def other(self) -> Child:
        """Another one, for what others see meanwhile."""
        return self.newLoad()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
