"""
Asking a service byte by byte, which no HTTP library does: slowly, endlessly, or half.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from twuws.conformance.answers import Answer, Asked
from twuws.conformance.outcomes import Failed
from twuws.conformance.settings import Settings


class Wire:
    """
    A connection of its own, for one request; for C{with}.

    @param created: called with the C{Location} of a job that is made with it.
    """

    def __init__(self, settings: Settings, created: Callable[[str], None]) -> None:
        self._settings = settings
        self._created = created
        self._parts = urlsplit(settings.listURL)
        self._asked = Asked(method="", url=settings.listURL)
        self._began = time.monotonic()

    def __enter__(self) -> Wire:
        host, secure = self._parts.hostname or "", self._parts.scheme == "https"
        port = self._parts.port or (443 if secure else 80)
        try:
            self._socket = socket.create_connection((host, port), self._settings.timeout)
            if secure:
                self._socket = _context(self._settings).wrap_socket(
                    self._socket, server_hostname=host
                )
        except OSError as e:
            raise Failed(f"There is no connection to {host}:{port}: {e}.") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def head(self, method: str, headers: Mapping[str, str]) -> bytes:
        """The beginning of a request of the job list, with an empty line at its end."""
        self._asked = Asked(method=method, url=self._settings.listURL, headers=headers)
        every = {"Host": self._parts.netloc, "User-Agent": "twuws-check", **headers}
        if self._settings.credentials is not None:
            every["Authorization"] = self._settings.credentials.header
        lines = [f"{method} {self._parts.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in every.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def send(self, data: bytes) -> bool:
        """Send; false if the service does not listen any more."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def says(self, seconds: float) -> bool:
        """Whether the service says something, or hangs up, within a time."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], max(0.0, seconds))[0])

    def answer(self) -> Answer | None:
        """
        What the service answers in the end; nothing, if it hangs up instead.

        @raise Failed: if it does neither.
        """
        response = http.client.HTTPResponse(self._socket, method=self._asked.method)
        try:
            response.begin()
            body = response.read()
        except TimeoutError:
            raise Failed(f"There is no answer to {self._asked.method} {self._asked.url}.") from None
        except (OSError, http.client.HTTPException):
            return None
        answer = self._made(response, body)
        if self._asked.method == "POST" and "location" in answer.headers:
            self._created(answer.headers["location"])
        return answer

    def _made(self, response: Any, body: bytes) -> Answer:
        return Answer(
            asked=self._asked,
            status=response.status,
            reason=response.reason,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=body,
            seconds=time.monotonic() - self._began,
            began=self._began,
        )


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
