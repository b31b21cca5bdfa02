"""
The rows: each a module that measures one thing, or a few that go together.

Its C{measure(bed)} gives L{bench.figures.Figure}s.  Its docstring says what is measured beside
what, and where the time goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from bench.bed import Bed
from bench.figures import Figure

#: In the order in which they are measured and shown.
NAMES = (
    *("document", "phase", "create", "executing", "completed", "waits", "list"),
    *("upload", "download", "queue", "expired", "start", "after", "last", "million"),
    *("idle", "counts"),
)


def measureOf(name: str) -> Callable[[Bed], Iterator[Figure]]:
    """What measures a row."""
    measure: Callable[[Bed], Iterator[Figure]] = import_module(f"bench.rows.{name}").measure
    return measure
