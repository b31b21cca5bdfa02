"""
A pytest plugin: only those tests that talk to the PostgreSQL which the fixture C{postgres}
chooses.  All others would do the same on any PostgreSQL.
"""

from __future__ import annotations


def pytest_collection_modifyitems(config, items):
    chosen = [item for item in items if "postgres" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
