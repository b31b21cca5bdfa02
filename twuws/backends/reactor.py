"""
Work in the service's own process: job classes whose C{run} is a coroutine.
"""

from __future__ import annotations

import os
import socket
from asyncio import CancelledError as AsyncioCancelled
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import lru_cache, partial
from types import coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.logger import Logger
from zope.interface import implementer

from twuws import endings
from twuws.backends.family import startOf
from twuws.errors import ConfigError
from twuws.interfaces import IBackend, Running, Work
from twuws.jobs import Outcome, UWSJob
from twuws.phases import COMPLETED
from twuws.workdir import WorkDir

log = Logger()


@implementer(IBackend)
class ReactorBackend:
    """
    Awaits C{run} of the job class in the reactor.

    Such work ends with the service: nothing of it is ever found again.  It has a directory
    as all work has, but no limits, and leaves no C{outcome.json}.

    @param mayGoOn: asked before each step of the work, for the process may have stood still
        for so long that others do the work by now.  If not, the step is not made: the work
        is cancelled, and lost.
    """

    name = "reactor"

    def __init__(
        self,
        reactor: Any = None,
        host: str | None = None,
        mayGoOn: Callable[[], bool] = lambda: True,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.reactor = reactor
        self.host = host or socket.gethostname()
        self._mayGoOn = mayGoOn
        self._tasks: dict[str, Deferred[Outcome]] = {}
        self._waiting: dict[str, list[Deferred[None]]] = {}

    async def start(
        self, work: Work, remember: Callable[[dict[str, Any]], Awaitable[object]]
    ) -> Running:
        """
        See L{IBackend}.

        @raise ConfigError: if another user is to do it: this is all one process.
        """
        if work.user is not None:
            raise ConfigError([f"Work in the service's process cannot be {work.user.name}'s."])
        ref: dict[str, Any] = {
            "backend": self.name,
            "host": self.host,
            "pid": os.getpid(),
            "started": _startOf(os.getpid()),
            "marker": f"{work.job.jobId}.{work.job.attempt}",
        }
        place = WorkDir(work.directory.path, work.job.attempt)
        await work.prepare(partial(_clear, place))
        place.news = work.news  # type: ignore[method-assign,assignment]
        await remember(ref)
        return Running(ref=ref, ended=self._begin(ref["marker"], work, place))

    def _begin(self, marker: str, work: Work, place: WorkDir) -> Deferred[Outcome]:
        job = type(work.job)(work.job.record, workPlace=place)
        task = ensureDeferred(_run(job, self._mayGoOn))
        ended: Deferred[Outcome] = Deferred(lambda _: task.cancel())
        self._tasks[marker] = task

        def finish(outcome: Outcome) -> None:
            del self._tasks[marker]
            for waiting in self._waiting.pop(marker, ()):
                waiting.callback(None)
            ended.callback(outcome)

        task.addCallback(finish)
        return ended

    async def find(self, work: Work, ref: dict[str, Any]) -> Running | None:
        """See L{IBackend}: what ran in another process has ended with it."""
        return None

    async def stop(self, ref: dict[str, Any], grace: float) -> None:
        """See L{IBackend}; work that swallows its cancellation cannot be killed, only logged."""
        marker = ref["marker"]
        task = self._tasks.get(marker)
        if task is None:
            return
        gone: Deferred[None] = Deferred()
        self._waiting.setdefault(marker, []).append(gone)
        timer = self.reactor.callLater(grace, gone.cancel)
        task.cancel()
        try:
            await gone
        except CancelledError:
            log.error("work {marker} in the reactor does not stop", marker=marker)
        finally:
            if timer.active():
                timer.cancel()


@lru_cache(maxsize=1)
def _startOf(pid: int) -> str | None:
    """Of this process: to look for it takes a tenth of the time that each job takes here."""
    return startOf(pid)


def _clear(place: WorkDir) -> None:
    """Leave nothing of an earlier attempt that could be taken for this one's; blocks."""
    if place.attempt != 1:
        place.clear()


async def _run(job: UWSJob, mayGoOn: Callable[[], bool]) -> Outcome:
    """Run a job's coroutine, whatever becomes of it."""
    name = type(job).__name__
    steps = _Steps(mayGoOn)
    outcome = Outcome(phase=COMPLETED)
    try:
        await steps.of(_work(job))
    except (CancelledError, AsyncioCancelled):
        outcome = endings.stopped()
    except (Exception, SystemExit) as error:
        outcome = endings.ofException(name, error, frames=3)
    return endings.unwatched() if steps.ended else outcome


async def _work(job: Any) -> None:
    await job.run()


class _Steps:
    """
    The steps of a coroutine, from one C{await} that waits to the next.

    @ivar ended: it was cancelled, for it was not to go on.
    """

    def __init__(self, mayGoOn: Callable[[], bool]) -> None:
        self._mayGoOn = mayGoOn
        self.ended = False

    @coroutine
    def of(self, steps: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Make each step, as long as that is allowed."""
        value: Any = None
        error: BaseException | None = None
        while True:
            if not self.ended and not self._mayGoOn():
                self.ended = True
                error = CancelledError()
            try:
                waiting = steps.send(value) if error is None else steps.throw(error)
            except StopIteration:
                return
            try:
                value, error = (yield waiting), None
            except BaseException as e:
                value, error = None, e
