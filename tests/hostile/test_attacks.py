"""Each attack does nothing but cost what it may."""

from __future__ import annotations

import pytest

from tests.hostile.attack import together
from tests.hostile.attacks import ATTACKS, CROWDS
from tests.hostile.service import service

pytestmark = pytest.mark.hostile

#: What takes most of its time waiting, and the rest, for C{--dist loadgroup}.
PATIENT = ("slow", "names", "owners", "secrets", "texts")
#: Those of the same kind at the same time, for each takes half a minute or more.
ALL = [
    together(CROWDS[:3]),
    together(CROWDS[3:]),
    *(one for one in ATTACKS if one not in CROWDS),
]


def grouped(one):
    group = "patient" if one.kind in PATIENT else "busy"
    return pytest.param(one, id=str(one), marks=pytest.mark.xdist_group(group))


@pytest.fixture(scope="module")
def target():
    with service() as target:
        yield target


@pytest.mark.parametrize("attack", [grouped(one) for one in ALL])
def test_attack(target, attack):
    said, cost, wrong = attack.measured(target)
    assert not wrong, (said, cost.row())


def test_all_are_there():
    """What the standard's list of weak places names, and more, is attacked for each kind."""
    kinds = {one.kind for one in ATTACKS}
    assert kinds == {*PATIENT, "documents", "huge", "lies"}
    assert len(CROWDS) == 5
    assert len({one.name for one in ATTACKS}) == len(ATTACKS) > 40
