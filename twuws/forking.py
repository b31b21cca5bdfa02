"""
The process that runners are forked from: C{python -m twuws.forking WHAT}.

To start an interpreter and import a job class takes some hundred times as long as to fork a
process that has done so.  This one does it once, says C{ready}, and forks a runner
(L{twuws.runner}) for each message that comes.

Its stdin is a socket of the service, of the type C{SOCK_SEQPACKET}.  A message that comes is
JSON: C{directory} and C{marker}.  With it come two descriptors: what is to be the stdin and
stdout of the runner, which writes its process id there first, and its stderr.  What is told
are lines: C{ready}; C{cold} and why, if nothing can be forked; and C{ended PID STATUS}.

    - What a job finds must be as new as in a process of its own, so imports that leave more
      than memory behind (threads, open files, handlers of signals) make it C{cold}.
    - Modules that have changed since are imported anew: this starts again in its own place.
    - It ends with its service, or when it has had nothing to do for a while.  Runners go on:
      each is the leader of a session of its own.

WHAT is JSON: C{jobClass} and C{pythonPath} as in C{job.json}, with C{null} for programs.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from typing import Any

from twuws import endings, exiting, family, runner, workdir, worker

#: What runners import once they need it: here it is there already.
PRELOADED = (ctypes, endings, resource, workdir)

#: How long it stays when there is nothing to do, s.
IDLE = 600.0


class Cold(Exception):
    """Nothing can be forked from here."""


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def isDevice(number: int) -> bool:
    """Whether a descriptor is that of a device, such as C{/dev/urandom}."""
    return stat.S_ISCHR(os.fstat(number).st_mode)


def handlers() -> list[Any]:
    """What handles each signal."""
    return [signal.getsignal(number) for number in sorted(signal.valid_signals())]


def load(jobClass: str, pythonPath: list[str]) -> None:
    """
    Import a job class.

    @raise Cold: if that leaves something that a fork would share, or would not have.
    """
    files, signals = family.openFiles(), handlers()
    try:
        worker.importClass(jobClass, pythonPath)
    except BaseException as e:  # the runner of each job will say more of it
        raise Cold(f"{jobClass} cannot be imported: {type(e).__name__}") from e
    opened = family.openFiles().keys() - files.keys()
    if not all(map(isDevice, opened)):
        raise Cold("its modules have opened files")
    if handlers() != signals:
        raise Cold("its modules handle signals")
    # Some libraries have threads that they end for each fork, and start again when needed.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    if threads() > 1:
        raise Cold("its modules have started threads")


class Sources:
    """
    The files of all modules that there are by now.

    Only their names are kept, side by side: to look at each module would copy most of the memory
    that is shared with a fork.
    """

    def __init__(self) -> None:
        paths = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        self._paths = [os.fsencode(path) for path in paths if path]
        self._states = list(map(_stateOf, self._paths))

    def haveChanged(self) -> bool:
        """Whether any is not what it was."""
        return list(map(_stateOf, self._paths)) != self._states


def _stateOf(path: bytes) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class Forker:
    """
    Forks runners.

    @param control: the service's socket.
    @ivar hasChanged: modules are not what they were; the message that has come is still to be
        read.
    """

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.sources = Sources()
        self.hasChanged = False
        self._hasChildren = True
        self.wakeup, self._sink = os.pipe()
        os.set_blocking(self._sink, False)
        signal.set_wakeup_fd(self._sink, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *ignored: None)

    def run(self) -> int:
        """Until the service is gone; in the work of a runner, its exit status."""
        tell(self.control, "ready")
        while True:
            self._reap()
            patience = None if self._hasChildren else IDLE
            waited: list[Any] = [self.control, self.wakeup]
            ready = select.select(waited, [], [], patience)[0]
            if self.wakeup in ready:
                os.read(self.wakeup, 1 << 16)
            if self.control in ready:
                self.hasChanged = self.sources.haveChanged()
                if self.hasChanged:
                    return 0
                data, given, _, _ = socket.recv_fds(self.control, 1 << 16, 2)
                if not data:
                    return 0
                if self._fork():
                    return self._doJob(json.loads(data), *given)
                for handle in given:
                    os.close(handle)
            elif not ready:
                return 0

    def _fork(self) -> bool:
        """Fork; true in the child."""
        try:
            pid = os.fork()
        except OSError:  # the service sees that nobody has the other ends
            return False
        self._hasChildren = True
        return pid == 0

    def _doJob(self, what: dict[str, str], talk: int, trouble: int) -> int:
        """Be a runner, and end as one; return in its child, the work, only."""
        me = os.getpid()
        signal.set_wakeup_fd(-1)
        for handle, number in ((talk, 0), (talk, 1), (trouble, 2)):
            os.dup2(handle, number)
        for handle in (talk, trouble, self.control.detach(), self.wakeup, self._sink):
            os.close(handle)
        status = 1
        try:
            os.setsid()
            command = [sys.executable, "-m", "twuws.runner", what["directory"]]
            family.rename(what["marker"], command)
            renew()
            sys.argv = [runner.__file__, what["directory"]]
            os.write(1, b"%d\n" % me)
            status = runner.do(what["directory"])
        except Exception:
            sys.excepthook(*sys.exc_info())
        finally:
            if os.getpid() == me:  # what modules want done at exit is for the work to do
                sys.stderr.flush()
                os._exit(status)
        exiting.end.status = status
        return status

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                tell(self.control, f"ended {pid} {os.waitstatus_to_exitcode(status)}")
        except ChildProcessError:
            self._hasChildren = False


def renew() -> None:
    """Forget what is a process's own, and no module sees to by itself."""
    tempfile.tempdir = None
    if "numpy.random" in sys.modules:  # or else all jobs would have the same numbers
        sys.modules["numpy.random"].seed()


def tell(control: socket.socket, text: str) -> None:
    with suppress(OSError):  # it has gone, which will be seen
        control.send(text.encode())


def main(what: str) -> int:
    """See the module."""
    environment = dict(os.environ)
    control = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.closerange(control.fileno() + 1, 1 << 16)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.getsid(0) != os.getpid() and os.getpgrp() != os.getpid():
        os.setsid()
    os.umask(0o077)
    os.environ.pop("PYTHONPATH", None)  # it is the runner's, not the work's
    wanted = json.loads(what)
    exiting.end.prepare()
    try:
        if wanted["jobClass"] is not None:
            load(wanted["jobClass"], wanted["pythonPath"])
    except Cold as e:
        tell(control, f"cold {e}")
        return 0
    family.libc()
    gc.collect()
    exiting.end.remember()  # what is never looked at stays shared
    forker = Forker(control)
    status = forker.run()
    if forker.hasChanged:
        os.dup2(control.fileno(), 0)
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
