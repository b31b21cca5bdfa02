"""
What must be true of a run once it has settled, whatever was broken in it.

Each check is a function of the L{Evidence}, and yields what it finds wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.clients import FINAL, PATIENCE, Op
from tests.chaos.evidence import Evidence
from twuws.phases import MOVES, Phase

#: The results of a job of each service that is COMPLETED.
RESULTS = {
    "worked": {"early", "result"},
    "again": {"early", "result"},
    "awaited": {"result"},
    "once": {"result"},
    "program": {"result"},
}

#: How much later than the clock says what is to be destroyed may still be there, s.
DESTRUCTION_SLACK = 5.0


@dataclass(frozen=True, kw_only=True)
class Violation:
    """Something that must not be; of a job, if it is of one."""

    rule: str
    jobId: str | None
    text: str


Found = Iterator[Violation]


def _of(rule: str) -> Callable[[str | None, str], Violation]:
    def violation(jobId: str | None, text: str) -> Violation:
        return Violation(rule=rule, jobId=jobId, text=text)

    return violation


def _byJob(ops: list[Op], *whats: str) -> dict[str, list[Op]]:
    found: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        if op.what in whats and op.jobId is not None:
            found[op.jobId].append(op)
    return found


class Fates:
    """What may have become of jobs by what their clients asked for."""

    def __init__(self, evidence: Evidence) -> None:
        self._deletes = _byJob(evidence.ops, "delete")
        self._destructions = _byJob(evidence.ops, "destruction")
        self._wallClock = evidence.wallClock

    def mayBeGone(self, jobId: str, at: float) -> bool:
        """Whether a job may be gone by an instant of the host's clock."""
        if any(op.began < at and op.outcome != "refused" for op in self._deletes[jobId]):
            return True
        return any(
            op.outcome != "refused" and op.value - self._wallClock < at + DESTRUCTION_SLACK
            for op in self._destructions[jobId]
            if isinstance(op.value, float)
        )


def creations(evidence: Evidence) -> Found:
    """Every acknowledged creation is there, or was deleted by its client."""
    wrong = _of("an acknowledged creation is lost")
    fates = Fates(evidence)
    created = {op.jobId: op for op in evidence.ops if op.what == "created"}
    end = max((op.ended for op in evidence.ops), default=0.0)
    for jobId, op in created.items():
        if jobId is None or fates.mayBeGone(jobId, end + 3600):
            continue
        if jobId not in evidence.jobs:
            yield wrong(jobId, f"created at {op.began:.2f} by {op.node}; there is no row")
    for op in evidence.ops:
        if op.status == 404 and op.jobId in created and op.what != "result":
            assert op.jobId is not None
            if op.began > created[op.jobId].ended and not fates.mayBeGone(op.jobId, op.ended):
                yield wrong(op.jobId, f"{op.what} at {op.began:.2f} by {op.node} found nothing")


def runs(evidence: Evidence) -> Found:
    """Every acknowledged RUN led to a start, or to a stated reason."""
    wrong = _of("an acknowledged RUN led to nothing")
    fates = Fates(evidence)
    events = _eventsByJob(evidence)
    aborts = _byJob(evidence.ops, "abort")
    for jobId, ops in _byJob(evidence.ops, "run").items():
        acked = [op for op in ops if op.outcome == "acked"]
        if not acked or fates.mayBeGone(jobId, acked[0].ended + 1e9):
            continue
        phases = [event["phase"] for event in events[jobId]]
        reasons = [event["why"] for event in events[jobId] if event["phase"] in FINAL]
        row = evidence.jobs.get(jobId, {})
        reasons.append((row.get("error") or {}).get("message"))
        if "EXECUTING" in phases or any(reasons):
            continue
        if "ABORTED" in phases and any(op.outcome != "refused" for op in aborts[jobId]):
            continue
        yield wrong(jobId, f"acknowledged at {acked[0].ended:.2f}; phases {phases}")


def overlaps(evidence: Evidence) -> Found:
    """No two attempts of a job ran at the same time, and none twice."""
    wrong = _of("two attempts ran at the same time")
    spans = defaultdict(list)
    for span in evidence.spans:
        spans[span.jobId].append(span)
    for jobId, several in spans.items():
        several.sort(key=lambda one: one.begin)
        for one, other in pairwise(several):
            if one.attempt == other.attempt:
                again = f"attempt {one.attempt} ran twice: in {one.pids} and {other.pids}"
                yield wrong(jobId, again)
            elif other.begin < one.last:
                yield wrong(
                    jobId,
                    f"attempt {one.attempt} until {one.last:.3f} (line {one.line}),"
                    f" attempt {other.attempt} from {other.begin:.3f} (line {other.line})",
                )


