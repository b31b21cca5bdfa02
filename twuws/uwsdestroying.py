"""
The end of jobs: when they are destroyed, or archived, and what is left of them then.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from twuws.database import Row, Transaction, shield
from twuws.errors import DatabaseUnavailable, JobNotFound
from twuws.jobs import JobError, JobRecord
from twuws.jobstable import Told
from twuws.phases import ABORTED, ARCHIVED, FINAL, IN_QUEUE
from twuws.uwsreading import deferred
from twuws.uwsworking import WorkedJobs

log = Logger()

#: The phases from which expired jobs are archived: what never ran leaves nothing to tell.
_ARCHIVABLE = (FINAL | IN_QUEUE) - {ARCHIVED}

_EXPIRED = Told(why="Its destruction time had come.")


class DestroyableJobs(WorkedJobs):
    """
    The jobs of one service, to destroy.  See L{twuws.uws.UWS}.
    """

    #: After how long a job that was never run counts as forgotten, s.
    forgottenAfter: float = 86400

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._removals: set[Deferred[None]] = set()

    @deferred
    async def destroy(self, jobId: str, who: str | None = None) -> None:
        """
        End a job's work, and remove its row and its directory (2.1.5).

        C{job.prepareForDestruction()} is called before, while the job is changeable; if it
        raises, nothing is destroyed.  For an archived job that has been done before.  The
        directory goes once its work has ended, or at once where there is none, in the
        background.

        @param who: asks for it, for the record.
        """
        await self._destroy(jobId, Told(who=who))

    async def _destroy(self, jobId: str, told: Told, seen: Row | None = None) -> bool:
        """
        Destroy a job, or archive it if it has expired and the policy says so; false if it is
        not as it was when it was chosen for that.

        @param told: what the record says, if the job has not expired.
        @param seen: its phase and destruction then.
        """
        async with self._locked(jobId) as (t, record, now):
            if seen and (seen["phase"], seen["destruction"]) != (record.phase, record.destruction):
                return False
            if record.phase is not ARCHIVED:
                job = self._jobOf(record, changeable=True)
                await maybeDeferred(job.prepareForDestruction)
            hasWork = await self.table.dequeue(jobId, t, removeDirectory=True)
            isExpired = seen and record.destruction and record.destruction <= now
            if isExpired and self.policy.archive and record.phase in _ARCHIVABLE:
                await self._archive(t, record, now)
            else:
                told = _EXPIRED if isExpired else told
                await self.table.delete(jobId, t, told, self.policy.keepHistory > 0)
        if not hasWork:
            self.removeDirectory(jobId)
        return True

    async def _archive(self, t: Transaction, record: JobRecord, now: datetime) -> None:
        """Keep the metadata of a job, until its destruction time comes again (U-092, U-093)."""
        if record.phase in IN_QUEUE:
            why = JobError(message="The job was stopped, for its destruction time had come.")
            await self.table.move(record, ABORTED, why, t)
        await self.table.move(record, ARCHIVED, None, t, _EXPIRED)
        until = now + timedelta(seconds=self.policy.archive)
        await self.table.change(record, replace(record, results=(), destruction=until), t)

    def removeDirectory(self, jobId: str) -> None:
        """Remove a job's directory in the background; a failure is logged."""
        removal = self.inThread(self.workDirs.forJob(jobId).remove)
        removal.addErrback(
            lambda f: log.failure("directory of {jobId} not removed", f, jobId=jobId)
        )
        self._removals.add(removal)
        removal.addBoth(lambda _: self._removals.discard(removal))

    @deferred
    async def directoriesRemoved(self) -> None:
        """Fires when no directory is being removed any more."""
        while self._removals:
            await shield(next(iter(self._removals)))

    @deferred
    async def cleanupJobsTable(
        self,
        includeFailed: bool = False,
        includeCompleted: bool = False,
        includeAll: bool = False,
        includeForgotten: bool = False,
        dryRun: bool = False,
        who: str | None = None,
    ) -> list[str]:
        """
        Destroy the expired jobs, or archive them for as long as the policy says (2.1.5), and
        return their ids.

        A job that cannot be destroyed is logged and passed over.

        @param includeFailed: also those in ERROR and ABORTED.
        @param includeCompleted: also those in COMPLETED.
        @param includeAll: also all others.
        @param includeForgotten: also those that have been PENDING for C{forgottenAfter}.
        @param dryRun: destroy nothing.
        @param who: asks for those that have not expired, for the record.
        """
        flags = {
            "includeFailed": includeFailed,
            "includeCompleted": includeCompleted,
            "includeAll": includeAll,
            "includeForgotten": includeForgotten,
            "forgottenAfter": self.forgottenAfter,
        }
        done = []
        async for row in self.table.toClean(self.name, flags):
            if dryRun or await self._destroyedQuietly(row, Told(who=who, why="A clean-up.")):
                done.append(row["job_id"])
        return done

    async def _destroyedQuietly(self, seen: Row, told: Told) -> bool:
        try:
            return await self._destroy(seen["job_id"], told, seen)
        except JobNotFound:
            return False
        except DatabaseUnavailable:
            raise
        except Exception:
            log.failure("{jobId} was not destroyed", jobId=seen["job_id"])
            return False

    @deferred
    async def forgetHistory(self) -> int:
        """
        Remove the records of jobs that were destroyed longer ago than the policy keeps them;
        of how many jobs.
        """
        batches = self.table.forgetHistory(self.name, self.policy.keepHistory)
        return sum([forgotten async for forgotten in batches])
