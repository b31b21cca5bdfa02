"""
The documents of a service that does everything right; see C{rightserver}.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

NAMESPACES = (
    'xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text):
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("\r", "&#13;")


class Documents:
    """
    Writes documents.

    @param url: the job list.
    @param has: whether a fault is on.
    """

    def __init__(self, url, has):
        self.url = url
        self.has = has

    def instant(self, when):
        if when is None:
            return ""
        if self.has("instantWithBlank"):
            return when.strftime("%Y-%m-%d %H:%M:%SZ")
        text = when.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        if self.has("instantWithOffset"):
            return text + "+00:00"
        return text if self.has("instantWithoutZ") else text + "Z"

    def quoteOf(self, job):
        """The quote, which may be another one each time."""
        if self.has("quoteMoves"):
            return self.instant(datetime.now(UTC) + timedelta(seconds=10))
        return self.instant(job.quote)

    def text(self, text):
        """Text as the content of an element."""
        if not self.has("controlsInXML"):
            text = NOT_IN_XML.sub("\ufffd", text)
        if self.has("astralLost"):
            text = re.sub("[\U00010000-\U0010ffff]", "?", text)
        return text if self.has("textNotEscaped") else escaped(text)

    def element(self, name, text):
        return f"<uws:{name}>{text}</uws:{name}>"

    def orNil(self, name, text):
        """An element, nil if there is no text."""
        if not text and self.has("emptyNotNil"):
            return f"<uws:{name}></uws:{name}>"
        return self.element(name, text) if text else f'<uws:{name} xsi:nil="true"/>'

    def whole(self, content, name, attributes=""):
        document = f"<uws:{name} {NAMESPACES}{attributes}>{content}</uws:{name}>"
        if self.has("wrongNamespace"):
            document = document.replace("/UWS/v1.0", "/UWS/v1.1")
        return ('<?xml version="1.0" encoding="UTF-8"?>\n' + document).encode("utf-8", "replace")

    # The documents.

    def job(self, job):
        parts = [
            self.element("jobId", "x" + job.id if self.has("jobIdDiffers") else job.id),
            self.runId(job),
            self.owner(job),
            self.element("phase", job.phase),
            "" if self.has("noQuote") else self.orNil("quote", self.quoteOf(job)),
            self.element("creationTime", self.instant(job.created)),
            self.orNil("startTime", self.instant(job.started)),
            self.orNil("endTime", self.instant(job.ended)),
            self.element("executionDuration", self.duration(job)),
            self.orNil("destruction", self.instant(job.destruction)),
            self.parametersElement(job),
            self.resultsElement(job),
            self.errorSummary(job),
        ]
        if self.has("wrongOrder"):
            parts.reverse()
        version = "" if self.has("noVersionOfJob") else ' version="1.1"'
        return self.whole("".join(parts), "job", version)

    def jobs(self, jobs):
        refs = "".join(map(self.jobRef, jobs))
        return self.whole(refs, "jobs", "" if self.has("noVersionOfList") else ' version="1.1"')

    def jobRef(self, job):
        attributes = "" if self.has("refWithoutId") else f' id="{job.id}"'
        if not self.has("refWithoutLink"):
            href = self.url if self.has("refLinksToList") else f"{self.url}/{job.id}"
            attributes += f' xlink:type="simple" xlink:href="{href}"'
        return f"<uws:jobref{attributes}>{self.inRef(job)}</uws:jobref>"

    def inRef(self, job):
        phase = "PENDING" if self.has("refPhaseStale") else job.phase
        phase = self.element("phase", phase.lower() if self.has("refPhaseLower") else phase)
        runId = "" if self.has("runIdNotListed") else self.runId(job)
        owner = self.owner(job)
        if self.has("refOwnerDiffers"):
            owner = self.element("ownerId", "anonymous")
        created = self.element("creationTime", self.instant(job.created))
        if self.has("refTimeDiffers"):
            created = self.element("creationTime", self.instant(job.destruction))
        return phase + runId + owner + ("" if self.has("refWithoutTime") else created)

    def parameters(self, job):
        return self.whole(self.parametersInside(job), "parameters")

    def results(self, job):
        return self.whole(self.resultsInside(job), "results")

    # Their parts.

    def duration(self, job):
        return f"{job.duration}.0" if self.has("durationWithFraction") else str(job.duration)

    def runId(self, job):
        if job.runId is None or self.has("runIdLost"):
            return ""
        return self.element("runId", self.text(job.runId))

    def owner(self, job):
        if self.has("ownerNULL") and not job.owner:
            return self.element("ownerId", "NULL")
        return self.orNil("ownerId", self.text(job.owner))

    def parametersElement(self, job):
        return self.element("parameters", self.parametersInside(job))

    def parametersInside(self, job):
        return "".join(
            self.parameter(job, name, value)
            for name, values in job.parameters.items()
            for value in values
        )

    def parameter(self, job, name, value):
        attributes = f'id="{self.text(name)}"'
        isText = isinstance(value, str)
        if isText and (self.has("controlsInXML") or not NOT_IN_XML.search(value)):
            return f"<uws:parameter {attributes}>{self.text(value)}</uws:parameter>"
        place = "nonsense" if self.has("referenceLeadsNowhere") else "parameters"
        url = f"{self.url}/{job.id}/{place}/{quote(name, safe='')}"
        if self.has("uploadNotBelow"):
            url += "?elsewhere=1"
        if not self.has("referenceNotSaid"):
            attributes += ' byReference="true"'
        return f"<uws:parameter {attributes}>{url}</uws:parameter>"

    def resultsElement(self, job):
        return self.element("results", self.resultsInside(job))

    def resultsInside(self, job):
        return "".join(
            f'<uws:result id="{name}" xlink:type="simple" xlink:href="{self.resultURL(job, name)}"'
            f' size="{self.size(result)}" mime-type="{result.mediaType}"/>'
            for name, result in job.results
        )

    def resultURL(self, job, name):
        start = "/uws/async" if self.has("relativeResults") else self.url
        return f"{start}/{job.id}/results/{name}"

    def size(self, result):
        return len(result.content) + self.has("resultSizeDiffers")

    def errorSummary(self, job):
        if job.error is None or self.has("noErrorSummary"):
            return ""
        detail = "true" if job.errorDetail else "false"
        text = "" if self.has("emptyErrorMessage") else self.text(job.error)
        message = "" if self.has("noErrorMessage") else self.element("message", text)
        kind = "bad" if self.has("errorTypeBad") else "fatal"
        start = f'<uws:errorSummary type="{kind}" hasDetail="{detail}">'
        return f"{start}{message}</uws:errorSummary>" * (1 + self.has("twoErrorSummaries"))
