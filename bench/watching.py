"""
For programs that end when whoever has started them closes their stdin, or is gone.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO


class _UntilClosed(Protocol):
    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)


def stdinClosed() -> Deferred[None]:
    """Fires when stdin has been closed; to be asked for once."""
    protocol = _UntilClosed()
    StandardIO(protocol)
    return protocol.closed
