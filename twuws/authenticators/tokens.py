"""
Tokens that the service has made itself, by HTTP's Bearer scheme (RFC 6750), and logging in to
get one (SSO 7).
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from twuws.authenticators.confidential import checkConfidential
from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.errors import NotAuthenticated
from twuws.identity import SCOPES, Identity
from twuws.interfaces import IAuthenticator
from twuws.tokens import PREFIX, TokenRules, Tokens

log = Logger()

#: For how long a token that was good is not looked for again, s: a token that is revoked is
#: taken for so long.
MEMORY = 5.0
#: How many are remembered.
REMEMBERED = 1000
_PASSWORD = "ivo://ivoa.net/sso#tls-with-password"  # noqa: S105


@implementer(IAuthenticator)
class TokenAuthenticator:
    """
    Whoever has a token that is in the database.

    @param passwords: who knows those who may log in; C{None} if nobody may.
    """

    def __init__(
        self,
        tokens: Tokens,
        rules: TokenRules | None = None,
        passwords: PasswordAuthenticator | None = None,
    ) -> None:
        self._tokens = tokens
        self._rules = rules or TokenRules()
        self._passwords = passwords
        self._now = tokens.database.reactor.seconds
        self._known: dict[str, tuple[float, Identity]] = {}
        self.securityMethods = () if passwords is None else (_PASSWORD,)

    def challenges(self, baseURL: str) -> list[str]:
        bearer = 'Bearer realm="twuws"'
        if self._passwords is None:
            return [bearer]
        login = f'ivoa_bearer standard_id="{_PASSWORD}", access_url="{baseURL}/login"'
        return [bearer, login]

    async def authenticate(self, request: Any) -> Identity | None:
        scheme, _, value = (request.getHeader(b"authorization") or b"").partition(b" ")
        token = value.strip().decode("latin-1")
        if scheme.lower() != b"bearer" or not token.startswith(PREFIX):
            return None
        if not self._rules.cleartext:
            checkConfidential(request, "Tokens")
        until, known = self._known.get(token, (0.0, None))
        if known is not None and self._now() < until:
            return known
        self._known.pop(token, None)
        asked = self._now()
        if (found := await self._tokens.find(token)) is None:
            raise NotAuthenticated("This token is not known, or not good any more: get a new one.")
        owner, scopes, seconds = found
        who = Identity(name=owner, scopes=scopes, isAmbient=False, method="token")
        self._remember(token, asked + min(MEMORY, MEMORY if seconds is None else seconds), who)
        return who

    def _remember(self, token: str, until: float, who: Identity) -> None:
        self._known[token] = until, who
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    async def login(self, name: bytes, password: bytes, request: Any) -> tuple[str, Identity]:
        """
        A token for who has this name and password, and who it is.

        It is good for all that they may do, as the password is.

        @raise NotAuthenticated: and others: see L{PasswordAuthenticator.check}.
        """
        assert self._passwords is not None
        who = await self._passwords.check(name, password, request)
        assert who.name is not None
        madeBy = f"login from {request.cameFrom}"
        seconds = self._rules.loginLifetime
        token, _ = await self._tokens.make(who.name, SCOPES, seconds, "login", madeBy)
        return token, who
