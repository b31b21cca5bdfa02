"""
Who may do what, as a configuration file says it: the tables C{[auth…]}, and the keys C{users} and
C{groups} of services.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import InvalidAuthType, makeChecker

from twuws.authenticators.passwordfile import PasswordFile
from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.errors import UWSError
from twuws.loginconfig import readLogins
from twuws.tables import Kind, Table
from twuws.tokens import TokenRules
from twuws.web.access import Access, Admitted, Anonymous


def readAuth(table: Table, services: Mapping[str, Admitted]) -> Access:
    """
    The rules, from the table C{[auth]}; mistakes are noted.

    @param services: who may use which service; those that are not in it are for everybody.
    """
    authenticators: list[Any] = []
    passwords = table.table("passwords")
    cleartext = passwords.take("cleartext", Kind.TRUTH, False)
    if checkers := _checkers(passwords):
        authenticators.append(PasswordAuthenticator(checkers, cleartext))
    authenticators += readLogins(table)
    hasTokens = table.has("tokens")  # though the table be empty
    rules = _tokens(table.table("tokens"))
    tokens = rules if hasTokens else None
    canLogIn = bool(authenticators) or tokens is not None
    usual = Anonymous.CREATE if canLogIn else Anonymous.ALL
    anonymous = table.take("anonymous", Kind.TEXT, usual)
    if anonymous not in [*Anonymous]:
        known = ", ".join(Anonymous)
        table.wrong("anonymous", f"expected {known}, found {anonymous!r}")
        anonymous = usual
    if anonymous == Anonymous.NOTHING and not canLogIn:
        table.wrong("anonymous", "expected a way to log in, such as [auth.passwords]: nobody can")
    access = Access(
        authenticators=tuple(authenticators),
        anonymous=Anonymous(anonymous),
        admins=frozenset(table.take("admins", Kind.TEXTS, ())),
        adminGroups=frozenset(table.take("admin-groups", Kind.TEXTS, ())),
        hidesJobs=table.take("hide-jobs", Kind.TRUTH, False),
        groupsOf=_groups(table.table("groups")),
        services=services,
        tokens=tokens,
    )
    table.refuseRest()
    return access


def readAdmitted(table: Table) -> Admitted | None:
    """Who may use a service; C{None} if that is everybody."""
    users, groups = table.take("users", Kind.TEXTS, None), table.take("groups", Kind.TEXTS, None)
    if users is None and groups is None:
        return None
    return Admitted(users=frozenset(users or ()), groups=frozenset(groups or ()))


def _groups(table: Table) -> dict[str, frozenset[str]]:
    """The groups of each name, from the names of each group."""
    groups: dict[str, frozenset[str]] = {}
    for group in table.names():
        for name in table.take(group, Kind.TEXTS, ()):
            groups[name] = groups.get(name, frozenset()) | {group}
    return groups


def _tokens(table: Table) -> TokenRules:
    usual = TokenRules()
    rules = TokenRules(
        lifetime=table.take("lifetime", Kind.POSITIVE, usual.lifetime),
        loginLifetime=table.take("login-lifetime", Kind.POSITIVE, usual.loginLifetime),
        login=table.take("login", Kind.TRUTH, usual.login),
        cleartext=table.take("cleartext", Kind.TRUTH, usual.cleartext),
    )
    table.refuseRest()
    return rules


def _checkers(passwords: Table) -> list[ICredentialsChecker]:
    checkers: list[Any] = []
    if (file := passwords.take("file", Kind.TEXT, None)) is not None:
        try:
            checkers.append(PasswordFile(Path(file)))
        except UWSError as e:
            passwords.wrong("file", str(e))
    for described in passwords.take("checkers", Kind.TEXTS, ()):
        try:
            checker = makeChecker(described)
        except InvalidAuthType as e:
            passwords.wrong("checkers", f"{described!r} is no checker of Twisted's here: {e}")
            continue
        except Exception as e:
            passwords.wrong("checkers", f"{described!r} cannot be had: {e}")
            continue
        if IUsernamePassword not in checker.credentialInterfaces:
            passwords.wrong("checkers", f"{described!r} checks no names with passwords")
        checkers.append(checker)
    passwords.refuseRest()
    return checkers
