"""
What C{twuws limits} does.
"""

from __future__ import annotations

from argparse import Namespace
from ipaddress import ip_address
from typing import Any

from twuws.admin.output import Columns
from twuws.admin.session import Session
from twuws.endings import sizeInWords
from twuws.errors import UWSError
from twuws.proxies import networkOf


async def showLimits(session: Session, options: Namespace) -> None:
    """C{twuws limits}: where an account stands, at all services and on all nodes."""
    owner, address = options.owner, options.address
    if (owner is None) == (address is None):
        raise UWSError("Give either an OWNER or an --address.")
    place = None if address is None else _placeOf(address)
    account = {"owner": owner, "client": place}
    rows = await session.table.run("accountUsage", account)
    made = (await session.table.run("accountMade", account))[0]["made"]
    limits = session.config.limits
    isSpared = place is not None and limits.spared.trusts(None if place == "unix" else address)
    most: dict[str, int | None] = {
        "made": limits.account.made,
        "kept": limits.account.kept,
        "queued": limits.account.queued,
        "stored": limits.account.stored,
    }
    most["running-per-owner"] = session.config.node.limits.perOwner
    if isSpared:
        most = dict.fromkeys(most)
    columns = {"running-per-owner": "running"}
    found: list[dict[str, Any]] = []
    for name, number in most.items():
        column = columns.get(name, name)
        services = {row["service"]: row[column] for row in rows} if name != "made" else {}
        now = made if name == "made" else sum(services.values())
        found.append({"limit": name, "now": now, "most": number, "services": services})
    if session.report.asJSON:
        session.report.give({"owner": owner, "address": place, "limits": found})
        return
    table = Columns(session.report, "limit", "now", "most", "services")
    table.add(_forPeople(one) for one in found)


def _placeOf(address: str) -> str:
    """
    What an address counts for.

    @raise UWSError: if it is none.
    """
    if address != "unix":
        try:
            ip_address(address)
        except ValueError:
            raise UWSError(f"{address!r} is no address, nor unix.") from None
    return networkOf(address)


def _forPeople(one: dict[str, Any]) -> tuple[object, ...]:
    words: Any = sizeInWords if one["limit"] == "stored" else str
    services = ", ".join(f"{name} {words(number)}" for name, number in one["services"].items())
    most = "any" if one["most"] is None else words(one["most"])
    return one["limit"], words(one["now"]), most, services
