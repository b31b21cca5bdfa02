"""
How clients change the duration and the destruction of jobs of a service that does everything
right; see C{rightserver}.
"""

from __future__ import annotations

from datetime import timedelta

from tests.conformance.rightforms import readInstant, readInteger
from tests.conformance.rightjobs import ACTIVE, CAP, TERMINAL, Refused, now


class Controls:
    """What is done to read and change the two."""

    def get_executionduration(self, job):
        if self.has("durationNotRead"):
            return self.plain(str(CAP))
        return self.plain("60" if self.has("durationDiffers") else self.documents.duration(job))

    def post_executionduration(self, job):
        self._requireAllowed()
        self.setDuration(job, dict(self._form()).get("EXECUTIONDURATION", ""))
        if self.has("durationWith200"):
            return self.plain("changed")
        return self.seeOther(self.url if self.has("durationLeadsToList") else self._urlOf(job))

    def get_destruction(self, job):
        when = job.destruction
        if self.has("destructionNotRead"):
            when = job.created + timedelta(days=7)
        return self.plain(
            str(when) if self.has("destructionDiffers") else self.documents.instant(when)
        )

    def post_destruction(self, job):
        self._requireAllowed()
        if self.has("destructionRevertsPhase") and job.phase == "PENDING":
            self.jobs.changed.wait(0.05)
            job.phase = "PENDING"
            job.stop.set()
        self.setDestruction(job, dict(self._form()).get("DESTRUCTION", ""))
        if self.has("destructionWith200"):
            return self.plain("changed")
        return self.seeOther(self.url if self.has("destructionLeadsToList") else self._urlOf(job))

    def _requireAllowed(self):
        if self.has("controlsForbidden"):
            raise Refused(403, "This is for the service alone.")

    def _urlOf(self, job):
        return f"{self.url}/{job.id}"

    def setDestruction(self, job, text):
        if job.phase in TERMINAL and self.has("endedKeepsDestruction"):
            raise Refused(403, f"The job is {job.phase}")
        try:
            when = readInstant(text)
        except Refused:
            if self.has("badDestructionIgnored"):
                return
            raise Refused(500 if self.has("badDestructionCrashes") else 400, "No instant") from None
        if when <= now():
            self._setPast(job, when)
        elif not (job.phase in TERMINAL and self.has("endedIgnoresDestruction")):
            self._set(job, when)

    def _set(self, job, when):
        if self.has("destructionIgnored"):
            return
        if self.has("destructionLater"):
            when += timedelta(hours=1)
        job.destruction = min(when, now() + timedelta(days=30))

    def _setPast(self, job, when):
        if self.has("pastTaken") or self.has("pastRefusedButSet"):
            job.destruction = when
        if self.has("pastTaken"):
            return
        raise Refused(500 if self.has("pastCrashes") else 400, "DESTRUCTION is in the past")

    def setDuration(self, job, text):
        if job.phase not in ACTIVE:
            raise Refused(403, f"The job is {job.phase}")
        if self.has("floatDuration") and text == "1e3":
            text = "1000"
        least = -99 if self.has("negativeDuration") else 0
        try:
            seconds = readInteger(text, "EXECUTIONDURATION", least, most=10**12)
        except Refused:
            if self.has("badDurationIgnored"):
                return
            if self.has("badDurationSets"):
                job.duration = 1
            if self.has("hugeDuration") and text.isdecimal():
                job.duration = int(text)
                return
            status = 500 if self.has("badDurationCrashes") else 400
            raise Refused(status, "EXECUTIONDURATION is no number") from None
        job.duration = min(seconds or CAP, CAP)
        if self.has("durationAtLeastMinute"):
            job.duration = max(job.duration, 60)
        if self.has("zeroKills") and not seconds:
            job.duration = 0.1
