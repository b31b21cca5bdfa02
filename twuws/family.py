"""
What the runner has to know of processes, from the standard library alone.
"""

from __future__ import annotations

import os
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def startTime() -> float:
    """When this process started, s since 1970, as C{psutil} says it."""
    try:
        with open("/proc/self/stat") as f:
            ticks = int(f.read().rpartition(")")[2].split()[19])
        with open("/proc/stat") as f:
            boot = next(float(line.split()[1]) for line in f if line.startswith("btime"))
    except OSError:
        return time.time()
    return ticks / os.sysconf("SC_CLK_TCK") + boot


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
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
