"""
From the start of the service to its first answer, beside C{twistd web}.

PostgreSQL runs already, and has the schema.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from statistics import median

from bench.bed import TWISTD, Bed, Service, isAnswered
from bench.figures import Figure, Target
from bench.processes import Child, freePort, until


def uws(service: Service) -> float:
    """After how many seconds it answers."""
    service.process.end()
    began = time.perf_counter()
    service.start()
    return time.perf_counter() - began


def web(bed: Bed) -> float:
    """The same of C{twistd web}."""
    port = freePort()
    command = [
        *(sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", "--reactor=epoll"),
        *(f"--logfile={bed.directory / 'web.log'}", "web"),
        *(f"--listen=tcp:{port}:interface=127.0.0.1", f"--path={bed.directory}"),
    ]
    began = time.perf_counter()
    child = Child(command, bed.directory / "web.log")
    until(lambda: isAnswered(port, "/"), "twistd web", every=0.005)
    took = time.perf_counter() - began
    child.end()
    return took


def measure(bed: Bed) -> Iterator[Figure]:
    """The medians of both, who take turns."""
    with bed.service("start") as service:
        turns = [(uws(service), web(bed)) for _ in range(bed.rounds)]
    own, bare = ([turn[place] for turn in turns] for place in (0, 1))
    yield Figure(
        row="start", what="start to first answer, beyond twistd web",
        value=median(a - b for a, b in turns), unit="s", bound=median(bare),
        target=Target(most=0.7, slack=5), more={"whole": median(own)},
    )  # fmt: skip
