"""
Every limit that C{docs/limits.rst} tells of, as a configuration sets it and a client meets it: the
page and the tests are held against each other, so that neither has one that the other has not.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.serving import serve
from tests.test_connections import HEAD, client
from tests.working import until
from twuws import config
from twuws.errors import ConfigError
from twuws.web.bodies import requestFactory
from twuws.web.site import PoliteSite

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parent.parent / "docs" / "limits.rst"
#: Keys of the table that are no limits of their own: who has none, and how long one is not for.
NO_LIMITS = {"spared", "body-grace"}
GET = b"GET /noted/async HTTP/1.1\r\nHost: x\r\n"


def rows():
    """What each limit's row in the tables says."""
    found, inTable = {}, False
    for line in PAGE.read_text().splitlines():
        if re.fullmatch(r"=+( =+)+", line):
            inTable = True
        elif not line:
            inTable = False
        elif inTable and (name := re.match(r"``([a-z-]+)``", line)):
            found[last := name[1]] = line
        elif inTable and line.startswith(" ") and found:
            found[last] += line
    return found


ROWS = rows()


@pytest.fixture
def begin(database, tmp_path):
    """Begins a service with a line in the table [limits]."""
    from twisted.internet import reactor

    made = []

    async def begin(line):
        path = tmp_path / "uws.toml"
        path.write_text(f'[limits]\nspared = []\n{line}\n[services.noted]\ncommand = ["true"]\n')
        told = config.load(str(path))
        factory = requestFactory(tmp_path / "jobs", told.web)

        def makeSite(root):
            site = PoliteSite(root, factory, reactor, told.limits.connection)
            site.interval = 0.05
            return site

        serving = await serve(
            database, tmp_path / "jobs", slots=0, settings=told.web, makeSite=makeSite,
            accountLimits=told.limits.account,
        )  # fmt: skip
        serving.number, serving.site = serving.port.getHost().port, serving.port.factory
        made.append(serving)
        return serving

    yield begin

    async def stop(serving):
        await serving.stop()
        await until(lambda: not serving.site._connections and not serving.site.turnedAway)

    for serving in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(stop(serving)))


