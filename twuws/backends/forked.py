"""
The service's side of L{twuws.forking}: runners that are forked from a process which has
imported what they need.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twuws import endings, family
from twuws.backends.watching import LAST_WORDS, RunnerProtocol

log = Logger()

#: Where they have their C{HOME}, below the root of the job directories.
IMPORTS = ".imports"

#: After how long another is started where one could not fork runners, s.
RECONSIDER = 60.0

#: How long a fork may take, s.
PATIENCE = 5.0


class NotForked(Exception):
    """No runner was forked: start one."""


class Forkers:
    """
    A process for each job class, and one for all programs, from its first job on.

    @param python: the interpreter.
    @param home: C{HOME} and C{TMPDIR} while modules are imported; it is made, and stays, for
        some keep there what they have once found out.
    """

    def __init__(self, reactor: Any, python: str, home: Path) -> None:
        self.reactor = reactor
        self.python = python
        self.home = home
        self._forkers: dict[str, Forker] = {}

    def forkerOf(
        self, jobClass: str | None, pythonPath: list[str], environment: Mapping[str, str]
    ) -> Forker | None:
        """
        What forks runners for a class, or C{None}; if it is not there yet it will be soon.

        @raise OSError: if it cannot be started.
        """
        if sys.platform != "linux":
            return None
        what = {"jobClass": jobClass, "pythonPath": pythonPath if jobClass else []}
        given = dict(environment) if jobClass else {}
        key = json.dumps([what, given], sort_keys=True)
        forker = self._forkers.get(key)
        if forker is None or forker.isOver:
            forker = Forker(self.reactor)
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            forker.start(self.python, json.dumps(what), self._environment(given))
            self._forkers[key] = forker
        return forker if forker.isReady else None

    def _environment(self, given: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(Path(endings.__file__).parent.parent),
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **given,
            family.MARK: family.NO_MARK,  # last, for what replaces it may be shorter
        }

    def close(self) -> None:
        """Let all of them end; what they have forked goes on."""
        for forker in self._forkers.values():
            forker.close()
        self._forkers.clear()


@implementer(IReadDescriptor)
class Forker:
    """
    One process that forks runners.

    @ivar isReady: whether it does.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.isReady = False
        self._wasReady = False
        self._isOpen = True
        self._since = reactor.seconds()
        self._runners: dict[int, ForkedRunner] = {}
        # Of runners that have ended before we knew their numbers; others' numbers may recur.
        self._ended: dict[int, int] = {}
        self._unnamed = 0

    @property
    def isOver(self) -> bool:
        """Whether another may be started in its place; not at once if it was never ready."""
        isOld = self.reactor.seconds() - self._since >= RECONSIDER
        return not self._isOpen and (self._wasReady or isOld)

    def start(self, python: str, what: str, environment: dict[str, str]) -> None:
        """Start it; it is ready later, if at all."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        args = [python, "-S", "-P", "-m", "twuws.forking", what]
        nothing = os.open(os.devnull, os.O_RDWR)
        try:
            fds: Any = {0: theirs.fileno(), 1: nothing, 2: "r"}
            self.reactor.spawnProcess(_Said(), python, args, environment, childFDs=fds)
        finally:
            theirs.close()
            os.close(nothing)
        self.reactor.addReader(self)

    async def fork(self, protocol: RunnerProtocol, directory: str, marker: str) -> ForkedRunner:
        """
        Have a runner forked, which waits to be told to go.

        @raise NotForked: if there is none.
        @raise OSError: if that could not even be tried.
        """
        pairs = [socket.socketpair() for _ in range(2)]
        message = json.dumps({"directory": directory, "marker": marker}).encode()
        try:
            socket.send_fds(self._control, [message], [theirs.fileno() for _, theirs in pairs])
        except OSError as e:
            for ours, _ in pairs:
                ours.close()
            raise NotForked from e
        finally:
            for _, theirs in pairs:
                theirs.close()
        runner = ForkedRunner(self, protocol, *(ours for ours, _ in pairs))
        self._unnamed += 1
        try:
            await runner.named.addTimeout(PATIENCE, self.reactor)
            self._runners[runner.pid] = runner
            if runner.pid in self._ended:
                self._heard(f"ended {runner.pid} {self._ended[runner.pid]}")
        except BaseException as e:
            runner.loseConnection()
            if isinstance(e, TimeoutError):
                raise NotForked from e
            raise
        finally:
            self._unnamed -= 1
            if not self._unnamed:
                self._ended.clear()
        if not self._isOpen:
            runner.orphaned()
        return runner

    def forget(self, runner: ForkedRunner) -> None:
        """How it ends is of no interest any more."""
        self._runners.pop(runner.pid, None)

    def _heard(self, text: str) -> None:
        what, _, rest = text.partition(" ")
        if what == "ready":
            self.isReady = self._wasReady = True
        elif what == "cold":
            log.info("no runners are forked: {why}", why=rest)
        else:
            pid, status = map(int, rest.split())
            runner = self._runners.pop(pid, None)
            if runner is not None:
                runner.exited(status)
            elif self._unnamed:
                self._ended[pid] = status

    # IReadDescriptor

    def fileno(self) -> int:
        return self._control.fileno()

    def doRead(self) -> None:
        with suppress(BlockingIOError):
            try:
                data = self._control.recv(1 << 16)
            except ConnectionError:
                data = b""
            if data:
                self._heard(data.decode())
            else:
                self.close()

    def close(self) -> None:
        """Have it end, or note that it has."""
        if not self._isOpen:
            return
        self._isOpen = self.isReady = False
        self.reactor.removeReader(self)
        self._control.close()
        for runner in list(self._runners.values()):
            runner.orphaned()
        self._runners.clear()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is going, and with it this process."""

    def logPrefix(self) -> str:
        return "twuws"


