"""The benchmark of quotes: that it runs, and that quotes are worth something by it."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

QUOTES = Path(__file__).parent.parent / "bench" / "quotes.py"


@pytest.fixture(scope="module")
def quotes():
    spec = importlib.util.spec_from_file_location("quotes", QUOTES)
    module = sys.modules["quotes"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["quotes"]


def test_tables():
    """The same seed gives the same day, and another one another."""
    command = [sys.executable, str(QUOTES), "--hours", "2", "--seed"]
    first, again, other = (
        subprocess.run([*command, seed], capture_output=True, text=True, check=True).stdout
        for seed in ("3", "3", "4")
    )
    assert first == again != other
    assert first.count("5 %") >= 4
    rows = [line.split() for line in first.splitlines() if line.startswith(("queued", "started"))]
    assert len(rows) == 12
    assert all(int(row[1]) > 100 for row in rows)


@pytest.mark.parametrize("seed", [1, 2])
def test_quotes_are_worth_something(quotes, seed):
    """They are right in the middle, and better where it is known what the cost depends on."""

    def off(occasion, dependsOn):
        rng = random.Random(seed)
        jobs = quotes.Day(dependsOn).play(quotes.arrivals(rng, 6, 110))
        return quotes.errors(jobs, occasion)

    for occasion, most in (("queued", 0.3), ("started", 0.1)):
        with_, without = off(occasion, True), off(occasion, False)
        assert abs(quotes.quantile([part for _, part in with_], 0.5)) < most
        inAll, otherwise = (
            quotes.quantile([abs(seconds) for seconds, _ in found], 0.5)
            for found in (with_, without)
        )
        assert inAll < 0.8 * otherwise
