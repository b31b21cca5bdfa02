"""
What C{twuws passwd} does: it needs no database, and no service.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from getpass import getpass
from pathlib import Path
from typing import TextIO

from twuws.admin.output import Report, printable
from twuws.authenticators.passwordfile import (
    changePasswords,
    checkName,
    hashPassword,
    readPasswords,
)
from twuws.config import passwordFile
from twuws.errors import UWSError


def run(options: Namespace) -> int:
    """
    Add somebody, change their password, remove them, or list all; the exit status.

    The password is asked for twice at a terminal, and is one line of stdin otherwise.
    """
    report = Report(sys.stdout, sys.stderr, options.json)
    try:
        path, name = _meant(options)
        if name is None:
            _list(path, report)
        else:
            did = _remove(path, name) if options.delete else _set(path, name, sys.stdin)
            if report.asJSON:
                report.give({"file": str(path), "name": name, "did": did})
            else:
                report.say(f"{printable(name)} was {did}")
    except (UWSError, ValueError) as e:
        report.failure(str(e))
        return 2
    except OSError as e:
        report.failure(f"{e.filename}: {e.strerror}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _meant(options: Namespace) -> tuple[Path, str | None]:
    """The file, and the name in it; C{None} if all are to be listed."""
    words = list(options.words)
    wanted = 0 if options.list else 1
    if len(words) != wanted + (options.config is None):
        raise UWSError(
            "Give a file of passwords, or the configuration that names it with --config"
            + ("." if options.list else ", and then a name.")
        )
    path = Path(words.pop(0)) if options.config is None else passwordFile(options.config)
    return path, None if options.list else checkName(words[0])


def _list(path: Path, report: Report) -> None:
    names = sorted(readPasswords(path))
    if report.asJSON:
        report.give(names)
        return
    for name in names:
        report.say(name)


def _remove(path: Path, name: str) -> str:
    def remove(hashes: dict[str, bytes]) -> None:
        if hashes.pop(name, None) is None:
            raise UWSError(f"{path}: there is nobody called {name!r}.")

    changePasswords(path, remove)
    return "removed"


def _set(path: Path, name: str, stdin: TextIO) -> str:
    hashed = hashPassword(_password(name, stdin))
    before: set[str] = set()

    def change(hashes: dict[str, bytes]) -> None:
        before.update(hashes)
        hashes[name] = hashed

    changePasswords(path, change)
    return "changed" if name in before else "added"


def _password(name: str, stdin: TextIO) -> str:
    if not stdin.isatty():
        return stdin.readline().rstrip("\r\n")
    try:
        password = getpass(f"Password of {name}: ")
        if getpass("Once more: ") != password:
            raise UWSError("These were two different passwords; nothing was changed.")
    except EOFError:
        raise UWSError("There was no password; nothing was changed.") from None
    return password
