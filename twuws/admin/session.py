"""
What the subcommands of C{twuws} work on: the services, and the jobs that people mean.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from twuws import schema
from twuws.admin.output import Report
from twuws.composition import makeServices
from twuws.config import Config
from twuws.database import Database
from twuws.dispatcher import Dispatcher
from twuws.errors import JobNotFound, UWSError
from twuws.jobs import UWSJob
from twuws.jobstable import JobsTable
from twuws.names import isSafeName
from twuws.node import Node
from twuws.uws import UWS

#: How much of an id has to be given.
SHORTEST_PREFIX = 6


def _userName() -> str:
    """The name of who this process belongs to; its number if that has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(kw_only=True)
class Session:
    """
    What a command has at hand.

    @ivar services: the facades by name; those that the configuration does not name are made
        when they are needed.
    """

    config: Config
    database: Database
    report: Report
    services: dict[str, UWS] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = JobsTable(self.database)
        self.services.update((uws.name, uws) for uws in makeServices(self.config, self.database))
        self.configured = frozenset(self.services)

    async def checkSchema(self) -> None:
        """
        Raise L{UWSError} unless the schema is there, in the right version.

        A command that only looks makes none, for the database may be the wrong one.
        """
        if not (await self.table.run("schemaThere"))[0]["there"]:
            raise UWSError(
                f"The database has no schema {self.database.schema!r}, so no service has used it"
                " yet: check --database and --data-dir, or make the schema with `twuws upgrade`."
            )
        await schema.prepare(self.database)

    @property
    def who(self) -> str:
        """Who gives the command, for the record."""
        return f"admin {_userName()}@{socket.gethostname()}"

    def uws(self, name: str) -> UWS:
        """The facade of a service, whether the configuration names it or not."""
        if name not in self.services:
            self.services[name] = UWS(
                UWSJob,
                database=self.database,
                directory=self.config.dataDir / "jobs",
                name=name,
                policy=self.config.policy,
            )
        return self.services[name]

    async def chosen(self, names: Iterable[str] | None) -> list[UWS]:
        """
        The services of these names, or all that there are.

        @raise UWSError: for a name that is neither configured nor in the database.
        """
        for row in await self.table.run("servicesKnown"):
            self.uws(row["service"])
        known = sorted(self.services)
        for name in names or ():
            if name not in known:
                raise UWSError(f"There is no service {name!r}; there are {', '.join(known)}.")
        return [self.services[name] for name in dict.fromkeys(names or known)]

    async def find(self, given: str, statement: str = "jobsByPrefix") -> tuple[UWS, str]:
        """
        The job that an id, or the beginning of one, names.

        @param statement: which jobs there are.
        @raise UWSError: if there is none, or more than one.
        """
        if not isSafeName(given):
            raise JobNotFound(given)
        if len(given) < SHORTEST_PREFIX:
            raise UWSError(f"{given}: give at least {SHORTEST_PREFIX} characters of the job's id.")
        rows = await self.table.run(statement, {"prefix": given, "limit": 11})
        rows = [row for row in rows if row["job_id"] == given] or rows
        if not rows:
            raise JobNotFound(given)
        if len(rows) > 1:
            like = [f"{row['job_id']} ({row['service']}, {row['phase']})" for row in rows[:10]]
            more = ", and more" if len(rows) > 10 else ""
            raise UWSError(f"{given} is ambiguous; it may be {', '.join(like)}{more}.")
        return self.uws(rows[0]["service"]), rows[0]["job_id"]

    def checkDirectories(self) -> None:
        """
        Raise L{UWSError} if the jobs' directories are elsewhere: to destroy jobs would leave
        them behind.
        """
        directory = self.config.dataDir.absolute() / "jobs"
        if not directory.is_dir():
            raise UWSError(
                f"There are no job directories in {directory.parent}: give the data directory of"
                " the service with --data-dir."
            )

    async def endLeftWork(self) -> None:
        """
        End the work that is to be ended on this host by nodes that are gone: nobody else
        would do it until a service runs here again.
        """
        await self.chosen(None)
        node = Node(self.table, list(self.services), slots=0)
        await node.lookForGoneNodes()
        dispatcher = Dispatcher(self.services.values(), node)
        await dispatcher.runOnce()
        await dispatcher.stopService()  # waits for what it has begun
        for uws in self.services.values():
            await uws.directoriesRemoved()
