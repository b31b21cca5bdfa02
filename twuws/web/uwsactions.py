"""
The children of a job: one L{JobAction} each (2.2.1).

To add one of your own, derive from L{JobAction} and give it to L{JobActions}; one with the
name of a standard one takes its place::

    class Log(JobAction):
        name = "log"

        async def doGET(self, asked):
            return asked.text("…")

    UWS(Cutout, JobActions(Log()), …)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from twuws.documents import parametersDocument, resultsDocument
from twuws.errors import BadRequest, NotAllowed, NotFound
from twuws.jobs import CONTROL_NAMES, Result, UWSJob
from twuws.parameters import Document, File
from twuws.phases import FINAL
from twuws.times import formatInstant
from twuws.uws import UWS
from twuws.uwschanging import Unset
from twuws.values import FileValue
from twuws.web import answers
from twuws.web.controls import Controls, takeControls
from twuws.web.identifying import askerOf
from twuws.web.origin import resourceURL
from twuws.web.requests import readValue, referenced
from twuws.web.settings import WebSettings
from twuws.web.xmlbodies import checkDocuments

METHODS = ("GET", "POST", "PUT", "DELETE")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    A request for a job or something below it, with its arguments read.

    @ivar request: Twisted's, with C{args} and C{files} in nevow style.
    @ivar controls: the control parameters, which C{args} does not have any more.
    @ivar segments: what follows the child's name in the URL.
    @ivar settings: of the L{UWSResource} that was asked.
    @ivar found: the job as it was when the request came, which its asker may see.
    """

    uws: UWS
    jobId: str
    request: Any
    controls: Controls
    settings: WebSettings = field(default_factory=WebSettings)
    segments: tuple[str, ...] = field(default=())
    found: UWSJob

    @property
    def jobListURL(self) -> str:
        """The job list's URL, as the client knows it."""
        return resourceURL(self.request, self.settings) + "/async"

    @property
    def jobURL(self) -> str:
        """The job's URL."""
        return self.uws.getURLForId(self.jobId, self.jobListURL)

    async def job(self) -> UWSJob:
        """
        The job: for who only looks, as it was when the request came.

        @raise JobNotFound: if it has been destroyed since.
        """
        if self.request.method in (b"GET", b"HEAD"):
            return self.found
        return await self.uws.getJob(self.jobId)

    def text(self, content: str) -> bytes:
        """Answer with a plain text."""
        return answers.text(self.request, content)

    def toJob(self) -> bytes:
        """Answer with the way to the job (2.2.3)."""
        return answers.seeOther(self.request, self.jobURL)

    async def update(self) -> None:
        """
        Do what the request says of the job: its properties, its parameters and its phase.
        """
        given = self.request.args or self.request.files
        await self._update(self.request if given else None)

    async def updateProperties(self) -> None:
        """The same without its parameters, which are for other resources."""
        await self._update(None)

    async def _update(self, request: Any) -> None:
        controls = self.controls
        await self.uws.update(
            self.jobId,
            request,
            runId=controls.runId,
            executionDuration=controls.executionDuration,
            destruction=controls.destruction,
            phase=controls.phase,
            who=askerOf(self.request),
        )


def filesAmong(jobClass: type[UWSJob]) -> tuple[list[str], list[str]]:
    """The names of the parameters that are files, and of those among them that are documents."""
    files = {name: kind for name, kind in jobClass.declarations.items() if isinstance(kind, File)}
    return list(files), [name for name, kind in files.items() if isinstance(kind, Document)]


class JobAction:
    """
    One child of a job.

    Define C{async def doGET(self, asked)}, C{doPOST}, C{doPUT} and C{doDELETE} as far as it
    has them; other methods are answered with 405, HEAD and OPTIONS by themselves.  They
    return bytes, or a resource to be rendered; C{asked} is an L{Asked}.

    @cvar name: the name in the URL.
    @cvar hasChildren: whether it serves what lies below it.
    @cvar isForAdministrators: whether all but looking is for them, whosever the job is; else it
        is for its owner.
    """

    name: str = ""
    hasChildren: bool = False
    isForAdministrators: bool = False

    async def find(self, asked: Asked) -> None:
        """
        Raise L{NotFound} if the job is not there, or what was asked for below it: asked
        before a request is refused for any other reason (D-043).
        """

    def handlers(self, segments: tuple[str, ...]) -> dict[str, Any]:
        """
        The handlers by method, for what is at C{segments} below it.

        @raise NotFound: if there can be nothing.
        """
        if segments and not self.hasChildren:
            raise NotFound
        found = {name: getattr(self, "do" + name, None) for name in METHODS}
        return {name: handler for name, handler in found.items() if handler is not None}


