"""What a service may do in another way: no check finds fault with it, or it is skipped."""

from __future__ import annotations

import pytest

from tests.conformance import rightwaiting
from tests.conformance.test_checks import CHECKS, outcomeOf
from twuws.conformance.checks import waiting
from twuws.conformance.outcomes import Status

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", ["37", "63"])
def test_jobs_are_archived(number):
    assert outcomeOf(CHECKS[number], "archives").status is Status.PASSED


@pytest.mark.parametrize("number", ["25", "26"])
def test_quotes_move(number):
    """What was quoted in a document may be another time by the next request."""
    assert outcomeOf(CHECKS[number], "quoteMoves").status is Status.PASSED


@pytest.mark.parametrize("number", ["37", "56", "58"])
def test_destruction_is_chosen_by_the_service(number):
    assert outcomeOf(CHECKS[number], "destructionIgnored").status is Status.PASSED


@pytest.mark.parametrize(
    ("number", "fault", "why"),
    [
        ("56", "controlsForbidden", "does not let clients change the destruction"),
        ("57", "controlsForbidden", "does not let clients change the execution duration"),
        ("59", "destructionIgnored", "of any job"),
        ("62", "durationAtLeastMinute", "and chose 60 s"),
        ("63", "destructionIgnored", "and chose"),
        ("54", "neverWaits", "before the job was deleted"),
    ],
)
def test_what_cannot_be_seen(number, fault, why):
    outcome = outcomeOf(CHECKS[number], fault)
    assert outcome.status is Status.SKIPPED, outcome.message
    assert why in outcome.message


def test_sitting_out(monkeypatch):
    """With C{--load} it is looked at how long the longest WAIT is."""
    monkeypatch.setattr(waiting, "LIVES", 1.0)
    assert outcomeOf(CHECKS["50"], load=True).status is Status.PASSED
    monkeypatch.setattr(waiting, "LIVES", 0.3)
    outcome = outcomeOf(CHECKS["50"], load=True)
    assert "not answered within 0.3 s" in outcome.message


def test_all_of_the_time(monkeypatch):
    """Not only as much of it as a maximum allows."""
    monkeypatch.setattr(rightwaiting, "LONGEST_WAIT", 2)
    outcome = outcomeOf(CHECKS["47"])
    assert outcome.status is Status.PASSED
    assert outcome.seconds > 0.95
