"""
Uploads by reference: what the clients' URIs lead to, on its way into the job's directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from twisted.logger import Logger

from twuws.download import Downloader, DownloadError, placeOf
from twuws.errors import JobFailure, ParameterError, StaleAttempt
from twuws.jobs import JobRecord
from twuws.parameters import Document
from twuws.uws import UWS
from twuws.values import FileValue
from twuws.wellformed import checkDocument
from twuws.workdir import WorkDir

log = Logger()


class Fetcher:
    """
    Loads the files of one service's jobs that are still elsewhere, before the jobs' work
    begins.

    @ivar downloader: how, and within which limits.
    """

    def __init__(self, uws: UWS) -> None:
        self._uws = uws
        self.downloader = Downloader(uws.fetchPolicy, uws.database.reactor)

    async def fetch(self, record: JobRecord) -> JobRecord:
        """
        Load all files that are still elsewhere, one after the other; may be cancelled.

        What was loaded stays, also for a later attempt, and is recorded with the job.

        @return: the job as it is then.
        @raise JobFailure: if that cannot be done, naming the upload, the host and the reason.
        @raise StaleAttempt: if this attempt is no longer the job's.
        """
        directory = self._uws.workDirs.forJob(record.jobId)
        left = self._uws.fetchPolicy.maximumSize
        for name, value in list(_elsewhere(record)):
            try:
                size = await self._uws.inThread(_prepare, directory, value.file)
            except FileNotFoundError:
                raise JobFailure(f"{_nameOf(name, value)}: the job's directory is gone.") from None
            if size is None:
                loaded = await self._load(record, name, value, left)
            else:
                loaded = replace(value, size=size)
            await self._check(record, name, value)
            if loaded != value:
                record = _withValue(record, name, value, loaded)
                await self._record(record, None)
            left -= loaded.size
        return record

    async def _load(self, record: JobRecord, name: str, value: FileValue, left: int) -> FileValue:
        what, uri = _nameOf(name, value), value.source or ""
        if not self._uws.fetchPolicy.enabled:
            raise JobFailure(f"{what}: this service does not load from URLs.")
        await self._record(record, f"{what}: loading from {placeOf(uri)}")
        directory = self._uws.workDirs.forJob(record.jobId)
        path, temporary = directory.parameters / value.file, _temporary(directory, value, record)
        try:
            loaded = await self.downloader.load(uri, path, temporary, left)
        except DownloadError as e:
            raise JobFailure(f"{what}: {e}", transient=e.transient) from e
        log.info("{jobId}: {what}, {size} bytes loaded from {place}",
                 jobId=record.jobId, what=what, size=loaded.size, place=placeOf(uri))  # fmt: skip
        return replace(value, size=loaded.size, mediaType=loaded.mediaType)

    async def _check(self, record: JobRecord, name: str, value: FileValue) -> None:
        """See that what must be an XML document is one, as is done with what clients send."""
        if isinstance(self._uws.jobClass.declarations.get(name), Document):
            path = self._uws.workDirs.forJob(record.jobId).parameters / value.file
            try:
                await self._uws.inThread(checkDocument, path, name)
            except ParameterError as e:
                raise JobFailure(str(e)) from None

    async def _record(self, record: JobRecord, message: str | None) -> None:
        """
        Show how far it is, and the files as they were loaded.

        @param message: C{None} takes away the one before, lest it outlive the loading.
        """
        info = {"message": [] if message is None else message}  # no element at all for a list's
        if not await self._uws.table.reportFetched(record, info):
            raise StaleAttempt


def isElsewhere(record: JobRecord) -> bool:
    """Whether there is anything to be loaded for a job."""
    return next(_elsewhere(record), None) is not None


def _elsewhere(record: JobRecord) -> Iterator[tuple[str, FileValue]]:
    """The values that are loaded from somewhere, with the names of their parameters."""
    for name, values in record.parameters.items():
        for value in values:
            if isinstance(value, FileValue) and value.source is not None:
                yield name, value


def _nameOf(name: str, value: FileValue) -> str:
    return f"Parameter {name}" if value.label is None else f"UPLOAD {value.label}"


def _withValue(record: JobRecord, name: str, before: FileValue, after: FileValue) -> JobRecord:
    values = tuple(after if one is before else one for one in record.parameters[name])
    return replace(record, parameters={**record.parameters, name: values})


def _temporary(directory: WorkDir, value: FileValue, record: JobRecord) -> Path:
    # With the attempt, lest an earlier one that still goes on somewhere renames this one's.
    return directory.parameters / f".{value.file}.{record.attempt}.part"


def _prepare(directory: WorkDir, file: str) -> int | None:
    """
    The size of a file that was loaded before; C{None} if it has yet to be, and then nothing
    of earlier tries is left.  Blocks.
    """
    directory.parameters.mkdir(mode=0o700, exist_ok=True)  # but not a directory that was removed
    path = directory.parameters / file
    if path.exists():
        return path.stat().st_size
    for part in directory.parameters.glob(f".{file}.*.part"):
        part.unlink(missing_ok=True)
    return None
