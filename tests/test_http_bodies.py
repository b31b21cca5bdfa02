"""
Bodies over HTTP: how large they may be, where they wait, and what they may be (F, behaviour 95).
"""

from __future__ import annotations

import re
import shutil
import socket
import time
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.working import until
from twuws.testing import running
from twuws.web.bodies import SMALL, SpooledRequest, requestFactory
from twuws.web.settings import WebSettings
from twuws.workdir import WorkDirs

LIMIT = 1_000_000
LIMITED = WebSettings(maximumBody=LIMIT, origins=frozenset({"*"}))
MANY = 50_000_000
WORDS = f"{LIMIT} is the most this service takes (maximum-body)."


class Seen(Resource):
    """Says what came, and notes where the body waits."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.places: list[str] = []
        self.files: list[tuple[Path, int]] = []

    def render_GET(self, request):
        return b"%d" % request.content.seek(0, 2)

    render_PUT = render_GET

    def render_POST(self, request):
        self.places.append(openFiles())
        if request.form is not None:
            self.files += [(path, path.stat().st_size) for path in request.form.paths]
        return b"%d %s" % (request.content.seek(0, 2), b"args" if request.args else b"none")


def openFiles():
    """The files that this process has open, by what the kernel calls them."""
    links = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(one.readlink()))
        except FileNotFoundError:  # that of listing them
            continue
    return links


class Counting(Site):
    """Knows how many connections there are."""

    connections = 0

    def buildProtocol(self, addr):
        protocol = super().buildProtocol(addr)
        self.connections += 1
        lost = protocol.connectionLost

        def connectionLost(reason):
            self.connections -= 1
            lost(reason)

        protocol.connectionLost = connectionLost
        return protocol


class Listening:
    """A Site that listens, with requests made by a factory."""

    def __init__(self, makeRequest, directory, **more):
        from twisted.internet import reactor

        self.resource = Seen()
        self.directory = directory
        self.site = Counting(self.resource, makeRequest, **more)
        self.listening = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = self.listening.getHost().port
        self.url = f"http://127.0.0.1:{self.port}/"

    def uploads(self):
        return list(WorkDirs(self.directory).uploads().iterdir())

    async def isClean(self):
        """Nothing is on disk, and no file and no connection is open."""
        await until(lambda: self.site.connections == 0)
        assert [one for one in openFiles() if str(self.directory) in one] == []
        assert self.uploads() == []


@pytest.fixture
def listening(tmp_path):
    """Makes Sites; a limit of a million bytes unless it is told otherwise."""
    made = []

    def listen(makeRequest=None, **more):
        made.append(Listening(makeRequest or requestFactory(tmp_path, LIMITED), tmp_path, **more))
        return made[-1]

    yield listen
    for one in made:
        pytest_twisted.blockon(one.listening.stopListening())


def exchange(port, *pieces, timeout=20):
    """Send all pieces, and only then read all answers.  Blocks."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        for piece in pieces:
            s.sendall(piece)
        return answers(s)


def answers(s):
    """The answers up to the end of the connection."""
    with s.makefile("rb") as f:
        found = []
        while f.peek(1):
            one = HTTPResponse(SimpleNamespace(makefile=lambda mode: Unclosed(f)))
            one.begin()
            found.append(SimpleNamespace(status=one.status, headers=one.headers, text=one.read()))
        return found


class Unclosed:
    """A file that several answers are read from."""

    def __init__(self, f):
        self._f = f

    def close(self):
        pass

    def flush(self):
        pass

    def __getattr__(self, name):
        return getattr(self._f, name)


def head(method=b"POST", *headers):
    return b"\r\n".join([method + b" / HTTP/1.1", b"Host: h", *headers, b"", b""])


def chunked(body, size=70_000):
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


def request(body, how, *headers):
    """A request, as one piece."""
    if how == "chunked":
        return head(b"POST", b"Transfer-Encoding: chunked", *headers) + chunked(body)
    return head(b"POST", b"Content-Length: %d" % len(body), *headers) + body


# The limit


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_far_too_large(listening, how):
    """A client that sends all before it reads anything reads the answer all the same."""
    at = listening()
    (answer,) = await deferToThread(exchange, at.port, request(bytes(MANY), how))
    assert answer.status == 413
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["server"].startswith("twuws/")
    assert answer.headers["date"].endswith("GMT")
    size = MANY if how == "length" else f"more than {LIMIT}"
    assert answer.text.decode() == f"The body has {size} bytes; {WORDS}\n"
    await at.isClean()
    assert at.resource.places == []


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
async def test_what_has_no_files(listening, tmp_path, kind, how):
    """It has a limit of its own."""
    at = listening(requestFactory(tmp_path, WebSettings(maximumForm=1000)))
    for size, status in ((1000, 200), (1001, 413)):
        typed = f"Content-Type: {kind}".encode()
        whole = request(b"x" * size, how, typed, b"Connection: close")
        (answer,) = await deferToThread(exchange, at.port, whole)
        assert answer.status == status
    other = request(b"x" * 1001, how, b"Connection: close")
    (answer,) = await deferToThread(exchange, at.port, other)
    assert answer.status == 200


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_at_the_limit(listening, how):
    at = listening()
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (0, 200)):
        sent = request(bytes(size), how, b"Connection: close")
        (answer,) = await deferToThread(exchange, at.port, sent)
        assert (size, answer.status) == (size, status)
    await at.isClean()


