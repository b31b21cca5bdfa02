"""
Which faults of the right server each check must find, a module for each part.

C{FAULTS} of a module maps the number of a check to the names of faults.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules


def allFaults() -> dict[str, list[str]]:
    """The faults by the numbers of the checks."""
    found: dict[str, list[str]] = {}
    for module in iter_modules(__path__):
        for number, names in import_module(f"{__name__}.{module.name}").FAULTS.items():
            assert str(number) not in found, f"the faults of {number} are in two modules"
            found[str(number)] = list(names)
    return found
