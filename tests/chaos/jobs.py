"""
The jobs of the random runs: each keeps a journal of its own doings, see
L{tests.chaos.journal}.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from twisted.internet.task import deferLater

from tests.chaos.journal import EVERY, VARIABLE, Entry, clock
from twuws import UWSJob
from twuws import parameters as p
from twuws.errors import JobFailure

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


#: The kinds of jobs that wait to be told, for a cluster's configuration.
GATED = {
    "gated": "tests.chaos.jobs.Gated",
    "gatedagain": "tests.chaos.jobs.GatedAgain",
    "gatedhere": "tests.chaos.jobs.GatedHere",
}


def gateOf(jobId: str, journal: str | os.PathLike[str]) -> Path:
    """The file that a gated job waits for: it holds C{complete} or C{fail}."""
    return Path(f"{os.fspath(journal)}.gates", jobId)


class Gated(UWSJob):
    """Works in a process of its own until it is told how to end, and once only."""

    text = p.Text(default="")

    def waits(self) -> Iterator[None]:
        """Gone through while it waits; then it ends as it was told."""
        entry = Entry(f"{self.jobId}.{self.attempt}")
        gate = gateOf(self.jobId, os.environ[VARIABLE])
        entry.say("begin")
        try:
            while not gate.exists():
                yield
                entry.say("beat")
            if gate.read_text() == "fail":
                raise JobFailure("It was told to fail.")
            with self.openResult("result", "text/plain", "result.txt") as out:
                out.write(f"{self.jobId}.{self.attempt} {self.text}".encode())
            entry.say("end")
        finally:
            entry.close()

    def run(self) -> None:
        for _ in self.waits():
            time.sleep(EVERY)


class GatedAgain(Gated):
    """Works in a process of its own, again if that is lost: as often as it takes."""

    restartable = True
    maxAttempts = 99


class GatedHere(Gated):
    """Works in the service's process, and once only."""

    # The run() that it overrides is none in the reactor.
    async def run(self) -> None:  # type: ignore[override]
        from twisted.internet import reactor

        for _ in self.waits():
            await deferLater(reactor, EVERY)