async def test_without_a_limit(listening, tmp_path):
    at = listening(requestFactory(tmp_path))
    (answer,) = await deferToThread(
        exchange, at.port, request(bytes(3 * LIMIT), "length", b"Connection: close")
    )
    assert (answer.status, answer.text) == (200, b"3000000 none")
    await at.isClean()


async def test_it_is_refused_before_it_comes(listening):
    """With a Content-Length, at once; and nobody is asked to go on."""
    at = listening()

    def ask(*headers):
        with socket.create_connection(("127.0.0.1", at.port), timeout=20) as s:
            s.sendall(head(b"POST", b"Content-Length: %d" % (LIMIT + 1), *headers))
            return answers(s)

    for headers in ((), (b"Expect: 100-continue",)):
        (answer,) = await deferToThread(ask, *headers)
        assert answer.status == 413
    await at.isClean()


async def test_who_asks_is_told_to_go_on(listening):
    at = listening()

    def ask():
        with socket.create_connection(("127.0.0.1", at.port), timeout=20) as s:
            s.sendall(head(b"POST", b"Content-Length: 200000", b"Expect: 100-continue",
                           b"Connection: close"))  # fmt: skip
            assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            s.sendall(bytes(200_000))
            return answers(s)

    (answer,) = await deferToThread(ask)
    assert (answer.status, answer.text) == (200, b"200000 none")


async def test_after_another_request(listening):
    at = listening()
    sent = head(b"GET") + request(b"a=1", "length") + request(bytes(5_000_000), "length")
    first, second, third = await deferToThread(exchange, at.port, sent)
    assert (first.text, second.text, third.status) == (b"0", b"3 none", 413)
    await at.isClean()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("expect", [True, False])
@pytest.mark.parametrize("how", ["form", "chunked"])
async def test_curl(listening, tmp_path, expect, how):
    at = listening()
    big = tmp_path / "big"
    await deferToThread(big.write_bytes, bytes(20_000_000))
    send = ["-F", f"file=@{big}"]
    if how == "chunked":
        send = ["-T", str(big), "-X", "POST", "-H", "Transfer-Encoding: chunked"]
    send += [] if expect else ["-H", "Expect:"]
    out, err, code = await getProcessOutputAndValue(
        "curl", ["-sS", "-w", "%{http_code}", *send, at.url]
    )
    assert (code, err) == (0, b"")
    assert re.fullmatch(rf"The body has .* bytes; {re.escape(WORDS)}\n413", out.decode())
    await at.isClean()


@pytest.mark.parametrize("bound", ["time", "amount"])
@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_a_client_that_never_ends(listening, tmp_path, bound, how):
    """It is cut off after a while, or after so much."""

    class Impatient(SpooledRequest):
        lingerSeconds = 0.3 if bound == "time" else 60
        lingerBytes = 2**40 if bound == "time" else 10_000_000

    at = listening(partial(Impatient, uploads=WorkDirs(tmp_path), settings=LIMITED))
    length = b"Transfer-Encoding: chunked" if how == "chunked" else b"Content-Length: 99999999999"
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"

    def goOn():
        with socket.create_connection(("127.0.0.1", at.port), timeout=20) as s:
            s.sendall(head(b"POST", length))
            for count in range(1_000_000):
                try:
                    s.sendall(piece)
                except OSError:
                    return count * len(piece)
            return None

    began = time.monotonic()
    sent = await deferToThread(goOn)
    assert sent is not None
    assert time.monotonic() - began < 15
    if bound == "amount":
        assert sent < 10_000_000 + LIMIT + 20_000_000  # and what the sockets hold
    await at.isClean()


async def test_a_client_that_only_waits(listening, tmp_path):
    """It has been answered, and neither sends nor goes."""

    class Impatient(SpooledRequest):
        lingerSeconds = 0.2

    at = listening(partial(Impatient, uploads=WorkDirs(tmp_path), settings=LIMITED))
    with socket.create_connection(("127.0.0.1", at.port)) as s:
        s.sendall(head(b"POST", b"Content-Length: 2000000"))
        await at.isClean()
    assert at.resource.places == []


async def test_who_hangs_up_is_forgotten(listening):
    at = listening()

    def hangUp(sent):
        with socket.create_connection(("127.0.0.1", at.port)) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            s.sendall(sent)

    whole = request(bytes(900_000), "length")
    for sent in (request(bytes(2_000_000), "length")[:1_500_000], whole[:500_000], head()[:30]):
        await deferToThread(hangUp, sent)
    await at.isClean()


