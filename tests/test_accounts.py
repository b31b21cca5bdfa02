"""What an account can have: exactly so much, whoever asks, and from however many nodes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from tests.working import until
from twuws import parameters as p
from twuws.accounts import AccountLimits
from twuws.database import Database
from twuws.errors import Forbidden, TooLarge, TooMany
from twuws.jobs import Result, UWSJob
from twuws.submission import Upload
from twuws.uws import UWS, By


class Cutout(UWSJob):
    """Cut."""

    image = p.File(multiple=True)


@pytest.fixture
def node(database, tmp_path):
    """Makes nodes: each is a facade with connections of its own."""
    made = []

    def make(name="cutout", **limits):
        one = Database(database.dsn, schema=database.schema)
        one.startService()
        made.append(one)
        return UWS(
            Cutout,
            database=one,
            directory=tmp_path / "jobs",
            name=name,
            accountLimits=AccountLimits(**limits),
        )

    yield make
    import pytest_twisted

    for one in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stopService()))


def request(uws, *sizes):
    """A request with uploads of these sizes."""
    files = []
    for size in sizes:
        path = uws.workDirs.uploads() / f"u{len(files)}-{id(files)}"
        path.write_bytes(bytes(size))
        files.append(Upload(path=path, part="image", size=size))
    return SimpleNamespace(args={}, files={"image": files} if files else {}, method=b"POST")


async def rows(uws):
    (row,) = await uws.database.query("SELECT count(*) AS n FROM jobs")
    return row["n"]


def directories(uws):
    return len(list(uws.workDirs.known()))


async def atOnce(calls):
    """How many succeed, and the errors of the others."""
    results = await DeferredList([call() for call in calls], consumeErrors=True)
    return sum(ok for ok, _ in results), [found.value for ok, found in results if not ok]


@pytest.mark.parametrize("most", [3, 130])
@pytest.mark.parametrize("limit", ["kept", "made"])
async def test_two_nodes_at_once(node, limit, most):
    """Never one more than allowed: far from the limit, near it, and at it."""
    nodes = [node(**{limit: most}), node("other", **{limit: most})]
    calls = [
        lambda uws=uws, client=client: uws.getNewJobId(client=client)
        for client in ("192.0.2.1", "192.0.2.2")
        for uws in nodes * (most // 2 + 8)
    ]
    done, errors = await atOnce(calls)
    assert done == 2 * most
    assert {type(e) for e in errors} == {Forbidden if limit == "kept" else TooMany}
    assert all(f"limits.{limit}" in str(e) and str(most) in str(e) for e in errors)
    assert await rows(nodes[0]) == directories(nodes[0]) == 2 * most


async def test_others_are_others(node):
    """An owner is one account everywhere; who has no account has no limits."""
    uws = node(kept=1)
    await uws.getNewJobId(owner="anna", client="192.0.2.1")
    with pytest.raises(Forbidden):
        await node("other", kept=1).getNewJobId(owner="anna", client="192.0.2.2")
    await uws.getNewJobId(owner="~bert")
    await uws.getNewJobId(client="192.0.2.1")
    for _ in range(3):
        await uws.getNewJobId()


async def test_addresses_are_not_kept(node):
    """The rows tell nobody who has made a job, and a job of somebody's not even that much."""
    uws = node()
    await uws.getNewJobId(client="192.0.2.1")
    await uws.getNewJobId(owner="anna", client="192.0.2.1")
    found = await uws.database.query("SELECT owner, client, jobs::text AS all FROM jobs")
    assert not any("192.0.2.1" in row["all"] for row in found)
    assert {row["owner"]: row["client"] is None for row in found} == {None: False, "anna": True}


async def test_made_counts_what_is_gone(node):
    uws = node(made=3)
    for _ in range(3):
        await uws.destroy(await uws.getNewJobId(owner="anna"))
    with pytest.raises(TooMany) as e:
        await uws.getNewJobId(owner="anna")
    assert 55 <= e.value.retryAfter <= 60
    assert directories(uws) == await rows(uws) == 0
    # The oldest leaves the minute in 10 s, and then there is room for one.
    await uws.database.query(
        "UPDATE made_lately SET creation_time = creation_time - interval '50 s'"
        " WHERE creation_time = (SELECT min(creation_time) FROM made_lately)"
    )
    with pytest.raises(TooMany, match="go on in") as e:
        await uws.getNewJobId(owner="anna")
    assert 5 <= e.value.retryAfter <= 10
    await uws.database.query(
        "UPDATE made_lately SET creation_time = creation_time - interval '10 s'"
        " WHERE creation_time = (SELECT min(creation_time) FROM made_lately)"
    )
    await uws.getNewJobId(owner="anna")


