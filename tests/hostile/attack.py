"""
Attacks: what each is called, what it may cost, and what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.hostile.service import Service
from tests.hostile.watcher import MB, SPARE, Cost, Watcher


@dataclass(frozen=True, kw_only=True)
class Budget:
    """
    What an attack may cost.

    @ivar memory: by how much the service's resident memory may grow, bytes.
    @ivar latency: how long somebody else may wait for an answer at most, s.  That is much more
        than they do: the machine may have other things to do.
    @ivar disk: how much may be stored meanwhile, bytes: bodies on their way, and their files.
        Nothing of it may be left.
    @ivar failed: how often others may be told to come again later, in a hundred.
    """

    memory: int = 32 * MB
    latency: float = 10.0
    failed: float = 0
    disk: int = 128 * MB


@dataclass(frozen=True)
class Attack:
    """
    One attack.

    @ivar make: does it; returns what became of it in a few words, and raises an
        C{AssertionError} if the service did what it must not.
    """

    name: str
    budget: Budget
    make: Callable[[Service], str]

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        """Which kind it is of, as the name of a module."""
        return self.make.__module__.rpartition(".")[2]

    def measured(self, service: Service) -> tuple[str, Cost, list[str]]:
        """Make it; what became of it, what it cost, and what of that must not be."""
        wrong: list[str] = []
        said = ""
        with Watcher(service) as watcher:
            try:
                said = self.make(service)
            except AssertionError as e:
                wrong.append(str(e) or repr(e))
        return said, watcher.cost, wrong + self._excess(watcher.cost)

    def _excess(self, cost: Cost) -> list[str]:
        """What it cost beyond its budget, in words."""
        budget = self.budget
        found = [
            (cost.memory > budget.memory, f"memory grew by {cost.memory / MB:.1f} MB"),
            (cost.latency > budget.latency, f"somebody waited for {cost.latency:.2f} s"),
            (cost.disk > budget.disk, f"{cost.disk / MB:.1f} MB were stored"),
            (cost.diskLeft > 0, f"{cost.diskLeft} bytes are left on disk"),
            (cost.descriptorsLeft > SPARE, f"{cost.descriptorsLeft} descriptors are left"),
            (
                len(cost.failed) > budget.failed / 100 * len(cost.gets + cost.posts),
                f"others failed {len(cost.failed)} times: {cost.failed[:3]}",
            ),
            (bool(cost.troubles), f"the log has {cost.troubles[:3]}"),
        ]
        return [text for isTooMuch, text in found if isTooMuch]


ATTACKS: list[Attack] = []


def attack(
    name: str, **budget: float
) -> Callable[[Callable[[Service], str]], Callable[[Service], str]]:
    """Note an attack; its budget where it is not the usual."""

    def note(make: Callable[[Service], str]) -> Callable[[Service], str]:
        ATTACKS.append(Attack(name, Budget(**budget), make))  # type: ignore[arg-type]
        return make

    return note


def together(several: Sequence[Attack]) -> Attack:
    """Several that wait most of the time, made at the same time, for all of their budgets."""

    def make(service: Service) -> str:
        with ThreadPoolExecutor(len(several)) as pool:
            return "; ".join(pool.map(lambda one: one.make(service), several))

    make.__module__ = several[0].make.__module__
    budget = Budget(
        memory=sum(one.budget.memory for one in several),
        latency=max(one.budget.latency for one in several),
        disk=sum(one.budget.disk for one in several),
    )
    return Attack(" and ".join(one.name for one in several), budget, make)
