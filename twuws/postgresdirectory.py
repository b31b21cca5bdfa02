"""The directory of an embedded PostgreSQL: who owns it, who holds it, who serves it.

Plain functions on files, without a process and without a reactor. What the directory holds:

``cluster``
    PostgreSQL's data directory, which belongs to the user as whom PostgreSQL runs.
``lock``
    Locked by the one service that runs the cluster; says its process number.
``initdb-…``
    A cluster being made; trusted only once it has been renamed to ``cluster``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
from twisted.logger import Logger

from twuws.errors import EmbeddedPostgresError
from twuws.hostusers import HostUser

SHELVES = ("/var/lib/twuws", "/var/local/twuws", "/srv/twuws", "/opt/twuws")
SOCKET = ".s.PGSQL.5432"
SOCKET_LIMIT = 103  # bytes in a socket's path: macOS's limit, Linux has 107

log = Logger()


def accountNamed(name: str) -> HostUser:
    """The account of that name; EmbeddedPostgresError if there is none, or if it is root."""
    found = HostUser.find(name)
    if found is None:
        raise EmbeddedPostgresError(
            f"There is no user {name!r} on this machine to run PostgreSQL as, which refuses to "
            "run as root. Start the service as an ordinary user."
        )
    if found.uid == 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, which {name!r} is. Name an ordinary user."
        )
    return replace(found, groups=())  # it is started without them


def accountFor(directory: Path, user: str) -> HostUser | None:
    """As whom PostgreSQL is to run in ``directory``: None for as we are, unless we are root.

    A cluster that exists keeps its owner, since PostgreSQL accepts nobody else.
    """
    if os.geteuid() != 0:
        return None
    try:
        owner = (directory / "cluster").stat()
    except (FileNotFoundError, NotADirectoryError):
        return accountNamed(user)
    if owner.st_uid == 0:
        return accountNamed(user)
    return HostUser(name=f"#{owner.st_uid}", uid=owner.st_uid, gid=owner.st_gid)


def shelf(account: HostUser) -> Path:
    """A directory of root's that everybody can reach, for what must lie where ``account`` can.

    Made on first use. Refuses one that somebody else could write to.
    """
    for name in SHELVES:
        path = Path(name)
        try:
            path.mkdir()
            path.chmod(0o755)  # our own new one; the umask may have narrowed it
        except FileExistsError:
            pass
        except OSError:
            continue
        status = path.lstat()
        trusted = path.is_dir() and status.st_uid == 0 and not status.st_mode & 0o022
        if trusted and os.access(path, os.W_OK) and account.reaches(path):
            return path
    raise EmbeddedPostgresError(
        f"PostgreSQL must run as {account.name!r} and none of {', '.join(SHELVES)} can be made for "
        "it. Start the service as an ordinary user, or give it a server with --database."
    )


def settle(directory: Path, account: HostUser | None) -> Path:
    """The real directory to use for ``directory``, which is made if need be.

    Modes and owners of what exists stay as they are. A directory that ``account`` cannot reach
    becomes a symbolic link to one that it can.
    """
    if directory.is_symlink() and not directory.exists():
        raise EmbeddedPostgresError(
            f"The database directory {directory} is a symbolic link to {os.readlink(directory)}, "
            "which does not exist. Bring that back, or remove the link to begin without data."
        )
    if directory.exists() and not directory.is_dir():
        raise EmbeddedPostgresError(
            f"The database directory {directory} is a file. Choose another --data-dir."
        )
    if (directory / "PG_VERSION").exists():
        raise EmbeddedPostgresError(
            f"The database directory {directory} is the data directory of another PostgreSQL. "
            "Choose another --data-dir."
        )
    if not directory.exists():
        directory.mkdir(parents=True)
        directory.chmod(0o711 if account else 0o700)
    home = Path(os.path.realpath(directory))
    if account is None or account.reaches(home):
        return home
    if any(home.iterdir()):
        raise EmbeddedPostgresError(
            f"The database directory {home} has files in it and cannot be reached by the user "
            f"{account.name!r}, as whom PostgreSQL must run because the service is root. Choose a "
            "new --data-dir, or start the service as an ordinary user."
        )
    target = shelf(account) / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    target.mkdir(exist_ok=True)
    target.chmod(0o711)
    log.info(
        "The user {user}, as whom PostgreSQL runs, cannot reach {home}: the database is in "
        "{target}{found}, and {home} is a link to it.",
        user=account.name,
        home=home,
        target=target,
        found=", which has data already" if (target / "cluster").exists() else "",
    )
    home.rmdir()
    home.symlink_to(target)
    return target


def lock(home: Path) -> int:
    """Take the lock of ``home`` for this process; it lasts until the returned file is closed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(home / "lock", flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
        os.close(file)
        raise EmbeddedPostgresError(
            f"The database directory {home} is in use by another twuws service (pid {holder}). "
            "Stop that one, or choose another --data-dir."
        ) from None
    except OSError:
        os.close(file)
        raise
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file


def versionIn(cluster: Path) -> int | None:
    """The major version of PostgreSQL that made ``cluster``; None if there is no such directory."""
    if not cluster.exists():
        return None
    try:
        return int((cluster / "PG_VERSION").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise EmbeddedPostgresError(
            f"{cluster} does not hold a PostgreSQL cluster, or a damaged one. Bring back a copy of "
            "it, or choose another --data-dir."
        ) from None


def pidFile(cluster: Path) -> list[str]:
    """The lines of the postmaster's own file: pid, directory, time, port, sockets, …, status."""
    try:
        return [line.strip() for line in (cluster / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def postmaster(cluster: Path) -> psutil.Process | None:
    """The process that serves ``cluster`` now, if it is really one that we started for it."""
    try:
        process = psutil.Process(int(pidFile(cluster)[0]))
        words = process.cmdline()  # empty for one that has ended
    except (IndexError, ValueError, psutil.Error):
        return None
    ours = words[1:3] == ["-D", str(cluster)] and os.path.basename(words[0]) == "postgres"
    return process if ours else None


def socketDirectory(cluster: Path, account: HostUser | None) -> Path:
    """Where the server's socket goes: a directory of mode 0700, the cluster if its path will do.

    libpq and PostgreSQL give meanings to commas, quotes and spaces.
    """
    plain = re.fullmatch(r"[A-Za-z0-9_./+:=@-]+", str(cluster))
    if plain and len(os.fsencode(cluster / SOCKET)) <= SOCKET_LIMIT:
        return cluster
    parent = "/run" if os.access("/run", os.W_OK) else "/tmp"  # noqa: S108 (a private one in it)
    private = Path(tempfile.mkdtemp(prefix="twuws-", dir=parent))
    if account is not None:
        os.chown(private, account.uid, account.gid)
    return private


def removeSockets(directory: Path, cluster: Path) -> None:
    """Remove what :func:`socketDirectory` made, and only that."""
    if directory == cluster or not directory.name.startswith("twuws-"):
        return
    for name in (SOCKET, f"{SOCKET}.lock"):
        (directory / name).unlink(missing_ok=True)
    if directory.is_dir():
        directory.rmdir()


def dsnOf(sockets: Path) -> str:
    """How libpq finds the server whose socket is in ``sockets``."""
    return f"host={sockets} port=5432 user=uws dbname=postgres"


def runningDSN(directory: str | Path) -> str | None:
    """The DSN of the server that runs in ``directory`` right now, or None.

    For a command that works beside the running service, as its user or as root.
    """
    cluster = Path(os.path.realpath(directory)) / "cluster"
    try:
        lines = pidFile(cluster)
        if lines[7:] == ["ready"] and postmaster(cluster) is not None:
            return dsnOf(Path(lines[4]))
    except OSError:
        pass  # not ours to look into
    return None


def syncDirectory(path: Path) -> None:
    """Make a rename in ``path`` survive a power cut."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
