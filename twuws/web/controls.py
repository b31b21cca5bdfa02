"""
What a request tells UWS itself: control parameters, WAIT and the filters of the job list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from twuws.errors import BadRequest
from twuws.jobstable import ListFilters
from twuws.phases import Phase
from twuws.times import LONGEST_DURATION, parseDuration, parseInstant
from twuws.uwschanging import LONGEST_KEY, UNSET, Unset, checkKey
from twuws.web.multipart import ByName, shown

T = TypeVar("T")

#: The header, and the parameter of that name.
IDEMPOTENCY_KEY = "Idempotency-Key"
_AS_IT_IS = ("RUNID", IDEMPOTENCY_KEY)
_WHOLE = re.compile(r"[+-]?\d{1,100}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """
    What a request tells UWS itself; C{None} for what it does not mention.

    @ivar idempotencyKey: names a wish that may be told more than once.
    @ivar destruction: C{None} asks for what the service gives by default (A-44);
        L{UNSET} says nothing.
    """

    phase: str | None = None
    action: str | None = None
    runId: str | None = None
    executionDuration: int | None = None
    idempotencyKey: str | None = None
    destruction: datetime | Unset | None = UNSET


#: Of who says nothing, and of those who only look.
NO_CONTROLS = Controls()


def takeControls(args: ByName[str], keys: Sequence[str] = ()) -> Controls:
    """
    Take the control parameters (UWS 1.1, 2.1.11) out of the arguments.

    PHASE and ACTION come in upper case, whatever they are.

    @param keys: the idempotency keys that the request's headers have.  One that is a parameter
        counts before them, for proxies may have set them without looking into the body.
    @raise BadRequest: for a value that is none, and for several different ones.
    """
    if keys:
        args.setdefault(IDEMPOTENCY_KEY, list(keys))
    found: dict[str, list[Any]] = {
        "phase": _taken(args, "PHASE", lambda v: _word(v, "RUN", "ABORT")),
        "action": _taken(args, "ACTION", lambda v: _word(v, "DELETE")),
        "runId": _taken(args, "RUNID", str),
        "executionDuration": _taken(args, "EXECUTIONDURATION", parseDuration),
        "idempotencyKey": _taken(args, IDEMPOTENCY_KEY, checkKey),
        "destruction": _taken(args, "DESTRUCTION", lambda v: parseInstant(v) if v else None),
    }
    args.pop("WAIT", None)  # there is nothing to wait for where something is changed (U-190)
    return Controls(**{name: several[0] for name, several in found.items() if several})


def _taken(args: ByName[str], name: str, parse: Callable[[str], T]) -> list[T]:
    """The one value of a control parameter, or none."""
    values = [_parsed(name, value, parse) for value in args.pop(name, [])]
    if any(value != values[0] for value in values):
        raise BadRequest(f"{name}: it is given {len(values)} times, with different values")
    return values[:1]


def _parsed(name: str, value: str, parse: Callable[[str], T]) -> T:
    if len(value) > LONGEST_KEY:
        raise BadRequest(f"{name}: {shown(value)} is too long")
    try:
        return parse(value if name in _AS_IT_IS else value.strip())
    except ValueError as e:
        raise BadRequest(f"{name}: {e}") from None


def _word(text: str, *words: str) -> str:
    if text.upper() not in words:
        raise ValueError(f"{shown(text)} is not {' or '.join(words)}")
    return text.upper()


@dataclass(frozen=True, kw_only=True)
class Wait:
    """
    A request to block (UWS 1.1, 2.2.1.2).

    @ivar seconds: -1 for as long as the service lets anybody wait.
    @ivar phases: only while the job is in one of these; C{None} for any.
    """

    seconds: int
    phases: frozenset[Phase] | None = None


def readWait(args: ByName[str]) -> Wait | None:
    """
    What WAIT, and PHASE beside it, say (A-92); C{None} if there is no WAIT.
    """
    if "WAIT" not in args:
        return None
    several = [_parsed("WAIT", value, _whole) for value in args["WAIT"]]
    if min(several) < -1:
        raise BadRequest("WAIT: it is a number of seconds, or -1 for as long as possible")
    phases = _phases(args)
    limited = [seconds for seconds in several if seconds >= 0]
    return Wait(seconds=min(limited, default=-1), phases=frozenset(phases) if phases else None)


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a whole number")
    return min(int(text), LONGEST_DURATION)


def _phases(args: ByName[str]) -> tuple[Phase, ...]:
    """The phases that are asked for, each once, in their order."""
    values = [value.strip().upper() for value in args.get("PHASE", [])]
    for value in values:
        if value not in Phase.__members__:
            raise BadRequest(f"PHASE: {shown(value)} is not one of {', '.join(Phase)}")
    return tuple(Phase(value) for value in dict.fromkeys(values))


def readListFilters(args: ByName[str]) -> ListFilters:
    """
    What PHASE, AFTER and LAST say (A-53 to A-57); the latest AFTER, the smallest LAST.
    """
    last = [_parsed("LAST", value, _whole) for value in args.get("LAST", [])]
    if min(last, default=1) < 1:
        raise BadRequest("LAST: it is a number of jobs, 1 or more")
    after = [_parsed("AFTER", value, parseInstant) for value in args.get("AFTER", [])]
    return ListFilters(
        phases=_phases(args),
        after=max(after, default=None),
        last=min(last, default=None),
        listedOnly=True,
    )
