"""
One service over HTTP: the job list and the jobs (2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from twuws.documents import jobDocument, jobListEnd, jobListStart, jobRef
from twuws.errors import (
    BadRequest,
    Forbidden,
    NotAcceptable,
    NotAllowed,
    NotFound,
    Unavailable,
    UnsupportedMediaType,
    UWSError,
)
from twuws.jobs import JobRef, UWSJob
from twuws.logs import toldURI
from twuws.phases import SUSPENDED
from twuws.uws import UWS
from twuws.uwschanging import Unset
from twuws.web import answers, headers
from twuws.web.admission import Admission
from twuws.web.beforehand import Beforehand
from twuws.web.controls import (
    IDEMPOTENCY_KEY,
    NO_CONTROLS,
    Controls,
    readListFilters,
    readWait,
    takeControls,
)
from twuws.web.identifying import askerOf, identityOf
from twuws.web.login import Login
from twuws.web.origin import clientOf, ensureHost, resourceURL
from twuws.web.paced import Paced
from twuws.web.requests import discard, readArguments, referenced
from twuws.web.settings import WebSettings
from twuws.web.shared import Shared
from twuws.web.sync import Sync
from twuws.web.uwsactions import Asked, JobActions, choose, filesAmong, methodOf
from twuws.web.vosi import VOSI
from twuws.web.waits import held
from twuws.web.xmlbodies import checkDocuments

log = Logger()

#: From how many jobs on a list is worth compressing.
LONG_LIST = 100
#: How many jobs of a list are read at a time, and how many are written before others have their
#: turn: what a millisecond does.
PAGE, PIECE = 200, 50


class UWSResource(Resource):
    """
    A service as a resource to put anywhere in a site: the jobs are at C{async} below it.

    The site must leave forms alone: C{Site(root, parsePOSTFormSubmission=False)}.
    """

    isLeaf = True

    def __init__(self, uws: UWS, settings: WebSettings | None = None) -> None:
        super().__init__()
        self._settings = settings or WebSettings()
        jobs = _Jobs(uws, self._settings)
        self._klein = jobs.app.resource()
        #: See L{twuws.web.beforehand.BeforeBody}.
        self.beforeBody = Beforehand(uws, self._settings, jobs.admission).check

    def render(self, request: Any) -> Any:
        headers.begin(request, self._settings)
        ensureHost(request)
        try:
            request.below = b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            return answers.failure(request, NotFound("There is nothing here: URLs are UTF-8."))
        request.postpath = [b""]
        return self._klein.render(request)


class _Jobs:
    """
    The routes of one service.

    Every route takes all methods, with and without a slash at its end: a redirect from one
    to the other would turn a POST into a GET (A-80).

    Klein is given none of the path to look at: its routes would redirect where there are two
    slashes, and take their time for what one C{split} does.
    """

    app = Klein()

    def __init__(self, uws: UWS, settings: WebSettings) -> None:
        self.uws = uws
        self.settings = settings
        self.admission = Admission(settings, self._base)
        self.actions: JobActions = uws.jobActions or JobActions()
        self.fileNames, self.documents = filesAmong(uws.jobClass)
        vosi = VOSI(uws, self._base, settings.access.securityMethods)
        self.children: dict[str, Callable[..., Any]] = {
            "async": self.jobs,
            "sync": Sync(uws, settings, self._base, self._newJobToRun, self._jobFor).answer,
            "shared": Shared(uws, settings, self._base, self.actions, self._read, self.job).answer,
            "capabilities": vosi.capabilities,
            "availability": vosi.availability,
        }
        if settings.access.login is not None:
            self.children["login"] = Login(settings.access.login, uws.workDirs).answer

    @app.route("/")
    async def everything(self, request: Any) -> Any:
        """Find out who asks, and who answers."""
        if headers.isPreflight(request):
            return headers.answerPreflight(request)
        name, *segments = request.below.rstrip("/").split("/")
        if name not in self.children:
            known = ", ".join(self.children)
            raise NotFound(f"There is no {name!r} here; there are {known}.")
        try:
            await self.admission.admit(request, name, segments)
            return await self.children[name](request, *segments)
        finally:
            discard(request)

    def _base(self, request: Any) -> str:
        return resourceURL(request, self.settings)

    def _jobListURL(self, request: Any) -> str:
        return self._base(request) + "/async"

    async def _read(self, request: Any, isToCreate: bool = False) -> Controls:
        """
        Read the arguments; what UWS itself takes of them is returned.

        @param isToCreate: the request makes a job, even if it is a GET.
        """
        await readArguments(
            request,
            uploads=self.uws.workDirs,
            fileNames=self.fileNames,
            documents=self.documents,
            maximumBody=self.settings.maximumBody,
            limits=self.settings.limits,
        )
        if request.method in (b"GET", b"HEAD") and not isToCreate:  # there PHASE is a filter
            return NO_CONTROLS
        keys = headers.allOf(request, IDEMPOTENCY_KEY) if isToCreate else ()
        controls = takeControls(request.args, keys)
        request.files = referenced(request.args, request.files, self.fileNames)
        await checkDocuments(request.files, self.documents)
        return controls

    async def jobs(self, request: Any, *segments: str) -> Any:
        """C{async}, and what is below it (2.2.1)."""
        if segments:
            return await self._ofJob(request, segments[0], segments[1:])
        handlers: dict[str, Callable[..., Any]] = {"GET": self.list, "POST": self.create}
        return await choose(handlers, methodOf(request))(request)

    # The job list

    async def list(self, request: Any) -> bytes:
        """The job list, as long as it is (2.2.2.1): written as it is read."""
        await self._read(request)
        filters = readListFilters(request.args)
        request.setHeader("content-type", answers.xmlType(request))
        url = self._jobListURL(request)
        owner, anyOwner, mayList = self.admission.listed(request)
        if not mayList:
            filters = replace(filters, last=0)
        pages = self.uws.pagesOfJobs(filters, owner, anyOwner, pageSize=PAGE)
        nothing: list[JobRef] = []
        first = await anext(pages, nothing)  # before anything is written: it may still fail
        if request.method == b"HEAD":
            return b""
        paced = Paced(request, self.uws.database.reactor, mayCompress=len(first) >= LONG_LIST)
        try:
            await paced.write(jobListStart(self.uws.joblistPreamble))
            await self._writePage(paced, first, url)
            async for page in pages:
                await self._writePage(paced, page, url)
            await paced.write(jobListEnd())
            paced.end()
        except CancelledError:  # the client has gone
            raise
        except Exception as e:  # half of a list must not look like a whole one
            log.warn("a list broke off: {e}", e=e)
            paced.abort()
        finally:
            paced.finish()
        return b""

    async def _writePage(self, paced: Paced, page: Sequence[JobRef], url: str) -> None:
        for begin in range(0, len(page), PIECE):
            piece = page[begin : begin + PIECE]
            refs = (jobRef(ref, self.uws.getURLForId(ref.jobId, url)) for ref in piece)
            await paced.write(b"".join(refs))

    async def create(self, request: Any) -> bytes:
        """Make a job, and run it if the request says so (2.2.3.1, A-06)."""
        controls = await self._read(request, isToCreate=True)
        jobId = await self._newJob(request, controls, controls.phase == "RUN")
        url = self.uws.getURLForId(jobId, self._jobListURL(request))
        return answers.seeOther(request, url)

    async def _newJobToRun(self, request: Any) -> str:
        """Make a job and run it, whatever the method; its id."""
        controls = await self._read(request, isToCreate=True)
        return await self._newJob(request, controls, True, isListed=self.settings.syncListed)

    async def _newJob(
        self, request: Any, controls: Controls, isToRun: bool, isListed: bool = True
    ) -> str:
        if controls.phase == "ABORT":
            raise BadRequest("PHASE: a job can be created with PHASE=RUN, or without")
        if controls.action is not None:
            raise BadRequest("ACTION: there is nothing to act upon in the job list")
        properties: dict[str, Any] = {
            "runId": controls.runId,
            "executionDuration": controls.executionDuration,
            "owner": identityOf(request).name,
            "isListed": isListed,
            "who": askerOf(request),
            "client": clientOf(request, self.settings),
            "idempotencyKey": controls.idempotencyKey,
        }
        if not isinstance(controls.destruction, Unset):
            properties["destruction"] = controls.destruction
        made = await self.uws.getNewIdFromRequest(request, isToRun, **properties)
        request.madeJob = made  # for the records
        return made

    # Jobs

    async def _jobFor(self, request: Any, jobId: str) -> UWSJob:
        """
        The job, if who asks may see it.

        @raise JobNotFound: if there is none.
        """
        job = await self.uws.getJob(jobId)
        self.admission.checkJob(request, job)
        return job

    async def _ofJob(self, request: Any, jobId: str, segments: tuple[str, ...]) -> Any:
        action = self.actions[segments[0]] if segments else None
        asked = Asked(
            uws=self.uws,
            jobId=jobId,
            request=request,
            controls=NO_CONTROLS,
            settings=self.settings,
            segments=segments[1:],
            found=await self._jobFor(request, jobId),  # a 404 comes first (D-043)
        )
        handlers = {"GET": self.job, "POST": self.change, "DELETE": self.destroy}
        try:
            handler = choose(
                action.handlers(asked.segments) if action else handlers, methodOf(request)
            )
            controls = await self._read(request)
            if controls is not NO_CONTROLS:
                asked = replace(asked, controls=controls)
            if action and action.isForAdministrators:
                self.admission.checkAdministrator(request)
            else:
                self.admission.checkAct(request, asked.found, asked.controls)
            return await handler(asked)
        except (BadRequest, NotAllowed, NotAcceptable, UnsupportedMediaType):
            if action:
                await action.find(asked)
            raise

    async def job(self, asked: Asked) -> bytes:
        """The job, at once or after a WAIT (2.2.1.2); HEAD never waits (A-84)."""
        answers.xmlType(asked.request)  # before waiting for what nobody wants
        wait = readWait(asked.request.args)
        if wait is None or asked.request.method == b"HEAD":
            job = await asked.job()
        else:
            with held(asked.request, self.settings):
                job = await self.uws.wait(asked.jobId, wait.seconds, wait.phases)
            if job.phase is SUSPENDED:  # which goes on by itself, and is not waited for
                asked.request.setHeader("retry-after", str(Unavailable.retryAfter))
        job = await self.uws.quoted(job)
        content = jobDocument(job, asked.jobURL, self.uws.jobdocPreamble)
        return answers.document(asked.request, content)

    async def change(self, asked: Asked) -> bytes:
        """ACTION=DELETE (2.2.3.2), and as a courtesy PHASE and parameters (A-07)."""
        if asked.controls.action == "DELETE":
            return await self.destroy(asked)
        isGiven = asked.request.args or asked.request.files
        if isGiven and not self.settings.parametersAtJob:  # D-013
            raise Forbidden(f"Parameters of a job are sent to {asked.jobURL}/parameters.")
        await asked.update()
        return asked.toJob()

    async def destroy(self, asked: Asked) -> bytes:
        """Destroy the job; the way leads to the job list (2.2.3.2, A-72)."""
        await self.uws.destroy(asked.jobId, askerOf(asked.request))
        return answers.seeOther(asked.request, asked.jobListURL)

    # What goes wrong

    @app.handle_errors(UWSError)
    def refused(self, request: Any, failure: Failure) -> bytes:
        """The one place where errors become HTTP."""
        error = cast(UWSError, failure.value)
        self.admission.refused(request, error)
        return answers.failure(request, error)

    @app.handle_errors(CancelledError)
    def gone(self, request: Any, failure: Failure) -> bytes:
        """The client has hung up; there is nobody to answer."""
        return b""

    @app.handle_errors(Exception)
    def broken(self, request: Any, failure: Failure) -> bytes:
        """A mistake of ours: the log has it, the client gets its number."""
        number = uuid4().hex[:8]
        log.failure("{number}: {method} {uri}", failure, number=number,
                    method=request.method, uri=toldURI(request.uri))  # fmt: skip
        message = f"The service made a mistake. Its log has the details under {number}."
        return answers.failure(request, UWSError(message))
