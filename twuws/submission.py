"""
Uploaded files on their way into a job's directory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twuws.errors import BadRequest, TooLarge
from twuws.values import FileValue, Value
from twuws.workdir import WorkDir

#: How many files of one job can be elsewhere.
MOST_SOURCES = 100


@dataclass(frozen=True, kw_only=True)
class Upload:
    """
    A file that came with a request and waits in a temporary place, or is still elsewhere.

    @ivar path: where it waits; C{None} if it is elsewhere.
    @ivar part: what the client calls the part of the form that it was, or what is elsewhere.
    @ivar fileName: what the client calls the file; never used as a path.
    @ivar label: the name before the comma of DALI's C{UPLOAD=label,param:part}.
    @ivar source: the URI where it is, of C{UPLOAD=label,URI}.
    """

    path: Path | None = None
    part: str
    mediaType: str = "application/octet-stream"
    size: int = 0
    fileName: str | None = None
    label: str | None = None
    source: str | None = None


class FilesToAdopt:
    """
    The files of one request, and what they will be called in a job's directory.

    Making it turns the L{Upload}s in C{request.files} into the L{FileValue}s that
    parameters can have.  Nothing is moved before L{adopt}, so that a request that is refused
    changes nothing, nor is a file of the job replaced: a new one gets a name of its own.

    @param declared: names of parameters: below C{parameters/} in URLs, these are theirs, and no
        file of another parameter is called so.
    @param values: what the job has already; its files may have yet to be loaded.
    @param maySources: whether files may be elsewhere.
    @raise BadRequest: for files that are elsewhere, where that may not be, or too many.
    """

    def __init__(
        self,
        workDir: WorkDir,
        request: Any,
        declared: Collection[str] = (),
        values: Mapping[str, tuple[Value, ...]] = MappingProxyType({}),
        maySources: bool = True,
    ) -> None:
        self._workDir = workDir
        self._declared = {name.lower() for name in declared}
        self._maySources = maySources
        self._taken = files(values)
        self._sources: dict[str, Path] = {}
        self._elsewhere = sum(1 for one in _fileValues(values) if one.source is not None)
        request.files = {
            name: [self._named(name, upload) for upload in uploads]
            for name, uploads in getattr(request, "files", {}).items()
        }

    def _named(self, parameter: str, upload: Upload) -> FileValue:
        if upload.source is not None:
            self._checkSource(upload.label or parameter)
        known = [file for file, path in self._sources.items() if path == upload.path]
        if known:  # several parameters refer to one part
            file = known[0]
        else:
            wanted = upload.part if upload.label else parameter
            if upload.label and wanted.lower() in self._declared:
                wanted += "-upload"
            file = self._workDir.freeName(wanted, self._taken)
            self._taken.add(file)
            if upload.path is not None:
                self._sources[file] = upload.path
        return FileValue(
            file=file,
            mediaType=upload.mediaType,
            size=upload.size,
            fileName=upload.fileName,
            label=upload.label,
            source=upload.source,
        )

    def _checkSource(self, name: str) -> None:
        if not self._maySources:
            raise BadRequest(
                f"{name}: this service does not load from URLs; send the file as a part of the"
                f" request, and UPLOAD={name},param:PART"
            )
        self._elsewhere += 1
        if self._elsewhere > MOST_SOURCES:
            raise TooLarge(f"{name}: a job can have {MOST_SOURCES} files to be loaded from URLs")

    def __bool__(self) -> bool:
        """Whether there are any that have come with the request."""
        return bool(self._sources)

    def adopt(self, parameters: Mapping[str, tuple[Value, ...]]) -> None:
        """Move those files that are values of parameters by now; blocks."""
        for file in files(parameters) & set(self._sources):
            self._workDir.adopt(self._sources[file], file)

    def dropReplaced(
        self,
        before: Mapping[str, tuple[Value, ...]],
        after: Mapping[str, tuple[Value, ...]],
    ) -> None:
        """Remove the files that were values and are no longer; blocks."""
        self._workDir.dropParameters(files(before) - files(after))


def checkAmount(
    parameters: Mapping[str, tuple[Value, ...]], mostValues: int, mostText: int
) -> None:
    """
    See that a job has no more than it can have: all of it is read whenever somebody looks.

    @param mostValues: how many values, of all parameters together.
    @param mostText: how much text these may be, in bytes.
    @raise TooLarge: if it has.
    """
    values = [value for several in parameters.values() for value in several]
    if len(values) > mostValues:
        raise TooLarge(
            f"The job would have {len(values)} values; it can have {mostValues}"
            " (limits.parameters)."
        )
    texts = (value for value in values if isinstance(value, str))
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    if size > mostText:
        raise TooLarge(
            f"The job would have {size} bytes of text in its parameters; it can have {mostText}"
            " (limits.text-size): send what is long as files."
        )


def files(parameters: Mapping[str, tuple[Value, ...]]) -> set[str]:
    """The names of the files that are values of these parameters."""
    return {value.file for value in _fileValues(parameters)}


def _fileValues(parameters: Mapping[str, tuple[Value, ...]]) -> Iterator[FileValue]:
    several: Iterable[tuple[Value, ...]] = parameters.values()
    return (value for values in several for value in values if isinstance(value, FileValue))
