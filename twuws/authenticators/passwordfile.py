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
from collections.abc import Callable
from contextlib import suppress
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

    It is made if it is not there, for its owner alone to read.

    @param change: is given the hashes by name, to change them.
    """
    hashes = readPasswords(path) if path.exists() else {}
    change(hashes)
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as f:
            f.writelines(one.encode() + b":" + hashed + b"\n" for one, hashed in hashes.items())
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
    that was right before: of that, a digest is kept in memory, with a key of this process.

    @raise UWSError: if the file is none.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        self._right: dict[str, tuple[bytes, bytes]] = {}
        self._hashes = readPasswords(path)
        self._state = self._stateOf()

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        return deferToThread(self._check, bytes(credentials.username), bytes(credentials.password))

    def _check(self, username: bytes, password: bytes) -> bytes | tuple[()]:
        """The name, if the password is right.  In a thread, and in several at a time."""
        self._reread()
        try:
            name = username.decode("utf-8")
        except UnicodeDecodeError:
            raise UnauthorizedLogin from None
        hashed = self._hashes.get(name)
        digest = hmac.digest(self._key, password, "sha256")
        known = self._right.get(name)
        isKnown = hashed is not None and known is not None and known[0] == hashed
        if known is not None and isKnown and hmac.compare_digest(known[1], digest):
            return username
        isRight = bcrypt.checkpw(password[:LONGEST], hashed or _NOBODY)
        if hashed is None or not isRight or len(password) > LONGEST:
            raise UnauthorizedLogin
        self._right[name] = hashed, digest
        return username

    def _reread(self) -> None:
        """Read the file again if it has changed; what cannot be read now lets nobody in."""
        if (state := self._stateOf()) != self._state:
            self._hashes, self._state = readPasswords(self._path), state

    def _stateOf(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