class ForkedRunner:
    """
    A runner that was forked: what a C{RunnerProtocol} has for a transport.

    @ivar pid: its process, once L{named} has fired.
    @ivar ended: fires with exit status and last words as the protocol has them, or with
        C{None} if nobody is left who could tell: then its process is to be watched.
    """

    def __init__(
        self, forker: Forker, protocol: RunnerProtocol, talk: socket.socket, trouble: socket.socket
    ) -> None:
        self.pid = 0
        self.named: Deferred[None] = Deferred()
        self.protocol = protocol
        self._forker = forker
        self._reactor = forker.reactor
        self._streams = [
            _Stream(self._reactor, one, heard, self._closed)
            for one, heard in ((talk, self._heard), (trouble, protocol.errReceived))
        ]
        self._status: int | None = None
        self._last: Any = None
        protocol.transport = self  # type: ignore[assignment]

    def _heard(self, data: bytes) -> None:
        if not self.pid:
            line, _, data = data.partition(b"\n")  # it is shorter than what comes at once
            self.pid = int(line)
            self.named.callback(None)
        if data:
            self.protocol.outReceived(data)

    def _closed(self) -> None:
        if not self.named.called:
            self.named.errback(NotForked())
        self._settle()

    def exited(self, status: int) -> None:
        """Its process has ended; what it has left behind may hold its streams open."""
        self._status = status
        self._last = self._reactor.callLater(LAST_WORDS, self.loseConnection)
        self._settle()

    def orphaned(self) -> None:
        """Nobody will tell how it ends."""
        self.loseConnection()
        if not self.protocol.ended.called:
            self.protocol.ended.callback(None)

    def _settle(self) -> None:
        if self._status is not None and all(one.isClosed for one in self._streams):
            if self._last.active():
                self._last.cancel()
            self.protocol.finished(self._status)

    # What a process transport has

    def write(self, data: bytes) -> None:
        self._streams[0].transport.write(data)

    def closeStdin(self) -> None:
        """It reads no more than it is told."""

    def signalProcess(self, name: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, getattr(signal, f"SIG{name}"))

    def loseConnection(self) -> None:
        if self._status is None:
            self._forker.forget(self)
        for one in self._streams:
            one.transport.loseConnection()


class _Stream(Protocol):
    """One end of a socket, in the reactor."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        ours: socket.socket,
        heard: Callable[[bytes], object],
        closed: Callable[[], object],
    ) -> None:
        self.isClosed = False
        self._heard = heard
        self._told = closed
        ours.setblocking(False)
        with ours:  # the reactor has a duplicate
            reactor.adoptStreamConnection(
                ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: self)
            )

    def dataReceived(self, data: bytes) -> None:
        self._heard(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isClosed = True
        self._told()


class _Said(ProcessProtocol):
    """What the process says that forks runners is for the log."""

    def errReceived(self, data: bytes) -> None:
        log.error("forking runners: {text}", text=data.decode(errors="replace"))
