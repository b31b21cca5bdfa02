"""
Jobs that are run synchronously, by a service that does everything right; see C{rightserver}.

C{sync} makes and runs a job, and leads to C{sync/ID}; that answers when the job has ended, and
leads to its result.
"""

from __future__ import annotations

import socket

from tests.conformance.rightjobs import TERMINAL, Refused

SYNC = "/uws/sync"


class Sync:
    """What is done at C{sync}, and below it."""

    def answerSync(self, steps):
        if self.has("no sync"):
            raise Refused(404, "There is nothing here.")
        if not steps:
            return self._dispatch(self._postSync, POST=self._postSync)
        return self._dispatch(self._getSync, self.jobFor(steps[0]))

    def _postSync(self):
        if self.has("syncCrashes"):
            raise Refused(500, "IllegalStateException")
        _, _, _, headers = self.postList()
        jobId = headers["Location"].rpartition("/")[2]
        self.jobs.changePhase(self.jobs.find(jobId), "RUN")
        return self.seeOther(f"{self.url.removesuffix('/async')}/sync/{jobId}")

    def _getSync(self, job):
        while job.phase not in TERMINAL:
            if self._hasHungUp():
                self._leave(job)
                break
            self.jobs.changed.wait(0.05)
        if self.has("syncLeadsNowhere"):
            return self.seeOther(self.documents.resultURL(job, "nonsense"))
        if self.has("syncLosesJob"):
            job.phase = "ERROR"
        if job.results:
            return self.seeOther(self.documents.resultURL(job, job.results[-1][0]))
        raise Refused(500, job.error or f"The job is {job.phase}.")

    def _leave(self, job):
        if self.has("hangUpSticks"):
            job.stop.set()
        if self.has("hangUpBreaks"):
            job.phase = "ERROR"

    def _hasHungUp(self):
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
