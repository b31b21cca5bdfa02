"""
Whether the machine itself stands still.
"""

from __future__ import annotations

import threading

from tests.chaos.journal import clock

#: How often it is looked at, s.
EVERY = 0.1


class Pulse(threading.Thread):
    """
    Sees for how long nothing went on here: leases run out then, and nobody is to blame.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self._worst = 0.0

    def run(self) -> None:
        before = clock()
        while not self.stopping.wait(EVERY):
            now = clock()
            self._worst = max(self._worst, now - before - EVERY)
            before = now

    def stood(self) -> float:
        """For how long at most, since this was asked before, s."""
        worst, self._worst = self._worst, 0.0
        return worst
