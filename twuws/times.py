"""
Instants and durations as UWS writes them, to and from Python.

Every instant is UTC with a C{T} and a C{Z} (UWS 1.1, 2.2.1); what is read may be
laxer, since clients are (decisions A-43 and A-57).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: The largest C{xs:int}, which C{executionDuration} has to fit.
LONGEST_DURATION = 2**31 - 1

_INSTANT = re.compile(
    r"(?P<year>\d{4})"
    r"(?:-(?P<month>\d\d)-(?P<day>\d\d)|(?P<month2>\d\d)(?P<day2>\d\d))?"
    r"(?:(?<=\d\d-\d\d)[T ](?P<hour>\d\d):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?Z?)?",
    re.ASCII,
)
_SECONDS = re.compile(r"\+?0*(\d{1,10})", re.ASCII)


def parseInstant(text: str) -> datetime:
    """
    Read an instant: a year, a date, or a date and time, in UTC.

    Accepts C{2015}, C{20151026}, C{2015-10-26}, and C{2015-10-26T09:00} with C{T} or a
    blank, with or without seconds, fraction and C{Z}.  Digits beyond microseconds are
    dropped.

    @raise ValueError: for all else, zone offsets included; the message says what is right.

    >>> parseInstant("2015-10-26 09:00").isoformat()
    '2015-10-26T09:00:00+00:00'
    >>> parseInstant("2015-10-26T09:00:00+01:00")
    Traceback (most recent call last):
    ValueError: '2015-10-26T09:00:00+01:00' is not an instant such as 2015-10-26T09:15:35.123Z (always UTC: no zone offset)
    """  # noqa: E501
    found = _INSTANT.fullmatch(text.strip())
    if found:
        part = {name: value or "" for name, value in found.groupdict().items()}
        try:
            return datetime(
                int(part["year"]),
                int(part["month"] or part["month2"] or 1),
                int(part["day"] or part["day2"] or 1),
                int(part["hour"] or 0),
                int(part["minute"] or 0),
                int(part["second"] or 0),
                int(part["fraction"][:6].ljust(6, "0")),
                tzinfo=UTC,
            )
        except ValueError as e:
            raise ValueError(f"{_shown(text)} is not an instant: {e}") from None
    raise ValueError(
        f"{_shown(text)} is not an instant such as 2015-10-26T09:15:35.123Z"
        " (always UTC: no zone offset)"
    )


def formatInstant(instant: datetime) -> str:
    """
    Write an instant the way UWS 1.1 wants it, in milliseconds.

    @param instant: with a zone.  Microseconds are cut off, not rounded.
    @raise ValueError: without a zone, for the machine's own would be taken for it.

    >>> formatInstant(datetime(2015, 10, 26, 9, 15, 35, 123999, tzinfo=UTC))
    '2015-10-26T09:15:35.123Z'
    """
    if instant.tzinfo is not UTC:
        if instant.tzinfo is None:
            raise ValueError(f"{instant} has no zone, and so is no instant")
        instant = instant.astimezone(UTC)
    return instant.isoformat(timespec="milliseconds")[:-6] + "Z"


def parseDuration(text: str) -> int:
    """
    Read an execution duration: whole seconds, 0 for unlimited (2.1.4).

    @raise ValueError: if it is no such number, negative, or more than C{xs:int} holds.

    >>> parseDuration("600")
    600
    """
    found = _SECONDS.fullmatch(text.strip())
    if found and int(found[1]) <= LONGEST_DURATION:
        return int(found[1])
    raise ValueError(
        f"{_shown(text)} is not a whole number of seconds from 0 to {LONGEST_DURATION}"
    )


def _shown(text: str) -> str:
    """What a client sent, as a message can quote it."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
