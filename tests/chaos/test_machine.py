"""
A hypothesis state machine drives creations, moves and faults against a model.

What it does comes from a seed, which is printed: C{CHAOS_SEED} does the same again, as far as
processes do.  C{CHAOS_EXAMPLES} and C{CHAOS_STEPS} say how much, and C{CHAOS_BUG} which
deliberate bug of L{tests.chaos.bugs} it is to find.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.cluster import Cluster
from tests.chaos.ground import Ground
from tests.chaos.jobs import GATED
from tests.chaos.machine import Machine

#: About a minute.  Nothing is made smaller: an example takes too long, and what processes
#: do is not the same each time.  What was done is told in full instead.
BOUNDED = settings(
    max_examples=int(os.environ.get("CHAOS_EXAMPLES", "4")),
    stateful_step_count=int(os.environ.get("CHAOS_STEPS", "25")),
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def ground():
    """A cluster for all examples; its directory is kept if something is wrong."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    directory = Path(tempfile.mkdtemp(prefix=f"twuws-machine-{seed}-"))
    cluster = Cluster(directory, ["a", "b"], bug=os.environ.get("CHAOS_BUG"), services=GATED)
    ground = Ground(cluster, seed)
    try:
        cluster.start()
        yield ground
    finally:
        ground.close()
        cluster.close()
        if ground.story.violation is None:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.chaos
def test_machine(ground):
    def machine():
        return Machine(ground)

    sys.stdout.write(f"CHAOS_SEED={ground.seed}\n")
    try:
        run_state_machine_as_test(hypothesis.seed(ground.seed)(machine), settings=BOUNDED)
    finally:
        done = ", ".join(f"{what} {n}" for what, n in sorted(ground.story.done.items()))
        sys.stdout.write(f"{ground.story.violation or ''}\n{done}\n")
