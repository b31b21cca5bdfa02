"""How long work will take: what is made of the run times of like work."""

from __future__ import annotations

import math
import random

import pytest

from twuws import parameters as p
from twuws.runtimes import Estimate, RunTimes, Sample
from twuws.values import FileValue


def samples(*pairs):
    return [Sample(seconds=seconds, cost=cost) for seconds, cost in pairs]


def test_nothing_to_go_by():
    assert RunTimes([]).estimate() is None
    assert RunTimes([]).estimate((1.0, "a")) is None


def test_median_is_not_thrown_by_one_that_is_way_off():
    known = RunTimes(samples((10, ()), (11, ()), (9, ()), (10, ()), (86400, ())))
    assert known.estimate().median == pytest.approx(10)
    assert known.estimate().spread < 0.3


def test_one_is_enough_to_go_by():
    assert RunTimes(samples((7, ()))).estimate().median == pytest.approx(7)
    assert RunTimes(samples((0, ()))).estimate().median > 0


@pytest.mark.parametrize("power", [0.5, 1, 2, -1])
def test_numbers(power):
    """A power law is followed, within what was seen and far beyond; outliers do not matter."""
    rng = random.Random(4)
    seen = []
    for n in range(100):
        size = 10 ** rng.uniform(3, 6)
        seconds = (size / 1e4) ** power * rng.lognormvariate(0, 0.2)
        seen.append((seconds * (1000 if n % 10 == 0 else 1), (size,)))
    known = RunTimes(samples(*seen))
    for size in (1e3, 3e4, 1e6, 1e8):
        assert 0.5 < known.estimate((size,)).median / (size / 1e4) ** power < 2


def test_proportional_while_little_is_known():
    known = RunTimes(samples((10, (1000.0,))))
    assert known.estimate((5000.0,)).median == pytest.approx(50, rel=0.1)


def test_all_that_cost_the_same_count():
    """However many they are: not just the first of them, or the fastest."""
    seconds = [10] * 20 + [30] * 60 + [90] * 20
    known = RunTimes(samples(*((n, (8.0,)) for n in seconds), (500, (100.0,))))
    assert known.estimate((8.0,)).median == pytest.approx(30)


def test_two_numbers():
    rng = random.Random(5)
    pairs = [(10 ** rng.uniform(0, 2), 10 ** rng.uniform(0, 2)) for _ in range(100)]
    known = RunTimes(samples(*((a * b**2, (a, b)) for a, b in pairs)))
    for a, b in ((3.0, 40.0), (50.0, 2.0), (10.0, 10.0)):
        assert known.estimate((a, b)).median / (a * b**2) == pytest.approx(1, rel=0.3)


def test_choices():
    """Those that are the same count; one that was never seen is like all."""
    fast, slow = [(n, ("fast",)) for n in (1, 1, 1.1, 0.9)], [(n, ("slow",)) for n in (100, 90, 99)]
    known = RunTimes(samples(*fast, *slow))
    assert known.estimate(("fast",)).median == pytest.approx(1)
    assert known.estimate(("slow",)).median == pytest.approx(99)
    assert known.estimate(("other",)).median == pytest.approx(1.1)


def test_choices_do_not_hide_what_a_number_does():
    rng = random.Random(6)
    seen = []
    for n in range(60):
        size = 10 ** rng.uniform(0, 3)
        mode = ("a", "b")[n % 2]
        seen.append((size * (1 if mode == "a" else 50), (mode, size)))
    known = RunTimes(samples(*seen))
    assert known.estimate(("b", 10.0)).median == pytest.approx(500, rel=0.3)
    assert known.estimate(("a", 100.0)).median == pytest.approx(100, rel=0.3)


def test_what_is_not_known():
    """Jobs without a number are there for those without; costs may once have been others."""
    known = RunTimes(samples((1, (10.0,)), (2, (20.0,)), (3, (30.0,)), (5, ()), (5, (None,))))
    assert known.estimate((None,)).median == pytest.approx(3)
    assert known.estimate((20.0,)).median == pytest.approx(2, rel=0.2)
    assert known.estimate(()).median == pytest.approx(3)
    assert known.estimate((20.0, 7.0)).median == pytest.approx(
        2, rel=0.2
    )  # whoever asks may be ahead
    huge = RunTimes(samples((1, (1.0,)), (1e3, (10.0,)), (1e6, (100.0,)))).estimate((1e300,))
    assert math.isfinite(huge.median)


def test_what_is_left():
    """It goes down as work goes on, is never nothing, and grows once the usual is over."""
    estimate = Estimate(median=100, spread=0.3)
    left = {ran: estimate.left(ran) for ran in (0, 50, 80, 100, 200, 1000, 1e6)}
    assert left[0] == 100
    assert 45 < left[50] < 60
    assert left[50] > left[80] > 20
    assert left[100] > 15
    assert left[200] >= 20
    assert left[1000] >= 100
    assert left[1e6] >= 1e5
    assert Estimate(median=0.001, spread=0.05).left(1e8) > 0


COSTS = [
    (p.Integer(), ["12"], 12.0),
    (p.Real(multiple=True), ["1.5", "2"], 3.5),
    (p.Real(default=3.0), [], 3.0),
    (p.Real(), [], None),
    (p.Integer(), ["9" * 400], None),
    (p.Real(), ["no number"], None),
    (p.Interval(), ["1 3.5"], 2.5),
    (p.Interval(), ["1 +Inf"], None),
    (p.Boolean(), ["TRUE"], "true"),
    (p.Choice(choices=("a", "b"), default="b"), [], "b"),
    (p.Text(), [], ""),
    (p.Text(multiple=True), ["a", "b"], "a\nb"),
    (p.Format(formats={"csv": "text/csv"}), ["text/csv"], "csv"),
    (p.File(), [FileValue(file="f", size=5), FileValue(file="g", size=7)], 12.0),
    (p.File(), [], 0.0),
    (p.File(), [FileValue(file="f", source="http://a/b")], None),
    (p.File(), [FileValue(file="f", source="http://a/b", size=3)], 3.0),
]


@pytest.mark.parametrize(("declared", "values", "cost"), COSTS, ids=range(len(COSTS)))
def test_cost_of_parameters(declared, values, cost):
    found = declared.cost(values)
    assert found == cost
    assert type(found) is type(cost)
