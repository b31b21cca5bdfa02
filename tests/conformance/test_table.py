"""docs/conformance-table.rst has all that the kit checks, as the checks themselves say it."""

from __future__ import annotations

import ast

from tests.conformance import table
from tests.conformance.test_checks import CHECKS
from twuws.conformance.checks.clients import SAME

TESTS = table.PATH.parent.parent / "tests"


def test_it_is_not_stale():
    assert table.PATH.read_text() == table.table(), f"write it anew with {table.COMMAND}"


def test_all_are_in_it():
    """Each behaviour, and each rule, with what checks it or why nothing does."""
    wanted = [str(number) for number in range(1, 103)] + [f"L{number}" for number in range(1, 25)]
    numbers = [number for number, _, _ in table.rows()]
    assert [number for number in wanted if number not in numbers] == []
    assert len(numbers) == len(set(numbers))
    text = table.PATH.read_text()
    for number, one, same in table.rows():
        assert f"\n{number} " in text
        assert one.function or one.reason
        assert (same is not None) == (number.startswith("L") and int(number[1:]) in SAME)


def test_what_the_kit_cannot_see_is_tested_here():
    """Or it is said that it is not; and the tests that are named are there."""
    unseen = {one.id for one in CHECKS.values() if one.function is None}
    assert set(table.EVIDENCE) == unseen
    assert set(table.NOT_YET) <= unseen
    for names in table.EVIDENCE.values():
        for module, _, name in (one.partition("::") for one in names):
            tree = ast.walk(ast.parse((TESTS / module).read_text()))
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
            assert name in [one.name for one in tree if isinstance(one, kinds)]


def test_escaping():
    assert table._escaped(r"a_ a_b *|`\ ") == r"a\_ a_b \*\|\`\\ "
