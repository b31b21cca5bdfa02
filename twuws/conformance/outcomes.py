"""
How a check ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twuws.conformance.answers import Answer
    from twuws.conformance.registry import Check


class Skipped(Exception):
    """A check could not be made, for the reason that the message gives."""


class Failed(Exception):
    """
    A service did not do what a check asks for.

    @ivar answer: what shows it; C{None} for the last answer that the check has got.
    """

    def __init__(self, message: str, answer: Answer | None = None) -> None:
        super().__init__(message)
        self.answer = answer


class Unusable(Exception):
    """Nothing can be checked: wrong options, or nothing answers at the URL."""


class Status(StrEnum):
    """What came of a check; C{BROKEN} is a fault of the kit itself."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What came of a check.

    @ivar message: what was found, or why it was skipped; empty if it passed.
    @ivar exchange: the request and the answer that show it; empty if there are none.
    @ivar seconds: how long it took.
    """

    check: Check
    status: Status
    message: str = ""
    exchange: str = ""
    seconds: float = 0.0

    @property
    def isBad(self) -> bool:
        """Whether it has to be told at length."""
        return self.status in (Status.FAILED, Status.BROKEN)
