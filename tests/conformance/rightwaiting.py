"""
How a service that does everything right waits for jobs to change; see C{rightserver}.
"""

from __future__ import annotations

import time

from tests.conformance.rightforms import readInteger
from tests.conformance.rightjobs import ACTIVE, Refused

LONGEST_WAIT = 0.45  # s


class Waiting:
    """What is done before a job is shown."""

    def waitFor(self, job):
        """Wait as long as the query asks for, and the job is active and in a phase named."""
        phases = [text for name, text in self.query if name.upper() == "PHASE"]
        seconds = self._seconds([text for name, text in self.query if name.upper() == "WAIT"])
        if seconds is None or self.has("neverWaits") or not self._isToWait(job, phases):
            return
        self.jobs.waits += 1
        if self.has("waitersLeak") and self.jobs.waits > 5:
            raise Refused(503, "Too many wait.")
        self._waitWhile(job, job.phase, seconds)

    def _seconds(self, texts):
        """How long to wait at most; C{None} for not at all."""
        if self.has("fractionTaken"):
            texts = [str(int(float(text))) if "." in text else text for text in texts]
        if self.has("badWaitIgnored"):
            texts = [text for text in texts if text.isdecimal() or text.startswith("-")]
        if self.has("firstWait"):
            texts = texts[:1]
        least = 0 if self.has("minusOneRefused") else -99 if self.has("minusTwoTaken") else -1
        given = [readInteger(text, "WAIT", least) for text in texts]
        if not given or (self.has("minusOneIsZero") and -1 in given):
            return None
        finite = [one for one in given if one >= 0]
        if not finite or (finite == [0] and self.has("waitZeroWaits")):
            return 3600 if self.has("waitsForEver") else LONGEST_WAIT
        longest = max(given) if self.has("largestWait") else min(finite)
        return 1.5 if self.has("waitsLonger") else min(longest, LONGEST_WAIT)

    def _isToWait(self, job, phases):
        if self.has("inactivePhaseRefused") and phases and phases[0] not in ACTIVE:
            raise Refused(400, "Nobody waits in this phase")
        if self.has("inactivePhaseWaits") and phases and phases[0] not in ACTIVE:
            return True
        if self.has("phaseOfWaitIgnored"):
            phases = []
        if job.phase not in ACTIVE and not self.has("waitsForAnything"):
            return False
        return not phases or job.phase in map(self.phaseIn, phases)

    def _waitWhile(self, job, phase, seconds):
        until = time.monotonic() + seconds
        forEver = seconds == 3600
        while (job.phase == phase or forEver) and not self.jobs.closed:
            if self.has("deletedWaiterSeesJob") and self.jobs.isBuried(job):
                return
            if not self.has("deletedWaiterStays"):
                self.jobs.find(job.id)  # it may be destroyed meanwhile
            if (left := until - time.monotonic()) <= 0:
                return
            self.jobs.changed.wait(left)
        if self.has("wakesLate"):
            late = time.monotonic() + 1
            while (left := late - time.monotonic()) > 0:
                self.jobs.changed.wait(left)
