"""Requests to make a job that come twice: there is one job, and one answer."""

from __future__ import annotations

import os
import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.utils import getProcessOutput

from tests.serving import Noted
from tests.working import until
from twuws.chores import KeyForgetter
from twuws.database import Database
from twuws.errors import BadRequest, DatabaseUnavailable, JobNotFound
from twuws.jobservices import JobServices
from twuws.statements import STATEMENTS
from twuws.uws import UWS

DAY = "interval '24 hours'"


def begin(coroutine):
    return Deferred.fromCoroutine(coroutine)


@pytest.fixture
def uws(database, tmp_path):
    return UWS(Noted, database=database, directory=tmp_path / "jobs", name="noted")


def uploads(uws):
    """The temporary files of requests."""
    return list(uws.workDirs.uploads().iterdir())


def directories(uws):
    """Of the jobs."""
    return [name for name, _ in uws.workDirs.known()]


async def jobs(uws):
    return [row["job_id"] for row in await uws.database.query("SELECT job_id FROM jobs")]


# The facade


async def test_the_same_key_is_the_same_job(uws):
    first = await uws.getNewJobId(idempotencyKey="k", parameters={"x": 1})
    assert await uws.getNewJobId(idempotencyKey="k", parameters={"x": 2}) == first
    assert (await uws.getJob(first)).x == 1
    assert await jobs(uws) == directories(uws) == [first]


async def test_keys_are_of_an_owner_at_a_service(uws, database, tmp_path):
    other = UWS(Noted, database=database, directory=tmp_path / "jobs", name="other")
    ids = {
        await uws.getNewJobId(idempotencyKey="k"),
        await uws.getNewJobId(idempotencyKey="k", owner="anna"),
        await uws.getNewJobId(idempotencyKey="K", owner="anna"),
        await other.getNewJobId(idempotencyKey="k", owner="anna"),
        await uws.getNewJobId(owner="anna"),
        await uws.getNewJobId(owner="anna"),
    }
    assert len(ids) == 6
    again = {
        await uws.getNewJobId(idempotencyKey="k", owner=""),
        await uws.getNewJobId(idempotencyKey="k", owner="anna"),
        await other.getNewJobId(idempotencyKey="k", owner="anna"),
    }
    assert again < ids
    assert len(again) == 3


async def test_keys_of_who_is_anonymous(uws):
    """Nobody gets to know of another's job by a key that both have chosen, or one has guessed."""
    places = ("192.0.2.1", "2001:db8::/64", None)
    ids = [await uws.getNewJobId(idempotencyKey="1", client=place) for place in places]
    assert len(set(ids)) == 3
    again = [await uws.getNewJobId(idempotencyKey="1", client=place) for place in places]
    assert again == ids
    rows = await uws.database.query("SELECT * FROM creations")
    assert not any("192.0.2.1" in str(row) or "2001" in row["owner"] for row in rows)


async def test_at_once_at_two_nodes(uws, database, tmp_path):
    """All come while the first has not ended: one job is made, and one directory."""
    second = Database(database.dsn, schema=database.schema)
    second.startService()
    other = UWS(Noted, database=second, directory=tmp_path / "jobs", name="noted")
    for number in range(5):
        key = f"k{number}"
        ids = await gatherResults(
            [one.getNewJobId(idempotencyKey=key) for one in (uws, other) for _ in range(6)]
        )
        assert len(set(ids)) == 1
    assert len(await jobs(uws)) == len(directories(uws)) == 5
    await second.stopService()


async def test_who_comes_second_waits_for_the_first(uws, database):
    """What the first one does is seen to its end, or it has never been."""
    record = uws._draft({}).record
    async with database.transaction() as t:
        assert await uws.table.useKey(record, "k", None, t) is None
        waiting = uws.getNewJobId(idempotencyKey="k")
        locks = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not await database.query(locks):
            pass
        assert not waiting.called
        await t.execute("ROLLBACK")
    made = await waiting
    assert await jobs(uws) == [made]


@pytest.mark.parametrize("inDoubt", [False, True])
async def test_who_has_waited_for_too_long_leaves_nothing(uws, database, monkeypatch, inDoubt):
    """The directory of the job that was not made goes at once, unless it may have been made."""
    uws.lockTimeout = 0.1
    record, real, tries = uws._draft({}).record, uws._insert, []

    async def insert(*more):
        tries.append(more)
        if inDoubt and len(tries) == 1:
            raise DatabaseUnavailable
        return await real(*more)

    monkeypatch.setattr(uws, "_insert", insert)
    async with database.transaction() as t:
        assert await uws.table.useKey(record, "k", None, t) is None
        with pytest.raises(DatabaseUnavailable):
            await uws.getNewJobId(timeout=0.5, idempotencyKey="k")
        assert len(tries) > 1
        assert len(directories(uws)) == inDoubt
        await t.execute("ROLLBACK")
    assert await jobs(uws) == []


