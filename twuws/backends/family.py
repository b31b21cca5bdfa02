"""
All processes of one piece of work, however far they have gone from each other.

They are known by a variable of their environment, by the runner's session, and by their
parents, so that neither forking twice, nor a session or an environment of their own, nor
the death of the runner hides them; only all of these together do.

What is here blocks (it reads C{/proc}), except for L{end}.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import psutil
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twuws import family

log = Logger()

MARK = family.MARK

#: Between looks at whether work has ended, s.
INTERVAL = 0.05

#: How long to go on killing what does not die, s.
PATIENCE = 1.5


def startOf(pid: int) -> str | None:
    """See L{twuws.family.startOf}; on any system."""
    if os.path.exists("/proc/self/stat"):
        return family.startOf(pid)
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def ofThisBoot(ref: Mapping[str, Any]) -> bool:
    """Whether the host still runs that C{ref} is of: if not, its numbers are others' now."""
    boot, ticks, _ = str(ref.get("started", "")).partition(":")
    now = startOf(os.getpid()) or ""
    return not ticks or now.partition(":")[0] == boot


def isRunner(process: psutil.Process, ref: Mapping[str, Any]) -> bool:
    """
    Whether a process is the runner in C{ref}, rather than a later one with its number: by its
    start, and by its mark where that can be seen.
    """
    try:
        if process.pid != ref["pid"] or process.status() == psutil.STATUS_ZOMBIE:
            return False
        with suppress(psutil.AccessDenied):
            if process.environ().get(MARK) != ref["marker"]:
                return False
        return bool(startOf(process.pid) == ref.get("started"))
    except psutil.NoSuchProcess:
        return False


def runnerOf(ref: Mapping[str, Any]) -> psutil.Process | None:
    """The runner in C{ref}, if it is alive."""
    try:
        process = psutil.Process(ref["pid"])
    except psutil.NoSuchProcess:
        return None
    return process if isRunner(process, ref) else None


def members(ref: Mapping[str, Any]) -> list[psutil.Process]:
    """All living processes of the work that C{ref} tells of."""
    processes: dict[int, psutil.Process] = {}
    children: dict[int, list[int]] = {}
    found: list[int] = []
    sessionIsOurs = _startedWith(ref)
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            process = processes[pid] = psutil.Process(pid)
            children.setdefault(process.ppid(), []).append(pid)
            if _isMarked(process, ref) or (sessionIsOurs and os.getsid(pid) == ref["pid"]):
                found.append(pid)
    for pid in found:  # grows
        found.extend(child for child in children.get(pid, ()) if child not in found)
    return [processes[pid] for pid in found if pid != os.getpid() and _lives(processes[pid])]


def _startedWith(ref: Mapping[str, Any]) -> bool:
    """Whether a session with the runner's number is the runner's, which may be dead."""
    return startOf(ref["pid"]) in (ref.get("started"), None)


def _isMarked(process: psutil.Process, ref: Mapping[str, Any]) -> bool:
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as f:  # psutil takes ten times longer
            return f"\0{MARK}={ref['marker']}\0".encode() in b"\0" + f.read()
    except FileNotFoundError:
        pass  # there is no such process, or no /proc at all
    except OSError:
        return False
    try:
        return bool(process.environ().get(MARK) == ref["marker"])
    except (psutil.Error, OSError):
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    return [process for process in processes if _lives(process)]


def signalAll(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to each, unless its number has gone to another process."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


async def end(reactor: Any, ref: Mapping[str, Any], grace: float) -> list[int]:
    """
    End all processes of a piece of work: SIGTERM, C{grace} seconds, SIGKILL.

    Returns when none is left; after L{PATIENCE} more it logs which are, and returns them.
    """

    def inThread(function: Any, *args: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)

    deadline = reactor.seconds() + grace
    found = await inThread(members, ref)
    signalAll(found, signal.SIGTERM)
    while found and reactor.seconds() < deadline:
        await deferLater(reactor, INTERVAL, lambda: None)
        # Looking at all processes is dear: do it once those that are known have gone.
        found = living(found) or await inThread(members, ref)
    while found := await inThread(members, ref):
        if reactor.seconds() > deadline + PATIENCE:
            left = [process.pid for process in found]
            log.error("work {marker} cannot be killed: {left}", marker=ref["marker"], left=left)
            return left
        signalAll(found, signal.SIGKILL)
        await deferLater(reactor, INTERVAL, lambda: None)
    return []
