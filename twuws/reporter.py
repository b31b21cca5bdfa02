"""
What work tells, on its way from the job's directory to the job's row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twuws.database import shield
from twuws.errors import StaleAttempt, Unavailable
from twuws.jobs import JobRecord, Outcome, Result
from twuws.uws import UWS
from twuws.workdir import LONGEST_MESSAGE, isResultId, isSafeName

log = Logger()


class Reporter:
    """
    Follows the events of one attempt and records them.

    Events that come while others are being recorded are recorded together, so that work
    that tells much does not write much.

    @param keepTrying: whether to wait for the database while it is away.
    @param node: where the work is, for the record.
    """

    #: How long to wait between tries while the database is away, s.
    retryDelay = 1.0

    def __init__(
        self,
        uws: UWS,
        record: JobRecord,
        keepTrying: Callable[[], bool] = lambda: True,
        node: str | None = None,
    ) -> None:
        self._uws = uws
        self._record = record
        self._keepTrying = keepTrying
        self._node = node
        self._directory = uws.workDirs.forJob(record.jobId, record.attempt)
        self._offset = 0
        self._results: dict[str, Result] = {}
        self._info: dict[str, Any] = {}
        self._reading: Deferred[None] | None = None
        self._again = False

    def news(self) -> None:
        """There may be new events."""
        if self._reading is not None:
            self._again = True
            return
        self._reading = Deferred.fromCoroutine(self._follow())
        self._reading.addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        if not failure.check(Unavailable, StaleAttempt):
            log.failure("events of {jobId}", failure, jobId=self._record.jobId)

    async def _follow(self) -> None:
        try:
            self._again = True
            while self._again:
                self._again = False
                if await self._read():
                    await self._uws.recordWork(
                        self._record.jobId,
                        self._record.attempt,
                        self._results.values(),
                        self._info,
                    )
        finally:
            self._reading = None

    async def finish(self, outcome: Outcome) -> None:
        """
        Record the last events and the outcome, however long the database is away.

        @raise StaleAttempt: if this attempt is no longer the job's; nothing is changed.
        @raise Unavailable: if it is not to be tried any longer.
        """
        reactor = self._uws.database.reactor
        if self._reading is not None:
            await shield(self._reading)
        try:
            await self._read()
        except Exception:
            log.failure("the last events of {jobId} cannot be read", jobId=self._record.jobId)
        while True:
            try:
                await self._uws.recordOutcome(
                    self._record.jobId,
                    self._record.attempt,
                    outcome,
                    self._results.values(),
                    self._info,
                    self._node,
                )
                return
            except Unavailable as e:  # also while somebody else holds the job
                if not self._keepTrying():
                    raise
                log.warn("{jobId} has ended; still to be recorded: {e}",
                         jobId=self._record.jobId, e=e)  # fmt: skip
                await deferLater(reactor, self.retryDelay)

    async def _read(self) -> bool:
        """Take in the new events; false if there are none."""
        reactor = self._uws.database.reactor
        found = False
        while True:
            before = self._offset
            events, self._offset = await deferToThreadPool(
                reactor, reactor.getThreadPool(), self._directory.readEvents, before
            )
            for event in events:
                self._take(event)
            found = found or bool(events)
            if self._offset == before:
                return found

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "result":
            if (result := resultFrom(event)) is not None:
                self._results[result.id] = result
        elif event["event"] == "progress":
            fraction, message = event.get("fraction"), event.get("message")
            if isinstance(fraction, int | float) and 0 <= fraction <= 1:
                self._info["progress"] = fraction
            if isinstance(message, str):
                self._info["message"] = message[:LONGEST_MESSAGE]


def resultFrom(event: dict[str, Any]) -> Result | None:
    """
    The result that an event tells of; C{None} if it makes no sense, for work can write
    events as it likes.
    """
    id, file = event.get("id"), event.get("file")
    mediaType, size = event.get("mediaType"), event.get("size")
    if not (isinstance(id, str) and isResultId(id)):
        return None
    if not (isinstance(file, str) and isSafeName(file)):
        return None
    if not (isinstance(mediaType, str) and mediaType.isascii() and mediaType.isprintable()):
        mediaType = "application/octet-stream"
    return Result(
        id=id,
        file=file,
        mediaType=mediaType,
        size=size if isinstance(size, int) and size >= 0 else None,
    )
