"""
C{twuws history}: what has become of a job, and who did that.
"""

from __future__ import annotations

from argparse import Namespace

from twuws.admin.output import Columns
from twuws.admin.session import Session
from twuws.errors import DatabaseUnavailable, UWSError
from twuws.times import formatInstant


async def showHistory(session: Session, options: Namespace) -> None:
    """C{twuws history}: every change of a job's phase, also of one that was destroyed."""
    try:
        uws, jobId = await session.find(options.job, "jobsEverByPrefix")
        events = await uws.history(jobId)
    except DatabaseUnavailable:
        raise
    except UWSError as e:
        session.report.failure(str(e))
        return
    if session.report.asJSON:
        told = [
            {
                "at": formatInstant(event.at),
                "phase": event.phase and str(event.phase),
                "attempt": event.attempt,
                "node": event.node,
                "who": event.who,
                "why": event.why,
            }
            for event in events
        ]
        session.report.give({"service": uws.name, "jobId": jobId, "events": told})
        return
    table = Columns(session.report, "when", "phase", "attempt", "node", "who", "why")
    table.add(
        (one.at, one.phase or "destroyed", one.attempt, one.node, one.who, one.why)
        for one in events
    )
