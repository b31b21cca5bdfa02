"""
How a service behaves over HTTP, as far as its operator decides that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from twuws.proxies import Proxies
from twuws.web.access import Access
from twuws.web.limits import RequestLimits, Waits


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
    @ivar longestShare: for how long a job can be shared by a URL, s; 0 for not at all.
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
    longestShare: int = 30 * 86400
    access: Access = field(default_factory=Access)
    limits: RequestLimits = field(default_factory=RequestLimits)
    waits: Waits = field(default_factory=Waits)
    spared: Proxies = field(default_factory=Proxies)
    audit: Any = None

    def below(self, name: str) -> WebSettings:
        """The same for a resource one step further down."""
        url = self.publicURL and f"{self.publicURL.rstrip('/')}/{name}"
        return replace(self, publicURL=url, access=self.access.below(name))
