"""
As whom a service's work is done, as the configuration says it.
"""

from __future__ import annotations

import os
from inspect import iscoroutinefunction
from typing import Any

from twuws.hostusers import HostUser
from twuws.tables import Kind, Table


def readDefault(table: Table) -> str | None:
    """The user of all services that do not name one."""
    name: str | None = table.take("work-user", Kind.TEXT, None)
    return name


def readUser(table: Table, default: str | None, jobClass: type[Any] | None) -> HostUser | None:
    """
    The user as whom a service's work is done; C{None} for as the service is.

    @param table: of the service; an empty C{user} there is for none, whatever the default.
    """
    name = table.take("user", Kind.TEXT, default)
    if not name:
        return None
    found = HostUser.find(name)
    if found is None:
        table.wrong("user", f"expected a user of this host, found {name!r}")
        return None
    if found.uid == 0:
        table.wrong("user", f"expected a user other than root, found {name!r}")
        return None
    if iscoroutinefunction(getattr(jobClass, "run", None)):
        table.wrong("user", f"expected none, found {name!r}: {jobClass.__name__}.run is async,"  # type: ignore[union-attr]
                    ' and so happens within the service; say user = ""')  # fmt: skip
        return None
    return found


def checkRoot(table: Table, users: set[str]) -> None:
    """See that who is to do the work of others can become them."""
    if users and os.geteuid() != 0:
        named = ", ".join(sorted(users))
        table.wrong("user", f"expected none, for only root can start work as {named}: start"
                    " twistd as root, and without --uid")  # fmt: skip


def checkDatabase(table: Table, users: set[str], own: str) -> None:
    """
    See that work is not done by the user who owns a database of the service's own.

    @param own: that user, as whom PostgreSQL runs if the service is root.
    """
    if own in users:
        table.wrong("user", f"expected another one than {own!r}, who owns the database here: use"
                    " one who owns nothing")  # fmt: skip
