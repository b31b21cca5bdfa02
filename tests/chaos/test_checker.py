"""The checker finds each kind of violation in evidence that is made by hand."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos import journal
from tests.chaos.bugs import BUGS
from tests.chaos.checker import check
from tests.chaos.clients import Op
from tests.chaos.evidence import Evidence, Usage
from tests.chaos.faults import Fault

GOOD = "a" * 32
WALL = 1_000_000.0


def op(what: str, began: float, **more: Any) -> Op:
    given = {"node": "1a", "service": "again", "jobId": GOOD, "outcome": "acked", "status": 200}
    return Op(what=what, began=began, ended=began + 0.1, **{**given, **more})


def event(phase: str | None, at: float, **more: Any) -> dict[str, Any]:
    given = {"job_id": GOOD, "service": "again", "attempt": 0, "why": None, "node": "a"}
    when = datetime.fromtimestamp(WALL + at, UTC)
    return {"event_id": int(at * 100), "phase": phase, "at": when, **given, **more}


def span(attempt: int, begin: float, last: float, **more: Any) -> journal.Span:
    given = {"jobId": GOOD, "ended": True, "pids": [100 + attempt], "line": 1}
    return journal.Span(attempt=attempt, begin=begin, last=last, **{**given, **more})


def row(**more: Any) -> dict[str, Any]:
    results = [{"id": "early"}, {"id": "result"}]
    given = {"job_id": GOOD, "service": "again", "phase": "COMPLETED", "attempt": 1}
    end = datetime.fromtimestamp(WALL + 5, UTC)
    return {**given, "end_time": end, "error": None, "results": results, **more}


def evidence() -> Evidence:
    """Of one job that was made, run, read and looked at, and all was well."""
    usage = Usage(memory=100 << 20, files=20, connections=5)
    return Evidence(
        ops=[
            op("created", 1.0),
            op("run", 2.0),
            op("saw", 6.0, value={"phase": "COMPLETED"}),
            op("had", 7.0, value={"result": "result", "content": f"{GOOD}.1\n" * 3}),
        ],
        jobs={GOOD: row()},
        events=[
            event("PENDING", 1.0),
            event("QUEUED", 2.0),
            event("EXECUTING", 3.0, attempt=1),
            event("COMPLETED", 5.0, attempt=1),
        ],
        spans=[span(1, 3.1, 4.9)],
        results={(GOOD, "early"): (200, "early\n"), (GOOD, "result"): (200, f"{GOOD}.1\n")},
        usage={"1a": (usage, usage)},
        wallClock=WALL,
        limits={None: 1},
    )


def rules(found: Evidence) -> set[str]:
    return {violation.rule for violation in check(found)}


def test_nothingIsWrong():
    assert check(evidence()) == []


def test_lostCreation():
    found = evidence()
    found.jobs, found.results = {}, {}
    assert "an acknowledged creation is lost" in rules(found)
    found.ops.append(op("delete", 8.0, outcome="unsure"))  # it may be that
    assert rules(found) == set()


def test_lostForAMoment():
    found = evidence()
    found.ops.append(op("read", 4.0, outcome="refused", status=404))
    assert rules(found) == {"an acknowledged creation is lost"}


def test_destroyedInTime():
    """What its client lets be destroyed may be gone from then on, and not before."""
    found = evidence()
    found.ops.append(op("destruction", 3.0, value=WALL + 30.0))
    found.ops.append(op("read", 10.0, outcome="refused", status=404))
    assert rules(found) == {"an acknowledged creation is lost"}
    found.ops[-1] = op("read", 31.0, outcome="refused", status=404)
    assert rules(found) == set()


def test_lostRun():
    found = evidence()
    found.ops = found.ops[:2]
    found.events = found.events[:2]
    found.jobs[GOOD] = row(phase="QUEUED", end_time=None, results=[])
    found.spans = []
    assert rules(found) == {"an acknowledged RUN led to nothing"}
    found.events.append(event("ERROR", 3.0, why="It cannot be."))
    found.jobs[GOOD] = row(phase="ERROR", error={"message": "It cannot be."}, results=[])
    assert rules(found) == set()


@pytest.mark.parametrize(
    "second",
    [span(2, 4.0, 4.5), span(1, 5.5, 5.8, pids=[999])],
    ids=["two attempts", "one attempt twice"],
)
def test_overlap(second):
    found = evidence()
    found.spans.append(second)
    assert "two attempts ran at the same time" in rules(found)


@pytest.mark.parametrize(
    "events",
    [
        [event("QUEUED", 5.5, attempt=1)],
        [event("ABORTED", 5.5, attempt=1)],
        [event("EXECUTING", 5.5, attempt=2)],
    ],
    ids=["queued again", "another end", "begun again"],
)
def test_finalPhaseChanged(events):
    found = evidence()
    found.events += events
    found.jobs[GOOD]["phase"] = "COMPLETED"
    assert "a forbidden move" in rules(found)


@pytest.mark.parametrize(("attempt", "why"), [(3, "Lost."), (1, "Lost."), (2, None)])
def test_attemptsAreCountedAndExplained(attempt, why):
    found = evidence()
    found.events[3:] = [
        event("QUEUED", 3.5, attempt=1, why=why),
        event("EXECUTING", 4.0, attempt=attempt),
        event("COMPLETED", 5.0, attempt=attempt),
    ]
    assert "a forbidden move" in rules(found)


@pytest.mark.parametrize(
    "more",
    [
        op("saw", 8.0, value={"phase": "EXECUTING"}),
        op("saw", 2.5, value={"phase": "PENDING"}),
        op("abort", 2.5),
        op("delete", 8.0),
        op("read", 3.0, outcome="unsure", status=500),
    ],
    ids=["another phase", "not run", "not aborted", "not deleted", "a mistake"],
)
def test_clientsWereToldOtherwise(more):
    found = evidence()
    found.ops.append(more)
    assert "clients were told otherwise" in rules(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.jobs[GOOD].update(end_time=None),
        lambda found: found.jobs[GOOD].update(results=[{"id": "early"}]),
        lambda found: found.results.update({(GOOD, "early"): (404, "")}),
        lambda found: found.results.update({(GOOD, "result"): (200, f"{GOOD}.2\n")}),
        lambda found: found.ops[3].value.update(content=""),
    ],
    ids=["no end", "no result", "not readable", "of another attempt", "empty"],
)
def test_notWhole(change):
    found = evidence()
    change(found)
    assert rules(found) == {"a final job is not whole"}


@pytest.mark.parametrize(
    "more", [{"mismatches": [(GOOD, "no work")]}, {"work": [(GOOD, 1, 77)]}], ids=["then", "after"]
)
def test_phaseAndWorkDiffer(more):
    found = evidence()
    vars(found).update(more)
    assert rules(found) == {"phase and work differ"}


def test_limitByJournal():
    found = evidence()
    found.spans.append(span(1, 4.0, 4.5, jobId="b" * 32))
    assert rules(found) == {"a limit was exceeded"}


def test_limitByEvents():
    found = evidence()
    other = "b" * 32
    found.events += [
        event("PENDING", 1.5, job_id=other),
        event("QUEUED", 2.5, job_id=other),
        event("EXECUTING", 4.0, job_id=other, attempt=1),
        event("ABORTED", 4.1, job_id=other, attempt=1),
    ]
    assert rules(found) == {"a limit was exceeded"}


def test_whatIsGoneTakesNoPlace():
    """A job that is deleted while it is EXECUTING counts until then, and no longer."""
    found = evidence()
    found.ops.append(op("delete", 4.5))
    found.jobs, found.results = {}, {}
    found.events[3] = event(None, 4.5, attempt=1)
    found.ops[2:4] = []
    other = {"job_id": "b" * 32}
    found.events += [event("PENDING", 1.5, **other), event("QUEUED", 2.5, **other)]
    found.events.append(event("EXECUTING", 4.6, attempt=1, **other))
    assert rules(found) == set()
    found.events[-1] = event("EXECUTING", 4.4, attempt=1, **other)
    assert rules(found) == {"a limit was exceeded"}


def test_waitedForEver():
    found = evidence()
    found.unsettled = [GOOD]
    assert rules(found) == {"somebody waited for ever"}
    found = evidence()
    found.ops.append(op("read", 10.0))
    found.ops[-1].ended = 60.0
    assert rules(found) == {"somebody waited for ever"}
    found.faults.append(Fault(kind="freeze", node="1a", began=11.0, ended=50.0))
    assert rules(found) == set()


@pytest.mark.parametrize("more", [{"memory": 900 << 20}, {"files": 90}, {"connections": 30}])
def test_notGivenBack(more):
    found = evidence()
    before, _ = found.usage["1a"]
    found.usage["1a"] = before, Usage(**{**vars(before), **more})
    assert rules(found) == {"something was not given back"}


def test_whatElseWasSeen():
    found = evidence()
    found.others.append(("a process of others was ended", "pid 7"))
    assert rules(found) == {"a process of others was ended"}


def test_journal(tmp_path):
    """What jobs write is read again, and a job that is killed has no end."""
    path = tmp_path / "journal"
    for _ in journal.Entry("one.1", str(path)).beats(0.2):
        pass
    journal.Entry("two.3", str(path)).say("begin")
    one, two = journal.read(path)
    assert (one.jobId, one.attempt, one.ended) == ("one", 1, True)
    assert 0.2 <= one.last - one.begin < 1
    assert (two.jobId, two.attempt, two.ended, two.line) == ("two", 3, False, two.line)
    assert journal.read(tmp_path / "none") == []


@pytest.mark.parametrize("name", sorted(BUGS))
def test_bugsChangeWhatIsThere(name):
    """A deliberate bug that changes nothing any more would show nothing."""
    script = (
        "import sys; from tests.chaos.bugs import BUGS; from twuws import leases, joblocks, node\n"
        "from twuws.backends import family; from twuws.statements import STATEMENTS\n"
        "def seen(): return [leases.LeaseFile.renew, joblocks.JobLocks.held, family.isRunner,\n"
        "    node.Node.checkLease, STATEMENTS['lockJob'], STATEMENTS['reportWork'],\n"
        "    STATEMENTS['reportFetched'], STATEMENTS['rememberWork']]\n"
        "before = seen(); BUGS[sys.argv[1]]()\n"
        "print(sum(one is not other and one != other for one, other in zip(before, seen())))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, name], check=True, capture_output=True, text=True
    )
    assert int(ran.stdout) == {"no-fencing": 5, "no-row-lock": 2, "pid-alone": 1}[name]
