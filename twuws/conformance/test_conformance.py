"""
A test for each check; see L{twuws.conformance.pytestplugin}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twuws.conformance.command import NEEDS, hasHTTP
from twuws.conformance.options import settingsFrom
from twuws.conformance.outcomes import Status, Unusable
from twuws.conformance.pytestplugin import given
from twuws.conformance.registry import Check, select

if TYPE_CHECKING:
    from twuws.conformance.session import Session


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the checks that the options name."""
    if not metafunc.config.getoption("uws_url"):
        raise pytest.UsageError("give the job list of a service with --uws-url")
    if not hasHTTP():
        raise pytest.UsageError(NEEDS)
    try:
        settings = settingsFrom(given(metafunc.config))
        checks = select(settings.only, settings.skip)
    except Unusable as e:
        raise pytest.UsageError(f"uws: {e}") from None
    ids = [
        f"{one.id}-{one.level}-{one.function.__name__ if one.function else ''}" for one in checks
    ]
    metafunc.parametrize("one", checks, ids=ids)


def test_uws(one: Check, uwsUnderTest: Session) -> None:
    """A service does what the check's sentence says."""
    from twuws.conformance.report import explained
    from twuws.conformance.runner import perform

    outcome = perform(one, uwsUnderTest)
    if outcome.status is Status.SKIPPED:
        pytest.skip(outcome.message)
    if outcome.isBad:
        pytest.fail(explained(outcome), pytrace=False)