async def test_records_of_what_is_gone_go(node):
    uws = node(made=3)
    await uws.destroy(await uws.getNewJobId(owner="anna"))
    await uws.database.query("UPDATE made_lately SET creation_time = now() - interval '1 hour'")
    await uws.destroy(await uws.getNewJobId(owner="bert"))
    found = await uws.database.query("SELECT account FROM made_lately")
    assert found == [{"account": "=bert"}]


async def test_kept(node):
    """There is room again for each that is destroyed; an archived job takes none."""
    uws = node(kept=2)
    first, second = [await uws.getNewJobId(owner="anna") for _ in range(2)]
    await uws.destroy(first)
    await uws.getNewJobId(owner="anna")
    with pytest.raises(Forbidden, match=r"2 jobs here, and 2 are the most \(limits.kept\)"):
        await uws.getNewJobId(owner="anna")
    await uws.abort(second)
    await uws.changeToPhase(second, "ARCHIVED")
    await uws.getNewJobId(owner="anna")


async def test_lost_answer(node, monkeypatch):
    """Who tries again because the answer was lost finds the job, also at the limit."""
    uws = node(kept=1)
    new = uws._new(uws._draft({"owner": "anna"}), By(None, None))
    for _ in range(2):
        assert await uws.table.makeSome([new]) == [None]
    async with uws.database.transaction() as t:
        assert (await uws.table.make(new, t)).jobId == new.job.jobId
    assert await rows(uws) == 1


async def test_key_of_what_was_refused(node):
    """It stands for nothing: the same request can be sent again later."""
    uws = node(kept=1)
    first = await uws.getNewJobId(owner="anna", idempotencyKey="a")
    with pytest.raises(Forbidden):
        await uws.getNewJobId(owner="anna", idempotencyKey="b")
    assert await uws.getNewJobId(owner="anna", idempotencyKey="a") == first
    await uws.destroy(first)
    assert await uws.getNewJobId(owner="anna", idempotencyKey="b") != first
    assert directories(uws) == 1


