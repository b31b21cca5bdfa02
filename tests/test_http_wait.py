"""WAIT, by the decision table of the standard (2.2.1.2; behaviours D)."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from twisted.internet.defer import Deferred

from tests.serving import text, within
from twuws.testing import running

pytestmark = [pytest.mark.slow, pytest.mark.covered]


def start(coroutine):
    return Deferred.fromCoroutine(coroutine)


async def waitingFor(serving, number):
    """Until so many wait: what they look at is read before they do."""
    from twisted.internet.task import deferLater

    while serving.uws.watcher.waiting() != number:
        await deferLater(serving.reactor, 0.005)


async def test_at_once(serving):
    pending = await serving.create()
    done = await serving.create({"PHASE": "RUN"})
    await serving.ended(done)
    for url, query in (
        (done, "?WAIT=100"),
        (done, "?WAIT=-1&PHASE=COMPLETED"),
        (pending, ""),
        (pending, "?WAIT=0"),
        (pending, "?WAIT=100&PHASE=EXECUTING"),
        (pending, "?WAIT=100&PHASE=COMPLETED&PHASE=QUEUED"),
        (pending, "?WAIT=-1&phase=queued"),
        (pending, "/phase?WAIT=100"),
    ):
        assert (await within(5, start(serving.get(url + query)))).status == 200
    assert (await within(5, start(serving.request("HEAD", pending + "?WAIT=99")))).status == 200


@pytest.mark.parametrize("query", ["WAIT=-1", "WAIT=30", "WAIT=30&PHASE=PENDING",
                                   "wait=100&wait=30&PHASE=QUEUED&PHASE=PENDING"])  # fmt: skip
async def test_until_the_phase_changes(serving, query):
    url = await serving.create()
    waiting = start(serving.job(f"{url}?{query}"))
    await waitingFor(serving, 1)
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    assert text(await within(5, waiting), "phase") == "ABORTED"
    await waitingFor(serving, 0)


async def test_until_the_time_is_up(serving):
    url = await serving.create()
    before = serving.reactor.seconds()
    assert text(await serving.job(url + "?WAIT=1"), "phase") == "PENDING"
    assert 1 <= serving.reactor.seconds() - before < 3
    serving.uws.longestWait = 0.5
    assert text(await within(5, start(serving.job(url + "?WAIT=-1"))), "phase") == "PENDING"
    await waitingFor(serving, 0)


async def test_through_all_phases(serving):
    url = await serving.create({"seconds": "0.3"})
    pending = start(serving.job(url + "?WAIT=20&PHASE=PENDING"))
    await waitingFor(serving, 1)
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    assert text(await within(5, pending), "phase") != "PENDING"
    await within(5, start(serving.job(url + "?WAIT=20&PHASE=QUEUED")))
    job = await within(5, start(serving.job(url + "?WAIT=20&PHASE=EXECUTING")))
    assert text(job, "phase") == "COMPLETED"


@pytest.mark.parametrize("bad", ["text", "1.5", "-2", "", "-1.0", "1e3"])
async def test_bad(serving, bad):
    url = await serving.create()
    answer = await serving.get(url, params={"WAIT": bad})
    assert answer.status == 400
    assert answer.text.startswith("WAIT")
    assert (await serving.get(url, params={"WAIT": "1", "PHASE": "nonsense"})).status == 400


async def test_destroyed(serving):
    url = await serving.create()
    waiting = start(serving.get(url + "?WAIT=30"))
    await waitingFor(serving, 1)
    await serving.request("DELETE", url)
    assert (await within(5, waiting)).status == 404


async def test_client_gone(serving, loggedErrors):
    url = await serving.create()
    waiting = [start(serving.get(url + "?WAIT=30")) for _ in range(20)]
    await waitingFor(serving, 20)
    for one in waiting:
        one.addErrback(lambda f: None)  # that it was not answered
        one.cancel()
    await waitingFor(serving, 0)
    assert await serving.phase(url) == "PENDING"


async def test_service_stops(serving):
    url = await serving.create()
    waiting = start(serving.job(url + "?WAIT=30"))
    await waitingFor(serving, 1)
    await serving.jobServices.stopService()
    assert text(await within(5, waiting), "phase") == "PENDING"


async def test_many(serving):
    """Others are served while hundreds wait, and one change reaches them all."""
    url = await serving.create()
    waiting = [start(serving.get(url + "?WAIT=30")) for _ in range(300)]
    await waitingFor(serving, 300)
    before = serving.reactor.seconds()
    assert (await serving.get(url + "/phase")).text == "PENDING"
    assert serving.reactor.seconds() - before < 1
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    for one in waiting:
        assert b"ABORTED" in (await within(10, one)).content


def test_many_come_at_once():
    """They are connected, even while the service does something else: none has to try again."""
    with running() as service, ExitStack() as opened:
        url = urlsplit(service.url)
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            for _ in range(300):  # the kernel tries again after a second
                one = socket.create_connection((url.hostname, url.port), timeout=0.9)
                opened.enter_context(one)
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        one.sendall(b"GET /sleep/availability HTTP/1.1\r\nHost: h\r\n\r\n")
        one.settimeout(20)
        assert b" 200 OK" in one.recv(100)
