"""
What an end of work means: from an exception or an exit status to an L{Outcome}.

The runner and the backends share it, so that the same trouble reads the same wherever
the work ran.  Messages are for whoever sent the job: one sentence of at most
L{MESSAGE_LENGTH} characters, which names the program or class, never its path.  Files are
called as they are in the job's directory; where that is, is for the log.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Mapping
from typing import Any

from twuws.errors import JobFailure, Unavailable, UWSError
from twuws.jobs import JobError, Outcome
from twuws.phases import ERROR

MESSAGE_LENGTH = 200
DETAIL_LENGTH = 64 * 1024

#: What is less than this, in bytes, is no room.
_SMALL = 16 * 1024

#: How GNU's programs end after they have said what is wrong.
_USELESS = re.compile(r"Try '.*' for more information\.")

#: A job's directory, by its id, and all that is before it, in a text: not all of it if there
#: are spaces in the path.
_PLACE = re.compile(
    r"""(?<![^\s'"`=:;,(\[{<>|])(?:/[^/\s'"]+)*?/[0-9a-f]{24,}"""
    r"""(?:(/)(?=[\w.])|/?(?![\w/.-])|(?=\.(?:\s|$)))"""
)

#: The same at the beginning of a path.
_PLACE_OF_FILE = re.compile(r"/.*?/[0-9a-f]{24,}/(?=.)", re.DOTALL)

#: Why work ends whose node has no lease any more.
UNWATCHED = (
    "The work was stopped, because the service that watched it was not heard of for too long."
)

#: Why a job ends whose directory somebody has removed.
DIRECTORY_GONE = "The job's directory is gone, with all that was in it."

#: What a system says that has no room for more.
_FULL = (errno.ENOSPC, errno.EDQUOT)

#: No limits: those of L{twuws.interfaces.WorkLimits}, as a dictionary.
NO_LIMITS: Mapping[str, Any] = {"memory": None, "cpu": None, "fileSize": None}


def sentence(text: str) -> str:
    """
    Text as one line of bounded length.

    >>> sentence("one \\n two")
    'one two'
    """
    line = " ".join(withoutPlace(text).split())
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1] + "…"


def withoutPlace(text: str) -> str:
    """
    Text in which files of a job are called as they are in its directory, without their paths.

    >>> withoutPlace("open '/srv/jobs/0a/0a1b2c3d4e5f60718293a4b5/parameters/image': no")
    "open 'parameters/image': no"
    """
    return _PLACE.sub(lambda found: "" if found[1] else ".", text)


def fileOf(error: OSError) -> str | None:
    """
    The file that an error is about: as it is called in the job's directory, or the last part
    of a path to elsewhere; C{None} if the error does not say.

    >>> fileOf(OSError(errno.ENOENT, "", "/srv/jobs/0a/0a1b2c3d4e5f60718293a4b5/tmp/x"))
    'tmp/x'
    >>> fileOf(OSError(errno.ENOENT, "", "/srv/catalogues/bright"))
    'bright'
    """
    if not isinstance(error.filename, str | bytes):  # a number is an open file's
        return None
    path = _PLACE_OF_FILE.sub("", os.fsdecode(error.filename), count=1)
    path = path.removeprefix("../")  # work is in results/
    return os.path.basename(path.rstrip("/")) if path.startswith("/") else path


def _aboutFile(error: OSError) -> str:
    """What is wrong with which file."""
    if error.strerror is None:  # it was not the system that said so
        return str(error) or type(error).__name__
    file = None if isFull(error) else fileOf(error)
    return f"{whyOf(error)}: {file}" if file else whyOf(error)


def isFull(error: BaseException) -> bool:
    """Whether something could not be written, because there is no room for it."""
    return isinstance(error, OSError) and error.errno in _FULL


def whyOf(error: OSError) -> str:
    """
    What keeps from using a file, without the path, which is not for clients.

    >>> whyOf(OSError(errno.ENOSPC, "No space left on device", "/secret/path"))
    'the disk is full'
    """
    return "the disk is full" if isFull(error) else error.strerror or type(error).__name__


def hasRoom(directory: str | os.PathLike[str]) -> bool:
    """Whether the disk under a directory has room for another small file; blocks."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return True  # who knows
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    files = found.f_favail > 0 or found.f_files == 0  # some systems do not count them
    return files and blocks * found.f_frsize >= _SMALL


def directoryGone() -> Outcome:
    """Somebody has removed the directory of the job."""
    return Outcome.failed(DIRECTORY_GONE)


def notStored(what: str, error: OSError) -> Outcome:
    """
    The service, or the runner, could not write what it had to.

    @param what: for the beginning of the message.
    """
    return Outcome.failed(sentence(f"{what}: {_aboutFile(error)}"), type="transient")


def notStarted(error: Exception) -> Outcome:
    """The service could not start the work; what was not meant for clients is in its log."""
    name = type(error).__name__
    why = error if isinstance(error, UWSError) else f"the log of the service has a {name} for it"
    return Outcome.failed(sentence(f"The job could not be started: {why}"))


def unreadable(error: Exception) -> Outcome:
    """What the runner said of the end of the work makes no sense: the work may write there."""
    why = _aboutFile(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return Outcome.failed(sentence(f"The outcome cannot be read: {why}"))


def stopped() -> Outcome:
    """The work was stopped from outside; what was asked for by whom is in the job's row."""
    return Outcome.failed("The work was stopped before it had ended", type="transient")


def unwatched() -> Outcome:
    """The work was stopped, for nobody was there any more to record its end."""
    return lost(UNWATCHED)


def lost(message: str) -> Outcome:
    """The work has not come to its end, for a reason that is not its own."""
    error = JobError(message=message, type="transient")
    return Outcome(phase=ERROR, error=error, isLost=True)


