"""
A job's directory: the contract between the service and the work.

    ===================  ==========  =====================================================
    in the directory     written by  what
    ===================  ==========  =====================================================
    C{job.json}          service     what is to be done, under which limits
    C{parameters/}       service     uploaded files
    C{results/}          work        result files; the work's current directory
    C{stdout, stderr}    runner      what the work printed, bounded in size
    C{events.jsonl}      runner      started, progress, result: a line each, in order
    C{outcome.json}      runner      how it ended; it is there only once it is whole
    ===================  ==========  =====================================================

Where work has a user of its own, and the service is root, the directory is given to that user
when an attempt begins, and taken back before the next one.  While it is the user's, anything can
be in it, and the service reads and writes there by way of L{twuws.foreign} only.

Nothing here knows Twisted, for the runner uses it too: everything blocks, and the
service calls it in threads.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any

from twuws.errors import JobFailure, StaleAttempt
from twuws.foreign import openRegular, openToWrite, removeFrom, removeTree
from twuws.hostusers import HostUser
from twuws.jobs import Outcome
from twuws.names import isResultId, isSafeName
from twuws.workplace import WorkPlace

#: How much of the events is read at once, bytes: no line that counts is longer.
_MOST_AT_ONCE = 1 << 20

#: How long an outcome can be, bytes.
_LONGEST_OUTCOME = 4 << 20

#: Of what work says of its progress, characters.
LONGEST_MESSAGE = 1000


class _Within:
    """A path in the directory, made when it is asked for: most never are."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, place: WorkDir, owner: type[WorkDir]) -> Path:
        return place.path / self._name


