"""
Large bodies that are not wanted, told so before they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from twuws.errors import Forbidden, TooLarge, UWSError
from twuws.uws import UWS
from twuws.web import headers
from twuws.web.admission import Admission
from twuws.web.controls import IDEMPOTENCY_KEY
from twuws.web.identifying import identityOf
from twuws.web.jsonbodies import isJSON
from twuws.web.limits import LITTLE_BODY
from twuws.web.origin import clientOf, ensureHost
from twuws.web.settings import WebSettings

#: How large what is around the files of a form can be, beside its text, bytes.
_AROUND = 2**16


@dataclass(frozen=True, kw_only=True)
class Room:
    """
    How large a body can be, bytes, and the error for one that is larger.

    @ivar beyond: is given the body's size, if that is known, or else C{None}.
    """

    most: int
    beyond: Callable[[int | None], UWSError]


#: What a resource can have as C{beforeBody}: it is given a request of which the headers are
#: there, and the size of its body if that is known, and raises, or says what there is room for.
BeforeBody = Callable[[Any, int | None], Coroutine[Any, Any, Room | None]]


def mayHaveFiles(contentType: str) -> bool:
    """Whether a body of this type can be more than text."""
    kind = contentType.partition(";")[0].strip().lower()
    return kind != "application/x-www-form-urlencoded" and not isJSON(kind)


def whoToAsk(request: Any) -> BeforeBody | None:
    """
    Who knows whether the body of a request is wanted; C{None} if nobody does.

    The request looks like one that is complete from then on, but for its body.
    """
    channel = request.channel
    command, target = (getattr(channel, name, None) for name in ("_command", "_path"))
    if command not in (b"POST", b"PUT") or not target or not hasattr(channel, "site"):
        return None
    request.method, request.uri, request.clientproto = command, target, channel._version
    request.path = target.partition(b"?")[0]
    request.prepath = []
    request.postpath = [unquote_to_bytes(one) for one in request.path[1:].split(b"/")]
    found: BeforeBody | None = getattr(channel.site.getResourceFor(request), "beforeBody", None)
    return found


#: Where nothing is made and nothing stored.
LITTLE = Room(
    most=LITTLE_BODY,
    beyond=lambda size: TooLarge(f"A body can have {LITTLE_BODY} bytes here."),
)


async def nothingMuch(request: Any, size: int | None) -> Room:
    """The C{beforeBody} of what has no use for bodies."""
    if size is not None and size > LITTLE.most:
        raise LITTLE.beyond(size)
    return LITTLE


class Beforehand:
    """
    What one service says of a body that has not come.
    """

    def __init__(self, uws: UWS, settings: WebSettings, admission: Admission) -> None:
        self._uws = uws
        self._settings = settings
        self._admission = admission

    async def check(self, request: Any, size: int | None) -> Room | None:
        """
        See whether who asks may send a body here, and how much they can store.

        @raise UWSError: if all of it would be refused whatever is in it.
        """
        ensureHost(request)
        request.mountPath = tuple(request.prepath)
        name, *way = [one.decode("utf-8", "replace") for one in request.postpath] or [""]
        segments = [one for one in way if one]
        try:
            room: Room | None = LITTLE
            if name in ("async", "sync"):
                await self._admission.admit(request, name, segments)
                room = await self._room(request, name, segments)
            if room is not None and size is not None and size > room.most:
                raise room.beyond(size)
        except UWSError as e:
            self._admission.refused(request, e)
            raise
        return room

    async def _room(self, request: Any, name: str, segments: list[str]) -> Room | None:
        if segments:
            job = await self._uws.getJob(segments[0])
            self._admission.checkJob(request, job)
            found = await self._uws.storedBeside(job.jobId)
        elif headers.allOf(request, IDEMPOTENCY_KEY):
            return None  # it may be answered with the job that there is
        else:
            whose = identityOf(request).name, clientOf(request, self._settings)
            found = await self._uws.checkRoom(*whose, isToRun=name == "sync")
        most = self._uws.accountLimits.stored
        kind = headers.textOf(request, "content-type") or ""
        if found is None or most is None or not mayHaveFiles(kind):
            return None
        # Text is not stored as a file, and how much of it there is nobody knows.
        around = self._settings.limits.textSize + _AROUND
        return Room(most=most - found + around, beyond=_Beyond(most, found))


@dataclass(frozen=True)
class _Beyond:
    """The error for a body that is larger than what can be stored."""

    most: int
    found: int

    def __call__(self, size: int | None) -> UWSError:
        told = "more bytes than there is room for" if size is None else f"{size} bytes"
        message = (
            f"The body has {told}: your jobs store {self.found} bytes, and {self.most} are the"
            " most (limits.stored)."
        )
        if self.found == 0:
            return TooLarge(message)
        return Forbidden(f"{message}  Destroy jobs that you do not need any more.")
