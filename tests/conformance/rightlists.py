"""
The job list of a service that does everything right; see C{rightserver}.
"""

from __future__ import annotations

import random
from datetime import timedelta

from tests.conformance.rightforms import readInstant, readInteger
from tests.conformance.rightjobs import ACTIVE, TERMINAL, Refused, now

PHASES = (*ACTIVE, *TERMINAL, "HELD", "SUSPENDED", "UNKNOWN")
FILTERS = ("PHASE", "AFTER", "LAST")


class Lists:
    """What is done to read the list."""

    def getList(self):
        if self.has("listCrashesOnDelete") and self.jobs.hasJustDestroyed():
            raise Refused(500, "ConcurrentModificationException")
        jobs = [
            job for job in self.jobs.all() if job.owner == self.user or self.has("listShowsAll")
        ]
        if not self.user and self.has("anonymousListCrashes"):
            raise Refused(500, "NullPointerException")
        if self.has("newestNotListed"):
            jobs = jobs[1:]
        document = self.documents.jobs(self._filtered(self._inOrder(jobs)))
        if self.has("listBreaksOnDelete") and self.jobs.hasJustDestroyed():
            document = document[:-3]
        return self.xml(document)

    def _inOrder(self, jobs):
        if self.has("abortedNotListed"):
            jobs = [job for job in jobs if job.phase != "ABORTED"]
        if self.has("tiesShuffled"):
            random.shuffle(jobs)
            jobs.sort(key=lambda job: job.created, reverse=True)
        if self.has("tiesLost"):
            jobs = list({job.created: job for job in jobs}.values())
        if self.has("listedTwice"):
            jobs = [job for job in jobs for _ in range(2)]
        return jobs

    def _filters(self):
        """The values of each filter."""
        query = {}
        for name, value in self.query:
            known = name if self.has("filterNamesByCase") else name.upper()
            query.setdefault(known, []).append(value)
        return query

    def _filtered(self, jobs):
        query = self._filters()
        if self.has("lastBeforeOthers"):
            jobs = self._last(jobs, query.get("LAST", []))
        if not (self.has("filtersNotTogether") and "AFTER" in query):
            jobs = self._ofPhases(jobs, query.get("PHASE", []))
        jobs = self._last(self._after(jobs, query.get("AFTER", [])), query.get("LAST", []))
        return jobs[::-1] if self.has("lastAscending") else jobs

    def _ofPhases(self, jobs, texts):
        if self.has("firstPhaseOnly"):
            texts = texts[:1]
        if self.has("lastPhaseOnly"):
            texts = texts[-1:]
        if self.has("badPhaseIgnored"):
            texts = [text for text in texts if text in PHASES]
        phases = {self.phaseIn(text) for text in texts}
        if self.has("phaseFilterIgnored"):
            phases = set()
        if self.has("phaseFilterFindsNone") and phases:
            return []
        if not phases:
            return [job for job in jobs if job.phase != "ARCHIVED" or self.has("archivedListed")]
        return [
            job for job in jobs
            if job.phase in phases or (job.phase == "ARCHIVED" and self.has("archivedInPhases"))
        ]  # fmt: skip

    def phaseIn(self, text):
        """A phase that a query names."""
        if text == "SUSPENDED" and self.has("rarePhaseRefused"):
            raise Refused(400, "There is no such phase here")
        if text not in PHASES and not self.has("badPhaseTaken"):
            raise Refused(400, f"{text!r} is no phase")
        return text

    def _after(self, jobs, texts):
        if self.has("afterIgnored") or not texts:
            return jobs
        instants = [when for when in map(self._instant, texts) if when]
        after = min(instants) if self.has("earliestAfter") else max(instants, default=None)
        if after is None:
            return jobs
        if self.has("afterInclusive"):
            return [job for job in jobs if job.created >= after]
        return [job for job in jobs if job.created > after]

    def _instant(self, text):
        if self.has("afterNeedsZ") and not text.endswith("Z"):
            raise Refused(400, "There is no Z")
        if self.has("afterNeedsTime") and "T" not in text and len(text) == 10:
            raise Refused(400, "There is no time")
        if self.has("shortInstantsRefused") and "-" not in text:
            raise Refused(400, "There is no month")
        if self.has("yearIsNumber") and len(text) == 4:
            return now() - timedelta(days=20000)
        if self.has("offsetIgnored"):
            text = text.removesuffix("+01:00")
        try:
            when = readInstant(text)
        except Refused:
            if self.has("badInstantIgnored"):
                return None
            raise
        isLocal = self.has("afterIsLocal") and not text.endswith("Z")
        return when - timedelta(hours=1) if isLocal else when

    def _last(self, jobs, texts):
        if not texts or self.has("lastIgnored"):
            return jobs
        if self.has("badLastIgnored"):
            texts = [text for text in texts if text.isdecimal() and int(text)] or ["1000"]
        if self.has("badLastCrashes") and "text" in texts:
            raise Refused(500, "NumberFormatException")
        least = 0 if self.has("lastZeroTaken") else 1
        numbers = [readInteger(text, "LAST", least) for text in texts]
        most = max(numbers) if self.has("largestLast") else min(numbers)
        most += self.has("lastTooMany")
        return jobs[-most:] if self.has("lastAreOldest") else jobs[:most]
