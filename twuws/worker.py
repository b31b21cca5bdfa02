"""
The work's side of L{twuws.runner}: what happens in its child, up to C{execve} or C{run}.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from twuws import family

if TYPE_CHECKING:
    from twuws.workplace import WorkPlace

#: What the runner handles and its child does not.
TERMINATING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Between asking work to end that has used its CPU time and killing it, s.
CPU_GRACE = 1


class Worker:
    """
    The child of the runner.

    @ivar name: what messages call the work.
    @ivar job: what C{job.json} says.
    @ivar temporary: the work's HOME and TMPDIR.
    @ivar place: for the job class; a command needs none.
    @ivar streams: file descriptors to be 0, 1 and 2; the first if the job names no file.
    @ivar report: a pipe for the outcome of work that raised, or never began.
    """

    def __init__(
        self,
        *,
        name: str,
        job: dict[str, Any],
        temporary: str,
        place: WorkPlace | None,
        streams: tuple[int, int, int],
        report: int,
    ) -> None:
        self.name = name
        self.job = job
        self.command: list[str] | None = job["command"]
        self.limits: dict[str, Any] = job["limits"]
        self.temporary = temporary
        self.place = place
        self.streams = streams
        self.report = report
        self.entered = False

    def run(self) -> int:
        """Be the work; the exit status, if a job class comes back to say it."""
        child = os.getpid()
        try:
            self._enter()
            self.entered = True
            if self.command is not None:
                os.execvp(self.command[0], self.command)  # noqa: S606
            self._runClass()
        except SystemExit:
            raise
        except BaseException as error:
            if os.getpid() == child:  # rather than a fork that the job class made
                self._tell(error)
            return 1
        return 0

    def _enter(self) -> None:
        """Leave all that is the runner's, and take the work's place."""
        signal.set_wakeup_fd(-1)
        for number in (*TERMINATING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if self.command is not None:  # for Python they are exceptions
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.setpgid(0, 0)
        family.dieWithParent()
        os.chdir("results")
        stdin, stdout, stderr = self.streams
        os.dup2(os.open(self.job["stdin"], os.O_RDONLY) if self.job["stdin"] else stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        environment = self._environment()
        os.environ.update(environment)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        self._limit()

    def _limit(self) -> None:
        import resource

        for kind, value, more in (
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_FSIZE, self.limits["fileSize"], 0),
            (resource.RLIMIT_CPU, self.limits["cpu"], CPU_GRACE),
            (resource.RLIMIT_AS, self.limits["memory"], 0),
        ):
            hard = resource.getrlimit(kind)[1]
            if value is not None:
                if hard != resource.RLIM_INFINITY:  # only root may have more than it has
                    value, more = min(value, hard), min(more, max(hard - value, 0))
                resource.setrlimit(kind, (value, value + more))

    def _environment(self) -> dict[str, str]:
        """All of the work's environment; nothing of the service's but PATH."""
        jobId = self.job["job"]["jobId"]
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": self.temporary,
            "TMPDIR": self.temporary,
            "LANG": "C.UTF-8",
            **({} if self.command else {"PYTHONUNBUFFERED": "1"}),
            **self.job["environment"],
            "UWS_JOB_ID": jobId,
            **({"UWS_RUN_ID": runId} if (runId := self.job["job"]["runId"]) else {}),
            "UWS_WORK": f"{jobId}.{self.job['attempt']}",
        }

    def _runClass(self) -> None:
        from twuws import exiting
        from twuws.jobs import JobRecord

        # Those of the runner have found out what they were opened on, which has changed.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = _unbuffered(1, "strict")
        sys.stderr = _unbuffered(2, "backslashreplace")
        cls = importClass(self.job["jobClass"], self.job["pythonPath"])
        exiting.end.remember()
        returned = cls(JobRecord.fromJSON(self.job["job"]), workPlace=self.place).run()
        if hasattr(returned, "__await__"):
            raise TypeError(
                f"{cls.__qualname__}.run is a coroutine function, which runs in the reactor only"
            )

    def _tell(self, error: BaseException) -> None:
        """Tell the runner why there is no work, or no more of it."""
        from twuws import endings

        if self.command and self.entered and isinstance(error, OSError):
            outcome = endings.ofStart(self.command[0], error)
        else:
            outcome = endings.ofException(self.name, error, self.limits, frames=2)
        data = json.dumps(outcome.asJSON()).encode("ascii")
        while data:
            data = data[os.write(self.report, data) :]


def importClass(jobClass: str, pythonPath: list[str]) -> Any:
    """Import a job class, C{module:QualName}, from where the service finds its modules."""
    from importlib import import_module
    from operator import attrgetter

    if sys.path[: len(pythonPath)] != pythonPath:
        if sys.flags.no_site:  # which the service chose, for it starts faster
            import site

            site.main()
        sys.path[:] = pythonPath + [path for path in sys.path if path not in pythonPath]
    module, _, name = jobClass.partition(":")
    return attrgetter(name)(import_module(module))


def _unbuffered(fd: int, errors: str) -> io.TextIOWrapper:
    binary = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(binary, "utf-8", errors, write_through=True)
