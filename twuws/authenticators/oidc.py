"""
Tokens of an issuer of OpenID Connect, as HTTP's Bearer scheme sends them (RFC 6750).

A token is a JSON Web Token that its issuer has signed (RFC 7519, 9068): who has one is who it
says, and nobody is asked about it.  What RFC 8725 says to look at is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from zope.interface import implementer

from twuws.authenticators.confidential import checkConfidential
from twuws.authenticators.oidckeys import IssuerKeys
from twuws.errors import InsufficientScope, NotAuthenticated
from twuws.identity import SCOPES, Identity, checkedName
from twuws.interfaces import IAuthenticator

#: How long a token can be, bytes.
LONGEST = 16_000
#: What the tokens begin with that this service makes itself, and that are none of these.
OWN = b"twuws_"

#: What C{typ} can say: other tokens of the same issuer, for a logout say, are for nothing here.
_TYPES = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})
_WHY: list[tuple[type[Exception], str]] = [
    (jwt.ExpiredSignatureError, "has expired"),
    (jwt.ImmatureSignatureError, "is not valid yet"),
    (jwt.InvalidAudienceError, "is for another service"),
    (jwt.InvalidIssuerError, "is of another issuer"),
    (jwt.InvalidSignatureError, "is not signed by its issuer"),
]


@dataclass(frozen=True, kw_only=True)
class OIDCSettings:
    """
    Whose tokens are taken, and what is taken from them.

    @ivar issuer: who issues them, exactly as they say it.
    @ivar audience: what they can say that they are for; one of these is enough.
    @ivar algorithms: how they can be signed.
    @ivar leeway: by how much clocks can differ, s.
    @ivar nameClaim: what of them is the name of a user.
    @ivar groupsClaim: what of them is the groups of a user.
    @ivar requiredScope: what they must be good for, by the issuer's name of it.
    @ivar scopes: the issuer's name of each of L{SCOPES} that they can be good for; if there is
        none, they are good for all.
    @ivar cleartext: whether they are taken if others may have read them on their way, too.
    """

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 60
    nameClaim: str = "sub"
    groupsClaim: str | None = None
    requiredScope: str | None = None
    scopes: Mapping[str, str] = field(default_factory=dict)
    cleartext: bool = False


@implementer(IAuthenticator)
class OIDCAuthenticator:
    """
    Whoever has a token of an issuer's.
    """

    securityMethods = ("ivo://ivoa.net/sso#OAuth", "ivo://ivoa.net/sso#OpenID")

    def __init__(self, settings: OIDCSettings, keys: IssuerKeys) -> None:
        self.cleartext = settings.cleartext
        self._settings = settings
        self._keys = keys

    def challenges(self, baseURL: str) -> list[str]:
        where = f'standard_id="{self.securityMethods[0]}", access_url="{self._settings.issuer}"'
        return ['Bearer realm="twuws"', f"ivoa_bearer {where}"]

    async def authenticate(self, request: Any) -> Identity | None:
        scheme, _, value = (request.getHeader(b"authorization") or b"").partition(b" ")
        token = value.strip()
        if scheme.lower() != b"bearer" or token.startswith(OWN):
            return None
        if not self._settings.cleartext:
            checkConfidential(request, "Tokens")
        if len(token) > LONGEST:
            raise NotAuthenticated(f"The token is too long: {LONGEST} bytes are the most.")
        kid, algorithm = self._headerOf(token)
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise NotAuthenticated("The token is signed by a key that its issuer does not have.")
        claims = self._claimsOf(token, key, algorithm)
        return Identity(
            name=self._nameOf(claims),
            groups=self._groupsOf(claims),
            scopes=self._scopesOf(claims),
            isAmbient=False,
            method="oidc",
        )

    def _headerOf(self, token: bytes) -> tuple[str | None, str]:
        """
        What a token says of its key: a name or none, and an algorithm that is allowed.

        Where it says that a key is to be had is not looked at: anybody can have written that.
        """
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise NotAuthenticated("The token is none of OpenID Connect's.") from None
        algorithm, kid, kind = (header.get(name) for name in ("alg", "kid", "typ"))
        if algorithm not in self._settings.algorithms:
            known = ", ".join(self._settings.algorithms)
            raise NotAuthenticated(f"The token is signed in a way that is not one of {known}.")
        if "crit" in header:
            raise NotAuthenticated("The token demands what this service does not know (crit).")
        if kind is not None and str(kind).lower() not in _TYPES:
            raise NotAuthenticated("The token is not of a type to log in with.")
        return kid, algorithm

    def _claimsOf(self, token: bytes, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        """What a token says, once it is sure that this is true, is said to us, and still holds."""
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway,
                options={"require": ["exp", "sub"]},
            )
        except jwt.MissingRequiredClaimError as e:
            raise NotAuthenticated(f"The token does not say its {e.claim}.") from None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as e:
            why = next((why for kind, why in _WHY if isinstance(e, kind)), "is malformed")
            raise NotAuthenticated(f"The token {why}.") from None
        if "cnf" in claims:  # RFC 7800
            raise NotAuthenticated("The token is bound to a key, which this service cannot check.")
        return claims

    def _nameOf(self, claims: dict[str, Any]) -> str:
        claim = self._settings.nameClaim
        name = claims.get(claim)
        if not isinstance(name, str):
            raise NotAuthenticated(f"The token does not say {claim}, which names users here.")
        if claim == "email" and claims.get("email_verified") is not True:
            raise NotAuthenticated("The token's email is not verified, so it names nobody.")
        try:
            return checkedName(name)
        except ValueError as e:
            raise NotAuthenticated(f"The token's {claim}: {e}") from None

    def _groupsOf(self, claims: dict[str, Any]) -> frozenset[str]:
        if self._settings.groupsClaim is None:
            return frozenset()
        return _texts(claims, self._settings.groupsClaim)

    def _scopesOf(self, claims: dict[str, Any]) -> frozenset[str]:
        """What a token is good for here."""
        said = _texts(claims, "scope") | _texts(claims, "scp")
        given = {word for text in said for word in text.split()}
        required, named = self._settings.requiredScope, self._settings.scopes
        if required is not None and required not in given:
            raise InsufficientScope(
                f"The token is not good for this service: its scope has no {required}."
            )
        if not named:
            return SCOPES
        scopes = frozenset(one for one, name in named.items() if name in given)
        if not scopes:
            known = ", ".join(named.values())
            raise InsufficientScope(
                f"The token is not good for this service: its scope has no {known}."
            )
        return scopes | {"read"}


def _texts(claims: dict[str, Any], claim: str) -> frozenset[str]:
    """A claim that is a text or a list of texts; none if it is not there."""
    found = claims.get(claim, [])
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise NotAuthenticated(f"The token's {claim} is no text, and no list of texts.")
    return frozenset(texts)
