"""
The jobs of the random runs: each keeps a journal of its own doings, see
L{tests.chaos.journal}.
"""

from __future__ import annotations

from twisted.internet.task import deferLater

from tests.chaos.journal import EVERY, Entry, clock
from twuws import UWSJob
from twuws import parameters as p

#: How often the mark of an attempt is in its result.
LINES = 200


def content(jobId: str, attempt: int) -> bytes:
    """What the result of an attempt is."""
    return f"{jobId}.{attempt}\n".encode("ascii") * LINES


class _Recorded(UWSJob):
    seconds = p.Real(default=1.0)

    def entry(self) -> Entry:
        return Entry(f"{self.jobId}.{self.attempt}")

    def write(self) -> None:
        with self.openResult("result", "text/plain", "result.txt") as out:
            out.write(content(self.jobId, self.attempt))


class Worked(_Recorded):
    """Works in a process of its own, and once only."""

    def run(self) -> None:
        with self.openResult("early", "text/plain", "early.txt") as out:
            out.write(b"early\n")
        self.reportProgress(0.1, "begun")
        for _ in self.entry().beats(self.seconds):
            pass
        self.write()


class WorkedAgain(Worked):
    """Works in a process of its own, again if that is lost."""

    restartable = True
    maxAttempts = 4


class Awaited(_Recorded):
    """Works in the service's process."""

    restartable = True
    maxAttempts = 4

    async def run(self) -> None:
        from twisted.internet import reactor

        entry = self.entry()
        entry.say("begin")
        until = clock() + self.seconds
        try:
            while (left := until - clock()) > 0:
                await deferLater(reactor, min(EVERY, left))
                entry.say("beat")
            self.write()
            entry.say("end")
        finally:
            entry.close()


class AwaitedOnce(Awaited):
    """Works in the service's process, and once only."""

    restartable = False
