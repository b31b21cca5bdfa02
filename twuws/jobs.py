"""
Jobs: their properties as a frozen record, and the class that users derive from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import IO, Any, ClassVar

from twuws.errors import Forbidden, NotPending, ParameterError
from twuws.parameters import Parameter
from twuws.phases import PENDING, Phase
from twuws.records import JobError as JobError
from twuws.records import JobRecord as JobRecord
from twuws.records import JobRef as JobRef
from twuws.records import Outcome as Outcome
from twuws.records import Result as Result
from twuws.values import FileValue, Value
from twuws.workplace import WorkPlace

#: Names that UWS and DALI give a meaning of their own; no job parameter may have them.
CONTROL_NAMES = frozenset(
    {"phase", "action", "wait", "runid", "executionduration", "destruction", "upload",
     "idempotency-key"}
)  # fmt: skip


def _property(name: str, doc: str) -> Any:
    """A property of L{UWSJob} that reads, and where allowed replaces, its record's field."""

    def read(job: UWSJob) -> Any:
        return getattr(job.record, name)

    def write(job: UWSJob, value: Any) -> None:
        job.change(**{name: value})

    return property(read, write, doc=doc)


class UWSJob:
    """
    A job class: derive from it, declare parameters, define C{run}.

    An C{async def run(self)} runs in the reactor, a plain one in a process of its own.
    What it raises ends the job in ERROR; raise L{twuws.errors.JobFailure} to say why.

    As the service hands it out, an instance shows one job.  It can be changed inside
    C{changeableJob} only, and what it says was true when it was read.

    @cvar declarations: the declared parameters by name.
    @cvar restartable: whether the work may be started again if it was lost.
    @cvar maxAttempts: how often the work of such a job is started at most.
    @cvar priority: jobs of a higher priority are started first, whoever owns them.
    @cvar valuesAreCheckedAtRun: take any values, and see at RUN whether the declarations
        do; what is wrong ends the job in ERROR then (A-20).
    @cvar costDependsOn: the names of the parameters that say how long the work takes: numbers,
        files by their size, and others by being the same; for quotes.
    @cvar importedOnce: whether a plain C{run} may be called in a fork of a process that has
        imported the class for an earlier job, which saves starting a Python for each.
    @cvar title: for people; the first line of the docstring if not given.
    """

    declarations: ClassVar[Mapping[str, Parameter[Any]]] = MappingProxyType({})
    restartable: ClassVar[bool] = False
    maxAttempts: ClassVar[int] = 3
    priority: ClassVar[int] = 0
    valuesAreCheckedAtRun: ClassVar[bool] = False
    costDependsOn: ClassVar[Sequence[str]] = ()
    importedOnce: ClassVar[bool] = True
    title: ClassVar[str] = ""

    jobId: str = _property("jobId", "The job's id, unique in the installation.")
    owner: str | None = _property("owner", "Who created it; None if nobody was authenticated.")
    runId: str | None = _property("runId", "What the client calls it.")
    phase: Phase = _property("phase", "The phase, to be changed through the facade.")
    quote: datetime | None = _property("quote", "When it will probably be complete.")
    creationTime: datetime = _property("creationTime", "When it was created.")
    startTime: datetime | None = _property("startTime", "When its work began.")
    endTime: datetime | None = _property("endTime", "When its work ended.")
    executionDuration: int = _property("executionDuration", "How long it may run, in s; 0: ever.")
    destruction: datetime | None = _property("destruction", "When it is to be destroyed.")
    parameters: Mapping[str, tuple[Value, ...]] = _property("parameters", "Values, as stored.")
    results: tuple[Result, ...] = _property("results", "What there is by now.")
    error: JobError | None = _property("error", "Why it failed.")
    jobInfo: Mapping[str, Any] = _property("jobInfo", "Anything else that the document shows.")
    attempt: int = _property("attempt", "How often its work has been started.")
    isListed: bool = _property("isListed", "Whether the job list over HTTP has it.")

    #: What may be assigned to inside C{changeableJob}; the rest has rules on the facade.
    CHANGEABLE: ClassVar = frozenset(
        {"runId", "quote", "executionDuration", "destruction", "parameters", "results", "error",
         "jobInfo", "owner"}
    )  # fmt: skip

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        found: dict[str, Parameter[Any]] = {}
        for base in reversed(cls.__mro__):
            found.update((k, v) for k, v in vars(base).items() if isinstance(v, Parameter))
        byLowerCase = [name.lower() for name in found]
        for name in found:
            if name.lower() in CONTROL_NAMES:
                raise TypeError(f"{cls.__name__}.{name}: UWS gives this name another meaning")
            if byLowerCase.count(name.lower()) > 1:
                raise TypeError(f"{cls.__name__}.{name}: names differ in more than case")
            if hasattr(UWSJob, name) or name in ("record", "isChangeable", "workPlace"):
                raise TypeError(f"{cls.__name__}.{name}: this name is one of UWSJob itself")
        for name in cls.costDependsOn:
            if name not in found:
                raise TypeError(f"{cls.__name__}.costDependsOn: there is no parameter {name!r}")
        cls.declarations = MappingProxyType(found)
        if "title" not in vars(cls):
            cls.title = (cls.__doc__ or cls.__name__).strip().split("\n")[0]

    def __init__(
        self, record: JobRecord, *, changeable: bool = False, workPlace: WorkPlace | None = None
    ) -> None:
        self.record = record
        self.isChangeable = changeable
        self.workPlace = workPlace

    def change(self, **fields: Any) -> None:
        """
        Replace fields of the record.

        @raise Forbidden: outside C{changeableJob}, or for a field that is not to be
            changed this way.
        """
        for name in fields:
            if not self.isChangeable:
                raise Forbidden(f"{name} of a job can be changed in changeableJob only")
            if name not in self.CHANGEABLE:
                raise Forbidden(f"{name} of a job cannot be assigned to")
        self.record = replace(self.record, **fields)

    # Parameters

    @classmethod
    def canonicalName(cls, name: str) -> str:
        """The declared spelling of a parameter's name; names are case-insensitive (D-020)."""
        lowered = name.lower()
        return next((known for known in cls.declarations if known.lower() == lowered), name)

    def getParameter(self, declared: Parameter[Any]) -> Any:
        """The parsed value of a declared parameter, or its default."""
        stored = self.parameters.get(declared.name, ())
        values = [self._parsed(declared, one) for one in stored]
        if declared.multiple:
            return values or ([] if declared.default is None else [declared.default])
        return values[0] if values else declared.default

    def _parsed(self, declared: Parameter[Any], stored: Value) -> Any:
        if isinstance(stored, FileValue):
            return self.workPlace.parameterPath(stored.file) if self.workPlace else stored
        return declared.value(stored)

    def assignParameter(self, name: str, value: Any) -> None:
        """Set a parameter, declared or not, from a Python value, or from a list of such."""
        declared = self.declarations.get(self.canonicalName(name))
        if declared is not None:
            declared.__set__(self, value)
        else:
            several = value if isinstance(value, list | tuple) else [value]
            self.setParameter(name, [v if isinstance(v, FileValue) else str(v) for v in several])

    def setParameter(self, name: str, values: Iterable[Value]) -> None:
        """Give one parameter its values, and leave all others alone; see L{setParameters}."""
        self.setParameters([(name, values)])

    def setParameters(
        self, given: Iterable[tuple[str, Iterable[Value]]], accumulate: bool = False
    ) -> None:
        """
        Give parameters their values, all or none of them, and leave all others alone.

        Undeclared names are kept as they are sent, for DALI (T-003) lets nobody refuse them.

        @param given: names and values: text or files; no values unset the parameter.
        @param accumulate: add to the values of those that can have several (A-21).
        @raise ParameterError: if a declaration refuses a value; nothing is changed then.
        @raise NotPending: unless the job is PENDING (D-014).
        """
        if self.phase != PENDING:
            raise NotPending(f"Parameters can be set while a job is PENDING; it is {self.phase}.")
        parameters = dict(self.parameters)
        spelling = {name.lower(): name for name in [*parameters, *self.declarations]}
        for name, values in given:
            name = spelling.setdefault(name.lower(), name)
            declared = self.declarations.get(name)
            accepted = tuple(values)
            isMultiple = declared.multiple if declared else name.lower() == "upload"
            if accumulate and isMultiple:
                accepted = (*parameters.get(name, ()), *accepted)
            elif accumulate and declared is None:
                accepted = accepted[-1:]  # only what is declared to can be there twice
            _checkLabels(accepted)
            if declared is not None and not self.valuesAreCheckedAtRun:
                accepted = declared.acceptAll(accepted)
            if accepted:
                parameters[name] = accepted
            else:
                parameters.pop(name, None)
        self.change(parameters=parameters)

    @classmethod
    def costOf(cls, parameters: Mapping[str, tuple[Value, ...]]) -> tuple[float | str | None, ...]:
        """What C{costDependsOn} names, for L{twuws.runtimes}; parameters are as stored."""
        return tuple(cls.declarations[k].cost(parameters.get(k, ())) for k in cls.costDependsOn)

    def missing(self) -> list[str]:
        """The names of required parameters that have no value."""
        return [
            name
            for name, declared in self.declarations.items()
            if declared.required and declared.default is None and not self.parameters.get(name)
        ]

    def checkComplete(self) -> None:
        """
        Raise L{ParameterError} unless the job can run with the parameters that it has.

        Called at RUN, which then ends in ERROR with that message.  Override it for what
        no single declaration can say, and call this one first.
        """
        for name in self.missing():
            wanted = self.declarations[name].wanted()
            raise ParameterError(name, f"it is required, but was not given; it is {wanted}")
        if self.valuesAreCheckedAtRun:
            for name, declared in self.declarations.items():
                declared.acceptAll(self.parameters.get(name, ()))

    # For subclasses to override

    def setParamsFromRequest(self, request: Any) -> None:
        """
        Take the parameters from a request: all of C{request.args}, then C{request.files}.

        @param request: C{args} maps names to lists of text, C{files} to lists of
            L{FileValue}; the names that UWS uses itself are in neither.
        """
        files = getattr(request, "files", {})
        isPut = getattr(request, "method", None) == b"PUT"  # then it is the value, whole
        self.setParameters([*request.args.items(), *files.items()], accumulate=not isPut)

    def prepareForDestruction(self) -> Any:
        """
        Called while the job is changeable, before it is destroyed; may return a Deferred.
        """

    # For run()

    def openResult(
        self, id: str, mediaType: str, fileName: str | None = None
    ) -> AbstractContextManager[IO[bytes]]:
        """
        A binary file to write a result to; it is a result of the job when it is closed.

        @param id: the result's id, unique within the job.
        @param fileName: what the file is called; the id if not given.
        """
        return self._place().openResult(id, mediaType, fileName)

    def reportProgress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Tell those who look at the job how far it is: 0 to 1, and a sentence."""
        self._place().reportProgress(fraction, message)

    def _place(self) -> WorkPlace:
        if self.workPlace is None:
            raise Forbidden("only work that runs can do this")
        return self.workPlace


def _checkLabels(values: Iterable[Value]) -> None:
    """See that uploads have labels of their own (D-032), also if they come one by one."""
    labels = [one.label for one in values if isinstance(one, FileValue) and one.label]
    known: set[str] = set()
    for label in labels:
        if label.lower() in known:
            raise ParameterError("UPLOAD", f"the label {label} is there already")
        known.add(label.lower())
