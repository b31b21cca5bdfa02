"""Each check passes where everything is right, and fails where its fault is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.faults import allFaults
from tests.conformance.rightserver import RightServer
from twuws.conformance.outcomes import Status
from twuws.conformance.registry import PARTS, allChecks
from twuws.conformance.runner import perform
from twuws.conformance.session import Session
from twuws.conformance.settings import Credentials, ParameterSet, Settings

pytestmark = pytest.mark.slow

CHECKS = {one.id: one for one in allChecks()}
MADE = {number: one for number, one in CHECKS.items() if one.function is not None}
FAULTS = allFaults()
#: The parts that are complete.
COMPLETE = "ABCDEFGHIJKLV"

#: Faults that no check finds before its patience is over.
FOR_EVER = ("neverDestroyed", "sameInstantStays", "durationIgnored", "waitsForEver")

USERS = {"alice": "wonderland", "bob": "builder"}
#: Which checks need users; the others are made as the service is by default.
WITH_USERS = "H"


def settingsFor(url, one=None, **more):
    """How the kit finds the right server; everything happens soon there."""

    def seconds(text):
        return ParameterSet(pairs=(("seconds", text),))

    given = {
        "url": url,
        "veryShort": seconds("0.02"),
        "short": seconds("0.4"),
        "long": seconds("30"),
        "error": ParameterSet(pairs=(("failure", "It failed."),)),
        "text": "label",
        "file": "table",
        "limit": 1_000_000,
        "load": True if one is None else one.load,
        "attack": True if one is None else one.attack,
        "patience": 5.0,
        "delay": 0.3,
        "poll": 0.02,
        "wait": 1,
        "timeout": 10.0,
    }
    if one is not None and one.part in WITH_USERS:
        alice, bob = (Credentials(user=name, password=word) for name, word in USERS.items())
        given |= {"credentials": alice, "other": bob}
    return Settings(**(given | more))


def outcomeOf(one, *faults, **more):
    users = USERS if one.part in WITH_USERS else None
    with RightServer(faults=faults, users=users) as server:
        uws = Session(settingsFor(server.url, one, **more))
        try:
            outcome = perform(one, uws)
        finally:
            uws.close()
    assert not [url for url in uws.left if "deletedStays" not in faults]
    return outcome


@pytest.mark.parametrize("number", MADE)
def test_passes(number):
    outcome = outcomeOf(CHECKS[number])
    assert outcome.status is Status.PASSED, f"{outcome.message}\n{outcome.exchange}"


@pytest.mark.parametrize(
    ("number", "fault"), [(number, fault) for number in FAULTS for fault in FAULTS[number]]
)
def test_finds(number, fault):
    more = {"patience": 0.3, "delay": 0.1} if fault in FOR_EVER else {}
    outcome = outcomeOf(CHECKS[number], fault, **more)
    assert outcome.status is Status.FAILED, outcome.message
    assert outcome.message.endswith(".")


def test_every_check_has_a_fault():
    assert {number for number in FAULTS if FAULTS[number]} == set(MADE)


def test_every_fault_is_in_the_server():
    """And none is there that no check has to find; of those parts that are complete."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("right*.py"))
    there = set(re.findall(r'has\("(\w+)"\)', text)) - {"itsName"}
    there -= {"deleteForbidden", "emptyFails"}  # for the tests of the kit itself
    # These are lawful.
    there -= {"archives", "controlsForbidden", "durationAtLeastMinute", "quoteMoves"}
    named = {fault for faults in FAULTS.values() for fault in faults}
    assert named <= there
    if set(COMPLETE) == set(PARTS):
        assert named == there


def test_numbers_are_complete():
    numbers = {number for number in CHECKS if number.isdecimal()}
    assert numbers <= {str(number) for number in range(1, 103)}
    first = 1
    for letter, (_, last) in PARTS.items():
        if last is None:
            continue
        if letter in COMPLETE:
            assert {str(number) for number in range(first, last + 1)} <= numbers
        first = last + 1


def test_sentences():
    for one in CHECKS.values():
        assert one.sentence.endswith("."), one
        assert len(one.sentence) <= 80, one
        assert (one.function is None) == bool(one.reason), one
    sentences = [one.sentence for one in CHECKS.values()]
    assert len(sentences) == len(set(sentences))
