"""
Names and passwords by HTTP's Basic scheme (RFC 7617), checked by checkers of Twisted's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from twuws.authenticators.passwordfile import checkName
from twuws.errors import NotAuthenticated, Unavailable, UWSError
from twuws.identity import Identity
from twuws.interfaces import IAuthenticator

log = Logger()

_WRONG = "The name or the password is wrong."


@implementer(IAuthenticator)
class PasswordAuthenticator:
    """
    Whoever one of some checkers knows.

    @param checkers: of C{IUsernamePassword}; the first that knows name and password counts.
    """

    securityMethods = ("ivo://ivoa.net/sso#BasicAA",)

    def __init__(self, checkers: Iterable[ICredentialsChecker]) -> None:
        self._checkers = list(checkers)

    def challenges(self, baseURL: str) -> list[str]:
        return ['Basic realm="twuws", charset="UTF-8"']

    async def authenticate(self, request: Any) -> Identity | None:
        scheme, _, value = (request.getHeader(b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"basic":
            return None
        try:
            name, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        except binascii.Error:
            raise NotAuthenticated("Authorization: this is not what Basic is like.") from None
        if not colon:
            raise NotAuthenticated("Authorization: this is not what Basic is like.")
        return await self.check(name, password)

    async def check(self, name: bytes, password: bytes) -> Identity:
        """
        Who it is that has this name and password.

        @raise NotAuthenticated: if nobody has.
        @raise Unavailable: if that cannot be found out.
        """
        for checker in self._checkers:
            credentials = UsernamePassword(name, password)
            try:
                found = await maybeDeferred(checker.requestAvatarId, credentials)
                text = found.decode("utf-8") if isinstance(found, bytes) else str(found)
                return Identity(name=checkName(text), method="password")
            except UnauthorizedLogin:
                continue
            except ValueError:  # what cannot be a name of ours is nobody's
                continue
            except UWSError as e:
                log.error("passwords cannot be checked: {e}", e=e)
                raise Unavailable("Passwords cannot be checked now; tell the operator.") from e
        raise NotAuthenticated(_WRONG)
