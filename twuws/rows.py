"""
What is in the tables, as values: rows of jobs, of their records and of holds, to and from
Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from twuws.accounts import NO_LIMITS, AccountLimits
from twuws.database import Row
from twuws.jobs import JobError, JobRecord, Outcome, Result
from twuws.phases import Phase
from twuws.times import formatInstant
from twuws.values import sizeOf, valuesFromJSON, valuesToJSON

#: The columns that are called something else than the property, or hold JSON.
COLUMNS = {
    "owner": "owner",
    "runId": "run_id",
    "executionDuration": "execution_duration",
    "destruction": "destruction",
    "quote": "quote",
    "parameters": "parameters",
    "results": "results",
    "error": "error",
    "jobInfo": "job_info",
}

#: Of how many destroyed jobs the records are removed at a time.
BATCH = 500

# PostgreSQL's text has no NUL and no half of a surrogate pair, which Python makes of file
# names that are not UTF-8.  U+E000, which is nobody's, begins their escapes.
_UNSTORABLE = re.compile("[\x00\ue000\ud800-\udfff]")
_ESCAPED = re.compile("\ue000([0-9a-f]{4})")


def _mapText(function: Callable[[str], str], value: Any) -> Any:
    """What JSON has, with all text in it, keys included, passed through a function."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, Mapping):
        return {function(k): _mapText(function, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_mapText(function, one) for one in value]
    return value


def _protect(value: Any) -> Any:
    """Make JSON that PostgreSQL can hold, whatever text is in it."""
    return _mapText(partial(_UNSTORABLE.sub, lambda m: f"\ue000{ord(m[0]):04x}"), value)


def storable(text: str | None) -> str | None:
    """Text for people, without what PostgreSQL cannot hold."""
    return text and _UNSTORABLE.sub("\ufffd", text)


def _restore(value: Any) -> Any:
    """Undo L{_protect}."""
    return value and _mapText(_unescaped, value)


def _unescaped(text: str) -> str:
    # To look for one character takes a tenth of the time.
    return _ESCAPED.sub(lambda m: chr(int(m[1], 16)), text) if "\ue000" in text else text


def fromRow(row: Row) -> JobRecord:
    """Make the value from a row of C{jobs}."""
    error = _restore(row["error"])
    return JobRecord(
        service=row["service"],
        jobId=row["job_id"],
        phase=Phase(row["phase"]),
        owner=row["owner"],
        runId=row["run_id"],
        creationTime=row["creation_time"],
        startTime=row["start_time"],
        endTime=row["end_time"],
        executionDuration=row["execution_duration"],
        destruction=row["destruction"],
        quote=row["quote"],
        parameters=valuesFromJSON(_restore(row["parameters"])),
        results=tuple(Result(**one) for one in _restore(row["results"])),
        error=error and JobError(**error),
        jobInfo=_restore(row["job_info"]),
        attempt=row["attempt"],
        isListed=row["is_listed"],
    )


def toColumn(name: str, value: Any) -> Any:
    """What the column of a property holds, in JSON's types."""
    if isinstance(value, datetime):
        return value.isoformat()
    if name == "parameters":
        return _protect(valuesToJSON(value))
    if name == "results":
        return _protect([vars(result) for result in value])
    if name == "error":
        return value and _protect(vars(value))
    return _protect(value) if name == "jobInfo" else value


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """
    A job to be stored.

    @ivar lifetime: how long it lives if it names no destruction time, s.
    @ivar longestLifetime: how long it lives at most, s.
    @ivar who: asked for it, for the record.
    @ivar client: where that came from, if it is nobody's; no limit holds without.
    @ivar limits: of its account.
    """

    job: JobRecord
    lifetime: int
    longestLifetime: int
    who: str | None = None
    client: str | None = None
    limits: AccountLimits = NO_LIMITS

    def asJSON(self) -> dict[str, Any]:
        """By the names that the statement has."""
        job = self.job
        return {
            "job_id": job.jobId,
            "service": job.service,
            "owner": job.owner,
            "client": self.client,
            "run_id": job.runId,
            "execution_duration": job.executionDuration,
            "destruction": toColumn("destruction", job.destruction),
            "lifetime": self.lifetime,
            "longest_lifetime": self.longestLifetime,
            "quote": toColumn("quote", job.quote),
            "parameters": toColumn("parameters", job.parameters),
            "job_info": toColumn("jobInfo", job.jobInfo),
            "is_listed": job.isListed,
            "who": storable(self.who),
            "limits": None if self.limits == NO_LIMITS else self.limits.toMake(),
            "size": sizeOf(job.parameters),
        }


@dataclass(frozen=True, kw_only=True)
class End:
    """
    How an attempt at a job has ended.

    @ivar job: as it was when the attempt began.
    @ivar results: all that it has made.
    @ivar jobInfo: is added to what there is.
    @ivar node: where it ran, for the record.
    @ivar quote: for a job that has none.
    """

    job: JobRecord
    outcome: Outcome
    results: tuple[Result, ...]
    jobInfo: Mapping[str, Any]
    node: str | None
    quote: datetime | None

    def asJSON(self) -> dict[str, Any]:
        """By the names of columns, for statements."""
        error = self.outcome.error
        stored = {
            "job_id": self.job.jobId,
            "attempt": self.job.attempt,
            "phase": self.outcome.phase.value,
            "error": toColumn("error", error),
            "results": toColumn("results", self.results),
            "job_info": toColumn("jobInfo", self.jobInfo),
            "quote": toColumn("quote", self.quote),
            "why": storable(error.message if error else None),
            "node": self.node,
        }
        return {name: value for name, value in stored.items() if value is not None}


def keyOf(job: JobRecord, key: str, client: str | None) -> dict[str, str | None]:
    """
    An idempotency key is the owner's at the service.

    It is the client's if there is no owner, lest others get to know of a job by guessing.
    """
    whose = {"owner": job.owner, "client": client}
    return {"service": job.service, **whose, "key": key, "jobId": job.jobId}


@dataclass(frozen=True, kw_only=True)
class Told:
    """
    What the record of a move says beside the phase.

    @ivar who: asked for it; C{None} if nobody did.
    @ivar why: in a sentence; what went wrong if this is C{None}.
    @ivar node: on which node.
    """

    who: str | None = None
    why: str | None = None
    node: str | None = None


NOTHING_TOLD = Told()


@dataclass(frozen=True, kw_only=True)
class JobEvent(Told):
    """
    The record of a change of phase.

    @ivar at: when, by the database's clock.
    @ivar phase: the new one; C{None} if the job was destroyed.
    @ivar attempt: the one that was made then, or the last before.
    """

    at: datetime
    phase: Phase | None
    attempt: int


def eventFromRow(row: Row) -> JobEvent:
    """Make the value from a row of C{events}."""
    return JobEvent(
        at=row["at"],
        phase=row["phase"] and Phase(row["phase"]),
        attempt=row["attempt"],
        node=row["node"],
        who=row["who"],
        why=row["why"],
    )


@dataclass(frozen=True, kw_only=True)
class Hold:
    """
    What is not to run for now: a job, or all that is of a service, of an owner, or of both.

    @ivar jobId: the job, if it is one.
    @ivar service: whose jobs, or where the job is; C{None} for all services.
    @ivar owner: whose jobs; C{""} for those of nobody in particular, C{None} for everybody's.
    @ivar who: put it there.
    @ivar why: for those whose jobs it keeps, in a sentence.
    """

    jobId: str | None
    service: str | None
    owner: str | None
    since: datetime
    who: str | None
    why: str | None

    def asJSON(self) -> dict[str, Any]:
        """The same as a dictionary of what JSON has."""
        return {**vars(self), "since": formatInstant(self.since)}


@dataclass(frozen=True, kw_only=True)
class ListFilters:
    """
    What the job list is asked for (2.2.2.1); all of it must hold.

    @ivar phases: any of these; none for all but ARCHIVED.
    @ivar after: created later than this.
    @ivar last: at most so many, the newest.
    @ivar listedOnly: leave out what the job list over HTTP is not to have.
    """

    phases: tuple[Phase, ...] = ()
    after: datetime | None = None
    last: int | None = None
    listedOnly: bool = False

    @property
    def wanted(self) -> list[str]:
        """The phases that are wanted, as the database spells them."""
        default = (phase for phase in Phase if phase is not Phase.ARCHIVED)
        return [str(phase) for phase in self.phases or default]
