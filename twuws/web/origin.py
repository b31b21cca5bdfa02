"""
Where a resource is, as its client knows it: URLs that are true behind a proxy.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from twuws.web.settings import Proxies, WebSettings

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(/[\w.~%+-]+)*/?", re.ASCII)
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";,]*))\s*", re.ASCII)
_ELEMENT = re.compile(r"(?:[^\",]|\"(?:[^\"\\]|\\.)*\")+")
_PORTS = {"http": "80", "https": "443"}


def resourceURL(request: Any, settings: WebSettings) -> str:
    """
    The absolute URL of the resource that this request has come down to, as its client knows
    it, without a slash at its end.

    It is the public URL where there is one, else what the request says: to the proxy, if
    that is trusted and tells, or to us.
    """
    if settings.publicURL is not None:
        return settings.publicURL.rstrip("/")
    told = _toldByProxy(request, settings.proxies)
    hosts = (told.get("host", ""), (request.getHeader("host") or "").strip())
    host = next((one for one in hosts if _HOST.fullmatch(one)), None) or _ownHost(request)
    scheme = told.get("proto", "").lower()
    if scheme not in _PORTS:
        scheme = "https" if request.isSecure() else "http"
    segments = getattr(request, "mountPath", request.prepath)
    path = "".join("/" + quote(segment, safe="") for segment in segments if segment)
    return f"{scheme}://{host}{told.get('prefix', '')}{path}"


def _ownHost(request: Any) -> str:
    address = request.getHost()
    return f"{address.host}:{address.port}" if hasattr(address, "port") else "localhost"


def _toldByProxy(request: Any, proxies: Proxies) -> dict[str, str]:
    """C{host}, C{proto} and C{prefix}, as far as a trusted proxy tells them."""
    if not proxies.trusts(getattr(request.getClientAddress(), "host", None)):
        return {}
    forwarded = _joined(request, "forwarded")
    if forwarded:
        return _ofForwarded(forwarded, proxies)
    return _ofXForwarded(request, proxies)


def _joined(request: Any, name: str) -> str:
    return ",".join(request.requestHeaders.getRawHeaders(name) or ())


def _ofForwarded(header: str, proxies: Proxies) -> dict[str, str]:
    """
    What C{Forwarded} (RFC 7239) says.

    Each proxy adds an element at the end.  From there we go back for as long as it is a
    trusted one that has added the element: anybody can write those before.
    """
    found: dict[str, str] = {}
    for element in reversed(_ELEMENT.findall(header)):
        pairs = (
            _PAIR.fullmatch(one) for one in re.split(r";(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", element)
        )
        told = {p[1].lower(): re.sub(r"\\(.)", r"\1", p[2] or p[3] or "") for p in pairs if p}
        found.update({name: told[name] for name in ("host", "proto") if told.get(name)})
        if not proxies.trusts(_withoutPort(told.get("for", "unknown"))):
            break
    return found


def _withoutPort(node: str) -> str:
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _ofXForwarded(request: Any, proxies: Proxies) -> dict[str, str]:
    """
    What C{X-Forwarded-…} say, of which there is no standard: some proxies replace them, and
    some add at their end.
    """
    hops = 0
    for address in reversed(_values(request, "x-forwarded-for")):
        if not proxies.trusts(_withoutPort(address)):
            break
        hops += 1

    def told(name: str) -> str:
        values = _values(request, f"x-forwarded-{name}")
        return values[max(len(values) - 1 - hops, 0)] if values else ""

    found = {"host": told("host"), "proto": told("proto").lower()}
    port, prefix = told("port"), told("prefix").rstrip("/")
    isNamed = re.search(r":\d+$", found["host"])
    if found["host"] and port.isdecimal() and not isNamed and port != _PORTS.get(found["proto"]):
        found["host"] += f":{port}"
    if _PREFIX.fullmatch(prefix):
        found["prefix"] = prefix
    return {name: value for name, value in found.items() if value}


def _values(request: Any, name: str) -> list[str]:
    return [value.strip() for value in _joined(request, name).split(",") if value.strip()]
