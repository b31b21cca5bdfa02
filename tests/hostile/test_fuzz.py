"""Whatever comes, there is an answer or an end, never 500, and nothing grows."""

from __future__ import annotations

import random

import pytest

from tests.hostile.fuzz import Fuzzer, hurried
from tests.hostile.watcher import MB, SPARE

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("fuzz")]

EXAMPLES = 10_000


def test_fuzz():
    number = random.SystemRandom().randrange(10**9)
    with hurried() as target:
        outcome = Fuzzer(target).run(EXAMPLES, number)
        assert outcome.examples >= EXAMPLES
        assert not outcome.troubles, (number, outcome.troubles[:10])
        assert outcome.descriptors <= SPARE, (number, str(outcome))
        assert not outcome.left, (number, outcome.left)
        assert outcome.memory < 24 * MB, (number, str(outcome))
        # It has seen much of the service, not only how it refuses.
        assert {200, 303, 400, 401, 404, 405, 415} <= set(outcome.statuses), str(outcome)
