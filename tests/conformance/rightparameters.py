"""
The parameters of jobs of a service that does everything right, and their files; see
C{rightserver}.
"""

from __future__ import annotations

from tests.conformance.rightjobs import File, Refused


class Parameters:
    """What is done to read and change parameters."""

    def setParameters(self, job, pairs):
        """Set parameters, instead of those of the same names."""
        names = {name for name, _ in pairs}
        if names and job.phase != "PENDING" and not self._mayBeLate(job, pairs):
            return
        if self.has("firstValueStays"):
            pairs = [pair for pair in pairs if pair[0] not in job.parameters]
        elif not self.has("parametersAdded"):
            for name in names:
                job.parameters.pop(name, None)
        self._add(job, pairs)

    def _add(self, job, pairs):
        files = {f"param:{name}": value for name, value in pairs if isinstance(value, File)}
        if self.has("no param") and any(str(value) in files for _, value in pairs):
            raise Refused(400, "A parameter cannot name a part")
        for name, value in pairs:
            if isinstance(value, str):
                if value in files and not self.has("namesNotResolved"):
                    value = files[value]
                elif self.has("blanksLost"):
                    value = " ".join(value.split())
            if isinstance(value, File):
                self.jobs.keep(value)
                if self.has("filenameIsValue"):
                    value = value.name
            if self.has("namesShortened"):
                name = name.split()[0]
            job.parameters.setdefault(name, []).append(value)

    def _mayBeLate(self, job, pairs):
        """Whether parameters are taken though the job was started."""
        if self.has("parametersAnyTime"):
            return True
        if self.has("lateParametersIgnored"):
            return False
        if self.has("lateRefusedButSet"):
            self._add(job, pairs)
        status = 500 if self.has("lateParametersCrash") else 403
        raise Refused(status, f"The job is {job.phase}, and keeps its parameters.")

    def get_parameters(self, job):
        if self.has("parametersNotListed"):
            return self.xml(self.documents.whole("", "parameters"))
        return self.xml(self.documents.parameters(job))

    def post_parameters(self, job):
        if self.has("no changes"):
            raise Refused(403, "Parameters stay as they are.")
        if not self.has("parametersNotPosted"):
            self.change(job, self._form())
        if self.has("parametersWith200"):
            return self.plain("changed")
        leadsToList = self.has("parametersLeadToList")
        return self.seeOther(self.url if leadsToList else f"{self.url}/{job.id}")

    def getParameter(self, job, name):
        if name not in job.parameters:
            raise Refused(404, f"There is no parameter {name}.")
        value = job.parameters[name][0]
        if isinstance(value, str):
            return self.plain(value)
        if self.has("uploadNotBelow") and not self.query:
            raise Refused(404, "The file is elsewhere.")
        content = self.jobs.contentOf(value)
        mediaType = "application/octet-stream" if self.has("uploadTypeLost") else value.mediaType
        return 200, mediaType, b"" if self.has("uploadEmpty") else content, {}

    def putParameter(self, job, name):
        if self.has("no changes"):
            raise Refused(405, "There is no PUT here.")
        value = self.body.decode("utf-8", "replace")
        if self.has("putAdds"):
            self._add(job, [(name, value)])
        elif not self.has("putIgnored"):
            self.setParameters(job, [(name, value)])
        if self.has("putRefusedButDone"):
            raise Refused(405, "There is no PUT here.")
        return self.seeOther(f"{self.url}/{job.id}")
