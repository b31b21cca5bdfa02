"""The ten phases and the moves between them."""

from __future__ import annotations

import doctest
import itertools

import pytest

from twuws import phases
from twuws.errors import IllegalMove
from twuws.phases import (
    ABORTED,
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    ERROR,
    EXECUTING,
    FINAL,
    HELD,
    IN_QUEUE,
    MOVES,
    PENDING,
    QUEUED,
    SUSPENDED,
    UNKNOWN,
    Phase,
    checkMove,
)


def test_theWordsOfTheStandard() -> None:
    words = "PENDING QUEUED EXECUTING COMPLETED ERROR ABORTED UNKNOWN HELD SUSPENDED ARCHIVED"
    assert [str(phase) for phase in Phase] == words.split()
    assert [f"{phase}" for phase in Phase] == words.split()


@pytest.mark.parametrize("word", ["pending", " PENDING", "PENDING\n", "pendinggg", "1345", ""])
def test_onlyTheseWords(word: str) -> None:
    with pytest.raises(ValueError, match="is not a valid Phase"):
        Phase(word)


def test_groups() -> None:
    assert {PENDING, QUEUED, EXECUTING} == ACTIVE
    assert {COMPLETED, ERROR, ABORTED, ARCHIVED} == FINAL
    assert {QUEUED, EXECUTING, SUSPENDED, UNKNOWN} == IN_QUEUE
    assert not ACTIVE & FINAL
    assert not IN_QUEUE & FINAL


def test_movesOfTheDiagram() -> None:
    for move in (
        (PENDING, QUEUED),
        (PENDING, ABORTED),
        (PENDING, HELD),
        (QUEUED, EXECUTING),
        (QUEUED, ABORTED),
        (QUEUED, ERROR),
        (EXECUTING, COMPLETED),
        (EXECUTING, ERROR),
        (EXECUTING, ABORTED),
        (EXECUTING, HELD),
        (EXECUTING, SUSPENDED),
        (EXECUTING, QUEUED),
        (HELD, QUEUED),
        (SUSPENDED, EXECUTING),
        (COMPLETED, ARCHIVED),
        (ERROR, ARCHIVED),
        (ABORTED, ARCHIVED),
    ):
        checkMove(*move)


def test_everyPhaseHasItsMoves() -> None:
    assert set(MOVES) == set(Phase)


def test_everyOtherMoveIsRefused() -> None:
    """And the message says from where, to where, and what would be possible."""
    for old, new in itertools.product(Phase, Phase):
        if new in MOVES[old]:
            checkMove(old, new)
            continue
        with pytest.raises(IllegalMove) as caught:
            checkMove(old, new)
        message = str(caught.value)
        assert f"is {old}:" in message
        assert new in message
        assert old in FINAL or all(possible in message for possible in MOVES[old])


def test_rulesThatHoldForAll() -> None:
    for old, new in itertools.product(Phase, Phase):
        if new in MOVES[old]:
            assert new not in {old, PENDING}, "nothing becomes PENDING again"
            assert (new is ARCHIVED) == (old in FINAL), "what ended can only be archived"
            assert new is not COMPLETED or old in {EXECUTING, UNKNOWN}
    for old in set(Phase) - FINAL:
        assert {ABORTED, ERROR} <= MOVES[old], "any time before the end (U-082)"


def test_theExamplesInTheModule() -> None:
    found = doctest.testmod(phases)
    assert found.attempted
    assert not found.failed
