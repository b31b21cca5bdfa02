"""One file from a URI: what is loaded, what is not, and why."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests.remote import LARGE, TABLE, Remotes, certificate
from tests.working import until
from twuws import outbound
from twuws.download import HELD, Downloader, DownloadError, _Body, placeOf
from twuws.outbound import (
    LONGEST_HEAD,
    LONGEST_TURN,
    MOST_HEADS,
    PIECE,
    SHORTEST_REST,
    isPublic,
)
from twuws.policy import FetchPolicy
from twuws.values import checkedSource, mediaTypeOf

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def remotes():
    remotes = Remotes()
    yield remotes
    pytest_twisted.blockon(Deferred.fromCoroutine(remotes.close()))


def downloader(*, idle=60.0, reactor=None, **policy):
    if reactor is None:
        from twisted.internet import reactor
    made = Downloader(FetchPolicy(**{"privateAddresses": True, **policy}), reactor)
    made.idleTimeout = idle
    return made


class Place:
    """Where a file is loaded to."""

    def __init__(self, directory):
        self.directory = directory
        self.path = directory / "file"

    def load(self, uri, most=1 << 30, **more):
        loading = downloader(**more).load(uri, self.path, self.directory / ".part", most)
        return Deferred.fromCoroutine(loading)

    async def refused(self, uri, most=1 << 30, **more):
        """Why nothing was loaded, and whether that may be otherwise later."""
        with pytest.raises(DownloadError) as e:
            await self.load(uri, most, **more)
        assert list(self.directory.iterdir()) == []
        return str(e.value).removeprefix(placeOf(uri) + " "), e.value.transient


@pytest.fixture
def place(tmp_path):
    (tmp_path / "parameters").mkdir()
    return Place(tmp_path / "parameters")


@pytest.mark.parametrize(("page", "content"), [
    ("table", TABLE), ("large", LARGE), ("chunked", LARGE), ("table?a=1;b=2#here", TABLE),
])  # fmt: skip
async def test_loaded(remotes, place, page, content):
    url, pages = remotes.pages()
    loaded = await place.load(f"{url}/{page}", most=len(content))
    assert place.path.read_bytes() == content
    assert loaded.size == len(content)
    csv = "text/csv; header=present"
    assert loaded.mediaType == (csv if "table" in page else "text/html")
    assert [path.name for path in place.directory.iterdir()] == ["file"]
    (request,) = pages.asked
    headers = dict(request.requestHeaders.getAllRawHeaders())
    assert headers.pop(b"User-Agent")[0].startswith(b"twuws/")
    assert headers.pop(b"Host") == [url.removeprefix("http://").encode()]
    assert headers == {
        b"Accept": [b"*/*"], b"Accept-Encoding": [b"identity"], b"Connection": [b"close"],
    }  # fmt: skip
    assert request.uri.decode() == "/" + page.partition("#")[0]


async def test_until_the_connection_closes(remotes, place):
    """HTTP/1.0, whose answers have no length."""

    def behaviour(protocol):
        protocol.transport.write(b"HTTP/1.0 200 OK\nContent-Type: nonsense\n\nall\nthere is")
        protocol.transport.loseConnection()

    loaded = await place.load(remotes.rude(behaviour))
    assert place.path.read_bytes() == b"all\nthere is"
    assert loaded.mediaType == "application/octet-stream"


async def test_nothing_is_a_file(remotes, place):
    url = remotes.rude(lambda p: p.transport.write(HEAD + b"Content-Length: 0\r\n\r\n"))
    assert (await place.load(url)).size == 0
    assert place.path.read_bytes() == b""


# What is refused by the server


@pytest.mark.parametrize(("page", "why", "transient"), [
    ("status/404", "answered 404 Not Found", False),
    ("status/204", "answered 204 No Content", False),
    ("status/206", "answered 206 Partial Content", False),
    ("status/304", "answered 304 Not Modified", False),
    ("status/401", "answered 401 Unauthorized", False),
    ("status/429", "answered 429 Too Many Requests", True),
    ("status/503", "answered 503 Service Unavailable", True),
    ("status/799", "answered 799", True),
    ("to/", "answered 302, and not where it redirects to", False),
    ("to/ftp://example.org/", "redirects to what nothing is loaded from: its scheme is neither"
     " http nor https", False),
    ("to/http://me:secret@127.0.0.1/", "redirects to what nothing is loaded from: it has a user"
     " name or a password; nothing is loaded with credentials", False),
])  # fmt: skip
async def test_answers(remotes, place, page, why, transient):
    url, _ = remotes.pages()
    assert await place.refused(f"{url}/{page}") == (why, transient)


def drop(data):
    def behaviour(protocol):
        protocol.transport.write(data)
        protocol.transport.loseConnection()

    return behaviour


BROKE_OFF = "closed the connection before all was there"
TOO_MANY = ("answered with more headers than are taken", False)


@pytest.mark.parametrize(("data", "why", "transient"), [
    (b"", BROKE_OFF, True),
    (HEAD, BROKE_OFF, True),
    (HEAD + b"Content-Length: 100\r\n\r\nshort", BROKE_OFF, True),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", BROKE_OFF, True),
    (b"220 mail.example.org ESMTP\r\n", "does not answer as HTTP servers do", False),
    (HEAD + b"Content-Length: -5\r\n\r\n", "does not answer as HTTP servers do", False),
    (HEAD + b"Transfer-Encoding: x\r\n\r\n", "does not answer as HTTP servers do", False),
])  # fmt: skip
async def test_broken_answers(remotes, place, data, why, transient):
    assert await place.refused(remotes.rude(drop(data))) == (why, transient)


async def test_no_server(remotes, place):
    url, _ = remotes.pages()
    await remotes.close()
    assert await place.refused(url) == ("refused the connection", True)
    why = ("has a host name that is not found", True)
    assert await place.refused("http://nowhere.invalid/") == why


# Limits


@pytest.mark.parametrize("page", ["large", "chunked"])
async def test_too_large(remotes, place, page):
    url, _ = remotes.pages()
    why = await place.refused(f"{url}/{page}", most=len(LARGE) - 1, maximumSize=3 << 20)
    assert why == ("goes beyond the 3 MiB that are loaded for one job", False)


async def test_said_to_be_too_large(remotes, place):
    """Then not a byte of it is waited for."""
    head = HEAD + b"Content-Length: 1001\r\n\r\n"
    url = remotes.rude(lambda protocol: protocol.transport.write(head))
    assert "goes beyond" in (await place.refused(url, most=1000, timeout=9))[0]


async def test_no_more_than_is_written():
    """What is not yet written holds up the server."""
    from twisted.internet import reactor

    body, transport = _Body(reactor, 60), StringTransport()
    body.makeConnection(transport)
    for _ in range(HELD // 65536):
        assert transport.producerState == "producing"
        body.dataReceived(b"x" * 65536)
    assert transport.producerState == "paused"
    assert len(await body.read()) == HELD
    assert transport.producerState == "producing"


async def test_writes_are_not_interrupted():
    """Else a file would be closed, and its number be another's, while it is written."""
    goOn, written = threading.Event(), []

    def write():
        goOn.wait(9)
        written.append(True)

    writing = Deferred.fromCoroutine(downloader()._wholly(write))
    ends = []
    writing.addBoth(lambda result: ends.append((result.type, list(written))))
    writing.cancel()
    writing.cancel()
    assert ends == []
    goOn.set()
    await until(lambda: ends)
    assert ends == [(CancelledError, [True])]


