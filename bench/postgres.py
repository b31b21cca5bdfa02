"""
A PostgreSQL with its default settings, C{fsync} included: C{python -m bench.postgres DIRECTORY}.

It prints its DSN, and ends when its stdin is closed.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.watching import stdinClosed
from twuws.embedded import EmbeddedPostgres


async def main(reactor: Any, directory: str) -> None:
    """Run until told to end."""
    server = EmbeddedPostgres(directory, durable=True, reactor=reactor)
    dsn = await server.start()
    closed = stdinClosed()
    sys.stdout.write(dsn + "\n")
    sys.stdout.flush()
    await closed
    await server.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
