"""
Ways to log in whose users are known elsewhere, as a configuration file says them: the tables
C{[auth.oidc]}, C{[auth.proxy]} and C{[auth.certificates]}.
"""

from __future__ import annotations

import re
from typing import Any

from cryptography.x509 import Name

from twuws.authenticators.certificates import CertificateAuthenticator, Named
from twuws.authenticators.proxy import ProxyAuthenticator
from twuws.identity import SCOPES
from twuws.proxies import Proxies
from twuws.tables import Kind, Table

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def readLogins(table: Table) -> list[Any]:
    """
    The L{twuws.interfaces.IAuthenticator}s that the table C{[auth]} asks for; mistakes are noted.

    What is sent on purpose comes before what browsers and proxies send by themselves.
    """
    found = []
    for name, read in (("oidc", _oidc), ("proxy", _proxy), ("certificates", _certificates)):
        isThere, one = table.has(name), table.table(name)
        if isThere:
            found.append(read(one))
            one.refuseRest()
    return [one for one in found if one is not None]


def _oidc(table: Table) -> Any:
    try:
        from twuws.authenticators.oidc import OIDCAuthenticator, OIDCSettings
        from twuws.authenticators.oidckeys import ALGORITHMS, IssuerKeys, checkedIssuer
    except ImportError as e:
        table.wrong("", f"this needs PyJWT: pip install 'twuws[oidc]' ({e})")
        table.forget(*table.names())
        return None
    urls = {}
    for key in ("issuer", "jwks-url"):
        urls[key] = table.take(key, Kind.TEXT, None)
        try:
            if urls[key] is not None:
                checkedIssuer(urls[key])
        except ValueError as e:
            table.wrong(key, f"expected an https URL, found {urls[key]!r}: {e}")
    issuer = urls["issuer"]
    if issuer is None or "?" in issuer:
        table.wrong("issuer", f"expected the URL of who issues tokens, found {issuer!r}")
    algorithms = table.take("algorithms", Kind.TEXTS, OIDCSettings.algorithms)
    if not algorithms or not set(algorithms) <= set(ALGORITHMS):
        known = ", ".join(ALGORITHMS)
        table.wrong("algorithms", f"expected some of {known}, found {list(algorithms)}")
        algorithms = OIDCSettings.algorithms
    settings = OIDCSettings(
        issuer=issuer or "",
        audience=_audience(table),
        algorithms=algorithms,
        leeway=_leeway(table, OIDCSettings.leeway),
        nameClaim=_word(table, "name-claim") or OIDCSettings.nameClaim,
        groupsClaim=_word(table, "groups-claim"),
        requiredScope=_word(table, "required-scope"),
        scopes=_scopes(table.table("scopes")),
        cleartext=table.take("cleartext", Kind.TRUTH, False),
    )
    return OIDCAuthenticator(settings, IssuerKeys(settings.issuer, urls["jwks-url"], algorithms))


def _audience(table: Table) -> tuple[str, ...]:
    found = table.pop("audience")
    audience = [found] if isinstance(found, str) else found
    isRight = isinstance(audience, list) and all(isinstance(one, str) and one for one in audience)
    if not isRight or not audience:
        wanted = "what tokens for this service have as aud, as a text or a list of texts"
        table.wrong("audience", f"expected {wanted}, found {found!r}")
        return ()
    return tuple(audience)


def _word(table: Table, key: str) -> str | None:
    """A text that is not empty and has no spaces; C{None} if it is not there."""
    word: str | None = table.take(key, Kind.TEXT, None)
    if word is not None and word.split() != [word]:
        table.wrong(key, f"expected a text without spaces, found {word!r}")
    return word


def _leeway(table: Table, usual: float) -> float:
    leeway: float = table.take("leeway", Kind.NUMBER, usual)
    if not 0 <= leeway <= 3600:
        table.wrong("leeway", f"expected 0 to 3600 s, found {leeway:g}")
    return leeway


def _scopes(table: Table) -> dict[str, str]:
    scopes = {one: _word(table, one) for one in sorted(SCOPES)}
    table.refuseRest()
    return {one: name for one, name in scopes.items() if name is not None}


def _proxy(table: Table) -> ProxyAuthenticator:
    headers = {}
    for key in ("header", "groups-header"):
        headers[key] = table.take(key, Kind.TEXT, None)
        if headers[key] is not None and not _HEADER.fullmatch(headers[key]):
            table.wrong(key, f"expected the name of a header, found {headers[key]!r}")
    if headers["header"] is None:
        table.wrong("header", "expected the header in which proxies name users, found none")
    proxies = Proxies()
    named = table.take("from", Kind.TEXTS, ())
    if not named:
        table.wrong("from", "expected the addresses of the proxies, or unix, found none")
    try:
        proxies = Proxies(named)
    except ValueError as e:
        table.wrong("from", f"expected addresses, networks, or unix, found: {e}")
    return ProxyAuthenticator(headers["header"] or "", headers["groups-header"], proxies)


def _certificates(table: Table) -> CertificateAuthenticator:
    named = table.take("name", Kind.TEXT, Named.SUBJECT)
    if named not in [*Named]:
        table.wrong("name", f"expected {', '.join(Named)}, found {named!r}")
        named = Named.SUBJECT
    issuers = []
    for issuer in (texts := table.take("issuers", Kind.TEXTS, None)) or ():
        try:
            issuers.append(Name.from_rfc4514_string(issuer))
        except ValueError:
            like = "CN=Example CA,O=Example"
            table.wrong("issuers", f"expected names such as {like}, found {issuer!r}")
    if texts == ():
        table.wrong("issuers", "expected at least one: nobody can log in")
    return CertificateAuthenticator(Named(named), None if texts is None else issuers)
