"""
The plug points, as zope interfaces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from twuws.hostusers import HostUser
from twuws.identity import Identity
from twuws.jobs import Outcome, UWSJob


@dataclass(frozen=True, kw_only=True)
class WorkLimits:
    """
    What work may use; C{None} is unlimited.

    @ivar memory: address space of each process, bytes.
    @ivar cpu: CPU time of each process, s.
    @ivar fileSize: of each file that is written, bytes.
    @ivar output: how much of stdout and of stderr is kept, bytes.
    @ivar grace: between asking work to end and killing it, s.
    """

    memory: int | None = None
    cpu: int | None = None
    fileSize: int | None = None
    output: int = 1 << 20
    grace: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """
    One attempt at a job, for a backend to do.

    @ivar job: the job, as it was when it was claimed.
    @ivar directory: its directory, in which all but C{job.json} is there once it is prepared.
    @ivar prepare: sees to the directory, before anything else is done there; to be called with
        what more is to be done there, which it does then in the same turn of a thread.
    @ivar news: to be called, without arguments, after something was added to the events.
    @ivar environment: environment variables for the work, beside the backend's own.
    @ivar user: as whom the work is to be done, by a service that is root; C{None} for as it is.
    """

    job: UWSJob
    directory: Any
    prepare: Callable[[Callable[[], object]], Awaitable[object]]
    news: Callable[[], object] = lambda: None
    limits: WorkLimits = WorkLimits()
    environment: dict[str, str] = field(default_factory=dict)
    user: HostUser | None = None


@dataclass(frozen=True, kw_only=True)
class Running:
    """
    Work that is under way.

    @ivar ref: what finds it again, in this process or a later one; JSON's types only.
    @ivar ended: fires with the L{Outcome} when the work has ended by itself or was stopped;
        never fails.
    """

    ref: dict[str, Any]
    ended: Deferred[Outcome]


class IBackend(Interface):
    """
    A way to start work, to stop it, and to find it again.
    """

    name = Attribute("What the queue and logs call it.")

    def start(
        work: Work, remember: Callable[[dict[str, Any]], Awaitable[object]]
    ) -> Awaitable[Running]:
        """
        Start the work.

        C{await work.prepare(…)} and C{await remember(ref)} before the work can produce anything;
        if one of them raises, nothing of the work is left, and the error goes on to the caller.
        """

    def find(work: Work, ref: dict[str, Any]) -> Awaitable[Running | None]:
        """
        Find work that an earlier process started; C{None} if there is nothing left of it.

        Work that has left an outcome is not looked for: the caller reads that first.
        """

    def stop(ref: dict[str, Any], grace: float) -> Awaitable[None]:
        """
        End the work: ask, wait up to C{grace} seconds, kill.

        Returns once no process of it is left.  Work that has gone already is no error.
        """


class IAuthenticator(Interface):
    """
    A way to find out who asks.
    """

    securityMethods = Attribute(
        "The IVOA's names of it for C{capabilities}, such as C{ivo://ivoa.net/sso#BasicAA}."
    )

    def challenges(baseURL: str) -> list[str]:
        """
        What C{WWW-Authenticate} says of it (SSO 2.1), a challenge each.

        @param baseURL: of the service, as the client knows it.
        """

    def authenticate(request: Any) -> Awaitable[Identity | None]:
        """
        Who has sent this request of Twisted's; its body has not been read.

        C{request.cameFrom} is the address of who has sent it, as far as that is known, and
        C{request.isConfidential} says whether nobody else can have read it on its way.

        C{None} if it has nothing that is for this authenticator: then the next one is asked.

        @raise NotAuthenticated: if it has, and that is not right.
        @raise Unavailable: if that cannot be found out now.
        """
