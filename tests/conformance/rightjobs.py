"""
The jobs of a service that does everything right, in memory; see C{rightserver}.

A fault is switched on by its name, and does something wrong at one place:
C{if self.has("phaseWithNewline")}.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

ACTIVE = ("PENDING", "QUEUED", "EXECUTING")
TERMINAL = ("COMPLETED", "ERROR", "ABORTED", "ARCHIVED")
CAP = 3600  # the longest execution duration, s
SECOND = 0.1  # how long one of those is, s
QUEUEING = 0.02  # how long a job is QUEUED at least, s


class Refused(Exception):
    """A request that is answered with a status and a text."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass
class File:
    """A parameter's file, or a result."""

    content: bytes
    mediaType: str = "application/octet-stream"
    name: str = ""


@dataclass
class Job:
    """A job.  Whoever reads or changes one holds the lock of its L{Jobs}."""

    id: str
    owner: str
    created: datetime
    destruction: datetime
    runId: str | None = None
    phase: str = "PENDING"
    duration: int = CAP
    started: datetime | None = None
    ended: datetime | None = None
    quote: datetime | None = None
    parameters: dict = field(default_factory=dict)  # names to lists of str or File
    results: list = field(default_factory=list)  # of (id, File)
    error: str | None = None
    errorDetail: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)


def now():
    return datetime.now(UTC)


