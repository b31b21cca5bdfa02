"""
How L{twuws.backends.process} learns what a runner does: one that it started, and one that
it found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twuws.backends import family
from twuws.interfaces import Work

log = Logger()

#: How long the end of the runner's words may come after its end, s.
LAST_WORDS = 0.5


#: How much of what a runner says is logged, bytes.
MOST_WORDS = 16 * 1024


class RunnerProtocol(ProcessProtocol):
    """
    The service's side of a runner's pipes.

    @ivar ended: fires with the exit status (negative for a signal) and the end of stderr
        when the runner has ended and said its last, or with C{None} if there is nobody who
        could tell; to be cancelled to let go of it.
    """

    def __init__(self, reactor: Any, news: Callable[[], object], jobId: str) -> None:
        self.reactor = reactor
        self.news = news
        self.jobId = jobId
        self.ended: Deferred[tuple[int, bytes] | None] = Deferred(lambda _: self._letGo())
        self.trouble = b""
        self._said = 0

    def _letGo(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def outReceived(self, data: bytes) -> None:
        self.news()

    def errReceived(self, data: bytes) -> None:
        self.trouble = (self.trouble + data)[-4096:]
        said = data[: max(MOST_WORDS - self._said, 0)]  # the work may have got at it, too
        self._said += len(data)
        if said:
            text = said.decode(errors="replace")
            log.error("runner of {jobId}: {text}", jobId=self.jobId, text=text)

    def processExited(self, reason: Failure) -> None:
        # What a killed runner leaves behind has its pipes, and would keep them open.
        self._last = self.reactor.callLater(LAST_WORDS, self._letGo)

    def processEnded(self, reason: Failure) -> None:
        if self._last.active():
            self._last.cancel()
        error: Any = reason.value
        signalled = isinstance(error, ProcessTerminated) and error.signal
        self.finished(-error.signal if signalled else error.exitCode or 0)

    def finished(self, status: int) -> None:
        """The runner has ended, and said its last."""
        if not self.ended.called:  # nobody has let go of it
            self.ended.callback((status, self.trouble))


@implementer(IReadDescriptor)
class Watch:
    """
    A runner that is not our child: its end, and the growth of its events.

    @ivar ended: fires when the process has gone; to be cancelled to stop watching.
    """

    interval = 1.0

    def __init__(self, reactor: Any, ref: dict[str, Any], work: Work) -> None:
        self.reactor = reactor
        self.ref = ref
        self.work = work
        self.size = -1
        self.pidfd = -1
        self.ended: Deferred[None] = Deferred(lambda _: self._stop())
        self.loop = LoopingCall(self._look)
        self.loop.clock = reactor

    def begin(self) -> bool:
        """Watch, if it is there to be watched."""
        with suppress(OSError, AttributeError):  # no such process; not Linux
            self.pidfd = os.pidfd_open(self.ref["pid"])
        if family.runnerOf(self.ref) is None:  # asked now, for now its number is held
            self._close()
            return False
        if self.pidfd >= 0:
            self.reactor.addReader(self)
        self.loop.start(self.interval)
        return True

    def _look(self) -> None:
        with suppress(OSError):
            size = os.stat(self.work.directory.events).st_size
            if size != self.size:
                self.size = size
                self.work.news()
        if self.pidfd < 0 and family.runnerOf(self.ref) is None:
            self._fire()

    def _fire(self) -> None:
        self._stop()
        self.ended.callback(None)

    def _stop(self) -> None:
        self.loop.stop()
        self._close()

    def _close(self) -> None:
        if self.pidfd >= 0:
            self.reactor.removeReader(self)
            os.close(self.pidfd)
            self.pidfd = -1

    # IReadDescriptor, for the pidfd

    def fileno(self) -> int:
        return self.pidfd

    def doRead(self) -> None:
        self._fire()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is going; the work stays."""

    def logPrefix(self) -> str:
        return "twuws"
