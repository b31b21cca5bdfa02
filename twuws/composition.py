"""
From a configuration to the objects it asks for: what C{twistd uws} and C{twuws} share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.authenticators.tokens import TokenAuthenticator
from twuws.config import Config
from twuws.database import Database
from twuws.embedded import EmbeddedPostgres
from twuws.errors import UWSError
from twuws.phasewatcher import PhaseWatcher
from twuws.tokens import Tokens
from twuws.uws import UWS
from twuws.web.settings import WebSettings


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


def webSettings(config: Config, database: Database) -> WebSettings:
    """How the services behave over HTTP, with what finds out in the database who asks."""
    access = config.web.access
    if access.tokens is None:
        return config.web
    rules, passwords = access.tokens, None
    for one in access.authenticators:
        if isinstance(one, PasswordAuthenticator) and rules.login:
            passwords = one
    own = TokenAuthenticator(Tokens(database), rules, passwords)
    access = replace(
        access,
        authenticators=(*access.authenticators, own),
        login=own.login if passwords is not None else None,
    )
    return replace(config.web, access=access)


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
