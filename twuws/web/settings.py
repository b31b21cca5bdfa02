"""
How a service behaves over HTTP, as far as its operator decides that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from twuws.web.access import Access
from twuws.web.limits import RequestLimits, Waits


class Proxies:
    """
    The proxies whose word is taken for what their clients asked for.

    >>> Proxies(["127.0.0.1", "10.0.0.0/8"]).trusts("10.1.2.3")
    True

    @param named: addresses, networks, and C{unix} for whoever comes by a Unix socket.
    @raise ValueError: naming what is none of these.
    """

    def __init__(self, named: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        self._unix = False
        for one in named:
            if one == "unix":
                self._unix = True
            else:
                self._networks.append(ip_network(one))

    def trusts(self, host: str | None) -> bool:
        """Whether a proxy is at this address; C{None} for the other end of a Unix socket."""
        if host is None:
            return self._unix
        try:
            address: Any = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


def networkOf(host: str) -> str:
    """
    Who has an address, as far as can be told: in IPv6 that is a network.

    >>> networkOf("2001:db8::1"), networkOf("::ffff:192.0.2.1"), networkOf("unix")
    ('2001:db8::/64', '192.0.2.1', 'unix')
    """
    try:
        address: Any = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    return str(address) if address.version == 4 else str(ip_network((address, 64), strict=False))


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """
    What an L{twuws.web.resource.UWSResource} can be told.

    @ivar publicURL: the absolute URL of the resource, where it is not what requests say.
    @ivar maximumBody: how large a request may be, bytes; C{None} for any size.
    @ivar maximumForm: how large one that has no files, bytes; C{None} for any size.
    @ivar proxies: whose C{Forwarded} and C{X-Forwarded-…} count.
    @ivar origins: the web origins whose scripts may use the service (CORS), such as
        C{https://example.org}; C{*} for all.
    @ivar parametersAtJob: whether a job's own URL takes parameters, which some clients send
        there and DALI forbids (A-22).
    @ivar tracebacks: whether clients see where in the code an exception of a job class was
        raised.
    @ivar syncTimeout: how long a synchronous request waits for its job, s.
    @ivar syncListed: whether the job list has the jobs that were made by synchronous requests
        (A-61).
    @ivar syncAborts: whether a synchronous client that hangs up aborts its job.
    @ivar access: who may do what.
    @ivar limits: what one request can have.
    @ivar waits: counts who waits for jobs.
    @ivar spared: where those come from who are anonymous, and have any number of all that is
        limited for an address.
    @ivar audit: the L{twuws.web.audit.AuditLog}, if there is one.
    """

    publicURL: str | None = None
    maximumBody: int | None = None
    maximumForm: int | None = None
    proxies: Proxies = field(default_factory=Proxies)
    origins: frozenset[str] = frozenset()
    parametersAtJob: bool = True
    tracebacks: bool = False
    syncTimeout: float = 50
    syncListed: bool = True
    syncAborts: bool = False
    access: Access = field(default_factory=Access)
    limits: RequestLimits = field(default_factory=RequestLimits)
    waits: Waits = field(default_factory=Waits)
    spared: Proxies = field(default_factory=Proxies)
    audit: Any = None

    def below(self, name: str) -> WebSettings:
        """The same for a resource one step further down."""
        url = self.publicURL and f"{self.publicURL.rstrip('/')}/{name}"
        return replace(self, publicURL=url, access=self.access.below(name))
