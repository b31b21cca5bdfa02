"""
The table of jobs: runs the statements, every one by its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from twisted.internet.defer import Deferred

from twuws.accounts import NO_LIMITS, AccountLimits, refused
from twuws.database import Database, LockTimeout, Row, Transaction, asJSON
from twuws.errors import BadRequest, DatabaseUnavailable, UWSError
from twuws.jobs import JobError, JobRecord, JobRef, Result
from twuws.phases import Phase
from twuws.rows import BATCH as BATCH
from twuws.rows import COLUMNS, keyOf
from twuws.rows import NOTHING_TOLD as NOTHING_TOLD
from twuws.rows import End as End
from twuws.rows import Hold as Hold
from twuws.rows import JobEvent as JobEvent
from twuws.rows import ListFilters as ListFilters
from twuws.rows import NewJob as NewJob
from twuws.rows import Told as Told
from twuws.rows import eventFromRow as eventFromRow
from twuws.rows import fromRow as fromRow
from twuws.rows import storable as storable
from twuws.rows import toColumn as toColumn
from twuws.statements import PREPARED, STATEMENTS


class JobsTable:
    """
    The statements as methods, where more is to be done than to run them.

    C{conn} is the transaction to run in, or C{None} for one of its own.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def run(
        self, statementId: str, args: Any = None, conn: Transaction | None = None
    ) -> Deferred[list[Row]]:
        """
        Run a named statement and return its rows as dictionaries.

        @raise KeyError: if there is no statement of that name.
        """
        if conn is not None:
            return conn.execute(STATEMENTS[statementId], args)
        return self.database.query(PREPARED.get(statementId) or STATEMENTS[statementId], args)

    async def one(
        self, statementId: str, args: Any = None, conn: Transaction | None = None
    ) -> JobRecord | None:
        """Run a statement that returns at most one row of C{jobs}."""
        rows = await self.run(statementId, args, conn)
        return fromRow(rows[0]) if rows else None

    async def some(self, service: str, jobIds: Sequence[str]) -> list[JobRecord | None]:
        """
        Those of some jobs that can be had together, in the order of their ids; C{None} for the
        others, which are no jobs, or have much.
        """
        args = {"service": service, "jobIds": list(set(jobIds))}
        found = {row["job_id"]: fromRow(row) for row in await self.run("getSmallJobs", args)}
        return [found.get(one) for one in jobIds]

    async def change(
        self, before: JobRecord, after: JobRecord, conn: Transaction
    ) -> JobRecord | None:
        """Write what differs between two states of a job; C{None} if nothing does."""
        changes = {
            column: toColumn(name, getattr(after, name))
            for name, column in COLUMNS.items()
            if getattr(after, name) != getattr(before, name)
        }
        if not changes:
            return None
        args = {"jobId": before.jobId, "changes": asJSON(changes)}
        changed = await self.one("changeJob", args, conn)
        if "execution_duration" in changes:
            await self.run("moveDeadline", args, conn)
        return changed

    async def make(self, new: NewJob, conn: Transaction) -> JobRecord:
        """
        Store a new job, or find it stored.

        @raise BadRequest: if its destruction would be in the past.
        @raise UWSError: if its account has reached a limit; see L{refused}.
        """
        (row,) = await self.run("makeJob", {"asked": asJSON([new.asJSON()])}, conn)
        if (error := _notMade(row["refusal"], isMade=row["job_id"] is not None)) is not None:
            raise error
        return fromRow(row)

    async def makeSome(
        self, new: Sequence[NewJob], isPatient: bool = False
    ) -> list[Exception | None]:
        """
        Store new jobs, each as L{make} does, in one transaction; what each has failed with.

        @raise LockTimeout: if for one of them others are to be waited for, unless C{isPatient}.
        """
        statement = "makeJobs" if isPatient else "makeJobsSoon"
        try:
            rows = await self.run(statement, {"asked": asJSON([one.asJSON() for one in new])})
        except DatabaseUnavailable:
            raise
        except Exception as e:  # of one, and not to be that of the others
            return [e] if len(new) == 1 else [(await self.makeSome([one]))[0] for one in new]
        found = {row["id"]: _notMade(row["refusal"], row["is_made"]) for row in rows}
        return [found[one.job.jobId] for one in new]

    async def checkStored(self, jobId: str, size: int, most: int, conn: Transaction) -> None:
        """
        See whether the account of a job can have so many more bytes; nobody else of it stores
        anything until the transaction ends.

        @raise UWSError: if not.
        """
        args = {"jobId": jobId, "size": size, "most": most}
        for row in await self.run("refusalToStore", args, conn):
            if row["refusal"] is not None:
                raise refused(row["refusal"])

    async def checkRoom(
        self, owner: str | None, client: str | None, limits: AccountLimits, isToRun: bool
    ) -> int | None:
        """
        How many bytes an account stores; C{None} if there is no account, or there are no limits,
        or others are just being counted for it: who makes a job is looked at again.

        @param isToRun: what is to be made would be queued as well.
        @raise UWSError: if it can make no more jobs; see L{refused}.
        """
        if limits == NO_LIMITS:
            return None
        args = {"owner": owner, "client": client, "limits": asJSON(limits.toMake())}
        try:
            (row,) = await self.run("roomOfAccount", args)
        except LockTimeout:  # not for others to wait for, who ask at the same time
            return None
        if row["refusal"] is not None:
            raise refused(row["refusal"])
        if row["account"] is None:
            return None
        if isToRun and limits.queued is not None and row["queued"] >= limits.queued:
            raise refused({"limit": "queued", "most": limits.queued, "found": row["queued"]})
        return int(row["stored"])

    async def ofKey(
        self, job: JobRecord, key: str, client: str | None, conn: Transaction | None = None
    ) -> str | None:
        """
        The id of the job that a key stands for, if any: of this job's owner, or the client if
        there is none, at its service.
        """
        rows = await self.run("jobOfKey", keyOf(job, key, client), conn)
        return rows[0]["job_id"] if rows else None

    async def useKey(
        self, job: JobRecord, key: str, client: str | None, conn: Transaction
    ) -> str | None:
        """
        Make a key stand for a new job, or return the id of the one that it stands for.

        Waits for those who are about to use the same key.
        """
        isNew = await self.run("useKey", keyOf(job, key, client), conn)
        return None if isNew else await self.ofKey(job, key, client, conn)

    async def move(
        self,
        job: JobRecord,
        phase: Phase,
        error: JobError | None,
        conn: Transaction,
        told: Told = NOTHING_TOLD,
        priority: int | None = None,
        usual: int = 0,
        because: str | None = None,
        quote: datetime | None = None,
        most: int | None = None,
    ) -> None:
        """
        Write a move that has been found to be right, of a row that is locked; a job that is
        QUEUED then is in the queue.

        @param priority: there; if not given that which it had, or else the usual one.
        @param because: why it is HELD, for C{jobInfo}.
        @param quote: for a job that has none.
        @param most: how many of its account may be in the queue; C{None} for any number.
        @raise UWSError: if there are more; then all is to be undone.
        """
        args = {
            "jobId": job.jobId,
            "phase": phase.value,
            "error": error and asJSON(toColumn("error", error)),
            "who": storable(told.who),
            "why": storable(told.why or (error.message if error else None)),
            "node": told.node,
            "priority": priority,
            "usual": usual,
            "because": because,
            "quote": quote,
            "most": most,
        }
        for row in await self.run("moveJob", args, conn):
            if row["refusal"] is not None:
                raise refused(row["refusal"])

    async def end(self, service: str, ends: Sequence[End]) -> list[bool]:
        """
        Write the usual end of some attempts, each at a job of its own; whether it could be
        written so.
        """
        args = {
            "service": service,
            "jobIds": [end.job.jobId for end in ends],
            "ends": asJSON([end.asJSON() for end in ends]),
        }
        rows = await self.run("endJobs", args)
        found = {(row["job_id"], row["attempt"]) for row in rows}
        return [(end.job.jobId, end.job.attempt) in found for end in ends]

    async def holdOn(self, jobId: str, conn: Transaction) -> Row | None:
        """The hold that keeps a job from running; it stays until the transaction ends."""
        rows = await self.run("holdOnJob", {"jobId": jobId}, conn)
        return rows[0] if rows else None

    async def holds(self, service: str | None = None) -> list[Hold]:
        """All holds, the oldest first, or those that concern a service."""
        return [Hold(**row) for row in await self.run("listHolds", {"service": service})]

    async def dequeue(
        self, jobId: str, conn: Transaction, ended: bool = False, removeDirectory: bool = False
    ) -> bool:
        """
        Take a job off the queue; true if work is left that its node will end.

        @param ended: there is none, whatever the queue says.
        @param removeDirectory: the job's directory is to go with the work, also with work
            that was to be ended before.
        """
        args = {"jobId": jobId, "ended": ended, "removeDirectory": removeDirectory}
        left = bool(await self.run("dequeue", args, conn))
        if removeDirectory and await self.run("removeWithWork", args, conn):
            return True
        return left

    async def delete(
        self, jobId: str, conn: Transaction, told: Told, keepHistory: bool = False
    ) -> None:
        """
        Remove the row of a job.

        @param told: what the last record says.
        @param keepHistory: whether there is a last record; if not, the others go, too.
        """
        said = {"who": storable(told.who), "why": storable(told.why), "keep": keepHistory}
        await self.run("deleteJob", {"jobId": jobId, "told": asJSON(said)}, conn)

    async def forgetHistory(self, service: str, keepHistory: float) -> AsyncIterator[int]:
        """
        Remove the records of jobs that were destroyed long ago, in batches; yields of how many.

        @param keepHistory: how long ago, s.
        """
        args = {"service": service, "keepHistory": keepHistory, "limit": BATCH}
        while True:
            rows = await self.run("forgetHistory", args)
            forgotten = len({str(row["job_id"]) for row in rows})
            yield forgotten
            if forgotten < BATCH:
                return

    async def reportFetched(self, job: JobRecord, jobInfo: Mapping[str, Any]) -> bool:
        """Store what was loaded for a job; false if the attempt is not the row's any more."""
        args = {
            "jobId": job.jobId,
            "attempt": job.attempt,
            "parameters": asJSON(toColumn("parameters", job.parameters)),
            "jobInfo": asJSON(toColumn("jobInfo", jobInfo)),
        }
        return bool(await self.run("reportFetched", args))

    async def reportWork(
        self, jobId: str, attempt: int, results: tuple[Result, ...], jobInfo: Mapping[str, Any]
    ) -> bool:
        """Store what work tells; false if the attempt is not the row's any more."""
        args = {
            "jobId": jobId,
            "attempt": attempt,
            "results": asJSON(toColumn("results", results)),
            "jobInfo": asJSON(toColumn("jobInfo", jobInfo)),
        }
        return bool(await self.run("reportWork", args))

    async def toClean(self, service: str, flags: Mapping[str, Any]) -> AsyncIterator[Row]:
        """
        Id, phase and destruction of jobs to remove, read in batches; the expired ones by
        their index.

        @param flags: the arguments of the statement C{jobsToClean}.
        """
        wanted = any(value is True for value in flags.values())
        args = {**flags, "service": service, "limit": 200, "afterId": "", "afterTime": "-infinity"}
        while True:
            rows = await self.run("jobsToClean" if wanted else "expiredJobs", args)
            for row in rows:
                yield row
            if len(rows) < args["limit"]:
                return
            args["afterId"], args["afterTime"] = rows[-1]["job_id"], rows[-1]["destruction"]

    async def page(
        self,
        service: str,
        filters: ListFilters,
        owner: str | None,
        anyOwner: bool,
        limit: int,
        before: tuple[Any, str] = ("infinity", ""),
    ) -> list[JobRef]:
        """
        Some of the job list, newest first.

        @param before: creation time and id of the last job of the page before.
        """
        rows = await self.run(
            "listJobs",
            {
                "service": service,
                "owner": owner,
                "anyOwner": anyOwner,
                "phases": filters.wanted,
                "listedOnly": filters.listedOnly,
                "after": filters.after or "-infinity",
                "beforeTime": before[0],
                "beforeId": before[1],
                "limit": limit,
            },
        )
        return [
            JobRef(
                jobId=row["job_id"],
                phase=Phase(row["phase"]),
                owner=row["owner"],
                runId=row["run_id"],
                creationTime=row["creation_time"],
            )
            for row in rows
        ]


def _notMade(refusal: Mapping[str, Any] | None, isMade: bool) -> UWSError | None:
    """Why a job was not made; C{None} if it was."""
    if refusal is not None:
        return refused(refusal)
    if not isMade:
        return BadRequest("DESTRUCTION: this instant has passed; give a later one")
    return None
