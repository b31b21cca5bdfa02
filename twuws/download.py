"""
One file from a URI: by http or https, within limits, and from public addresses only.

Clients name these URIs, so nothing about them is trusted: each redirect is checked as the
URI itself is, and a name counts for the addresses that it leads to when it is connected to.
No proxy, cookie or password of the host that this runs on is ever used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urldefrag, urljoin, urlsplit, urlunsplit

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

import twuws
from twuws.database import shield
from twuws.errors import UWSError
from twuws.outbound import PublicOnly, Way
from twuws.policy import FetchPolicy
from twuws.troubles import Trouble, notStored, tooLarge, troubleOf
from twuws.values import checkedSource, mediaTypeOf

log = Logger()

T = TypeVar("T")

#: How much of a body is held before it is written, bytes.
HELD = 256 * 2**10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What, beside 5xx, says that the same request may succeed later.
_LATER = frozenset({408, 425, 429})
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def placeOf(uri: str) -> str:
    """
    A URI for messages: as much of it as says whose it is.

    >>> placeOf("http://example.org:8080/a/b?secret=1")
    'http://example.org:8080/…'
    """
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc[:80]}/…"


class DownloadError(UWSError):
    """
    What a URI leads to could not be loaded.

    @ivar transient: whether it may well be loaded later.
    """

    def __init__(self, message: str, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """
    A file that was loaded.

    @ivar size: in bytes.
    @ivar mediaType: as the server gave it.
    """

    size: int
    mediaType: str


class _Body(Protocol):
    """
    Takes the body of an answer, no faster than it is read.

    @param patience: how long to wait for the next byte, s.
    """

    def __init__(self, reactor: Any, patience: float) -> None:
        self._reactor = reactor
        self._patience = patience
        self._held: list[bytes] = []
        self._size = 0
        self._ended: Failure | None = None
        self._waiting: Deferred[None] | None = None
        self._timer: Any = None

    def dataReceived(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size >= HELD:
            self.transport.pauseProducing()  # type: ignore[union-attr]
            self._wake()
        elif self._timer is not None and self._timer.active():
            self._timer.reset(self._patience)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    async def read(self) -> bytes:
        """
        Some of the body; nothing at its end.

        @raise Trouble: if nothing comes for too long.
        @raise Exception: what Twisted says where the body broke off.
        """
        if self._size < HELD and self._ended is None:
            await self._wait()
        data = b"".join(self._held)
        self._held.clear()
        self._size = 0
        if self._ended is None:
            self.transport.resumeProducing()  # type: ignore[union-attr]
        elif not data and not self._ended.check(ResponseDone, PotentialDataLoss):
            self._ended.raiseException()
        return data

    async def _wait(self) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        why = Trouble(f"sent nothing for {self._patience:g} s", transient=True)
        self._timer = self._reactor.callLater(self._patience, waiting.errback, Failure(why))
        try:
            await waiting
        finally:
            if self._timer.active():
                self._timer.cancel()


class _NewFile:
    """
    A file that is there once it is whole.  Its methods block.

    @param temporary: what it is called before.
    """

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path = path
        self._temporary = temporary
        self._out: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        """Add to it."""
        if self._out is None:
            self._out = self._temporary.open("xb")
        self._out.write(data)

    def finish(self) -> None:
        """It is whole."""
        self.write(b"")
        assert self._out is not None
        self._out.close()
        self._temporary.replace(self._path)

    def discard(self) -> None:
        """It will never be whole."""
        if self._out is not None:
            with suppress(OSError):  # no space for what was still to be written
                self._out.close()
            self._temporary.unlink(missing_ok=True)


class _InMemory:
    """The same in memory."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> None:
        """Add to it."""
        self.content += data

    def finish(self) -> None:
        """It is whole."""

    def discard(self) -> None:
        """It will never be whole."""


