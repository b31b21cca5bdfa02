"""What runs next, and how much runs at a time: exact on all nodes together, and fair."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import median

import pytest
from twisted.internet.defer import Deferred, gatherResults

from tests.working import until
from twuws import UWSJob
from twuws.database import Database
from twuws.errors import StaleAttempt
from twuws.jobs import JobError, Outcome, Result
from twuws.jobservices import JobServices
from twuws.jobstable import JobsTable
from twuws.node import Node, NodeSettings, RunLimits
from twuws.phases import COMPLETED
from twuws.uws import UWS


class Nothing(UWSJob):
    """Does nothing, somewhere else."""

    async def run(self):
        pass


class Until(UWSJob):
    """Runs until it is told to end."""

    running: list[Until] = []

    async def run(self):
        self.end = Deferred()
        self.running.append(self)
        try:
            await self.end
        finally:
            self.running.remove(self)


@pytest.fixture
def services(database, tmp_path):
    return {
        name: UWS(Nothing, database=database, directory=tmp_path / "jobs", name=name)
        for name in ("one", "two")
    }


def nodeOf(services, **limits):
    table = next(iter(services.values())).table
    return Node(table, list(services), 1, NodeSettings(limits=RunLimits(**limits)))


async def queued(uws, owner=None, priority=None, client=None):
    jobId = await uws.getNewJobId(owner=owner, client=client)
    await uws.run(jobId, priority=priority)
    return jobId


async def end(services, record):
    await services[record.service].recordOutcome(
        record.jobId, record.attempt, Outcome(phase=COMPLETED), (), {}
    )


async def claimAll(node):
    found = []
    while (record := await node.claim()) is not None:
        found.append(record)
    return found


async def test_limit_in_all(services):
    node = nodeOf(services, inAll=3)
    for uws in services.values():
        for owner in ("a", "b"):
            await queued(uws, owner)
    records = await claimAll(node)
    assert len(records) == 3
    assert node.isLimited
    assert not node.isHeld
    await end(services, records[0])
    assert await node.claim()
    assert await claimAll(node) == []
    assert not node.isLimited


async def test_limit_of_a_service(services):
    node = nodeOf(services, perService={"one": 1})
    for uws in services.values():
        for _ in range(3):
            await queued(uws)
    records = await claimAll(node)
    assert Counter(record.service for record in records) == {"one": 1, "two": 3}
    assert node.isLimited


async def test_limit_of_an_owner(services):
    """It counts in all services together; anonymous clients that are not told apart are one."""
    node = nodeOf(services, perOwner=2)
    for uws in services.values():
        for owner in ("a", "a", "b", None, None):
            await queued(uws, owner)
    records = await claimAll(node)
    assert Counter(record.owner for record in records) == {"a": 2, "b": 2, None: 2}


async def test_limit_of_a_client(services, database):
    """Who is anonymous is one with those from the same place, at all services and nodes."""
    nodes = [nodeOf(services, perOwner=2), nodeOf(services, perOwner=2)]
    made = {}
    for uws in services.values():
        for client in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::/64"):
            made[await queued(uws, client=client)] = client
    records = [one for node in nodes for one in await claimAll(node)]
    assert Counter(made[one.jobId] for one in records) == {"192.0.2.1": 2, "2001:db8::/64": 2}
    stopped = next(one for one in records if made[one.jobId] == "192.0.2.1")
    await nodes[0].remember(stopped, {"backend": "none"})
    await services[stopped.service].abort(stopped.jobId)
    assert [await node.claim() for node in nodes] == [None, None]  # it takes its place still
    await nodes[0].stopped(stopped.jobId, stopped.attempt)
    assert made[(await nodes[1].claim()).jobId] == "192.0.2.1"


async def test_clients_at_their_limit_are_passed_over(services):
    """They keep nobody waiting, however many jobs of theirs are in front."""
    node = nodeOf(services, perOwner=1)
    first = [await queued(services["one"], client="192.0.2.1") for _ in range(5)]
    late = await queued(services["one"], client="192.0.2.2")
    spared = [await queued(services["one"]) for _ in range(2)]
    records = await claimAll(node)
    assert [one.jobId for one in records] == [first[0], late, spared[0]]
    assert node.isLimited
    await end(services, records[0])
    assert (await node.claim()).jobId == first[1]


async def test_client_of_what_was_destroyed(services):
    """Until its work has ended, it takes the place of who made it, and not of others."""
    node, uws = nodeOf(services, perOwner=1), services["one"]
    await queued(uws, client="192.0.2.1")
    record = await node.claim()
    await node.remember(record, {"backend": "none"})
    await uws.destroy(record.jobId)
    again = await queued(uws, client="192.0.2.1")
    spared = await queued(uws)
    assert (await node.claim()).jobId == spared
    assert await node.claim() is None
    await node.stopped(record.jobId, record.attempt)
    assert (await node.claim()).jobId == again


async def test_what_is_being_stopped_takes_its_place(services):
    """Until nothing of its work is left, whatever its phase says."""
    node = nodeOf(services, inAll=1)
    uws = services["one"]
    await queued(uws, "a")
    record = await node.claim()
    await node.remember(record, {"backend": "none"})
    await queued(uws, "b")
    await uws.abort(record.jobId)
    assert await node.claim() is None
    assert node.isLimited
    await node.stopped(record.jobId, record.attempt)
    assert (await node.claim()).owner == "b"


async def test_limits_on_many_nodes_at_once(services):
    """Ten nodes, each on a connection of its own, end and claim as fast as they can."""
    uws = services["one"]
    random = Random(7)
    owners = [random.choice("abcd") for _ in range(150)]
    await gatherResults([Deferred.fromCoroutine(queued(uws, owner)) for owner in owners])
    settings = NodeSettings(limits=RunLimits(inAll=5, perOwner=2))
    databases = [Database(uws.database.dsn, schema=uws.database.schema, size=2) for _ in range(10)]
    running = Counter()
    most = Counter()
    done = []

    async def work(node):
        while len(done) < len(owners):
            record = await node.claim()
            if record is None:
                continue
            running[record.owner] += 1
            most[record.owner] = max(most[record.owner], running[record.owner])
            most["all"] = max(most["all"], running.total())
            await uws.database.query("SELECT pg_sleep(0.05)")
            running[record.owner] -= 1  # before it can be another's
            await end(services, record)
            done.append(record.jobId)

    nodes = [Node(JobsTable(database), ["one"], 1, settings) for database in databases]
    await gatherResults([Deferred.fromCoroutine(work(node)) for node in nodes])
    assert len(set(done)) == len(owners)
    assert most["all"] == 5
    assert all(number == 2 for owner, number in most.items() if owner != "all")
    for database in databases:
        await database.stopService()


async def test_order(services):
    """By priority, then the owner with the fewest running, then by time."""
    one, two = services.values()
    node = nodeOf(services)
    order = [
        await queued(one, "busy", priority=5),
        await queued(one, "busy"),
        await queued(two, "busy"),
        await queued(one, "early"),
        await queued(two, "late"),
        await queued(one, "late"),
        await queued(one, "never", priority=-1),
    ]
    busyFirst, busy, busyToo, early, late, lateToo, last = order
    claimed = [record.jobId for record in await claimAll(node)]
    # "busy" has one running after the first, "early" and "late" have none.
    assert claimed == [busyFirst, early, late, busy, lateToo, busyToo, last]


async def test_long_queue_of_one_owner(services):
    """Who queues ten thousand jobs delays another's first by one job at most, at no cost."""
    uws = services["one"]
    node = nodeOf(services)
    await uws.database.query(
        "INSERT INTO jobs (job_id, service, owner, phase, execution_duration)"
        " SELECT md5(n::text), 'one', 'many', 'QUEUED', 0 FROM generate_series(1, 10000) n"
    )
    await uws.database.query(
        "INSERT INTO queue (job_id, service, owner)"
        " SELECT job_id, service, owner FROM jobs WHERE owner = 'many'"
    )
    assert (await node.claim()).owner == "many"
    jobId = await queued(uws, "other")
    assert (await node.claim()).jobId == jobId
    reactor = uws.database.reactor
    began = reactor.seconds()
    for _ in range(20):
        await node.claim()
    assert reactor.seconds() - began < 2


