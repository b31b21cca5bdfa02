"""
The part of C{twuws cleanup} that is about what has no job.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twuws.admin.output import printable
from twuws.admin.session import Session
from twuws.sweeping import leftovers


async def sweep(session: Session, dryRun: bool) -> list[Path]:
    """
    Remove the directories that no job has, and old uploads; the paths.

    Where the database knows none of the directories, none is removed, and that is a failure.
    """
    found: list[Path] = []
    for left in await leftovers(await session.chosen(None)):
        if left.isForeign:
            session.report.failure(
                f"{left.root}: the database knows none of its directories, so it is probably"
                " another service's, and they are left alone; check --database and --data-dir."
            )
        found += [*left.directories, *left.uploads]
        if not dryRun:
            await left.remove()
    return sorted(found)


def sayLeft(session: Session, left: Sequence[Path], dryRun: bool) -> None:
    """Tell people what was removed, if anything was."""
    for path in left:
        session.report.say(printable(str(path)))
    if left:
        count = "1 directory or upload" if len(left) == 1 else f"{len(left)} directories or uploads"
        session.report.say(f"{count} without a job {'would be removed' if dryRun else 'removed'}")
