"""
What one request can have, and how many can wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twuws.errors import TooLarge, TooMany

#: The largest body where nothing is made and nothing stored, bytes.
LITTLE_BODY = 10_000


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """
    What one request can have.

    @ivar parameters: how many values, in its query and body together, files included.
    @ivar nameLength: how long the name of one may be, in characters.
    @ivar valueSize: how long a value that is text, in bytes.
    @ivar textSize: how long all text of a body together, in bytes.
    """

    parameters: int = 10_000
    nameLength: int = 1000
    valueSize: int = 2 * 2**20
    textSize: int = 16 * 2**20


USUAL = RequestLimits()


def tooMany(limits: RequestLimits) -> TooLarge:
    """The error for a request with too many values."""
    return TooLarge(f"A request can have {limits.parameters} values (limits.parameters).")


def tooMuchText(name: str, size: int, limits: RequestLimits) -> TooLarge:
    """The error for a value that is too long."""
    most = f"{limits.valueSize} (limits.value-size)"
    return TooLarge(f"Parameter {name}: {size} bytes; as text it can have {most}")


class Waits:
    """
    Those who wait for jobs: each holds a connection of this process.

    @param most: how many there may be for one account; C{None} for any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._number: Counter[str] = Counter()

    @contextmanager
    def held(self, account: str | None) -> Iterator[None]:
        """
        One more, for as long as the block lasts.

        @param account: who waits; C{None} for those who are not counted.
        @raise TooMany: if there are enough of the account's.
        """
        if self.most is None or account is None:
            yield
            return
        if self._number[account] >= self.most:
            raise TooMany(
                f"You wait for jobs by {self.most} requests at a time, and more are not to be had"
                " (limits.waits): ask without WAIT, or later.",
                5,
            )
        self._number[account] += 1
        try:
            yield
        finally:
            self._number[account] -= 1
            if not self._number[account]:
                del self._number[account]