async def test_what_cannot_be_claimed(services):
    """A node that is asked to leave, or is not known to be alive, takes nothing."""
    uws = services["one"]
    await queued(uws)
    node = nodeOf(services)
    await node.beat()
    await uws.table.run("drain", {"node": node.name, "how": "leave"})
    assert await node.claim() is None
    assert not node.isLimited
    await node.beat()
    assert node.draining == "leave"
    other = nodeOf(services)
    await other.beat()
    await uws.database.query("UPDATE nodes SET lease_ends = now() - interval '1 s'")
    assert await other.claim() is None
    await other.beat()
    assert await other.claim()


async def test_place_that_gets_free_elsewhere(database, tmp_path):
    """A node that a limit holds back hears when it does not any more, without polling."""
    Until.running.clear()
    settings = NodeSettings(limits=RunLimits(inAll=1))
    services = [
        UWS(Until, database=database, directory=tmp_path / "jobs", name=name)
        for name in ("one", "two")
    ]
    both = [JobServices([uws], slots=1, settings=settings) for uws in services]
    for jobServices in both:
        jobServices.startService()
    await until(lambda: all(jobServices.running for jobServices in both))
    first = await queued(services[0])
    await until(lambda: len(Until.running) == 1)
    second = await queued(services[1])
    await until(lambda: both[1].node.isLimited)
    reactor = database.reactor
    began = reactor.seconds()
    Until.running[0].end.callback(None)
    await until(lambda: any(job.jobId == second for job in Until.running))
    assert reactor.seconds() - began < 1  # the safety net is 30 s
    # The same when the job is aborted, once its work has ended.
    third = await queued(services[0])
    await until(lambda: both[0].node.isLimited)
    await services[1].abort(second)
    await until(lambda: any(job.jobId == third for job in Until.running))
    assert (await services[0].getJob(first)).phase == "COMPLETED"
    for jobServices in both:
        await jobServices.stopService()


