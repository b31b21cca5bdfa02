"""
The end of work whose job has ended otherwise: it was aborted, destroyed, or ran out of time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws.backends.family import ofThisBoot
from twuws.database import Row, shield
from twuws.errors import Unavailable
from twuws.node import Node
from twuws.uws import UWS

T = TypeVar("T")
log = Logger()


class Stopper:
    """
    Ends the work that the table of stops names, on this host, whoever started it.

    @param settle: called with job id and attempt before the work is ended: returns the
        reference of work that is watched here, if it is, and what fires when that is over.
    @param failed: called when the database could not be told, so that it is tried again.
    """

    def __init__(
        self,
        services: Mapping[str, UWS],
        node: Node,
        backends: Mapping[str, Any],
        settle: Callable[[str, int], tuple[dict[str, Any] | None, Deferred[Any] | None]],
        failed: Callable[[], object],
    ) -> None:
        self._services = services
        self._node = node
        self._backends = backends
        self._settle = settle
        self._failed = failed
        self._ending: dict[tuple[str, int], Deferred[None]] = {}

    def underWay(self) -> list[Deferred[None]]:
        """What is being ended just now."""
        return list(self._ending.values())

    async def look(self) -> None:
        """Begin to end what is to be ended."""
        for row in await self._node.stops():
            self._end(row)

    def _end(self, row: Row) -> None:
        key = row["job_id"], row["attempt"]
        if key in self._ending:
            return
        ending = self._ending[key] = Deferred.fromCoroutine(self._stop(row))

        def forget(result: T) -> T:
            del self._ending[key]
            return result

        def notStopped(failure: Failure) -> None:
            if failure.check(Unavailable):
                log.warn("the end of {jobId} is still to be noted: {e}",
                         jobId=key[0], e=failure.value)  # fmt: skip
                self._failed()
            else:
                log.failure("{jobId} was not stopped; trying again", failure, jobId=key[0])

        ending.addBoth(forget)
        ending.addErrback(notStopped)

    async def _stop(self, row: Row) -> None:
        """End one piece of work, and then note that it has ended."""
        jobId, attempt = row["job_id"], row["attempt"]
        uws = self._services[row["service"]]
        ref, over = self._settle(jobId, attempt)
        await self.stopWork(ref or row["ref"], uws.limits.grace)
        if over is not None:  # also while it is being started
            await shield(over)
        if await self._node.stopped(jobId, attempt):
            uws.removeDirectory(jobId)

    async def stopWork(self, ref: dict[str, Any] | None, grace: float) -> None:
        """End the processes that a reference tells of; there may be none any more."""
        if ref is None or ref.get("backend") not in self._backends:
            return
        if not ofThisBoot(ref):
            return  # the host has been restarted since: its numbers are others' now
        await self._backends[ref["backend"]].stop(ref, grace)
