"""When jobs that wait will be started; and that claims are made in the same order."""

from __future__ import annotations

import random
import time

import pytest

from twuws.jobstable import JobsTable
from twuws.node import Node, NodeSettings
from twuws.policy import RunLimits
from twuws.waitingline import Line, Running, Waiting, Worker

WORKER = Worker(name="n", slots=1, services=frozenset({"s"}))


def waiting(jobId, owner="o", priority=0, queuedAt=0, seconds=10, service="s"):
    return Waiting(
        jobId=jobId, service=service, owner=owner, priority=priority, queuedAt=queuedAt,
        seconds=seconds,
    )  # fmt: skip


def running(left, owner="o", node="n", service="s"):
    return Running(service=service, owner=owner, node=node, left=left)


def starts(*jobs, workers=(WORKER,), runs=(), **limits):
    line = Line(workers=workers, running=runs, waiting=jobs, limits=RunLimits(**limits))
    return line.starts()


def slots(n, *services):
    return (Worker(name="n", slots=n, services=frozenset(services or {"s"})),)


def test_one_after_the_other():
    jobs = [waiting("a", queuedAt=2), waiting("b", queuedAt=1, seconds=5)]
    assert starts(*jobs, runs=(running(7),)) == {"b": 7, "a": 12}
    assert starts(*jobs, workers=slots(2)) == {"b": 0, "a": 0}


def test_priority_then_fairness_then_time():
    jobs = [
        waiting("a", queuedAt=1),
        waiting("b", queuedAt=2),
        waiting("c", queuedAt=3, owner="other"),
        waiting("d", queuedAt=4, priority=1),
    ]
    found = starts(*jobs, runs=(running(3), running(8)), workers=slots(2))
    # When d runs, o has two that run, and the other none.
    assert found == {"d": 3, "c": 8, "a": 13, "b": 18}


def test_limits():
    jobs = [waiting(str(n), queuedAt=n, owner="ab"[n % 2]) for n in range(4)]
    workers = slots(9)
    assert set(starts(*jobs, workers=workers).values()) == {0}
    assert starts(*jobs, workers=workers, inAll=1) == {"0": 0, "1": 10, "2": 20, "3": 30}
    assert starts(*jobs, workers=workers, perOwner=1) == {"0": 0, "1": 0, "2": 10, "3": 10}
    assert starts(*jobs, workers=workers, perService={"s": 3})["3"] == 10
    assert starts(*jobs, workers=workers, runs=(running(4, owner="b"),), perOwner=1) == {
        "0": 0, "1": 4, "2": 10, "3": 14,
    }  # fmt: skip


def test_workers_of_some_services():
    workers = (*slots(1), Worker(name="m", slots=1, services=frozenset({"s", "t"})))
    jobs = [waiting("a", service="t"), waiting("b", service="u"), waiting("c")]
    runs = (running(5, node="m", service="t"), running(100, node="gone"))
    assert starts(*jobs, workers=workers, runs=runs) == {"c": 0, "a": 5}


def test_next():
    jobs = [waiting(str(n), queuedAt=n) for n in range(10)]
    runs = (running(3), running(1000))
    line = Line(workers=slots(2), running=runs, waiting=tuple(jobs))
    assert line.startOfNext("s", 0, "o") == 103
    assert line.startOfNext("s", 0, "new") == 3  # its owner has none that runs
    assert line.startOfNext("s", 1, "o") == 3
    assert line.startOfNext("s", -1, "new") == 103
    assert line.startOfNext("t", 0, "o") is None
    assert Line(workers=()).startOfNext("s", 0, "o") is None
    assert Line(workers=(WORKER,)).startOfNext("s", 0, "o") == 0
    closed = Line(workers=(WORKER,), limits=RunLimits(perOwner=1), running=(running(4),))
    assert closed.startOfNext("s", 0, "o") == 4


def test_beyond_what_is_looked_at():
    """What is behind counts as the average does, for those who are behind it."""
    jobs = tuple(waiting(str(n), queuedAt=n) for n in range(10))
    line = Line(workers=slots(2), waiting=jobs, beyond=1000)
    assert line.startOfNext("s", 0, "o") == 50 + 5000
    assert line.startOfNext("s", 5, "o") == 0


@pytest.mark.parametrize("owners", [3, 1000], ids=["few", "many"])
def test_takes_no_time(owners):
    """A thousand jobs, of few owners or of many: it is done at each look at the queue."""
    rng = random.Random(1)
    jobs = tuple(
        waiting(str(n), owner=str(n % owners), queuedAt=n, seconds=rng.random() * 100)
        for n in range(1000)
    )
    line = Line(workers=slots(8), waiting=jobs, limits=RunLimits(perOwner=2))
    began = time.process_time()
    assert len(line.starts()) == 1000
    assert time.process_time() - began < 0.5  # 0.01 where nobody else computes


@pytest.mark.parametrize("seed", range(6))
async def test_as_claims_are_made(database, seed):
    """Real claims, one when another job ends, come in the order that is played through."""
    rng = random.Random(seed)
    services = ["s", "t"]
    limits = RunLimits(
        inAll=rng.choice([None, 3]), perOwner=rng.choice([None, 1, 2]), perService={"s": 2}
    )
    node = Node(JobsTable(database), services, 4, NodeSettings(limits=limits))
    await node.beat()
    jobs = [
        waiting(f"j{n:02}", owner=rng.choice(["", "a", "b", "c"]), priority=rng.choice([0, 0, 5]),
                queuedAt=n, service=rng.choice(services), seconds=rng.uniform(1, 100))
        for n in range(40)
    ]  # fmt: skip
    for job in jobs:
        await database.query(
            "INSERT INTO jobs (job_id, service, owner, phase, execution_duration)"
            " VALUES (%s, %s, NULLIF(%s, ''), 'QUEUED', 0)",
            (job.jobId, job.service, job.owner),
        )
        await database.query(
            "INSERT INTO queue (job_id, service, owner, priority, queued_at)"
            " VALUES (%s, %s, %s, %s, to_timestamp(%s))",
            (job.jobId, job.service, job.owner, job.priority, job.queuedAt),
        )
    line = Line(
        workers=(Worker(name=node.name, slots=4, services=frozenset(services)),),
        waiting=tuple(jobs),
        limits=limits,
    )
    seconds = {job.jobId: job.seconds for job in jobs}
    now, ends, claimed = 0.0, {}, {}
    while True:
        while len(ends) < 4 and (record := await node.claim()) is not None:
            claimed[record.jobId] = now
            ends[record.jobId] = now + seconds[record.jobId]
        if not ends:
            break
        first = min(ends, key=ends.__getitem__)
        now = ends.pop(first)
        await database.query("DELETE FROM queue WHERE job_id = %s", (first,))
    assert claimed == line.starts()
    assert list(claimed) == list(line.starts())
