"""
What is measured: figures, each beside its bound and its target.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """
    What a figure is to be.

    @ivar ofRatio: whether it is about the ratio to the bound, rather than the figure itself.
    @ivar slack: by which factor the short form is content with less, for there is noise; 1 for
        what does not depend on the machine.
    """

    least: float | None = None
    most: float | None = None
    ofRatio: bool = False
    slack: float = 1

    def holds(self, figure: Figure, isShort: bool) -> bool:
        """Whether a figure is as it is to be; what could not be measured is not."""
        found = figure.ratio if self.ofRatio else figure.value
        slack = self.slack if isShort else 1
        if found is None or math.isnan(found):
            return False
        isEnough = self.least is None or found >= self.least / slack
        return isEnough and (self.most is None or found <= self.most * slack)

    def __str__(self) -> str:
        sign, limit = ("≥", self.least) if self.least is not None else ("≤", self.most)
        return f"{sign} {limit:g}{' x' if self.ofRatio else ''}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """
    One line of the table.

    @ivar row: which program has measured it.
    @ivar bound: the same of what bounds it, in the same unit.
    @ivar ratio: of the figure to its bound; where there are rounds, the median of theirs, in
        each of which both were measured one after the other.
    @ivar skipped: why it has not been measured, if it has not.
    @ivar more: what else is worth knowing; C{cpu} and C{boundCpu} are ms of CPU per request.
    """

    row: str
    what: str
    value: float = math.nan
    unit: str = ""
    bound: float | None = None
    ratio: float | None = None
    target: Target | None = None
    skipped: str | None = None
    more: Mapping[str, float] = field(default_factory=dict)

    def isOk(self, isShort: bool) -> bool | None:
        """Whether it is as it is to be; C{None} if there is nothing to say of that."""
        if self.skipped is not None or self.target is None:
            return None
        return self.target.holds(self, isShort)

    def asJSON(self, isShort: bool) -> dict[str, Any]:
        """What is written to a file."""
        return {**asdict(self), "target": str(self.target or ""), "ok": self.isOk(isShort)}


def ratioOf(values: Sequence[float], bounds: Sequence[float]) -> float:
    """The median of the ratios of rounds."""
    return median(a / b for a, b in zip(values, bounds, strict=True))


def quantile(values: Iterable[float], part: float) -> float:
    """The value that so large a part of all is not above."""
    inOrder = sorted(values)
    return inOrder[max(0, math.ceil(part * len(inOrder)) - 1)] if inOrder else math.nan


def shown(value: float | None) -> str:
    """
    A number for people: three figures.

    >>> shown(1234.5), shown(0.01234), shown(12), shown(None)
    ('1234', '0.0123', '12', '')
    """
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


HEAD = ("row", "what", "figure", "bound", "ratio", "target", "ok", "CPU", "its")


def table(figures: Sequence[Figure], isShort: bool) -> str:
    """All of it, for people, as a table of reStructuredText."""
    lines: list[Sequence[str]] = [HEAD]
    for one in figures:
        ok = {True: "yes", False: "NO", None: ""}[one.isOk(isShort)]
        value = "skipped" if one.skipped else f"{shown(one.value)} {one.unit}"
        cpu = [shown(one.more.get(name)) for name in ("cpu", "boundCpu")]
        lines.append(
            (one.row, one.what, value, shown(one.bound), shown(one.ratio),
             str(one.target or ""), ok, *cpu)
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    rows = [
        "  ".join((cell or "\\").ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in (rule, rows[0], rule, *rows[1:], rule))
