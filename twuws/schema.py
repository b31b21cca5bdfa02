"""
The version of the schema: made at first start, refused when it is another, upgraded on demand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

from twuws.database import REFUSED, Database, Transaction
from twuws.errors import SchemaMismatch, UWSError

#: The version that this twuws works with.
VERSION = 6

#: The oldest PostgreSQL that has all that the statements need.
_OLDEST = 13

_SERVER = """
SELECT current_setting('server_encoding') AS encoding,
    current_setting('server_version_num')::int AS version"""

#: Any number that nobody else uses: one node at a time makes or upgrades the schema.
_LOCK = 7_584_919_387


async def prepare(database: Database) -> None:
    """
    Make the schema if there is none, and check its version.

    A newer schema will do if it says that it works with this version, too: so it can be
    upgraded while services of before go on.

    @raise SchemaMismatch: if it is not this twuws's; the message says what to do.
    @raise UWSError: if this database cannot have it.
    """
    async with _locked(database) as (t, found):
        if found == 0:
            for version in range(1, VERSION + 1):
                await _apply(t, version)
            return
        if found < VERSION:
            raise SchemaMismatch(
                f"The database has version {found} of the schema {database.schema!r}, and this "
                f"twuws needs {VERSION}: stop all its services and run `twuws upgrade`."
            )
        if found > VERSION and await _worksWith(t) > VERSION:
            raise _tooNew(database.schema, found)


async def _worksWith(t: Transaction) -> int:
    """The oldest version that a service may know that uses this schema."""
    return int((await t.execute("SELECT works_with FROM version"))[0]["works_with"])


async def upgrade(database: Database) -> tuple[int, int]:
    """
    Bring the schema to this twuws's version, or make it; return the versions before and after.

    @raise SchemaMismatch: if it is newer.
    @raise UWSError: if this database cannot have it.
    """
    async with _locked(database) as (t, found):
        if found > VERSION:
            raise _tooNew(database.schema, found)
        for version in range(found + 1, VERSION + 1):
            await _apply(t, version)
    return found, VERSION


def _tooNew(schema: str, found: int) -> SchemaMismatch:
    return SchemaMismatch(
        f"The database has version {found} of the schema {schema!r}, and this twuws knows "
        f"versions up to {VERSION}: install a newer twuws."
    )


def checkServer(encoding: str, version: int) -> None:
    """
    Raise L{UWSError} unless a database can hold any text, and what jobs need.

    @param encoding: the database's.
    @param version: the server's, as in C{server_version_num}.
    """
    if version < _OLDEST * 10_000:
        raise UWSError(
            f"The database is of PostgreSQL {version // 10_000}, and twuws needs {_OLDEST} or"
            " newer: choose another --database."
        )
    if encoding != "UTF8":
        raise UWSError(
            f"The database's encoding is {encoding}, which not all texts can be stored in: make"
            " another one, with ENCODING 'UTF8' TEMPLATE template0."
        )


@asynccontextmanager
async def _locked(database: Database) -> AsyncIterator[tuple[Transaction, int]]:
    """
    A transaction, and the version that is there, 0 for none; nobody else looks until it ends.
    """
    try:
        async with database.transaction() as t:
            (server,) = await t.execute(_SERVER)
            checkServer(server["encoding"], server["version"])
            await t.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield t, await _version(t, database.schema)
    except REFUSED as e:
        why = str(e).partition("\n")[0]
        raise UWSError(
            f"The database refuses it: {why}. Its user must be able to write, and to make the"
            f" schema {database.schema!r} or own it; GRANT CREATE ON DATABASE lets it."
        ) from e


async def _version(t: Transaction, schema: str) -> int:
    quoted = '"' + schema.replace('"', '""') + '"'
    if not await t.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)):
        await t.execute(f"CREATE SCHEMA {quoted}")
    there = await t.execute("SELECT to_regclass(%s) AS there", (f"{quoted}.version",))
    if there[0]["there"] is None:
        return 0
    return int((await t.execute("SELECT version FROM version"))[0]["version"])


async def _apply(t: Transaction, version: int) -> None:
    script = resources.files("twuws.sql").joinpath(f"{version:04}.sql").read_text("utf-8")
    await t.execute(script)
