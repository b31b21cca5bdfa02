"""Each attack does nothing but cost what it may."""

from __future__ import annotations

import pytest

from tests.hostile.attacks import ATTACKS
from tests.hostile.service import service

pytestmark = pytest.mark.hostile


@pytest.fixture(scope="module")
def target():
    with service() as target:
        yield target


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attack(target, attack):
    said, cost, wrong = attack.measured(target)
    assert not wrong, (said, cost)
