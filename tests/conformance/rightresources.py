"""
What can be asked of the resources of a service that does everything right; see C{rightserver}.

A handler is called with the lock of the jobs held, and returns a status, a media type, a body
and headers.  C{get_x} answers what is at C{x} below a job.
"""

from __future__ import annotations

import time

from tests.conformance.rightcontrols import Controls
from tests.conformance.rightjobs import Refused
from tests.conformance.rightlists import Lists
from tests.conformance.rightparameters import Parameters
from tests.conformance.rightresults import Results
from tests.conformance.rightwaiting import Waiting

PATH = "/uws/async"
CONTROLS = ("PHASE", "RUNID", "ACTION", "DESTRUCTION", "EXECUTIONDURATION", "WAIT")


class Resources(Lists, Waiting, Controls, Parameters, Results):
    """The list, the jobs, and what is below them; who reads requests inherits it."""

    # The list.

    def postList(self):
        form = self._form()
        job = self.jobs.create(self.user)
        try:
            self.change(job, form)
        except Refused:
            self.jobs.destroy(job)
            raise
        location = f"{self.url}/{job.id}"
        if self.has("createdWith201"):
            return 201, "text/plain", b"", {"Location": location}
        if self.has("relativeLocation"):
            location = f"{PATH}/{job.id}"
        if self.has("locationElsewhere"):
            location = location.replace("/uws/", "/")
        return self.seeOther(location + ("/" if self.has("locationWithSlash") else ""))

    def change(self, job, form):
        """What is asked for with the creation, or posted to the job."""
        self.setParameters(job, [pair for pair in form if pair[0] not in CONTROLS])
        for name, value in form:
            if name == "RUNID":
                job.runId = value
            elif name == "DESTRUCTION":
                self.setDestruction(job, value)
            elif name == "EXECUTIONDURATION":
                self.setDuration(job, value)
        for name, value in form:
            if name == "PHASE" and not self.has("runAtCreationIgnored"):
                self.jobs.changePhase(job, value)

    # A job.

    def getJob(self, job):
        if self.command == "GET":
            self.waitFor(job)
        if self.has("getDeletes") and ("ACTION", "DELETE") in self.query:
            self.jobs.destroy(job)
        found = job if self.has("deletedWaiterSeesJob") else self.jobs.find(job.id)
        return self.xml(self.documents.job(found))

    def postJob(self, job):
        form = self._form()
        if dict(form).get("ACTION", "") == "DELETE" and not self.has("actionIgnored"):
            return self.deleteJob(job)
        if not self.has("jobPostIgnored"):
            self.change(job, form)
        return self.seeOther(f"{self.url}/{job.id}")

    def deleteJob(self, job):
        if self.has("deleteForbidden"):
            raise Refused(403, "Jobs stay here.")
        if job.phase == "EXECUTING" and self.has("executingNotDeleted"):
            raise Refused(403, "The job is EXECUTING.")
        self.jobs.destroy(job)
        if self.has("deletedWith200"):
            return self.plain("gone")
        return self.seeOther(self.url + ("?LAST=100" if self.has("deleteLeadsToQuery") else ""))

    # What is below a job.

    def get_phase(self, job):
        if self.jobs.waits and self.has("waitsBlockOthers"):
            time.sleep(0.25)
        if self.has("getChangesPhase") and self.query:
            self.jobs.changePhase(job, self.query[0][1])
        phase = "QUEUED" if self.has("phaseDiffers") and job.phase == "PENDING" else job.phase
        return self.plain(phase + ("\n" if self.has("phaseWithNewline") else ""))

    def post_phase(self, job):
        phases = [value for name, value in self._form() if name == "PHASE"]
        if not phases:
            raise Refused(400, "There is no PHASE.")
        if self.has("queryPostCrashes") and self.query:
            raise Refused(500, "NullPointerException")
        self.jobs.changePhase(job, phases[-1])
        if self.has("changedWith200"):
            return self.plain(job.phase)
        return self.seeOther(self.url if self.has("changeLeadsToList") else f"{self.url}/{job.id}")

    def get_quote(self, job):
        return self.plain("None" if self.has("quoteNone") else self.documents.quoteOf(job))

    def get_owner(self, job):
        return self.plain(job.owner or ("NULL" if self.has("ownerNULLAlone") else ""))
