"""
Many who wait for jobs, in one process: C{python -m bench.waiters}.

Its first line of stdin is C{{"port", "paths"}}: each path is asked for on a connection of its own.
It answers each further line C{{"last"}} with what has been answered from there on: the number of
each path, and when that was by the monotonic clock, which is the same in all processes.
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
    wish = json.loads(sys.stdin.readline())
    poll, places, held = select.epoll(), {}, []
    for number, path in enumerate(wish["paths"]):
        one = socket.create_connection(("127.0.0.1", wish["port"]))
        one.sendall(getRequest(wish["port"], path).encode())
        places[one.fileno()] = number
        held.append(one)
        poll.register(one.fileno(), select.EPOLLIN | select.EPOLLONESHOT)
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
            sys.stdout.write(json.dumps(answered[json.loads(line)["last"] :]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
