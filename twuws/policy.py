"""
How long jobs may run and live, how many run at a time, and what is loaded for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from twuws.errors import BadRequest
from twuws.times import LONGEST_DURATION


@dataclass(frozen=True, kw_only=True)
class Policy:
    """
    What a job gets when it asks for a time, and when it asks for none (2.1.4, 2.1.5).

    @ivar executionDuration: if the client names none, s; 0 for unlimited.
    @ivar longestExecutionDuration: what a client can have at most, s; 0 for no limit.
    @ivar lifetime: from creation to destruction if the client names none, s.
    @ivar longestLifetime: what a client can have at most, s, counted from when it asks.
    @ivar archive: how long the metadata of an expired job are kept, in phase ARCHIVED, s; 0
        for not at all.  Jobs that never were run, or that a client destroys, are not archived
        (A-70).
    @ivar keepHistory: how long the records of a destroyed job are kept, s.
    @ivar anonymous: the same for jobs that nobody owns; C{None} if that is the same.
    """

    executionDuration: int = 3600
    longestExecutionDuration: int = 86400
    lifetime: int = 7 * 86400
    longestLifetime: int = 31 * 86400
    archive: int = 0
    keepHistory: int = 0
    anonymous: Policy | None = None

    def of(self, owner: str | None) -> Policy:
        """What holds for the jobs of an owner, or of nobody."""
        return self.anonymous if owner is None and self.anonymous is not None else self

    def duration(self, wanted: int | None) -> int:
        """
        The execution duration that a job gets: what is too much becomes the most (A-40).

        >>> Policy(longestExecutionDuration=60).duration(0)
        60
        """
        if wanted is not None and not 0 <= wanted <= LONGEST_DURATION:
            raise BadRequest(f"EXECUTIONDURATION: {wanted} is not from 0 to {LONGEST_DURATION} s")
        longest = self.longestExecutionDuration
        wanted = self.executionDuration if wanted is None else wanted
        return min(wanted or longest, longest) if longest else wanted

    def destruction(self, wanted: datetime | None, now: datetime) -> datetime:
        """The destruction time that a job gets; C{None} asks for the default (A-44)."""
        if wanted is None:
            wanted = now + timedelta(seconds=self.lifetime)
        return min(wanted, now + timedelta(seconds=self.longestLifetime))


@dataclass(frozen=True, kw_only=True)
class FetchPolicy:
    """
    What is loaded from the http and https URIs that clients give as uploads.

    @ivar enabled: whether anything is; if not, such an upload is refused.
    @ivar maximumSize: of all that is loaded for one job, together, bytes.
    @ivar timeout: for one URI, redirects and all, s.
    @ivar redirects: how many are followed.
    @ivar privateAddresses: whether to load from addresses that are not on the public
        Internet, too: then clients can ask for what only this host can reach.
    """

    enabled: bool = True
    maximumSize: int = 2 << 30
    timeout: float = 600
    redirects: int = 5
    privateAddresses: bool = False


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """
    How many jobs may run at a time, on all nodes together; C{None} is any number.

    What is being stopped counts until nothing of it is left.

    @ivar inAll: of all services.
    @ivar perOwner: of each account, in all services: an owner, or the network that somebody who
        is anonymous comes from.
    @ivar perService: of a service, by its name.
    """

    inAll: int | None = None
    perOwner: int | None = None
    perService: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def areNone(self) -> bool:
        """Whether any number of jobs may run."""
        every = (self.inAll, self.perOwner, *self.perService.values())
        return all(most is None for most in every)
