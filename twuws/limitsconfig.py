"""
What one user, one request and one connection can have: the table C{[limits]} of a configuration
file.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

from twuws.accounts import AccountLimits
from twuws.proxies import Proxies
from twuws.tables import Kind, Table
from twuws.web.channel import ConnectionLimits
from twuws.web.limits import RequestLimits

#: How many file descriptors are kept back for all that is not a client's, if there are so many.
KEPT_BACK = 256


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    All limits on what clients can have.

    @ivar account: for each owner, or address of who is anonymous.
    @ivar waits: how many requests of these wait at one process; C{None} for any number.
    @ivar spared: addresses that have any number of all that is limited for an address.
    @ivar request: for one request.
    @ivar connection: for one connection, and how many there can be.
    """

    account: AccountLimits = field(default_factory=AccountLimits)
    waits: int | None = None
    spared: Proxies = field(default_factory=Proxies)
    request: RequestLimits = field(default_factory=RequestLimits)
    connection: ConnectionLimits = field(default_factory=ConnectionLimits)


def readLimits(table: Table) -> Limits:
    """The limits, from the table C{[limits]}; mistakes are noted."""
    limits = Limits(
        account=AccountLimits(
            made=_most(table, "made", 600),
            kept=_most(table, "kept", 5000),
            queued=_most(table, "queued", 1000),
            stored=_bytes(table, "stored", 100 * 2**30),
        ),
        waits=_most(table, "waits", 100),
        spared=_spared(table),
        request=_request(table),
        connection=_connection(table),
    )
    table.refuseRest()
    return limits


def _most(table: Table, key: str, usual: int) -> int | None:
    """A number; 0 is any."""
    number: int = table.take(key, Kind.COUNT, usual)
    return number or None


def _bytes(table: Table, key: str, usual: int) -> int | None:
    """A size; 0 is any."""
    if table.isZero(key):
        return None
    size: int = table.take(key, Kind.SIZE, usual)
    return size


def _seconds(table: Table, key: str, usual: float | None) -> float | None:
    """A time; 0 is any."""
    if table.isZero(key):
        return None
    seconds: float = table.take(key, Kind.POSITIVE_NUMBER, usual)
    return seconds


def _spared(table: Table) -> Proxies:
    usual = ("127.0.0.0/8", "::1", "unix")
    try:
        return Proxies(table.take("spared", Kind.TEXTS, usual))
    except ValueError as e:
        table.wrong("spared", f"expected addresses, networks, or unix, found: {e}")
        return Proxies()


def _request(table: Table) -> RequestLimits:
    usual = RequestLimits()
    return RequestLimits(
        parameters=table.take("parameters", Kind.POSITIVE, usual.parameters),
        nameLength=table.take("name-length", Kind.POSITIVE, usual.nameLength),
        valueSize=table.take("value-size", Kind.SIZE, usual.valueSize),
        textSize=table.take("text-size", Kind.SIZE, usual.textSize),
    )


def _connection(table: Table) -> ConnectionLimits:
    usual = ConnectionLimits()
    return ConnectionLimits(
        headers=table.take("headers", Kind.POSITIVE, usual.headers),
        headerSize=table.take("header-size", Kind.SIZE, usual.headerSize),
        headerTime=_seconds(table, "header-time", usual.headerTime),
        bodyRate=_bytes(table, "body-rate", usual.bodyRate or 0),
        bodyGrace=table.take("body-grace", Kind.POSITIVE_NUMBER, usual.bodyGrace),
        idleTime=table.take("idle-time", Kind.POSITIVE_NUMBER, usual.idleTime),
        sendTime=_seconds(table, "send-time", usual.sendTime),
        unsent=_bytes(table, "unsent", usual.unsent or 0),
        perAddress=_most(table, "connections-per-address", 200),
        inAll=_most(table, "connections", connectionsPossible()),
    )


def connectionsPossible() -> int:
    """
    How many connections there can be so that there are file descriptors for the rest: each may
    have a file, too, and the database, work and the like need some.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # the process takes all that it may
    if hard == resource.RLIM_INFINITY:
        return 0
    return max(1, (hard - min(KEPT_BACK, hard // 4)) // 2)
