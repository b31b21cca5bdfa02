"""
What a process tells Prometheus: its counters, its state, and the state of its services' jobs.

docs/metrics.rst says what each of the metrics means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

import twuws
from twuws.database import Row, shield
from twuws.errors import DatabaseUnavailable
from twuws.family import clock
from twuws.jobservices import JobServices
from twuws.phases import IN_QUEUE, Phase

log = Logger()

#: All jobs are counted every so many seconds at most ...
COUNT_INTERVAL = 60.0

#: ... and in at most one part of so many of the time.
COUNT_SHARE = 100


class MetricsResource(Resource):
    """
    The metrics of a process, in the format that is asked for.

    They may be public or not: it asks nobody who they are.

    @cvar patience: how long the database has for an answer, s.
    """

    isLeaf = True
    patience = 3.0

    def __init__(self, jobServices: JobServices) -> None:
        super().__init__()
        self._metrics = Metrics(jobServices)

    def render_GET(self, request: Any) -> int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        answering = Deferred.fromCoroutine(self._answer(request, gone))
        answering.addErrback(self._failed, request, gone)
        return NOT_DONE_YET

    async def _answer(self, request: Any, gone: list[object]) -> None:
        encode, contentType = choose_encoder(request.getHeader("accept") or "")
        content = encode(_Collected([*await self._metrics.collect(self.patience)]))
        if not gone:
            request.setHeader("content-type", contentType)
            request.setHeader("cache-control", "no-store")
            request.write(content)
            request.finish()

    def _failed(self, failure: Any, request: Any, gone: list[object]) -> None:
        log.failure("metrics", failure)
        if not gone:
            request.setResponseCode(500)
            request.finish()


class MetricsSite(Site):
    """
    A site of its own, with C{/metrics} and nothing else.

    It writes no log of requests, for there is one every few seconds.
    """

    displayTracebacks = False

    def __init__(self, jobServices: JobServices) -> None:
        root = Resource()
        root.putChild(b"metrics", MetricsResource(jobServices))
        super().__init__(root)

    def log(self, request: Any) -> None:
        pass


class Metrics:
    """
    Takes stock of a process and its services, for as long as the database takes to answer.

    @param jobServices: of the process.
    """

    def __init__(self, jobServices: JobServices) -> None:
        self._jobServices = jobServices
        self._node = jobServices.node
        self._table = self._node.table
        self._database = self._table.database
        self._services = {"services": self._node.services}
        self._queue = _Answer(lambda: self._table.run("queueNow", self._services))
        self._lag = _Answer(lambda: self._table.run("reaperLag", self._services))
        self._jobs = _Answer(self._countJobs)
        self._counted: float | None = None
        self._countNext = 0.0

    async def collect(self, patience: float) -> list[Metric]:
        """
        All metrics; without what only the database knows if it does not answer in time.

        @param patience: how long it has for that, s.
        """
        reactor = self._database.reactor
        asking = Deferred.fromCoroutine(self._ask())
        try:
            isUp = await shield(asking).addTimeout(patience, reactor)
        except TimeoutError:
            isUp = False
        fromDatabase = self._ofServices() if isUp else ()
        counted = self._database.counters.registry.collect()
        return [*self._ofProcess(isUp), *fromDatabase, *counted]

    async def _ask(self) -> bool:
        """Ask the database; false if it does not answer."""
        isUp = await self._queue.again() and await self._lag.again()
        if isUp and self._database.reactor.seconds() >= self._countNext:
            counting = self._jobs.again()
            if self._counted is None:  # else what there is will do meanwhile
                await counting
        return isUp

    async def _countJobs(self) -> list[Row]:
        seconds = self._database.reactor.seconds
        began = seconds()
        try:
            async with self._database.transaction() as t:
                await self._table.run("limitTime", conn=t)
                rows = await self._table.run("jobsByPhase", self._services, t)
            self._counted = seconds()
            return rows
        finally:
            self._countNext = seconds() + max(COUNT_INTERVAL, COUNT_SHARE * (seconds() - began))

    def _ofProcess(self, isUp: bool) -> Iterator[Metric]:
        node, database = self._node, self._database
        dispatcher = self._jobServices.dispatcher
        yield InfoMetricFamily(
            "twuws_node",
            "This process, as twuws nodes has it",
            {"node": node.name, "host": node.host, "version": twuws.__version__},
        )
        watchers = {uws.watcher for uws in dispatcher.services.values()}
        for name, text, value in (
            ("slots", "How many jobs this process runs at a time", node.slots),
            ("busy_slots", "Jobs that this process runs now, or watches", dispatcher.busy),
            ("draining", "Whether this process is about to leave", dispatcher.isDraining),
            (
                "lease_seconds",
                "For how long this process counts as alive if nothing is heard of it any more",
                max(0.0, node.leaseEnds - clock()),
            ),
            (
                "waiters",
                "Requests to this process that wait for a job's phase to change",
                sum(watcher.waiting() for watcher in watchers),
            ),
            ("database_up", "Whether the database has answered", isUp),
            ("database_pool_size", "Connections that this process may have", database.size),
            ("database_pool_borrowed", "Connections that are in use", database.borrowed),
            ("database_pool_waiting", "Who waits for a free connection", database.waiting),
        ):
            yield GaugeMetricFamily(f"twuws_{name}", text, float(value))

    def _ofServices(self) -> Iterator[Metric]:
        """What the database has said."""
        jobs = GaugeMetricFamily("twuws_jobs", "Jobs", labels=["service", "phase"])
        age = GaugeMetricFamily(
            "twuws_queue_age_seconds",
            "For how long the job has waited that has waited longest",
            labels=["service"],
        )
        now = {(row["service"], row["phase"]): row for row in self._queue.rows}
        before = {(row["service"], row["phase"]): row for row in self._jobs.rows}
        for service in self._services["services"]:
            for phase in Phase:
                if phase in IN_QUEUE or self._counted is not None:
                    row = (now if phase in IN_QUEUE else before).get((service, phase.value))
                    jobs.add_metric([service, phase.value], row["n"] if row else 0)
            waiting = now.get((service, Phase.QUEUED.value))
            age.add_metric([service], waiting["age"] if waiting else 0)
        yield from (jobs, age)
        lag = self._lag.rows[0]["lag"] if self._lag.rows else 0
        yield GaugeMetricFamily(
            "twuws_reaper_lag_seconds",
            "How long ago the job should have been destroyed that is most overdue for that",
            lag,
        )
        if self._counted is not None:
            yield GaugeMetricFamily(
                "twuws_jobs_count_age_seconds",
                "How long ago the jobs were counted that are not in the queue",
                self._database.reactor.seconds() - self._counted,
            )


class _Answer:
    """
    What the database has said last; it is asked once at a time, however many want to know.

    @ivar rows: the answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[list[Row]]]) -> None:
        self._ask = ask
        self._asking: Deferred[None] | None = None
        self._isThere = False
        self.rows: list[Row] = []

    def again(self) -> Deferred[bool]:
        """Ask once more; false if there is no answer."""
        if self._asking is None or self._asking.called:
            self._asking = Deferred.fromCoroutine(self._run())
        return shield(self._asking).addCallback(lambda _: self._isThere)

    async def _run(self) -> None:
        self._isThere = False
        try:
            self.rows = await self._ask()
            self._isThere = True
        except DatabaseUnavailable as e:
            log.info("metrics: {e}", e=e)
        except Exception:
            log.failure("metrics")


class _Collected:
    """What has been collected already, as the formats want it."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
