"""
What the jobs themselves say of when they ran, outside their directories.

A line is C{JOBID.ATTEMPT PID KIND SECONDS}, the kind being C{begin}, C{beat} or C{end}; the
seconds are of the clock that all processes of a host share and that nobody sets.  There is
a beat at least every L{EVERY} seconds.

Only the standard library, and nothing but this file: programs use it, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

#: Where the journal is: a variable of the environment.
VARIABLE = "CHAOS_JOURNAL"

#: Between beats, s.
EVERY = 0.05


def clock() -> float:
    """The host's, since its boot, s."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Entry:
    """One attempt, to write about."""

    def __init__(self, work: str, path: str | None = None) -> None:
        self.work = work
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path or os.environ[VARIABLE], flags, 0o644)

    def say(self, kind: str) -> None:
        """Write a line, all of it at once."""
        line = f"{self.work} {os.getpid()} {kind} {clock():.6f}\n"
        os.write(self._file, line.encode("ascii"))

    def close(self) -> None:
        os.close(self._file)

    def beats(self, seconds: float) -> Iterator[None]:
        """Begin, beat for some time, and end; to be gone through at each beat."""
        self.say("begin")
        until = clock() + seconds
        while (left := until - clock()) > 0:
            yield
            time.sleep(min(EVERY, left))
            self.say("beat")
        self.say("end")
        self.close()


@dataclass(kw_only=True)
class Span:
    """
    When an attempt ran, by what it said itself.

    @ivar last: its last sign of life.
    @ivar pids: who wrote; more than one are two at the same attempt.
    """

    jobId: str
    attempt: int
    begin: float
    last: float
    ended: bool
    pids: list[int]
    line: int


def read(path: str | os.PathLike[str]) -> list[Span]:
    """All attempts in a journal; one that two processes made is there twice."""
    spans: dict[tuple[str, int], Span] = {}
    try:
        with open(path, encoding="ascii") as f:
            for number, line in enumerate(f, 1):
                work, pid, kind, at = line.split()
                jobId, _, attempt = work.rpartition(".")
                key = work, int(pid)
                span = spans.get(key)
                if span is None:
                    span = spans[key] = Span(
                        jobId=jobId,
                        attempt=int(attempt),
                        begin=float(at),
                        last=float(at),
                        ended=False,
                        pids=[int(pid)],
                        line=number,
                    )
                span.last = float(at)
                span.ended = span.ended or kind == "end"
    except FileNotFoundError:
        pass
    return list(spans.values())