def parsed(answer):
    """An answer that came over a socket; no status if there was none."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        return SimpleNamespace(status=None, text=head.decode(), headers={})
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return SimpleNamespace(status=int(first.split(" ")[1]), text=body.decode(), headers=headers)


def sending(*pieces):
    """What sends bytes, and reads all that comes."""

    async def send(serving):
        one = await client(serving)
        await one.send(b"".join(pieces))
        answer = parsed(await one.answer())
        one.close()
        return answer

    return send


def posting(times=1, data=(), size=None):
    """What makes jobs; the last answer."""

    async def post(serving):
        files = {} if size is None else {"files": {"f": ("f", "text/plain", b"x" * size)}}
        return [await serving.post("", data, **files) for _ in range(times)][-1]

    return post


async def waiting(serving):
    url = await serving.create()
    first = Deferred.fromCoroutine(serving.get(url + "?WAIT=30"))
    await until(lambda: serving.uws.watcher.waiting() == 1)
    answer = await serving.get(url + "?WAIT=30")
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    assert (await first).status == 200
    return answer


def connecting(number):
    async def connect(serving):
        others = [await client(serving) for _ in range(number)]
        await until(lambda: len(serving.site._connections) == number)
        answer = await sending()(serving)
        for one in others:
            one.close()
        return answer

    return connect


async def notReading(serving):
    url = await serving.create({"label": "x" * 1000})
    path = re.sub("https?://[^/]*", "", url).encode()
    slow = await client(serving, receive=4096)
    asking = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path
    sending = slow.send(asking * 20_000)  # until nobody takes any more of it
    sending.addErrback(lambda failure: failure.trap(OSError))
    await until(lambda: serving.site._watched)
    await until(lambda: not serving.site._connections)
    await sending
    slow.close()
    return SimpleNamespace(status=None, text="", headers={})


async def notReadingMuch(serving):
    url = await serving.create({"label": "x" * 1_000_000})
    slow = await client(serving, receive=4096)
    await slow.send(
        b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % re.sub("https?://[^/]*", "", url).encode()
    )
    await until(lambda: not serving.site._connections)
    answer = await slow.answer()
    assert len(answer) < 1_000_000
    slow.close()
    return SimpleNamespace(status=None, text="", headers={})


#: For each limit: what sets it, how it is gone beyond, and what the answer has; C{None} as status
#: is for no answer.
CASES = {
    "made": ("made = 1", posting(2), 429, "1 are the most"),
    "kept": ("kept = 1", posting(2), 403, "1 are the most"),
    "queued": ("queued = 1", posting(2, {"PHASE": "RUN"}), 429, "1 are the most"),
    "stored": ("stored = 100", posting(2, size=60), 403, "100 are the most"),
    "stored alone": ("stored = 100", posting(1, size=101), 413, "can have 100"),
    "waits": ("waits = 1", waiting, 429, "by 1 requests"),
    "parameters": ("parameters = 2", posting(data=[("a", "b")] * 3), 413, "have 2 values"),
    "name-length": ("name-length = 5", posting(data={"abcdef": "x"}), 400, "5 characters"),
    "value-size": ("value-size = 5", posting(data={"a": "x" * 6}), 413, "have 5"),
    "text-size": ("text-size = 100", posting(data={"a": "x" * 100}), 413, "100 is the most"),
    "headers": ("headers = 5", sending(GET, b"A: b\r\n" * 9, b"\r\n"), 431, "5 headers"),
    "header-size": (
        "header-size = 500", sending(GET, b"A: ", b"b" * 600, b"\r\n\r\n"), 431, "500",
    ),
    "header-size of the URL": (
        "header-size = 500", sending(b"GET /", b"b" * 600, b" HTTP/1.1\r\n"), 414, "500",
    ),
    "header-time": ("header-time = 0.3", sending(b"GET / HT"), 408, "0.3 s"),
    "body-rate": (
        "body-rate = 70000\nbody-grace = 0.3",
        sending(HEAD, b"Content-Length: 90000\r\n\r\nabc"), 408, "70000 bytes/s",
    ),
    "idle-time": ("idle-time = 0.3", sending(), None, ""),
    "send-time": ("send-time = 0.3\nbody-rate = 1000000000", notReading, None, ""),
    "unsent": ("unsent = 100000", notReadingMuch, None, ""),
    "connections-per-address": ("connections-per-address = 2", connecting(2), 429, "2 connections"),
    "connections": ("connections = 4", connecting(4), 503, "4 connections"),
}  # fmt: skip


def limitOf(case):
    return case.partition(" ")[0]


@pytest.mark.parametrize("case", CASES)
async def test_beyond_it(begin, case):
    """As the page says: the status; the message names limit and value; and when to come again."""
    line, provoke, status, value = CASES[case]
    limit = limitOf(case)
    answer = await provoke(await begin(line))
    assert answer.status == status, answer.text
    if status is None:
        assert "connection is closed" in ROWS[limit]
        assert answer.text == ""
        return
    assert str(status) in ROWS[limit]
    assert f"limits.{limit}" in answer.text
    assert value in answer.text
    again = answer.headers.get("retry-after", "0")
    assert (int(again) > 0) == (status in (429, 503))


def test_every_row_has_a_test():
    assert set(ROWS) == {limitOf(case) for case in CASES}
    for limit, row in ROWS.items():
        told = {int(status) for status in re.findall(r"\b(4\d\d|503)\b(?! bytes)", row)}
        assert told == {CASES[one][2] for one in CASES if limitOf(one) == limit} - {None}, limit


def test_every_key_has_a_row(tmp_path):
    """The message about a key that means nothing lists those that do."""
    path = tmp_path / "uws.toml"
    path.write_text('[limits]\nq0q = 1\n[services.a]\ncommand = ["true"]\n')
    with pytest.raises(ConfigError, match="q0q") as e:
        config.load(str(path))
    keys = str(e.value).rpartition("; ")[2].split(", ")
    assert set(keys) == set(ROWS) | NO_LIMITS
