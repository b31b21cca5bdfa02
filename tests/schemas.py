"""
Schemas for tests: each as if it had just been made, which most of them have not.

To make one takes PostgreSQL longer than what most tests ask of it.  So what a test has left as
it was is emptied and gets another name.  What still runs from that test does not find it any
longer, no more than one that was dropped.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import psycopg2
import pytest_twisted
from twisted.internet.defer import Deferred

from twuws import schema
from twuws.database import Database

# All that a schema is made of, but for what is other for each name.  Statistics are part of it:
# they would change what a statement does in the next test.
_MADE_OF = """
WITH parts AS (SELECT * FROM pg_class WHERE relnamespace = %(schema)s::regnamespace)
SELECT count(*), sum(hashtextextended(part, 0)), (SELECT array_agg(v::text) FROM version v)
FROM (
    SELECT ROW(oid, relname, relowner, relacl, reloptions, relpersistence, relrowsecurity,
               CASE relkind WHEN 'r' THEN relpages END)::text
    FROM parts
    UNION ALL SELECT a::text FROM pg_attribute a JOIN parts ON attrelid = parts.oid
    WHERE attnum > 0
    UNION ALL SELECT d::text FROM pg_attrdef d JOIN parts ON adrelid = parts.oid
    UNION ALL SELECT i::text FROM pg_index i JOIN parts ON indrelid = parts.oid
    UNION ALL SELECT t::text FROM pg_trigger t JOIN parts ON tgrelid = parts.oid
    UNION ALL SELECT r::text FROM pg_rewrite r JOIN parts ON ev_class = parts.oid
    UNION ALL SELECT s::text FROM pg_sequence s JOIN parts ON seqrelid = parts.oid
    UNION ALL SELECT ROW(starelid, staattnum)::text
    FROM pg_statistic JOIN parts ON starelid = parts.oid
    UNION ALL SELECT c::text FROM pg_constraint c WHERE connamespace = %(schema)s::regnamespace
    UNION ALL SELECT ROW(oid, typname)::text
    FROM pg_type WHERE typnamespace = %(schema)s::regnamespace
    UNION ALL SELECT ROW(oid, proname, prosrc, proowner, proacl)::text
    FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
    UNION ALL SELECT ROW(oid, nspowner, nspacl)::text
    FROM pg_namespace WHERE nspname = %(schema)s
) all_parts (part)"""

_TABLES = """
SELECT relname, pg_relation_size(c.oid) AS size FROM pg_class c
JOIN pg_namespace n ON relnamespace = n.oid WHERE nspname = %(schema)s AND relkind = 'r'
ORDER BY relname <> 'jobs'"""  # whose triggers write to others

_RESTART = """
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence JOIN pg_class c ON seqrelid = c.oid
WHERE relnamespace = %(schema)s::regnamespace"""

# Up to so many bytes a table may have for rows that are gone: it looks no larger than an empty
# one to who plans statements.  To delete rows is much faster than to make new files.
_SMALL = 10 * 8192

_WITH_SETTINGS = """
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = %(schema)s::regnamespace AND proconfig IS NOT NULL"""


class Schemas:
    """
    The schemas of one process; whoever takes one gives it back.

    @param dsn: the PostgreSQL.
    """

    def __init__(self, dsn):
        self._dsn = dsn
        self._number = 0
        self._madeOf = {}
        self._spare = []
        self._connection = psycopg2.connect(dsn)
        with self._cursor() as cursor:
            cursor.execute("SET client_min_messages = warning; SET lock_timeout = '20s'")

    def take(self):
        """The name of one that nobody has used, or that looks like that."""
        self._number += 1
        name = f"t{os.getpid()}_{self._number}"
        if self._spare:
            self._rename(self._spare.pop(), name)
        else:
            pytest_twisted.blockon(Deferred.fromCoroutine(_make(self._dsn, name)))
            with self._cursor() as cursor:
                self._madeOf[name] = _look(cursor, name)
        return name

    def giveBack(self, name):
        """
        Wait until nobody uses it any longer, and make it as it was; drop it if a test has
        changed more than the rows of its tables.
        """
        madeOf = self._madeOf.pop(name)
        with self._cursor() as cursor:
            cursor.execute(_TABLES, {"schema": name})
            tables = [table for table, _ in cursor.fetchall()]
            if tables:
                among = ", ".join(f'{name}."{table}"' for table in tables)
                cursor.execute(f"LOCK TABLE {among} IN ACCESS EXCLUSIVE MODE")
            if "version" not in tables or _look(cursor, name) != madeOf:
                cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
                return
            _empty(cursor, name)
        self._madeOf[name] = madeOf
        self._spare.append(name)

    def close(self):
        with self._cursor() as cursor:
            for name in self._spare:
                cursor.execute(f"DROP SCHEMA {name} CASCADE")
        self._connection.close()

    @contextmanager
    def _cursor(self):
        """For one transaction."""
        with self._connection, self._connection.cursor() as cursor:
            yield cursor

    def _rename(self, old, new):
        with self._cursor() as cursor:
            cursor.execute(f"ALTER SCHEMA {old} RENAME TO {new}")
            cursor.execute(f"SET LOCAL search_path TO {new}")
            cursor.execute(_WITH_SETTINGS, {"schema": new})
            for (function,) in cursor.fetchall():
                cursor.execute(f"ALTER FUNCTION {function} SET search_path FROM CURRENT")
        self._madeOf[new] = self._madeOf.pop(old)


async def _make(dsn, name):
    database = Database(dsn, schema=name)
    database.startService()
    await schema.prepare(database)
    await database.stopService()


def _empty(cursor, name):
    cursor.execute(_TABLES, {"schema": name})
    statements = [
        f"DELETE FROM {name}.{table};" if size <= _SMALL else f"TRUNCATE {name}.{table} CASCADE;"
        for table, size in cursor.fetchall()
        if size and table != "version"
    ]
    cursor.execute("".join(statements) + f"INSERT INTO {name}.client_key DEFAULT VALUES")
    cursor.execute(_RESTART, {"schema": name})


def _look(cursor, name):
    cursor.execute(f"SET LOCAL search_path TO {name}")
    cursor.execute(_MADE_OF, {"schema": name})
    return cursor.fetchall()