def endless(piece, interval=0.0):
    """Sends something and then a piece again and again, until the client hangs up."""

    def behaviour(protocol):
        protocol.transport.write(HEAD)
        loop = LoopingCall(lambda: protocol.transport.write(piece))
        loop.start(interval)
        protocol.connectionLost = lambda _: (loop.stop(), protocol.factory.open.discard(protocol))

    return behaviour


async def test_endless(remotes, place):
    """What has no end is not read for ever, nor kept in memory."""
    body = endless(b"Content-Type: a/b\r\n\r\n" + b"x" * 65536)
    assert "goes beyond" in (await place.refused(remotes.rude(body), most=5 << 20))[0]
    heads = endless(b"X-Header: " + b"x" * 8000 + b"\r\n")
    assert await place.refused(remotes.rude(heads)) == TOO_MANY


@pytest.mark.parametrize("head", [
    b"X-Header: " + b"x" * 16_300, b"X-Header: " + b"x" * 16_300 + b"\r\n",
    b"X-Header: " + b"x" * 100_000, b"X: y\r\n" * 3000,
])  # fmt: skip
async def test_too_long_a_head(remotes, place, head):
    """However its lines end, if they do at all."""
    size = len(HEAD) + len(head)
    head += b"x" * (LONGEST_HEAD + 1 - size)
    url = remotes.rude(lambda protocol: protocol.transport.write(HEAD + head))
    assert await place.refused(url) == TOO_MANY


