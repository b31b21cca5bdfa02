"""
A process that sends requests: C{python -m bench.load}, of the standard library only.

Each line of its stdin is a wish in JSON (see L{Wish}), each line of its stdout what came of it.
A wish C{until_told} ends with the next line, whatever that is.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Wish:
    """
    What to send, and for how long.

    @ivar requests: whole requests, which take turns.
    @ivar connections: how many at a time, each with one request at a time.
    @ivar seconds: for how long to begin new ones, if there is an end.
    @ivar count: how many at most, if there is a limit.
    @ivar pace: begin one every so many seconds, if they are not to follow at once; a latency
        then counts from when its request was due.
    @ivar expect: the status of a good answer.
    """

    def __init__(self, wish: dict[str, Any]) -> None:
        self.port: int = wish["port"]
        self.requests = [one.encode("latin-1") for one in wish["requests"]]
        self.connections: int = wish.get("connections", 8)
        self.seconds: float = wish.get("seconds", math.inf)
        self.count: float = wish.get("count", math.inf)
        self.pace: float = wish.get("pace", 0)
        self.expect: int = wish.get("expect", 200)
        self.untilTold: bool = wish.get("untilTold", False)


class Connection:
    """One connection that sends a request, reads the answer, and so on."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.began = 0.0
        self._answer = b""
        self._needed = 0

    def send(self, request: bytes, due: float) -> None:
        """Send a small request."""
        self.began = due
        self._answer, self._needed = b"", 0
        self.socket.send(request)

    def received(self) -> int | None:
        """Read; the status once the answer is whole, 0 if the connection was closed."""
        data = self.socket.recv(1 << 18)
        if not data:
            return 0
        self._answer += data
        if not self._needed:
            head = self._answer.find(b"\r\n\r\n") + 4
            if head < 4:
                return None
            length = _LENGTH.search(self._answer, 0, head)
            self._needed = head + int(length[1]) if length else -1
        if self._needed < 0:  # chunked
            return int(self._answer[9:12]) if self._answer.endswith(b"\r\n0\r\n\r\n") else None
        return int(self._answer[9:12]) if len(self._answer) >= self._needed else None


class Run:
    """What comes of one wish."""

    def __init__(self, wish: Wish, told: int) -> None:
        self._wish = wish
        self._told = told
        self._poll = select.epoll()
        self._connections = {}
        for _ in range(wish.connections):
            one = Connection(wish.port)
            self._connections[one.socket.fileno()] = one
            self._poll.register(one.socket.fileno(), select.EPOLLIN)
        if wish.untilTold:
            self._poll.register(told, select.EPOLLIN)
        self._latencies: list[float] = []
        self._failures: list[str] = []
        self._numbers: Iterator[int] = count()
        self._begun = 0
        self._stop = math.inf

    def go(self) -> dict[str, Any]:
        """Send it all; what is under way at the end is waited for."""
        began = time.perf_counter()
        self._stop = began + self._wish.seconds
        idle, busy = list(self._connections.values()), 0
        nextOne = began
        while True:
            now = time.perf_counter()
            while idle and self._goesOn(now) and nextOne <= now:
                self._send(idle.pop(), nextOne if self._wish.pace else now)
                nextOne += self._wish.pace
                busy += 1
            if not busy and not self._goesOn(now):
                break
            patience = max(0, nextOne - now) if self._wish.pace and idle else 30
            for number, _ in self._poll.poll(patience):
                if number == self._told:
                    sys.stdin.readline()
                    self._stop = 0
                elif (done := self._hear(number)) is not None:
                    idle.append(done)
                    busy -= 1
        seconds = time.perf_counter() - began
        self._close()
        return self._result(seconds)

    def _goesOn(self, now: float) -> bool:
        return now < self._stop and self._begun < self._wish.count

    def _send(self, one: Connection, due: float) -> None:
        self._begun += 1
        requests = self._wish.requests
        one.send(requests[next(self._numbers) % len(requests)], due)

    def _hear(self, number: int) -> Connection | None:
        one = self._connections[number]
        status = one.received()
        if status is None:
            return None
        self._latencies.append(time.perf_counter() - one.began)
        if status != self._wish.expect:
            self._failures.append(f"{status}: {one._answer[:300]!r}")
            if status == 0:
                raise ConnectionError("the connection was closed")
        return one

    def _close(self) -> None:
        for one in self._connections.values():
            one.socket.close()
        self._poll.close()

    def _result(self, seconds: float) -> dict[str, Any]:
        times = sorted(self._latencies)

        def part(quantile: float) -> float:
            return times[max(0, math.ceil(quantile * len(times)) - 1)] if times else math.nan

        return {
            "requests": len(times),
            "seconds": seconds,
            "rate": len(times) / seconds,
            "p50": part(0.5),
            "p99": part(0.99),
            "longest": part(1),
            "failures": len(self._failures),
            "failure": (self._failures or [""])[0],
        }


def main() -> None:
    """Do what stdin says."""
    told = os.dup(0)
    while line := sys.stdin.readline():
        result = Run(Wish(json.loads(line)), told).go()
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
