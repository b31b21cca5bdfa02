"""
PostgreSQL under Twisted: slots for connections that heal, and transactions.
"""

from __future__ import annotations

import json
import re
from typing import Any, Self, TypeVar

import psycopg2
import psycopg2.extras
from psycopg2.extensions import make_dsn
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twuws.connection import LOST as LOST
from twuws.connection import REFUSED as REFUSED
from twuws.connection import Connection, execute, partsOf, reason
from twuws.connection import LockTimeout as LockTimeout
from twuws.connection import Row as Row
from twuws.connection import connect as connect
from twuws.connection import shield as shield
from twuws.counters import Counters
from twuws.errors import DatabaseBusy, DatabaseUnavailable, TransactionAborted, UWSError
from twuws.prepared import Prepared as Prepared

T = TypeVar("T")
log = Logger()

#: How long a database that does not answer is not asked again, s.
RECONSIDER = 5.0

#: What needs no quotes: the name is part of C{search_path}.
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)


def asJSON(value: Any) -> Any:
    """
    Make an argument that is stored as jsonb.

    >>> asJSON({"a": 1}).adapted
    {'a': 1}
    """
    return psycopg2.extras.Json(value, dumps=json.dumps)


class Transaction:
    """
    One transaction, as an asynchronous context manager and its cursor.

    It is committed when the block ends and rolled back when it raises.  A block that is
    cancelled is rolled back too, once the statement under way has ended.

    @param database: where the connection comes from.
    @param lockTimeout: how long a statement may wait for a lock, s; C{None} for ever.
    """

    def __init__(self, database: Database, lockTimeout: float | None = None) -> None:
        self._database = database
        self._lockTimeout = lockTimeout
        self._connection: Connection | None = None
        self._cursor: Any = None
        self._underWay: Deferred[Any] = defer.succeed(None)
        self._hasBegun = False

    async def __aenter__(self) -> Self:
        self._connection = await self._database.borrow(forTransaction=True)
        self._cursor = self._connection.cursor()
        return self

    def _beginning(self) -> str:
        """
        What begins it: sent with its first statement, for that saves two round trips of some
        six that a move takes.
        """
        if self._hasBegun:
            return ""
        self._hasBegun = True
        if self._lockTimeout is None:
            return "BEGIN;"
        return f"BEGIN; SET LOCAL lock_timeout = {max(1, int(self._lockTimeout * 1000))};"

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        statement = "COMMIT" if kind is None else "ROLLBACK"
        await shield(Deferred.fromCoroutine(self._end(statement)))

    async def _end(self, statement: str) -> None:
        await self._settled()
        assert self._connection is not None
        try:
            if not self._hasBegun or self._connection.usable():  # it has never begun
                return
            await self.execute(statement)
            if statement == "COMMIT" and self._cursor.statusmessage != "COMMIT":
                raise TransactionAborted
        except DatabaseUnavailable:
            if statement == "COMMIT":
                raise
        finally:
            self._database.giveBack(self._connection, forTransaction=True)

    def _settled(self) -> Deferred[None]:
        """Fires when no statement is under way."""
        waiter: Deferred[None] = Deferred()

        def passOn(result: T) -> T:
            waiter.callback(None)
            return result

        self._underWay.addBoth(passOn)
        return waiter

    def execute(self, sql: str, args: Any = None) -> Deferred[list[Row]]:
        """
        Run one statement, after those that are under way, and return its rows as
        dictionaries.

        @raise DatabaseUnavailable: when the connection was lost, or the statement ran into
            a time limit (L{LockTimeout} if it waited for a lock).
        """
        self._underWay = Deferred.fromCoroutine(self._inTurn(self._settled(), sql, args))
        return shield(self._underWay)

    async def _inTurn(self, before: Deferred[None], sql: str, args: Any) -> list[Row]:
        await before
        assert self._connection is not None
        sql = self._beginning() + sql
        return await self._database.execute(self._connection, self._cursor, sql, args)