async def test_as_long_a_head_as_can_be(remotes, place):
    """What comes with it of the body does not count."""
    end = b"\r\nContent-Length: 20000\r\n\r\n"
    header = b"X-Header: ".ljust(LONGEST_HEAD - len(HEAD + end), b"x")
    url = remotes.rude(lambda p: p.transport.write(HEAD + header + end + b"\n" * 20_000))
    assert (await place.load(url)).size == 20_000


async def test_not_yet_answers(remotes, place):
    """Some answers of 1xx are passed over, but not thousands: each is in the log."""
    early, late = b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"Content-Length: 4\r\n\r\n\n\n\n\n"
    few = remotes.rude(lambda p: p.transport.write(early * (MOST_HEADS - 1) + late))
    assert (await place.load(few)).size == 4
    place.path.unlink()
    many = remotes.rude(lambda p: p.transport.write(early * MOST_HEADS + late))
    assert await place.refused(many) == TOO_MANY


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "identity, br", "?"])
async def test_compressed(remotes, place, coding):
    """What is not the file itself is not stored as if it were."""
    why = "compressed its answer (Content-Encoding), although it was asked not to"
    head = HEAD + b"Content-Length: 1\r\nContent-Encoding: %s\r\n\r\nx"
    url = remotes.rude(lambda p: p.transport.write(head % coding.encode()))
    assert await place.refused(url) == (why, False)
    plain = remotes.rude(lambda p: p.transport.write(head % b"Identity"))
    assert (await place.load(plain)).size == 1


# What is handed on, and when


