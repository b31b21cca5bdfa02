"""
The databases of the PostgreSQL that all share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn


class Database:
    """One database of the PostgreSQL; services in it have the schema C{uws}."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        parts = parse_dsn(dsn)
        self.url = f"postgresql:///{parts['dbname']}?host={parts['host']}&user={parts['user']}"

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A psycopg2 connection, each statement of which is committed."""
        with closing(psycopg2.connect(self.dsn, options="-c search_path=uws,public")) as one:
            one.autocommit = True
            yield one

    def run(self, sql: str, args: Any = None) -> list[Any]:
        """The rows of one statement, or what several do."""
        with self.connection() as one, one.cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall()) if cursor.description else []