class Database(Service):
    """
    At most C{size} connections, opened when first needed and replaced when lost.

    One of them is for single queries only, so that who is in a transaction can ask something
    beside it, however many do.  To begin a second transaction inside of one may have to wait
    until C{patience} ends.

    @param dsn: a PostgreSQL URL or libpq's keywords and values.
    @param schema: the schema that the tables are in.
    @param patience: how long to wait for a free connection, and for a new one, s.
    @ivar statementLimit: how long to wait for the answer to a statement, s.
    @ivar counters: of all that uses this.
    """

    statementLimit: float = 20

    def __init__(
        self,
        dsn: str,
        size: int = 8,
        schema: str = "uws",
        patience: float = 5,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        options = partsOf(dsn).get("options", "")
        if not _SCHEMA.fullmatch(schema):
            raise UWSError(f"{schema!r} cannot name a schema: use a-z, 0-9 and _, up to 63 of them")
        self.schema = schema
        self.dsn = make_dsn(
            dsn,
            options=f"{options} -c search_path={schema}"
            " -c idle_in_transaction_session_timeout=120s -c timezone=UTC"
            " -c plan_cache_mode=force_generic_plan",
            application_name="twuws",
            keepalives=1,
            keepalives_idle=30,
            tcp_user_timeout=30_000,
        )
        self.size = size
        self.patience = patience
        self.reactor = reactor
        self.counters = Counters()
        # A slot is an open connection, or None where one has yet to be opened.
        self._slots: defer.DeferredQueue[Connection | None] = defer.DeferredQueue()
        self._turns = defer.DeferredSemaphore(max(1, size - 1))
        self._stopped = True
        self._silentUntil = 0.0
        self._reopen()

    def _reopen(self) -> None:
        if self._stopped:
            self._stopped = False
            for _ in range(self.size):
                self._slots.put(None)

    def startService(self) -> None:
        super().startService()
        self._reopen()

    async def stopService(self) -> None:
        """Wait for the transactions under way, then close all connections."""
        super().stopService()
        if self._stopped:
            return
        self._stopped = True
        for _ in range(self.size):
            connection = await self._slots.get()
            if connection is not None:
                connection.close()

    @property
    def borrowed(self) -> int:
        """How many connections are in use, or being opened."""
        return self.size - len(self._slots.pending)

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._slots.waiting) + len(self._turns.waiting)

    def query(self, sql: str | Prepared, args: Any = None) -> Deferred[list[Row]]:
        """
        Run one statement in a transaction of its own and return its rows as dictionaries.

        Cancelling gives up waiting; the statement goes on.
        """
        return shield(Deferred.fromCoroutine(self._query(sql, args)))

    async def _query(self, sql: str | Prepared, args: Any) -> list[Row]:
        connection = await self._borrow()
        try:
            if isinstance(sql, Prepared):
                return await self._runPrepared(connection, sql, args)
            return await self.execute(connection, connection.cursor(), sql, args)
        finally:
            self.giveBack(connection)

    async def _runPrepared(self, connection: Connection, what: Prepared, args: Any) -> list[Row]:
        sql = connection.prepared(what, self.reactor.seconds())
        try:
            return await self.execute(connection, connection.cursor(), sql, args)
        except BaseException:
            connection.close()  # it may not be prepared, or not for tables as they are by now
            raise

    async def execute(self, connection: Connection, cursor: Any, sql: str, args: Any) -> list[Row]:
        """Run one statement; for L{Transaction}.  Who says nothing for too long is given up."""
        silence = self.reactor.callLater(self.statementLimit, self._giveUp, connection)
        try:
            return await execute(cursor, sql, args, self.counters)
        finally:
            if silence.active():
                silence.cancel()

    def _giveUp(self, connection: Connection) -> None:
        log.warn("the database has not answered for {s:g} s", s=self.statementLimit)
        self._silentUntil = self.reactor.seconds() + RECONSIDER
        connection.close()

    def transaction(self, lockTimeout: float | None = None) -> Transaction:
        """
        A transaction: C{async with database.transaction() as t: await t.execute(…)}.
        """
        return Transaction(self, lockTimeout)

    def borrow(self, forTransaction: bool = False) -> Deferred[Connection]:
        """
        A usable connection, to be given back; for L{Transaction}.

        @raise DatabaseBusy: if none gets free within C{patience}.
        @raise DatabaseUnavailable: if none can be opened.
        """
        return shield(
            Deferred.fromCoroutine(self._borrow(forTransaction)),
            unwanted=lambda connection: self.giveBack(connection, forTransaction),
        )

    async def _borrow(self, forTransaction: bool = False) -> Connection:
        if forTransaction:
            await self._patiently(self._turns.acquire())
        try:
            if self._stopped:
                raise DatabaseUnavailable("The connections to the database have been stopped.")
            connection = await self._patiently(self._slots.get())
            if connection is not None and connection.usable():
                return connection
            try:
                return await self._connect()
            except BaseException:
                self._slots.put(None)
                raise
        except BaseException:
            if forTransaction:
                self._turns.release()
            raise

    async def _connect(self) -> Connection:
        """Open a connection, unless the database was found silent just now."""
        if self.reactor.seconds() < self._silentUntil:
            raise DatabaseUnavailable(reason(TimeoutError("it does not answer")))
        began = self.reactor.seconds()
        try:
            return await connect(self.dsn, self.reactor, self.patience)
        except DatabaseUnavailable:
            if self.reactor.seconds() - began >= self.patience:
                self._silentUntil = self.reactor.seconds() + RECONSIDER
            raise

    async def _patiently(self, waiting: Deferred[T]) -> T:
        if waiting.called:
            return await waiting
        try:
            return await waiting.addTimeout(self.patience, self.reactor)
        except defer.TimeoutError:
            raise DatabaseBusy("All connections to the database are busy.") from None

    def giveBack(self, connection: Connection, forTransaction: bool = False) -> None:
        """Put a connection back, or close it if it is not fit for another use."""
        if connection.usable():
            self._slots.put(connection)
        else:
            connection.close()
            self._slots.put(None)
        if forTransaction:
            self._turns.release()
