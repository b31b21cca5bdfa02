"""A connection is lost just when a node needs it: what was to be done is done before long."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from twisted.internet.task import deferLater

from tests.serving import text
from tests.working import until
from twuws.statements import PREPARED, STATEMENTS

#: What is long before a node looks by itself, s.
SOON = 8


@pytest.fixture
def losing(serving, database, monkeypatch):
    """
    C{async with losing(name)}: whoever runs this statement loses the connection, until nobody
    tries any more.
    """
    dispatcher = serving.jobServices.dispatcher

    def failures():
        return sum(
            sample.value
            for metric in database.counters.statementFailures.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )

    def isQuiet():
        return dispatcher._looking is None and not dispatcher.attempts.stopper.underWay()

    @asynccontextmanager
    async def losing(name):
        await until(isQuiet)
        good, before = STATEMENTS[name], failures()
        monkeypatch.delitem(PREPARED, name, raising=False)
        monkeypatch.setitem(STATEMENTS, name, "SELECT pg_terminate_backend(pg_backend_pid())")
        yield
        await until(lambda: failures() > before and isQuiet())
        monkeypatch.setitem(STATEMENTS, name, good)

    return losing


async def test_claim(serving, losing):
    """A job that could not be claimed does not wait for another that is queued."""
    await serving.ended(await serving.create({"PHASE": "RUN"}))  # all has begun that begins
    await until(lambda: not serving.jobServices.dispatcher.busy)
    url = await serving.create()
    async with losing("claim"):
        await serving.post(url + "/phase", {"PHASE": "RUN"})
    assert text(await serving.ended(url, within=SOON), "phase") == "COMPLETED"


@pytest.mark.parametrize("name", ["stopsForNode", "stopped"])
async def test_stop(serving, losing, name):
    """What could not be stopped, or could be without anybody hearing of it, keeps no place."""
    database = serving.uws.database
    url = await serving.create({"seconds": "60", "PHASE": "RUN"})
    while "half" not in (await serving.get(url)).text:  # it works, and tells
        await deferLater(serving.reactor, 0.02)
    async with losing(name):
        await serving.post(url + "/phase", {"PHASE": "ABORT"})
    deadline = serving.reactor.seconds() + SOON
    while await database.query("SELECT job_id FROM stops"):
        assert serving.reactor.seconds() < deadline
        await deferLater(serving.reactor, 0.05)
