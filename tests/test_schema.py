"""The schema: how it is made, and what it refuses and tells, whoever writes to it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import psycopg2
import pytest
from psycopg2.errors import CheckViolation
from psycopg2.extensions import make_dsn, parse_dsn
from twisted.internet.defer import Deferred, DeferredList

from tests.test_database import Heard
from tests.working import until
from twuws import schema
from twuws.database import Database
from twuws.errors import SchemaMismatch, UWSError
from twuws.phases import FINAL, Phase


def run(coroutine):
    return Deferred.fromCoroutine(coroutine)


@pytest.fixture
def empty(database):
    """A Database whose schema is not there."""
    import pytest_twisted

    pytest_twisted.blockon(database.query(f'DROP SCHEMA "{database.schema}" CASCADE'))
    yield database
    pytest_twisted.blockon(database.query(f'CREATE SCHEMA IF NOT EXISTS "{database.schema}"'))


async def tables(database):
    rows = await database.query(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'",
        (database.schema,),
    )
    return {row["relname"] for row in rows}


ALL_TABLES = {
    *("version", "jobs", "queue", "stops", "nodes", "events", "holds", "creations", "secrets"),
    *("tokens", "client_key", "made_lately"),
}


async def test_first_start_makes_it(empty):
    await schema.prepare(empty)
    assert await tables(empty) == ALL_TABLES
    await schema.prepare(empty)
    assert await empty.query("SELECT version FROM version") == [{"version": schema.VERSION}]


async def test_schema_that_is_there_but_empty(empty):
    await empty.query(f"CREATE SCHEMA {empty.schema}")
    await schema.prepare(empty)
    assert await tables(empty) == ALL_TABLES


async def test_many_start_at_once(empty):
    others = [Database(empty.dsn, schema=empty.schema, size=1) for _ in range(4)]
    results = await DeferredList([run(schema.prepare(one)) for one in [empty, *others]])
    assert results == [(True, None)] * 5
    assert await empty.query("SELECT version FROM version") == [{"version": schema.VERSION}]
    for other in others:
        await other.stopService()


async def test_older(database, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(SchemaMismatch, match="twuws upgrade") as caught:
        await schema.prepare(database)
    assert database.schema in str(caught.value)


async def test_newer(database):
    await database.query("UPDATE version SET version = version + 1, works_with = version + 1")
    for attempt in (schema.prepare, schema.upgrade):
        with pytest.raises(SchemaMismatch, match="install a newer twuws"):
            await attempt(database)
    assert await database.query("SELECT version FROM version") == [{"version": schema.VERSION + 1}]


async def test_newer_but_alike(database):
    """A schema that is upgraded while this goes on, for those who come next."""
    await database.query("UPDATE version SET version = version + 1")
    await schema.prepare(database)


async def test_upgrade(empty):
    assert await schema.upgrade(empty) == (0, schema.VERSION)
    assert await tables(empty) == ALL_TABLES
    assert await schema.upgrade(empty) == (schema.VERSION, schema.VERSION)


async def test_upgrade_of_what_is_there(empty):
    """Jobs, the queue and stops of the first version are as they were."""
    from importlib import resources

    first = resources.files("twuws.sql").joinpath("0001.sql").read_text("utf-8")
    async with empty.transaction() as t:
        await t.execute(f"CREATE SCHEMA {empty.schema}")
        await t.execute(first)
        await t.execute(
            "INSERT INTO jobs (job_id, service, execution_duration, phase)"
            " VALUES ('a', 's', 60, 'QUEUED')"
        )
        await t.execute("INSERT INTO queue (job_id, service) VALUES ('a', 's')")
    with pytest.raises(SchemaMismatch, match="twuws upgrade"):
        await schema.prepare(empty)
    assert await schema.upgrade(empty) == (1, schema.VERSION)
    await schema.prepare(empty)
    assert await empty.query("SELECT owner FROM queue") == [{"owner": ""}]
    assert (await empty.query("SELECT phase FROM jobs"))[0]["phase"] == "QUEUED"


async def test_failed_upgrade_changes_nothing(empty, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(FileNotFoundError):
        await schema.upgrade(empty)
    there = "SELECT FROM pg_namespace WHERE nspname = %s"
    assert await empty.query(there, (empty.schema,)) == []


# What a database must be


@asynccontextmanager
async def besides(database, **options):
    """Another Database on the same server."""
    one = Database(make_dsn(database.dsn, **options), schema=database.schema, size=1)
    try:
        yield one
    finally:
        await one.stopService()


@pytest.mark.parametrize("attempt", [schema.prepare, schema.upgrade])
async def test_no_rights(empty, attempt):
    """Who may make no schema there, or not read the one that is there, is told what is needed."""
    role = f"{empty.schema}_role"
    await empty.query(f"CREATE ROLE {role}")
    try:
        options = f"{parse_dsn(empty.dsn)['options']} -c role={role}"
        async with besides(empty, options=options) as refused:
            with pytest.raises(UWSError, match=f"permission denied.*{empty.schema}.*GRANT"):
                await attempt(refused)
            await schema.prepare(empty)
            with pytest.raises(UWSError, match=f"permission denied.*{empty.schema}.*GRANT"):
                await attempt(refused)
    finally:
        await empty.query(f"DROP ROLE {role}")


@pytest.mark.parametrize("attempt", [schema.prepare, schema.upgrade])
async def test_read_only(empty, attempt):
    options = f"{parse_dsn(empty.dsn)['options']} -c default_transaction_read_only=on"
    async with besides(empty, options=options) as refused:
        with pytest.raises(UWSError, match=r"read-only.*GRANT"):
            await attempt(refused)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_other_encodings(database, encoding):
    """There, most texts cannot be stored, or come back as others."""
    name = f"{database.schema}_{encoding.lower()}"
    (server,) = await database.query("SELECT current_setting('server_version_num')::int AS is_")
    await database.query(
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"
        " LC_COLLATE 'C' LC_CTYPE 'C'" + " LOCALE_PROVIDER libc" * (server["is_"] >= 150_000)
    )
    try:
        async with besides(database, dbname=name) as other:
            with pytest.raises(UWSError, match=rf"{encoding}.*ENCODING 'UTF8'"):
                await schema.prepare(other)
            there = "SELECT FROM pg_namespace WHERE nspname = %s"
            assert await other.query(there, (other.schema,)) == []
    finally:
        await database.query(f"DROP DATABASE {name}")


def test_old_servers():
    with pytest.raises(UWSError, match=r"PostgreSQL 12.*13 or newer"):
        schema.checkServer("UTF8", 120_022)
    schema.checkServer("UTF8", 130_000)


# What the tables refuse


async def insert(database, phase="PENDING", **columns):
    """A job in some phase, with the least that it needs there."""
    if phase in FINAL:
        columns.setdefault("end_time", "2026-01-02T00:00:01Z")
    if phase in ("EXECUTING", "SUSPENDED", "UNKNOWN", "COMPLETED"):
        columns.setdefault("start_time", "2026-01-02T00:00:00Z")
    if phase == "ERROR":
        columns.setdefault("error", '{"message": "m"}')
    columns = {"job_id": "a", "service": "s", "execution_duration": 0, "phase": phase, **columns}
    names = ", ".join(columns)
    holes = ", ".join(["%s"] * len(columns))
    await database.query(f"INSERT INTO jobs ({names}) VALUES ({holes})", tuple(columns.values()))


@pytest.mark.parametrize("phase", list(Phase))
async def test_each_phase_can_be(database, phase):
    await insert(database, phase)
    assert await database.query("SELECT phase FROM jobs") == [{"phase": str(phase)}]


@pytest.mark.parametrize(
    ("phase", "columns"),
    [
        ("DONE", {}),
        ("EXECUTING", {"start_time": None}),
        ("SUSPENDED", {"start_time": None}),
        ("UNKNOWN", {"start_time": None}),
        ("COMPLETED", {"start_time": None}),
        ("COMPLETED", {"end_time": None}),
        ("ERROR", {"end_time": None}),
        ("ABORTED", {"end_time": None}),
        ("ARCHIVED", {"end_time": None}),
        ("PENDING", {"end_time": "2026-01-02T00:00:01Z"}),
        ("EXECUTING", {"end_time": "2026-01-02T00:00:01Z"}),
        ("COMPLETED", {"start_time": "2026-01-02T00:00:02Z"}),
        ("ERROR", {"error": None}),
        ("COMPLETED", {"error": "{}"}),
        ("EXECUTING", {"error": "{}"}),
        ("PENDING", {"execution_duration": -1}),
    ],
)
async def test_what_cannot_be(database, phase, columns):
    with pytest.raises(CheckViolation):
        await insert(database, phase, **columns)
    assert await database.query("SELECT * FROM jobs") == []


@pytest.mark.parametrize("old", sorted(FINAL))
async def test_final_is_final(database, old):
    await insert(database, old)
    for new in sorted(set(Phase) - {old}):
        sql = (
            "UPDATE jobs SET phase = %s, start_time = '2026-01-02',"
            " end_time = CASE WHEN %s THEN timestamptz '2026-01-03' END,"
            " error = CASE WHEN %s THEN jsonb '{}' END"
        )
        args = (str(new), new in FINAL, new == "ERROR")
        if new == "ARCHIVED":
            continue
        with pytest.raises(psycopg2.IntegrityError, match=f"job a is {old}: it cannot become"):
            await database.query(sql, args)
    assert (await database.query("SELECT phase FROM jobs"))[0]["phase"] == old
    await database.query("UPDATE jobs SET phase = 'ARCHIVED', run_id = 'r'")
    assert (await database.query("SELECT run_id FROM jobs"))[0]["run_id"] == "r"


async def test_notifies(database):
    heard = Heard(database, database.schema)
    heard.listener.startService()
    await until(lambda: heard.connections == 1)
    await insert(database)
    await insert(database, job_id="b", service="two words")
    for sql in (
        "UPDATE jobs SET run_id = 'r'",
        "UPDATE jobs SET phase = phase",
        "UPDATE jobs SET phase = 'QUEUED' WHERE job_id = 'a'",
        "UPDATE jobs SET phase = 'EXECUTING', start_time = now() WHERE job_id = 'a'",
        "UPDATE jobs SET phase = 'ABORTED', end_time = now() WHERE job_id = 'a'",
        "DELETE FROM jobs WHERE job_id = 'a'",
        "DELETE FROM jobs WHERE job_id = 'b'",
    ):
        await database.query(sql)
    await database.query("SELECT pg_notify(%s, 'last')", (database.schema,))
    await until(lambda: "last" in heard.payloads)
    assert heard.payloads == ["a QUEUED s", "a EXECUTING s", "a ABORTED s", "b - two words", "last"]
    await heard.listener.stopService()
