"""
Jobs whose clients wait for them in one request (UWS 1.1, section 5; DALI 2.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, CONFLICT, INTERNAL_SERVER_ERROR

from twuws.documents import resultURL
from twuws.errors import DatabaseUnavailable, NotAllowed, NotFound, Unavailable, UWSError
from twuws.jobs import JobError, Result, UWSJob
from twuws.jobstable import Told
from twuws.phases import ABORTED, COMPLETED, ERROR, FINAL
from twuws.uws import UWS
from twuws.web import answers
from twuws.web.identifying import askerOf
from twuws.web.settings import WebSettings
from twuws.web.uwsactions import choose, methodOf
from twuws.web.waits import held

log = Logger()


class TimeIsUp(UWSError):
    """The job has not ended in the time that a client can wait for it."""

    status = 408


def mainResult(job: UWSJob) -> Result | None:
    """
    The one result that is given to who waits for a job (U-233).

    It is the one that is called C{result}, else the first: of a program's results, the first
    that is declared.
    """
    byId = {result.id: result for result in job.results}
    return byId.get("result") or next(iter(job.results), None)


class Sync:
    """
    What is at C{sync} of a service: a job is made and run, and answered for when it has ended.

    A request leads to C{sync/ID}, which is answered when the job has ended, and leads to its
    result.  The job is like any other, and stays.

    @param baseURL: the service's, as the client of a request knows it.
    @param makeJob: makes and runs a job from a request, and returns its id.
    @param jobFor: a job by its id, if who has sent a request may see it.
    """

    def __init__(
        self,
        uws: UWS,
        settings: WebSettings,
        baseURL: Callable[[Any], str],
        makeJob: Callable[[Any], Awaitable[str]],
        jobFor: Callable[[Any, str], Awaitable[UWSJob]],
    ) -> None:
        self._uws = uws
        self._settings = settings
        self._baseURL = baseURL
        self._makeJob = makeJob
        self._jobFor = jobFor
        self._waiting: Counter[str] = Counter()

    async def answer(self, request: Any, *segments: str) -> bytes:
        """Answer for C{sync}, or for what is below it."""
        request.setHeader("cache-control", "no-store")  # a GET, but each makes a job
        if len(segments) > 1:
            raise NotFound(f"There is nothing below sync/{segments[0]}.")
        method = methodOf(request)
        if segments:
            handler: Callable[..., Awaitable[bytes]] = choose({"GET": self._result}, method)
            return await handler(request, segments[0])
        if method not in ("GET", "POST"):  # HEAD least of all: it would make a job
            raise NotAllowed(method, ["GET", "POST", "OPTIONS"])
        jobId = await self._makeJob(request)
        return answers.seeOther(request, f"{self._baseURL(request)}/sync/{jobId}")

    async def _result(self, request: Any, jobId: str) -> bytes:
        """C{sync/ID} (U-231); HEAD never waits, and is 200 while there is nothing to tell."""
        url = self._uws.getURLForId(jobId, self._baseURL(request) + "/async")
        try:
            job = await self._jobFor(request, jobId)
        except DatabaseUnavailable as e:
            raise _lost(url) from e
        if request.method != b"HEAD":
            job = await self._ended(request, jobId, url)
        if job.phase not in FINAL:
            return answers.text(request, "")
        if job.phase in (ERROR, ABORTED):
            return self._failed(request, job, url)
        result = mainResult(job)
        if job.phase is not COMPLETED or result is None:
            raise NotFound(f"The job is {job.phase}, and has no result: {url}")
        return answers.seeOther(request, resultURL(url, result))

    async def _ended(self, request: Any, jobId: str, url: str) -> UWSJob:
        """
        The job once it has ended.

        @raise TimeIsUp: if it does not end in time; it goes on.
        @raise Unavailable: if nobody can tell any more when it ends.
        """
        try:
            job = await self._waitedFor(request, jobId)
        except DatabaseUnavailable as e:
            raise _lost(url) from e
        if job.phase not in FINAL and not self._uws.watcher.running:
            raise Unavailable(f"The service is starting or stopping. The job is {url}")
        if job.phase not in FINAL:
            raise TimeIsUp(
                f"The job is still {job.phase} after {self._settings.syncTimeout:g} s: {url}\n\n"
                f"Ask for {url}?WAIT=60 until it has ended, and then for {url}/results."
                " Or ask for this URL again."
            )
        return job

    async def _waitedFor(self, request: Any, jobId: str) -> UWSJob:
        """The job as it is when the wait is over; who goes before may end it."""
        self._waiting[jobId] += 1
        try:
            with held(request, self._settings):
                return await self._uws.untilEnded(jobId, self._settings.syncTimeout)
        except CancelledError:
            if self._settings.syncAborts and self._waiting[jobId] == 1:
                self._abort(jobId, askerOf(request))
            raise
        finally:
            self._waiting[jobId] -= 1
            if not self._waiting[jobId]:
                del self._waiting[jobId]

    def _abort(self, jobId: str, who: str) -> None:
        """Abort a job that nobody waits for any more, unless it has just ended."""

        def failed(failure: Failure) -> None:
            failure.trap(UWSError)
            log.info("{jobId}, whose client is gone: {e}", jobId=jobId, e=failure.value)

        why = JobError(message="The client that waited for the job has hung up.")
        aborting = self._uws.abort(jobId, why, Told(who=who))
        aborting.addErrback(failed)
        aborting.addErrback(lambda f: log.failure("{jobId} was not aborted", f, jobId=jobId))

    def _failed(self, request: Any, job: UWSJob, url: str) -> bytes:
        """
        Tell why there is no result (DALI 5.2): 400 for a job that could not be run as it was
        sent, 409 for one that was aborted, and 500 for work that failed.
        """
        if job.phase is ABORTED:
            request.setResponseCode(CONFLICT)
        else:  # what has never been started was refused at RUN, for its parameters
            request.setResponseCode(INTERNAL_SERVER_ERROR if job.attempt else BAD_REQUEST)
        message = job.error.message if job.error else "The job was aborted."
        detail = answers.detailOf(job.error, self._settings) if job.error else None
        where = f"The job is {url}"
        return answers.explanation(request, message, f"{detail}\n\n{where}" if detail else where)


def _lost(url: str) -> Unavailable:
    """What is told while the database is away: where the job will be again."""
    return Unavailable(f"{DatabaseUnavailable()} The job is {url}")
