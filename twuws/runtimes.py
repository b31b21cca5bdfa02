"""
How long work will take, from how long like work took: arithmetic, and nothing else.

A run time is anything from a tenth to ten times of what is usual, so all of this is about its
logarithm; and now and then one is way off, so all averages are medians.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, median

#: What a run time depends on, in the order in which the job class names it: a number, a text
#: that is the same or not, or C{None} if it is not known.
Cost = tuple[float | str | None, ...]

#: How many run times make up for a choice that is the same, or a number that is known.
ENOUGH = 3
#: How many of those that are nearest count; all that are as near as the last of them do.
NEAREST = 9

#: The spread while there are too few run times to see it.
USUAL_SPREAD = 0.5
_SPREADS = 0.05, 1.5
#: Which power of a number a run time can be.
_STEEPEST = 3.0
#: Costs whose logarithms differ by less are the same.
_SAME = 0.05
#: How far apart the logarithms of two numbers must be to say anything about that power.
_APART = 0.1
#: Less than this hundredth of what is usual is as good as nothing.
_NOTHING = 0.01
#: Work that has run for some time will run for at least this part of it.
_LEAST_LEFT = 0.1
_SHORTEST = 0.001
#: Estimates are made once for all that cost the same, and for a job that waits.
_REMEMBERED = 5000
_LONGEST = 10 * 365 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How long some work took, s, and what that may have depended on."""

    seconds: float
    cost: Cost = ()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """
    What is known of a run time before it is over.

    @ivar median: it is shorter than this as often as longer, s.
    @ivar spread: the standard deviation of its natural logarithm.
    """

    median: float
    spread: float

    @property
    def mean(self) -> float:
        """What many such run times take on average, s: for what waits behind them."""
        return self.median * math.exp(self.spread**2 / 2)

    def left(self, ran: float) -> float:
        """
        How long work will go on that has run for C{ran} seconds: as often shorter as longer,
        if the logarithms of run times have a normal distribution.  Always above 0.

        >>> round(Estimate(median=60, spread=0.1).left(10))
        50
        """
        left = self.median - ran
        if ran > 0:
            over = min(math.log(ran / self.median) / self.spread, 30.0)
            then = -NormalDist().inv_cdf(math.erfc(over / math.sqrt(2)) / 4)
            left = self.median * math.exp(self.spread * then) - ran
        return max(left, _LEAST_LEFT * ran, _SHORTEST)


class RunTimes:
    """
    The run times of one job class, to go by.

    Those count that have the same choices, and of these the ones whose numbers are nearest.
    What is left of a difference in a number is made up for by the power of it that the run
    times follow; while that cannot be seen, they are taken to be proportional to it.

    @param samples: a hundred or so; this takes milliseconds.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        several = list(samples)
        size = max((len(one.cost) for one in several), default=0)
        costs = [_sized(one.cost, size) for one in several]
        self._usual = [_usualOf([cost[k] for cost in costs]) for k in range(size)]
        self._known = [
            _Known(self._scaled(cost), math.log(max(one.seconds, _SHORTEST)))
            for one, cost in zip(several, costs, strict=True)
        ]
        self._powers = [1.0] * size
        for _ in range(2 if size > 1 else 1):  # each with what the others explain taken away
            for k in range(size):
                self._powers[k] = self._powerOf(k)
        self._asked: dict[Cost, Estimate | None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def estimate(self, cost: Cost = ()) -> Estimate | None:
        """What to expect of work with such a cost; C{None} if there is nothing to go by."""
        found = self._asked.get(cost)
        if found is None:
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            found = self._estimate(_sized(cost, len(self._powers)))
            self._asked[cost] = found
        return found

    def _estimate(self, cost: Cost) -> Estimate | None:
        if not self._known:
            return None
        words, numbers = _partsOf(self._scaled(cost))
        like = [one for one in self._known if words.items() <= one.words.items()]
        if len(like) < ENOUGH:
            like = self._known
        near = []
        for one in like:
            if numbers.keys() <= one.numbers.keys():
                away = {k: value - one.numbers[k] for k, value in numbers.items()}
                powers = self._powers
                distance = sum(max(abs(powers[k]), 0.25) * abs(a) for k, a in away.items())
                near.append((distance, one.log + sum(powers[k] * a for k, a in away.items())))
        if len(near) < min(ENOUGH, len(like)):
            return _estimate([one.log for one in like])
        farthest = max(sorted(near)[:NEAREST][-1][0], _SAME)
        return _estimate([log for distance, log in near if distance <= farthest])

    def _scaled(self, cost: Cost) -> Cost:
        """
        The same with the logarithms of numbers; what is next to nothing, or below, has one, too.
        """
        return tuple(
            math.copysign(math.log1p(abs(value) / usual / _NOTHING), value)
            if isinstance(value, float)
            else value
            for value, usual in zip(cost, self._usual, strict=True)
        )

    def _powerOf(self, k: int) -> float:
        """
        The power of a number that run times follow: the median of what pairs of jobs with the
        same choices say (Theil and Sen), each with the weight of how far they are apart.
        """
        groups = defaultdict(list)
        for one in self._known:
            if k in one.numbers:
                rest = sum(self._powers[i] * v for i, v in one.numbers.items() if i != k)
                groups[tuple(one.words.items())].append((one.numbers[k], one.log - rest))
        slopes = [
            ((b[1] - a[1]) / (b[0] - a[0]), abs(b[0] - a[0]))
            for group in groups.values()
            for a, b in combinations(group, 2)
            if abs(b[0] - a[0]) > _APART
        ]
        if len(slopes) < ENOUGH:
            return 1.0
        return max(-_STEEPEST, min(_weightedMedian(slopes), _STEEPEST))


class _Known:
    """A run time: its logarithm, and what it may have depended on, by place."""

    def __init__(self, scaled: Cost, log: float) -> None:
        self.words, self.numbers = _partsOf(scaled)
        self.log = log


def _partsOf(scaled: Cost) -> tuple[dict[int, str], dict[int, float]]:
    words = {k: value for k, value in enumerate(scaled) if isinstance(value, str)}
    return words, {k: value for k, value in enumerate(scaled) if isinstance(value, float)}


def _usualOf(values: Iterable[float | str | None]) -> float:
    sizes = [abs(value) for value in values if isinstance(value, float)]
    return (median(sizes) if sizes else 0) or 1.0


def _sized(cost: Cost, size: int) -> Cost:
    """A cost in so many parts; job classes may once have named others."""
    return (*cost, *(None for _ in range(size)))[:size]


def _weightedMedian(pairs: list[tuple[float, float]]) -> float:
    """The median of what comes first in each pair, with the weight that comes second."""
    half = sum(weight for _, weight in pairs) / 2
    for value, weight in sorted(pairs):
        half -= weight
        if half <= 0:
            return value
    return max(pairs)[0]


def _estimate(logs: Sequence[float]) -> Estimate:
    middle = median(logs)
    spread = USUAL_SPREAD
    if len(logs) > ENOUGH:
        spread = 1.4826 * median(abs(log - middle) for log in logs)
    low, high = _SPREADS
    seconds = math.exp(min(middle, math.log(_LONGEST)))
    return Estimate(median=seconds, spread=max(low, min(spread, high)))