# Where it waits


@pytest.mark.parametrize(
    ("size", "how", "isOnDisk"),
    [(SMALL - 1, "length", False), (SMALL + 1, "length", True),
     (1000, "chunked", False), (SMALL + 1, "chunked", True)],
)  # fmt: skip
async def test_where_it_waits(listening, size, how, isOnDisk):
    """A large body is in a file of the jobs' file system that has no name."""
    at = listening()
    sent = request(bytes(size), how, b"Connection: close")
    (answer,) = await deferToThread(exchange, at.port, sent)
    assert answer.text == b"%d none" % size
    (files,) = at.resource.places
    found = [one for one in files if one.startswith(str(WorkDirs(at.directory).uploads()))]
    assert len(found) == isOnDisk
    assert all(one.endswith("(deleted)") for one in found)
    await at.isClean()


async def test_forms_are_left_alone(listening):
    """Also by a Site that would take them apart."""
    at = listening(parsePOSTFormSubmission=True)
    sent = request(b"a=1&b=2", "length", b"Connection: close",
                   b"Content-Type: application/x-www-form-urlencoded")  # fmt: skip
    (answer,) = await deferToThread(exchange, at.port, sent)
    assert answer.text == b"7 none"


FORM = b"Content-Type: multipart/form-data; boundary=b"


def form(content):
    """A form with one file."""
    named = b'Content-Disposition: form-data; name="f"; filename="f"'
    return b"--b\r\n%s\r\n\r\n%s\r\n--b--\r\n" % (named, content)


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_files_of_forms_are_written_as_they_come(listening, how):
    """And not a second time; if nobody wants them, they are removed."""
    at = listening()
    sent = request(form(bytes(500_000)), how, b"Connection: close", FORM)
    (answer,) = await deferToThread(exchange, at.port, sent)
    assert answer.text == b"0 none"  # is left of the body
    ((path, size),) = at.resource.files
    assert size == 500_000
    await until(lambda: not path.exists())
    await at.isClean()


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_forms_that_do_not_come_whole(listening, how):
    at = listening()

    def hangUp():
        with socket.create_connection(("127.0.0.1", at.port)) as s:
            s.sendall(request(form(bytes(900_000)), how, FORM)[:600_000])
            while not at.uploads():
                time.sleep(0.001)

    await deferToThread(hangUp)
    await until(lambda: not at.uploads())
    await at.isClean()
    assert at.resource.places == []


async def test_forms_that_become_too_large(listening):
    at = listening()
    sent = request(form(bytes(3_000_000)), "chunked", FORM)
    (answer,) = await deferToThread(exchange, at.port, sent)
    assert answer.status == 413
    await until(lambda: not at.uploads())
    await at.isClean()


@pytest.mark.parametrize("method", [b"PUT", b"GET"])
async def test_only_what_is_posted_is_a_form(listening, method):
    """What is PUT is a value as it is."""
    at = listening()
    body = form(bytes(500_000))
    length = b"Content-Length: %d" % len(body)
    sent = head(method, length, b"Connection: close", FORM) + body
    (answer,) = await deferToThread(exchange, at.port, sent)
    assert answer.text == b"%d" % len(body)
    await at.isClean()


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_no_room(listening, tmp_path, how):
    """A disk that takes nothing is the service's trouble, and may pass."""
    (tmp_path / "nowhere").touch()
    at = listening(requestFactory(tmp_path / "nowhere"))
    (answer,) = await deferToThread(exchange, at.port, request(bytes(5_000_000), how))
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert str(tmp_path) not in answer.text.decode()
    await at.isClean()


# Memory


def peak(pid):
    """How much memory a process has had at most, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by /proc")
def test_memory():
    """What a whole service needs for an upload does not depend on its size."""
    with running() as service:
        upload(service, "length", 1)
        most = peak(service.process.pid)
        for how in ("length", "chunked"):
            (answer,) = upload(service, how, 300)
            assert answer.status == 303
        assert peak(service.process.pid) - most < 32 * 2**20


def upload(service, how, count):
    """Send a form with a file of some MiB, piece by piece; its boundary is an odd one."""
    before = b'--<b>\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    pieces = [before, *[bytes(range(256)) * 4096] * count, b"\r\n--<b>--\r\n"]
    length = b"Content-Length: %d" % sum(map(len, pieces))
    if how == "chunked":
        length = b"Transfer-Encoding: chunked"
    url = urlsplit(service.url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as s:
        s.sendall(
            b"POST /digest/async HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s\r\n"
            b'Content-Type: multipart/form-data; boundary="<b>"\r\n\r\n' % length
        )
        for piece in pieces:
            s.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if how == "chunked" else piece)
        s.sendall(b"0\r\n\r\n" if how == "chunked" else b"")
        return answers(s)
