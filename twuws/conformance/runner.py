"""
Making checks, one after the other.
"""

from __future__ import annotations

import time
import traceback

from twuws.conformance.outcomes import Failed, Outcome, Skipped, Status
from twuws.conformance.registry import Check
from twuws.conformance.session import Session

Found = tuple[Status, str, str]


def perform(one: Check, uws: Session) -> Outcome:
    """Make a check, delete the jobs that it made, and say what came of it."""
    began = time.monotonic()
    try:
        status, message, exchange = _try(one, uws)
    finally:
        uws.tidy()
    return Outcome(
        check=one,
        status=status,
        message=hidden(message, uws.settings.secrets),
        exchange=hidden(exchange, uws.settings.secrets),
        seconds=time.monotonic() - began,
    )


def _try(one: Check, uws: Session) -> Found:
    if one.function is None:
        return Status.SKIPPED, one.reason, ""
    if one.load and not uws.settings.load:
        return Status.SKIPPED, "it loads the service; --load does it", ""
    if one.attack and not uws.settings.attack:
        return Status.SKIPPED, "it may hurt the service; --attack does it", ""
    try:
        one.function(uws)
    except Skipped as e:
        return Status.SKIPPED, str(e), ""
    except Failed as e:
        answer = e.answer or uws.client.last
        return Status.FAILED, str(e), f"{answer.asked}\n\n{answer}" if answer else ""
    except Exception:
        return Status.BROKEN, "This is a fault of the kit.", traceback.format_exc()
    return Status.PASSED, "", ""


def hidden(text: str, secrets: tuple[str, ...]) -> str:
    """
    A text in which no secret can be read.

    >>> hidden("Bearer abc", ("abc",))
    'Bearer (hidden)'
    """
    for secret in secrets:
        text = text.replace(secret, "(hidden)")
    return text
