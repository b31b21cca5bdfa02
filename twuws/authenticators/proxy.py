"""
Users that a proxy in front of this service has found out, and names in a header.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from twuws.errors import NotAuthenticated
from twuws.identity import Identity, checkedName
from twuws.interfaces import IAuthenticator
from twuws.proxies import Proxies

#: What Apache writes for a variable that is not set.
_UNSET = "(null)"


@implementer(IAuthenticator)
class ProxyAuthenticator:
    """
    Whoever a proxy says it is.

    That is believed of a proxy alone.  Somebody else who sends such a header pretends to be
    somebody, and is told so: to pass the header over would make them nobody in particular, and
    hide that a proxy is missing in the configuration.

    @param header: in which they are named.
    @param groupsHeader: in which their groups are, with commas between them; C{None} for none.
    @param proxies: who is believed: who the connection comes from, whatever else is said.
    """

    securityMethods = ()

    def __init__(self, header: str, groupsHeader: str | None, proxies: Proxies) -> None:
        self._header = header
        self._groupsHeader = groupsHeader
        self._proxies = proxies

    def challenges(self, baseURL: str) -> list[str]:
        """It is the proxy's, to say how to log in."""
        return []

    async def authenticate(self, request: Any) -> Identity | None:
        name = _single(request, self._header)
        groups = None if self._groupsHeader is None else _single(request, self._groupsHeader)
        if name is None and groups is None:
            return None
        if not self._proxies.trusts(getattr(request.getClientAddress(), "host", None)):
            header = self._header if name is not None else self._groupsHeader
            raise NotAuthenticated(f"{header}: this is for proxies to say, and you are none.")
        if name is None:
            return None
        if name == _UNSET:
            raise NotAuthenticated(f"{self._header}: the proxy has no name for you.")
        return Identity(
            name=_checked(self._header, name),
            groups=frozenset(
                _checked(self._groupsHeader or "", one.strip())
                for one in (groups or "").split(",")
                if one.strip() not in ("", _UNSET)
            ),
            method="proxy",
        )


def _single(request: Any, header: str) -> str | None:
    """
    A header that comes once, or not at all; C{None} for that.

    @raise NotAuthenticated: if it comes several times: then a proxy has added to what it was
        sent, rather than replaced it.
    """
    values = request.requestHeaders.getRawHeaders(header.encode("ascii"), ())
    if len(values) > 1:
        raise NotAuthenticated(f"{header}: there are several, so it is not clear who you are.")
    try:
        return values[0].decode("utf-8") if values else None
    except UnicodeDecodeError:
        raise NotAuthenticated(f"{header}: this is not UTF-8.") from None


def _checked(header: str, name: str) -> str:
    try:
        return checkedName(name)
    except ValueError as e:
        raise NotAuthenticated(f"{header}: {e}.") from None
