"""
How long jobs may run and live, as a configuration file says it: for all services, for one, and for
who is anonymous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twuws.policy import Policy
from twuws.tables import Kind, Table
from twuws.times import LONGEST_DURATION

#: The times of a policy, by their keys.
_TIMES = {
    "default-duration": ("executionDuration", Kind.COUNT),
    "longest-duration": ("longestExecutionDuration", Kind.COUNT),
    "default-lifetime": ("lifetime", Kind.POSITIVE),
    "longest-lifetime": ("longestLifetime", Kind.POSITIVE),
}


def readPolicy(
    values: Mapping[str, Any], table: Table, source: Callable[[str], Table]
) -> tuple[Policy, Mapping[str, int]]:
    """
    What holds for all services, and what the table C{[anonymous]} says, for L{readOwnPolicy}.

    @param values: those that can be given on the command line.
    @param source: where the value of a key is from.
    """
    given = {key: values[key] for key in _TIMES}
    given |= {key: table.take(key, Kind.COUNT, 0) for key in ("archive", "keep-history")}
    for key, value in given.items():
        _check(source(key), key, value)
    policy = Policy(
        **{name: given[key] for key, (name, _) in _TIMES.items()},
        archive=given["archive"],
        keepHistory=given["keep-history"],
    )
    anonymous = _read(table.table("anonymous"))
    return _with(policy, {}, anonymous), anonymous


def readOwnPolicy(table: Table, policy: Policy, anonymous: Mapping[str, int]) -> Policy:
    """
    What holds at one service.

    @param table: of that service, whose keys are taken out.
    @param policy: what holds for all.
    @param anonymous: what holds for who is anonymous, at all services that do not say otherwise.
    """
    own = {key: table.take(key, kind, None) for key, (_, kind) in _TIMES.items()}
    said = {key: value for key, value in own.items() if value is not None}
    for key, value in said.items():
        _check(table, key, value)
    return _with(policy, said, {**anonymous, **_read(table.table("anonymous"))})


def _read(table: Table) -> dict[str, int]:
    """The times that a table says, and nothing else can."""
    found = {key: table.take(key, kind, None) for key, (_, kind) in _TIMES.items()}
    said = {key: value for key, value in found.items() if value is not None}
    for key, value in said.items():
        _check(table, key, value)
    table.refuseRest()
    return said


def _check(table: Table, key: str, value: int) -> None:
    if value > LONGEST_DURATION:
        table.wrong(key, f"expected at most {LONGEST_DURATION}, found {value}")


def _with(policy: Policy, own: Mapping[str, int], anonymous: Mapping[str, int]) -> Policy:
    """A policy with other times, and others again for who is anonymous, which are no longer."""
    known = _changed(replace(policy, anonymous=None), own)
    if not anonymous:
        return known
    theirs, longest = _changed(known, anonymous), known.longestExecutionDuration
    capped = {
        "longest-duration": min(theirs.longestExecutionDuration or longest, longest),
        "longest-lifetime": min(theirs.longestLifetime, known.longestLifetime),
    }
    if not longest:  # there is no limit
        del capped["longest-duration"]
    return replace(known, anonymous=_changed(theirs, capped))


def _changed(policy: Policy, times: Mapping[str, int]) -> Policy:
    names: dict[str, Any] = {_TIMES[key][0]: value for key, value in times.items()}
    changed = replace(policy, **names)
    return replace(changed, lifetime=min(changed.lifetime, changed.longestLifetime))
