"""Connections: how many there can be, and what each has to do in time, over real sockets."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import psutil
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.remote import certificate
from tests.serving import serve
from tests.test_admin import empty as empty
from tests.test_admin import place as place
from tests.working import until, waitUntil
from twuws.web.bodies import requestFactory
from twuws.web.channel import CHUNKS_AT_A_TIME, ConnectionLimits
from twuws.web.settings import WebSettings
from twuws.web.site import PoliteSite

HEAD = (
    b"POST /noted/async HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
)
GET = b"GET /noted/async HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def begin(database, tmp_path):
    """Begins a service whose site has these limits."""
    import pytest_twisted

    made = []

    async def begin(spared=lambda host: False, settings=None, **limits):
        from twisted.internet import reactor

        settings = settings or WebSettings()
        factory = requestFactory(tmp_path / "jobs", settings)

        def makeSite(root):
            site = PoliteSite(root, factory, reactor, ConnectionLimits(**limits), spared)
            site.interval = 0.05
            return site

        serving = await serve(database, tmp_path / "jobs", settings=settings, makeSite=makeSite)
        serving.number = serving.port.getHost().port
        serving.site = serving.port.factory
        made.append(serving)
        return serving

    yield begin

    async def stop(serving):
        await serving.stop()
        await until(lambda: not serving.site._connections and not serving.site.turnedAway)

    for serving in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(stop(serving)))


class Client:
    """A socket, in threads, so that the service can go on."""

    def __init__(self, serving, receive=None):
        self.socket = socket.socket()
        if receive is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(20)
        self.address = ("127.0.0.1", serving.number)

    async def connect(self):
        await deferToThread(self.socket.connect, self.address)
        return self

    def send(self, data):
        return deferToThread(self.socket.sendall, data)

    def answer(self):
        """All that comes until the connection is closed; an end by reset is marked."""
        return deferToThread(self._answer)

    def _answer(self):
        parts = []
        try:
            while data := self.socket.recv(65536):
                parts.append(data)
        except ConnectionResetError:
            parts.append(b"[reset]")
        return b"".join(parts)

    async def drip(self, data, seconds=0.05):
        """Send it byte by byte, until the other side has enough; the answer."""

        def go():
            with suppress(OSError):
                for i in range(len(data)):
                    self.socket.sendall(data[i : i + 1])
                    time.sleep(seconds)
                    self.socket.settimeout(0.001)
                    with suppress(TimeoutError):
                        if self.socket.recv(1, socket.MSG_PEEK):
                            break
                    self.socket.settimeout(20)
            self.socket.settimeout(20)
            return self._answer()

        return await deferToThread(go)

    def close(self):
        self.socket.close()


async def client(serving, **more):
    return await Client(serving, **more).connect()


def messageOf(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


# In time


async def test_slow_headers(begin):
    """Who sends a byte now and then is ended all the same, and told why."""
    serving = await begin(headerTime=0.5)
    one = await client(serving)
    began = time.monotonic()
    status, why = messageOf(await one.drip(HEAD * 100))
    assert status == 408
    assert why == "The headers took longer than 0.5 s (limits.header-time).\n"
    assert time.monotonic() - began < 5
    one.close()


async def test_slow_headers_of_a_second_request(begin):
    serving = await begin(headerTime=0.5)
    one = await client(serving)
    await one.send(GET)
    await deferToThread(one.socket.recv, 65536)
    await deferLater(serving.reactor, 0.6)  # between requests a connection may be idle
    await one.send(GET + GET[:5])  # the next one begins while this is answered
    answer = await one.drip(GET[5:10] + b"x" * 1000)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"limits.header-time" in answer
    one.close()


async def test_slow_body(begin):
    """A byte now and then is not enough, and what came fast before does not count for long."""
    serving = await begin(bodyRate=1000, bodyGrace=0.5, settings=WebSettings())
    for first in (b"", b"x" * 200_000):
        one = await client(serving)
        await one.send(HEAD + b"Content-Length: 1000000\r\n\r\n" + first)
        status, why = messageOf(await one.drip(b"x" * 1000))
        assert status == 408
        assert "1000 bytes/s for 0.5 s (limits.body-rate, limits.body-grace)" in why
        one.close()
    assert list((serving.uws.workDirs.root / ".uploads").glob("*")) == []


async def test_body_that_is_just_fast_enough(begin):
    serving = await begin(bodyRate=100, bodyGrace=0.5)
    one = await client(serving)
    body = b"label=" + b"x" * 100
    await one.send(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert messageOf(await one.drip(body, 0.008))[0] == 303
    one.close()


async def test_chunks_without_end(begin):
    serving = await begin(bodyRate=1000, bodyGrace=0.5)
    one = await client(serving)
    await one.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    status, why = messageOf(await one.drip(b"1\r\nx\r\n" * 100))
    assert (status, "limits.body-rate" in why) == (408, True)
    one.close()


async def test_idle(begin):
    serving = await begin(idleTime=0.3)
    one, other = await client(serving), await client(serving)
    await other.send(GET)
    assert await one.answer() == b""
    assert (await other.answer()).startswith(b"HTTP/1.1 200")
    one.close()
    other.close()


async def test_who_waits_may(begin):
    """None of it is for those who wait for an answer."""
    serving = await begin(headerTime=0.3, bodyRate=10**6, bodyGrace=0.3, idleTime=0.3, sendTime=0.3)
    url = await serving.create()
    path = re.sub("https?://[^/]*", "", url).encode()
    one = await client(serving)
    await one.send(b"GET %s?WAIT=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
    began = time.monotonic()
    assert messageOf(await one.answer())[0] == 200
    assert time.monotonic() - began > 1.8
    one.close()


async def test_who_does_not_read(begin):
    """A download of which nobody reads any more ends."""
    serving = await begin(sendTime=0.3, bodyRate=10**9)
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    (file,) = serving.uws.workDirs.root.glob("*/*/results/result.csv")
    with file.open("r+b") as f:
        f.truncate(50_000_000)
    path = re.sub("https?://[^/]*", "", url).encode()
    request = b"GET %s/results/result HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path
    slow = await client(serving, receive=4096)
    await slow.send(request)
    await until(lambda: serving.site._watched)
    await until(lambda: not serving.site._connections)
    fast = await client(serving)
    await fast.send(request)
    assert len(await fast.answer()) > 50_000_000
    assert len(await slow.answer()) < 50_000_000
    slow.close()
    fast.close()


# What it sends


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        (
            b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n",
            414,
            "4096 bytes together (limits.header-size)",
        ),
        (b"GET /" + b"x" * 50_000, 414, "4096 bytes together (limits.header-size)"),
        (HEAD + b"X: " + b"x" * 4010 + b"\r\n\r\n", 431, "4096 bytes"),
        (HEAD + b"X: " + b"x" * 500_000, 431, "4096 bytes"),
        (HEAD + b"X: y\r\n" * 600 + b"\r\n", 431, "50 headers (limits.headers)"),
        (HEAD + b"X: y\r\n" * 49 + b"\r\n", 431, "50 headers (limits.headers)"),
    ],
)
async def test_headers(begin, request_, status, says):
    serving = await begin(headers=50, headerSize=4096)
    one = await client(serving)
    await one.send(request_)
    answer = await one.answer()
    assert not answer.endswith(b"[reset]")
    assert messageOf(answer)[0] == status, answer
    assert says in messageOf(answer)[1]
    one.close()


async def test_headers_that_just_fit(begin):
    serving = await begin(headers=50, headerSize=4096)
    for more in (b"X: y\r\n" * 47, b"X: " + b"x" * (4096 - len(HEAD) - 26) + b"\r\n"):
        one = await client(serving)
        await one.send(HEAD + more + b"Connection: close\r\n\r\n")
        assert messageOf(await one.answer())[0] == 303
        one.close()


# How many


async def test_connections_of_an_address(begin):
    serving = await begin(perAddress=3)
    some = [await client(serving) for _ in range(3)]
    await until(lambda: len(serving.site._connections) == 3)
    one = await client(serving)
    await one.send(GET)
    answer = await one.answer()
    assert messageOf(answer) == (
        429, "You have 3 connections, and more are not to be had"
        " (limits.connections-per-address).\n",
    )  # fmt: skip
    assert b"\r\nRetry-After: " in answer
    one.close()
    some.pop().close()
    await until(lambda: len(serving.site._connections) == 2)
    some.append(await client(serving))
    await some[-1].send(GET)
    assert (await deferToThread(some[-1].socket.recv, 100)).startswith(b"HTTP/1.1 200")
    for one in some:
        one.close()


async def test_spared(begin):
    serving = await begin(spared=lambda host: host == "127.0.0.1", perAddress=1)
    some = [await client(serving) for _ in range(3)]
    for one in some:
        await one.send(GET)
        assert (await deferToThread(one.socket.recv, 100)).startswith(b"HTTP/1.1 200")
        one.close()


async def test_connections_of_all(begin):
    serving = await begin(inAll=4)
    some = [await client(serving) for _ in range(4)]
    await until(lambda: len(serving.site._connections) == 4)
    one = await client(serving)
    status, why = messageOf(await one.answer())
    assert (status, "4 connections" in why, "limits.connections" in why) == (503, True, True)
    for each in (one, *some):
        each.close()


async def test_many_too_many(begin):
    """Only so many are told why; the others are hung up on, and nothing of them stays."""
    serving = await begin(perAddress=1)
    first = await client(serving)
    await until(lambda: serving.site._connections)
    crowd = [await client(serving) for _ in range(150)]
    answers = [await one.answer() for one in crowd]
    told = sum(one.startswith(b"HTTP/1.1 429") for one in answers)
    assert told >= 100
    assert all(one in (b"", b"[reset]") or one.startswith(b"HTTP/1.1 429") for one in answers)
    for one in (first, *crowd):
        one.close()


async def test_nothing_is_left(begin):
    """A connection that is over is in no list."""
    serving = await begin(perAddress=5)
    calls = [client(serving) for _ in range(5)]
    some = [await one for one in calls]
    for one in some:
        await one.send(HEAD)
    await until(lambda: len(serving.site._watched) == 5)
    for one in some:
        one.close()
    await until(lambda: not serving.site._watched)
    assert (serving.site._watching, dict(serving.site._number)) == (None, {})


# Over TLS, and as a whole


async def test_tls(begin, tmp_path):
    """It is the same there, and HTTP/2 is not offered."""
    serving = await begin(headerSize=4096, perAddress=1)
    tls = certificate("127.0.0.1")
    port = serving.reactor.listenSSL(0, serving.site, tls.options(), interface="127.0.0.1")
    trusting = ssl.create_default_context(
        cadata=tls.dumpPEM().decode().partition("-----BEGIN PRI")[0]
    )
    trusting.set_alpn_protocols(["h2", "http/1.1"])

    def exchange(request):
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as plain:
            with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as one:
                one.sendall(request)
                parts = []
                with suppress(ssl.SSLEOFError, ConnectionResetError):
                    while data := one.recv(65536):
                        parts.append(data)
                return one.selected_alpn_protocol(), b"".join(parts)

    end = b"Connection: close\r\n\r\n"
    for request, status in (
        (GET[:-2] + end, 200),
        (GET[:-2] + b"X: " + b"x" * 5000 + b"\r\n" + end, 431),
    ):
        protocol, answer = await deferToThread(exchange, request)
        assert (protocol, messageOf(answer)[0]) == ("http/1.1", status)
        await until(lambda: not serving.site._connections)
    first = await client(serving)
    await until(lambda: serving.site._connections)
    _, answer = await deferToThread(exchange, GET)
    assert messageOf(answer)[0] == 429
    first.close()
    await port.stopListening()


def answerOf(one):
    """The beginning of what comes; nothing if there is nothing but an end."""
    try:
        return one.recv(100)
    except ConnectionResetError:
        return b""


@pytest.mark.slow
def test_few_descriptors(place, tmp_path):
    """There are always some for the service itself: it takes no more connections than it can."""
    code = "from twisted.scripts.twistd import run; run()"
    words = [
        "-n",
        "--pidfile=",
        "uws",
        "--listen=tcp:0:interface=127.0.0.1",
        *map(str, place.options),
    ]
    process = subprocess.Popen(
        ["sh", "-c", 'ulimit -n 200 && exec "$@"', "", sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    crowd = []
    try:
        said = ""
        while "twuws serves" not in said:
            said = process.stdout.readline()
            assert said, process.wait()
        port = int(re.search(r"127.0.0.1:(\d+)/", said)[1])
        for _ in range(300):
            crowd.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        with crowd[0] as one:  # who was there before is answered, and a job can be made
            one.sendall(b"POST /digest/async HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 303")
        status = [answer[9:12] for answer in map(answerOf, crowd[75:])]
        assert {b"503"} <= set(status) <= {b"503", b""}
        assert psutil.Process(process.pid).num_fds() < 150
        for one in crowd[1:]:
            one.close()
        waitUntil(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/digest/availability"))
    finally:
        for one in crowd:
            one.close()
        process.terminate()
        log = process.communicate(timeout=30)[0]
    assert "Too many open files" not in log


async def test_many_requests_at_a_time(begin):
    """Those of one client are not answered all before those of another."""
    serving = await begin()
    peers = []

    def make(channel, *args, **more):
        peers.append(channel.transport.getPeer().port)
        return factory(channel, *args, **more)

    factory, serving.site.requestFactory = serving.site.requestFactory, make
    ask = b"GET /noted/capabilities HTTP/1.1\r\nHost: x\r\n%s\r\n"
    whole = ask % b"" * 100 + ask % b"Connection: close\r\n"
    both = [await client(serving), await client(serving)]
    for one in both:
        one.socket.sendall(whole)  # while the service does nothing
    for one in both:
        assert (await one.answer()).count(b"HTTP/1.1 200 OK") == 101
    assert len(set(peers[:10])) == 2


async def test_chunks_take_turns(begin):
    """Little of a body in chunks is read at a time, for it may be a thousand of them."""
    serving = await begin()
    sizes = []

    def make(channel, *args, **more):
        request = factory(channel, *args, **more)
        chunk = request.handleContentChunk

        def handle(data):
            sizes.append(channel.transport.bufferSize)
            chunk(data)

        request.handleContentChunk = handle
        return request

    factory, serving.site.requestFactory = serving.site.requestFactory, make
    one = await client(serving)
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    await one.send(chunked + b"1\r\na\r\n1\r\n=\r\n0\r\n\r\n")
    await one.send(HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nb=c")
    assert (await one.answer()).count(b"HTTP/1.1 303") == 2
    assert sizes == [CHUNKS_AT_A_TIME, CHUNKS_AT_A_TIME, 65536]


async def test_answers_come_in_order(begin):
    """Also where the answer to one takes longer than to the next, and after a body."""
    serving = await begin()
    job = (await serving.create({"label": "first"})).encode().partition(b"/noted")[2]
    body = b"label=second"
    asked = b"".join(
        (
            b"GET /noted%s?WAIT=1 HTTP/1.1\r\nHost: x\r\n\r\n" % job,
            HEAD.replace(b"/async", job + b"/parameters") + b"Content-Length: 12\r\n\r\n" + body,
            b"GET /noted%s/parameters/label HTTP/1.1\r\nHost: x\r\n\r\n" % job,
            b"GET /noted%s/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % job,
        )
    )
    one = await client(serving)
    await one.send(asked)
    answer = await one.answer()
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"303", b"200", b"404"]
    assert answer.index(b"first") < answer.index(b"second")


async def test_answers_wait_for_who_reads_them(begin):
    """Who asks on and reads nothing is not answered any more."""
    serving = await begin(sendTime=None)
    answered = []
    serving.site.requestFactory = noting(serving.site.requestFactory, answered)
    one = await client(serving, receive=4096)
    url = await serving.create({"label": "x" * 200_000})
    path = url.encode().partition(b"/noted")[2]
    await one.send(b"GET /noted%s HTTP/1.1\r\nHost: x\r\n\r\n" % path * 100)
    await until(lambda: serving.site._held)
    await deferLater(serving.reactor, 0.5)
    assert len(answered) < 100
    assert (await serving.get()).status == 200
    await one.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert (await one.answer()).count(b"HTTP/1.1 200 OK") == 101
    assert not serving.site._held


def noting(factory, made):
    def make(*args, **more):
        made.append(1)
        return factory(*args, **more)

    return make


async def test_unsent(begin):
    """Those of the address that has most are cut off, the oldest first, and no others."""
    serving = await begin(sendTime=None, unsent=20_000_000)
    url = await serving.create([("a", "x" * 2_000_000), ("b", "x" * 2_000_000)])
    ask = b"GET /noted%s HTTP/1.1\r\nHost: x\r\n\r\n" % url.encode().partition(b"/noted")[2]
    ask = ask.replace(b"Host", b"Connection: close\r\nHost")

    asked = []
    serving.site.requestFactory = noting(serving.site.requestFactory, asked)

    async def deaf(source):
        one = Client(serving, receive=4096)
        one.socket.bind((source, 0))
        await one.connect()
        number = len(asked) + 1
        await one.send(ask)
        await until(lambda: len(asked) == number)
        left = min(number, 4)
        await until(lambda: len(serving.site._connections) == len(serving.site._held) == left)
        return one

    fair = await deaf("127.0.0.2")
    greedy = [await deaf("127.0.0.3") for _ in range(6)]
    assert sum(serving.site._held.values()) <= 20_000_000
    answers = [await one.answer() for one in (fair, *greedy)]
    whole = [len(answer) > 4_000_000 for answer in answers]
    assert whole == [True, False, False, False, True, True, True]
    assert not serving.site._held