class Takes(Protocol):
    """Takes what it gets, for some seconds each."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.got = []
        self.lost = 0

    def dataReceived(self, data):
        self.got.append(data)
        time.sleep(self.seconds)

    def connectionLost(self, reason):
        self.lost += 1


def connected(seconds=0.0, isAnswered=True):
    """A connection, who it is for, its transport, and the clock by which it rests."""
    clock, transport, takes = Clock(), StringTransport(), Takes(seconds)
    connection = outbound._Connections(Factory.forProtocol(lambda: takes), clock).buildProtocol(
        None
    )
    connection.makeConnection(transport)
    connection.isAnswered = isAnswered
    return connection, takes, transport, clock


@pytest.fixture
def isInstant(monkeypatch):
    """What takes little takes no time, however busy the machine is."""
    monkeypatch.setattr(outbound, "time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.mark.usefixtures("isInstant")
def test_little_pieces_are_collected():
    """A byte now and then does not wake anybody a thousand times a second."""
    connection, takes, transport, clock = connected()
    connection.dataReceived(b"x" * 1000)
    assert (transport.producerState, clock.getDelayedCalls()) == ("producing", [])
    connection.dataReceived(b"y")
    assert transport.producerState == "paused"
    connection.dataReceived(b"z")  # was on its way
    assert b"".join(takes.got) == b"x" * 1000 + b"y"
    clock.advance(SHORTEST_REST)
    assert b"".join(takes.got) == b"x" * 1000 + b"yz"
    assert transport.producerState == "producing"


def test_long_work_gives_way():
    """What takes long, as do thousands of chunks of a byte, is done a little at a time."""
    connection, takes, transport, clock = connected(seconds=LONGEST_TURN)
    connection.dataReceived(b"x" * 5 * PIECE)
    turns = 1
    while clock.getDelayedCalls():
        assert (len(takes.got), transport.producerState) == (turns, "paused")
        (call,) = clock.getDelayedCalls()
        assert call.getTime() - clock.seconds() >= 3 * LONGEST_TURN
        clock.advance(call.getTime() - clock.seconds())
        turns += 1
    assert takes.got == [b"x" * PIECE] * 5
    assert transport.producerState == "producing"


@pytest.mark.usefixtures("isInstant")
def test_all_comes_before_the_end():
    """What was held when the connection was closed is part of the answer."""
    connection, takes, transport, clock = connected()
    connection.pauseProducing()
    assert transport.producerState == "paused"
    connection.dataReceived(b"all")
    connection.connectionLost(Failure(ConnectionDone()))
    clock.advance(1)
    assert (takes.got, takes.lost) == ([], 0)
    connection.resumeProducing()
    assert (takes.got, takes.lost) == ([b"all"], 1)


@pytest.mark.usefixtures("isInstant")
def test_none_comes_after_the_end():
    connection, takes, _, clock = connected()
    connection.pauseProducing()
    connection.dataReceived(b"all")
    connection.connectionLost(Failure(ConnectionDone()))
    connection.end()
    connection.end()
    assert (takes.got, takes.lost, clock.getDelayedCalls()) == ([], 1, [])


async def test_chunks_of_a_byte(remotes, place):
    """The reactor has time for others."""
    from twisted.internet import reactor

    def behaviour(protocol):
        protocol.transport.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        protocol.transport.write(b"1\r\nx\r\n" * 1_000_000)

    loading, late = place.load(remotes.rude(behaviour)), []
    for _ in range(50):
        began = time.monotonic()
        await deferLater(reactor, 0.01)
        late.append(time.monotonic() - began - 0.01)
    loading.cancel()
    with pytest.raises(CancelledError):
        await loading
    assert sorted(late)[25] < 0.02, late


async def test_drip(remotes, place):
    """A byte now and then is no silence, but takes too long."""
    url = remotes.rude(endless(b"\r\n", interval=0.02))
    began = time.monotonic()
    assert await place.refused(url, idle=5, timeout=0.4) == ("took longer than 0.4 s", True)
    assert 0.3 < time.monotonic() - began < 3


async def test_drip_is_no_silence(remotes, place):
    def behaviour(protocol):
        protocol.transport.write(HEAD + b"Content-Length: 20\r\n\r\n")
        loop = LoopingCall(lambda: protocol.transport.write(b"x"))
        loop.start(0.05)
        protocol.connectionLost = lambda _: (loop.stop(), protocol.factory.open.discard(protocol))

    assert (await place.load(remotes.rude(behaviour), idle=0.5)).size == 20


async def test_silence(remotes, place):
    url, _ = remotes.pages()
    assert await place.refused(f"{url}/waits", idle=0.2) == ("sent nothing for 0.2 s", True)


async def test_no_answer(remotes, place, monkeypatch):
    monkeypatch.setattr(Downloader, "connectTimeout", 0.1)
    url = remotes.rude(lambda protocol: None)
    assert await place.refused(url, idle=0.1) == ("did not answer within 0.2 s", True)


@pytest.mark.parametrize("page", ["waits", "table"])
async def test_cancelled(remotes, place, page):
    """At any time: while the name is looked for, before an answer, and in the middle."""
    url, pages = remotes.pages()
    for when in (lambda: True, lambda: pages.asked, place.directory.iterdir):
        loading = place.load(f"{url}/{page}")
        await until(when)
        began = time.monotonic()
        loading.cancel()
        with pytest.raises(CancelledError):
            await loading
        assert time.monotonic() - began < 1
        assert list(place.directory.iterdir()) == []
        if page == "table":
            break


async def test_cannot_be_stored(remotes, place, loggedErrors):
    """That is the operator's to know."""
    url, _ = remotes.pages()
    place.directory.rmdir()
    with pytest.raises(DownloadError, match="could not be stored: No such file") as e:
        await place.load(f"{url}/table")
    assert e.value.transient
    assert [failure.type for failure in loggedErrors] == [FileNotFoundError]
    loggedErrors.clear()


# Redirects


