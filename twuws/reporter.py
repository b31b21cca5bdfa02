"""
What work tells, on its way from the job's directory to the job's row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twuws.database import shield
from twuws.errors import StaleAttempt, Unavailable
from twuws.jobs import JobRecord, Outcome, Result
from twuws.names import isResultId, isSafeName
from twuws.uws import UWS
from twuws.workdir import LONGEST_MESSAGE, WorkDir

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

    #: How long to wait for more after something has come, s: work that ends at once needs no
    #: statement of its own for what it told.
    patience = 0.05

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
        self._isGone = False
        self._results: dict[str, Result] = {}
        self._info: dict[str, Any] = {}
        self._reading: Deferred[None] | None = None
        self._again = False
        self._soon: Any = None

    def news(self) -> None:
        """There may be new events."""
        if self._reading is not None:
            self._again = True
        elif self._soon is None:
            self._soon = self._uws.database.reactor.callLater(self.patience, self._begin)

    def stop(self) -> None:
        """Follow them no longer."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def _begin(self) -> None:
        self._soon = None
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

    async def finish(self, outcome: Outcome, ifGone: Outcome | None = None) -> None:
        """
        Record the last events and the outcome, however long the database is away.

        @param ifGone: the outcome if the job's directory is not there any more.
        @raise StaleAttempt: if this attempt is no longer the job's; nothing is changed.
        @raise Unavailable: if it is not to be tried any longer.
        """
        reactor = self._uws.database.reactor
        self.stop()
        if self._reading is not None:
            await shield(self._reading)
        try:
            await self._read()
            if ifGone is not None and self._isGone:
                outcome = ifGone
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
                    self._record,
                )
                return
            except Unavailable as e:  # also while somebody else holds the job
                if not self._keepTrying():
                    raise
                log.warn("{jobId} has ended; still to be recorded: {e}",
                         jobId=self._record.jobId, e=e)  # fmt: skip
                await deferLater(reactor, self.retryDelay)

    async def _read(self) -> bool:
        """Take in the new events; false if they tell nothing that is to be recorded."""
        before = dict(self._results), dict(self._info)
        isMore = True
        while isMore:
            events, self._offset, isMore, self._isGone = await self._uws.inSharedThread(
                _someEvents, self._directory, self._offset
            )
            for event in events:
                self._take(event)
        return before != (self._results, self._info)

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


def _someEvents(directory: WorkDir, offset: int) -> tuple[list[dict[str, Any]], int, bool, bool]:
    """
    The next events, and where those are that come then; whether there are such already; and
    whether the directory is gone.  Blocks.
    """
    events, after = directory.readEvents(offset)
    isMore = False
    if after > offset:
        with suppress(OSError):
            isMore = os.stat(directory.events).st_size > after
    return events, after, isMore, not directory.isThere()


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