class Short(UWSJob):
    """Is done at once."""

    async def run(self):
        pass


async def test_how_soon_the_next_begins(database, tmp_path):
    """A place that gets free is taken within 50 ms, also by another node."""
    settings = NodeSettings(limits=RunLimits(inAll=1))
    services = [
        UWS(Short, database=database, directory=tmp_path / "jobs", name=name)
        for name in ("one", "two")
    ]
    jobIds = [await queued(uws) for _ in range(40) for uws in services]  # in turns
    both = [JobServices([uws], slots=1, settings=settings) for uws in services]
    for jobServices in both:
        jobServices.startService()
    await until(lambda: all(jobServices.running for jobServices in both))
    for uws, jobId in zip(services * 40, jobIds, strict=True):
        assert (await uws.untilEnded(jobId, 20)).phase == "COMPLETED"
    for jobServices in both:
        await jobServices.stopService()
    rows = await database.query(
        "SELECT service, phase, at FROM events WHERE phase IN ('EXECUTING', 'COMPLETED')"
        " ORDER BY event_id"
    )
    gaps = [
        (after["at"] - before["at"]).total_seconds()
        for before, after in zip(rows[1::2], rows[2::2], strict=False)
    ]
    assert [row["phase"] for row in rows] == ["EXECUTING", "COMPLETED"] * 80
    changes = [a["service"] != b["service"] for a, b in zip(rows[1::2], rows[2::2], strict=False)]
    # Which of the two is faster each time is chance, but none is always.
    elsewhere = [gap for gap, isChange in zip(gaps, changes, strict=True) if isChange]
    assert len(elsewhere) > 2
    assert median(gaps) < 0.05, sorted(gaps)
    assert median(elsewhere) < 0.05, sorted(elsewhere)
    assert max(gaps) < 2  # nothing had to wait for the safety net


