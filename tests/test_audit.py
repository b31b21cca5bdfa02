"""The record of who has asked for what change, from where, and what came of it."""

from __future__ import annotations

import json

import pytest
from pytest_twisted import blockon
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from tests.authenticating import accessFor, basic
from tests.serving import serve
from twuws.errors import UWSError
from twuws.proxies import Proxies
from twuws.web.audit import AuditLog
from twuws.web.settings import WebSettings


@pytest.fixture
def begin(database, tmp_path):
    started = []

    async def begin(path, **more):
        audit = AuditLog(path)
        settings = WebSettings(access=accessFor(), audit=audit, **more)
        serving = await serve(database, tmp_path / "jobs", settings=settings, slots=0)
        started.append(serving)
        return serving

    yield begin
    for serving in started:
        blockon(Deferred.fromCoroutine(serving.stop()))


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_changes(begin, tmp_path):
    path = tmp_path / "audit.log"
    serving = await begin(path)
    url = await serving.create({"label": "x"}, headers=basic("alice"))
    jobId = url.rpartition("/")[2]
    await serving.get(url, headers=basic("alice"))  # looking at what is one's own is no matter
    await serving.post(url + "/phase", {"PHASE": "RUN"}, headers=basic("alice"))
    await serving.request("DELETE", url, headers=basic("bob"))
    await serving.get(url)
    await serving.post("", headers=basic("alice", "wrong"))
    await serving.get(url, headers=basic("root"))
    await serving.request("DELETE", url, headers=basic("root"))
    found = records(path)
    assert [(r["who"], r["by"], r["did"], r["status"], r.get("of")) for r in found] == [
        ("alice", "password", "POST", 303, None),
        ("alice", "password", "POST", 303, None),
        ("bob", "password", "DELETE", 403, None),
        (None, "none", "GET", 401, None),
        (None, "none", "POST", 401, None),
        ("root", "password", "GET", 200, "alice"),
        ("root", "password", "DELETE", 303, "alice"),
    ]
    assert {r["from"] for r in found} == {"127.0.0.1"}
    assert found[0]["job"] == jobId
    assert [r["to"] for r in found[:2]] == ["/noted/async", f"/noted/async/{jobId}/phase"]


async def test_nothing_that_is_sent_makes_a_line(begin, tmp_path):
    path = tmp_path / "audit.log"
    serving = await begin(path)
    forged = "%22%7D%0D%7B%22who%22:%20%22root%22%7D%1B%5B2J%E2%80%A8"
    assert (await serving.post(f"/{forged}/phase", {"PHASE": "RUN"})).status == 404
    assert len(path.read_bytes().splitlines()) == 1
    assert path.read_text().isascii()
    assert 'who": "root' not in path.read_text().replace('\\"', "'")


async def test_moved_away(begin, tmp_path):
    """As logrotate does it, and nobody is told."""
    path = tmp_path / "audit.log"
    serving = await begin(path)
    await serving.create()
    path.rename(tmp_path / "audit.log.1")
    await serving.create()
    assert len(records(path)) == len(records(tmp_path / "audit.log.1")) == 1


async def test_without_a_file(begin):
    """What administrators do with the jobs of others is in the log in any case."""
    serving = await begin(None)
    lines = []

    def observe(event):
        if event["log_namespace"] == "twuws.audit":
            lines.append(json.loads(event["line"]))

    globalLogPublisher.addObserver(observe)
    try:
        url = await serving.create({"label": "x"}, headers=basic("alice"))
        await serving.request("DELETE", url, headers=basic("root"))
    finally:
        globalLogPublisher.removeObserver(observe)
    assert [(line["who"], line["did"], line["of"]) for line in lines] == [
        ("root", "DELETE", "alice")
    ]


def test_a_file_that_cannot_be(tmp_path):
    with pytest.raises(UWSError, match="it cannot be written: Not a directory"):
        AuditLog(tmp_path / "x" / "y") if (tmp_path / "x").touch() is None else None


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({}, "127.0.0.1"),
        ({"X-Forwarded-For": "192.0.2.1"}, "192.0.2.1"),
        ({"X-Forwarded-For": "6.6.6.6, 192.0.2.1"}, "192.0.2.1"),
        ({"X-Forwarded-For": "6.6.6.6, 192.0.2.1, 10.0.0.1"}, "192.0.2.1"),
        ({"X-Forwarded-For": "6.6.6.6, unknown"}, "127.0.0.1"),
        ({"Forwarded": 'for=6.6.6.6, for="[2001:db8::1]:99";proto=https'}, "2001:db8::1"),
        ({"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "192.0.2.1"}, "192.0.2.1"),
        ({"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "6.6.6.6"}, "127.0.0.1"),
    ],
)
async def test_from_behind_a_proxy(begin, tmp_path, headers, address):
    """It is whom the last proxy that is trusted has seen, whatever others have written."""
    path = tmp_path / "audit.log"
    serving = await begin(path, proxies=Proxies(["127.0.0.1", "10.0.0.0/8"]))
    await serving.create(headers=headers)
    assert records(path)[0]["from"] == address


async def test_forged(begin, tmp_path):
    path = tmp_path / "audit.log"
    serving = await begin(path)
    await serving.create(headers={"X-Forwarded-For": "6.6.6.6"})
    assert records(path)[0]["from"] == "127.0.0.1"
