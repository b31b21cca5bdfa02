"""
A file of names and hashed passwords, as C{htpasswd -B} of Apache writes it and C{twuws passwd}.

A line is C{name:hash}; what begins with C{#} is a comment.  The hashes are bcrypt's.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import bcrypt
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twuws.errors import UWSError

_HASH = re.compile(rb"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}")
#: What bcrypt makes use of, bytes.
LONGEST = 72
#: The hash of what nobody knows: a name that is not there takes as long as one that is.
_NOBODY = b"$2b$12$ChkX2BjB7Ld3FSA.7uU29.Gq0udbgJ1dk9D.2SKL6Vnk2MBcJhUai"

#: For how long after a change another one may have the same time, s.
_FRESH = 2.0


def readPasswords(path: Path) -> dict[str, bytes]:
    """
    The hashes by name.

    @raise UWSError: if the file cannot be read, or a line is none: a password as plain text, or
        hashed by something else, above all.
    """
    hashes: dict[str, bytes] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as e:
        raise UWSError(f"{path}: it cannot be read: {e.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        name, _, hashed = line.strip().partition(b":")
        if not _HASH.fullmatch(hashed):
            raise UWSError(
                f"{path}, line {number}: expected name:hash with a hash of bcrypt; write it with"
                " twuws passwd, or htpasswd -B. Nothing else is taken, least of all plain text."
            )
        try:
            hashes[checkName(name.decode("utf-8"))] = hashed
        except ValueError as e:
            raise UWSError(f"{path}, line {number}: {e}") from None
    return hashes


def checkName(name: str) -> str:
    """
    A name that a user can have.

    @raise ValueError: if it is none; a C{UnicodeDecodeError} is one, too.
    """
    if not name or ":" in name or not name.isprintable() or name != name.strip():
        raise ValueError(f"{name!r} cannot name a user: it is empty, or has a colon or spaces")
    return name


def hashPassword(password: str) -> bytes:
    """
    What is kept of a password.

    @raise ValueError: if it is empty, or longer than what bcrypt makes use of.
    """
    encoded = password.encode()
    if not encoded or len(encoded) > LONGEST:
        raise ValueError(f"a password has 1 to {LONGEST} bytes in UTF-8")
    return bcrypt.hashpw(encoded, bcrypt.gensalt())


def changePasswords(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """
    Change a file of passwords, all at once: who reads it sees the old one or the new.

    It is made if it is not there, for its owner alone to read.  Its comments stay.

    @param change: is given the hashes by name, to change them; nobody else does meanwhile.
    """
    path = Path(os.path.realpath(path))
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        flock(directory, LOCK_EX)
        before = readPasswords(path) if path.exists() else {}
        after = dict(before)
        change(after)
        lines = path.read_bytes().splitlines() if path.exists() else []
        _replace(path, [*_changed(lines, after), *_lines(set(after) - set(before), after)])
    finally:
        os.close(directory)


def _changed(lines: list[bytes], hashes: dict[str, bytes]) -> Iterator[bytes]:
    """The lines of a file, with other hashes."""
    for line in lines:
        name = line.strip().partition(b":")[0].decode("utf-8", "replace")
        if not line.strip() or line.startswith(b"#"):
            yield line
        elif name in hashes:
            yield from _lines([name], hashes)


def _lines(names: Iterable[str], hashes: dict[str, bytes]) -> list[bytes]:
    return [name.encode() + b":" + hashes[name] for name in names]


def _replace(path: Path, lines: list[bytes]) -> None:
    """Write a file, with the mode and the owner that it has."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as f:
            f.writelines(line + b"\n" for line in lines)
            f.flush()
            os.fsync(descriptor)
            if path.exists():
                found = path.stat()
                os.fchmod(descriptor, found.st_mode & 0o777)
                if os.geteuid() == 0:
                    os.fchown(descriptor, found.st_uid, found.st_gid)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


@implementer(ICredentialsChecker)
class PasswordFile:
    """
    A checker of Twisted's for such a file, which may change at any time.

    bcrypt takes a quarter of a second, so it is done in a thread, and not again for a password
    that was right before: of that, a digest is kept in memory, with a key of this process, for
    as long as its hash is in the file.

    @raise UWSError: if the file is none.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        self._right: dict[str, tuple[bytes, bytes]] = {}
        self._read: tuple[tuple[int, ...] | None, dict[str, bytes]] = None, {}
        self._hashes()

    def recall(self, credentials: Any) -> Deferred[bytes | None]:
        """The name, if the password was right before; C{None} if not."""
        return deferToThread(self._recall, bytes(credentials.username), bytes(credentials.password))

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        return deferToThread(self._check, bytes(credentials.username), bytes(credentials.password))

    # In threads, several at a time

    def _recall(self, username: bytes, password: bytes) -> bytes | None:
        name = username.decode("utf-8")
        hashed, known = self._hashes().get(name), self._right.get(name)
        if hashed is None or known is None or known[0] != hashed:
            return None
        return username if hmac.compare_digest(known[1], self._digest(password)) else None

    def _check(self, username: bytes, password: bytes) -> bytes | tuple[()]:
        if (known := self._recall(username, password)) is not None:
            return known
        name, hashes = username.decode("utf-8"), self._hashes()
        hashed = hashes.get(name)
        # A name that is not there takes as long as those that are.
        tried = hashed or next(iter(hashes.values()), _NOBODY)
        isRight = bcrypt.checkpw(password[:LONGEST], tried)
        if hashed is None or not isRight or len(password) > LONGEST:
            raise UnauthorizedLogin
        self._right[name] = hashed, self._digest(password)
        return username

    def _digest(self, password: bytes) -> bytes:
        return hmac.digest(self._key, password, "sha256")

    def _hashes(self) -> dict[str, bytes]:
        """
        What is in the file, read again if it may have changed.

        @raise UWSError: if it cannot be read now: then nobody is let in.
        """
        state, hashes = self._read
        if state is None or state != self._state():
            state = self._state()  # before it is read: what changes then is seen the next time
            hashes = readPasswords(self._path)
            self._read = state, hashes
        return hashes

    def _state(self) -> tuple[int, ...] | None:
        """
        What differs when the file has changed; C{None} where that need not be: it was changed so
        short a time ago that another change may look the same.
        """
        try:
            found = self._path.stat()
        except OSError:
            return None
        if abs(time.time() - found.st_mtime) < _FRESH:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
