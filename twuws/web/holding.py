"""
Jobs that administrators keep from running.
"""

from __future__ import annotations

from typing import Any

from twuws.errors import BadRequest
from twuws.web.identifying import askerOf
from twuws.web.uwsactions import Asked, JobAction

#: How long a reason can be, in characters.
LONGEST_REASON = 1000


class HoldAction(JobAction):
    """POST keeps the job from running, C{WHY} says why; DELETE lets it run again."""

    name = "hold"
    isForAdministrators = True

    async def doPOST(self, asked: Asked) -> Any:
        await asked.uws.hold(asked.jobId, askerOf(asked.request), _reason(asked.request))
        return asked.toJob()

    async def doDELETE(self, asked: Asked) -> Any:
        await asked.uws.release(asked.jobId, askerOf(asked.request))
        return asked.toJob()


def _reason(request: Any) -> str | None:
    values = request.args.pop("WHY", [])
    others = [*request.args, *request.files]
    if others:
        raise BadRequest(f"{others[0]}: a job is held with WHY, or with nothing")
    if len(values) > 1 or any(len(one) > LONGEST_REASON for one in values):
        raise BadRequest(f"WHY: it is not one text of at most {LONGEST_REASON} characters")
    return values[0].strip() or None if values else None