class Downloader:
    """
    Loads files from URIs, one request for each and its redirects.
    """

    #: How long a server has to take a connection, s.
    connectTimeout = 30.0
    #: How long a server can be silent, s.
    idleTimeout = 60.0

    def __init__(self, policy: FetchPolicy, reactor: Any) -> None:
        self.policy = policy
        self._reactor = reactor

    async def load(self, uri: str, path: Path, temporary: Path, most: int) -> Downloaded:
        """
        Load what a URI leads to into a file.  If that fails, or is cancelled, there is none.

        @param uri: one that L{checkedSource} has let pass.
        @param temporary: what the file is called until it is whole; must not be there.
        @param most: how large it can be, bytes.
        @raise DownloadError: naming the host, and saying what happened.
        """
        return await self._load(uri, _NewFile(path, temporary), most)

    async def read(self, uri: str, most: int) -> bytes:
        """
        What a URI leads to, if that is small.

        @param uri: one that L{checkedSource} has let pass.
        @param most: how large it can be, bytes.
        @raise DownloadError: as with L{load}.
        """
        out = _InMemory()
        await self._load(uri, out, most)
        return out.content

    async def _load(self, uri: str, out: _NewFile | _InMemory, most: int) -> Downloaded:
        way = [uri]
        following = Deferred.fromCoroutine(self._follow(way, out, most))
        try:
            return await following.addTimeout(self.policy.timeout, self._reactor)
        except TimeoutError:
            trouble = Trouble(f"took longer than {self.policy.timeout:g} s", transient=True)
        except Trouble as e:
            trouble = e
        via = f" redirects to {placeOf(way[-1])}, which" if len(way) > 1 else ""
        raise DownloadError(f"{placeOf(uri)}{via} {trouble}", trouble.transient)

    async def _follow(self, way: list[str], out: _NewFile | _InMemory, most: int) -> Downloaded:
        for _ in range(self.policy.redirects + 1):
            async with self._answer(way[-1]) as response:
                if response.code not in _REDIRECTS:
                    _checkAnswer(response)
                    size = await self._store(response, out, most)
                    (header,) = response.headers.getRawHeaders("content-type", [""])[:1]
                    return Downloaded(size=size, mediaType=mediaTypeOf(header))
                way.append(_redirected(way[-1], response))
        raise Trouble(f"redirected more than {self.policy.redirects} times")

    @asynccontextmanager
    async def _answer(self, uri: str) -> AsyncIterator[IResponse]:
        """The answer to a GET, whose connection ends with the block."""
        public = None if self.policy.privateAddresses else PublicOnly(self._reactor)
        way = Way(public or self._reactor, self.connectTimeout)
        patience = self.connectTimeout + self.idleTimeout
        try:
            try:
                asking = _toldOnce(self._ask(way, uri))
                response = await asking.addTimeout(patience, self._reactor)
            except CancelledError:
                raise
            except TimeoutError:
                raise Trouble(f"did not answer within {patience:g} s", transient=True) from None
            except Exception as e:
                refused = public.refused if public else []
                if refused:  # for the operator alone: names can be those of an internal network
                    log.info("{place} leads to private addresses: {refused}",
                             place=placeOf(uri), refused=refused)  # fmt: skip
                raise troubleOf(e, isRefused=bool(refused)) from None
            assert way.connection is not None
            way.connection.isAnswered = True
            yield response
        finally:
            way.end()

    def _ask(self, way: Way, uri: str) -> Deferred[IResponse]:
        headers = Headers()
        headers.addRawHeader("User-Agent", f"twuws/{twuws.__version__}")
        headers.addRawHeader("Accept", "*/*")
        headers.addRawHeader("Accept-Encoding", "identity")
        agent = Agent.usingEndpointFactory(self._reactor, way)
        asking: Deferred[IResponse] = agent.request(b"GET", _requestURI(uri), headers)
        return asking

    async def _store(self, response: IResponse, out: _NewFile | _InMemory, most: int) -> int:
        if isinstance(response.length, int) and response.length > most:
            raise tooLarge(self.policy.maximumSize)
        body = _Body(self._reactor, self.idleTimeout)
        response.deliverBody(body)
        size = 0
        try:
            while data := await body.read():
                size += len(data)
                if size > most:
                    raise tooLarge(self.policy.maximumSize)
                await self._wholly(out.write, data)
            await self._wholly(out.finish)
        except Exception as e:
            await self._wholly(out.discard)
            if isinstance(e, CancelledError | Trouble):
                raise
            raise (notStored(e) if isinstance(e, OSError) else troubleOf(e)) from None
        return size

    async def _wholly(self, action: Callable[..., T], *args: Any) -> T:
        """Do what blocks in a thread, to its end even if that is cancelled meanwhile."""
        pool = self._reactor.getThreadPool()
        doing = deferToThreadPool(self._reactor, pool, action, *args)
        try:
            return await shield(doing)
        except CancelledError:
            while not doing.called:
                with suppress(CancelledError):
                    await shield(doing)
            raise


# Requests and answers.


def _requestURI(uri: str) -> bytes:
    """A URI as Agent takes it: its port spelled out, nothing of it open to interpretation."""
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    whole = (parts.scheme, f"{host}:{port}", parts.path or "/", parts.query, "")
    return urlunsplit(whole).encode("ascii")


def _checkAnswer(response: IResponse) -> None:
    """Raise L{Trouble} for what is no file."""
    code = response.code
    if code not in (200, 203):
        known = {status.value: f" {status.phrase}" for status in HTTPStatus}
        transient = code >= 500 or code in _LATER
        raise Trouble(f"answered {code}{known.get(code, '')}", transient)
    codings = ",".join(response.headers.getRawHeaders("content-encoding", []))
    if not {coding.strip().lower() for coding in codings.split(",")} <= {"", "identity"}:
        raise Trouble("compressed its answer (Content-Encoding), although it was asked not to")


def _redirected(uri: str, response: IResponse) -> str:
    """Where a redirect leads."""
    location = response.headers.getRawHeaders(b"location", [b""])[0].strip()
    if not location:
        raise Trouble(f"answered {response.code}, and not where it redirects to")
    try:
        found = urldefrag(urljoin(uri, quote(location, safe=_ASCII))).url
        checkedSource(found)
    except ValueError as e:
        raise Trouble(f"redirects to what nothing is loaded from: {e}") from None
    if uri.lower().startswith("https:") and not found.lower().startswith("https:"):
        raise Trouble("redirects from https to http, which is not followed")
    return found


def _toldOnce(asking: Deferred[T]) -> Deferred[T]:
    """
    A Deferred that fails with C{CancelledError} if it is cancelled: what Twisted makes of
    that cannot be told from other troubles.
    """
    isCancelled = False

    def cancel(_: Deferred[T]) -> None:
        nonlocal isCancelled
        isCancelled = True
        asking.cancel()

    def fired(result: T | Failure) -> None:
        if not isCancelled:
            told.callback(result)  # a Failure, too, fires what it should

    told: Deferred[T] = Deferred(cancel)
    asking.addBoth(fired)
    return told
