"""
From a configuration to the objects it asks for: what C{twistd uws} and C{twuws} share.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.authenticators.tokens import TokenAuthenticator
from twuws.config import Config
from twuws.database import Database
from twuws.embedded import EmbeddedPostgres
from twuws.errors import UWSError
from twuws.hostusers import HostUser
from twuws.phasewatcher import PhaseWatcher
from twuws.tokens import Tokens
from twuws.uws import UWS
from twuws.web.settings import WebSettings


def makeDataDir(config: Config) -> None:
    """Make the data directory, or say in an L{UWSError} why that is not to be."""
    directory = config.dataDir.absolute()
    users = {one.user for one in config.services if one.user is not None}
    try:
        if users and not directory.exists():
            directory.mkdir(parents=True)
            directory.chmod(0o711)
        (directory / "jobs").mkdir(mode=0o700, parents=True, exist_ok=True)
        if users:
            (directory / "jobs").chmod(0o711)
    except OSError as e:
        raise UWSError(
            f"The data directory {directory} cannot be used ({e.strerror}):"
            " choose another one with --data-dir."
        ) from None
    for user in users:
        _checkUser(user, directory)


def _checkUser(user: HostUser, dataDir: Path) -> None:
    """See that work can be started as another user, and be where it has to be."""
    if os.geteuid() != 0:
        raise UWSError(f"Only root can start work as {user.name!r}: start twistd without --uid.")
    for what, path in (
        ("the job directories", dataDir / "jobs"),
        ("Python", Path(sys.executable)),
        ("the package twuws", Path(__file__).parent),
    ):
        if obstacle := user.obstacle(path):
            raise UWSError(
                f"{user.name!r} cannot do the work of jobs, for this user does not come to {what},"
                f" {path}: that may not be in, or not pass, {obstacle}."
            )


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
            policy=one.policy,
            jobListURL=config.web.publicURL and f"{config.web.publicURL}/{one.name}/async",
            cleanupInterval=config.cleanupInterval,
            limits=one.limits,
            environment=one.environment,
            fetchPolicy=config.fetch,
            priority=one.priority,
            accountLimits=config.limits.account,
            user=one.user,
        )
        for one in config.services
    ]
    for uws in services:
        uws.longestWait = config.longestWait
        uws.mostValues = config.limits.request.parameters
        uws.mostText = config.limits.request.textSize
    return services
