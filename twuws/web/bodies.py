"""
Requests whose bodies wait on disk, and end where they become too large.

The files of a form are written as they come, and not a second time.

Twisted keeps large bodies in the directory for temporary files, which often is memory, takes
them whatever their size, and closes a connection in a way that loses the answer to a client
that still sends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.server import Request

from twuws.endings import whyOf
from twuws.errors import BadRequest, TooLarge, Unavailable, UWSError
from twuws.logs import toldURI
from twuws.web import answers, headers
from twuws.web.beforehand import Room, mayHaveFiles, whoToAsk
from twuws.web.multipart import MULTIPART, Form, boundaryOf
from twuws.web.settings import WebSettings
from twuws.workdir import WorkDirs

#: Bodies of a known length below this, in bytes, stay in memory, as Twisted has it.
SMALL = 100_000

_log = Logger()


def requestFactory(
    directory: str | os.PathLike[str], settings: WebSettings | None = None
) -> Callable[..., SpooledRequest]:
    """
    What makes the requests of a C{Site}: C{Site(root, requestFactory=requestFactory(…))}.

    @param directory: where the directories of the jobs are, as C{UWS} is told.
    @param settings: those of the resources; C{maximumBody} holds for the whole site.
    """
    return partial(SpooledRequest, uploads=WorkDirs(directory), settings=settings or WebSettings())


def tooLarge(size: int | None, maximum: int, settings: WebSettings | None = None) -> TooLarge:
    """
    The error for a body of so many bytes; C{None} for one whose end has not come.

    @param settings: say which limit it is.
    """
    found = f"more than {maximum}" if size is None else str(size)
    isForm = settings is not None and maximum != settings.maximumBody
    name = "limits.text-size: files have no such limit" if isForm else "maximum-body"
    most = f"{maximum} is the most this service takes ({name})."
    return TooLarge(f"The body has {found} bytes; {most}")


class SpooledRequest(Request):
    """
    A request whose body, if it is large, is in an unlinked file.

    It makes no C{args} of a form, whatever the C{Site} says.  A body beyond the limit is answered
    with 413 as soon as that is known, and without C{100 Continue}.  To close the connection
    then would make the kernel reset it while the client still sends, and a reset overtakes
    the answer.  So only our side is closed, and what comes is passed over for a while.

    Before more of it is read than comes with the headers, a resource that has C{beforeBody}
    can say that it does not want it, or how much of it; see L{twuws.web.beforehand.BeforeBody}.

    @ivar form: what has been taken of a large multipart form, and is not in C{content}; it is
        removed if nobody has read it by the end.
    @ivar lingerSeconds: how long a client that was refused may go on, s.
    @ivar lingerBytes: how much it may send.
    """

    content: Any
    lingerSeconds = 10.0
    lingerBytes = 2**30

    def __init__(
        self,
        channel: Any,
        *args: Any,
        uploads: WorkDirs,
        settings: WebSettings,
    ) -> None:
        super().__init__(channel, *args, parsePOSTFormSubmission=False)
        self._uploads = uploads
        self._settings = settings
        self._maximumBody: int | None = None
        self._received = 0
        self._refusal: UWSError | None = None
        self._lingering: Any = None
        self._asking: Deferred[Any] | None = None
        self._room: Room | None = None
        self._awaited: list[str] = []
        self.form: Form | None = None

    def __repr__(self) -> str:
        """
        What logs say of it.  Twisted's own is an error for bytes that are no ASCII, and has the
        query, in which secrets can be.
        """
        uri = toldURI(self.uri).decode("ascii", "backslashreplace")
        return f"<{type(self).__name__} {self.method.decode('ascii', 'backslashreplace')} {uri}>"

    def gotLength(self, length: int | None) -> None:
        """The headers are there; a chunked body has the length C{None}."""
        if length == 0:
            self.content = BytesIO()
            return
        contentType = headers.textOf(self, "content-type") or ""
        most = self._maximumBody = self._mostOf(contentType)
        if most is not None and length is not None and length > most:
            self._refuse(tooLarge(length, most, self._settings))
        elif length is not None and length < SMALL:
            self.content = BytesIO()
        else:
            self._guarded(self._spool)
            if self._refusal is None:
                self.form = self._formToCome(contentType)
                self._ask(length)

    def _ask(self, length: int | None) -> None:
        """Have the resource say whether it wants this body, before more of it comes."""
        ask: Any = whoToAsk(self)
        if ask is None:
            return
        self._awaited = headers.allOf(self, "expect")  # the channel looks for it after gotLength
        self.requestHeaders.removeHeader(b"expect")
        self._transport().pauseProducing()
        self._asking = asking = Deferred.fromCoroutine(ask(self, length))
        asking.addCallbacks(self._wanted, self._unwanted)
        asking.addErrback(lambda f: _log.failure("going on with a request", f))

    def _wanted(self, room: Room | None) -> None:
        """It may come, as far as there is room."""
        self._room = room
        isAwaited = [one.lower() for one in self._awaited] == ["100-continue"]
        if isAwaited and self.clientproto == b"HTTP/1.1" and not self._received:
            self._transport().write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._goOn()

    def _unwanted(self, failure: Failure) -> None:
        """It may not, or nobody knows."""
        if failure.check(CancelledError):
            return
        if not failure.check(UWSError):
            _log.failure("asking whether a body is wanted", failure)
            self._wanted(None)
            return
        self._goOn()
        self._refuse(cast(UWSError, failure.value))

    def _goOn(self) -> None:
        """Nobody is asked any more."""
        asking, self._asking = self._asking, None
        if asking is not None and not asking.called:
            asking.cancel()
        self._transport().resumeProducing()

    def _transport(self) -> Any:
        channel: Any = self.channel
        return channel.transport

    def _formToCome(self, contentType: str) -> Form | None:
        """The form that the body will be, if it is one that somebody can read."""
        isPost = getattr(self.channel, "_command", None) == b"POST"  # what is PUT is a value
        isForm = contentType.lstrip().lower().startswith(MULTIPART)
        if not (isPost and isForm) or headers.textOf(self, "content-encoding") is not None:
            return None
        try:
            boundary = boundaryOf(contentType)
        except BadRequest:  # who reads it will say so
            return None
        return Form(self.content, boundary, self._uploads, self._settings.limits)

    def _mostOf(self, contentType: str) -> int | None:
        """How large a body of this type can be."""
        hasFiles = mayHaveFiles(contentType)
        limits = self._settings.maximumBody, None if hasFiles else self._settings.maximumForm
        return min((limit for limit in limits if limit is not None), default=None)

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body has come."""
        self._received += len(data)
        if self._refusal is not None:
            if self._received > self.lingerBytes:
                self._abort()
        elif self._maximumBody is not None and self._received > self._maximumBody:
            self._refuse(tooLarge(None, self._maximumBody, self._settings))
        elif self._room is not None and self._received > self._room.most:
            self._refuse(self._room.beyond(None))
        else:
            self._guarded(partial(self._store, data))

    def _store(self, data: bytes) -> None:
        if self.form is None or not self.form.feed(data):
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of the body has come."""
        if self._asking is not None:  # it was in what had been read by then
            self._goOn()
        if self._refusal is None:
            self._guarded(self.content.flush)
        if self._refusal is None:
            super().requestReceived(command, self._withoutHost(path), version)
            return
        self._stopLingering()
        self.method, self.uri, self.clientproto = command, path, version
        if not self.startedWriting:
            self.write(answers.failure(self, self._refusal))
        self.finish()

    def _withoutHost(self, target: bytes) -> bytes:
        """The path of a target that is a URL; its host is the C{Host} (RFC 9112, 3.2.2)."""
        if target.startswith(b"/"):
            return target
        found = re.fullmatch(rb"https?://([^/?]+)(.*)", target, re.IGNORECASE | re.DOTALL)
        if found is None:
            return target
        self.requestHeaders.setRawHeaders(b"host", [found[1]])
        return found[2] if found[2].startswith(b"/") else b"/" + found[2]

    def connectionLost(self, reason: Any) -> None:
        """The client has gone."""
        self._stopLingering()
        if self._asking is not None:
            self._asking.cancel()
        self._forgetForm()
        super().connectionLost(reason)

    def finish(self) -> None:
        """The answer is there."""
        self._forgetForm()
        super().finish()

    def _forgetForm(self) -> None:
        form, self.form = self.form, None
        if form is not None:
            form.forget()

    def _spool(self) -> None:
        directory = self._uploads.uploads()
        self.content = SpooledTemporaryFile(SMALL, dir=str(directory))  # noqa: SIM115

    def _guarded(self, write: Callable[[], object]) -> None:
        """Do what may find the disk full."""
        try:
            write()
        except OSError as e:
            _log.error("A request's body cannot be stored: {e}", e=e)
            self._refuse(Unavailable(f"The service cannot store this body now: {whyOf(e)}."))

    def _refuse(self, error: UWSError) -> None:
        """Answer now, if that can be; forget what has come, and take no more."""
        _log.info("A request of {peer} is refused: {error}", peer=self.client, error=error)
        self._refusal = error
        self._received = 0
        self._forgetForm()
        content, self.content = self.content, None
        if content is not None:
            with suppress(OSError):
                content.close()
        self.requestHeaders.removeHeader(b"expect")  # the channel looks for it after gotLength
        if isinstance(self.channel, HTTPChannel):  # else it is HTTP/2, and can wait for the end
            self.channel.persistent = False
            self.clientproto = b"HTTP/1.1"
            headers.begin(self, self._settings)
            self.setHeader(b"date", datetimeToString())
            self.setHeader(b"connection", b"close")
            self.write(answers.failure(self, error))
            self._linger(self.channel)

    def _linger(self, channel: Any) -> None:
        transport = channel.transport
        # TLS may hold the answer back for a moment; what lies below it must not be closed.
        if not ISSLTransport.providedBy(transport) and hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
        self._lingering = channel.callLater(self.lingerSeconds, self._abort)

    def _stopLingering(self) -> None:
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()

    def _abort(self) -> None:
        """This client would go on for ever."""
        channel: Any = self.channel
        if channel is not None:
            channel.transport.abortConnection()
