"""
Where a resource is, as its client knows it: URLs that are true behind a proxy.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from twuws.proxies import Proxies, networkOf
from twuws.web.headers import textOf
from twuws.web.settings import WebSettings

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(/[\w.~%+-]+)*/?", re.ASCII)
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";,]*))\s*", re.ASCII)
_ELEMENT = re.compile(r"(?:[^\",]|\"(?:[^\"\\]|\\.)*\")+")
_HERE = ("::1", "::ffff:127.0.0.1")
_PORTS = {"http": "80", "https": "443"}

#: How long a header can be that a proxy writes, in characters.
_LONGEST = 1000


def resourceURL(request: Any, settings: WebSettings) -> str:
    """
    The absolute URL of the resource that this request has come down to, as its client knows
    it, without a slash at its end.

    It is the public URL where there is one, else what the request says: to the proxy, if
    that is trusted and tells, or to us.
    """
    if settings.publicURL is not None:
        return settings.publicURL.rstrip("/")
    told = _toldByProxy(request, settings.proxies) if settings.proxies else {}
    hosts = (told.get("host", ""), (textOf(request, "host") or "").strip())
    host = next((one for one in hosts if isHost(one)), None) or _ownHost(request)
    scheme = told.get("proto", "").lower()
    if scheme not in _PORTS:
        scheme = "https" if request.isSecure() else "http"
    port = told.get("port", "")
    if port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536:
        host = _withoutPort(host) + (f":{port}" if port != _PORTS[scheme] else "")
    return f"{scheme}://{host}{told.get('prefix', '')}{_quoted(tuple(request.prepath))}"


@lru_cache(maxsize=64)  # of all requests to a service it is the same
def _quoted(path: tuple[bytes, ...]) -> str:
    return "".join("/" + quote(segment, safe="") for segment in path if segment)


def clientAddress(request: Any, proxies: Proxies) -> str:
    """
    Where a request comes from: an address, or C{unix} for a local socket.

    Behind trusted proxies it is the last address that none of these has, as they tell; what is
    from further away could be anything.
    """
    host = getattr(request.getClientAddress(), "host", None)
    if proxies.trusts(host):
        for address in reversed(_forwardedFor(request)):
            if not _isAddress(address):
                break
            host = address
            if not proxies.trusts(address):
                break
    return host or "unix"


def clientOf(request: Any, settings: WebSettings) -> str | None:
    """
    For whom counts what somebody does who is anonymous; C{None} if it need not be counted.
    """
    host = clientAddress(request, settings.proxies)
    return None if settings.spared.trusts(None if host == "unix" else host) else networkOf(host)


def _forwardedFor(request: Any) -> list[str]:
    """
    The addresses that proxies say they had requests from: the last one says what our proxy saw.

    Where there are both headers, one may be as the client has sent it (see L{_toldByProxy}).
    """
    one = [_addressOf(value) for value in _values(request, "x-forwarded-for")]
    elements = _elements(_joined(request, "forwarded"))
    other = [_addressOf(one.get("for", "unknown")) for one in elements]
    if one and other and one[-1] != other[-1]:
        return []
    return one or other


def _isAddress(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def isConfidential(request: Any, address: str, settings: WebSettings) -> bool:
    """
    Whether nobody else can have read a request on its way: it came by https, or from here.

    @param address: where it comes from, see L{clientAddress}.
    """
    isHere = address == "unix" or address.startswith("127.") or address in _HERE
    return isHere or resourceURL(request, settings).startswith("https:")


@lru_cache(maxsize=16)  # all requests have the same, or nearly
def isHost(text: str) -> bool:
    """Whether a text is what C{Host} can be: a name or an address, and a port or none."""
    found = _HOST.fullmatch(text)
    if found is None or text.startswith("["):
        return found is not None
    name, _, port = text.partition(":")
    labels = name.removesuffix(".").split(".")
    return all(0 < len(label) < 64 for label in labels) and (not port or 0 < int(port) < 65536)


def ensureHost(request: Any) -> None:
    """See that a request has a C{Host} that is one: Klein takes no other."""
    if not isHost((textOf(request, "host") or "").strip()):
        request.requestHeaders.setRawHeaders("host", [_ownHost(request)])


def _ownHost(request: Any) -> str:
    address = request.getHost()
    return f"{address.host}:{address.port}" if hasattr(address, "port") else "localhost"


def _toldByProxy(request: Any, proxies: Proxies) -> dict[str, str]:
    """
    C{host}, C{proto}, C{port} and C{prefix}, as far as a trusted proxy tells them.

    A proxy writes C{Forwarded} or C{X-Forwarded-…}, and passes the other on as it came.  So
    where both are there, only what both say is sure to be the proxy's.
    """
    if not proxies.trusts(getattr(request.getClientAddress(), "host", None)):
        return {}
    one, other = (
        _ofForwarded(_joined(request, "forwarded"), proxies),
        _ofXForwarded(request, proxies),
    )
    if not one or not other:
        return one or other
    return {name: value for name, value in one.items() if other.get(name) == value}


def _joined(request: Any, name: str) -> str:
    """A header; what is longer than any proxy makes it counts as not there."""
    header = b",".join(request.requestHeaders.getRawHeaders(name.encode(), ())).decode("latin-1")
    return header if len(header) <= _LONGEST else ""


def _ofForwarded(header: str, proxies: Proxies) -> dict[str, str]:
    """
    What C{Forwarded} (RFC 7239) says.

    Each proxy adds an element at the end.  From there we go back for as long as it is a
    trusted one that has added the element: anybody can write those before.
    """
    found: dict[str, str] = {}
    for told in reversed(_elements(header)):
        found.update({name: told[name] for name in ("host", "proto") if told.get(name)})
        if not proxies.trusts(_addressOf(told.get("for", "unknown"))):
            break
    return found


def _elements(header: str) -> list[dict[str, str]]:
    """What is in each element of C{Forwarded}, by name in lower case."""
    elements = []
    for element in _ELEMENT.findall(header):
        pairs = (
            _PAIR.fullmatch(one) for one in re.split(r";(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", element)
        )
        elements.append(
            {p[1].lower(): re.sub(r"\\(.)", r"\1", p[2] or p[3] or "") for p in pairs if p}
        )
    return elements


def _addressOf(node: str) -> str:
    """The address of a node, which can have a port (RFC 7239, 6)."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _withoutPort(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _ofXForwarded(request: Any, proxies: Proxies) -> dict[str, str]:
    """
    What C{X-Forwarded-…} say, of which there is no standard: some proxies replace them, and
    some add at their end.
    """
    hops = 0
    for address in reversed(_values(request, "x-forwarded-for")):
        if not proxies.trusts(_addressOf(address)):
            break
        hops += 1

    def told(name: str) -> str:
        values = _values(request, f"x-forwarded-{name}")
        return values[max(len(values) - 1 - hops, 0)] if values else ""

    found = {"host": told("host"), "proto": told("proto").lower(), "port": told("port")}
    prefix = told("prefix").rstrip("/")
    if _PREFIX.fullmatch(prefix) and not {".", ".."} & set(prefix.split("/")):
        found["prefix"] = prefix
    if re.search(r":\d+$", found["host"]):
        del found["port"]  # it is there already
    return {name: value for name, value in found.items() if value}


def _values(request: Any, name: str) -> list[str]:
    return [value.strip() for value in _joined(request, name).split(",") if value.strip()]
