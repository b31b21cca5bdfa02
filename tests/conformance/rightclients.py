"""
What a service that does everything right does for clients, and for many of them; see
C{rightserver}.

Faults of this kind are those of services that keep to the standard.
"""

from __future__ import annotations

import re
import threading
import time
from urllib.parse import parse_qsl, urlsplit

from tests.conformance.rightjobs import Refused

_NIL = re.compile(rb'<uws:\w+ xsi:nil="true"/>')
_XLINK = b' xmlns:xlink="http://www.w3.org/1999/xlink"'
_BOUNDARY = re.compile(r'multipart/form-data; boundary="?[\w-]+"?')


class Clients:
    """What is done beyond the standard; inherits before who does the rest."""

    def _answer(self, path):
        if self.has("slashMoved") and path.endswith("/") and self.command == "GET":
            return 308, "text/html", b"", {"Location": path.rstrip("/")}
        if self.has("postedSlashMoved") and path.endswith("/") and self.command == "POST":
            return 307, "text/html", b"", {"Location": path.rstrip("/")}
        if self.has("containersMoved") and path.endswith("/results"):
            return 301, "text/html", b"", {"Location": path + "/"}
        if self.has("waitByCase"):
            self.query = [pair for pair in self.query if pair[0] != "wait"]
        if self.has("minusOneAlone") and {"WAIT", "PHASE"} <= {name for name, _ in self.query}:
            raise Refused(400, "There is no PHASE here.")
        if self.has("chunkedRefused") and "Transfer-Encoding" in self.headers:
            raise Refused(411, "How long is it?")
        try:
            return super()._answer(path)
        except Refused as e:
            below = path.rstrip("/").count("/") > 3
            for wrong in (
                self.has("goneWith410"),
                self.has("goneBelowWith410") and below,
                self.has("gonePostedWith410") and below and self.command == "POST",
            ):
                if wrong and e.status == 404:
                    raise Refused(410, e.text) from None
            raise

    def handle_expect_100(self):
        if self.has("expectRefused"):
            self.send_error(417)
            return False
        return True if self.has("expectUnheard") else super().handle_expect_100()

    def send_response(self, code, message=None):
        if self.has("noServer"):
            return self.send_response_only(code, message)
        return super().send_response(code, message)

    # The list.

    def getList(self):
        if not self.query and self.has("listNeedsFilter"):
            raise Refused(403, "There are too many jobs.")
        if self.has("slowNewest") and ("LAST", "50") in self.query:
            time.sleep(0.15)
        if self.has("slowList") and not self.query:
            time.sleep(0.5)
        status, kind, body, headers = super().getList()
        if not self.query and self.has("listAsPlain"):
            kind = "text/plain"
        return status, kind, body, headers

    def _filtered(self, jobs):
        found = super()._filtered(jobs)
        return found[:40] if self.has("listShort") else found

    def postList(self):
        if self.has("creationsCrash") and len(self.jobs.all()) > 30:
            raise Refused(500, "Deadlock")
        if self.has("createdLate") and b"PHASE=RUN" in self.body:
            self.body = self.body.replace(b"&PHASE=RUN", b"")
            answer = super().postList()
            self._runLater(self.jobs.all()[0])
            return answer
        return super().postList()

    # A job.

    def getJob(self, job):
        self.server.right.reads = reads = getattr(self.server.right, "reads", 0) + 1
        if self.has("impatient") and reads > 20:
            raise Refused(429, "Do not ask so often.")
        if self.has("readsSlowly"):
            time.sleep(0.4)
        return super().getJob(job)

    def postJob(self, job):
        if b"PHASE=ABORT" in self.body and self.has("abortOnlyAtPhase"):
            raise Refused(405, "There is no ABORT here.")
        if b"PHASE=" in self.body and self.has("phaseOnlyAtPhase"):
            self.body = b""
        return super().postJob(job)

    def deleteJob(self, job):
        answer = super().deleteJob(job)
        if self.has("deleteWith204") and self.command == "DELETE":
            return 204, "", b"", {}
        return answer

    def post_phase(self, job):
        if self.has("runsLate") and b"PHASE=RUN" in self.body:
            self._runLater(job)
            return self.seeOther(f"{self.url}/{job.id}")
        return super().post_phase(job)

    def _runLater(self, job):
        def run():
            with self.jobs.changed:
                self.jobs.run(job)

        threading.Timer(0.1, run).start()

    def change(self, job, form):
        super().change(job, form)
        if self.has("runIdsMixed"):
            for other in self.jobs.all():
                other.runId = job.runId

    # Forms.

    def _form(self):
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart"):
            self._checkMultipart(kind)
        pairs = super()._form()
        if self.has("typedPartLost") and b"text/plain; charset=UTF-8" in self.body:
            pairs = [pair for pair in pairs if not isinstance(pair[1], str)]
        written = [name for name, _ in parse_qsl(self.body.decode("latin-1"))]
        asked = [name for name, _ in self.query]
        if self.has("doubledRefused") and set(written) & set(asked):
            raise Refused(400, "Once is enough.")
        if self.has("casesRefused") and len({name.lower() for name in written}) < len(written):
            raise Refused(400, "Once is enough.")
        lost = {name for name in self._byCase() if name not in (*written, *asked)}
        pairs = [pair for pair in pairs if pair[0] not in lost]
        return [
            (name, self._instantIn(value) if name == "DESTRUCTION" else value)
            for name, value in pairs
        ]

    def _checkMultipart(self, kind):
        if self.has("no multipart"):
            raise Refused(415, "There are no such forms here.")
        strict = not _BOUNDARY.fullmatch(kind)
        for wrong in (
            self.has("strictBoundary") and strict,
            self.has("boundaryWithoutEquals") and "boundary==" in kind,
            self.has("boundaryWithoutBlank") and "next part" in kind,
            self.has("nothingBeforeParts") and not self.body.startswith(b"--"),
        ):
            if wrong:
                raise Refused(400, "There is no boundary.")

    def _byCase(self):
        """The controls that are taken in upper case alone."""
        known = {
            "RUNID": self.has("runIdByCase"),
            "PHASE": self.has("phaseByCase"),
            "ACTION": self.has("actionByCase"),
            "DESTRUCTION": self.has("destructionByCase"),
            "EXECUTIONDURATION": self.has("durationByCase"),
        }
        return [name for name, isOn in known.items() if isOn]

    def _instantIn(self, text):
        for wrong in (
            self.has("withoutZRefused") and not text.endswith("Z"),
            self.has("fractionRefused") and "." in text,
            self.has("microsecondsRefused") and ".000000" in text,
        ):
            if wrong:
                raise Refused(400, f"{text} is no instant")
        if self.has("withoutZIsLocal") and not text.endswith("Z"):
            return re.sub("T(..)", lambda hour: f"T{(int(hour[1]) + 7) % 24:02}", text)
        return text

    # Answers.

    def xml(self, document):
        accept = self.headers.get("Accept", "")
        if self.has("htmlForJava") and "text/html" in accept:
            return 200, "text/html", b"<html></html>", {"Vary": "Accept"}
        status, kind, body, headers = super().xml(document)
        if self.has("noVary"):
            headers = {}
        if self.has("otherPrefix"):
            body = re.sub(rb"(</?|xmlns:)uws\b", rb"\1u", body)
        if self.has("defaultNamespace"):
            body = body.replace(b"uws:", b"").replace(b"xmlns:uws", b"xmlns")
        if self.has("otherXLink"):
            body = body.replace(b"xlink:", b"l:").replace(b"xmlns:xlink", b"xmlns:l")
        if self.has("xlinkIfUsed") and b" xlink:" not in body:
            body = body.replace(_XLINK, b"")
        if self.has("nilLeftOut"):
            body = _NIL.sub(b"", body)
        if self.has("emptyLeftOut"):
            body = body.replace(b"<uws:parameters></uws:parameters>", b"")
        return status, kind, body, headers

    def seeOther(self, url):
        split = urlsplit(self.path)
        if self.has("locationWithQuery") and split.query:
            url += f"?{split.query}"
        if self.has("locationOfSlash") and split.path.endswith("/"):
            url = url.replace("/async/", "/async//")
        return super().seeOther(url)
