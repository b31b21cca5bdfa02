"""
The ten phases of a job, and which may follow which (UWS 1.1, 2.1.3).
"""

from __future__ import annotations

from enum import StrEnum

from twuws.errors import IllegalMove


class Phase(StrEnum):
    """
    A phase, equal to the word that stands for it in UWS.

    >>> Phase("QUEUED") is Phase.QUEUED, Phase.QUEUED == "QUEUED"
    (True, True)
    """

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    ABORTED = "ABORTED"
    UNKNOWN = "UNKNOWN"
    HELD = "HELD"
    SUSPENDED = "SUSPENDED"
    ARCHIVED = "ARCHIVED"


PENDING, QUEUED, EXECUTING = Phase.PENDING, Phase.QUEUED, Phase.EXECUTING
COMPLETED, ERROR, ABORTED = Phase.COMPLETED, Phase.ERROR, Phase.ABORTED
UNKNOWN, HELD, SUSPENDED, ARCHIVED = Phase.UNKNOWN, Phase.HELD, Phase.SUSPENDED, Phase.ARCHIVED

#: The phases in which a WAIT blocks (2.2.1.2).
ACTIVE = frozenset({PENDING, QUEUED, EXECUTING})

#: The phases that a job leaves only to be archived or destroyed.
FINAL = frozenset({COMPLETED, ERROR, ABORTED, ARCHIVED})

#: The phases in which a job has a row in the queue: it waits for a place, or holds one.
IN_QUEUE = frozenset({QUEUED, EXECUTING, SUSPENDED, UNKNOWN})

#: The table of moves.  The state diagram of the standard, with HELD and UNKNOWN as the
#: decisions A-01 and A-11 have them, and EXECUTING to QUEUED for what is started again.
MOVES: dict[Phase, frozenset[Phase]] = {
    PENDING: frozenset({QUEUED, HELD, ABORTED, ERROR}),
    HELD: frozenset({QUEUED, ABORTED, ERROR}),
    QUEUED: frozenset({EXECUTING, HELD, ABORTED, ERROR}),
    EXECUTING: frozenset({COMPLETED, ERROR, ABORTED, QUEUED, HELD, SUSPENDED, UNKNOWN}),
    SUSPENDED: frozenset({EXECUTING, QUEUED, HELD, ABORTED, ERROR}),
    UNKNOWN: frozenset({EXECUTING, COMPLETED, QUEUED, HELD, ABORTED, ERROR}),
    COMPLETED: frozenset({ARCHIVED}),
    ERROR: frozenset({ARCHIVED}),
    ABORTED: frozenset({ARCHIVED}),
    ARCHIVED: frozenset(),
}


def checkMove(old: Phase, new: Phase) -> None:
    """
    Raise L{IllegalMove} unless a job may go from C{old} to C{new}.

    >>> checkMove(COMPLETED, QUEUED)
    Traceback (most recent call last):
    twuws.errors.IllegalMove: The job is COMPLETED: it cannot become QUEUED any more.
    """
    if new in MOVES[old]:
        return
    if old in FINAL:
        raise IllegalMove(f"The job is {old}: it cannot become {new} any more.")
    possible = ", ".join(sorted(MOVES[old]))
    raise IllegalMove(f"The job is {old}: from there it can become {possible}, not {new}.")
