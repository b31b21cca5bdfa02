"""
Many who wait for jobs, in one process: C{python -m bench.waiters}.

Each line of its stdin is a wish, C{{"port", "paths", "last"}}.  It adds some who wait, each for a
path, on a connection of its own; numbers count from 0 over all paths.  The answer is what has been
answered from number C{last} on, in the order of answers: the number of its path, and when that was
by the monotonic clock, which is the same in all processes.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

from bench.client import getRequest


def main() -> None:
    """Ask for all, and tell of their answers."""
    poll = select.epoll()
    places: dict[int, int] = {}
    held: list[socket.socket] = []
    poll.register(0, select.EPOLLIN)
    answered: list[tuple[int, float]] = []
    while True:
        for descriptor, _ in poll.poll():
            if descriptor:
                answered.append((places[descriptor], time.monotonic()))
                continue
            line = sys.stdin.readline()
            if not line:
                return
            wish = json.loads(line)
            for path in wish["paths"]:
                one = socket.create_connection(("127.0.0.1", wish["port"]))
                one.sendall(getRequest(wish["port"], path).encode())
                places[one.fileno()] = len(held)
                held.append(one)
                poll.register(one.fileno(), select.EPOLLIN | select.EPOLLONESHOT)
            sys.stdout.write(json.dumps(answered[wish["last"] :]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
