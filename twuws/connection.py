"""
Connections to PostgreSQL under Twisted, one by one.

This and L{twuws.database} are all that knows txpostgres and psycopg2.  What it adds to them:
a time limit on connecting, descriptors that are the reactor's own, and cancellation that
cannot hurt a connection.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2
from psycopg2.errors import InsufficientPrivilege, LockNotAvailable, ReadOnlySqlTransaction
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, make_dsn, parse_dsn
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from txpostgres import txpostgres

from twuws.counters import Counters
from twuws.errors import DatabaseUnavailable, UWSError
from twuws.prepared import KEPT, Prepared

T = TypeVar("T")
Row = dict[str, Any]
log = Logger()

#: What libpq says of a URL, up to where it repeats more of that than the name of a parameter.
_TELLABLE = re.compile(r'([^"]|"[=:/\]]"|(?<=query parameter: )"[a-z_]{1,20}")*')

#: Of one host or of several.
_PORTS = re.compile(r"[0-9,]*")

#: What psycopg2 and txpostgres raise when a connection is lost or refused.
LOST = (psycopg2.OperationalError, psycopg2.InterfaceError, ConnectionClosed)

#: What psycopg2 raises when the server does not let its user do something.
REFUSED = (InsufficientPrivilege, ReadOnlySqlTransaction)


class LockTimeout(DatabaseUnavailable):
    """A lock was not to be had in the time given."""


def shield(d: Deferred[T], unwanted: Callable[[T], object] | None = None) -> Deferred[T]:
    """
    Return a Deferred with the outcome of C{d}, whose cancellation C{d} never sees.

    Cancelling a query leaves its connection unusable, and Klein cancels a handler as soon
    as its client hangs up.

    @param unwanted: called with the result if by then nobody waits for it any more.
    """
    outer: Deferred[T] = Deferred()

    def fired(result: T | Failure) -> None:
        if not outer.called:
            outer.callback(result)  # a Failure, too, fires what it should
        elif isinstance(result, Failure):
            log.info("failed after its caller had gone: {e}", e=result.value)
        elif unwanted is not None:
            unwanted(result)

    d.addBoth(fired)
    return outer


class _Cursor(txpostgres.Cursor):  # type: ignore[misc]
    """A txpostgres cursor that the reactor does not know: its connection reads for it."""

    def __init__(self, cursor: Any, connection: Connection) -> None:
        super().__init__(cursor, connection)
        self.reactor = _Place(connection)


class _Place:
    """What a cursor takes for the reactor."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.callLater = connection.reactor.callLater

    def addReader(self, cursor: _Cursor) -> None:
        """The connection is a reader at all times."""

    def addWriter(self, cursor: _Cursor) -> None:
        self._connection.reactor.addWriter(self._connection)


class Connection(txpostgres.Connection):  # type: ignore[misc]
    """
    A txpostgres connection that tells, once, that it was lost.

    The reactor knows it by a descriptor of its own, a duplicate of libpq's.  libpq closes a
    lost socket by itself, and the next one that anybody opens gets its number: the reactor
    would take the one for the other, and never look at the new one.

    The reactor knows it also while it is a cursor that waits for an answer.  txpostgres would
    have it forget the one for the other and back again: four system calls for each statement.
    """

    connectionFactory = staticmethod(psycopg2.connect)
    cursorFactory = _Cursor

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.lost: Deferred[None] = Deferred()
        self._abandoned = False
        self._descriptor = -1
        self._isOpen = False
        self._isLettingGo = False
        self._prepared: set[str] = set()
        self._plannedAt = -KEPT

    def fileno(self) -> int:
        if not self._isOpen and not self._isLettingGo:  # once open, libpq takes no other
            theirs = -1 if self._connection.closed else self._connection.fileno()
            if theirs >= 0 and not self._isOf(theirs):  # the first, or another one by now
                self._letGo()
                self._descriptor = os.dup(theirs)
        return self._descriptor

    def _isOf(self, theirs: int) -> bool:
        return self._descriptor >= 0 and os.path.sameopenfile(theirs, self._descriptor)

    def _letGo(self) -> None:
        """Have the reactor forget the descriptor, and close it."""
        if self._descriptor < 0:
            return
        self._isLettingGo = True
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        self._isLettingGo = False
        os.close(self._descriptor)
        self._descriptor = -1

    def close(self) -> None:
        super().close()
        self._letGo()

    async def open(self, dsn: str) -> None:
        """Connect, unless that is given up while the host is looked for."""
        args = await _withAddress(dsn, self.reactor)
        if not self._abandoned:
            await self.connect(args)
            self._isOpen = True

    def abandon(self) -> None:
        """Close it, even if it is not open yet."""
        self._abandoned = True
        if self._connection is not None:
            self.close()

    def doRead(self) -> None:
        if self._cursors:
            self._continueCursor()
            return
        try:
            super().doRead()
        except (psycopg2.Error, ValueError):  # lost while idle; its fileno may be -1
            self.close()

    def doWrite(self) -> None:
        if self._cursors:
            self.reactor.removeWriter(self)
            self._continueCursor()
        else:
            super().doWrite()

    def _continueCursor(self) -> None:
        (cursor,) = self._cursors
        if not self._connection.closed:
            cursor.continuePolling()

    def cursorRunning(self, cursor: _Cursor) -> None:
        self._cursors.add(cursor)

    def connectionLost(self, reason: Failure) -> None:
        for cursor in set(self._cursors):
            cursor.connectionLost(reason)
        super().connectionLost(reason)
        if self._connection.closed and not self.lost.called:
            self.lost.callback(None)

    def prepared(self, statement: Prepared, now: float) -> str:
        """
        What runs a statement here; it is prepared with it, if it is not yet.

        @param now: by a clock that goes on, s.
        """
        first = ""
        if now >= self._plannedAt + KEPT:
            self._plannedAt = now
            first = "DISCARD PLANS; "
        if statement.name not in self._prepared:
            self._prepared.add(statement.name)
            first += statement.prepare + "; "
        return first + statement.execute

    def usable(self) -> bool:
        return (
            not self._connection.closed
            and self._connection.get_transaction_status() == TRANSACTION_STATUS_IDLE
        )


