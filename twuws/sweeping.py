"""
What is left among the directories of jobs without a job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from twuws.uws import UWS

#: How old, in s, what nobody knows must be: a job's directory is there before its row.
MINIMUM_AGE = 86400.0


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """
    What a crash leaves that comes between a directory and its row, or ends a request.

    @ivar uws: any of the services whose jobs are below this root.
    @ivar jobIds: of directories without a job.
    @ivar uploads: files that never came to a job.
    @ivar isForeign: the database knows none of the directories, so that it is probably another
        one: then none of them is without a job.
    """

    uws: UWS
    jobIds: list[str]
    uploads: list[Path]
    isForeign: bool = False

    @property
    def root(self) -> Path:
        """Where the directories are."""
        return self.uws.workDirs.root

    @property
    def directories(self) -> list[Path]:
        """Those without a job."""
        return [self.uws.workDirs.forJob(jobId).path for jobId in self.jobIds]

    async def remove(self) -> None:
        """Remove them; what cannot be removed is logged."""
        await self.uws.inThread(_unlink, self.uploads)
        for jobId in self.jobIds:
            self.uws.removeDirectory(jobId)
        await self.uws.directoriesRemoved()


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


async def leftovers(services: Iterable[UWS], minimumAge: float = MINIMUM_AGE) -> list[Leftovers]:
    """
    What is left below the root of each of these services.

    @param minimumAge: of what is taken for left, s.
    """
    byRoot = {uws.workDirs.root: uws for uws in services}
    return [await _leftovers(uws, minimumAge) for uws in byRoot.values()]


async def _leftovers(uws: UWS, minimumAge: float) -> Leftovers:
    uploads = await uws.inThread(uws.workDirs.oldUploads, minimumAge)
    old = await uws.inThread(uws.workDirs.olderThan, minimumAge)
    known: set[str] = set()
    for start in range(0, len(old), 1000):
        some = {"jobIds": old[start : start + 1000]}
        known.update(row["job_id"] for row in await uws.table.run("jobsKnown", some))
    if old and not known:
        return Leftovers(uws=uws, jobIds=[], uploads=uploads, isForeign=True)
    left = [jobId for jobId in old if jobId not in known]
    return Leftovers(uws=uws, jobIds=left, uploads=uploads)