async def test_the_answer_of_the_database_was_lost(uws, monkeypatch):
    """It is asked again, and the job is the one that was made; even if it is gone by then."""
    real, made = uws._insert, []

    async def insert(job, *more):
        made.append(await real(job, *more))
        if len(made) == 1:
            raise DatabaseUnavailable
        if len(made) == 3:
            await uws.destroy(job.jobId)
            raise DatabaseUnavailable
        return made[-1]

    monkeypatch.setattr(uws, "_insert", insert)
    first = await uws.getNewJobId(idempotencyKey="k")
    assert made == [first, first]
    assert await jobs(uws) == directories(uws) == [first]
    gone = await uws.getNewJobId(idempotencyKey="l")
    assert made[2:] == [gone, gone]
    with pytest.raises(JobNotFound):
        await uws.getJob(gone)


async def test_a_refused_one_leaves_its_key(uws):
    with pytest.raises(BadRequest, match="x"):
        await uws.getNewJobId(idempotencyKey="k", parameters={"x": 11})
    with pytest.raises(BadRequest, match="DESTRUCTION"):
        await uws.getNewJobId(idempotencyKey="k", destruction=datetime(2020, 1, 1, tzinfo=UTC))
    assert await uws.database.query("SELECT * FROM creations") == []
    assert directories(uws) == []
    made = await uws.getNewJobId(idempotencyKey="k")
    assert await jobs(uws) == [made]


async def test_destroyed_since(uws):
    first = await uws.getNewJobId(idempotencyKey="k")
    await uws.destroy(first)
    await uws.directoriesRemoved()
    assert await uws.getNewJobId(idempotencyKey="k") == first
    assert await jobs(uws) == directories(uws) == []


async def test_a_key_is_free_after_a_day(uws, database):
    first = await uws.getNewJobId(idempotencyKey="k")
    await database.query(f"UPDATE creations SET at = at - {DAY} + interval '1 min'")
    assert await uws.getNewJobId(idempotencyKey="k") == first
    await database.query("UPDATE creations SET at = at - interval '1 min'")
    second = await uws.getNewJobId(idempotencyKey="k")
    assert second != first
    assert await uws.getNewJobId(idempotencyKey="k") == second


@pytest.mark.parametrize("key", ["", "a" * 256, "é", "a\tb", "a\n", "\x7f"])
async def test_what_is_no_key(uws, key):
    with pytest.raises(BadRequest, match="^Idempotency-Key: .* 255 printable ASCII"):
        await uws.getNewJobId(idempotencyKey=key)
    assert directories(uws) == []


async def test_old_keys_go(uws, database):
    """In batches; those that are not a day old stay."""
    await database.query(
        "INSERT INTO creations (service, key, job_id, at)"
        f" SELECT 'noted', n::text, 'a', now() - {DAY} - n * interval '1 s'"
        " FROM generate_series(1, 250) n"
    )
    kept = await uws.getNewJobId(idempotencyKey="new")
    chore = KeyForgetter(uws.table)
    chore.batch = 100
    await chore.runOnce()
    assert await database.query("SELECT job_id FROM creations") == [{"job_id": kept}]


async def test_old_keys_go_by_themselves(uws, database):
    await database.query(
        f"INSERT INTO creations (service, key, job_id, at) VALUES ('s', 'k', 'j', now() - {DAY})"
    )
    services = JobServices([uws], slots=0)
    services.startService()
    left = [1]
    while left:
        left = await database.query("SELECT 1 FROM creations")
    await services.stopService()


@pytest.mark.slow
async def test_old_keys_are_found_by_their_index(uws, database):
    await database.query(
        "INSERT INTO creations (service, key, job_id, at)"
        f" SELECT 'noted', n::text, 'a', now() - {DAY} + (n - 200) * interval '1 s'"
        " FROM generate_series(1, 80000) n"
    )
    await database.query("ANALYZE creations")
    rows = await database.query(
        "EXPLAIN (ANALYZE, FORMAT JSON) " + STATEMENTS["forgetKeys"], {"limit": 1000}
    )
    plan = str(rows[0]["QUERY PLAN"])
    assert "creations_by_time" in plan
    assert "Seq Scan" not in plan


# Over HTTP


