"""
What is known of a job, as values: its record, its results, its error, and how work ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from twuws.phases import COMPLETED, ERROR, PENDING, Phase
from twuws.times import formatInstant, parseInstant
from twuws.values import Value, valuesFromJSON, valuesToJSON


@dataclass(frozen=True, kw_only=True)
class Result:
    """
    One result of a job (2.1.10): a file in its directory, or a URL elsewhere.

    @ivar id: unique within the job; its name below C{{job}/results/}.
    @ivar file: the name of the file below C{results/} in the job's directory.
    @ivar href: a URL, for what lies elsewhere; then C{file} is C{None}.
    @ivar size: in bytes, where it is known.
    """

    id: str
    file: str | None = None
    href: str | None = None
    mediaType: str = "application/octet-stream"
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class JobError:
    """
    Why a job failed (2.1.7).

    @ivar message: one sentence.
    @ivar detail: what C{/error} says beyond it; C{None} for nothing.
    @ivar type: C{"fatal"}, or C{"transient"} where the same job may well succeed later.
    @ivar traceback: where in the code it was, for operators; clients see it only where they
        are told to.
    """

    message: str
    detail: str | None = None
    type: str = "fatal"
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """
    Everything that is known of a job: a row of the table of jobs, and never more than that.

    Times are aware datetimes, in milliseconds; C{executionDuration} is in seconds, 0 for
    unlimited; C{jobInfo} maps element names to text or numbers; what is not C{isListed} is
    not in the job list over HTTP.
    """

    service: str
    jobId: str
    phase: Phase = PENDING
    owner: str | None = None
    runId: str | None = None
    creationTime: datetime
    startTime: datetime | None = None
    endTime: datetime | None = None
    executionDuration: int = 0
    destruction: datetime | None = None
    quote: datetime | None = None
    parameters: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    error: JobError | None = None
    jobInfo: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    isListed: bool = True

    def asJSON(self) -> dict[str, Any]:
        """The same as a dictionary of what JSON has, for L{fromJSON}."""
        plain = {
            name: formatInstant(value) if isinstance(value, datetime) else value
            for name, value in vars(self).items()
        }
        plain["parameters"] = valuesToJSON(self.parameters)
        plain["results"] = [dict(vars(result)) for result in self.results]
        plain["error"] = self.error and dict(vars(self.error))
        plain["jobInfo"] = dict(self.jobInfo)
        return plain

    @classmethod
    def fromJSON(cls, stored: Mapping[str, Any]) -> JobRecord:
        """Read what L{asJSON} wrote."""
        values = dict(stored)
        for name in ("creationTime", "startTime", "endTime", "destruction", "quote"):
            if values[name] is not None:
                values[name] = parseInstant(values[name])
        values["phase"] = Phase(values["phase"])
        values["parameters"] = valuesFromJSON(values["parameters"])
        values["results"] = tuple(Result(**one) for one in values["results"])
        values["error"] = values["error"] and JobError(**values["error"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class JobRef:
    """
    What the list of jobs says of one (2.2.2.1): a few fields of L{JobRecord}, by the same names.
    """

    jobId: str
    phase: Phase
    runId: str | None = None
    owner: str | None = None
    creationTime: datetime


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    How work ended.

    @ivar phase: COMPLETED or ERROR.
    @ivar error: why, in ERROR.
    @ivar isLost: it was not the work's own end: a job whose class is restartable may be
        started again.
    """

    phase: Phase
    error: JobError | None = None
    isLost: bool = False

    @classmethod
    def failed(
        cls,
        message: str,
        detail: str | None = None,
        type: str = "fatal",
        traceback: str | None = None,
    ) -> Outcome:
        """An ending in ERROR."""
        error = JobError(message=message, detail=detail, type=type, traceback=traceback)
        return cls(phase=ERROR, error=error)

    def asJSON(self) -> dict[str, Any]:
        """The same as C{outcome.json} has it."""
        return {
            "phase": str(self.phase),
            "error": self.error and vars(self.error),
            "isLost": self.isLost,
        }

    @classmethod
    def fromJSON(cls, stored: Mapping[str, Any]) -> Outcome:
        """Read what L{asJSON} wrote."""
        error, phase = stored.get("error"), Phase(stored["phase"])
        if phase not in (COMPLETED, ERROR):
            raise ValueError(f"work does not end {phase}")
        return cls(
            phase=phase,
            error=error and JobError(**error),
            isLost=bool(stored.get("isLost", False)),
        )
