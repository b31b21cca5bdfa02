"""
The version of the schema: made at first start, refused when it is another, upgraded on demand.
"""

from __future__ import annotations

from importlib import resources

from twuws.database import Database, Transaction
from twuws.errors import SchemaMismatch

#: The version that this twuws works with.
VERSION = 2

#: Any number that nobody else uses: one node at a time makes or upgrades the schema.
_LOCK = 7_584_919_387


async def prepare(database: Database) -> None:
    """
    Make the schema if there is none, and check its version.

    A newer schema will do if it says that it works with this version, too: so it can be
    upgraded while services of before go on.

    @raise SchemaMismatch: if it is not this twuws's; the message says what to do.
    """
    async with database.transaction() as t:
        found = await _lockedVersion(t, database.schema)
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
    """
    async with database.transaction() as t:
        found = await _lockedVersion(t, database.schema)
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


async def _lockedVersion(t: Transaction, schema: str) -> int:
    """The version that is there, 0 for none; nobody else looks until the transaction ends."""
    await t.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
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