@pytest.mark.slow
@pytest.mark.parametrize("how", ["header", "form", "query"])
async def test_over_http(serving, how):
    """The job is the first one's, runs once, and has no such parameter."""

    async def send(**more):
        form, headers, url = {"x": "1", "PHASE": "RUN", **more}, {}, ""
        if how == "header":
            headers["Idempotency-Key"] = "my key"
        elif how == "form":
            form["idempotency-KEY"] = "my key"
        else:
            url = "?IDEMPOTENCY-KEY=my%20key"
        return await serving.post(url, form, headers=headers)

    first = await send()
    assert first.status == 303
    await serving.ended(first.location)
    again = await send(x="2")
    assert (again.status, again.location) == (303, first.location)
    job = await serving.uws.getJob(first.location.rpartition("/")[2])
    assert (job.attempt, dict(job.parameters)) == (1, {"x": ("1",)})
    assert len(await jobs(serving.uws)) == 1
    await serving.request("DELETE", first.location)
    gone = await send()
    assert (gone.status, gone.location) == (303, first.location)
    assert (await serving.get(gone.location)).status == 404
    assert await jobs(serving.uws) == []


@pytest.mark.slow
async def test_uploads_of_those_that_come_again(serving):
    """None is left, whether they come one after the other or at once."""

    def send(key):
        files = {"f": ("a.txt", b"x" * 200_000)}
        return begin(serving.post("", {"Idempotency-Key": key}, files=files))

    first = await send("k")
    assert (await send("k")).location == first.location
    several = await gatherResults([send("l") for _ in range(6)])
    assert {answer.status for answer in several} == {303}
    assert len({answer.location for answer in several}) == 1
    await until(lambda: uploads(serving.uws) == [])
    known = set(directories(serving.uws))
    assert known == {one.location.rpartition("/")[2] for one in (first, several[0])}
    for one in (first, several[0]):
        assert len((await serving.get(one.location + "/parameters/f")).content) == 200_000


@pytest.mark.slow
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_sync(serving, method):
    async def send():
        where = serving.base + "/sync?x=1"
        return await serving.request(method, where, headers={"Idempotency-Key": "k"})

    first, again = await send(), await send()
    assert first.status == again.status == 303
    assert first.location == again.location
    assert len(await jobs(serving.uws)) == 1


@pytest.mark.slow
async def test_the_example_of_the_page(serving):
    """With curl, from docs/http.rst; only the place is another one."""
    page = (Path(__file__).parent.parent / "docs/http.rst").read_text()
    block = re.search(r"::\n\n(    KEY=.*\n(?:    .*\n)*)", page)[1]
    script = textwrap.dedent(block)
    script = script.replace("http://127.0.0.1:8080/messier/async", serving.url)
    assert serving.url in script
    key, curl = script.split("\n", 1)
    once = f"{key}\n{curl}\n{curl}"
    done = await getProcessOutput("/bin/sh", ["-c", once], env=os.environ, errortoo=True)
    first, again = done.decode().split()
    assert first == again
    assert (await serving.job(first)) is not None
    assert len(await jobs(serving.uws)) == 1


@pytest.mark.slow
async def test_bad_keys_over_http(serving):
    for more in (
        {"headers": {"Idempotency-Key": "a" * 256}},
        {"headers": {"Idempotency-Key": b"\xe9"}},
        {"headers": {"Idempotency-Key": ""}},
        {"headers": {"Idempotency-Key": ["a", "b"]}},
        {"data": {"IDEMPOTENCY-KEY": "é"}},
        {"data": {"IDEMPOTENCY-KEY": ""}},
        {"data": {"IDEMPOTENCY-KEY": "a" * 1000}},
        {"data": [("IDEMPOTENCY-KEY", "a"), ("idempotency-key", "b")]},
    ):
        answer = await serving.post("", **more)
        assert (answer.status, answer.text[:16]) == (400, "Idempotency-Key:"), more
    assert await jobs(serving.uws) == []
    longest = {"Idempotency-Key": "a" * 255}
    assert await serving.create({}, headers=longest)


@pytest.mark.slow
async def test_the_key_in_the_request_counts_first(serving):
    """A proxy that sends a header cannot know whether there is a key in the body."""
    urls = {
        await serving.create({"IDEMPOTENCY-KEY": "a"}, headers={"Idempotency-Key": key})
        for key in ("b", "c")
    }
    assert len(urls) == 1
    assert await serving.create({}, headers={"Idempotency-Key": "b"}) not in urls


@pytest.mark.slow
async def test_refused_over_http(serving):
    key = {"Idempotency-Key": "k"}
    assert (await serving.post("", {"x": "11"}, headers=key)).status == 400
    url = await serving.create({"x": "9"}, headers=key)
    assert await serving.create({"x": "9"}, headers=key) == url


@pytest.mark.slow
async def test_it_is_no_parameter_of_a_job_later(serving):
    url = await serving.create({"x": "1"})
    await serving.post(url + "/parameters", {"x": "2", "Idempotency-Key": "k"})
    answer = await serving.request("PUT", url + "/parameters/Idempotency-Key", data=b"k")
    assert answer.status == 400
    job = await serving.uws.getJob(url.rpartition("/")[2])
    assert dict(job.parameters) == {"x": ("2",)}