# Several at a time


async def test_several_are_as_one_by_one(services):
    """What is taken at a time is what would be taken one after the other."""
    rng = Random(7)
    left = {}
    for _ in range(40):
        owner, priority = rng.choice("abc"), rng.choice([0, 0, 5])
        uws = rng.choice(list(services.values()))
        left[await queued(uws, owner, priority)] = owner, -priority
    order = list(left)
    node, running = nodeOf(services), Counter()
    while left:
        places = rng.randint(1, 9)
        expected = set()
        for _ in range(min(places, len(left))):
            jobId = min(left, key=lambda j: (left[j][1], running[left[j][0]], order.index(j)))
            running[left.pop(jobId)[0]] += 1
            expected.add(jobId)
        assert {record.jobId for record in await node.claims(places)} == expected
        assert node.isMore == bool(left)
    assert await node.claims(9) == []


async def test_one_at_a_time_with_others(services):
    """Where there are limits, or other nodes that take jobs, no node takes several at once."""
    uws = services["one"]
    for _ in range(6):
        await queued(uws)
    assert len(await nodeOf(services, inAll=5).claims(3)) == 1
    table = uws.table
    others = [Node(table, ["one"], 4), Node(table, ["three"], 4), Node(table, ["one"], 0)]
    for other, found in ((others[0], 1), (others[1], 2), (others[2], 2)):
        await table.database.query("DELETE FROM nodes")
        await other.beat()
        assert len(await nodeOf(services).claims(2)) == found


async def rowOf(uws, jobId):
    (row,) = await uws.database.query("SELECT * FROM jobs WHERE job_id = %s", (jobId,))
    (event, *_) = (await uws.history(jobId))[::-1]
    assert not await uws.database.query("SELECT FROM queue WHERE job_id = %s", (jobId,))
    varies = ("job_id", "creation_time", "start_time", "end_time", "moved", "destruction")
    moved = {key: value for key, value in row["moved"].items() if key != "at"}
    told = event.phase, event.attempt, event.node, event.who, event.why
    return {key: value for key, value in row.items() if key not in varies}, moved, told


@pytest.mark.parametrize(
    "outcome",
    [Outcome(phase=COMPLETED), Outcome.failed("The sky is cloudy: \x00", "all \ud800 of it")],
    ids=["completed", "failed"],
)
async def test_ends_together_are_as_ends_alone(services, outcome):
    uws = services["one"]
    results = (Result(id="a", file="a.txt", mediaType="text/plain", size=3),)
    for _ in range(5):
        await queued(uws, "a")
    records = await nodeOf(services).claims(5)
    await gatherResults(
        [
            uws.recordOutcome(
                record.jobId, 1, outcome, results, {"progress": 1}, "n", record if n else None
            )
            for n, record in enumerate(records)
        ]
    )
    alone, *together = [await rowOf(uws, record.jobId) for record in records]
    assert together == [alone] * 4


async def test_ends_together_of_what_is_locked_or_stale(services):
    """What others change is waited for; what is another attempt's by now is left alone."""
    uws = services["one"]
    for _ in range(3):
        await queued(uws)
    locked, stale, usual = await nodeOf(services).claims(3)
    error = JobError(message="lost", type="transient")
    await uws.recordLoss(stale.jobId, 1, error, ended=True, again=True)
    end = [
        lambda record=record: uws.recordOutcome(
            record.jobId, 1, Outcome(phase=COMPLETED), (), {}, None, record
        )
        for record in (usual, locked, stale)
    ]
    async with uws.database.transaction() as t:
        await t.execute("SELECT FROM jobs WHERE job_id = %s FOR UPDATE", (locked.jobId,))
        first, second, third = [one() for one in end]
        await first
        with pytest.raises(StaleAttempt):
            await third
        assert not second.called
    await second
    phases = [(await uws.getJob(one.jobId)).phase for one in (locked, stale, usual)]
    assert phases == ["COMPLETED", "QUEUED", "COMPLETED"]
