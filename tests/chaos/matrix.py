"""
What becomes of a job, by the state that it is in when something breaks: the promise of this
service, cell by cell.

L{TABLE} is to be read.  A row is a state and a service (see L{tests.chaos.jobs}): C{worked} and
C{again} have processes of their own, C{program} is a program, C{awaited} and C{once} work in
the service's process; C{again}, C{program} and C{awaited} may be started again.  A column is a
fault of L{tests.chaos.columns}, an entry how the job ends and at which attempt:

    =======  =====================================================================
    C{C1}    COMPLETED at the first attempt: the work has survived, or had ended
    C{C2}    COMPLETED at the second: the first has never begun, or was lost
    C{C12}   either, for the fault may come before or after the instant that counts
    C{T1}    ERROR that is transient: the work was lost, or could not be stored
    C{F1}    ERROR that is fatal: the work itself has failed
    C{A1}    ABORTED
    C{--}    the job is gone, and so is its directory
    C{.}     there is no such cell
    =======  =====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: The states, each with what has happened last.
STATES = {
    "QUEUED": "it was run",
    "claimed": "a node has taken it, and has not started its work",
    "started": "its process, if it has one, is there, and it is not recorded where",
    "EXECUTING": "its work goes on",
    "ended": "its work has ended, and that is not recorded",
    "aborting": "it is ABORTED, and its work still goes on",
    "deleting": "its row is gone, and its work still goes on",
}

TABLE = """
                    kill  lost  freeze  disk  work  runner  immediate  listen  working  away  long
QUEUED     worked   C1    C1    C1      T1    C1    C1      C1         C1      C1       C1    C1
claimed    worked   C2    C2    C2      T1    C1    C1      C12        C1      C2       C2    C2
claimed    once     C2    C2    C2      T1    .     .       C12        C1      C2       C2    C2
started    worked   C2    C2    C2      T1    C1    T1      C12        C1      C2       C2    C2
started    again    C2    C2    C2      T1    C1    C2      C12        C1      C2       C2    C2
started    once     C2    C2    C2      T1    .     .       C12        C1      C2       C2    C2
EXECUTING  worked   C1    T1    T1      C1    F1    T1      C1         C1      C1       C1    T1
EXECUTING  again    C1    C2    C2      C1    F1    C2      C1         C1      C1       C1    C2
EXECUTING  program  C1    C2    C2      C1    F1    C2      C1         C1      C1       C1    C2
EXECUTING  awaited  C2    C2    C2      C1    .     .       C1         C1      C1       C1    C2
EXECUTING  once     T1    T1    T1      C1    .     .       C1         C1      C1       C1    T1
ended      worked   C1    C1    C1      C1    C1    C1      C1         C1      C1       C1    C1
ended      awaited  C2    C2    C2      C1    .     .       C1         C1      C1       C1    C1
ended      once     T1    T1    T1      C1    .     .       C1         C1      C1       C1    C1
aborting   worked   A1    A1    A1      A1    A1    A1      A1         A1      A1       A1    A1
aborting   awaited  A1    A1    A1      A1    .     .       A1         A1      A1       A1    A1
deleting   worked   --    --    --      --    --    --      --         --      --       --    --
deleting   awaited  --    --    --      --    .     .       --         --      --       --    --
"""

GONE = "--"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """
    One state of a job of one service, and one fault.

    @ivar ends: how it may end, in the words of L{TABLE}.
    """

    fault: str
    state: str
    service: str
    ends: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.fault}-{self.state}-{self.service}"


def cells(*faults: str) -> list[Cell]:
    """The cells of some columns, column by column."""
    return [cell for fault in faults for cell in _column(fault)]


def _column(fault: str) -> Iterator[Cell]:
    heading, *rows = TABLE.strip("\n").splitlines()
    number = heading.split().index(fault)
    for row in rows:
        state, service, *entries = row.split()
        assert state in STATES
        if (entry := entries[number]) != ".":
            yield Cell(fault=fault, state=state, service=service, ends=_ends(entry))


def _ends(entry: str) -> tuple[str, ...]:
    """
    All that an entry allows.

    >>> _ends("C12"), _ends("T1"), _ends("--")
    (('C1', 'C2'), ('T1',), ('--',))
    """
    if entry == GONE:
        return (GONE,)
    return tuple(entry[0] + attempt for attempt in entry[1:])
