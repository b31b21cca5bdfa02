"""A private PostgreSQL for a service that has been given none.

This floor ends at the DSN: it makes a cluster in a directory, runs its postmaster, and says how to
connect. Everything is reached through a Unix socket inside a directory of mode 0700.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws.errors import EmbeddedPostgresError
from twuws.hostusers import HostUser
from twuws.postgresbinaries import Child, endStale, findBinaries
from twuws.postgresdirectory import (
    accountFor,
    dsnOf,
    lock,
    removeSockets,
    runningDSN,
    settle,
    socketDirectory,
    syncDirectory,
    versionIn,
)

__all__ = ["EmbeddedPostgres", "findBinaries", "runningDSN"]

START_LIMIT = 60.0  # seconds that a starting server may be silent; recovery tells its progress
STOPPED = "The database server was stopped while it was starting."
LONGEST_DELAY = 60.0  # seconds between two attempts to restart a lost server
OPTIONS = (
    *("listen_addresses=", "port=5432", "unix_socket_permissions=0700"),
    *("logging_collector=off", "log_destination=stderr", "log_line_prefix=", "lc_messages=C"),
)
# What of the server's log is worth an operator's while; the rest is its daily life.
TROUBLE = ("WARNING:", "FATAL:", "PANIC:")
HASTE = (
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off"),
    *("shared_buffers=32MB", "max_wal_size=64MB"),
)

log = Logger()


class EmbeddedPostgres(Service):
    """A private PostgreSQL in a directory, run as a foreground child of this process.

    A postmaster that ends unasked is started again, at the same DSN.

    :param directory: made if need be. If the service is root and ``user`` cannot reach it, it
        becomes a symbolic link to a directory that can be reached.
    :param binaries: where ``postgres`` and ``initdb`` are; see :func:`findBinaries`.
    :param user: as whom PostgreSQL runs if the service is root; an existing cluster's owner if
        there is one.
    :param durable: False trades the data's safety for speed, for tests.

    :ivar dsn: how to connect, while the server is meant to run; else None.
    :ivar lost: fires with the reason when the postmaster ends unasked; a new one each time.
    """

    #: As whom PostgreSQL runs if nothing else is said.
    usualUser = "nobody"

    def __init__(
        self,
        directory: str | Path,
        *,
        binaries: str | Path | None = None,
        user: str = usualUser,
        durable: bool = True,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.directory = Path(os.path.abspath(directory))
        self.dsn: str | None = None
        self.lost: Deferred[str] = Deferred()
        self._binaries = binaries
        self._user = user
        self._durable = durable
        self._reactor = reactor
        self._wanted = False
        self._turn = DeferredLock()
        self._account: HostUser | None = None
        self._lockFile: int | None = None
        self._sockets: Path | None = None
        self._child: Child | None = None
        self._again: Any = None
        self._delay = 0.1

    async def start(self) -> str:
        """Start the server, make its cluster first if need be, and return the DSN.

        :raises EmbeddedPostgresError: with one line on what failed, why, and what to do.
        """
        self._wanted = True
        await self._turn.acquire()
        try:
            if self.dsn is None:
                await self._prepare()
                self._sockets = socketDirectory(self._cluster, self._account)
                await self._launch()
                self.dsn = dsnOf(self._sockets)
            return self.dsn
        except BaseException as problem:
            if self._child is not None:
                await self._child.end(self._reactor)
            self._release()
            if isinstance(problem, OSError):
                raise EmbeddedPostgresError(
                    f"The database directory {self.directory} cannot be used: {problem.strerror} "
                    f"({problem.filename}). Mend that, or choose another --data-dir."
                ) from None
            raise
        finally:
            self._turn.release()

    async def stop(self) -> None:
        """End the server, also one that is just starting, and wait until it has gone."""
        self._wanted = False
        if self._child is not None:
            await self._child.end(self._reactor)
        await self._turn.acquire()
        if not self._wanted:
            self._release()
        self._turn.release()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self.stop())

    async def _prepare(self) -> None:
        self._account = accountFor(self.directory, self._user)
        home = settle(self.directory, self._account)
        self._cluster = home / "cluster"
        self._lockFile = lock(home)
        for leftover in home.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        binaries = await findBinaries(
            self._binaries, versionIn(self._cluster), reactor=self._reactor
        )
        if self._account is not None:
            binaries = await binaries.within(self._account, self._reactor)
        self._programs = binaries
        if not self._cluster.exists():
            await self._initialise(home)
        await endStale(self._cluster, self._reactor)

    async def _initialise(self, home: Path) -> None:
        fresh = Path(tempfile.mkdtemp(prefix="initdb-", dir=home))
        if self._account is not None:
            os.chown(fresh, self._account.uid, self._account.gid)
        # Knows letters beyond ASCII on any machine, whatever locales it has.
        unicode = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        said: list[str] = []
        child = self._spawn(
            "initdb",
            *("-D", str(fresh), "-U", "uws", "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=reject"),
            *(("--no-instructions",) if self._programs.major >= 14 else ()),
            *(unicode if self._programs.major >= 17 else ()),
            *(("--data-checksums",) if self._durable else ("--no-sync", "--wal-segsize=1")),
            heard=said.append,
        )
        await child.whenEnded()
        if child.exit.exitCode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise self._failure("made", said)
        fresh.rename(self._cluster)
        syncDirectory(home)

    async def _launch(self) -> None:
        limit = self._reactor.seconds() + 10
        while True:
            try:
                return await self._launchOnce()
            except EmbeddedPostgresError as problem:
                # The last processes of a postmaster that was killed are about to notice.
                if "still in use" not in str(problem) or self._reactor.seconds() > limit:
                    raise
            await deferLater(self._reactor, 0.1)

    async def _launchOnce(self) -> None:
        said: list[str] = []
        ready: Deferred[bool | None] = Deferred()

        def heard(line: str) -> None:
            if self._wanted and line.startswith(TROUBLE):
                log.warn("PostgreSQL: {line}", line=line)
            if not ready.called:
                silence.reset(START_LIMIT)
                said.append(line)
                if "ready to accept connections" in line:
                    over(True)

        def over(started: bool | None) -> None:
            if not ready.called:
                ready.callback(started)

        silence = self._reactor.callLater(START_LIMIT, over, None)
        options = [*OPTIONS, f"unix_socket_directories={self._sockets}"]
        if not self._durable:
            options += HASTE
        try:
            child = self._spawn(
                *("postgres", "-D", str(self._cluster)),
                *(word for option in options for word in ("-c", option)),
                heard=heard,
            )
            child.whenEnded().addCallback(lambda _: over(False))
            started = await ready
        finally:
            if silence.active():
                silence.cancel()
        if started:
            self._started = self._reactor.seconds()
            child.whenEnded().addCallback(self._gone)
            return
        if started is None:
            await child.end(self._reactor)
            said.append(f"FATAL:  it said nothing for {START_LIMIT:.0f} s")
        raise self._failure("started", said)

    def _gone(self, child: Child) -> None:
        if not self._wanted:
            return
        if self._reactor.seconds() - self._started > LONGEST_DELAY:
            self._delay = 0.1
        reason = str(child.exit)
        log.error("PostgreSQL has ended though nobody asked it to: {reason}", reason=reason)
        self._startAgain()
        lost, self.lost = self.lost, Deferred()
        lost.callback(reason)

    def _startAgain(self) -> None:
        log.info("Starting PostgreSQL again in {delay:.1f} s.", delay=self._delay)
        self._again = self._reactor.callLater(
            self._delay, lambda: Deferred.fromCoroutine(self._restart())
        )
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    async def _restart(self) -> None:
        await self._turn.acquire()
        try:
            await self._launch()
            log.info("PostgreSQL runs again.")
        except (EmbeddedPostgresError, OSError) as problem:
            if self._wanted:
                log.error("{problem}", problem=problem)
                self._startAgain()
        finally:
            self._turn.release()

    def _spawn(self, program: str, *words: str, heard: Callable[[str], None]) -> Child:
        if not self._wanted:
            raise EmbeddedPostgresError(STOPPED)
        self._child = Child(program, heard)
        self._programs.spawn(self._child, words, self._account, self._reactor)
        return self._child

    def _failure(self, verb: str, said: Sequence[str]) -> EmbeddedPostgresError:
        if not self._wanted:
            return EmbeddedPostgresError(STOPPED)
        return EmbeddedPostgresError(
            f"The database in {self.directory} could not be {verb}: {complaint(said)}. Mend that, "
            "or choose another --data-dir, or give a running server with --database."
        )

    def _release(self) -> None:
        self.dsn = None
        self._child = None
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._sockets is not None:
            removeSockets(self._sockets, self._cluster)
            self._sockets = None
        if self._lockFile is not None:
            os.close(self._lockFile)
            self._lockFile = None


def complaint(said: Sequence[str]) -> str:
    """Why a program failed, by what it said: its first complaint, else its last words."""
    level = re.compile(r"^.*?\b(?:FATAL|PANIC|ERROR|[Ee]rror): *")
    complaints = [line for line in said if level.match(line)]
    words = complaints or [line for line in said if line.strip()][-1:] or ["it said nothing"]
    return level.sub("", words[0]).strip().rstrip(".")
