"""
The keys by which an issuer of OpenID Connect signs its tokens.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twuws.database import shield
from twuws.download import Downloader
from twuws.errors import Unavailable, UWSError
from twuws.policy import FetchPolicy
from twuws.values import checkedSource

log = Logger()

#: The ways to sign that there are, and what keys are for each: type and curve (RFC 7518, 8037).
#: None of them knows a secret that is shared.
ALGORITHMS: dict[str, tuple[str, str | None]] = {
    **{f"{one}{size}": ("RSA", None) for one in ("RS", "PS") for size in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}

#: How large a document of an issuer can be, bytes, and how long it may take, s.
LARGEST = 256 * 2**10
TIMEOUT = 10.0
#: The smallest key of RSA that is any good, bits (RFC 7518, 3.3).
SMALLEST_RSA = 2048

_PUBLIC = ("kty", "crv", "n", "e", "x", "y")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def checkedIssuer(url: str) -> str:
    """
    Return a URL that an issuer, or its keys, can be at: by https, or on this host.

    @raise ValueError: with what is wrong, as a sentence about "it".
    """
    parts = urlsplit(checkedSource(url))
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        raise ValueError("anybody could give it other keys: it is not https")
    if parts.fragment:
        raise ValueError("it has a fragment")
    return url


class IssuerKeys:
    """
    Keys that are loaded from their issuer, and kept.

    While that is away, those that are known remain good.

    @cvar renewAfter: how old they get before they are loaded again meanwhile, s.
    @cvar oldest: how old they get before that is waited for, s.
    @cvar pause: at least so long is between two times that they are loaded, s.
    @cvar pauseAfterFailure: the same if it did not work, s.
    @param url: where the keys are; C{None} if the issuer says that
        (OpenID Connect Discovery 1.0, 4).
    @param algorithms: what they are used for, of L{ALGORITHMS}.
    @param seconds: the time, s.
    """

    renewAfter = 3 * 3600.0
    oldest = 6 * 3600.0
    pause = 60.0
    pauseAfterFailure = 10.0

    def __init__(
        self,
        issuer: str,
        url: str | None,
        algorithms: Iterable[str],
        reactor: Any = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._algorithms = tuple(algorithms)
        self._reactor = reactor
        self._seconds = seconds
        self._keys: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._loadedAt = -math.inf
        self._notBefore = -math.inf
        self._hasFailed = False
        self._loading: Deferred[None] = succeed(None)

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """
        The key of a token.

        @param kid: what the token calls it; C{None} if it says nothing: there must be no other
            key for the same algorithm then (OpenID Connect Core 1.0, 10.1).
        @raise Unavailable: if there may well be one, but the issuer cannot be asked.
        """
        age = self._seconds() - self._loadedAt
        if age > self.renewAfter:
            loading = self._load()
            if age > self.oldest and not self._hasFailed:
                await shield(loading)
        found = self._find(kid, algorithm)
        if found is None:
            await shield(self._load())
            found = self._find(kid, algorithm)
        if found is None and self._hasFailed:
            error = Unavailable("The keys of those who issue tokens cannot be had now; try again.")
            error.retryAfter = max(1, math.ceil(self._notBefore - self._seconds()))
            raise error
        return found

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, one), key in self._keys.items() if one == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _load(self) -> Deferred[None]:
        """Load them, unless that is being done, or was just done; fires when it is."""
        if self._loading.called and self._seconds() >= self._notBefore:
            self._notBefore = self._seconds() + self.pause
            self._loading = Deferred.fromCoroutine(self._loadOnce())
        return self._loading

    async def _loadOnce(self) -> None:
        try:
            self._keys = self._usable(await self._keysThere())
        except UWSError as e:
            self._hasFailed = True
            self._notBefore = self._seconds() + self.pauseAfterFailure
            log.warn("the keys of {issuer} cannot be had: {e}", issuer=self._issuer, e=e)
            return
        self._hasFailed = False
        self._loadedAt = self._seconds()
        if not self._keys:
            log.warn("{issuer} has no key for {algorithms}",
                     issuer=self._issuer, algorithms=self._algorithms)  # fmt: skip

    async def _keysThere(self) -> list[Any]:
        url = self._url
        if url is None:
            known = await self._read(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if known.get("issuer") != self._issuer:
                raise UWSError(f"it says that it is {known.get('issuer')!r}")
            url = str(known.get("jwks_uri"))
            try:
                checkedIssuer(url)
            except ValueError as e:
                raise UWSError(f"they are said to be at {url!r}, but {e}") from None
        keys = (await self._read(url)).get("keys")
        if not isinstance(keys, list):
            raise UWSError(f"{url} has no list of keys")
        return keys

    async def _read(self, url: str) -> dict[str, Any]:
        reactor = self._reactor
        if reactor is None:
            from twisted.internet import reactor
        policy = FetchPolicy(
            maximumSize=LARGEST, timeout=TIMEOUT, redirects=3, privateAddresses=True
        )
        content = await Downloader(policy, reactor).read(url, LARGEST)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as e:
            raise UWSError(f"{url} is not JSON: {e}") from None
        if not isinstance(found, dict):
            raise UWSError(f"{url} is no JSON object")
        return found

    def _usable(self, keys: list[Any]) -> dict[tuple[str | None, str], jwt.PyJWK]:
        """Each key for each algorithm that it can be used for, by its name and that."""
        found = {}
        for one in keys:
            if not isinstance(one, dict) or one.get("use", "sig") != "sig":
                continue
            for algorithm in self._algorithms:
                kid = one.get("kid")
                fits = ALGORITHMS[algorithm] == (one.get("kty"), one.get("crv"))
                if not fits or one.get("alg", algorithm) != algorithm:
                    continue
                if (key := _keyOf(one, algorithm)) is not None:
                    found[kid if isinstance(kid, str) else None, algorithm] = key
        return found


def _keyOf(described: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    """A key, of which only what is public is looked at; C{None} if it is no good."""
    public = {name: described[name] for name in _PUBLIC if name in described}
    if not all(isinstance(value, str) for value in public.values()):
        return None
    try:
        key = jwt.PyJWK(public, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as e:
        log.info("a key that an issuer has is no good: {e}", e=e)
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < SMALLEST_RSA:
        log.info("a key that an issuer has is no good: {n} bits", n=key.key.key_size)
        return None
    return key
