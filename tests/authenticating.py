"""
Services whose users have names and passwords, and clients that say who they are.
"""

from __future__ import annotations

import base64
from dataclasses import replace

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse

from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.authenticators.tokens import TokenAuthenticator
from twuws.tokens import Tokens
from twuws.web.access import Access, Anonymous
from twuws.web.settings import WebSettings

#: Each has a password that is the name, reversed.
USERS = ("alice", "bob", "root")


def basic(name, password=None):
    """The headers of somebody who says a name."""
    pair = f"{name}:{name[::-1] if password is None else password}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def accessFor(cleartext=False, **more):
    """
    Rules for L{USERS}, of whom C{root} is an administrator.

    @param cleartext: see L{PasswordAuthenticator}.
    """
    known = {name.encode(): name[::-1].encode() for name in USERS}
    checker = InMemoryUsernamePasswordDatabaseDontUse(**{k.decode(): v for k, v in known.items()})
    usual = {"anonymous": Anonymous.CREATE, "admins": frozenset({"root"})}
    return Access(authenticators=(PasswordAuthenticator([checker], cleartext),), **(usual | more))


def settingsFor(**more):
    return WebSettings(access=accessFor(**more))


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def withTokens(database, rules=None, **more):
    """The same rules, for who logs in, too."""
    access = accessFor(**more)
    (passwords,) = access.authenticators
    tokens = TokenAuthenticator(Tokens(database), rules, passwords)
    return replace(access, authenticators=(passwords, tokens), login=tokens.login)