class Jobs:
    """
    All jobs.

    @ivar changed: the lock; who waits for a job to change waits for it.
    """

    def __init__(self, faults=(), slots=3):
        self.faults = frozenset(faults)
        self.changed = threading.Condition()
        self.slots = slots
        self.closed = False
        self.waits = 0  # that were begun
        self.destroyed = 0.0  # when the last job was, by time.monotonic
        self._jobs = {}
        self._graves = {}
        self._stored = {}  # files by their names, for those who mix them up
        self._lastCreated = now().replace(microsecond=0)

    def has(self, fault):
        return fault in self.faults

    def close(self):
        with self.changed:
            self.closed = True
            for job in self._jobs.values():
                job.stop.set()
            self.changed.notify_all()

    # Finding.

    def find(self, jobId):
        self._sweep()
        job = self._jobs.get(jobId)
        young = job and now() - job.created < timedelta(seconds=0.05)
        if job is None or (self.has("thereLater") and young):
            raise Refused(404, f"There is no job {jobId}.")
        return job

    def all(self):
        self._sweep()
        return sorted(self._jobs.values(), key=lambda job: (job.created, job.id), reverse=True)

    def _sweep(self):
        """Destroy what is to be destroyed."""
        if self.has("neverDestroyed"):
            return
        for job in [job for job in self._jobs.values() if job.destruction <= now()]:
            if self.has("archives") or self.has("archivedListed") or self.has("archivedInPhases"):
                self._archive(job)
            elif not (self.has("sameInstantStays") and self._isBuriedWith(job)):
                self.destroy(job)

    def _archive(self, job):
        job.stop.set()
        job.phase = "ARCHIVED"
        job.results.clear()

    def _isBuriedWith(self, job):
        return any(grave.destruction == job.destruction for grave in self._graves.values())

    def isBuried(self, job):
        return job.id in self._graves

    def buried(self, jobId):
        return self._graves.get(jobId) or self.find(jobId)

    def hasJustDestroyed(self):
        return time.monotonic() < self.destroyed + 0.05

    # Making and changing.

    def create(self, owner):
        # Each is created at an instant of its own, to the millisecond.
        at = now()
        at -= timedelta(microseconds=at.microsecond % 1000)
        self._lastCreated = max(at, self._lastCreated + timedelta(milliseconds=1))
        if self.has("tiesShuffled") or self.has("tiesLost"):
            self._lastCreated = self._lastCreated.replace(second=0, microsecond=0)
        destruction = self._lastCreated + timedelta(days=7)
        job = Job(id=self._newId(), owner=owner, created=self._lastCreated, destruction=destruction)
        if self.has("startsQueued"):
            job.phase = "QUEUED"
        if self.has("resultsTooEarly"):
            job.results = [("result", File(b""))]
        self._jobs[job.id] = job
        return job

    def _newId(self):
        number = len(self._jobs) + len(self._graves) + 1000
        if self.has("sequentialIds"):
            return f"{number}"
        if self.has("orderedIds"):
            return f"{number}{secrets.token_hex(16)}"
        if self.has("shortIds"):
            return secrets.token_hex(4)
        if self.has("fewIds"):
            return f"{number // 2}"
        if self.has("idsWithLetter"):
            return f"t{secrets.token_hex(16)}"
        return f"{secrets.randbelow(10)}{secrets.token_hex(16)}"

    def contentOf(self, file):
        """What is in a file."""
        if self.has("storedByFilename"):
            return self._stored[file.name]
        return file.content

    def keep(self, file):
        """Store a file that has come with a request."""
        self._stored[file.name] = file.content

    def destroy(self, job):
        job.stop.set()
        self.destroyed = time.monotonic()
        if self.has("deletedStays"):
            return
        self._graves[job.id] = self._jobs.pop(job.id, None)
        self.changed.notify_all()

    def changePhase(self, job, word):
        word = word.upper()
        if word == "RUN":
            self.run(job)
        elif word == "ABORT":
            self.abort(job)
        elif self.has("nonsensePhaseIgnored"):
            return
        elif self.has("nonsensePhaseSet"):
            self._move(job, word or "ERROR")
            raise Refused(400, f"{word} is no phase to ask for")
        elif self.has("nonsensePhaseCrashes"):
            raise Refused(500, "KeyError")
        else:
            silent = self.has("refusalSaysNothing")
            raise Refused(400, "" if silent else "PHASE is RUN or ABORT")

    def run(self, job):
        if self.has("runIgnored"):
            return
        if job.phase not in ("PENDING", "HELD"):
            if self.has("secondRunCrashes"):
                raise Refused(500, "IllegalStateException")
            if not self._runsAgain(job):
                raise Refused(403, f"The job is {job.phase}, and cannot be run.")
        self._move(job, "QUEUED")
        threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def _runsAgain(self, job):
        if self.has("endedRunsAgain") and job.phase in TERMINAL:
            return True
        return self.has("eachRunStarts") and job.phase in ("QUEUED", "EXECUTING")

    def abort(self, job):
        if self.has("abortPendingIgnored") and job.phase == "PENDING":
            return
        if self.has("abortIgnored") and job.phase == "EXECUTING":
            return
        if job.phase == "ABORTED" and not self.has("abortMovesEnd"):
            return
        if job.phase in TERMINAL and not (self.has("endedAborts") or self.has("abortMovesEnd")):
            status = 500 if self.has("lateAbortCrashes") else 403
            raise Refused(status, f"The job is {job.phase}, and cannot be aborted.")
        wasQueued = job.phase == "QUEUED"
        if self.has("abortLosesResults"):
            job.results.clear()
        if self.has("abortIsAnError"):
            job.error = "aborted by the user"
        self._move(job, "ABORTED")
        if not (self.has("queuedAbortRuns") and wasQueued) and not self.has("workWins"):
            job.stop.set()

    def _move(self, job, phase):
        """Change the phase, and tell those who wait."""
        job.phase = phase
        if phase == "EXECUTING" and not self.has("noStartTime"):
            job.started = now()
        if phase in TERMINAL:
            job.ended = None if self.has("noEndTime") else now()
        self.changed.notify_all()

    # The work.

    def _work(self, job):
        time.sleep(QUEUEING)
        with self.changed:
            while self._executing() >= self.slots and not job.stop.is_set() and not self.closed:
                self.changed.wait(0.1)
            if job.stop.is_set() or self.closed:
                return
            self._move(job, "EXECUTING")
            if self.has("pendingAgain"):
                self._move(job, "PENDING")
            job.results.append(("early", File(b"early\n", "text/plain")))
        seconds, overrun = self._seconds(job)
        stopped = job.stop.wait(seconds)
        with self.changed:
            if self.has("deletedComesBack") and stopped and job.id in self._graves:
                self._jobs[job.id] = job
            if (stopped or self.closed) and not self.has("workWins"):
                return
            self._finish(job, overrun)

    def _executing(self):
        return sum(job.phase == "EXECUTING" for job in self._jobs.values())

    def _seconds(self, job):
        """How long the job works, and whether that is because it may not any longer."""
        with self.changed:
            wanted = float((job.parameters.get("seconds") or ["0"])[0])
            most = job.duration * SECOND
            if most and most < wanted and not self.has("durationIgnored"):
                return most, True
            return wanted, False

    def _finish(self, job, overrun):
        if overrun:
            job.error = "The job took longer than its execution duration."
            if self.has("overrunLosesResults"):
                job.results.clear()
            self._move(job, "ERROR" if self.has("overrunIsError") else "ABORTED")
            return
        failure = job.parameters.get("failure")
        if not job.parameters and self.has("emptyFails"):
            failure = ["There are no parameters."]
        if failure and not self.has("failsAsCompleted"):
            job.error = str(failure[0])
            job.errorDetail = f"{job.error}\nin detail\n"
            self._move(job, "ERROR")
            return
        table = File(b"a,b\n1,2\n" * 100, "text/csv")
        job.results.append(("early" if self.has("sameResultIds") else "result", table))
        if self.has("errorInCompleted"):
            job.error = "none"
        self._move(job, "COMPLETED")
