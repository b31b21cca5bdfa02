"""
Passwords where others than the service can see them.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

#: In a URL, or among libpq's keywords.
_PASSWORD = re.compile(r"//[^@/]*:[^@]+@|\bpassword\s*=", re.IGNORECASE)

#: The beginning of a URL, in which there is nothing to hide.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def tellable(url: str) -> str:
    """
    What can be told of something that should be a database's URL, and is not.

    >>> tellable("mysql://u:secret@h"), tellable("host=h password=secret")
    ("found 'mysql://…'", 'found something else')
    """
    scheme = _SCHEME.match(url)
    return f"found {scheme[0] + '…'!r}" if scheme else "found something else"


def warnings(database: str | None, isOnCommandLine: bool, path: str | None) -> tuple[str, ...]:
    """
    What to tell the operator about the database's password.

    @param path: of the configuration file.
    """
    if database is None or not _PASSWORD.search(database):
        return ()
    if isOnCommandLine:
        return ("The password of the database is on the command line, where all users of this host"
                " see it: have it in the configuration file, or in the file that PGPASSFILE"
                " names.",)  # fmt: skip
    assert path is not None
    if os.stat(path).st_mode & stat.S_IROTH:
        return (f"{Path(path)} has the password of the database, and all users of this host can"
                " read it: have it belong to the service's user, with mode 600.",)  # fmt: skip
    return ()