class WorkDir(WorkPlace):
    """
    One job's directory.

    @ivar path: the directory; it need not be there yet.
    @ivar attempt: which attempt at the job writes here, or is read of; C{None} for any.
    """

    job = _Within("job.json")
    parameters = _Within("parameters")
    results = _Within("results")
    stdout = _Within("stdout")
    stderr = _Within("stderr")
    events = _Within("events.jsonl")
    outcome = _Within("outcome.json")

    def __init__(self, path: str | os.PathLike[str], attempt: int | None = None) -> None:
        self.path = Path(path)
        self.attempt = attempt
        self._isTorn = False  # an event of ours that there was no room for

    def create(self) -> None:
        """
        Make the directory, readable by nobody else; what is in it is made once it is needed, for
        each directory more takes as long as a tenth of all that it is to make a job.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def furnish(self) -> None:
        """Make what is in the directory for work that begins: where uploads and results go."""
        for part in (self.parameters, self.results):
            part.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Remove the directory and all that is in it; it may be gone already."""
        removeTree(self.path)

    # Whose it is

    def giveTo(self, account: HostUser) -> None:
        """
        Give the directory to the user whose work begins, for nobody else to look into: to read
        what it was sent, and to write the rest.
        """
        self.path.parent.chmod(0o711)
        self.parameters.chmod(0o755)
        for sent in (self.job, *self.parameters.iterdir()):
            sent.chmod(0o644)
        for own in (self.results, self.path):  # itself last: from then on it is not ours
            os.chown(own, account.uid, account.gid, follow_symlinks=False)

    def takeBack(self) -> None:
        """
        Take the directory back from the user of an earlier attempt, if it had one, with nothing
        in it but the uploads: what else there is may be anything.
        @raise StaleAttempt: if there is a later attempt by now; nothing is changed.
        @raise JobFailure: if the uploads are gone.
        """
        if os.geteuid() != 0 or self.path.lstat().st_uid == 0:
            return
        if self.isLate():
            raise StaleAttempt
        os.chown(self.path, 0, 0, follow_symlinks=False)
        self.path.chmod(0o700)
        for entry in self.path.iterdir():
            if entry != self.parameters:
                removeTree(entry)
        found = self.parameters.lstat() if os.path.lexists(self.parameters) else None
        if found is None or not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
            raise JobFailure("The files that were sent are gone: the work has removed them.")

    # Job and outcome

    def writeJob(self, job: dict[str, Any]) -> None:
        """
        Write C{job.json}, and remove what an earlier attempt left behind.

        @raise StaleAttempt: if there is a later attempt by now; nothing is changed.
        """
        self.clear()
        self._write(self.job, job)

    def clear(self) -> None:
        """Remove what an earlier attempt left behind; what it may still write goes nowhere."""
        if self.isLate():
            raise StaleAttempt
        removeTree(self.results)
        for left in (self.outcome, self.events, self.stdout, self.stderr):
            left.unlink(missing_ok=True)
        self.create()
        self.furnish()

    def isLate(self) -> bool:
        """Whether the directory is a later attempt's by now."""
        return self.attempt is not None and self._lastAttempt() > self.attempt

    def _lastAttempt(self) -> int:
        """Whose C{job.json} it is; 0 if there is none, or it makes no sense."""
        with suppress(OSError, ValueError, TypeError, KeyError), openRegular(self.job) as f:
            if os.geteuid() != 0 or os.fstat(f.fileno()).st_uid == 0:  # rather than the work's
                return int(json.loads(f.read())["attempt"])
        return 0

    def readJob(self) -> dict[str, Any]:
        """Read C{job.json}."""
        return dict(json.loads(self.job.read_bytes()))

    def isThere(self) -> bool:
        """Whether the directory is there; somebody may have removed it."""
        return self.path.is_dir()

    def writeOutcome(self, outcome: Outcome) -> None:
        """
        Say how the work ended; the file appears whole, or not at all.  A late attempt has no
        say any more.

        Where the disk is full there is the room that the runner has reserved, which may be too
        small for all of it: then the message must do.
        """
        if self.isLate():
            return
        content = {**outcome.asJSON(), "attempt": self.attempt}
        try:
            self._write(self.outcome, content)
        except OSError as e:
            error = content.get("error")
            if e.errno not in (errno.ENOSPC, errno.EDQUOT) or not error:
                raise
            content["error"] = {**error, "detail": None, "traceback": None}
            self._write(self.outcome, content)

    def readOutcome(self) -> Outcome | None:
        """
        How the work ended; C{None} if it has not, or that is of another attempt, or the host went
        down before it was on the disk.

        No attempt outlives its host, and so need not job and outcome.  Results that were written
        before may not be there then either.
        """
        try:
            with openRegular(self.outcome) as f:
                data = f.read(_LONGEST_OUTCOME + 1)
        except FileNotFoundError:
            return None
        if not data.strip(b"\0"):  # room that was taken for what never came
            return None
        if len(data) > _LONGEST_OUTCOME:
            raise ValueError(f"it is longer than {_LONGEST_OUTCOME} bytes")
        try:
            stored = json.loads(data)
            return Outcome.fromJSON(stored) if self._isOurs(stored) else None
        except (RecursionError, AttributeError):
            raise ValueError("it is not what a runner writes") from None

    def _isOurs(self, stored: dict[str, Any]) -> bool:
        """Whether the attempt that is read wrote this, or one that does not say."""
        return self.attempt is None or stored.get("attempt") in (None, self.attempt)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        temporary = path.with_name(path.name + ".new")
        with openToWrite(temporary) as f:  # with what is reserved
            f.write(json.dumps(content).encode("ascii"))
            f.truncate()
        temporary.replace(path)

    # Parameters

    def parameterPath(self, file: str) -> str:
        return str(self.parameters / file)

    def freeName(self, wanted: str, taken: Collection[str] = ()) -> str:
        """
        A name for a new file in C{parameters/}: the one wanted, or one that is like it.

        @param taken: names that are as good as there.
        """
        base = wanted if isSafeName(wanted) else "upload"
        for number in count(1):
            name = base if number == 1 else f"{base}-{number}"
            if name not in taken and not (self.parameters / name).exists():
                return name
        raise AssertionError("not reached")

    def adopt(self, source: str | os.PathLike[str], file: str) -> None:
        """Move an uploaded file to C{parameters/}, under a name from L{freeName}."""
        self.parameters.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.move(source, self.parameters / file)

    def dropParameters(self, files: Iterable[str]) -> None:
        """Remove uploaded files that no parameter has any more."""
        removeFrom(self.parameters, [file for file in files if isSafeName(file)])

    # Events

    def addEvent(self, event: str, **fields: Any) -> None:
        """Append one line to C{events.jsonl}; lines of several writers do not mix."""
        attempt = {} if self.attempt is None else {"attempt": self.attempt}
        text = json.dumps({"event": event, **attempt, **fields}) + "\n"
        line = ("\n" * self._isTorn + text).encode("ascii")
        with self.events.open("ab", buffering=0) as f:
            written = f.write(line)
        self._isTorn = written < len(line)  # the next one must not be part of it
        if self._isTorn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.events))

    def readEvents(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """
        The events from an offset in bytes on, and the offset where the next ones will be.

        Lines that are not JSON, or too long, are passed over: work can write here too.  So
        are those of other attempts.
        """
        try:
            with openRegular(self.events) as f:
                f.seek(offset)
                data = f.read(_MOST_AT_ONCE)
        except OSError:
            return [], offset
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) == _MOST_AT_ONCE:  # the rest of this line is no JSON
            end = len(data)
        return list(self._parsed(data[:end])), offset + end

    def _parsed(self, lines: bytes) -> Iterator[dict[str, Any]]:
        for line in lines.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            isEvent = isinstance(event, dict) and isinstance(event.get("event"), str)
            if isEvent and self._isOurs(event):
                yield event

    # Results

    @contextmanager
    def openResult(
        self, id: str, mediaType: str, fileName: str | None = None
    ) -> Iterator[IO[bytes]]:
        """
        A file that becomes a result when the block ends, and is removed if it raises.
        """
        if not isResultId(id):  # better before than after the work
            raise ValueError(f"{id[:60]!r} cannot name a result: 1 to 200 characters, and no /")
        path = self.resultPath(fileName or id)
        mark = ".part" if self.attempt is None else f".part{self.attempt}"
        temporary = path.with_name(path.name + mark)
        try:
            with temporary.open("wb") as f:
                yield f
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self.addResult(id, path.name, mediaType)

    def addResult(self, id: str, file: str, mediaType: str) -> None:
        """
        Make a file that is in C{results/} a result.

        @raise ValueError: for an id or a file name that cannot be.
        """
        if not isResultId(id):
            raise ValueError(f"{id[:60]!r} cannot name a result: 1 to 200 characters, and no /")
        size = self.resultPath(file).stat().st_size
        self.addEvent("result", id=id, file=file, mediaType=mediaType, size=size)
        self.news()

    def resultPath(self, file: str) -> Path:
        """
        The path of a result's file.

        @raise ValueError: for a name that could lead elsewhere.
        """
        if not isSafeName(file):
            raise ValueError(f"{file!r} cannot name a file")
        return self.results / file

    def reportProgress(self, fraction: float | None = None, message: str | None = None) -> None:
        message = None if message is None else str(message)[:LONGEST_MESSAGE]
        self.addEvent("progress", fraction=fraction, message=message)
        self.news()

    def news(self) -> None:
        """Called after each event; whoever runs the work may set another."""


