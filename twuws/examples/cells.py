"""
What a table is: columns, rows, and cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

#: C{None} is a null.  Arrays are text, as TABLEDATA has them; booleans are C{T} and C{F}.
Cell: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Cell, ...]


class TableError(ValueError):
    """A table cannot be read; the message is for the one who sent it."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """
    A column, in the words of VOTable's FIELD.

    @ivar arraysize: C{None} for a scalar.
    @ivar null: the text that stands for a null in the table that was read, if there is one.
    """

    name: str
    datatype: str = "char"
    unit: str | None = None
    ucd: str | None = None
    arraysize: str | None = None
    xtype: str | None = None
    null: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, and rows with one cell for each of them."""

    columns: tuple[Column, ...]
    rows: Sequence[Row]


def formatCell(cell: Cell) -> str:
    """
    A cell's text, as TABLEDATA has it.

    >>> formatCell(None), formatCell(0.1), formatCell(float("-inf"))
    ('', '0.1', '-Inf')
    """
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else "+Inf" if cell > 0 else "-Inf"
    return "" if cell is None else str(cell)
