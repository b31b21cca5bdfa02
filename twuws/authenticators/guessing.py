"""
Limits for those who guess passwords.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twuws.errors import TooManyRequests
from twuws.proxies import networkOf

#: How many pairs of an address and a name are remembered.
REMEMBERED = 10_000


class Guesses:
    """
    Who was wrong of late: pairs of an address and a name, in the memory of this process.

    What is right does not make up for what was wrong: else who has a name for themselves, at the
    same address, would open the way to guess at it.

    @param most: how often each may be wrong in C{period}, s.
    @param waiting: how many of an address may be asking at the same time.
    @param now: the time, s.
    """

    def __init__(
        self,
        most: int = 10,
        period: float = 60.0,
        waiting: int = 50,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._period = period
        self._mostWaiting = waiting
        self._now = now
        self._wrong: dict[tuple[str, bytes], deque[float]] = {}
        self._waiting: Counter[str] = Counter()

    def check(self, address: str, name: bytes) -> None:
        """
        See that somebody at an address may say a name.

        @raise TooManyRequests: if they were wrong too often.
        """
        times = self._wrong.get((networkOf(address), name))
        if times is None or len(times) < self._most:
            return
        left = times[0] + self._period - self._now()
        if left > 0:
            raise TooManyRequests("The password of this name was wrong too often.", left)

    def wrong(self, address: str, name: bytes) -> None:
        """Note that somebody at an address has said a name, and was wrong."""
        pair = networkOf(address), name
        times = self._wrong.pop(pair, None) or deque(maxlen=self._most)
        times.append(self._now())
        self._wrong[pair] = times  # at the end: the first is oldest
        self._forget()

    def _forget(self) -> None:
        """Forget who was not wrong for long, and those first if there are too many."""
        longAgo = self._now() - self._period
        while self._wrong:
            pair, times = next(iter(self._wrong.items()))
            if times[-1] > longAgo and len(self._wrong) <= REMEMBERED:
                return
            del self._wrong[pair]

    @contextmanager
    def asking(self, address: str) -> Iterator[None]:
        """
        While somebody at an address asks.

        @raise TooManyRequests: if too many do.
        """
        place = networkOf(address)
        if self._waiting[place] >= self._mostWaiting:
            raise TooManyRequests("Too many from this address log in at the same time.", 1)
        self._waiting[place] += 1
        try:
            yield
        finally:
            self._waiting[place] -= 1
            if not self._waiting[place]:
                del self._waiting[place]
