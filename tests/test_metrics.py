"""What Prometheus is told."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import defer
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory

from tests.serving import serve, within
from tests.test_http_vosi import Silent
from tests.working import until
from twuws import metrics as metricsModule
from twuws.chores import Heartbeat
from twuws.database import Database
from twuws.errors import DatabaseUnavailable
from twuws.family import clock
from twuws.jobs import JobError
from twuws.jobservices import JobServices
from twuws.jobstable import JobsTable
from twuws.metrics import MetricsResource, MetricsSite
from twuws.node import Node
from twuws.testing import running
from twuws.uws import UWS


def samples(text):
    """The values by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scraped:
    """The metrics of a service, and how they are asked for."""

    def __init__(self, serving, jobServices=None):
        from twisted.internet import reactor

        self.serving = serving
        site = MetricsSite(jobServices or serving.jobServices)
        self.port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port.getHost().port}/metrics"

    async def __call__(self):
        answer = await within(10, Deferred.fromCoroutine(self.serving.get(self.url)))
        assert answer.status == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return samples(answer.text)


@pytest.fixture
def scrape(serving):
    scraped = Scraped(serving)
    yield scraped
    pytest_twisted.blockon(maybeDeferred(scraped.port.stopListening))


async def test_jobs(serving, scrape, monkeypatch):
    """Of each phase; what waits and what runs at every scrape, the others now and then."""
    monkeypatch.setattr(metricsModule, "COUNT_INTERVAL", 0.0)
    monkeypatch.setattr(metricsModule, "COUNT_SHARE", 0)
    assert (await scrape())["twuws_jobs", "QUEUED", "noted"] == 0
    first = await serving.create({"seconds": "60", "PHASE": "RUN"})
    second = await serving.create({"seconds": "60", "PHASE": "RUN"})
    await serving.create()
    waiting = await serving.create({"PHASE": "RUN"})
    for url in (first, second):
        await until_phase(serving, url, "EXECUTING")
    long = "UPDATE queue SET queued_at = queued_at - interval '1 h' WHERE job_id = %s"
    await serving.uws.database.query(long, (waiting.rpartition("/")[2],))
    found = await scrape()
    while not found["twuws_jobs", "PENDING", "noted"]:  # no scrape waits for a new count
        found = await scrape()
    jobs = {key[1]: value for key, value in found.items() if key[0] == "twuws_jobs"}
    assert jobs == {
        **dict.fromkeys(("COMPLETED", "ERROR", "ABORTED", "UNKNOWN"), 0),
        **dict.fromkeys(("HELD", "SUSPENDED", "ARCHIVED"), 0),
        "PENDING": 1,
        "QUEUED": 1,
        "EXECUTING": 2,
    }
    assert 3600 < found["twuws_queue_age_seconds", "noted"] < 3700
    assert (found["twuws_slots",], found["twuws_busy_slots",]) == (2, 2)
    assert found["twuws_claims_total", "noted"] == 2
    assert 0 <= found["twuws_jobs_count_age_seconds",] < 10
    await serving.post(first + "/phase", {"PHASE": "ABORT"})
    await serving.ended(waiting)
    while not (found := await scrape())["twuws_jobs", "COMPLETED", "noted"]:
        pass
    assert found["twuws_jobs", "ABORTED", "noted"] == 1
    assert found["twuws_queue_age_seconds", "noted"] == 0


async def until_phase(serving, url, phase):
    while await serving.phase(url) != phase:
        pass


async def test_countedNowAndThen(serving, scrape):
    """The whole table is not read for each scrape."""
    assert (await scrape())["twuws_jobs", "PENDING", "noted"] == 0
    await serving.create()
    found = await scrape()
    assert found["twuws_jobs", "PENDING", "noted"] == 0
    assert found["twuws_jobs_count_age_seconds",] > 0


async def test_process(serving, scrape):
    url = await serving.create()
    asked = Deferred.fromCoroutine(serving.get(url + "?WAIT=60"))
    await until(lambda: serving.uws.watcher.waiting())
    await until(lambda: serving.jobServices.node.hasLease)
    found = await scrape()
    assert found["twuws_waiters",] == 1
    assert 60 < found["twuws_lease_seconds",] <= 120
    assert found["twuws_lease_renewals_total",] >= 1
    assert found["twuws_lease_renewal_failures_total",] == found["twuws_lease_lapses_total",] == 0
    assert found["twuws_draining",] == 0
    assert found["twuws_database_up",] == 1
    assert found["twuws_database_pool_size",] == 8
    assert found["twuws_reaper_lag_seconds",] == 0
    statements = found["twuws_database_statement_seconds_count",]
    assert statements > 5
    assert found["twuws_database_statement_seconds_bucket", "+Inf"] == statements
    node = serving.jobServices.node
    assert any(key[0] == "twuws_node_info" and node.name in key for key in found)
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    await asked
    await serving.jobServices.drain()
    found = await scrape()
    assert (found["twuws_draining",], found["twuws_waiters",]) == (1, 0)


async def test_pool(serving, scrape):
    """Who waits for a connection is seen, though the scrape waits as well."""
    database = serving.uws.database
    MetricsResource.patience, patience = 0.3, MetricsResource.patience
    held = [await database.borrow() for _ in range(database.size)]
    try:
        more = [database.borrow() for _ in range(3)]
        found = await scrape()
        assert found["twuws_database_pool_borrowed",] == database.size
        assert found["twuws_database_pool_waiting",] >= 3
        assert found["twuws_database_up",] == 0
        assert ("twuws_jobs", "QUEUED", "noted") not in found
    finally:
        MetricsResource.patience = patience
        for connection in held:
            database.giveBack(connection)
        for connection in await defer.gatherResults(more):
            database.giveBack(connection)
    assert (await scrape())["twuws_database_up",] == 1


