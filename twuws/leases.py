"""
The lease of a node on its own host: a small file that it renews, and that runners look at.

Whoever can't renew it is no longer heard of, and others will do its jobs again; so its
runners end their work before that.  All times are on L{twuws.family.clock}, which the
processes of a host share and nobody sets.

Nothing here knows Twisted, for the runner uses it too: everything blocks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from twuws.family import clock

#: Where the leases of a tree of job directories are, below its root.
FOLDER = ".nodes"

#: What a job's directory calls the lease of whoever watches an attempt: a symbolic link.  An
#: attempt that was held up must not go on because of the lease of a later one, which may even be
#: counted on another host's clock.
LINK = "lease.{}"

#: Between looks at the clock while work goes on, s.
INTERVAL = 0.5


class LeaseFile:
    """
    A node's lease in one tree of job directories.

    @ivar path: the file; it is made when it is first renewed.
    """

    def __init__(self, root: str | os.PathLike[str], node: str) -> None:
        self.path = Path(root) / FOLDER / node

    def renew(self, ends: float) -> None:
        """Say when the lease ends.  A disk that is full takes that, once the file is there."""
        content = f"{ends:020.3f}\n".encode("ascii")
        try:
            handle = os.open(self.path, os.O_WRONLY)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.parent.chmod(0o711)  # runners may be other users
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.fchmod(handle, 0o644)
        try:
            os.pwrite(handle, content, 0)
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Remove the file; it may be gone already."""
        self.path.unlink(missing_ok=True)

    def take(self, directory: str | os.PathLike[str], attempt: int) -> None:
        """Let an attempt in a job's directory depend on this lease from now on."""
        link = Path(directory) / LINK.format(attempt)
        made = link.with_name(link.name + ".new")
        made.unlink(missing_ok=True)
        made.symlink_to(os.path.relpath(self.path, directory))
        made.replace(link)


class WatchedLease:
    """
    The lease that an attempt in a job's directory depends on, as its runner sees it.

    It is read again only when it seems to have run out.
    """

    def __init__(self, directory: str | os.PathLike[str], attempt: int) -> None:
        self._path = os.path.join(directory, LINK.format(attempt))
        self._ends: float | None = None
        self._read()

    @property
    def isThere(self) -> bool:
        """Whether the work depends on a lease at all."""
        return self._ends is not None

    def isOver(self, before: float) -> bool:
        """Whether it ends within C{before} seconds, or has ended."""
        if self._ends is None or clock() < self._ends - before:
            return False
        self._read()
        return clock() >= self._ends - before

    def _read(self) -> None:
        with suppress(OSError, ValueError), open(self._path, "rb", buffering=0) as f:
            self._ends = float(f.read())  # or else it stays what it was
