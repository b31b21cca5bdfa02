"""
Fuzzing a running service: C{python -m tests.hostile.fuzz --examples N --seed S}.

Whatever comes, there is an answer or an end of the connection, never 500; nothing grows, and the
service answers others.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile import strategies
from tests.hostile.attack import SPARE
from tests.hostile.service import Service, service
from tests.hostile.watcher import MB
from tests.hostile.wire import Client, connected

#: How long an answer, or the end of the connection, may take, s.
SOON = 5.0
#: How long to wait for more before our side of the connection is closed, s.
QUIET = 0.1
#: How many examples are made by one seed: hypothesis remembers all of them.
ROUND = 1000
#: Who waits is answered soon; no job runs; and what is made goes away by itself.
HURRIED = """
slots = 0
longest-wait = 1
default-lifetime = 15
longest-lifetime = 15
cleanup-interval = 3
[http]
sync-timeout = 1
"""
_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


@dataclass
class Outcome:
    """
    @ivar statuses: how many first answers there were of which kind; 0 for none.
    @ivar slowest: how long one took at most, s.
    """

    examples: int = 0
    seconds: float = 0.0
    memory: int = 0
    descriptors: int = 0
    disk: int = 0
    slowest: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{number} x {status}" for status, number in sorted(self.statuses.items()))
        return (
            f"{self.examples} examples in {self.seconds:.0f} s, one {self.slowest:.2f} s at most;"
            f" memory {self.memory / MB:+.1f} MB, {self.descriptors:+d} descriptors,"
            f" {self.disk:+d} bytes; {told}"
        )


class Fuzzer:
    """
    Sends examples to a service.
    """

    def __init__(self, target: Service) -> None:
        self.target = target
        self.client = Client(target.port)
        self.outcome = Outcome()
        self._job = b""

    def run(self, examples: int, number: int, tell: bool = False) -> Outcome:
        """
        Send so many, by a seed and those after it.

        @raise AssertionError: for what must not be, with the bytes that brought it about.
        """
        target, outcome = self.target, self.outcome
        self._round(ROUND, number)  # what is loaded and remembered once is so by then
        offset, memory = target.log.stat().st_size, target.memory()
        descriptors = target.descriptors()
        began = time.monotonic()
        outcome.examples, outcome.statuses = 0, Counter()
        while outcome.examples < examples:
            number += 1
            self._round(min(ROUND, examples - outcome.examples), number)
            outcome.memory = target.memory() - memory
            outcome.seconds = time.monotonic() - began
            if tell and outcome.examples % (10 * ROUND) == 0:
                print(outcome, flush=True)  # noqa: T201
        self._settle(descriptors)
        outcome.troubles = target.troubles(offset)
        return outcome

    def _round(self, examples: int, number: int) -> None:
        kinds = strategies.requests() | strategies.requests() | strategies.raw

        @seed(number)
        @settings(
            max_examples=examples, phases=[Phase.generate], database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(kinds)
        def send(data: bytes) -> None:
            self._one(data)

        send()
        assert self.client.get("/work/async").status == 200

    def _one(self, data: bytes) -> None:
        if self.outcome.examples % 50 == 0:
            self._job = self.client.make(body=b"text=hello").rpartition("/")[2].encode()
        data = data.replace(b"JOB", self._job)
        began = time.monotonic()
        found = self._exchange(data)
        self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - began)
        self.outcome.examples += 1
        statuses = [int(one) for one in _STATUS.findall(found)]
        self.outcome.statuses[statuses[0] if statuses else 0] += 1
        assert 500 not in statuses, f"{data!r} got {found[:1000]!r}"
        assert b"Traceback" not in found, f"{data!r} got {found[:1000]!r}"

    def _exchange(self, data: bytes) -> bytes:
        """What comes back; who gets nothing for a while closes their side."""
        found = b""
        until = time.monotonic() + SOON
        with connected(self.target.port) as s:
            with suppress(OSError):
                s.sendall(data)
            s.settimeout(QUIET)  # what waits for us to go on would do so for long
            isOpen = True
            while True:
                try:
                    piece = s.recv(2**16)
                except TimeoutError:
                    assert time.monotonic() < until, f"{data!r} has neither answer nor end"
                    if isOpen:
                        isOpen = False
                        s.shutdown(1)
                    s.settimeout(max(until - time.monotonic(), 0.01))
                    continue
                except OSError:
                    return found
                if not piece:
                    return found
                found += piece
                s.settimeout(QUIET if isOpen else SOON)

    def _settle(self, descriptors: int) -> None:
        """Wait until the jobs that were made have gone, or should have."""
        target, outcome = self.target, self.outcome
        until = time.monotonic() + 60
        while True:
            outcome.descriptors = target.descriptors() - descriptors
            outcome.disk = target.stored()
            isDone = outcome.descriptors <= SPARE and not outcome.disk
            if isDone or time.monotonic() > until:
                return
            time.sleep(0.2)


@contextmanager
def hurried() -> Iterator[Service]:
    """A service to fuzz, for as long as a block."""
    with service(more=HURRIED) as target:
        yield target


def main() -> int:
    """Return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)  # noqa: T201
    with hurried() as target:
        outcome = Fuzzer(target).run(arguments.examples, arguments.seed, tell=True)
    print(outcome, *outcome.troubles[:20], sep="\n")  # noqa: T201
    return 1 if outcome.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
