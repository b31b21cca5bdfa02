"""The schemas that tests take one after another: each is as if it were new, or is dropped."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

INSERT = "INSERT INTO jobs (job_id, service, execution_duration)"
JOB = f"{INSERT} VALUES ('a', 's', 1)"
KEY = "SELECT key FROM client_key"


@pytest.fixture
def name(schemas):
    return schemas.take()


@pytest.fixture
def ask(postgres):
    """Run a statement in a schema; its rows."""
    with closing(psycopg2.connect(postgres)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:

            def ask(schema, statement):
                cursor.execute(f"SET search_path TO {schema}")
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None

            yield ask


def rowsIn(ask, schema):
    tables = ask(schema, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
    counts = {table: ask(schema, f"SELECT count(*) FROM {table}")[0][0] for (table,) in tables}
    return {table: count for table, count in counts.items() if count}


@pytest.mark.parametrize("many", [1, 2000])
def test_emptied(schemas, name, ask, many):
    before = ask(name, "SELECT 'jobs'::regclass::oid"), ask(name, KEY)
    fresh = rowsIn(ask, name)
    ask(name, f"{INSERT} SELECT n, 's', 1 FROM generate_series(1, {many}) n")
    ask(name, "DELETE FROM jobs WHERE job_id = '1'")
    assert rowsIn(ask, name) != fresh
    schemas.giveBack(name)
    again = schemas.take()
    assert ask(again, "SELECT 'jobs'::regclass::oid") == before[0]  # it was not made anew
    assert rowsIn(ask, again) == fresh
    assert ask(again, KEY) != before[1]
    with pytest.raises(psycopg2.errors.UndefinedTable):
        ask(name, JOB)  # who still uses it does no harm
    ask(again, JOB)
    assert ask(again, "SELECT event_id, job_id FROM events") == [(1, "a")]
    schemas.giveBack(again)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE jobs ADD COLUMN novelty text",
        "ALTER TABLE jobs ALTER COLUMN service SET DEFAULT 's'",
        "ALTER TABLE jobs DISABLE TRIGGER jobs_made",
        "ALTER TABLE jobs DROP CONSTRAINT jobs_phase",
        "CREATE OR REPLACE FUNCTION account_lock(who text, what text) RETURNS bigint"
        " LANGUAGE sql AS 'SELECT 7::bigint'",
        "CREATE VIEW all_jobs AS SELECT * FROM jobs",
        "DROP INDEX jobs_by_owner",
        "DROP TABLE version",
        "GRANT SELECT ON jobs TO PUBLIC",
        f"{JOB}; ANALYZE jobs",
        "UPDATE version SET works_with = 99",
    ],
)
def test_changed(schemas, name, ask, statement):
    ask(name, statement)
    schemas.giveBack(name)
    assert ask("public", f"SELECT 1 FROM pg_namespace WHERE nspname = '{name}'") == []


def test_gone(schemas, name, ask):
    ask(name, f"DROP SCHEMA {name} CASCADE")
    schemas.giveBack(name)