def methodOf(request: Any) -> str:
    """The method that a request wants."""
    return str(request.method.decode("ascii", "replace"))


def choose(handlers: dict[str, Any], method: str) -> Any:
    """
    The handler for a method; HEAD is GET without what it writes.

    @raise NotAllowed: if there is none, as for OPTIONS, whose answer it is (A-84).
    """
    handler = handlers.get("GET" if method == "HEAD" else method)
    if handler is None:
        raise NotAllowed(method, [*handlers, *(["HEAD"] if "GET" in handlers else []), "OPTIONS"])
    return handler


class PhaseAction(JobAction):
    """The phase; POST runs and aborts (2.2.3.5, 2.2.3.6)."""

    name = "phase"

    async def doGET(self, asked: Asked) -> Any:
        return asked.text((await asked.job()).phase)

    async def doPOST(self, asked: Asked) -> Any:
        if asked.controls.phase is None:
            raise BadRequest("PHASE: it is missing; send PHASE=RUN or PHASE=ABORT")
        await asked.updateProperties()
        return asked.toJob()


class ExecutionDurationAction(JobAction):
    """How long the job may run, in seconds (2.2.3.4)."""

    name = "executionduration"

    async def doGET(self, asked: Asked) -> Any:
        return asked.text(str((await asked.job()).executionDuration))

    async def doPOST(self, asked: Asked) -> Any:
        if asked.controls.executionDuration is None:
            raise BadRequest("EXECUTIONDURATION: it is missing; send a number of seconds")
        await asked.updateProperties()
        return asked.toJob()


class DestructionAction(JobAction):
    """When the job is destroyed (2.2.3.3)."""

    name = "destruction"

    async def doGET(self, asked: Asked) -> Any:
        destruction = (await asked.job()).destruction
        return asked.text(formatInstant(destruction) if destruction else "")

    async def doPOST(self, asked: Asked) -> Any:
        if isinstance(asked.controls.destruction, Unset):
            raise BadRequest("DESTRUCTION: it is missing; send an instant in UTC")
        await asked.updateProperties()
        return asked.toJob()


class QuoteAction(JobAction):
    """When the job will probably be complete; empty if nobody knows (2.1.6)."""

    name = "quote"

    async def doGET(self, asked: Asked) -> Any:
        quote = (await asked.uws.quoted(await asked.job())).quote
        return asked.text(formatInstant(quote) if quote else "")


class OwnerAction(JobAction):
    """Who created the job; empty if nobody was authenticated (A-74)."""

    name = "owner"

    async def doGET(self, asked: Asked) -> Any:
        return asked.text((await asked.job()).owner or "")


class ErrorAction(JobAction):
    """Why the job failed, at length (D-046); 404 if it has not (A-73)."""

    name = "error"

    async def doGET(self, asked: Asked) -> Any:
        error = (await asked.job()).error
        if error is None:
            raise NotFound("This job has no error.")
        detail = answers.detailOf(error, asked.settings)
        return answers.explanation(asked.request, error.message, detail)


