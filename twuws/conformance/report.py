"""
What the kit says on the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TextIO

from twuws.conformance.outcomes import Outcome, Status
from twuws.conformance.registry import LEVELS, PARTS, Check
from twuws.conformance.session import Session

_WORDS = {
    Status.PASSED: "ok",
    Status.FAILED: "FAILED",
    Status.SKIPPED: "skipped",
    Status.BROKEN: "BROKEN",
}


class Report:
    """
    A table that grows as checks are made, and then what failed at length.

    @param verbose: whether to say why checks were skipped beside each of them.
    """

    def __init__(self, out: TextIO, verbose: bool = False) -> None:
        self._out = out
        self._verbose = verbose
        self._part = ""
        self._isTerminal = out.isatty()

    def begin(self, one: Check) -> None:
        """Say which check is being made; a terminal alone shows it."""
        if one.part != self._part:
            self._part = one.part
            self._say(f"\n{one.part}  {PARTS[one.part][0]}")
        if self._isTerminal:
            self._out.write(f"\r{'...':8}{_line(one)}")
            self._out.flush()

    def end(self, outcome: Outcome) -> None:
        """The line of a check."""
        again = "\r" if self._isTerminal else ""
        self._say(f"{again}{_WORDS[outcome.status]:8}{_line(outcome.check)}")
        if outcome.status is Status.SKIPPED and self._verbose:
            self._say(f"{'':24}{outcome.message}")
        self._out.flush()

    def finish(self, outcomes: Sequence[Outcome], uws: Session) -> None:
        """What failed, why others were skipped, and what was done."""
        for outcome in outcomes:
            if outcome.isBad:
                self._say("\n" + explained(outcome))
        self._skipped(outcomes)
        self._say("\n" + "\n".join(summary(outcomes)))
        self._say(f"Jobs made: {uws.made}; deleted again: {uws.deleted}.")
        for url in uws.left:
            self._say(f"Not deleted: {url}")

    def _skipped(self, outcomes: Iterable[Outcome]) -> None:
        reasons: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.status is Status.SKIPPED:
                reasons.setdefault(outcome.message, []).append(outcome.check.id)
        if reasons:
            self._say("\nSkipped:")
        for reason, numbers in reasons.items():
            self._say(f"  {', '.join(numbers)}: {reason}")

    def _say(self, text: str) -> None:
        self._out.write("".join(c if c.isprintable() or c in "\n\r" else "?" for c in text) + "\n")


def explained(outcome: Outcome) -> str:
    """All about a check that failed: what is right, what was found, and what shows it."""
    one = outcome.check
    where = f" ({cited(one)})" if cited(one) else ""
    lines = [
        f"{one.id}  {_WORDS[outcome.status]}: {outcome.message}",
        f"    {one.level}, {LEVELS[one.level]}{where}: {one.sentence}",
    ]
    lines += [f"    | {line}" for line in outcome.exchange.splitlines()]
    return "\n".join(lines)


def cited(one: Check) -> str:
    """
    Where in which standard there is what a check asks for; empty if in none.

    >>> cited(Check(id="1", level="M", section="2.2.3.1", sentence=""))
    'UWS 1.1, 2.2.3.1'
    """
    if one.section == "-":
        return ""
    return one.section if one.section[0].isalpha() else f"UWS 1.1, {one.section}"


def summary(outcomes: Iterable[Outcome]) -> list[str]:
    """How many checks of each level passed, failed and were skipped."""
    counts = Counter((outcome.check.level, outcome.status) for outcome in outcomes)
    lines = []
    for level, word in LEVELS.items():
        numbers = ", ".join(
            f"{counts[level, status]} {status}" for status in Status if counts[level, status]
        )
        lines.append(f"{level} ({word}): {numbers or 'none'}")
    return lines


def _line(one: Check) -> str:
    return f"{one.id:>4} {one.level} {one.section:8} {one.sentence}"
