"""
Who asks.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twuws.errors import Forbidden, NotAuthenticated
from twuws.identity import ANONYMOUS, Identity
from twuws.web.access import Access
from twuws.web.headers import textOf


async def identify(request: Any, access: Access) -> Identity:
    """
    Who has sent a request.  It is C{request.identity} from then on.

    A resource around this one can have found that out before: it sets C{request.owner} to a
    name.

    @raise NotAuthenticated: if there are credentials, and they are not right: nobody who tries
        to be somebody is nobody in particular instead.
    """
    who = access.withGroups(await _found(request, access))
    request.identity = who
    tellWho(request, who)
    return who


def tellWho(request: Any, who: Identity) -> None:
    """Say to somebody as whom they are known (SSO 2.3)."""
    if who.name is not None:
        request.setHeader("x-vo-authenticated", headerText(who.name))


async def _found(request: Any, access: Access) -> Identity:
    if owner := getattr(request, "owner", None):
        return Identity(name=owner, method="site")
    for authenticator in access.authenticators:
        who: Identity | None = await authenticator.authenticate(request)
        if who is not None:
            return who
    scheme = _schemeOf(request)
    if scheme and access.authenticators:
        raise NotAuthenticated(f"Authorization: {scheme[:20]!r} is not known here, or not so.")
    return ANONYMOUS


def _schemeOf(request: Any) -> str:
    return (textOf(request, "authorization") or "").partition(" ")[0]


def identityOf(request: Any) -> Identity:
    """Who has sent a request, as it was found out."""
    who: Identity | None = getattr(request, "identity", None)
    if who is not None:
        return who
    owner = getattr(request, "owner", None)
    return Identity(name=owner, method="site") if owner else ANONYMOUS


def askerOf(request: Any) -> str:
    """Who asks, for the record of what is done."""
    return str(identityOf(request))


def headerText(text: str) -> str:
    """A text as a header can have it: in ASCII, on one line."""
    return text.encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROLS)


_CONTROLS = dict.fromkeys((*range(32), 127), "?")


def challenge(request: Any, access: Access, baseURL: str) -> None:
    """Say how to log in (SSO 2.1), and that a token is none, if there is one (RFC 6750, 3.1)."""
    request.responseHeaders.removeHeader("www-authenticate")
    ways = (one for way in access.authenticators for one in way.challenges(baseURL))
    for one in dict.fromkeys(ways):  # several know of Bearer
        isWrong = _schemeOf(request).lower() == "bearer" and one.startswith("Bearer ")
        told = f'{one}, error="invalid_token"' if isWrong else one
        request.responseHeaders.addRawHeader("www-authenticate", told)


def wantMore(request: Any) -> None:
    """Say to who has a token that another one is needed (RFC 6750, 3.1)."""
    if _schemeOf(request).lower() == "bearer":
        request.setHeader("www-authenticate", 'Bearer realm="twuws", error="insufficient_scope"')


def checkOrigin(request: Any, who: Identity, ownURL: str, origins: frozenset[str]) -> None:
    """
    See that no other site has a browser make a change with what it knows of its user.

    Browsers say where a request comes from (C{Sec-Fetch-Site}, and C{Origin}); who says
    neither is none.

    @param ownURL: the service's, as the client knows it.
    @param origins: other web origins that may.
    @raise Forbidden: if one does.
    """
    if not who.isAmbient:
        return
    origin, site = textOf(request, "origin"), textOf(request, "sec-fetch-site")
    if origin is not None and origin in origins:
        return
    if site is not None:
        isOurs = site in ("same-origin", "none")  # none: the user's own doing
    else:
        own = urlsplit(ownURL)
        isOurs = origin is None or origin.lower() == f"{own.scheme}://{own.netloc}".lower()
    if not isOurs:
        raise Forbidden("This request comes from another site, which may change nothing here.")
