"""Uploads that would be refused are refused before they are read: over sockets, piece by piece."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.server import Site

from tests.authenticating import accessFor, basic
from tests.serving import serve
from tests.test_http_bodies import answers
from tests.working import until
from twuws.accounts import AccountLimits
from twuws.proxies import Proxies
from twuws.web.bodies import SMALL, requestFactory
from twuws.web.limits import RequestLimits
from twuws.web.root import RootResource
from twuws.web.settings import WebSettings

#: Nobody would read so much.
HUGE = 10**12
FORM = b"multipart/form-data; boundary=b"
FIRST = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
LAST = b"\r\n--b--\r\n"
ALICE = {name.encode(): value.encode() for name, value in basic("alice").items()}


@pytest.fixture
def begin(database, tmp_path):
    """Begins a service of which the site asks before it reads bodies."""
    made = []

    async def begin(proxies=("127.0.0.1",), login=None, **limits):
        settings = WebSettings(
            proxies=Proxies(proxies),
            access=accessFor(cleartext=True),
            limits=RequestLimits(textSize=1000),
        )
        factory = requestFactory(tmp_path / "jobs", settings)
        serving = await serve(
            database,
            tmp_path / "jobs",
            settings=settings,
            slots=0,
            makeSite=lambda root: Site(root, requestFactory=factory),
            accountLimits=AccountLimits(**limits),
        )
        made.append(serving)
        return serving

    yield begin
    for serving in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))


def head(url, length, method=b"POST", kind=FORM, **headers):
    """The headers of a request; for a body in chunks if it has no length."""
    size = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    path = url.partition("//")[2].partition("/")[2].encode()
    more = [b"%s: %s" % (name.replace("_", "-").encode(), value) for name, value in headers.items()]
    first = b"%s /%s HTTP/1.1" % (method, path)
    lines = [first, b"Host: 127.0.0.1", b"Content-Type: " + kind, size, *more]
    return b"\r\n".join([*lines, b"", b""])


async def ask(serving, *pieces):
    """Send this, and read the answer, though the body has not come."""
    port = serving.port.getHost().port

    def exchange():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
            for piece in pieces:
                s.sendall(piece)
            return answers(s)

    (answer,) = await deferToThread(exchange)
    answer.text = answer.text.decode()
    return answer


def uploads(serving):
    return list(serving.uws.workDirs.uploads().iterdir())


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("limit", ["kept", "made", "stored", "queued"])
@pytest.mark.parametrize("name", [{}, ALICE])
async def test_beyond_a_limit(begin, limit, how, name):
    """Nothing is read: not of an owner, not of an address; others may go on."""
    serving = await begin(**{limit: 4 if limit == "stored" else 1})
    headers = {"X-Forwarded-For": "192.0.2.1"} | {k.decode(): v.decode() for k, v in name.items()}
    files = {"f": ("f", "text/plain", b"xxxx")}
    data = {"PHASE": "RUN"} if limit == "queued" else {}
    await serving.create(data, files=files, headers=headers)
    size = HUGE if how == "length" else None
    sent = {k.encode().decode(): v.encode() for k, v in headers.items()}
    where = serving.base + "/sync" if limit == "queued" else serving.url
    answer = await ask(serving, head(where, size, **sent))
    assert answer.status == (429 if limit in ("made", "queued") else 403)
    assert f"(limits.{limit})" in answer.text
    assert ("4 are" if limit == "stored" else "1 are") in answer.text
    assert (int(answer.headers.get("retry-after", 0)) > 0) == (answer.status == 429)
    assert answer.headers["connection"] == "close"
    other = {"X-Forwarded-For": b"192.0.2.2"}
    form = FIRST + b"x" * (SMALL if limit != "stored" else 4) + LAST
    answer = await ask(serving, head(where, len(form), Connection=b"close", **other) + form)
    assert answer.status == 303, answer.text
    await until(lambda: not uploads(serving))


async def test_too_much_by_its_length(begin):
    serving = await begin(stored=200_000)
    at = {"X-Forwarded-For": b"192.0.2.1"}
    answer = await ask(serving, head(serving.url, 300_000, **at))
    assert (answer.status, "200000 are the most (limits.stored)" in answer.text) == (413, True)
    form = FIRST + b"x" * 150_000 + LAST
    answer = await ask(serving, head(serving.url, len(form), Connection=b"close", **at) + form)
    assert answer.status == 303
    job = answer.headers["location"]
    answer = await ask(serving, head(serving.url, 150_000, **at))
    assert (answer.status, "store 150000 bytes" in answer.text) == (403, True)
    # What the job has can be replaced by as much, but not by more than there can be.
    for url, method in ((job + "/parameters", b"POST"), (job + "/parameters/f", b"PUT")):
        answer = await ask(serving, head(url, 300_000, method, **at))
        assert (answer.status, "limits.stored" in answer.text) == (413, True)
    again = head(job + "/parameters/f", 180_000, b"PUT", b"text/plain", Connection=b"close", **at)
    assert (await ask(serving, again + b"x" * 180_000)).status == 303
    path = "/" + job.rpartition("/")[2] + "/parameters/f"
    assert (await serving.get(path)).content == b"x" * 180_000


async def test_too_much_in_chunks(begin):
    """It is stopped where there is no room any more, however much would come."""
    serving = await begin(stored=200_000)
    headers = {"X-Forwarded-For": b"192.0.2.1"}
    chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
    sent = [b"%x\r\n%s\r\n" % (len(FIRST), FIRST), *[chunk] * 8]  # and no end
    answer = await ask(serving, head(serving.url, None, **headers), *sent)
    assert (answer.status, "200000 are the most (limits.stored)" in answer.text) == (413, True)
    await until(lambda: not uploads(serving))


async def test_forms_without_files(begin):
    """Their text is not what is stored."""
    serving = await begin(stored=1000)
    kind = b"application/x-www-form-urlencoded"
    form = b"label=" + b"x" * 900 + b"&z=" * 40_000
    sent = head(serving.url, len(form), kind=kind, Connection=b"close") + form
    answer = await ask(serving, sent)
    assert "limits.stored" not in answer.text


@pytest.mark.parametrize(
    ("headers", "where", "status"),
    [
        ({"Authorization": b"Basic " + b"YWxpY2U6d3Jvbmc="}, "", 401),
        ({}, "/" + "0" * 32, 404),
        (ALICE, "/bobs", 403),
        ({**{k.decode(): v for k, v in ALICE.items()}, "Origin": b"http://evil"}, "", 403),
    ],
)
async def test_who_may_not(begin, headers, where, status):
    """They are told so, and how to log in, before they send anything."""
    serving = await begin()
    if where == "/bobs":
        where = "/" + (await serving.create(headers=basic("bob"))).rpartition("/")[2]
    sent = {k if isinstance(k, str) else k.decode(): v for k, v in headers.items()}
    answer = await ask(serving, head(serving.url + where, HUGE, **sent))
    assert answer.status == status
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize(
    "path", ["/noted/login", "/noted/capabilities", "/noted/nothing", "/noted/shared/x", "/", "/x"]
)
async def test_where_nothing_is_stored(begin, path, how):
    """Nobody need be known to be told that this is too much."""
    serving = await begin()
    root = RootResource([serving.uws])
    serving.port.factory.resource = root
    url = serving.base.removesuffix("/noted") + path
    chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
    pieces = [head(url, None), chunk] if how == "chunked" else [head(url, HUGE)]
    answer = await ask(serving, *pieces)
    assert (answer.status, "10000 bytes here" in answer.text) == (413, True)
    await until(lambda: not uploads(serving))


async def test_go_on(begin):
    """Who asks is told to, or not to, and sends nothing in vain."""
    serving = await begin(kept=1)
    port = serving.port.getHost().port
    form = FIRST + b"x" * 200_000 + LAST
    expecting = {"Expect": b"100-continue", "Connection": b"close", "X-Forwarded-For": b"192.0.2.1"}

    def send():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
            s.sendall(head(serving.url, len(form), **expecting))
            assert s.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            s.sendall(form)
            return answers(s)

    (answer,) = await deferToThread(send)
    assert answer.status == 303
    answer = await ask(serving, head(serving.url, len(form), **expecting))
    assert (answer.status, "limits.kept" in answer.text) == (403, True)


async def test_a_key_is_looked_at(begin):
    """Who sends again what made a job gets to it, though there is no room for another."""
    serving = await begin(kept=1)
    form = FIRST + b"x" * 200_000 + LAST
    headers = {"Idempotency-Key": b"k", "Connection": b"close", "X-Forwarded-For": b"192.0.2.1"}
    sent = head(serving.url, len(form), **headers) + form
    first, again = [await ask(serving, sent) for _ in range(2)]
    assert (first.status, again.status) == (303, 303)
    assert first.headers["location"] == again.headers["location"]


async def test_while_the_database_is_away(begin, database):
    serving = await begin(kept=1)
    await database.stopService()
    answer = await ask(serving, head(serving.url, HUGE, **{"X-Forwarded-For": b"192.0.2.1"}))
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    database.startService()


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_who_hangs_up(begin, when):
    """Nothing is left of them, and nobody else notices."""
    serving = await begin(kept=5)
    port = serving.port.getHost().port

    def hangUp():
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
                s.sendall(head(serving.url, HUGE, **{"X-Forwarded-For": b"192.0.2.1"}))
                if when == "later":
                    s.sendall(bytes(300_000))

    await deferToThread(hangUp)
    assert (await serving.get()).status == 200
    await until(lambda: not uploads(serving))
    (row,) = await serving.uws.database.query("SELECT count(*) AS n FROM jobs")
    assert row["n"] == 0
