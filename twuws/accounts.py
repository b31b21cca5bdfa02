"""
What one account can have: an owner, or where those come from who are anonymous.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from twuws.errors import Forbidden, TooLarge, TooMany, UWSError

#: When to try again what goes on as soon as a job of the account begins to run, s.
_PAUSE = 30


@dataclass(frozen=True, kw_only=True)
class AccountLimits:
    """
    What an account can have, at all services and on all nodes together; C{None} for any number.

    @ivar made: how many jobs it can make in any 60 s, those included that are destroyed by then.
    @ivar kept: how many jobs there can be that are not ARCHIVED.
    @ivar queued: how many of these QUEUED.
    @ivar stored: how many bytes the uploads and results of these can have, together; results
        are stored all the same, but then there is room for nothing else.
    """

    made: int | None = None
    kept: int | None = None
    queued: int | None = None
    stored: int | None = None

    def toMake(self) -> Mapping[str, int]:
        """The limits that there are on making jobs."""
        all = {"made": self.made, "kept": self.kept, "stored": self.stored}
        return {name: most for name, most in all.items() if most is not None}


NO_LIMITS = AccountLimits()


def refused(refusal: Mapping[str, Any]) -> UWSError:
    """
    The error for what a statement has found to be beyond a limit.

    @param refusal: C{limit}, C{most} and C{found}; C{pause}, in s, for one that is over by then,
        C{size}, in bytes, for what is stored.
    """
    limit, most, found = refusal["limit"], refusal["most"], refusal["found"]
    if limit == "made":
        pause = max(1, ceil(refusal["pause"] or 0))
        return TooMany(
            f"You have made {found} jobs in the last minute, and {most} are the most"
            f" (limits.made): go on in {pause} s.",
            pause,
        )
    if limit == "kept":
        return Forbidden(
            f"You have {found} jobs here, and {most} are the most (limits.kept): destroy those"
            " that you do not need any more."
        )
    if limit == "queued":
        return TooMany(
            f"You have {found} jobs in the queue, and {most} are the most (limits.queued): wait"
            " until some of them have begun.",
            _PAUSE,
        )
    if refusal["size"] > most:
        return TooLarge(
            f"The files have {refusal['size']} bytes, and all that you store can have {most}"
            " (limits.stored)."
        )
    return Forbidden(
        f"Your jobs store {found} bytes, and {most} are the most (limits.stored): there is no room"
        f" for {refusal['size']} more.  Destroy jobs that you do not need any more."
    )
