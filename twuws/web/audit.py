"""
A record of who has asked for what change, from where, and what came of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from twuws.errors import UWSError
from twuws.logs import toldURI
from twuws.proxies import Proxies
from twuws.times import formatInstant
from twuws.web.identifying import identityOf
from twuws.web.origin import clientAddress

log = Logger(namespace="twuws.audit")


class AuditLog:
    """
    One line of JSON for each request that is a change, or an administrator's look at a job of
    somebody else, or that was refused for who asks::

        {"at": "2026-11-29T09:15:35Z", "who": "alice", "by": "password", "from": "192.0.2.7",
         "did": "POST", "to": "/sleep/async", "status": 303, "job": "4f…"}

    Whatever a client sends stays inside a string of that line.

    @param path: the file to write to, which may be moved away at any time.  C{None} for the
        service's log, which gets only what administrators do with the jobs of others.
    @raise UWSError: if the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._handler: WatchedFileHandler | None = None
        if path is not None:
            try:
                self._handler = WatchedFileHandler(path, encoding="utf-8")
            except OSError as e:
                raise UWSError(f"{path}: it cannot be written: {e.strerror}") from None

    def note(self, request: Any, proxies: Proxies, of: str | None = None) -> None:
        """
        Write down a request, once, when it is answered or its client has gone.

        @param proxies: those that are believed where a request comes from.
        @param of: whose job it is about, if that is somebody else.
        """
        isNew = not hasattr(request, "auditOf")
        request.auditOf = of or getattr(request, "auditOf", None)
        if isNew:
            request.notifyFinish().addBoth(lambda result: self._done(request, proxies))

    def _done(self, request: Any, proxies: Proxies) -> None:
        if self._handler is None and request.auditOf is None:
            return
        who = identityOf(request)
        record = {
            "at": formatInstant(datetime.now(UTC)),
            "who": who.name,
            "by": who.method,
            "from": clientAddress(request, proxies),
            "did": request.method.decode("ascii", "backslashreplace"),
            "to": toldURI(request.path).decode("utf-8", "backslashreplace"),
            "status": request.code,
        }
        if request.auditOf is not None:
            record["of"] = request.auditOf
        if made := getattr(request, "madeJob", None):
            record["job"] = made
        self._write(record)

    def command(
        self, *, who: str, where: str, did: str, to: Mapping[str, Any], status: int
    ) -> None:
        """
        Write down what was done with the C{twuws} command.

        @param where: the host.
        @param to: what it was done to, and how.
        @param status: the exit status: 0 if all was done.
        """
        record = {"at": formatInstant(datetime.now(UTC)), "who": who, "by": "command"}
        self._write(record | {"from": where, "did": did, "to": dict(to), "status": status})

    def _write(self, record: dict[str, Any]) -> None:
        """Write a line."""
        line = json.dumps(record)
        if self._handler is None:
            log.info("{line}", line=line)
        else:
            self._handler.handle(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