#: Where uploads wait, below the root.
_UPLOADS = ".uploads"


class WorkDirs:
    """
    The directories of all jobs, below one root, spread over 256 folders.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()

    def forJob(self, jobId: str, attempt: int | None = None) -> WorkDir:
        """The directory of one job, whether it is there or not; see L{WorkDir}."""
        if not isSafeName(jobId):
            raise ValueError(f"{jobId!r} is no job id")
        return WorkDir(self.root / jobId[:2] / jobId, attempt)

    def uploads(self) -> Path:
        """Where uploads wait for their job: on the same file system, so that moving is cheap."""
        path = self.root / _UPLOADS
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def newUpload(self) -> tuple[IO[bytes], Path]:
        """A new, empty file to write an upload to, and its path."""
        handle, path = tempfile.mkstemp(dir=self.uploads())
        return os.fdopen(handle, "wb"), Path(path)

    def known(self) -> Iterator[tuple[str, float]]:
        """The ids of the jobs that have a directory, with its time of change (s, Unix)."""
        for folder in self.root.glob("[0-9a-f][0-9a-f]"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    yield entry.name, entry.stat().st_mtime

    def oldUploads(self, seconds: float) -> list[Path]:
        """Uploads that have not changed for so long: their request has ended long ago."""
        limit, found = time.time() - seconds, []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.root / _UPLOADS):
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < limit:
                        found.append(Path(entry.path))
        return found

    def olderThan(self, seconds: float) -> list[str]:
        """The ids of jobs whose directory has not changed for so long."""
        limit = time.time() - seconds
        return [jobId for jobId, changed in self.known() if changed < limit and isSafeName(jobId)]
