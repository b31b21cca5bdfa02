"""
Files in directories where somebody else may put what they like: work that has a user of its
own, while the service is root.

What is there under a name may be a link to anything of this host, a pipe that nobody writes to,
or another name of somebody else's file.  Nothing of that is followed, waited for or believed.
Everything here blocks.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

#: To look below a directory: where there is no O_PATH it must be readable, too.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW

#: To open what may be no file: it is not followed, and not waited for.
_GUARDED = os.O_NOFOLLOW | os.O_NONBLOCK


class NotOurs(OSError):
    """There is something else where a file should be."""


@contextmanager
def folder(path: Path) -> Iterator[int]:
    """A directory itself, for the C{dir_fd} of others; C{NotADirectoryError} for a link to one."""
    handle = os.open(path, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def openRegular(path: Path) -> IO[bytes]:
    """
    Open a file to read.

    @raise NotOurs: if it is none, or somebody else's.
    @raise OSError: if it cannot be opened; with C{ELOOP} it is a link.
    """
    with folder(path.parent) as parent:
        handle = os.open(path.name, os.O_RDONLY | _GUARDED, dir_fd=parent)
        return _checked(handle, parent, path.name, "rb")


def openToWrite(path: Path) -> IO[bytes]:
    """
    Open a file to write to, as it is or new, for nobody else to read; errors as for
    L{openRegular}.
    """
    with folder(path.parent) as parent:
        flags = os.O_WRONLY | os.O_CREAT | _GUARDED
        handle = os.open(path.name, flags, 0o600, dir_fd=parent)
        return _checked(handle, parent, path.name, "wb")


def _checked(handle: int, parent: int, name: str, mode: str) -> IO[bytes]:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise NotOurs(f"{name} is not a regular file")
    if not _isInPlace(found, os.fstat(parent)):
        os.close(handle)
        raise NotOurs(f"{name} is another user's file")
    return os.fdopen(handle, mode)


def _isInPlace(file: os.stat_result, parent: os.stat_result) -> bool:
    """
    Whether a file is of whoever owns the directory, or is ours and nowhere else.

    For anybody but root that is no matter: what they can open the work could, too.
    """
    if os.geteuid() != 0 or file.st_uid == parent.st_uid:
        return True
    return file.st_uid == 0 and file.st_nlink == 1


def removeFrom(path: Path, names: list[str]) -> None:
    """Remove files from a directory; they may be gone, and so may it."""
    with suppress(FileNotFoundError, NotADirectoryError), folder(path) as parent:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)


def removeTree(path: Path) -> None:
    """Remove whatever is there, with all that is in it, however deep; it may be gone already."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    with suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)  # which follows no links
    if path.exists():
        import subprocess  # late, for a runner has no need of it

        # It goes deeper than Python can, and needs no descriptor for each level.
        subprocess.run(["rm", "-rf", "--", str(path)], stderr=subprocess.DEVNULL, check=False)  # noqa: S603, S607
    if path.exists():  # say why it could not be done
        shutil.rmtree(path)
