"""
The program that does one job in its directory: C{python -m twuws.runner DIRECTORY}.

It is the leader of a session of its own, and has the work as its child: a program, or
C{run} of a job class in a fork of itself.  It does what C{job.json} says and, last of
all, writes C{outcome.json}; nothing of the work is alive then.

    - Nothing happens before C{ready} and the attempt are read from stdin, for the directory may
      not be, and no work begins before C{go}: the service must have remembered where it is.  At
      end of file instead it exits; so it does if the directory is another attempt's by then.
    - A byte on stdout tells the service that there is something new in the directory.
    - SIGTERM ends the work, with an outcome that says so.
    - So does the end of the lease of whoever watches the work (L{twuws.leases}).
    - Exit status 0: there is an outcome, whatever it is; 3: it could not be written, and
      a line on stderr says why, after the last colon.

It has no Twisted and no database.  What is not needed to start a program is imported
once the program runs, for importing takes longer than starting.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twuws import family, worker
from twuws.leases import INTERVAL, WatchedLease
from twuws.streams import Output, Pipe, Wakeup, Whole, reserve

if TYPE_CHECKING:
    from twuws.jobs import Outcome
    from twuws.workdir import WorkDir

TROUBLE = 3


class Runner:
    """
    One job in its directory.

    @ivar status: how the main process of the work ended, negative for a signal;
        C{None} while it lives.
    """

    def __init__(self, directory: str, job: dict[str, Any]) -> None:
        self.directory = directory
        self.job = job
        self.command: list[str] | None = job["command"]
        self.limits: dict[str, Any] = job["limits"]
        named = os.path.basename(self.command[0]) if self.command else job["jobClass"]
        self.name: str = named.rpartition(":")[2]
        self.adopting = family.adoptOrphans()
        self.stopping = False
        self.lease = WatchedLease(directory, job["attempt"])
        self.leaseIsOver = False
        self.status: int | None = None
        self.cpuUsed = 0.0

    def run(self) -> int:
        """Do the job; returns the exit status, in the work as well as in the runner."""
        self._openAll()
        if self.lease.isOver(before=self.limits["grace"]):  # the service slept before "go"
            self.leaseIsOver = True
            self.place = self._begin()
            self._end()
            return 0
        place = self._begin() if self.command is None else None
        self.child = os.fork()
        if self.child == 0:
            return self._worker(place).run()
        self.place = place or self._begin()
        self._watch()
        self._end()
        return 0

    def _openAll(self) -> None:
        self.service = os.dup(1)
        mode = os.fstat(self.service).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            os.set_blocking(self.service, False)
        self.nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(self.nothing, 0)
        os.dup2(self.nothing, 1)
        self.temporary = os.path.join(self.directory, "tmp")
        try:
            os.mkdir(self.temporary, 0o700)
        except FileExistsError:  # an earlier attempt's
            if not os.path.isdir(self.temporary):
                raise
        self.report, self.wakeup = Pipe(), Wakeup()
        self.outputs = {stream: self._output(stream) for stream in ("stdout", "stderr")}
        self.pipes: list[Pipe] = [self.report, self.wakeup, *self.outputs.values()]
        signal.signal(signal.SIGCHLD, lambda *ignored: None)
        for number in worker.TERMINATING:
            signal.signal(number, self._stop)

    def _output(self, stream: str) -> Output | Whole:
        """Where the work is to write one of its streams."""
        for result in self.job["results"]:
            if result.get("stream") == stream:
                path = os.path.join("results", result["file"])
                return Whole(path, self.limits["fileSize"])
        return Output(stream, self.limits["output"])

    def _stop(self, *ignored: object) -> None:
        self.stopping = True

    def nudge(self) -> None:
        """Tell the service, if it is still there, that there is news."""
        with suppress(OSError):  # it has gone, or has many of them to read already
            os.write(self.service, b".")

    def _begin(self) -> WorkDir:
        from twuws.workdir import WorkDir

        place = WorkDir(self.directory, self.job["attempt"])
        place.news = self.nudge  # type: ignore[method-assign]
        with suppress(OSError):  # a full disk: the service knows all this
            place.addEvent(
                "started",
                host=os.uname().nodename,
                pid=os.getpid(),
                started=family.startOf(os.getpid()),
            )
        self.nudge()
        return place

    def _worker(self, place: WorkDir | None) -> worker.Worker:
        return worker.Worker(
            name=self.name,
            job=self.job,
            temporary=self.temporary,
            place=place,
            streams=(self.nothing, self.outputs["stdout"].sink, self.outputs["stderr"].sink),
            report=self.report.sink,
        )

    def _watch(self) -> None:
        """Copy and reap until nothing of the work is left."""
        for pipe in (self.report, *self.outputs.values()):
            os.close(pipe.sink)
        killAt: float | None = None
        while self._reap():
            if self.status is not None or self.stopping:
                if killAt is None:
                    killAt = time.monotonic() + self.limits["grace"]
                    self._signalAll(signal.SIGTERM)
                elif time.monotonic() >= killAt:
                    self._signalAll(signal.SIGKILL)
            self._pump(self._patience(killAt))
            if not self.stopping and self.lease.isOver(before=self.limits["grace"]):
                self.stopping = self.leaseIsOver = True
        self.pipes.remove(self.wakeup)
        while self._pump(0):
            pass
        self.whole = [output for output in self.outputs.values() if isinstance(output, Whole)]
        for output in self.whole:
            output.close()

    def _patience(self, killAt: float | None) -> float | None:
        """How long to wait for something to happen, s."""
        if killAt is not None:
            return max(killAt - time.monotonic(), 0.02)
        return INTERVAL if self.lease.isThere else None

    def _pump(self, patience: float | None) -> bool:
        """Wait for something to read, and read it; false if there was nothing."""
        ready = select.select(self.pipes, [], [], patience)[0]
        for pipe in ready:
            if not pipe.pump():
                self.pipes.remove(pipe)
        return bool(ready)

    def _reap(self) -> bool:
        """Bury the dead; whether there are others."""
        try:
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.child:
                    self.status = os.waitstatus_to_exitcode(status)
                    self.cpuUsed = used.ru_utime + used.ru_stime
        except ChildProcessError:
            if not self.adopting:
                self._signalAll(signal.SIGKILL)
            return False

    def _signalAll(self, number: int) -> None:
        for pid in family.descendants() if self.adopting else (-self.child,):
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def _end(self) -> None:
        """Say how it ended, now that nothing can change it; to nobody if that is too late."""
        if self.place.isLate():
            return
        outcome = self._outcome()
        self._removeTemporary()
        self.place.writeOutcome(outcome)
        self.nudge()

    def _outcome(self) -> Outcome:
        from twuws import endings
        from twuws.jobs import Outcome

        if self.leaseIsOver:
            return endings.unwatched()
        if self.stopping:
            return endings.stopped()
        if self.report.tail:
            with suppress(ValueError):  # it was killed while it spoke
                return Outcome.fromJSON(json.loads(self.report.tail))
        stderr = self.outputs["stderr"].tail
        for trouble in filter(None, (output.trouble for output in self.whole)):
            return endings.notWhole(self.name, trouble, stderr, self.limits)
        if self.status:
            return endings.ofStatus(
                self.name,
                self.status,
                stderr,
                self.limits,
                cpuUsed=self.cpuUsed,
                hasRoom=endings.hasRoom(self.directory),
            )
        try:
            return self._collect()
        except OSError as error:
            return endings.notStored(f"The results of {self.name} could not be recorded", error)

    def _collect(self) -> Outcome:
        """Make results of the declared files, if they are what was declared."""
        from twuws.jobs import Outcome
        from twuws.phases import COMPLETED

        for one in self.job["results"]:
            wrong = self._wrongWith(one)
            if wrong:
                return Outcome.failed(f"{self.name} ended well, but its result {wrong}")
            if os.path.lexists(os.path.join("results", one["file"])):
                self.place.addResult(one["id"], one["file"], one["mediaType"])
        return Outcome(phase=COMPLETED)

    def _wrongWith(self, result: dict[str, Any]) -> str:
        path = os.path.join("results", result["file"])
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            missing = f"{result['id']} is missing: there is no file {result['file']}"
            return "" if result.get("optional") else missing
        # A link could lead to anything that the service, but not the client, may read.
        regular = stat.S_ISREG(mode) and not os.path.islink("results")
        return "" if regular else f"{result['id']} is not a regular file"

    def _removeTemporary(self) -> None:
        try:
            os.rmdir(self.temporary)
        except OSError:
            import shutil

            shutil.rmtree(self.temporary, ignore_errors=True)


def _giveUp(directory: str, attempt: int | None, trouble: OSError) -> int:
    """Write an outcome that is about us rather than the work; the exit status."""
    from twuws import endings
    from twuws.workdir import WorkDir

    outcome = endings.notStored("The work's directory could not be used", trouble)
    try:
        WorkDir(directory, attempt).writeOutcome(outcome)
    except OSError as another:
        os.write(2, f"twuws.runner: {directory}: {endings.whyOf(another)}\n".encode())
        return TROUBLE
    return 0


def main(directory: str) -> int:
    """Do the job in a directory; see the module."""
    os.closerange(3, 1 << 16)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.getsid(0) != os.getpid() and os.getpgrp() != os.getpid():
        os.setsid()
    os.umask(0o077)
    return do(directory)


def do(directory: str) -> int:
    """The same in a process that is a runner's already, as it is forked (L{twuws.forking})."""
    stdin = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 (it is not ours to close)
    told = stdin.readline().split()
    if not told or told[0] != b"ready":
        return 0
    directory, attempt = os.path.abspath(directory), int(told[1])
    try:
        os.chdir(directory)
        with open("job.json", "rb") as f:
            job = json.load(f)
        if job["attempt"] != attempt:
            return 0
        runner = Runner(directory, job)
        with suppress(OSError):
            reserve("outcome.json.new")  # which is what WorkDir writes to
        return runner.run() if stdin.readline() == b"go\n" else 0
    except OSError as trouble:
        return _giveUp(directory, attempt, trouble)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
