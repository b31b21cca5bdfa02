"""
From a configuration to the objects it asks for: what C{twistd uws} and C{twuws} share.
"""

from __future__ import annotations

from typing import Any

from twuws.config import Config
from twuws.database import Database
from twuws.embedded import EmbeddedPostgres
from twuws.errors import UWSError
from twuws.phasewatcher import PhaseWatcher
from twuws.uws import UWS


def makeDataDir(config: Config) -> None:
    """Make the data directory, or say in an L{UWSError} why that is not to be."""
    directory = config.dataDir.absolute()
    try:
        (directory / "jobs").mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise UWSError(
            f"The data directory {directory} cannot be used ({e.strerror}):"
            " choose another one with --data-dir."
        ) from None


def embeddedPostgres(config: Config, reactor: Any) -> EmbeddedPostgres:
    """The PostgreSQL in the data directory, for a configuration that names no other."""
    return EmbeddedPostgres(config.dataDir.absolute() / "postgres", reactor=reactor)


def makeServices(config: Config, database: Database) -> list[UWS]:
    """The facades of all services."""
    watcher = PhaseWatcher(database)
    services = [
        UWS(
            one.jobClass,
            database=database,
            directory=config.dataDir / "jobs",
            name=one.name,
            watcher=watcher,
            policy=config.policy,
            jobListURL=config.web.publicURL and f"{config.web.publicURL}/{one.name}/async",
            cleanupInterval=config.cleanupInterval,
            limits=one.limits,
            environment=one.environment,
            fetchPolicy=config.fetch,
            priority=one.priority,
            accountLimits=config.limits.account,
        )
        for one in config.services
    ]
    for uws in services:
        uws.longestWait = config.longestWait
    return services
