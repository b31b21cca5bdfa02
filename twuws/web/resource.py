"""
One service over HTTP: the job list and the jobs (2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException

import twuws
from twuws.documents import MEDIA_TYPE, jobDocument, jobListEnd, jobListStart, jobRef
from twuws.errors import BadRequest, NotFound, UWSError
from twuws.parameters import File
from twuws.uws import UWS
from twuws.uwschanging import Unset
from twuws.web import answers
from twuws.web.controls import Controls, readListFilters, readWait, takeControls
from twuws.web.requests import discard, readArguments, referenced
from twuws.web.uwsactions import Asked, JobActions, choose

log = Logger()


class UWSResource(Resource):
    """
    A service as a resource to put anywhere in a site: the jobs are at C{async} below it.

    The site must leave forms alone: C{Site(root, parsePOSTFormSubmission=False)}.

    @param publicURL: the absolute URL of this resource, where it is not what the request
        says.
    @param maximumBody: how large a request may be, bytes; C{None} for any size.
    """

    isLeaf = True

    def __init__(
        self, uws: UWS, publicURL: str | None = None, maximumBody: int | None = None
    ) -> None:
        super().__init__()
        self._klein = _Jobs(uws, publicURL, maximumBody).app.resource()

    def render(self, request: Any) -> Any:
        request.mountPath = tuple(request.prepath)  # Klein moves on in it
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            return answers.failure(request, NotFound("There is nothing here: URLs are UTF-8."))
        return self._klein.render(request)


class _Jobs:
    """
    The routes of one service.

    Every route takes all methods, with and without a slash at its end: a redirect from one
    to the other would turn a POST into a GET (A-80).
    """

    app = Klein()

    def __init__(self, uws: UWS, publicURL: str | None, maximumBody: int | None) -> None:
        self.uws = uws
        self.publicURL = publicURL
        self.maximumBody = maximumBody
        self.actions: JobActions = uws.jobActions or JobActions()
        self.fileNames = [
            name for name, kind in uws.jobClass.declarations.items() if isinstance(kind, File)
        ]

    @app.route("/<path:path>")
    async def everything(self, request: Any, path: str) -> Any:
        """Find out who answers."""
        request.setHeader("server", f"twuws/{twuws.__version__} {_twistedServer(request)}")
        segments = tuple(path.rstrip("/").split("/"))
        if segments[0] != "async":
            raise NotFound(f"There is no {segments[0]!r} here; the jobs are at 'async'.")
        try:
            if len(segments) == 1:
                handlers: dict[str, Callable[..., Any]] = {"GET": self.list, "POST": self.create}
                return await choose(handlers, self._method(request))(request)
            return await self._ofJob(request, segments[1], segments[2:])
        finally:
            discard(request)

    def _method(self, request: Any) -> str:
        return str(request.method.decode("ascii", "replace"))

    def _jobListURL(self, request: Any) -> str:
        return answers.resourceURL(request, self.publicURL) + "/async"

    async def _read(self, request: Any) -> Controls:
        """Read the arguments; what UWS itself takes of them is returned."""
        await readArguments(
            request,
            uploads=self.uws.workDirs,
            fileNames=self.fileNames,
            maximumBody=self.maximumBody,
        )
        if request.method in (b"GET", b"HEAD"):  # there PHASE is a filter
            return Controls()
        controls = takeControls(request.args)
        request.files = referenced(request.args, request.files, self.fileNames)
        return controls

    # The job list

    async def list(self, request: Any) -> bytes:
        """The job list, as long as it is (2.2.2.1): written as it is read."""
        await self._read(request)
        filters = readListFilters(request.args)
        request.setHeader("content-type", MEDIA_TYPE)
        request.setHeader("vary", "Accept")
        if request.method == b"HEAD":
            return b""
        url = self._jobListURL(request)
        pages = self.uws.pagesOfJobs(filters)
        first = await anext(pages)  # before anything is written, so that it may still fail
        paced = answers.Paced(request)
        try:
            await paced.write(jobListStart(self.uws.joblistPreamble))
            await paced.write(self._refs(first, url))
            async for page in pages:
                await paced.write(self._refs(page, url))
            await paced.write(jobListEnd())
        except Exception as e:  # half of a list must not look like a whole one
            log.warn("a list broke off: {e}", e=e)
            paced.abort()
        finally:
            paced.finish()
        return b""

    def _refs(self, page: Any, url: str) -> bytes:
        return b"".join(jobRef(ref, self.uws.getURLForId(ref.jobId, url)) for ref in page)

    async def create(self, request: Any) -> bytes:
        """Make a job, and run it if the request says so (2.2.3.1, A-06)."""
        controls = await self._read(request)
        if controls.phase == "ABORT":
            raise BadRequest("PHASE: a job can be created with PHASE=RUN, or without")
        if controls.action is not None:
            raise BadRequest("ACTION: there is nothing to act upon in the job list")
        properties: dict[str, Any] = {
            "runId": controls.runId,
            "executionDuration": controls.executionDuration,
        }
        if not isinstance(controls.destruction, Unset):
            properties["destruction"] = controls.destruction
        isRun = controls.phase == "RUN"
        jobId = await self.uws.getNewIdFromRequest(request, isRun, **properties)
        url = self.uws.getURLForId(jobId, self._jobListURL(request))
        return answers.seeOther(request, url)

    # Jobs

    async def _ofJob(self, request: Any, jobId: str, segments: tuple[str, ...]) -> Any:
        method = self._method(request)
        action = self.actions[segments[0]] if segments else None
        handlers = {"GET": self.job, "POST": self.change, "DELETE": self.destroy}
        if action is None:
            choose(handlers, method)
        asked = Asked(
            uws=self.uws,
            jobId=jobId,
            request=request,
            controls=await self._read(request),
            jobListURL=self._jobListURL(request),
            segments=segments[1:],
        )
        if action is not None:
            return await action.handle(method, asked)
        return await choose(handlers, method)(asked)

    async def job(self, asked: Asked) -> bytes:
        """The job, at once or after a WAIT (2.2.1.2); HEAD never waits (A-84)."""
        wait = readWait(asked.request.args)
        if wait is None or asked.request.method == b"HEAD":
            job = await asked.job()
        else:
            job = await self.uws.wait(asked.jobId, wait.seconds, wait.phases)
        content = jobDocument(job, asked.jobURL, self.uws.jobdocPreamble)
        return answers.document(asked.request, content)

    async def change(self, asked: Asked) -> bytes:
        """ACTION=DELETE (2.2.3.2), and as a courtesy PHASE and parameters (A-07)."""
        if asked.controls.action == "DELETE":
            return await self.destroy(asked)
        await asked.update()
        return asked.toJob()

    async def destroy(self, asked: Asked) -> bytes:
        """Destroy the job; the way leads to the job list (2.2.3.2, A-72)."""
        await self.uws.destroy(asked.jobId)
        return answers.seeOther(asked.request, asked.jobListURL)

    # What goes wrong

    @app.handle_errors(UWSError)
    def refused(self, request: Any, failure: Failure) -> bytes:
        """The one place where errors become HTTP."""
        return answers.failure(request, cast(UWSError, failure.value))

    @app.handle_errors(CancelledError)
    def gone(self, request: Any, failure: Failure) -> bytes:
        """The client has hung up; there is nobody to answer."""
        return b""

    @app.handle_errors(HTTPException)
    def noRoute(self, request: Any, failure: Failure) -> bytes:
        """Klein has found no route."""
        return answers.failure(request, NotFound("There is nothing here; the jobs are at 'async'."))

    @app.handle_errors(Exception)
    def broken(self, request: Any, failure: Failure) -> bytes:
        """A mistake of ours: the log has it, the client gets its number."""
        number = uuid4().hex[:8]
        log.failure("{number}: {method} {uri}", failure, number=number,
                    method=request.method, uri=request.uri)  # fmt: skip
        message = f"The service made a mistake. Its log has the details under {number}."
        return answers.failure(request, UWSError(message))


def _twistedServer(request: Any) -> str:
    from twisted.web.server import version

    return str(version.decode("ascii"))
