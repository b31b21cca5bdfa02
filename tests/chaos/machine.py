"""
The rules by which the state machine of L{tests.chaos.test_machine} asks for things and breaks
things; what must be so after each of them is said by L{tests.chaos.ground} and
L{tests.chaos.model}.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.chaos.example import FAR, SOON
from tests.chaos.ground import Ground
from tests.chaos.jobs import GATED
from tests.chaos.model import Job, Wish

#: Which node is asked, or broken.
NODE = st.integers(0, 1)
SERVICE = st.sampled_from(sorted(GATED))
RUN, ABORT, DELETE = (Wish(what=what) for what in ("run", "abort", "delete"))
CHANGE = st.sampled_from(
    [
        *(Wish(what="text", value=text) for text in ("one", "another")),
        *(Wish(what="duration", value=seconds) for seconds in (1, 7200)),
        *(Wish(what="destruction", value=when) for when in (FAR, SOON)),
    ]
)


class Machine(RuleBasedStateMachine):
    """
    One example: jobs of its own, on ground that all examples share.
    """

    jobs = Bundle("jobs")
    keyed = Bundle("keyed")
    #: Any job; more often one that is not gone for sure.
    any = st.one_of(jobs, keyed)

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.down: list[int] = []
        self.frozen: list[int] = []

    @initialize()
    def begin(self) -> None:
        self.ground = self.ground.begin()

    def _bothAreUp(self) -> bool:
        return not (self.down or self.frozen)

    # What clients ask for

    @rule(target=jobs, service=SERVICE, node=NODE, runs=st.booleans(), isShort=st.booleans())
    def create(self, service: str, node: int, runs: bool, isShort: bool) -> Job:
        return self.ground.create(service, [node], runs, duration=1 if isShort else None)

    @rule(target=keyed, service=SERVICE, node=NODE, runs=st.booleans(), twice=st.booleans())
    def createWithKey(self, service: str, node: int, runs: bool, twice: bool) -> Job:
        """Maybe at both nodes at the same time."""
        nodes = [0, 1] if twice else [node]
        return self.ground.create(service, nodes, runs, hasKey=True)

    @rule(job=keyed, node=NODE)
    def createAgain(self, job: Job, node: int) -> None:
        self.ground.createAgain(job, [node])

    @rule(job=any, node=NODE)
    def run(self, job: Job, node: int) -> None:
        self.ground.wish(job, (RUN, node))

    @rule(job=any, node=NODE)
    def abort(self, job: Job, node: int) -> None:
        self.ground.wish(job, (ABORT, node))

    @rule(job=any, node=NODE)
    def delete(self, job: Job, node: int) -> None:
        self.ground.wish(job, (DELETE, node))

    @rule(job=any, node=NODE, wish=CHANGE)
    def change(self, job: Job, node: int, wish: Wish) -> None:
        self.ground.wish(job, (wish, node))

    @rule(
        job=any,
        wishes=st.tuples(*2 * [st.one_of(st.sampled_from([RUN, RUN, ABORT, DELETE]), CHANGE)]),
    )
    def race(self, job: Job, wishes: tuple[Wish, Wish]) -> None:
        """Two things at the same time, at both nodes."""
        self.ground.wish(job, *((wish, node) for node, wish in enumerate(wishes)))

    @rule(job=any, node=NODE)
    def read(self, job: Job, node: int) -> None:
        self.ground.read(job, node)

    @rule(job=any, fails=st.booleans())
    def finish(self, job: Job, fails: bool) -> None:
        """Let its work end, now or when there is some."""
        self.ground.open(job, "fail" if fails else "complete")

    # What administrators do

    @rule(service=SERVICE, isHeld=st.booleans())
    def hold(self, service: str, isHeld: bool) -> None:
        self.ground.hold(service, isHeld)

    @precondition(_bothAreUp)
    @rule(node=NODE, onStop=st.sampled_from(["leave", "requeue", "abort"]))
    def drain(self, node: int, onStop: str) -> None:
        self.ground.drain(node, onStop)

    # What breaks

    @precondition(_bothAreUp)
    @rule(node=NODE)
    def crash(self, node: int) -> None:
        """It is killed, and back at once."""
        self.ground.crash(node)

    @precondition(_bothAreUp)
    @rule(node=NODE)
    def kill(self, node: int) -> None:
        """It is killed, and stays away."""
        self.down.append(node)
        self.ground.kill(node)

    @precondition(lambda self: self.down)
    @rule()
    def start(self) -> None:
        self.ground.start(self.down.pop())

    @precondition(_bothAreUp)
    @rule(node=NODE)
    def nap(self, node: int) -> None:
        """It stands still for less than its lease; nothing may come of that."""
        self.ground.nap(node)

    @precondition(_bothAreUp)
    @rule(node=NODE)
    def freeze(self, node: int) -> None:
        """It stands still while other things go on."""
        self.frozen.append(node)
        self.ground.freeze(node)

    @precondition(lambda self: self.frozen)
    @rule(isLate=st.booleans())
    def thaw(self, isLate: bool) -> None:
        """It goes on, maybe only when its lease has run out and others have its jobs."""
        self.ground.thaw(self.frozen.pop(), isLate)

    @rule()
    def restartPostgres(self) -> None:
        self.ground.restartPostgres()

    @rule()
    def cutConnections(self) -> None:
        self.ground.cutConnections()

    @precondition(_bothAreUp)
    @rule(job=any, isRunner=st.booleans())
    def killWork(self, job: Job, isRunner: bool) -> None:
        self.ground.killWork(job, isRunner)

    @precondition(_bothAreUp)
    @rule(node=NODE)
    def reusePids(self, node: int) -> None:
        """It crashes with all that it runs; the process ids are others' when it is back."""
        self.ground.reusePids(node)

    # What must be so

    @invariant()
    def nothingElseHappened(self) -> None:
        self.ground.check()

    def teardown(self) -> None:
        while self.frozen:
            self.ground.thaw(self.frozen.pop())
        while self.down:
            self.ground.start(self.down.pop())
        self.ground.settle()
