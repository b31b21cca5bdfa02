"""
What the runner has to know of processes, from the standard library alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from functools import cache
from typing import Any

#: The variable that marks the environment of work and runner.
MARK = "UWS_WORK"

#: What it is in a process that runners are forked from: room for the mark of any.
NO_MARK = "-" * 200

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def startOf(pid: int) -> str | None:
    """
    When a process started: its host's boot, and the clock ticks since then.

    That and its number are nobody else's, however the host's clock is set.  C{None} if there
    is no such process, or no C{/proc} to say it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            state, *fields = f.read().rpartition(b")")[2].split()
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot = f.read().strip()
    except (OSError, ValueError):
        return None
    return None if state == b"Z" else f"{boot}:{int(fields[18])}"


def openFiles() -> dict[int, str]:
    """The descriptors of all that this process has open, and what that is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def clock() -> float:
    """
    Seconds on a clock that all processes of a host share, that nobody sets, and that goes on
    while the host sleeps.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def descendants() -> list[int]:
    """All that came from this process; with a subreaper that is all of the work."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                parent = int(f.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found = [os.getpid()]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found[1:]


def adoptOrphans() -> bool:
    """Have orphans of the work become our children, instead of init's."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def dieWithParent() -> bool:
    """Have this process killed when its parent is: nobody would end it with its lease."""
    return _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and bool(libc().prctl(option, value, 0, 0, 0) == 0)


@cache
def libc() -> Any:
    """The functions of C, found once."""
    import ctypes

    return ctypes.CDLL(None)


def rename(mark: str, command: list[str]) -> None:
    """
    Have C{/proc} show another mark, and another command, of this process, which is a fork of
    one that has L{NO_MARK}.

    Both are written where the kernel has put those that the process was started with, which
    nothing uses any more.

    @raise OSError: if that cannot be done.
    """
    import ctypes

    with open("/proc/self/stat", "rb") as f:
        places = f.read().rpartition(b")")[2].split()[45:49]
    fromArgs, toArgs, fromEnvironment, _ = map(int, places)
    with open("/proc/self/environ", "rb") as f:
        before, found, _ = f.read().partition(f"{MARK}={NO_MARK}".encode())
    if not found or len(mark) > len(NO_MARK) or not fromArgs:
        raise OSError("There is no room for the mark of a process.")
    ctypes.memmove(
        fromEnvironment + len(before),
        f"{MARK}={mark}".encode().ljust(len(found), b"\0"),
        len(found),
    )
    room = toArgs - fromArgs
    ctypes.memmove(fromArgs, "\0".join(command).encode()[: room - 1].ljust(room, b"\0"), room)
