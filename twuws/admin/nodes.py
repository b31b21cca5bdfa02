"""
What the subcommands of C{twuws} do that are about nodes: the processes that run jobs.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from twisted.internet.task import deferLater

from twuws.admin.output import Columns
from twuws.admin.session import Session
from twuws.database import Row
from twuws.errors import UWSError
from twuws.times import formatInstant

#: How often to look whether a node has left, s.
INTERVAL = 0.5

#: In what states a node can hear that it is to leave.
_THERE = ("up", "draining", "silent")


async def listNodes(session: Session, options: Namespace) -> None:
    """C{twuws nodes}: the processes that share this database."""
    rows = await session.table.run("nodes")
    if session.report.asJSON:
        session.report.give([_forPrograms(row) for row in rows])
        return
    table = Columns(
        session.report,
        *("node", "host", "state", "web", "running", "slots", "version", "heard of", "services"),
    )
    table.add(_forPeople(row) for row in rows)


def _forPrograms(row: Row) -> dict[str, Any]:
    return {
        "node": row["node"],
        "host": row["host"],
        "state": row["state"],
        "draining": row["draining"],
        "web": row["serves_web"],
        "running": row["running"],
        "slots": row["slots"],
        "version": row["version"],
        "heartbeat": formatInstant(row["heartbeat"]),
        "services": row["services"],
    }


def _forPeople(row: Row) -> tuple[object, ...]:
    state = f"draining ({row['draining']})" if row["state"] == "draining" else row["state"]
    web = "yes" if row["serves_web"] else "no"
    heard, services = f"{_duration(row['age'])} ago", ", ".join(row["services"])
    does = row["running"], row["slots"], row["version"]
    return row["node"], row["host"], state, web, *does, heard, services


def _duration(seconds: float) -> str:
    """
    For people.

    >>> _duration(7.9), _duration(180), _duration(7200), _duration(172800)
    ('7 s', '3 min', '2 h', '48 h')
    """
    if seconds < 120:
        return f"{max(0, int(seconds))} s"
    return f"{int(seconds // 60)} min" if seconds < 7200 else f"{int(seconds // 3600)} h"


async def drainNodes(session: Session, options: Namespace) -> None:
    """C{twuws drain}: ask nodes to take nothing new and to leave, and wait for that if asked."""
    how = options.on_stop or session.config.node.onStop
    asked: dict[str, bool | None] = {}
    failed: list[dict[str, str]] = []

    def fail(node: str, message: str) -> None:
        failed.append({"node": node, "message": message})
        session.report.failure(message)

    for given in dict.fromkeys(options.nodes):
        try:
            node = _find(await session.table.run("nodes"), given)
            if not await session.table.run("drain", {"node": node, "how": how}):
                raise _hasLeft(node)
        except _Refused as e:
            fail(given, str(e))
        else:
            asked[node] = None
            if not session.report.asJSON:
                session.report.say(f"{node} was asked to leave ({how})")
    if options.wait is not None:
        for node, trouble in (await _untilLeft(session, list(asked), options.wait)).items():
            asked[node] = trouble is None
            if trouble is not None:
                fail(node, trouble)
            elif not session.report.asJSON:
                session.report.say(f"{node} has left")
    if session.report.asJSON:
        done = [{"node": node, "onStop": how, "left": left} for node, left in asked.items()]
        session.report.give({"asked": done, "failed": failed})


class _Refused(UWSError):
    """A node cannot be asked to leave."""


def _hasLeft(node: str) -> _Refused:
    return _Refused(f"{node} has left already.")


def _find(rows: list[Row], given: str) -> str:
    """
    The node that a name, or the beginning of one, names.

    Where that may be several it is the one that is there.
    """
    like = [row for row in rows if row["node"].startswith(given)] if given else []
    like = [row for row in like if row["node"] == given] or like
    if not like:
        raise _Refused(f"There is no node {given!r}; `twuws nodes` lists them.")
    there = [row for row in like if row["state"] in _THERE]
    if len(there or like) > 1:
        names = ", ".join(f"{row['node']} ({row['state']})" for row in (there or like))
        raise _Refused(f"{given} is ambiguous; it may be {names}.")
    if there:
        return str(there[0]["node"])
    if like[0]["state"] == "lost":
        raise _Refused(_wasLost(like[0]))
    raise _hasLeft(like[0]["node"])


def _wasLost(row: Row) -> str:
    return (
        f"{row['node']} was not heard of for {_duration(row['age'])}, which is longer than its"
        " lease: its process has ended otherwise, or hears nothing."
    )


async def _untilLeft(session: Session, nodes: list[str], seconds: float) -> dict[str, str | None]:
    """
    Wait until nodes have left; by node, what was in the way of that, or C{None}.

    The row of a node that has left stays for a while, but need not.
    """
    reactor = session.database.reactor
    giveUpAt = reactor.seconds() + seconds
    ended: dict[str, str | None] = {}
    while True:
        rows = {row["node"]: row for row in await session.table.run("nodes")}
        for node in nodes:
            row = rows.get(node)
            if row is None or row["state"] == "left":
                ended[node] = None
            elif row["state"] == "lost":
                ended[node] = _wasLost(row)
        left = [node for node in nodes if node not in ended]
        if left and reactor.seconds() >= giveUpAt:
            ended.update((node, f"{node} has not left within {seconds:g} s.") for node in left)
        if len(ended) == len(nodes):
            return {node: ended[node] for node in nodes}
        await deferLater(reactor, INTERVAL)
