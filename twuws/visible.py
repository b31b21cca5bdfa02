"""
Passwords and tokens where others than the service can see them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from ipaddress import ip_address
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


#: The parts of an endpoint, in which a colon has a backslash before it.
_INTERFACE = re.compile(r":interface=((?:[^:\\]|\\.)*)")


def onTheWay(
    listen: str, *, hasProxies: bool, publicURL: str | None, taken: Iterable[bool]
) -> tuple[str, ...]:
    """
    What to tell the operator about what clients on other hosts send by http.

    @param listen: the endpoint.
    @param hasProxies: there are some that are trusted to say whether it was https.
    @param taken: of each way to log in by which secrets are sent, whether they are taken by http.
    """
    isHTTP = listen.startswith(("tcp:", "tcp6:")) and not _isHere(listen)
    if not isHTTP or hasProxies or (publicURL or "").startswith("https:") or not (all := [*taken]):
        return ()
    if any(all):
        return ("Passwords or tokens are taken by http (cleartext), where everybody on the way can"
                " read them: have TLS here, or in a proxy in front.",)  # fmt: skip
    return ("Clients on other hosts cannot log in, as passwords and tokens are taken by https only:"
            " listen at ssl: or mtls:, or name the proxy in front of this in [http] proxies, or say"
            " public-url = \"https://...\".",)  # fmt: skip


def _isHere(listen: str) -> bool:
    """Whether nobody but this host can connect."""
    found = _INTERFACE.search(listen)
    if found is None:
        return False
    interface = found[1].replace("\\", "")
    try:
        return interface == "localhost" or ip_address(interface).is_loopback
    except ValueError:
        return False
