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
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from twuws.authenticators.confidential import checkConfidential
from twuws.authenticators.guessing import Guesses
from twuws.authenticators.passwordfile import checkName
from twuws.database import shield
from twuws.errors import NotAuthenticated, Unavailable, UWSError
from twuws.identity import Identity
from twuws.interfaces import IAuthenticator

log = Logger()

_WRONG = "The name or the password is wrong."
#: How many checks are made at a time.  Each may take a CPU and one of the reactor's ten threads
#: for a quarter of a second, which others need as well.
AT_ONCE = 2


@implementer(IAuthenticator)
class PasswordAuthenticator:
    """
    Whoever one of some checkers knows.

    A checker that has a method C{recall} is asked by that first, and by all who ask at a time: it
    fires with what C{requestAvatarId} would if that costs little, and with C{None} otherwise.

    @param checkers: of C{IUsernamePassword}; the first that knows name and password counts.
    @param cleartext: whether they are also taken if others may have read them on their way.
    """

    securityMethods = ("ivo://ivoa.net/sso#BasicAA",)

    def __init__(
        self,
        checkers: Iterable[ICredentialsChecker],
        cleartext: bool = False,
        guesses: Guesses | None = None,
    ) -> None:
        self._checkers = list(checkers)
        self.cleartext = cleartext
        self._guesses = guesses or Guesses()
        self._turns = DeferredSemaphore(AT_ONCE)

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
        return await self.check(name, password, request)

    async def check(self, name: bytes, password: bytes, request: Any) -> Identity:
        """
        Who it is that has this name and password.

        @param request: in which they came.
        @raise NotAuthenticated: if nobody has.
        @raise Forbidden: if they came in a way that does not keep them secret.
        @raise TooManyRequests: if whoever says so was wrong too often.
        @raise Unavailable: if that cannot be found out.
        """
        if not self.cleartext:
            checkConfidential(request, "Passwords")
        address = request.cameFrom
        self._guesses.check(address, name)
        for checker in self._checkers:
            recall = getattr(checker, "recall", None)
            if recall and (found := await _asked(recall, name, password)) is not None:
                return found
        # Who hangs up is counted, too, and waited for.
        return await shield(Deferred.fromCoroutine(self._inTurn(address, name, password)))

    async def _inTurn(self, address: str, name: bytes, password: bytes) -> Identity:
        with self._guesses.asking(address):
            await self._turns.acquire()
            try:
                self._guesses.check(address, name)  # which may be another answer by now
                for checker in self._checkers:
                    found = await _asked(checker.requestAvatarId, name, password)
                    if found is not None:
                        return found
                self._guesses.wrong(address, name)
            finally:
                self._turns.release()
        log.warn(
            "{address} says to be {name!r}, with a wrong name or password",
            address=address, name=name.decode("utf-8", "replace"),
        )  # fmt: skip
        raise NotAuthenticated(_WRONG)


async def _asked(ask: Any, name: bytes, password: bytes) -> Identity | None:
    """
    Who a checker says that it is, C{None} if nobody.

    @raise Unavailable: if it cannot say.
    """
    try:
        found = await maybeDeferred(ask, UsernamePassword(name, password))
        if found is None:
            return None
        text = found.decode("utf-8") if isinstance(found, bytes) else str(found)
        return Identity(name=checkName(text), method="password")
    except (UnauthorizedLogin, ValueError):  # what cannot be a name of ours is nobody's
        return None
    except UWSError as e:
        log.error("passwords cannot be checked: {e}", e=e)
        raise Unavailable("Passwords cannot be checked now; tell the operator.") from e
