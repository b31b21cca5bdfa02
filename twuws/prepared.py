"""
Statements that a connection plans once and runs often.  No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

#: For how long a plan is kept, s: PostgreSQL does not see by itself that tables have grown, but
#: only once somebody has analysed them.
KEPT = 60.0


class Prepared:
    """
    A statement whose text is planned by each connection when it first needs it.

    To plan the statement of a claim takes PostgreSQL as long as to run it, and longer if it
    claims few.  Plans are made without the arguments, as C{plan_cache_mode} says in
    L{twuws.database}; so a statement must be good for all of them in the same way.

    @param sql: with C{%(name)s} for arguments.  Of several statements the last one is prepared.
    @ivar prepare: what prepares it.
    @ivar execute: what runs it then, with the same arguments.
    """

    def __init__(self, name: str, sql: str) -> None:
        before, _, last = sql.rpartition(";")
        numbers = _Numbers()
        self.name = name
        self.sql = sql
        self.prepare = f'PREPARE "{name}" AS {last % numbers}'
        given = ", ".join(f"%({argument})s" for argument in numbers)
        self.execute = f'{before}; EXECUTE "{name}" ({given})'.lstrip("; ")


class _Numbers(Mapping[str, str]):
    """Numbers for arguments, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __getitem__(self, argument: str) -> str:
        return self._found.setdefault(argument, f"${len(self._found) + 1}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