@pytest.mark.parametrize("most", [2, 110])
async def test_queued(node, most):
    """Of those that are run when they are made, and later; what begins makes room."""
    nodes = [node(queued=most), node("other", queued=most)]
    later = [await nodes[0].getNewJobId(owner="anna") for _ in range(6)]
    calls = [
        lambda uws=uws: uws.getNewIdFromRequest(request(uws), run=True, owner="anna")
        for uws in nodes * (most // 2 + 4)
    ]
    calls += [lambda jobId=jobId: nodes[0].run(jobId) for jobId in later]
    done, errors = await atOnce(calls)
    assert done == most
    assert all(isinstance(e, TooMany) and "limits.queued" in str(e) for e in errors)
    found = await nodes[0].database.query(
        "SELECT phase, count(*) AS n FROM jobs GROUP BY phase ORDER BY phase DESC"
    )
    phases = {row["phase"]: row["n"] for row in found}
    assert phases["QUEUED"] == most
    assert directories(nodes[0]) == sum(phases.values())
    (first,) = await nodes[0].database.query("SELECT job_id, service FROM jobs WHERE phase ="
                                             " 'QUEUED' LIMIT 1")  # fmt: skip
    uws = next(one for one in nodes if one.name == first["service"])
    await uws.changeToPhase(first["job_id"], "EXECUTING")
    await nodes[1].getNewIdFromRequest(request(nodes[1]), run=True, owner="anna")


async def test_stored(node):
    """Uploads of new jobs and of old ones, at once from two nodes."""
    nodes = [node(stored=1000), node("other", stored=1000)]
    pending = await nodes[0].getNewIdFromRequest(request(nodes[0], 200), owner="anna")
    calls = [
        lambda uws=uws: uws.getNewIdFromRequest(request(uws, 60, 40), owner="anna")
        for uws in nodes * 6
    ]
    calls.append(lambda: nodes[0].update(pending, request(nodes[0], 100)))
    done, errors = await atOnce(calls)
    assert done == 8
    assert all(isinstance(e, Forbidden) and "limits.stored" in str(e) for e in errors)
    (row,) = await nodes[0].database.query("SELECT sum(stored)::int AS n FROM jobs")
    assert row["n"] == 1000
    assert directories(nodes[0]) == await rows(nodes[0])
    with pytest.raises(Forbidden, match="1000 bytes, and 1000 are the most"):
        await nodes[0].update(pending, request(nodes[0], 1))
    with pytest.raises(Forbidden, match="1000 bytes"):
        await nodes[0].getNewJobId(owner="anna")
    with pytest.raises(TooLarge, match=r"1001 bytes.*1000 \(limits.stored\)"):
        await nodes[0].getNewIdFromRequest(request(nodes[0], 1001), owner="anna")
    await nodes[0].destroy(pending)
    await nodes[1].getNewIdFromRequest(request(nodes[1], 200), owner="anna")


async def test_results_are_stored(node):
    uws = node(stored=100)
    jobId = await uws.getNewJobId(owner="anna")
    results = [
        Result(id="a", file="a", size=60),
        Result(id="b", file="b", size=40),
        Result(id="again", file="b", size=40),
        Result(id="elsewhere", href="http://example.org/", size=10**9),
        Result(id="unknown", file="c"),
    ]
    async with uws.changeableJob(jobId) as job:
        job.results = tuple(results)
    (row,) = await uws.database.query("SELECT stored FROM jobs")
    assert row["stored"] == 100
    with pytest.raises(Forbidden, match="limits.stored"):
        await uws.getNewJobId(owner="anna")


async def test_others_do_not_wait_for_an_account(node):
    """Somebody of whom others wait to be counted keeps those who make jobs at the same time."""
    uws = node(kept=1)
    async with uws.database.transaction() as t:
        await uws.table.make(uws._new(uws._draft({"owner": "anna"}), By(None, None)), t)
        waiting = [uws.getNewJobId(owner="anna") for _ in range(3)]
        for names in (("bob", "carla"), ("dora", "emil")):
            await gatherResults([uws.getNewJobId(owner=name) for name in names])
        assert await gatherResults([uws.checkRoom(name, None) for name in ("anna", "fay")]) == [
            None,
            0,
        ]
        assert not any(one.called for one in waiting)
    results = await DeferredList(waiting, consumeErrors=True)
    assert [found.check(Forbidden) for _, found in results] == [Forbidden] * 3


async def test_room_is_looked_for_once(node):
    """However many large uploads of somebody begin at a time."""
    uws = node(kept=1, stored=1000)
    asked, checkRoom = [], uws.table.checkRoom

    async def count(*args):
        asked.append(args[0])
        return await checkRoom(*args)

    uws.table.checkRoom = count
    await uws.getNewJobId(owner="anna")
    rooms = [uws.checkRoom(owner, None) for owner in ["anna", "bob", None] * 100]
    results = await DeferredList(rooms, consumeErrors=True)
    assert [isThere for isThere, _ in results[:3]] == [False, True, True]
    assert all("limits.kept" in str(found.value) for isThere, found in results if not isThere)
    assert {found for isThere, found in results if isThere} == {0, None}
    assert sorted(asked, key=str) == [None, "anna", "bob"]


async def test_far_from_limits_nobody_waits(node):
    """A transaction that stays open keeps nobody from making jobs, unless the limit is near."""
    uws = node(kept=1000)
    new = uws._new(uws._draft({"owner": "anna"}), By(None, None))
    async with uws.database.transaction() as t:
        await uws.table.make(new, t)
        await uws.getNewJobId(owner="anna")
        near = node(kept=3).getNewJobId(owner="anna")
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

        async def isWaiting():
            return await uws.database.query(waiting)

        while not await isWaiting():
            pass
        assert not near.called
    await near
    assert await rows(uws) == 3
    await until(lambda: near.called)
