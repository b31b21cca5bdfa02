"""
For tests of those who use twuws: a whole service, on this machine, for as long as a test.

With pytest, the fixture C{uwsService} is such a service for the tests of a module::

    from twuws.testing import uwsService

    @pytest.fixture(scope="module")
    def uwsConfig():
        return "services.toml"

    def test_list(uwsService):
        with urlopen(uwsService.jobList("cutout")) as answer:
            ...

Without the fixture C{uwsConfig} it serves the examples.  Without pytest there is L{running}.
The suite for backends is L{twuws.backendcontract.BackendContract}, that for authenticators
L{twuws.authenticatorcontract.AuthenticatorContract}.

Everything here blocks; no reactor is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import IO

import psutil

#: How long a service may take to end after an interrupt, s.
PATIENCE = 60.0

_LAUNCH = "from twuws.testing import _launch; _launch()"
_SERVES = re.compile(r"twuws serves .* at (\S+)$")
_RUNS = re.compile(r"twuws runs jobs of ")
_LISTENS = re.compile(r"Site starting on (\d+)$")
_ANY_PORT = re.compile(r"^(tcp[46]?:(?:port=)?)0(?=:|$)")


class NotStarted(Exception):
    """
    A service did not come up.

    @ivar log: all that it said.
    """

    def __init__(self, message: str, log: str) -> None:
        self.log = log
        tail = "\n".join(log.splitlines()[-20:])
        super().__init__(f"{message}; the end of its log:\n{tail}")


class RunningService:
    """
    A C{twistd -n uws} in a process of its own; see L{running}.

    @ivar url: where it is, with a slash at its end; not if it answers no HTTP.
    @ivar process: the process of the service as it is now.
    @ivar dataDir: its data directory.
    """

    def __init__(self, arguments: list[str], listen: str, dataDir: Path, timeout: float) -> None:
        self._arguments = arguments
        self._listen = listen
        self._timeout = timeout
        self._lines: list[str] = []
        self._port: str | None = None
        self._url: str | None = None
        self._isUp = False
        self._reader: Thread | None = None
        self.dataDir = dataDir
        self.process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        assert self._url is not None, "the service does not run, or answers no HTTP"
        return self._url

    def jobList(self, service: str) -> str:
        """The URL of a service's job list."""
        return f"{self.url}{service}/async"

    def log(self) -> str:
        """All that the service has said by now, in all its lives."""
        return "".join(self._lines)

    def start(self) -> None:
        """
        Start it, and wait until it answers.

        @raise NotStarted: if it does not come up.
        """
        self._url = None
        self._isUp = False
        came = Event()
        command = [sys.executable, "-c", _LAUNCH, "-n", "--pidfile=", "uws", *self._arguments]
        command += ["--listen", self._listen, "--data-dir", str(self.dataDir)]
        self.process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # an interrupt from the keyboard is the tests' to handle
            # What can be imported here can be imported there.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert self.process.stdout is not None
        self._reader = Thread(target=self._read, args=(self.process.stdout, came), daemon=True)
        self._reader.start()
        inTime = came.wait(self._timeout)
        if self._isUp:
            return
        if inTime:
            self.process.wait(PATIENCE)
            message = f"The service ended with exit status {self.process.returncode}"
        else:
            message = f"The service did not come up within {self._timeout:g} s"
        self.stop()
        raise NotStarted(message, self.log())

    def _read(self, stream: IO[str], came: Event) -> None:
        with stream:
            for line in stream:
                self._lines.append(line)
                if found := _LISTENS.search(line):
                    self._port = found[1]
                elif (found := _SERVES.search(line)) or _RUNS.search(line):
                    self._url = self._reachable(found[1]) if found else None
                    self._isUp = True
                    came.set()
        came.set()

    def _reachable(self, url: str) -> str:
        """The URL of the port itself, where the configuration has a public one."""
        if self._port is None or f":{self._port}/" in url:
            return url
        return f"http://127.0.0.1:{self._port}/"

    def stop(self) -> None:
        """Stop it as Ctrl-C would, or kill it; work that is under way goes on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._ended()

    def kill(self) -> None:
        """Kill it, so that it cannot tidy up: its PostgreSQL and its work stay."""
        self.process.kill()
        self._ended()

    def _ended(self) -> None:
        self.process.wait()
        if self._reader is not None:
            self._reader.join(PATIENCE)

    def restart(self) -> None:
        """Stop it if it runs, and start it again, in the same directory and at the same port."""
        self.stop()
        if self._port is not None:
            self._listen = _ANY_PORT.sub(rf"\g<1>{self._port}", self._listen)
        self.start()

    def finish(self) -> None:
        """Stop it, and end all that it has left: work, and the PostgreSQL of a killed one."""
        self.stop()
        for process in self._leftovers():
            with suppress(psutil.Error):
                process.kill()
                process.wait(PATIENCE)

    def _leftovers(self) -> Iterator[psutil.Process]:
        from twuws.backends.family import MARK
        from twuws.postgresdirectory import postmaster

        server = postmaster(Path(os.path.realpath(self.dataDir / "postgres")) / "cluster")
        if server is not None:
            yield from server.children()
            yield server
        jobs = {path.name for path in (self.dataDir / "jobs").glob("??/*")}
        for process in psutil.process_iter() if jobs else ():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK, "").rpartition(".")[0] in jobs:
                    yield process


@contextmanager
def running(
    config: str | Path | None = None,
    *,
    listen: str = "tcp:0:interface=127.0.0.1",
    dataDir: str | Path | None = None,
    database: str | None = None,
    slots: int = 2,
    options: Sequence[str] = (),
    timeout: float = 60,
) -> Iterator[RunningService]:
    """
    Run a service while a block is executed; nothing of it is left afterwards.

    Its own PostgreSQL is fast rather than safe: do not keep anything of value in it.

    @param config: the TOML file; C{None} for the examples that come with twuws.
    @param listen: where, as a Twisted endpoint; port 0 is any that is free, and stays the
        same for C{restart}.
    @param dataDir: its data directory, which is kept; C{None} for a temporary one.
    @param database: the URL of a PostgreSQL; C{None} for one of its own.
    @param slots: how many jobs it runs at a time.
    @param options: more of C{twistd uws}, such as C{--no-web}.
    @param timeout: how long it may take to come up, s.
    @raise NotStarted: if it does not.
    """
    arguments = ["--slots", str(slots), *options]
    if config is not None:
        arguments += ["--config", os.path.abspath(config)]
    if database is not None:
        arguments += ["--database", database]
    temporary = None
    if dataDir is None:
        temporary = Path(tempfile.mkdtemp(prefix="twuws-"))
        if os.geteuid() == 0:  # PostgreSQL will be somebody else, and must get there
            temporary.chmod(0o755)
        dataDir = temporary / "data"
    directory = Path(os.path.abspath(dataDir))
    service = RunningService(arguments, listen, directory, timeout)
    try:
        service.start()
        try:
            yield service
        finally:
            service.finish()
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _launch() -> None:
    """In the service's process: C{twistd}, with a PostgreSQL that need not be durable."""
    # What a shell has put into the background ignores it, and so does all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from twisted.scripts import twistd

    from twuws import composition
    from twuws.embedded import EmbeddedPostgres

    vars(composition)["EmbeddedPostgres"] = partial(EmbeddedPostgres, durable=False)
    twistd.run()


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture(scope="module")
    def uwsConfig() -> str | Path | None:
        """The configuration of C{uwsService}: the examples.  Override it."""
        return None

    @pytest.fixture(scope="module")
    def uwsService(request: pytest.FixtureRequest) -> Iterator[RunningService]:
        """A service for the tests of a module, as C{uwsConfig} says if it is there."""
        try:
            config = request.getfixturevalue("uwsConfig")
        except pytest.FixtureLookupError as e:
            if e.argname != "uwsConfig":
                raise
            config = None  # only this fixture was imported
        with running(config) as service:
            yield service
