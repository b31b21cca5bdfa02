"""
Jobs that their owners share, under URLs of their own: to be looked at by whoever has the URL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twuws.errors import BadRequest, Forbidden, NotFound
from twuws.uws import UWS
from twuws.web import answers
from twuws.web.controls import Controls
from twuws.web.settings import WebSettings
from twuws.web.uwsactions import Asked, JobAction, JobActions, choose, methodOf

#: For how long a job is shared if nobody says, s.
USUAL_LIFETIME = 86400


@dataclass(frozen=True, kw_only=True)
class SharedAsked(Asked):
    """
    A request for something that is shared.

    @ivar sharedURL: the job's, for who asks; documents have no other.
    """

    sharedURL: str

    @property
    def jobURL(self) -> str:
        return self.sharedURL


class ShareAction(JobAction):
    """POST shares the job by a URL; C{LIFETIME} says for how long, in s."""

    name = "share"

    async def doPOST(self, asked: Asked) -> Any:
        most = asked.settings.longestShare
        if not most:
            raise Forbidden("This service does not let jobs be shared.")
        lifetime = min(_lifetime(asked.request), most)
        token = await asked.uws.shares.token(asked.jobId, lifetime)
        url = f"{asked.jobListURL.rpartition('/')[0]}/shared/{token}"
        asked.request.setHeader("location", url)
        asked.request.setHeader("cache-control", "no-store")
        return answers.text(asked.request, f"{url}\n")


def _lifetime(request: Any) -> int:
    values = request.args.pop("LIFETIME", [])
    others = [*request.args, *request.files]
    if others:
        raise BadRequest(f"{others[0]}: a job is shared with LIFETIME, or with nothing")
    if not values:
        return USUAL_LIFETIME
    text = values[0].strip()
    if len(values) > 1 or not (text.isascii() and text.isdecimal() and int(text[:12]) > 0):
        raise BadRequest("LIFETIME: it is not one number of seconds, 1 or more")
    return int(text[:12])


class Shared:
    """
    What is at C{shared} of a service, and only looked at.

    @param baseURL: the service's, as the client of a request knows it.
    @param read: reads a request's arguments.
    @param show: answers with the job.
    """

    def __init__(
        self,
        uws: UWS,
        settings: WebSettings,
        baseURL: Callable[[Any], str],
        actions: JobActions,
        read: Callable[[Any], Awaitable[Controls]],
        show: Callable[[Any], Awaitable[bytes]],
    ) -> None:
        self._uws = uws
        self._settings = settings
        self._baseURL = baseURL
        self._actions = actions
        self._read = read
        self._show = show

    async def answer(self, request: Any, *segments: str) -> Any:
        """Answer for a job, or for something below it, as C{async} does."""
        request.setHeader("referrer-policy", "no-referrer")  # the URL is all that it takes
        if not segments:
            raise NotFound("Jobs that are shared are below this, each at a URL of its own.")
        method = methodOf(request)
        if method not in ("GET", "HEAD", "OPTIONS") or not self._settings.longestShare:
            raise Forbidden("What is shared can be looked at, and nothing else.")
        token, *below = segments
        jobId = await self._uws.shares.jobId(token)
        action = self._actions[below[0]] if below else None
        base = self._baseURL(request)
        asked = SharedAsked(
            uws=self._uws,
            jobId=jobId,
            request=request,
            controls=Controls(),
            settings=self._settings,
            segments=tuple(below[1:]),
            found=await self._uws.getJob(jobId),
            sharedURL=f"{base}/shared/{token}",
        )
        every = action.handlers(asked.segments) if action else {"GET": self._show}
        handler = choose({"GET": every["GET"]} if "GET" in every else {}, method)
        await self._read(request)
        return await handler(asked)