async def test_reaperLag(serving, scrape):
    url = await serving.create()
    late = datetime.now(UTC) - timedelta(hours=1)
    change = "UPDATE jobs SET destruction = %s WHERE job_id = %s"
    await serving.uws.database.query(change, (late, url.rpartition("/")[2]))
    assert 3590 < (await scrape())["twuws_reaper_lag_seconds",] < 3700
    await serving.uws.cleanupJobsTable()
    assert (await scrape())["twuws_reaper_lag_seconds",] == 0


async def test_whatGoesWrong(serving, scrape, tmp_path):
    """Attempts that are lost, and leases."""
    url = await serving.create({"seconds": "60", "PHASE": "RUN"})
    await until_phase(serving, url, "EXECUTING")
    jobId = url.rpartition("/")[2]
    await serving.uws.recordLoss(jobId, 1, JobError(message="gone"), ended=False)
    node = serving.jobServices.node
    node.leaseEnds = clock() - 1
    await node.checkLease()
    found = await scrape()
    assert found["twuws_lost_attempts_total", "ERROR", "noted"] == 1
    assert found["twuws_lease_lapses_total",] == 1
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", size=1)
    heartbeat = Heartbeat(Node(JobsTable(database), ["n"], 1), database.reactor)
    heartbeat.startService()
    await until(lambda: value(database.counters.leaseRenewalFailures))
    await heartbeat.stopService()
    assert value(database.counters.leaseRenewals) == 0
    await database.stopService()


def value(counter):
    return counter.collect()[0].samples[0].value


async def test_severalInOneProcess(serving, scrape, postgres, tmp_path):
    """Each has counters of its own."""
    await serving.ended(await serving.create({"PHASE": "RUN"}))
    database = Database(postgres, schema=serving.uws.database.schema)
    database.startService()
    other = await serve(database, tmp_path / "other")
    scrapeOther = Scraped(other)
    try:
        assert (await scrape())["twuws_claims_total", "noted"] == 1
        assert ("twuws_claims_total", "noted") not in await scrapeOther()
    finally:
        await maybeDeferred(scrapeOther.port.stopListening)
        await other.stop()
        await database.stopService()


async def test_formats(serving, scrape):
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = await serving.get(scrape.url, headers=wanted)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert (await serving.request("HEAD", scrape.url)).content == b""
    assert (await serving.post(scrape.url)).status == 405
    assert (await serving.get(scrape.url.removesuffix("metrics"))).status == 404


async def test_hangup(serving, scrape):
    """Who does not wait for the answer does no harm."""
    database = serving.uws.database
    held = [await database.borrow() for _ in range(database.size)]
    asked = Deferred.fromCoroutine(serving.get(scrape.url))
    await until(lambda: database.waiting)
    asked.addErrback(lambda _: None).cancel()
    for connection in held:
        database.giveBack(connection)
    assert (await scrape())["twuws_database_up",] == 1


@pytest.mark.parametrize("how", ["silent", "refused"])
async def test_withoutDatabase(serving, tmp_path, monkeypatch, how):
    """What is known without it is told, and soon."""
    from twisted.internet import reactor

    monkeypatch.setattr(MetricsResource, "patience", 0.3)
    factory = Factory.forProtocol(Silent)
    factory.taken = []
    server = reactor.listenTCP(0, factory, interface="127.0.0.1")
    dsn = f"postgresql://nobody@127.0.0.1:{server.getHost().port}/nothing"
    if how == "refused":
        await server.stopListening()
    uws = UWS(serving.uws.jobClass, database=Database(dsn, size=2), directory=tmp_path, name="n")
    scrape = Scraped(serving, JobServices([uws], slots=5))
    try:
        for _ in range(3):
            found = await scrape()
            assert (found["twuws_database_up",], found["twuws_slots",]) == (0, 5)
        assert found["twuws_database_pool_waiting",] == 0  # scrapes do not queue up
    finally:
        await maybeDeferred(scrape.port.stopListening)
        await maybeDeferred(server.stopListening)
        for transport in factory.taken:
            transport.abortConnection()
        await uws.database.stopService()


async def test_statementsThatFail(serving, scrape):
    with pytest.raises(DatabaseUnavailable):
        async with serving.uws.database.transaction() as t:
            await t.execute("SET LOCAL statement_timeout = '20ms'")
            await t.execute("SELECT pg_sleep(1)")
    assert (await scrape())["twuws_database_statement_failures_total",] == 1


def scraped(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return samples(answer.read().decode())


@pytest.mark.slow
def test_endpointOfItsOwn():
    """It is not where clients come, and only there if it is asked for."""
    with running(options=["--metrics", "tcp:0:interface=127.0.0.1"]) as service:
        url = re.search(r"metrics are at (\S+)", service.log())[1]
        found = scraped(url)
        assert found["twuws_slots",] == 2
        assert found["twuws_jobs", "COMPLETED", "messier"] == 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(service.url + "metrics", timeout=20)
        while '"GET /metrics HTTP/1.1" 404' not in service.log():  # written after the answer
            time.sleep(0.05)
        lines = len(service.log())
        scraped(url)
        assert "/metrics HTTP" not in service.log()[lines:]
    with running() as service:
        assert "metrics are at" not in service.log()
