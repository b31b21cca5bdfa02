"""
The columns of the matrix that are about what breaks with PostgreSQL.

A column is played when the first of its cells is asked for; see L{tests.chaos.matrix}.
"""

from __future__ import annotations

import pytest

from tests.chaos.matrix import Cell, cells
from tests.chaos.playing import expect, expectTheRest

pytestmark = pytest.mark.chaos

FAULTS = ("immediate", "listen", "working", "away", "long")


@pytest.mark.parametrize("cell", cells(*FAULTS), ids=str)
def test_cell(cell: Cell) -> None:
    """The job ends as the table says, and the checker finds nothing wrong with it."""
    expect(cell)


@pytest.mark.parametrize("fault", FAULTS)
def test_serviceGoesOn(fault: str) -> None:
    """The service does what comes next, and nothing else is wrong."""
    expectTheRest(fault)
