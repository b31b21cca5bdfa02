"""
Work in processes of this host, one session each, that outlive the service.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from twuws import endings
from twuws.backends import commandline, family
from twuws.backends.forked import Forkers, NotForked
from twuws.backends.watching import RunnerProtocol, Watch
from twuws.errors import ConfigError, UWSError
from twuws.family import NO_MARK
from twuws.interfaces import IBackend, Running, Work
from twuws.jobs import Outcome, UWSJob

log = Logger()

#: The runner's exit status when it could not write to its directory.
DISK_TROUBLE = 3


def jobFile(work: Work) -> dict[str, Any]:
    """
    What C{job.json} says, for L{twuws.runner}.

    A class that has a tuple C{command} is a program, with C{programResults} and C{stdin}
    (see L{twuws.backends.commandline}); of any other C{run} is called.

    @raise ConfigError: if a process of its own could not import the class.
    @raise ParameterError: if a parameter cannot be an argument of the command.
    """
    cls, record = type(work.job), work.job.record
    command: Any = getattr(cls, "command", None)
    isCommand = isinstance(command, tuple)  # rather than a parameter that is called so
    stdin = getattr(cls, "stdin", None) if isCommand else None
    results = getattr(cls, "programResults", ()) if isCommand else ()
    return {
        "job": record.asJSON(),
        "attempt": record.attempt,
        "jobClass": None if isCommand else classPath(cls),
        "pythonPath": [os.path.abspath(path) for path in sys.path],
        "command": commandline.expand(command, work.job) if isCommand else None,
        "stdin": commandline.expandStdin(stdin, work.job),
        "results": commandline.expandResults(results, work.job),
        "limits": asdict(work.limits),
        "environment": dict(work.environment),
    }


def classPath(cls: type[UWSJob]) -> str:
    """
    Where a job class can be imported from, as C{module:QualName}.

    @raise ConfigError: if it cannot.
    """
    module, name = cls.__module__, cls.__qualname__
    found: object = None
    if module != "__main__" and "<locals>" not in name:
        with suppress(KeyError, AttributeError):
            found = attrgetter(name)(sys.modules[module])
    if found is not cls:
        raise ConfigError(
            [
                f"The job class {name} of {module} cannot be imported by a process of its own."
                " Define it at the top of a module that can be imported, or let its run be async."
            ]
        )
    return f"{module}:{name}"


@implementer(IBackend)
class ProcessBackend:
    """
    Starts L{twuws.runner} for each piece of work.

    C{Running.ended} fires when no process of the work is left, and after work.news() was
    called for the last time.  Cancelling it lets go of the work without touching it, for a
    service that stops: then it fails with C{CancelledError}.

    @param python: the interpreter for runners; the service's own if not given.
    @param home: for processes that runners are forked from, see L{Forkers}; if not given, each
        runner is started anew.
    """

    name = "process"

    def __init__(
        self,
        reactor: Any = None,
        host: str | None = None,
        python: str | None = None,
        home: Path | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        self.host = host or socket.gethostname()
        self.python = python or sys.executable
        self._forkers = None if home is None else Forkers(reactor, self.python, home)

    def close(self) -> None:
        """End what runners are forked from, at the end of the service."""
        if self._forkers is not None:
            self._forkers.close()

    def _inThread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function, *args)

    async def start(
        self, work: Work, remember: Callable[[dict[str, Any]], Awaitable[object]]
    ) -> Running:
        """See L{IBackend}; writes C{job.json}."""
        if work.user is not None and os.geteuid() != 0:
            raise ConfigError([f"Only root can have work done by another user, {work.user.name}."])
        content = jobFile(work)
        protocol = RunnerProtocol(self.reactor, work.news, work.job.jobId)
        preparing = ensureDeferred(_prepare(work, content))
        runner = None
        try:
            try:
                runner = await self._fork(protocol, work, content) or self._spawn(protocol, work)
            finally:
                await preparing  # it reads nothing yet
            runner.write(b"ready %d\n" % work.job.attempt)
            ref = self._ref(runner.pid, work)
            await remember(ref)
        except Exception:
            if runner is not None:
                with suppress(ProcessExitedAlready):
                    runner.signalProcess("KILL")
                await protocol.ended
            raise
        runner.write(b"go\n")
        runner.closeStdin()
        return self._running(ref, work, ensureDeferred(self._gone(protocol, work, ref)))

    async def _gone(
        self, protocol: RunnerProtocol, work: Work, ref: dict[str, Any]
    ) -> tuple[int, bytes] | None:
        """Wait until the runner has gone, and say what is known of that."""
        reason = await protocol.ended
        if reason is None:
            watch = Watch(self.reactor, ref, work)
            if watch.begin():
                await watch.ended
        return reason

    async def _fork(self, protocol: RunnerProtocol, work: Work, content: dict[str, Any]) -> Any:
        """A runner, if there is something that it can be forked from."""
        isMarkable = len(_marker(work)) <= len(NO_MARK)
        if self._forkers is None or work.user is not None or not isMarkable:
            return None
        if content["jobClass"] is not None and not work.job.importedOnce:
            return None
        jobClass, path = content["jobClass"], content["pythonPath"]
        try:
            forker = self._forkers.forkerOf(jobClass, path, work.environment)
            if forker is None:
                return None
            return await forker.fork(protocol, str(work.directory.path), _marker(work))
        except (NotForked, OSError) as e:
            log.warn("{jobId}: no runner was forked: {e}", jobId=work.job.jobId, e=e)
            return None

    def _spawn(self, protocol: RunnerProtocol, work: Work) -> Any:
        # Without site-packages, which take longer to find than all else: the runner has no
        # need of them, and a job class is given them once it is known that there is one.
        # No path of its own (spawnProcess would have to fork): the runner goes there itself.
        args = [self.python, "-S", "-P", "-m", "twuws.runner", str(work.directory.path)]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(Path(endings.__file__).parent.parent),
            "LANG": "C.UTF-8",
            family.MARK: _marker(work),
        }
        uid, gid = (work.user.uid, work.user.gid) if work.user else (None, None)
        return self.reactor.spawnProcess(protocol, self.python, args, environment, uid=uid, gid=gid)

    def _ref(self, pid: int, work: Work) -> dict[str, Any]:
        return {
            "backend": self.name,
            "host": self.host,
            "pid": pid,
            "started": family.startOf(pid),
            "marker": _marker(work),
        }

    async def find(self, work: Work, ref: dict[str, Any]) -> Running | None:
        """See L{IBackend}."""
        if ref["host"] != self.host:
            return None
        watch = Watch(self.reactor, ref, work)
        return self._running(ref, work, watch.ended) if watch.begin() else None

    async def stop(self, ref: dict[str, Any], grace: float) -> None:
        """See L{IBackend}; finds the work's processes even if the runner has been killed."""
        if ref["host"] != self.host:
            raise UWSError(f"Work on {ref['host']} cannot be stopped from {self.host}.")
        left = await family.end(self.reactor, ref, grace)
        if left:
            raise UWSError(f"Processes {left} of {ref['marker']} cannot be killed.")

    def _running(self, ref: dict[str, Any], work: Work, gone: Deferred[Any]) -> Running:
        return Running(ref=ref, ended=ensureDeferred(self._ended(ref, work, gone)))

    async def _ended(self, ref: dict[str, Any], work: Work, gone: Deferred[Any]) -> Outcome:
        """Wait until the runner has gone, and say how that was."""
        reason = await gone
        try:
            outcome: Outcome | None = await self._inThread(work.directory.readOutcome)
        except (OSError, ValueError, TypeError, KeyError) as e:  # the work may write there
            log.error("the outcome of {jobId} cannot be read: {e}", jobId=work.job.jobId, e=e)
            outcome = endings.unreadable(e)
        if outcome is None:  # then the runner could not see to what it leaves
            await family.end(self.reactor, ref, work.limits.grace)
            outcome = _withoutOutcome(reason)
        work.news()
        return outcome


