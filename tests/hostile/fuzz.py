"""
Fuzzing a running service: C{python -m tests.hostile.fuzz --examples N --seed S}.

Whatever comes, there is an answer or an end of the connection, never 500; nothing grows, and the
service answers others.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from select import POLLIN, poll

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile import strategies
from tests.hostile.service import Service, service
from tests.hostile.watcher import MB, SPARE
from tests.hostile.wire import Client, connected

#: How long an answer, or the end of the connection, may take, s.
SOON = 5.0
#: How long to wait for more before our side of the connection is closed, s: what waits for us to
#: go on would do so for long.
QUIET = 1.0
#: How many examples are under way at a time.
AT_ONCE = 100
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
    @ivar left: the files that are under the job directories at the end.
    @ivar slowest: how long one that was waited for said nothing at most, s.
    @ivar troubles: what must not be, with the bytes that brought it about, or as the log has it.
    """

    examples: int = 0
    seconds: float = 0.0
    memory: int = 0
    descriptors: int = 0
    disk: int = 0
    slowest: float = 0.0
    left: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{number} x {status}" for status, number in sorted(self.statuses.items()))
        return (
            f"{self.examples} examples in {self.seconds:.0f} s, one {self.slowest:.2f} s at most;"
            f" memory {self.memory / MB:+.1f} MB, {self.descriptors:+d} descriptors,"
            f" {self.disk:+d} bytes; {told}"
        )


@dataclass
class Sent:
    """
    An example that was sent.

    @ivar since: when something last happened, s.
    @ivar isHalf: our side of the connection is closed.
    """

    socket: socket.socket
    data: bytes
    since: float
    found: bytes = b""
    isHalf: bool = False


class Fuzzer:
    """
    Sends examples to a service, many at a time.
    """

    def __init__(self, target: Service) -> None:
        self.target = target
        self.client = Client(target.port)
        self.outcome = Outcome()
        self._job = b""
        self._poll = poll()
        self._open: dict[int, Sent] = {}

    def run(self, examples: int, number: int, tell: bool = False) -> Outcome:
        """
        Send so many, by a seed and those after it.

        @raise AssertionError: if the service does not answer somebody else.
        """
        target, outcome = self.target, self.outcome
        self._round(ROUND // 4, number)  # what is loaded and remembered once is so by then
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
        outcome.troubles += target.troubles(offset)
        return outcome

    def _round(self, examples: int, number: int) -> None:
        @seed(number)
        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategies.examples)
        def send(data: bytes) -> None:
            self._send(data)

        send()
        while self._open:
            self._look()
        assert self.client.get("/work/async").status == 200

    def _send(self, data: bytes) -> None:
        """Send an example; what becomes of it is seen later."""
        number = self.outcome.examples
        if number % 50 == 0:
            self._job = self.client.make(body=b"text=hello").rpartition("/")[2].encode()
        self.outcome.examples += 1
        while len(self._open) >= AT_ONCE:
            self._look()
        # From many places, for each can have so much in a minute.
        s = connected(self.target.port, f"127.0.4.{number % 250 + 1}")
        one = Sent(s, data.replace(b"JOB", self._job), time.monotonic())
        with suppress(OSError):
            s.sendall(one.data)
        s.setblocking(False)
        self._open[s.fileno()] = one
        self._poll.register(s, POLLIN)

    def _look(self) -> None:
        """See what has come, and who has waited for long."""
        for descriptor, _ in self._poll.poll(20):
            self._read(self._open[descriptor])
        now = time.monotonic()
        for one in list(self._open.values()):
            if one.isHalf and now - one.since > SOON:
                self.outcome.troubles.append(f"{one.data!r} has neither answer nor end")
                self._end(one)
            elif not one.isHalf and now - one.since > QUIET:
                one.isHalf, one.since = True, now
                with suppress(OSError):
                    one.socket.shutdown(socket.SHUT_WR)

    def _read(self, one: Sent) -> None:
        try:
            piece = one.socket.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        one.found += piece
        if not one.isHalf:
            one.since = time.monotonic()
        if not piece:
            self._end(one)

    def _end(self, one: Sent) -> None:
        outcome = self.outcome
        self._poll.unregister(one.socket)
        del self._open[one.socket.fileno()]
        one.socket.close()
        outcome.slowest = max(outcome.slowest, time.monotonic() - one.since)
        statuses = [int(status) for status in _STATUS.findall(one.found)]
        outcome.statuses[statuses[0] if statuses else 0] += 1
        if 500 in statuses or b"Traceback" in one.found:
            outcome.troubles.append(f"{one.data!r} got {one.found[:1000]!r}")

    def _settle(self, descriptors: int) -> None:
        """Wait until the jobs that were made have gone, or should have."""
        target, outcome = self.target, self.outcome
        until = time.monotonic() + 60
        while True:
            outcome.descriptors = target.descriptors() - descriptors
            outcome.disk = target.stored()
            outcome.left = target.files()
            isDone = outcome.descriptors <= SPARE and not outcome.disk and not outcome.left
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
    print(outcome, *outcome.left, *outcome.troubles[:20], sep="\n")  # noqa: T201
    return 1 if outcome.troubles or outcome.left else 0


if __name__ == "__main__":
    sys.exit(main())
