"""
A client for single requests, which blocks.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

FORM = "application/x-www-form-urlencoded"
FINAL = ("COMPLETED", "ERROR", "ABORTED")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was answered; C{location} is the path that it leads to."""

    status: int
    text: str
    location: str


class Client:
    """One connection to a service on this host, kept open."""

    def __init__(self, port: int, timeout: float = 120) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def begin(self, method: str, path: str, form: Mapping[str, str] | None = None) -> None:
        """Send a request, whose answer L{end} waits for."""
        headers = {} if form is None else {"Content-Type": FORM}
        self._connection.request(method, path, None if form is None else urlencode(form), headers)

    def end(self) -> Answer:
        """The answer."""
        answer = self._connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        location = urlsplit(answer.getheader("location") or "").path
        if answer.status >= 400:
            raise RuntimeError(f"{answer.status}: {text[:500]}")
        return Answer(status=answer.status, text=text, location=location)

    def get(self, path: str) -> str:
        self.begin("GET", path)
        return self.end().text

    def post(self, path: str, form: Mapping[str, str] | None = None) -> str:
        """The path that the answer leads to."""
        self.begin("POST", path, form or {})
        return self.end().location

    def create(self, service: str, form: Mapping[str, str] | None = None) -> str:
        """Make a job; its path."""
        return self.post(f"/{service}/async", form)

    def untilEnded(self, job: str) -> str:
        """Wait for a job; its phase."""
        while True:
            phase = self.phase(self.get(job + "?WAIT=30"))
            if phase in FINAL:
                return phase

    @staticmethod
    def phase(document: str) -> str:
        """The phase that a job document tells."""
        return document.partition("<uws:phase>")[2].partition("<")[0]

    def close(self) -> None:
        self._connection.close()


def getRequest(port: int, path: str) -> str:
    """A GET for L{bench.load}."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"


def postRequest(port: int, path: str, form: Mapping[str, str]) -> str:
    """A POST for L{bench.load}."""
    body = urlencode(form)
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )


def millisecondsSince(began: float) -> float:
    """How long it is since L{time.perf_counter} said this."""
    return (time.perf_counter() - began) * 1000