async def _prepare(work: Work, content: dict[str, Any]) -> None:
    """What is done in the directory before its runner may begin."""

    def write() -> None:
        work.directory.writeJob(content)
        if work.user is not None:
            work.directory.giveTo(work.user)

    await work.prepare(write)


def _marker(work: Work) -> str:
    return f"{work.job.jobId}.{work.job.attempt}"


def _withoutOutcome(reason: tuple[int, bytes] | None) -> Outcome:
    """
    What it means that the runner ended without an outcome.

    @param reason: its exit status and the end of its stderr, if it was our child.
    """
    if reason is None:
        return endings.lost("The job's runner was killed, or its host restarted")
    status, trouble = reason
    if status == DISK_TROUBLE:
        why = trouble.decode("utf-8", "replace").strip().rpartition(": ")[2]
        message = endings.sentence(f"The end of the job's work could not be written: {why}")
        return Outcome.failed(message, type="transient")
    if status == 0:
        return endings.lost("The job's runner ended without an outcome")
    error = endings.ofStatus("The job's runner", status).error
    assert error is not None
    if status < 0:
        return endings.lost(error.message)
    # What a runner says of itself is not for clients.
    said = trouble.decode("utf-8", "replace").strip()
    return Outcome.failed(error.message, type=error.type, traceback=said or None)