async def test_redirects(remotes, place):
    """As many as may be, absolute or not; and no cookies."""
    url, pages = remotes.pages()
    start = f"{url}/to/{url}/to//to/../table%23x"
    with pytest.raises(DownloadError, match="redirected more than 1 times"):
        await place.load(start, redirects=1)
    assert (await place.load(start, redirects=2)).size == len(TABLE)
    assert place.path.read_bytes() == TABLE
    assert not any(request.received_cookies for request in pages.asked)


async def test_redirects_in_a_circle(remotes, place):
    url, pages = remotes.pages()
    pages.page_to = lambda request, rest: request.redirect(request.uri) or b""
    why = await place.refused(f"{url}/to/x", redirects=3)
    assert why == (f"redirects to {placeOf(url)}, which redirected more than 3 times", False)
    assert len(pages.asked) == 4


# Private addresses


@pytest.mark.parametrize("host", [
    "127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
])  # fmt: skip
async def test_private(remotes, place, host):
    """However it is spelled."""
    url, pages = remotes.pages(interface="0.0.0.0")
    url = url.replace("127.0.0.1", host)
    why, transient = await place.refused(f"{url}/table", privateAddresses=False)
    assert why == "leads to a private address, which this service does not load from"
    assert not transient
    assert pages.asked == []


@pytest.mark.parametrize("address", [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1",
    "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "ff02::1",
    "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:a00:1::1",
    "2001:0:a00:1::",
])  # fmt: skip
def test_not_public(address):
    assert not isPublic(address)


@pytest.mark.parametrize("address", [
    "8.8.8.8", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
])  # fmt: skip
def test_public(address):
    assert isPublic(address)


@pytest.fixture
def onlyFirst(monkeypatch):
    """A world in which 127.0.0.1 is public, and all else private."""
    monkeypatch.setattr(outbound, "isPublic", lambda address: address == "127.0.0.1")


@pytest.mark.usefixtures("onlyFirst")
async def test_redirect_to_a_private_address(remotes, place):
    url, pages = remotes.pages(interface="0.0.0.0")
    other = url.replace("127.0.0.1", "127.0.0.2")
    assert (await place.load(f"{url}/to/{url}/table", privateAddresses=False)).size
    place.path.unlink()
    why = await place.refused(f"{url}/to/{other}/table", privateAddresses=False)
    assert why == (
        f"redirects to {placeOf(other)}, which leads to a private address, which"
        " this service does not load from", False,
    )  # fmt: skip
    assert [request.getHost().host for request in pages.asked] == ["127.0.0.1"] * 3


class Names:
    """A reactor in which every name has some addresses, which change when they are asked for."""

    def __init__(self, reactor, *answers):
        self._reactor = reactor
        self._answers = list(answers)
        self.nameResolver = self

    def __getattr__(self, name):
        return getattr(self._reactor, name)

    def resolveHostName(self, receiver, hostName, portNumber=0, *args, **more):
        from twisted.internet.address import IPv4Address

        receiver.resolutionBegan(self)
        for host in self._answers.pop(0):
            receiver.addressResolved(IPv4Address("TCP", host, portNumber))
        receiver.resolutionComplete()


@pytest.mark.usefixtures("onlyFirst")
async def test_looked_up_once(remotes, place):
    """The address that was checked is the one that is connected to (DNS rebinding)."""
    from twisted.internet import reactor

    url, pages = remotes.pages(interface="0.0.0.0")
    url = url.replace("127.0.0.1", "example.org") + "/table"
    names = Names(reactor, ["127.0.0.2", "127.0.0.1"], ["127.0.0.2"])
    assert (await place.load(url, privateAddresses=False, reactor=names)).size == len(TABLE)
    assert [request.getHost().host for request in pages.asked] == ["127.0.0.1"]
    place.path.unlink()
    why, _ = await place.refused(url, privateAddresses=False, reactor=names)
    assert "leads to a private address, which" in why
    assert len(pages.asked) == 1


