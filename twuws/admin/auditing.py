"""
The record of what is done with the C{twuws} command: lines of the file that the service writes to.
"""

from __future__ import annotations

import os
import socket
from argparse import Namespace
from pathlib import Path

from twuws.admin import commands, holding, nodes, tokens
from twuws.admin.session import Session
from twuws.web.audit import AuditLog

#: The commands that change something, by what the record calls them.
CHANGES = {
    commands.runJobs: "run",
    commands.abortJobs: "abort",
    commands.destroyJobs: "destroy",
    commands.cleanup: "cleanup",
    holding.hold: "hold",
    holding.release: "release",
    nodes.drainNodes: "drain",
    tokens.createToken: "token create",
    tokens.revokeTokens: "token revoke",
}

#: The options that say what to do it to, and how; others may have passwords.
_TOLD = (
    "jobs", "nodes", "tokens", "service", "owner", "on_stop", "why", "scope", "label",
    "include_failed", "include_completed", "include_all", "include_forgotten",
)  # fmt: skip


def auditFor(session: Session, options: Namespace) -> AuditLog | None:
    """
    Where to record a command; C{None} if it changes nothing, or no file is configured.

    @raise UWSError: if the file cannot be written: then nothing is to be done.
    """
    path = session.config.audit
    if path is None or options.command not in CHANGES or getattr(options, "dry_run", False):
        return None
    if os.geteuid() == 0 and not path.exists():
        _makeFor(path)
    return AuditLog(path)


def record(audit: AuditLog, session: Session, options: Namespace, status: int) -> None:
    """
    Write what was done, and what came of it.

    @param status: the exit status of the command.
    """
    given = {name: getattr(options, name, None) for name in _TOLD}
    audit.command(
        who=session.who,
        where=socket.gethostname(),
        did=CHANGES[options.command],
        to={name.replace("_", "-"): value for name, value in given.items() if value},
        status=status,
    )


def _makeFor(path: Path) -> None:
    """Make the file for whoever has the directory, who may be the service's user."""
    try:
        owner = path.parent.stat()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    except OSError:
        return  # who opens it says why it cannot be
    os.fchown(handle, owner.st_uid, owner.st_gid)
    os.close(handle)
