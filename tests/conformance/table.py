"""
The table of all that the kit checks, for C{docs/conformance.rst}.

It is made of the checks themselves: C{python -m tests.conformance.table} writes it.  What the
kit cannot see of a service is shown for twuws by tests of its own, which are named here.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from twuws.conformance.checks.clients import SAME
from twuws.conformance.registry import LEVELS, PARTS, Check, allChecks

PATH = Path(__file__).parent.parent.parent / "docs" / "conformance-table.rst"
COMMAND = "python -m tests.conformance.table"
WIDTH = 78

#: The behaviours that the kit cannot see, and the tests that show them of twuws.
EVIDENCE = {
    "55": ["test_nodes.py::test_twoProcesses"],
    "84": [],
    "86": [
        "test_chores.py::test_process_work_goes_on",
        "test_chores.py::test_reactor_work_ends",
        "test_chores.py::test_stop_at_any_time",
        "test_testing.py::test_restart",
    ],
    "87": [
        "test_chores.py::test_found_again",
        "test_chores.py::test_vanished",
        "test_chores.py::test_gone_nodes",
        "test_testing.py::test_restart",
    ],
    "88": ["test_nodes.py::test_restartWithAQueue"],
    "89": ["test_nodes.py::test_restartWithAQueue", "test_jobstable.py::test_round_trip"],
    "90": ["test_nodes.py::test_abortedJustBeforeTheEnd"],
    "91": [
        "test_nodes.py::test_twoProcesses",
        "test_races.py::test_claims",
        "test_chores.py::test_lost_elsewhere",
    ],
    "92": [
        "test_chores.py::test_claimed_work_is_not_lost",
        "test_chores.py::test_lost_elsewhere",
    ],
    "93": [
        "test_chores.py::test_ends_while_the_database_is_away",
        "test_chores.py::test_server_restarts_while_work_ends",
        "test_http_sync.py::test_database_goes",
        "test_http_vosi.py::test_nothing_else_without_database",
    ],
    "94": [],
    "L18": [],
    "L20": ["test_clients.py::test_aJobFromBeginToEnd", "test_clients.py::test_error"],
    "L21": ["test_http_kinds.py::test_checked_at_run"],
}
#: What these tests do not show.
NOT_YET = {
    "91": "one limit for all processes",
    "92": "that the work has ended before it is begun elsewhere",
}


def rows() -> list[tuple[str, Check, Check | None]]:
    """All numbers, each with its check, and for a rule that is a behaviour with that."""
    every = allChecks()
    byId = {one.id: one for one in every}
    found: list[tuple[str, Check, Check | None]] = [(one.id, one, None) for one in every]
    for rule, behaviour in SAME.items():
        same = byId[str(behaviour)]
        found.append((f"L{rule}", same, same))
    return sorted(found, key=lambda row: _order(row[0], row[1]))


def _order(number: str, one: Check) -> tuple[str, int]:
    letters = number.rstrip("0123456789")
    return (letters or one.part, int(number.removeprefix(letters)))


def table() -> str:
    """The whole text."""
    lines = [
        f".. Written by ``{COMMAND}``, out of the checks; do not change it by hand.",
        "",
    ]
    for letter, group in groupby(rows(), lambda row: _order(row[0], row[1])[0]):
        title = f"{letter}. {PARTS[letter][0]}"
        lines += [title, "~" * len(title), "", *_part(list(group)), ""]
    return "\n".join(lines)


def _part(group: list[tuple[str, Check, Check | None]]) -> Iterator[str]:
    sections = max(len("section"), *(len(one.section) for _, one, _ in group))
    rule = f"{'=' * 6} {'=' * 5} {'=' * sections} {'=' * WIDTH}"
    yield rule
    yield f"{'number':6} {'level':5} {'section':{sections}} what a service does, and what checks it"
    yield rule
    for number, one, same in group:
        first, *others = _told(number, one, same)
        yield f"{number:6} {one.level:5} {one.section:{sections}} {first}"
        yield from (f"{'':{6 + 1 + 5 + 1 + sections + 1}}{line}".rstrip() for line in others)
    yield rule


def _told(number: str, one: Check, same: Check | None) -> Iterator[str]:
    """The sentence, and below it how it is checked."""
    if same is not None:
        yield f"The same as {same.id}."
        return
    yield from textwrap.wrap(_escaped(one.sentence), WIDTH)
    yield from textwrap.wrap(_checked(one), WIDTH, break_long_words=False, break_on_hyphens=False)


def _checked(one: Check) -> str:
    if one.function is not None:
        module = one.function.__module__.rpartition(".")[2]
        flags = [f"``--{flag}``" for flag in ("load", "attack") if getattr(one, flag)]
        only = f", only with {' and '.join(flags)}" if flags else ""
        return f"``{module}.{one.function.__name__}``{only}"
    tests = ", ".join(f"``tests/{name}``" for name in EVIDENCE.get(one.id, ()))
    shown = f"For twuws, {tests}." if tests else "For twuws, not yet."
    if one.id in NOT_YET:
        shown += f"  Not yet: {NOT_YET[one.id]}."
    return f"{_escaped(one.reason[:1].upper() + one.reason[1:])}.  {shown}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\*`|]|_\b)", r"\\\1", text)


if __name__ == "__main__":
    assert set(LEVELS) >= {one.level for one in allChecks()}
    PATH.write_text(table(), encoding="utf-8")
