"""
Gates, at which a node stops with one job: just before it does what would end the state that
the job is in.

A gate is a file that is called C{STAGE.JOBID}, and closed as long as that file is there.  The
node waits at it with this one job, and does everything else; that it waits it tells with
another file.  Nothing of this is in twuws itself: L{tests.chaos.launch} puts it into the
process of a node that is about to start.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

#: The variable that names the directory of the gates.
VARIABLE = "CHAOS_GATES"

#: What comes right after each gate.  At L{CLAIM} all jobs of all nodes wait.
CLAIM = "claim"
STAGES = {
    CLAIM: "a job that is QUEUED is claimed",
    "start": "a job that is claimed is started",
    "remember": "it is recorded where work is that was started, and the work is let go",
    "finish": "it is recorded that work has ended",
    "stop": "work is ended whose job was aborted or deleted",
}

#: Between looks at a gate, s.
_INTERVAL = 0.02


class Gates:
    """
    The gates, as those see them who open and close them.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def _path(self, stage: str, jobId: str) -> Path:
        assert stage in STAGES
        return self.directory / f"{stage}.{jobId}"

    def close(self, stage: str, jobId: str = "all") -> None:
        """Let whoever comes to this gate wait."""
        self._path(stage, jobId).touch()

    def open(self, stage: str, jobId: str = "all") -> None:
        """Let everybody through, now and later."""
        self._path(stage, jobId).unlink(missing_ok=True)

    def isReached(self, stage: str, jobId: str) -> bool:
        """Whether somebody has waited at this gate, or does."""
        return _reached(self._path(stage, jobId)).exists()

    def untilReached(self, stage: str, jobId: str, seconds: float) -> None:
        """Wait until somebody waits at this gate."""
        until = time.monotonic() + seconds
        while not self.isReached(stage, jobId):
            assert time.monotonic() < until, f"{jobId} does not come to where {STAGES[stage]}"
            time.sleep(_INTERVAL)


def _reached(gate: Path) -> Path:
    return gate.with_name(gate.name + ".reached")


# In the process of a node


async def _through(stage: str, jobId: str) -> None:
    """Wait as long as the gate is closed."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    gate = Path(os.environ[VARIABLE]) / f"{stage}.{jobId}"
    while gate.exists():
        _reached(gate).touch()
        await deferLater(reactor, _INTERVAL)


def install() -> None:
    """Put the gates where they belong, in this process."""
    from twuws.attempt import Attempt
    from twuws.node import Node
    from twuws.reporter import Reporter
    from twuws.stopping import Stopper

    _before(Attempt, "_start", "start", lambda attempt: attempt.record.jobId)
    _before(Node, "remember", "remember", lambda node, record, ref: record.jobId)
    _before(Reporter, "finish", "finish", lambda reporter, *more: reporter._record.jobId)
    _before(Stopper, "_stop", "stop", lambda stopper, row: row["job_id"])
    claims = Node.claims

    async def claimsIfOpen(node: Node, places: int) -> Any:
        if (Path(os.environ[VARIABLE]) / f"{CLAIM}.all").exists():
            node.isHeld = True  # so that it looks again before long
            return []
        return await claims(node, places)

    # In the place of the method, on purpose, which mypy minds.
    Node.claims = claimsIfOpen  # type: ignore[method-assign,assignment]


def _before(cls: Any, method: str, stage: str, jobIdOf: Any) -> None:
    """Have a gate before a method that is a coroutine function."""
    original = getattr(cls, method)

    async def gated(*args: Any) -> Any:
        await _through(stage, jobIdOf(*args))
        return await original(*args)

    setattr(cls, method, gated)
