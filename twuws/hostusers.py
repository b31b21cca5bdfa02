"""
Users of this host, as whom a service that is root starts what must not be root.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class HostUser:
    """
    A user of this host.

    @ivar gid: of its primary group.
    @ivar groups: of all groups that its processes are given.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def find(cls, name: str) -> HostUser | None:
        """The user of that name, with all groups; C{None} if this host has none."""
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            return None
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return cls(name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)

    def reaches(self, path: Path) -> bool:
        """
        Whether the mode bits let this user go through the real path's ancestors and into it.
        """
        return self.obstacle(path) is None

    def obstacle(self, path: Path) -> Path | None:
        """What keeps this user from a path: it, or what it is in; C{None} if nothing does."""
        real = Path(os.path.realpath(path))
        every = (*reversed(real.parents), real)
        return next((each for each in every if not self._mayEnter(each)), None)

    def _mayEnter(self, path: Path) -> bool:
        status = path.stat()
        owner, group = status.st_uid == self.uid, status.st_gid in (self.gid, *self.groups)
        return bool(status.st_mode & (0o100 if owner else 0o010 if group else 0o001))
