"""
The table of what is checked: behaviours with a number, a part, a level, a section and a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from twuws.conformance.outcomes import Unusable

if TYPE_CHECKING:
    from twuws.conformance.session import Session

#: The parts by letter, with the last number in each; those without numbers have rules, as L3.
PARTS = {
    "A": ("Lifecycle", 22),
    "B": ("Representation", 31),
    "C": ("Job list and filters", 45),
    "D": ("Waiting", 55),
    "E": ("Control parameters", 65),
    "F": ("Parameters and uploads", 73),
    "G": ("Results and errors", 79),
    "H": ("Access", 85),
    "I": ("Restarts and crashes", 94),
    "J": ("Security", 99),
    "K": ("Scale", 102),
    "L": ("What clients need", None),
    "V": ("DALI and VOSI", None),
}
LEVELS = {"M": "must", "S": "should", "R": "robust"}

Function = Callable[["Session"], None]


@dataclass(frozen=True, kw_only=True)
class Check:
    """
    One behaviour.

    @ivar id: its number, or for a rule the letter of its part and a number.
    @ivar level: one of L{LEVELS}.
    @ivar section: where the standard speaks of it; C{-} where it does not.  If another standard
        does, its name is before the number.
    @ivar sentence: what a service does.
    @ivar function: what finds out; C{None} if that cannot be done over HTTP alone.
    @ivar reason: why it cannot.
    @ivar load: whether finding out loads the service, and is done only where that is asked for.
    @ivar attack: likewise, whether it may hurt it.
    """

    id: str
    level: str
    section: str
    sentence: str
    function: Function | None = None
    reason: str = ""
    load: bool = False
    attack: bool = False

    @property
    def part(self) -> str:
        """The letter of the part."""
        if not self.id.isdecimal():
            return self.id[0]
        number = int(self.id)
        return next(letter for letter, (_, last) in PARTS.items() if last and number <= last)

    @property
    def order(self) -> tuple[str, int, str]:
        """Where it stands among the others."""
        digits = re.search(r"\d+", self.id)
        return self.part, int(digits[0]) if digits else 0, self.id

    def isNamedIn(self, words: frozenset[str]) -> bool:
        """Whether some of C{words} are its number, its part, or its level."""
        return bool(words & {self.id.upper(), self.part, self.level})


_table: dict[str, Check] = {}


def check(
    number: int | str,
    level: str,
    section: str,
    sentence: str,
    *,
    load: bool = False,
    attack: bool = False,
) -> Callable[[Function], Function]:
    """Make a function a check; see L{Check} for what is said of it."""

    def enter(function: Function) -> Function:
        _enter(
            Check(
                id=str(number), level=level, section=section, sentence=sentence,
                function=function, load=load, attack=attack,
            )
        )  # fmt: skip
        return function

    return enter


def unreachable(number: int | str, level: str, section: str, sentence: str, reason: str) -> None:
    """Enter a behaviour that cannot be seen over HTTP alone, and why."""
    _enter(Check(id=str(number), level=level, section=section, sentence=sentence, reason=reason))


def _enter(one: Check) -> None:
    assert one.id not in _table, f"there are two checks {one.id}"
    assert one.level in LEVELS, one
    assert one.part in PARTS, one
    _table[one.id] = one


def allChecks() -> list[Check]:
    """The whole table, in order."""
    package = import_module("twuws.conformance.checks")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return sorted(_table.values(), key=lambda one: one.order)


def select(only: frozenset[str], skip: frozenset[str]) -> list[Check]:
    """
    The checks to do.

    @raise Unusable: if a word names nothing.
    """
    every = allChecks()
    known = {one.id.upper() for one in every} | set(PARTS) | set(LEVELS)
    for word in sorted((only | skip) - known):
        raise Unusable(f"{word} is neither a check, nor a part (A to V), nor a level (M, S, R)")
    chosen = [one for one in every if (not only or one.isNamedIn(only)) and not one.isNamedIn(skip)]
    if not chosen:
        raise Unusable("nothing is left to check")
    return chosen
