"""
What has been done in an example, to be told if something is found wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn
from unittest.mock import MagicMock

from tests.chaos.journal import clock

#: How many lines are told.
LINES = 150


class Story:
    """
    The story of one example at a time.

    @ivar violation: what was found wrong, with all that led to it; there is no other example
        after that.
    @ivar done: how often each thing was done, in all examples.
    @ivar checks: how many steps of this one were found right.
    """

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.violation: str | None = None
        self.done: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        self.checks = 0
        self._lines: list[str] = []

    def say(self, what: str, more: str = "") -> None:
        """Tell what was done, and how it went."""
        self.done[what] += 1
        self._lines.append(f"{clock():.2f} {what} {more}")

    def wrong(self, text: str, more: Iterable[str] = ()) -> NoReturn:
        """Something is as it must not be; more is told after the story."""
        self.violation = "\n".join([text, self.heading, *self._lines[-LINES:], *more])
        self._raise()

    def _raise(self) -> NoReturn:
        raise AssertionError(self.violation)

    def again(self) -> Any:
        """
        What stands in for a L{tests.chaos.ground.Ground} once something was wrong: it does
        nothing, and fails at the same step.

        Hypothesis does all of a failing example once more, while processes need not do the
        same twice.
        """
        right = self.checks

        def check() -> None:
            nonlocal right
            right -= 1
            if right < 0:
                self._raise()

        def settle() -> None:
            if right >= 0:
                self._raise()

        return MagicMock(check=check, settle=settle)
