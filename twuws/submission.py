"""
Uploaded files on their way into a job's directory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twuws.values import FileValue, Value
from twuws.workdir import WorkDir


@dataclass(frozen=True, kw_only=True)
class Upload:
    """
    A file that came with a request, waiting in a temporary place.

    @ivar path: where it waits.
    @ivar part: what the client calls the part of the form that it was.
    @ivar fileName: what the client calls the file; never used as a path.
    @ivar label: the name before the comma of DALI's C{UPLOAD=label,param:part}.
    """

    path: Path
    part: str
    mediaType: str = "application/octet-stream"
    size: int = 0
    fileName: str | None = None
    label: str | None = None


class FilesToAdopt:
    """
    The files of one request, and what they will be called in a job's directory.

    Making it turns the L{Upload}s in C{request.files} into the L{FileValue}s that
    parameters can have.  Nothing is moved before L{adopt}, so that a request that is refused
    changes nothing, nor is a file of the job replaced: a new one gets a name of its own.

    @param declared: names of parameters: below C{parameters/} in URLs, these are theirs, and no
        file of another parameter is called so.
    """

    def __init__(self, workDir: WorkDir, request: Any, declared: Collection[str] = ()) -> None:
        self._workDir = workDir
        self._declared = {name.lower() for name in declared}
        self._sources: dict[str, Path] = {}
        request.files = {
            name: [self._named(name, upload) for upload in uploads]
            for name, uploads in getattr(request, "files", {}).items()
        }

    def _named(self, parameter: str, upload: Upload) -> FileValue:
        known = [file for file, path in self._sources.items() if path == upload.path]
        if known:  # several parameters refer to one part
            file = known[0]
        else:
            wanted = upload.part if upload.label else parameter
            if upload.label and wanted.lower() in self._declared:
                wanted += "-upload"
            file = self._workDir.freeName(wanted, self._sources)
            self._sources[file] = upload.path
        return FileValue(
            file=file,
            mediaType=upload.mediaType,
            size=upload.size,
            fileName=upload.fileName,
            label=upload.label,
        )

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


def files(parameters: Mapping[str, tuple[Value, ...]]) -> set[str]:
    """The names of the files that are values of these parameters."""
    several: Iterable[tuple[Value, ...]] = parameters.values()
    return {value.file for values in several for value in values if isinstance(value, FileValue)}
