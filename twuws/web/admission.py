"""
Whether a request is let in: who has sent it, and what they may do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twuws.errors import Forbidden, InsufficientScope, NotAuthenticated, UWSError
from twuws.jobs import UWSJob
from twuws.web.controls import Controls
from twuws.web.identifying import challenge, checkOrigin, identify, identityOf, wantMore
from twuws.web.origin import clientAddress, isConfidential
from twuws.web.settings import WebSettings

#: What is asked of a job besides looking at it that an administrator may ask of any.
_ACTS = (Controls(action="DELETE"), Controls(phase="ABORT"))


class Admission:
    """
    The rules of one service, as far as they are about who asks.

    @param baseURL: the service's URL, as the client of a request knows it.
    """

    def __init__(self, settings: WebSettings, baseURL: Callable[[Any], str]) -> None:
        self._settings = settings
        self._access = settings.access
        self._baseURL = baseURL

    async def admit(self, request: Any, name: str, segments: Sequence[str]) -> None:
        """
        See who asks, and whether they may use the service.

        To log in, and to see whether it is available, is for everybody, and what is shared for
        whoever has the URL; its capabilities say how to log in (SSO 2.2).

        @param name: the first step of the way below the service; C{segments}: the others.
        @raise NotAuthenticated, Forbidden: if they may not.
        """
        request.cameFrom = clientAddress(request, self._settings.proxies)
        request.isConfidential = isConfidential(request, request.cameFrom, self._settings)
        if name in ("availability", "login", "shared"):
            return
        makesJob = name == "sync" and not segments
        isChange = makesJob or request.method not in (b"GET", b"HEAD", b"OPTIONS")
        if isChange:
            self._note(request)
        who = await identify(request, self._access)
        if name == "capabilities" and who.name is None:
            challenge(request, self._access, self._baseURL(request))
        if isChange:
            checkOrigin(request, who, self._baseURL(request), self._settings.origins)
        self._access.checkUse(who, isChange)

    def listed(self, request: Any) -> tuple[str | None, bool, bool]:
        """See L{twuws.web.access.Access.listed}."""
        return self._access.listed(identityOf(request))

    def checkJob(self, request: Any, job: UWSJob) -> None:
        """
        See whether who asks may see a job.

        @raise NotAuthenticated, Forbidden, JobNotFound: if they may not.
        """
        who = identityOf(request)
        self._access.checkJob(who, job.jobId, job.owner)
        if not self._access.owns(who, job.owner):
            self._note(request, of=job.owner)

    def checkAct(self, request: Any, job: UWSJob, controls: Controls) -> None:
        """
        See whether who may see a job may do with it what they ask for: administrators may look
        at the jobs of others, abort and destroy them, and no more.

        @param controls: what the request says, beside its parameters.
        @raise Forbidden: if they may not.
        """
        isLooking = request.method in (b"GET", b"HEAD")
        if isLooking or self._access.owns(identityOf(request), job.owner):
            return
        isAct = controls in _ACTS and not request.args and not request.files
        if request.method != b"DELETE" and not isAct:
            raise Forbidden(
                f"This is a job of {job.owner}: an administrator may look at it, abort it and"
                " destroy it, and change nothing else."
            )

    def checkAdministrator(self, request: Any) -> None:
        """
        See whether who asks may do, or look at, what is for administrators alone.

        @raise NotAuthenticated, Forbidden: if they may not.
        """
        self._access.checkAdmin(identityOf(request))

    def refused(self, request: Any, error: UWSError) -> None:
        """Something is not done: say how to log in, where that would help."""
        if isinstance(error, NotAuthenticated):
            challenge(request, self._access, self._baseURL(request))
        if isinstance(error, InsufficientScope):
            wantMore(request)
        if isinstance(error, NotAuthenticated | Forbidden):
            self._note(request)

    def _note(self, request: Any, of: str | None = None) -> None:
        if self._settings.audit is not None:
            self._settings.audit.note(request, self._settings.proxies, of)