class ParametersAction(JobAction):
    """All parameters, and each by its name (2.2.2.4, A-24)."""

    name = "parameters"
    hasChildren = True

    def handlers(self, segments: tuple[str, ...]) -> dict[str, Any]:
        """One parameter can be PUT, all together be POSTed to (2.2.3, A-23)."""
        other = {"PUT": self.doPUT} if segments else {"POST": self.doPOST}
        return {"GET": self.doGET, **other}

    async def doGET(self, asked: Asked) -> Any:
        job = await asked.job()
        if not asked.segments:
            content = parametersDocument(job, asked.jobURL, asked.uws.jobdocPreamble)
            return answers.document(asked.request, content)
        name = "/".join(asked.segments)
        values = _named(job, name)
        files = [value for value in values if isinstance(value, FileValue)]
        if files:
            path = asked.uws.workDirs.forJob(job.jobId).parameters / files[0].file
            if files[0].source is not None and not path.exists():
                return answers.seeOther(asked.request, files[0].source)
            what = f"The file {files[0].file} that was uploaded"
            return answers.file(asked.request, path, files[0].mediaType, what)
        if not values:
            raise NotFound(f"This job has no parameter {name!r}.")
        return asked.text("\n".join(str(value) for value in values))

    async def doPOST(self, asked: Asked) -> Any:
        await asked.update()
        return asked.toJob()

    async def doPUT(self, asked: Asked) -> Any:
        """The body is the value, as it is (A-23)."""
        request, name = asked.request, "/".join(asked.segments)
        fileNames, documents = filesAmong(asked.uws.jobClass)
        await readValue(
            request,
            name,
            uploads=asked.uws.workDirs,
            fileNames=fileNames,
            textNames={*asked.uws.jobClass.declarations, *CONTROL_NAMES} - {*fileNames},
            limits=asked.settings.limits,
        )
        if name.lower() in CONTROL_NAMES - {"runid", "upload"}:
            raise BadRequest(f"{name}: this is no parameter of a job")
        controls = takeControls(request.args)
        request.files = referenced(request.args, request.files, [*request.files, *fileNames])
        await checkDocuments(request.files, documents)
        await replace(asked, controls=controls).update()
        return asked.toJob()


def _named(job: UWSJob, name: str) -> list[Any]:
    """The values of a parameter, or the file that is called so."""
    known = {spelling.lower(): values for spelling, values in job.parameters.items()}
    if name.lower() in known:
        return list(known[name.lower()])
    every = [value for values in known.values() for value in values]
    return [value for value in every if isinstance(value, FileValue) and value.file == name]


class ResultsAction(JobAction):
    """The list of results, and each by its id (2.2.2.3)."""

    name = "results"
    hasChildren = True

    async def doGET(self, asked: Asked) -> Any:
        job = await asked.job()
        if not asked.segments:
            content = resultsDocument(job, asked.jobURL, asked.uws.jobdocPreamble)
            return answers.document(asked.request, content)
        result = self._resultOf(job, asked)
        if result.file is None:
            return answers.seeOther(asked.request, result.href or "")
        path = asked.uws.workDirs.forJob(job.jobId).resultPath(result.file)
        what = f"The result {result.id!r} of this job"
        size = result.size if job.phase in FINAL else None  # it may still be written
        return answers.file(asked.request, path, result.mediaType, what, size)

    async def find(self, asked: Asked) -> None:
        job = await asked.job()
        if asked.segments:
            self._resultOf(job, asked)

    def _resultOf(self, job: UWSJob, asked: Asked) -> Result:
        id = "/".join(asked.segments)
        for result in job.results:
            if result.id == id and (result.file or result.href):
                return result
        why = f": {job.error.message}" if job.error else "."
        raise NotFound(f"This job is {job.phase}, and has no result {id!r}{why}")


class OutputAction(JobAction):
    """What the work printed, also while it goes on; not part of the standard."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def doGET(self, asked: Asked) -> Any:
        job = await asked.job()
        directory = asked.uws.workDirs.forJob(job.jobId)
        path = directory.stdout if self.name == "stdout" else directory.stderr
        if not path.exists():
            raise NotFound(f"This job has no {self.name}.")
        return answers.file(asked.request, path, answers.TEXT)


class JobActions:
    """
    The children of a job, by name: the standard ones, and what is given.
    """

    def __init__(self, *more: JobAction) -> None:
        from twuws.web.holding import HoldAction  # these derive from what is above
        from twuws.web.shared import ShareAction

        standard = [
            PhaseAction(),
            ExecutionDurationAction(),
            DestructionAction(),
            QuoteAction(),
            OwnerAction(),
            ErrorAction(),
            ParametersAction(),
            ResultsAction(),
            OutputAction("stdout"),
            OutputAction("stderr"),
            ShareAction(),
            HoldAction(),
        ]
        self._byName = {action.name: action for action in [*standard, *more]}

    def __iter__(self) -> Iterator[JobAction]:
        return iter(self._byName.values())

    def __getitem__(self, name: str) -> JobAction:
        """The action of that name; raise L{NotFound} if there is none."""
        if name not in self._byName:
            known = ", ".join(sorted(self._byName))
            raise NotFound(f"A job has no {name!r}; it has {known}.")
        return self._byName[name]
