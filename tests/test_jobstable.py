"""The statements: what they keep, and what they cost beside many other jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twuws.accounts import NO_LIMITS, AccountLimits
from twuws.database import asJSON
from twuws.errors import BadRequest
from twuws.jobs import JobError, JobRecord, Result
from twuws.jobstable import JobsTable, ListFilters, NewJob
from twuws.phases import Phase
from twuws.rows import _protect, _restore
from twuws.statements import PREPARED, STATEMENTS
from twuws.values import FileValue

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("\x00\ue000\ud800\udfff01s")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)


@given(JSON)
def test_protection_is_undone(value):
    protected = _protect(value)
    assert _restore(protected) == value
    json.dumps(protected, ensure_ascii=False).encode("utf-8")


#: What people, programs and file names contain.
STRANGE = "\x00\ue000\ue0000\ue0001\ud800x\udcff\u2028\U0001f52d'\"\\%s"


async def test_round_trip(database):
    table = JobsTable(database)
    when = datetime(2099, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    job = JobRecord(
        service="s",
        jobId="a" * 32,
        owner="me",
        runId="r",
        creationTime=when,
        executionDuration=7,
        destruction=when,
        quote=when,
        parameters={
            "p": (STRANGE, ""),
            STRANGE: ("x",),
            "f": (FileValue(file="f", mediaType="t/t", size=1, fileName=STRANGE, label="l"),),
        },
        jobInfo={"a": STRANGE, "b": 0.25, STRANGE: 1},
    )
    new = NewJob(job=job, lifetime=60, longestLifetime=10**10)
    assert await table.makeSome([new]) == [None]
    key = {"jobId": job.jobId, "service": "s"}
    stored = await table.one("getJob", key)
    assert stored == JobRecord(**{**vars(job), "creationTime": stored.creationTime})
    changed = JobRecord(
        **{
            **vars(stored),
            "owner": None,
            "runId": None,
            "quote": None,
            "destruction": None,
            "executionDuration": 0,
            "parameters": {},
            "results": (
                Result(id=STRANGE, file="f", mediaType="m", size=1 << 40),
                Result(id="b", href="http://example.org/"),
            ),
            "jobInfo": {},
        }
    )
    async with database.transaction() as t:
        assert await table.change(stored, stored, t) is None
        assert await table.change(stored, changed, t) == changed
        await table.move(changed, Phase.ERROR, JobError(message=STRANGE, detail=STRANGE), t)
    after = await table.one("getJob", key)
    assert after.error == JobError(message=STRANGE, detail=STRANGE)
    assert (await database.query("SELECT quote, error->>'type' AS t FROM jobs"))[0] == {
        "quote": None,
        "t": "fatal",
    }


async def test_only_what_changed_is_written(database):
    table = JobsTable(database)
    job = JobRecord(service="s", jobId="a", creationTime=datetime.min, runId="r")
    await table.makeSome([NewJob(job=job, lifetime=60, longestLifetime=60)])
    stored = await table.one("getJob", {"jobId": "a", "service": "s"})
    await database.query("UPDATE jobs SET owner = 'by another', quote = '2099-01-01'")
    async with database.transaction() as t:
        await table.change(stored, JobRecord(**{**vars(stored), "runId": "new"}), t)
    row = (await database.query("SELECT run_id, owner, quote IS NULL AS bare FROM jobs"))[0]
    assert row == {"run_id": "new", "owner": "by another", "bare": False}


async def test_creating_twice_is_creating_once(database):
    """The answer to the first INSERT may have been lost with the connection."""
    table = JobsTable(database)
    job = JobRecord(service="s", jobId="a", creationTime=datetime.min, runId="r")
    new = NewJob(job=job, lifetime=60, longestLifetime=60)
    assert await table.makeSome([new]) == [None]
    async with database.transaction() as t:
        made = await table.make(new, t)
    assert made == await table.one("getJob", {"jobId": "a", "service": "s"})
    assert [r["run_id"] for r in await database.query("SELECT run_id FROM jobs")] == ["r"]


async def test_made_together(database):
    """What is wrong with one job is not wrong with others that are made with it."""

    def new(jobId, limits=NO_LIMITS, **fields):
        job = JobRecord(service="s", jobId=jobId, creationTime=datetime.min, **fields)
        return NewJob(job=job, lifetime=60, longestLifetime=60, limits=limits)

    one = AccountLimits(kept=1)
    made = await JobsTable(database).makeSome(
        [
            new("d", owner="anna", limits=one),
            new("a", owner="anna", limits=one),
            new("c", destruction=datetime(2000, 1, 1, tzinfo=UTC)),
            new("b", executionDuration=2**40),  # more than the column holds
            new("e"),
        ]
    )
    assert sorted(str(error)[:15] for error in made[:2]) == ["None", "You have 1 jobs"]
    assert isinstance(made[2], BadRequest)
    assert "out of range" in str(made[3])
    assert made[4] is None
    rows = await database.query("SELECT job_id FROM jobs ORDER BY job_id")
    assert [row["job_id"] for row in rows] in (["a", "e"], ["d", "e"])


async def test_unknown_statement(database):
    with pytest.raises(KeyError, match="nothing"):
        JobsTable(database).run("nothing")


# What the statements cost

MANY = 100_000

FILL = """
    INSERT INTO jobs (job_id, service, owner, phase, creation_time, start_time, end_time,
                      execution_duration, destruction, error)
    SELECT md5(n::text), CASE WHEN n % 10 = 0 THEN 'other' ELSE 'many' END,
           CASE WHEN n % 5000 = 0 THEN 'rare' WHEN n % 3 = 0 THEN NULL ELSE 'o' || n % 40 END,
           CASE n % 4 WHEN 0 THEN 'ERROR' ELSE 'COMPLETED' END,
           now() - n * interval '1 min', now() - n * interval '1 min', now(),
           60, now() + (n - 5) * interval '1 min', CASE n % 4 WHEN 0 THEN jsonb '{}' END
    FROM generate_series(1, 100000) n"""

QUEUE = """
    INSERT INTO queue (job_id, service, queued_at, claimed_at, deadline, node)
    SELECT job_id, service, creation_time, CASE WHEN n % 50 = 0 THEN now() END,
           CASE WHEN n % 50 = 0 THEN now() + (n - 1051) * interval '1 min' END,
           CASE WHEN n % 50 = 0 THEN 'n' END
    FROM (SELECT *, row_number() OVER (ORDER BY creation_time, job_id) AS n FROM jobs
          WHERE phase = 'QUEUED') q"""


@pytest.fixture
def many(database):
    """A hundred thousand jobs, and five thousand that are queued, a hundred of them claimed."""
    import pytest_twisted

    for sql, args in (
        (FILL, None),
        (
            "INSERT INTO jobs (job_id, service, phase, execution_duration, destruction)"
            " SELECT 'q' || n, 'many', 'QUEUED', 60, now() + interval '1 day'"
            " FROM generate_series(1, 5000) n",
            None,
        ),
        (QUEUE, None),
        (
            "INSERT INTO nodes (node, host, pid, started, version, slots, services, lease_ends)"
            " VALUES ('n', 'h', 1, '', '', 1, '{many}', now() + interval '1 hour')",
            None,
        ),
        ("ANALYZE jobs", None),
        ("ANALYZE queue", None),
    ):
        pytest_twisted.blockon(database.query(sql, args))
    return database


async def explained(database, statementId, **args):
    """The nodes of the plan of a statement, or the last of several, run and rolled back."""
    sql = STATEMENTS[statementId].rpartition(";")[2]
    async with database.transaction() as t:
        if statementId in PREPARED:  # without the arguments there is another plan
            await t.execute(PREPARED[statementId].prepare)
            sql = PREPARED[statementId].execute.rpartition(";")[2]
        rows = await t.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, args)
        await t.execute(f'DEALLOCATE "{statementId}"' if statementId in PREPARED else "SELECT 1")
        await t.execute("ROLLBACK")
    (plan,) = rows[0]["QUERY PLAN"]

    def nodes(node):
        yield node
        for inner in node.get("Plans", ()):
            yield from nodes(inner)

    return list(nodes(plan["Plan"]))


def read(nodes):
    """How many rows were looked at in tables."""
    return sum(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in nodes
        if "Relation Name" in node and "Scan" in node["Node Type"]
    )


def listing(**more):
    return {
        "service": "many",
        "anyOwner": True,
        "listedOnly": True,
        "owner": None,
        "phases": ListFilters().wanted,
        "after": "-infinity",
        "beforeTime": "infinity",
        "beforeId": "",
        "limit": 100,
        **more,
    }


#: The tables that can be large.
LARGE = ("jobs", "queue", "events")

CLAIM = {
    "services": ["many"],
    "limits": [90_000],
    "inAll": 90_000,
    "perOwner": 90_000,
    "node": "n",
    "host": "h",
}
SOME = [f"q{n}" for n in range(1, 21)]

MIDDLE = datetime.now(UTC) - timedelta(minutes=MANY // 2)

CASES = {
    "getJob": ("getJob", {"jobId": "q17", "service": "many"}, 1),
    "lockJob": ("lockJob", {"jobId": "q17", "service": "many"}, 2),
    "list": ("listJobs", listing(), 120),
    "list of an owner": ("listJobs", listing(owner="o7", anyOwner=False), 120),
    "list of an owner of few": ("listJobs", listing(owner="rare", anyOwner=False), 40),
    "list of an unknown owner": ("listJobs", listing(owner="x", anyOwner=False), 0),
    "list of nobody's": ("listJobs", listing(owner=None, anyOwner=False), 120),
    "list of a phase": ("listJobs", listing(phases=["QUEUED"]), 120),
    "list of phases": ("listJobs", listing(phases=["COMPLETED", "QUEUED"]), 120),
    "the last": ("listJobs", listing(limit=1), 2),
    "a page in the middle": ("listJobs", listing(beforeTime=MIDDLE, beforeId="5"), 120),
    "after": ("listJobs", listing(after=datetime.now(UTC) - timedelta(minutes=50)), 200),
    "claim": ("claim", {**CLAIM, "places": 1}, 100 + 20),  # what runs is counted
    "claim of several": ("claim", {**CLAIM, "places": 10}, 100 + 200),
    "rememberWork": (
        "rememberWork",
        {
            "node": "n",
            "jobIds": SOME,
            "refs": asJSON([{"job_id": jobId, "attempt": 1, "ref": {}} for jobId in SOME]),
        },
        21,
    ),
    "endJobs": (
        "endJobs",
        {
            "service": "many",
            "jobIds": SOME,
            "ends": asJSON(
                [
                    {
                        "job_id": jobId,
                        "attempt": 0,
                        "phase": "COMPLETED",
                        "results": [],
                        "job_info": {},
                    }
                    for jobId in SOME
                ]
            ),
        },
        4 * 20,
    ),
    "expiredJobs": (
        "expiredJobs",
        {"service": "many", "afterTime": "-infinity", "afterId": "", "limit": 200},
        10,
    ),
    "overdueJobs": ("overdueJobs", {"services": ["many"]}, 30),
    "runTimes": (
        "runTimes",
        {
            "services": ["many", "none"],
            "after": ["-infinity", "-infinity"],
            "names": asJSON({"many": ["seconds"]}),
            "limit": 100,
        },
        100 + 20,
    ),
    "runTimes, later": (
        "runTimes",
        {
            "services": ["many"],
            "after": [datetime.now(UTC) + timedelta(hours=1)],
            "names": asJSON({"many": ["seconds"]}),
            "limit": 100,
        },
        0,
    ),
}


@pytest.mark.slow
async def test_cost_beside_many_jobs(many):
    for what, (statementId, args, most) in CASES.items():
        nodes = await explained(many, statementId, **args)
        kinds = {node["Node Type"] for node in nodes}
        whole = [n for n in nodes if n["Node Type"] == "Seq Scan" and n["Relation Name"] in LARGE]
        assert not whole, (what, whole)
        assert any("Index" in kind for kind in kinds), (what, kinds)
        assert read(nodes) <= most, (what, read(nodes), nodes)


@pytest.mark.slow
async def test_cost_of_metrics(many):
    """A scrape looks at what is in the queue, and at one job that is to be destroyed."""
    nodes = await explained(many, "reaperLag", services=["many"])
    assert read(nodes) <= 2, nodes
    nodes = await explained(many, "queueNow", services=["many"])
    assert not [n for n in nodes if n["Node Type"] == "Seq Scan" and n["Relation Name"] == "jobs"]
    assert read(nodes) <= 2 * 5000 + 5000, read(nodes)


@pytest.mark.slow
async def test_cost_of_quotes(many):
    """A look at the queue looks at all that is in it, and at few jobs."""
    nodes = await explained(many, "lineNow", names=asJSON({"many": ["seconds"]}), limit=1000)
    assert not [n for n in nodes if n["Node Type"] == "Seq Scan" and n["Relation Name"] == "jobs"]
    jobs = [n for n in nodes if n.get("Relation Name") == "jobs"]
    assert read(jobs) <= 1000 + 100, read(jobs)
    assert read(nodes) <= 3 * 5000 + 1000 + 100, read(nodes)


async def test_pages_are_complete(database):
    """Many jobs created at the same instant: each is on one page, and on one only."""
    table = JobsTable(database)
    await database.query(
        "INSERT INTO jobs (job_id, service, owner, execution_duration, creation_time)"
        " SELECT md5(n::text), 's', CASE n % 3 WHEN 0 THEN NULL ELSE 'o' END, 0,"
        " timestamptz '2026-01-02' + (n / 7) * interval '1 s' FROM generate_series(1, 40) n"
    )
    wanted = await database.query("SELECT job_id FROM jobs ORDER BY creation_time DESC, job_id")
    for limit in (1, 3, 7, 40, 41):
        seen, before = [], ("infinity", "")
        while page := await table.page("s", ListFilters(), None, True, limit, before):
            seen += [ref.jobId for ref in page]
            before = (page[-1].creationTime, page[-1].jobId)
        assert seen == [row["job_id"] for row in wanted]
    assert len(await table.page("s", ListFilters(), None, False, 100)) == 13
    assert len(await table.page("s", ListFilters(), "o", False, 100)) == 27
    assert await table.page("s", ListFilters(), "x", False, 100) == []
    assert await table.page("other", ListFilters(), None, True, 100) == []


async def test_expired_jobs_in_batches(database):
    """More than a batch of jobs, many with the same instant, none missing and none twice."""
    await database.query(
        "INSERT INTO jobs (job_id, service, execution_duration, destruction)"
        " SELECT md5(n::text), 's', 0, timestamptz '2026-01-02' + (n / 90) * interval '1 s'"
        " FROM generate_series(1, 500) n"
    )
    ids = {row["job_id"] for row in await database.query("SELECT job_id FROM jobs")}
    for flags in ({}, {"includeAll": True}):
        names = ("includeFailed", "includeCompleted", "includeAll", "includeForgotten")
        args = {name: flags.get(name, False) for name in names}
        found = [
            row["job_id"]
            async for row in JobsTable(database).toClean("s", {**args, "forgottenAfter": 0})
        ]
        assert len(found) == 500
        assert set(found) == ids
