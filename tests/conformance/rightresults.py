"""
The results and errors of jobs of a service that does everything right; see C{rightserver}.
"""

from __future__ import annotations

from tests.conformance.rightjobs import Refused


class Results:
    """What is done to read them."""

    def get_error(self, job):
        if job.error is None:
            if self.has("errorAlwaysThere"):
                return self.plain("")
            raise Refused(404, "The job has no error.")
        if self.has("errorNotThere"):
            raise Refused(404, "The job has no error.")
        return self.plain("" if self.has("errorEmpty") else job.errorDetail or job.error)

    def get_results(self, job):
        if self.has("noResultsAre404") and not job.results:
            raise Refused(404, "The job has no results.")
        if self.has("resultsNotListed"):
            return self.xml(self.documents.whole("", "results"))
        return self.xml(self.documents.results(job))

    def getResult(self, job, name):
        if self.has("resultCrashes"):
            raise Refused(500, "FileNotFoundException")
        found = dict(job.results).get(name)
        if found is None:
            isEarly = job.phase == "PENDING" and name == "result"
            if self.has("nonsenseIsThere") or (isEarly and self.has("resultReadableEarly")):
                return self.plain("")
            raise Refused(404, f"There is no result {name}.")
        mediaType = "text/plain" if self.has("resultTypeDiffers") else found.mediaType
        return 200, mediaType, found.content, {}
