"""
Bytes on sockets, as an attacker would have them: nothing is checked, and nothing is made right.
"""

from __future__ import annotations

import io
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException, HTTPResponse
from itertools import cycle
from select import POLLERR, POLLHUP, POLLIN, POLLRDHUP, poll
from types import SimpleNamespace
from typing import Any

#: Where an attacker is.
HERE = "127.0.1.1"
#: How long an answer may take, s.
SOON = 15.0
#: What no answer may show: how the service is made, and where.
NEVER = (b"Traceback (most recent", b'File "/', b"psycopg2", b"site-packages", b"SELECT ")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    @ivar rest: what came after it.
    """

    status: int
    headers: Message
    body: bytes
    rest: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def mediaType(self) -> str:
        return (self.headers.get("content-type") or "").partition(";")[0]


def connected(port: int, source: str = HERE, timeout: float = SOON) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout, (source, 0))


def request(
    method: str | bytes,
    path: str | bytes,
    headers: Iterable[tuple[str, str | bytes]] = (),
    body: bytes | None = None,
    close: bool = True,
) -> bytes:
    """The bytes of a request; texts are taken for Latin-1."""
    lines = [b"%s %s HTTP/1.1" % (_bytes(method), _bytes(path))]
    pairs = list(headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("Host", "uws.example"))
    if close:
        pairs.append(("Connection", "close"))
    if body is not None and not any(name.lower() == "content-length" for name, _ in pairs):
        pairs.append(("Content-Length", str(len(body))))
    lines += [b"%s: %s" % (_bytes(name), _bytes(value)) for name, value in pairs]
    return b"\r\n".join([*lines, b"", body or b""])


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def exchange(port: int, data: bytes, source: str = HERE, timeout: float = SOON) -> bytes:
    """
    All that comes back until the connection is closed; what was not taken is no error.

    @raise AssertionError: if it is not closed in time.
    """
    found = b""
    until = time.monotonic() + timeout
    with connected(port, source, timeout) as s:
        with suppress(OSError):
            s.sendall(data)
        try:
            while piece := s.recv(2**16):
                found += piece
                s.settimeout(max(until - time.monotonic(), 0.001))
        except TimeoutError:
            raise AssertionError(
                f"after {timeout:g} s: {data[:200]!r} got {found[:200]!r}"
            ) from None
        except ConnectionError:
            pass
    return found


def parsed(raw: bytes, method: str = "GET") -> Answer:
    """The first answer in what came back; L{HTTPException} if there is none."""
    stream = io.BytesIO(raw)
    kept = _Kept(stream)
    found = HTTPResponse(SimpleNamespace(makefile=lambda mode: kept), method=method)  # type: ignore[arg-type]
    found.begin()
    body = found.read()
    return Answer(
        status=found.status, headers=found.msg, body=body, rest=stream.read(), seconds=0.0
    )


class _Kept(io.BufferedReader):
    """What is read on after an answer has closed it."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, 1)
        self.stream = stream

    def close(self) -> None:
        """Not yet."""


class Client:
    """
    Somebody who asks a service.

    @ivar source: from which address.
    """

    def __init__(self, port: int, source: str = HERE) -> None:
        self.port, self.source = port, source

    def ask(
        self,
        method: str,
        path: str | bytes,
        headers: Any = (),
        body: bytes | None = None,
        timeout: float = SOON,
    ) -> Answer:
        """
        What is answered to one request on a connection of its own.

        @param headers: a dictionary, or pairs.
        """
        pairs = headers.items() if isinstance(headers, dict) else headers
        data = request(method, path, pairs, body)
        began = time.monotonic()
        raw = exchange(self.port, data, self.source, timeout)
        assert raw, f"no answer to {data[:200]!r}"
        try:
            found = parsed(raw, method)
        except HTTPException as e:
            raise AssertionError(f"{data[:200]!r} got {raw[:200]!r}: {e!r}") from None
        seconds = time.monotonic() - began
        shown = [one for one in NEVER if one in raw]
        assert not shown, f"{data[:200]!r} got {shown}: {raw[:2000]!r}"
        return Answer(**{**vars(found), "seconds": seconds})

    def get(self, path: str | bytes, headers: Any = ()) -> Answer:
        return self.ask("GET", path, headers)

    def post(
        self, path: str, body: bytes = b"", mediaType: str = FORM, headers: Any = ()
    ) -> Answer:
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        return self.ask("POST", path, [("Content-Type", mediaType), *pairs], body)

    def make(self, path: str = "/work/async", body: bytes = b"", headers: Any = ()) -> str:
        """Make a job; its path."""
        answer = self.post(path, body, headers=headers)
        assert answer.status == 303, (answer.status, answer.text)
        return "/" + answer.headers["location"].split("/", 3)[3]

    def end(self, path: str, headers: Any = ()) -> None:
        """Destroy a job."""
        answer = self.ask("DELETE", path, headers)
        assert answer.status == 303, (answer.status, answer.text)

    def untilEnded(self, path: str, headers: Any = ()) -> str:
        """Run a job; its phase once it has ended."""
        answer = self.post(path + "/phase", b"PHASE=RUN", headers=headers)
        assert answer.status == 303, (answer.status, answer.text)
        until = time.monotonic() + 60
        while (phase := self.get(path + "/phase", headers).text) in ("QUEUED", "EXECUTING"):
            assert time.monotonic() < until, phase
            self.ask("GET", path + "?WAIT=5", headers)
        return phase


