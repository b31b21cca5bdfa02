"""
From RUN to COMPLETED, as somebody sees who waits: of jobs that do nothing.

An C{async def} job runs in the service.  A program is started by a runner, beside the same program
started by C{subprocess.run}.  A Python job class is run by a runner, beside a C{python} that
imports the same modules.

There are four commits: QUEUED, EXECUTING, where the work is, and how it ended; in all some 16 round
trips to PostgreSQL, those of the client who waits included.  An C{async def} job takes two turns in
a thread, for its directory.

Runners are forked from a process that has imported what they need (L{twuws.forking}), so that no
interpreter starts.  While that goes on a thread makes the job's directory ready, and while it is
stored where the work is the runner reads its job.  Runner and work take 11 ms of CPU for a program,
and 12 for a job class, of which half are pages of memory that are copied when they are written to:
1,000 in the runner and 700 in the work, at 3 to 5 us each.  If the work has left nothing open it
ends without taking its modules apart (L{twuws.exiting}), which would be 9 ms more.  Nothing but the
commits waits for the disk.

The jobs of the first turn are those that start the process, and count for nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from bench.bed import Bed
from bench.client import Client, millisecondsSince
from bench.figures import Figure, Target, ratioOf
from bench.processes import ROOT, environment

#: What the runner imports for L{bench.jobclasses.Plain}.
MODULES = "twuws.runner, bench.jobclasses"


def untilCompleted(client: Client, service: str) -> float:
    """Run a new job, and say after how many ms it was seen to be COMPLETED."""
    job = client.create(service)
    began = time.perf_counter()
    client.post(job + "/phase", {"PHASE": "RUN"})
    phase = client.untilEnded(job)
    took = millisecondsSince(began)
    if phase != "COMPLETED":
        raise RuntimeError(f"{client.get(job)}")
    return took


def started(*command: str) -> float:
    """After how many ms a program has ended."""
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, env=environment())
    return millisecondsSince(began)


def inTurns(bed: Bed) -> Iterator[list[float]]:
    """The times of each, who take turns; those of the first turn count for nothing."""
    with bed.usual.client() as client:
        kinds: tuple[Callable[[], float], ...] = (
            lambda: untilCompleted(client, "noop"),
            lambda: untilCompleted(client, "program"),
            lambda: started("true"),
            lambda: untilCompleted(client, "plain"),
            lambda: started(sys.executable, "-c", f"import {MODULES}"),
        )
        turns = [[kind() for kind in kinds] for _ in range(9 if bed.isShort else 31)]
    return map(list, zip(*turns[1:], strict=True))


def measure(bed: Bed) -> Iterator[Figure]:
    """A figure for each of the three kinds."""
    asyncs, programs, bare, classes, imports = inTurns(bed)
    yield Figure(
        row="completed", what="RUN to COMPLETED, async def job", value=median(asyncs), unit="ms",
        target=Target(most=20, slack=8),
    )  # fmt: skip
    yield Figure(
        row="completed", what="RUN to COMPLETED, program, beyond subprocess.run",
        value=median(programs) - median(bare), unit="ms", bound=median(bare),
        target=Target(most=40, slack=8), more={"whole": median(programs)},
    )  # fmt: skip
    yield Figure(
        row="completed", what="RUN to COMPLETED, Python job class", value=median(classes),
        unit="ms", bound=median(imports), ratio=ratioOf(classes, imports),
        target=Target(most=0.5, ofRatio=True, slack=8),
    )  # fmt: skip