def partsOf(dsn: str) -> dict[str, str]:
    """
    What a PostgreSQL URL says, by libpq's keywords.

    @raise UWSError: if it is none; nothing that may be of a password is told.
    """
    try:
        parts: dict[str, str] = parse_dsn(dsn)
    except psycopg2.ProgrammingError as e:
        said = " ".join(str(e).split())
        told = _TELLABLE.match(said)
        said = said if told is None or told[0] == said else f"{told[0]}…"
        raise UWSError(f"{said}: this is no PostgreSQL URL") from None
    if "@" in parts.get("host", "").lstrip("@") or not _PORTS.fullmatch(parts.get("port", "")):
        raise UWSError("This PostgreSQL URL has no host and port that can be. In a user's name and"
                       " a password write @ as %40, / as %2F, and : as %3A.")  # fmt: skip
    return parts


async def _withAddress(dsn: str, reactor: Any) -> str:
    """Resolve the host's name in a thread: libpq would do it in the reactor."""
    host = parse_dsn(dsn).get("host", "")
    if not host or host.startswith(("/", "@")) or "," in host or "hostaddr" in parse_dsn(dsn):
        return dsn
    try:
        ipaddress.ip_address(host)
    except ValueError:
        found = await deferToThreadPool(
            reactor, reactor.getThreadPool(), socket.getaddrinfo, host, None
        )
        return str(make_dsn(dsn, hostaddr=found[0][4][0]))
    return dsn


async def connect(dsn: str, reactor: Any, timeout: float = 10) -> Connection:
    """
    Open one connection, or raise L{DatabaseUnavailable} after C{timeout} seconds.

    libpq ignores C{connect_timeout} on asynchronous connections, and txpostgres cannot
    cancel an attempt to connect.
    """
    connection = Connection(reactor)
    opened = False
    try:
        await shield(Deferred.fromCoroutine(connection.open(dsn))).addTimeout(timeout, reactor)
        opened = True
    except defer.TimeoutError:
        why = TimeoutError(f"it did not answer within {timeout:g} s")
        raise DatabaseUnavailable(reason(why)) from None
    except CancelledError:
        raise
    except Exception as e:
        raise DatabaseUnavailable(reason(e)) from e
    finally:
        if not opened:
            connection.abandon()
    return connection


def reason(error: BaseException) -> str:
    """One line for people; a libpq message may be several."""
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"The database cannot be reached: {text.rstrip('.')}."


async def execute(cursor: Any, sql: str, args: Any, counters: Counters) -> list[Row]:
    began = time.perf_counter()
    try:
        await cursor.execute(sql, args)
        if cursor.description is None:
            return []
        # What psycopg2's own cursors do for this takes 25 µs for the row of a job, and this 3.
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except LockNotAvailable as e:
        raise LockTimeout from e
    except CancelledError as e:  # txpostgres' word for statement_timeout
        counters.statementFailures.inc()
        raise DatabaseUnavailable("The database took too long.") from e
    except LOST as e:
        counters.statementFailures.inc()
        raise DatabaseUnavailable(reason(e)) from e
    finally:
        counters.statements.observe(time.perf_counter() - began)