def _eventsByJob(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in evidence.events:
        found[event["job_id"]].append(event)
    return found


def moves(evidence: Evidence) -> Found:
    """No move but those of the table; each start has the next number."""
    wrong = _of("a forbidden move")
    for jobId, events in _eventsByJob(evidence).items():
        before, attempt = None, 0
        for event in events:
            if event["phase"] is None:
                break
            phase = Phase(event["phase"])
            if before is None and phase is not Phase.PENDING:
                yield wrong(jobId, f"it began as {phase}")
            elif before is not None and phase not in MOVES[before]:
                yield wrong(jobId, f"from {before} to {phase}, event {event['event_id']}")
            elif before is Phase.EXECUTING and phase is Phase.QUEUED and not event["why"]:
                yield wrong(jobId, f"queued again without a reason, event {event['event_id']}")
            if phase is Phase.EXECUTING and before is Phase.QUEUED:
                if event["attempt"] != attempt + 1:
                    yield wrong(jobId, f"attempt {event['attempt']} came after {attempt}")
                attempt = event["attempt"]
            before = phase
        row = evidence.jobs.get(jobId)
        if row is not None and before is not None and row["phase"] != before:
            yield wrong(jobId, f"it is {row['phase']}, and its last event says {before}")


def answers(evidence: Evidence) -> Found:
    """What clients were told stays true."""
    wrong = _of("clients were told otherwise")
    told = _byJob(evidence.ops, "saw", "run", "abort", "delete")
    for jobId, ops in told.items():
        final: Op | None = None
        acked: dict[str, float] = {}
        for op in sorted(ops, key=lambda one: one.ended):
            if op.outcome != "acked":
                continue
            if op.what != "saw":
                acked.setdefault(op.what, op.ended)
                continue
            phase = op.value["phase"]
            if final is not None and op.began > final.ended:
                was = final.value["phase"]
                if phase not in (was, "ARCHIVED"):
                    yield wrong(jobId, f"it was {was}, and {phase} at {op.ended:.2f}")
            if phase in FINAL and final is None:
                final = op
            if acked.get("abort", 1e12) < op.began and phase not in ("ABORTED", "ARCHIVED"):
                yield wrong(jobId, f"it was aborted, and {phase} at {op.ended:.2f}")
            if acked.get("run", 1e12) < op.began and phase == "PENDING":
                yield wrong(jobId, f"it was run, and PENDING at {op.ended:.2f}")
            if acked.get("delete", 1e12) < op.began:
                yield wrong(jobId, f"it was deleted, and {phase} at {op.ended:.2f}")
        row = evidence.jobs.get(jobId)
        if row is None:
            continue
        if "delete" in acked:
            yield wrong(jobId, "it was deleted, and is there")
        if "abort" in acked and row["phase"] not in ("ABORTED", "ARCHIVED"):
            yield wrong(jobId, f"it was aborted, and is {row['phase']}")
    for op in evidence.ops:
        if op.status is not None and op.status >= 500 and op.status != 503:
            yield wrong(op.jobId, f"{op.what} by {op.node}: {op.status} {op.text[:160]}")


def ends(evidence: Evidence) -> Found:
    """Every final job has its end time and, if it is COMPLETED, all its results."""
    wrong = _of("a final job is not whole")
    spoilt = {one.jobId for one in evidence.faults if one.kind == "directory"}
    fates = Fates(evidence)
    end = max((op.ended for op in evidence.ops), default=0.0)
    for jobId, row in evidence.jobs.items():
        if row["phase"] not in FINAL:
            continue
        if row["end_time"] is None:
            yield wrong(jobId, f"it is {row['phase']} without an end time")
        if row["phase"] == "ERROR" and not (row["error"] or {}).get("message"):
            yield wrong(jobId, "it is ERROR without a message")
        if row["phase"] != "COMPLETED" or jobId in spoilt:
            continue
        missing = RESULTS[row["service"]] - {one["id"] for one in row["results"]}
        if missing:
            yield wrong(jobId, f"it is COMPLETED without {', '.join(sorted(missing))}")
        for one in row["results"]:
            status, content = evidence.results.get((jobId, one["id"]), (None, ""))
            marks = {f"{jobId}.{row['attempt']}"}
            if status == 404 and fates.mayBeGone(jobId, end + 60):  # it was destroyed just now
                continue
            if status != 200:
                yield wrong(jobId, f"its {one['id']} is answered with {status}: {content[:80]}")
            elif one["id"] == "result" and set(content.split()) != marks:
                yield wrong(jobId, f"its result says {content[:80]!r}, not {marks}")
    for op in evidence.ops:
        if op.what == "had" and op.jobId not in spoilt and op.value["result"] == "result":
            marked = {mark.rpartition(".")[0] for mark in op.value["content"].split()}
            if marked != {op.jobId}:
                yield wrong(op.jobId, f"its result was {op.value['content'][:80]!r}")


def works(evidence: Evidence) -> Found:
    """Nothing is EXECUTING without work, and no work is left without an EXECUTING job."""
    wrong = _of("phase and work differ")
    for jobId, text in evidence.mismatches:
        yield wrong(jobId, text)
    for jobId, attempt, pid in evidence.work:
        row = evidence.jobs.get(jobId)
        if row is None or row["phase"] != "EXECUTING" or row["attempt"] != attempt:
            phase = row["phase"] if row else "gone"
            yield wrong(jobId, f"attempt {attempt} is still there as {pid}; the job is {phase}")


def limits(evidence: Evidence) -> Found:
    """No limit on what runs was exceeded, by the journal and by the events."""
    wrong = _of("a limit was exceeded")
    services = {event["job_id"]: event["service"] for event in evidence.events}
    for service, most in evidence.limits.items():
        marks: list[tuple[float, int, str]] = []
        for span in evidence.spans:
            if service in (None, services.get(span.jobId)):
                marks += [(span.begin, 1, span.jobId), (span.last, -1, span.jobId)]
        for at, running, jobId in _excess(marks, most):
            yield wrong(jobId, f"{running} of {service or 'all'} worked at {at:.3f}, not {most}")
        marks = []
        for events in _eventsByJob(evidence).values():
            if service in (None, events[0]["service"]):
                marks += _starts(events)
        for at, running, jobId in _excess(marks, most):
            yield wrong(jobId, f"{running} of {service or 'all'} EXECUTING at {at:.3f}, not {most}")


def _starts(events: list[dict[str, Any]]) -> Iterator[tuple[float, int, str]]:
    """When a job began to be EXECUTING, and when it was that no more."""
    before = None
    for event in events:
        change = (event["phase"] == "EXECUTING") - (before == "EXECUTING")
        if change:
            yield event["at"].timestamp(), change, event["job_id"]
        before = event["phase"]


def _excess(marks: list[tuple[float, int, str]], most: int) -> Iterator[tuple[float, int, str]]:
    running = 0
    for at, change, jobId in sorted(marks):
        running += change
        if running > most and change > 0:
            yield at, running, jobId


def waits(evidence: Evidence) -> Found:
    """Nobody waited for ever, neither jobs nor clients."""
    wrong = _of("somebody waited for ever")
    for jobId in evidence.unsettled:
        row = evidence.jobs.get(jobId, {})
        yield wrong(jobId, f"it is {row.get('phase', 'being stopped')} still")
    for op in evidence.ops:
        stood = sum(
            max(0.0, min(op.ended, one.ended) - max(op.began, one.began))
            for one in evidence.faults
            if one.node == op.node
        )
        if op.ended - op.began > min(PATIENCE - 5, 35 + op.wait + stood):
            took = f"{op.what} by {op.node} took {op.ended - op.began:.1f} s: {op.text[:80]}"
            yield wrong(op.jobId, took)


def usage(evidence: Evidence) -> Found:
    """Memory, connections and file descriptors are where they were."""
    wrong = _of("something was not given back")
    for node, (before, after) in evidence.usage.items():
        if after.memory > before.memory * 1.5 + (60 << 20):
            yield wrong(None, f"{node}: memory was {before.memory}, is {after.memory}")
        if after.connections > max(before.connections, 9):  # the pool, and the LISTEN
            yield wrong(None, f"{node}: it has {after.connections} connections")
        if after.files > before.files + 16:
            yield wrong(None, f"{node}: it had {before.files} files, and has {after.files}")


def others(evidence: Evidence) -> Found:
    """What was seen while it went on."""
    for rule, text in evidence.others:
        yield Violation(rule=rule, jobId=None, text=text)


CHECKS: tuple[Callable[[Evidence], Found], ...] = (
    *(creations, runs, overlaps, moves, answers, ends, works, limits, waits, usage, others),
)


def check(evidence: Evidence) -> list[Violation]:
    """All that is wrong."""
    return [violation for one in CHECKS for violation in one(evidence)]
