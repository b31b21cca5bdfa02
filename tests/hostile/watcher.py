"""
What an attack costs: the service's CPU time, memory, disk and file descriptors, and the time that
others wait for their answers meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.hostile.service import Service
from tests.hostile.wire import Client

MB = 2**20
#: Without an attack a descriptor or two come and go: of the database, of threads, and one for
#: each job class that runners are forked for.
SPARE = 4


@dataclass(kw_only=True)
class Cost:
    """
    @ivar seconds: how long it took.
    @ivar cpu: of the service, s, with what the others take who ask meanwhile.
    @ivar memory: by how much its resident memory grew at most, bytes; C{left}: at the end.
    @ivar disk: how much more it stored at most, bytes; C{diskLeft}: at the end.
    @ivar descriptors: how many more it had at most; C{descriptorsLeft}: at the end.
    @ivar gets, posts: how long each answer to somebody else took, s.
    @ivar failed: what they got instead of an answer.
    @ivar troubles: what the service's log has of mistakes.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    left: int = 0
    disk: int = 0
    diskLeft: int = 0
    descriptors: int = 0
    descriptorsLeft: int = 0
    gets: list[float] = field(default_factory=list)
    posts: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def latency(self) -> float:
        """The longest that anybody has waited, s."""
        return max([*self.gets, *self.posts], default=0.0)

    def row(self) -> str:
        """As a line of the table."""
        return (
            f"{self.seconds:6.1f} {self.cpu:6.1f} {self.memory / MB:7.1f} {self.left / MB:6.1f}"
            f" {self.disk / MB:6.1f} {self.descriptors:6d}  {_told(self.gets):16}"
            f" {_told(self.posts):16}"
        )


def _told(several: list[float]) -> str:
    """The median, what one in a hundred is longer than, and the longest, ms."""
    if not several:
        return "-"
    found = sorted(several)
    times = (median(found), found[len(found) * 99 // 100], found[-1])
    return "/".join(f"{one * 1000:.0f}" for one in times)


HEADING = (
    "     s  cpu s +MB max   left   disk    fds  GET ms           POST ms"
    "          (median/99 %/longest)"
)


class Watcher:
    """
    Measures while a block is executed, with two others who ask ten times a second.

    @ivar cost: what it has measured.
    """

    interval = 0.1
    #: How long a service may take until it has given back what an attack took, s.
    settling = 90.0

    def __init__(self, service: Service, settling: float | None = None) -> None:
        self._service = service
        self.settling = self.settling if settling is None else settling
        self._others = [Client(service.port, f"127.0.9.{n}") for n in range(1, 5)]
        self._isOver = threading.Event()
        self.cost = Cost()

    def __enter__(self) -> Watcher:
        service = self._service
        self._job = self._others[0].make()
        self._offset = service.log.stat().st_size
        self._memory, self._disk = service.memory(), service.stored()
        self._descriptors, self._cpu = service.descriptors(), service.cpu()
        self._began = time.monotonic()
        tasks = (self._get, self._post, self._sample)
        self._threads = [threading.Thread(target=self._repeat, args=(one,)) for one in tasks]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.cost.seconds = time.monotonic() - self._began
        self.cost.cpu = self._service.cpu() - self._cpu
        self._isOver.set()
        for thread in self._threads:
            thread.join()
        self._settle()
        try:
            self._others[0].end(self._job)
        except (AssertionError, OSError) as e:  # it is not there any more, for anybody
            self.cost.failed.append(f"in the end: {e!r}"[:200])

    def _repeat(self, task: Callable[[int], None]) -> None:
        number = 0
        while not self._isOver.wait(self.interval):
            try:
                task(number)
            except (AssertionError, OSError) as e:
                self.cost.failed.append(f"{task.__name__}: {e!r}"[:200])
            number += 1

    def _get(self, number: int) -> None:
        answer = self._others[number % 4].get(self._job)
        assert answer.status == 200, (answer.status, answer.text)
        self.cost.gets.append(answer.seconds)

    def _post(self, number: int) -> None:
        other = self._others[number % 4]
        answer = other.post("/work/async", b"text=hello")
        assert answer.status == 303, (answer.status, answer.text)
        self.cost.posts.append(answer.seconds)
        other.end("/" + answer.headers["location"].split("/", 3)[3])

    def _sample(self, number: int) -> None:
        service, cost = self._service, self.cost
        cost.memory = max(cost.memory, service.memory() - self._memory)
        cost.descriptors = max(cost.descriptors, service.descriptors() - self._descriptors)
        if number % 5 == 0:
            cost.disk = max(cost.disk, service.stored() - self._disk)

    def _settle(self) -> None:
        """Wait until it has given back what it had to take, or should have."""
        service, cost = self._service, self.cost
        until = time.monotonic() + self.settling
        while True:
            cost.descriptorsLeft = service.descriptors() - self._descriptors
            cost.diskLeft = service.stored() - self._disk
            if (cost.descriptorsLeft <= SPARE and cost.diskLeft <= 0) or time.monotonic() > until:
                break
            time.sleep(0.1)
        cost.left = service.memory() - self._memory
        cost.troubles = service.troubles(self._offset)