def asJSON(value: Any) -> bytes:
    return json.dumps(value).encode()


# Many at once


@dataclass
class Fates:
    """
    What became of many connections.

    @ivar closed: after how many seconds each was closed by the service.
    @ivar statuses: how many were answered how; 0 for not at all.
    @ivar kept: how many it still held at the end.
    """

    closed: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    kept: int = 0

    def __str__(self) -> str:
        told = ", ".join(
            f"{n} x {status or 'closed'}" for status, n in sorted(self.statuses.items())
        )
        last = f"the last after {max(self.closed):.0f} s" if self.closed else "none closed"
        return f"{told}; {last}; {self.kept} kept"


#: Crowds don't share addresses, which can have so many connections each.
_networks = cycle(range(1, 250))


@dataclass
class _One:
    socket: socket.socket
    number: int
    head: bytes = b""
    drips: int = 0


class Crowd:
    """
    Many connections that are slow, from many addresses.

    @param first: what each sends at first, by its number.
    @param drip: what each sends once in C{interval} s, by its number and how often it has; C{None}
        for nothing.
    @param reads: whether they read what is answered.
    """

    def __init__(
        self,
        port: int,
        size: int,
        first: Callable[[int], bytes],
        drip: Callable[[int, int], bytes] | None = None,
        interval: float = 5.0,
        reads: bool = True,
    ) -> None:
        self._port, self._size = port, size
        self._first, self._drip, self._interval, self._reads = first, drip, interval, reads
        self._poll = poll()
        self._all: dict[int, _One] = {}
        self._fates = Fates()
        self._network = next(_networks)

    def run(self, seconds: float, untilHeld: Callable[[], object] = lambda: None) -> Fates:
        """
        Connect all, and go on until the service has closed all of them or the time is over.

        @param untilHeld: called once when all are there.
        """
        self._began = time.monotonic()
        try:
            for number in range(self._size):
                self._connect(number)
                if number % 50 == 0:
                    self._look(0)
            untilHeld()
            while self._all and (left := self._began + seconds - time.monotonic()) > 0:
                self._look(min(left, 0.2))
                self._drop()
            self._fates.kept = len(self._all)
        finally:
            for one in self._all.values():
                one.socket.close()
        return self._fates

    def _connect(self, number: int) -> None:
        s = socket.socket()
        if not self._reads:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(SOON)
        s.bind((f"127.{self._network}.0.{number % 40 + 1}", 0))
        s.connect(("127.0.0.1", self._port))
        s.setblocking(False)
        self._all[s.fileno()] = _One(s, number)
        self._poll.register(s, (POLLIN if self._reads else 0) | POLLRDHUP)
        self._send(self._all[s.fileno()], self._first(number))

    def _send(self, one: _One, data: bytes) -> None:
        with suppress(OSError):
            one.socket.send(data)

    def _drop(self) -> None:
        if self._drip is None:
            return
        passed = time.monotonic() - self._began
        for one in self._all.values():
            # Each at its own time, so that they don't come all at once.
            if passed > (one.drips + one.number / self._size) * self._interval:
                self._send(one, self._drip(one.number, one.drips))
                one.drips += 1

    def _look(self, seconds: float) -> None:
        for descriptor, event in self._poll.poll(seconds * 1000):
            one = self._all[descriptor]
            isClosed = bool(event & (POLLERR | POLLHUP | POLLRDHUP))
            if event & POLLIN:
                try:
                    piece = one.socket.recv(2**16)
                    one.head = (one.head + piece)[:20]
                    isClosed = not piece
                except BlockingIOError:
                    pass
                except OSError:
                    isClosed = True
            if isClosed:
                self._closed(one)

    def _closed(self, one: _One) -> None:
        words = one.head.split()
        self._fates.statuses[int(words[1]) if len(words) > 1 else 0] += 1
        self._fates.closed.append(time.monotonic() - self._began)
        self._poll.unregister(one.socket)
        del self._all[one.socket.fileno()]
        one.socket.close()