async def test_private_addresses_are_logged(remotes, place):
    """There, and nowhere else: a client could list an internal network by its names."""
    url, _ = remotes.pages()
    with capturedLogs() as logged:
        why, _ = await place.refused(f"{url}/table", privateAddresses=False)
    assert "127.0.0.1" not in why.replace(placeOf(url), "")
    (event,) = [event for event in logged if event["log_namespace"] == "twuws.download"]
    assert formatEvent(event).endswith("/… leads to private addresses: ['127.0.0.1']")


# TLS


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """A certificate for localhost that this host trusts."""
    made = certificate("localhost")
    (tmp_path / "trusted.pem").write_bytes(made.dumpPEM())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return made


async def test_https(remotes, place, trusted):
    url, _ = remotes.pages(trusted, host="localhost")
    assert (await place.load(f"{url}/large")).size == len(LARGE)
    assert place.path.read_bytes() == LARGE


async def test_self_signed(remotes, place):
    url, pages = remotes.pages(certificate("localhost", "127.0.0.1"))
    why = ("cannot be trusted: TLS: certificate verify failed", False)
    assert await place.refused(f"{url}/table") == why
    assert pages.asked == []


async def test_certificate_of_another_host(remotes, place, trusted):
    url, pages = remotes.pages(trusted)
    why = ("has a TLS certificate for another host", False)
    assert await place.refused(f"{url}/table") == why
    assert pages.asked == []


async def test_no_tls_at_all(remotes, place):
    url = remotes.rude(drop(b"HTTP/1.1 400 Bad Request\r\n\r\n")).replace("http:", "https:")
    why, transient = await place.refused(url)
    assert (why.partition("TLS: ")[0], transient) == ("cannot be trusted: ", False)


async def test_from_https_to_http(remotes, place, trusted):
    url, _ = remotes.pages(trusted, host="localhost")
    plain, pages = remotes.pages()
    why = ("redirects from https to http, which is not followed", False)
    assert await place.refused(f"{url}/to/{plain}/table") == why
    assert pages.asked == []
    assert (await place.load(f"{plain}/to/{url}/table")).size == len(TABLE)


# URIs


@pytest.mark.parametrize(("uri", "why"), [
    ("ftp://example.org/a", "scheme"), ("file:///etc/passwd", "scheme"), ("example.org", "scheme"),
    ("http:/a", "no host"), ("http://", "no host"), ("https://:80/", "no host"),
    ("http://me@example.org/", "credentials"), ("http://me:pw@example.org/", "credentials"),
    ("http://example.org/a b", "percent-encode"), ("http://example.org/\n", "percent-encode"),
    ("http://example.org/ü", "percent-encode"), ("http://a/\x00", "percent-encode"),
    ("http://[::1/", "malformed"), ("http://a:b/", "malformed"), ("http://a:99999/", "malformed"),
    ("http://a:0/", "malformed"), ("http://a%2eb/", "malformed"), ("http://a\\b/", "malformed"),
    ("http://[fe80::1%25lo]/", "malformed"), ("http://-a/", "malformed"),
    ("http://a..b/", "none that can be"), ("http://a../", "none that can be"),
    (f"http://{'a' * 64}.b/", "none that can be"), ("http://xn--a/", "none that can be"),
    ("http://a-.b/", "none that can be"), ("http://a_b.example.org/", "none that can be"),
    ("http://example.org/" + "a" * 2000, "2000 are the most"),
])  # fmt: skip
def test_not_a_source(uri, why):
    with pytest.raises(ValueError, match=why):
        checkedSource(uri)


@pytest.mark.parametrize("uri", [
    "http://example.org", "HTTPS://Example.ORG:8443/a;b,c?d=e&f#g", "http://[2001:db8::1]:80/",
    "http://a-b.example.org./%20", "http://127.1/", "http://xn--strae-oqa.de/",
    f"http://{'a' * 63}.b/", "http://2130706433/",
])  # fmt: skip
def test_source(uri):
    assert checkedSource(uri) == uri


def test_media_types():
    assert mediaTypeOf(" text/xml;charset=utf-8 ") == "text/xml;charset=utf-8"
    for bad in ("", "xml", "text/xml\r\nX: y", "a/b;" + "c" * 200, "ä/b"):
        assert mediaTypeOf(bad) == "application/octet-stream"
