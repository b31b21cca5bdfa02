"""
Proxies that this service is behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any


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

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._unix or bool(self._networks)

    def trusts(self, host: str | None) -> bool:
        """Whether a proxy is at this address; C{None} for the other end of a Unix socket."""
        if host is None:
            return self._unix
        if not self._networks:
            return False
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
