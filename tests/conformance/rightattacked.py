"""
How a service that does everything right stands what is done to it; see C{rightserver}.
"""

from __future__ import annotations

import html
import io
import re
import threading
import time
from contextlib import nullcontext, suppress
from urllib.parse import unquote
from urllib.request import urlopen

from tests.conformance.rightjobs import Refused

#: How long a request may stop in its middle, s.
PATIENCE = 0.5
_TRACE = '\nTraceback (most recent call last):\n  File "uws.py", line 7, in answer\n'


class Attacked:
    """What is done before anything else; inherits before who reads requests."""

    room = threading.Semaphore(10)

    def handle(self):
        with self.room if self.has("fewConnections") else nullcontext(), suppress(ConnectionError):
            super().handle()

    def parse_request(self):
        if not self.has("slowRequestsStay"):
            self.connection.settimeout(PATIENCE)
        if not self.has("takesAnyHeader"):
            return super().parse_request()
        lines, stream = [], self.rfile
        while not lines or lines[-1] not in (b"\r\n", b""):
            lines.append(stream.readline())
        self.rfile = io.BytesIO(b"".join(line for line in lines if len(line) < 9000))
        try:
            return super().parse_request()
        finally:
            self.rfile = stream

    def _answer(self, path):
        self.connection.settimeout(None)
        try:
            return super()._answer(path)
        except Refused as e:
            return self._refusal(e.status, e.text)

    def _refusal(self, status, text):
        """What is said, and what should not be."""
        kind, headers = "text/plain; charset=utf-8", {}
        if (self.has("errorPages") and status == 400) or (self.has("lostPages") and status == 404):
            kind = "text/html; charset=utf-8"
        if self.has("pathInHeader"):
            headers = {"X-Path": unquote(self.path)}
        if self.has("traceShown") and status == 400:
            text += _TRACE
        if self.has("sqlShown") and status == 404:
            text += ' in "SELECT * FROM jobs"'
        return status, kind, text.encode("utf-8", "replace"), headers

    def xml(self, document):
        status, kind, body, headers = super().xml(document)
        isPage = kind.startswith("text/html")
        if isPage and self.has("runIdInPage"):
            body = html.unescape(document.decode()).encode()
        return status, kind, body, headers

    def _form(self):
        if b"<!DOCTYPE" in self.body:
            self._readDocumentType(self.body.decode())
        elif self.has("onlyEntitiesShown") and b"<kit>" in self.body:
            return []
        pairs = self._pairs()
        if self.has("onlyEntitiesShown") and b"<!DOCTYPE" in self.body:
            found = re.search('e "&a;(.*?)"', self.body.decode())
            word = re.search('ENTITY a "(.*?)"', self.body.decode())
            return [("xml", word[1] + found[1])] if found and word else []
        for name, value in pairs:
            if isinstance(value, str) and name in ("table", "UPLOAD") and "://" in value:
                self._fetch(name, value.removeprefix("table,"))
        return pairs

    def _pairs(self):
        if self.has("onlyEntitiesShown") and b"<!DOCTYPE" in self.body:
            return []
        try:
            return super()._form()
        except ValueError:  # there are too many
            raise Refused(500 if self.has("manyParametersCrash") else 413, "Too much") from None

    def _readDocumentType(self, text):
        if self.has("slowDocumentTypes"):
            time.sleep(0.4)
        url = re.search('SYSTEM "(http.*?)"', text)
        if url and self.has("fetchesEntities"):
            urlopen(url[1], timeout=2).close()

    def _fetch(self, name, url):
        for wrong in (
            self.has("fetchesAnything"),
            self.has("fetchesUploads") and name == "UPLOAD",
            self.has("fetchesFromLocalhost") and "localhost" in url,
        ):
            if wrong:
                urlopen(url, timeout=2).close()