def ofException(
    name: str, error: BaseException, limits: Mapping[str, Any] = NO_LIMITS, *, frames: int = 0
) -> Outcome:
    """
    What it means that a job class has raised.

    @param name: the class's name.
    @param frames: how many of the outer frames are ours, and of no interest in a traceback.
    """
    if isinstance(error, JobFailure):
        kind = "transient" if error.transient else "fatal"
        detail = error.detail and error.detail[-DETAIL_LENGTH:]
        return Outcome.failed(sentence(str(error)), detail, kind)
    if isinstance(error, UWSError):
        kind = "transient" if isinstance(error, Unavailable) else "fatal"
        return Outcome.failed(sentence(str(error)), type=kind)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
        return Outcome.failed(sentence(f"{name} ended with exit status {code}"))
    where = _traceback(error, frames)
    kind = "transient" if isFull(error) else "fatal"
    return Outcome.failed(_message(name, error, limits), type=kind, traceback=where)


def _message(name: str, error: BaseException, limits: Mapping[str, Any]) -> str:
    if isinstance(error, MemoryError):
        return _tooMuchMemory(name, limits)
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return _tooLargeFile(name, limits)
    if isFull(error):
        return sentence(f"{name} could not write all that it had to: the disk is full")
    text = _aboutFile(error) if isinstance(error, OSError) else str(error)
    return sentence(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _traceback(error: BaseException, frames: int) -> str | None:
    import traceback  # late, for a runner needs it only when something has gone wrong

    where = error.__traceback__
    for _ in range(frames):
        where = where.tb_next if where and where.tb_next else where
    try:
        return "".join(traceback.format_exception(type(error), error, where))[-DETAIL_LENGTH:]
    except (MemoryError, RecursionError):
        return None


def ofStatus(
    name: str,
    status: int,
    stderr: bytes = b"",
    limits: Mapping[str, Any] = NO_LIMITS,
    *,
    cpuUsed: float = 0,
    hasRoom: bool = True,
) -> Outcome:
    """
    What it means that a program ended with an exit status other than 0, or by a signal.

    @param status: the exit status; negative for the number of a signal.
    @param stderr: the end of what it wrote to its standard error.
    @param cpuUsed: CPU time of the program, s.
    @param hasRoom: whether there was room on the disk when it ended: programs that find none
        do not always say so.
    """
    text = withoutPlace(stderr.decode("utf-8", "replace").strip())
    killedForTime = status == -signal.SIGKILL and limits["cpu"] and cpuUsed >= limits["cpu"]
    if status == -signal.SIGXCPU or killedForTime:
        message = f"{name} used more than {limits['cpu']} s of CPU time, which is its limit"
    elif status == -signal.SIGXFSZ:
        message = _tooLargeFile(name, limits)
    elif status < 0:
        message = f"{name} was killed by signal {_signalName(-status)}"
    else:
        message = f"{name} ended with exit status {status}"
    if not hasRoom:
        message += "; the disk is full"
    if text:
        message += ": " + _lastWords(text)
    return Outcome.failed(sentence(message), text or None, "fatal" if hasRoom else "transient")


def notWhole(
    name: str, error: OSError, stderr: bytes = b"", limits: Mapping[str, Any] = NO_LIMITS
) -> Outcome:
    """
    What a program printed is a result, and could not be stored whole, however it ended.

    @param stderr: the end of what it wrote to its standard error.
    """
    text = withoutPlace(stderr.decode("utf-8", "replace").strip())
    if error.errno == errno.EFBIG:
        return Outcome.failed(_tooLargeFile(name, limits), text or None)
    message = sentence(f"What {name} wrote could not be stored whole: {whyOf(error)}")
    return Outcome.failed(message, text or None, "transient")


def _lastWords(text: str) -> str:
    """
    The last line of what a program said to its standard error.

    >>> _lastWords("ls: bad option\\nTry 'ls --help' for more information.")
    'ls: bad option'
    """
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line for line in lines if not _USELESS.fullmatch(line.strip())]
    return (said or lines)[-1]


def _signalName(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def ofStart(program: str, error: OSError) -> Outcome:
    """What it means that a program could not be started at all."""
    name = os.path.basename(program)
    if error.errno == errno.ENOENT:
        message = f"The program {name}, or the interpreter that it needs, is not on this host"
    elif error.errno == errno.EACCES:
        message = f"The program {name} may not be executed on this host"
    elif error.errno == errno.ENOEXEC:
        message = f"{name} is not a program that this host can execute"
    elif error.errno == errno.E2BIG:
        message = f"The parameters are too long for the command line of {name}"
    else:
        message = f"The program {name} could not be started: {error.strerror}"
    tellTheOperator = f"execve of {program!r}: {error.strerror}"
    return Outcome.failed(sentence(message), traceback=tellTheOperator)


def _tooMuchMemory(name: str, limits: Mapping[str, Any]) -> str:
    if limits["memory"] is None:
        return sentence(f"{name} ran out of memory")
    return sentence(f"{name} needs more than {sizeInWords(limits['memory'])}, its memory limit")


def _tooLargeFile(name: str, limits: Mapping[str, Any]) -> str:
    if limits["fileSize"] is None:
        return sentence(f"{name} wrote a file larger than the file system allows")
    allowed = sizeInWords(limits["fileSize"])
    return sentence(f"{name} wrote a file of more than {allowed}, its file-size limit")


def sizeInWords(number: int) -> str:
    """
    A size for people.

    >>> sizeInWords(64 << 20), sizeInWords(1000)
    ('64 MiB', '1000 bytes')
    """
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power and number % (1 << power) == 0:
            return f"{number >> power} {unit}"
    return f"{number} bytes"
