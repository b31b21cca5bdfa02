"""
Playing a column of the matrix: jobs in every state, one fault, and what becomes of them.
"""

from __future__ import annotations

import http.client
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import journal
from tests.chaos.checker import Violation, check
from tests.chaos.clients import Asker, Client, Log, Mine, Op
from tests.chaos.cluster import Cluster, Node
from tests.chaos.columns import COLUMNS
from tests.chaos.evidence import Evidence, collect, untilEmpty, usageOf, watchMismatches
from tests.chaos.faults import Fault, directoryOf
from tests.chaos.gates import CLAIM
from tests.chaos.journal import clock
from tests.chaos.matrix import GONE, Cell, cells

#: How many jobs a node runs at a time: all of a column.
SLOTS = 24

#: How long it may take to bring a job into its state, s.
_PATIENCE = 30.0

#: The gate at which a job is kept in its state, and how long it works, s.
_GATES = {
    "claimed": "start",
    "started": "remember",
    "ended": "finish",
    "aborting": "stop",
    "deleting": "stop",
}
_SECONDS = {"QUEUED": 0.3, "claimed": 0.3, "started": 0.3, "ended": 0.1, "aborting": 90.0}
_SECONDS["deleting"] = _SECONDS["aborting"]


@dataclass(kw_only=True)
class Fate:
    """
    What becomes of the job of one cell.

    @ivar end: in the words of L{tests.chaos.matrix.TABLE}.
    @ivar wrong: what else is wrong with it.
    @ivar story: its records, for whoever reads what failed.
    """

    cell: Cell
    mine: Mine | None = None
    end: str | None = None
    wrong: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    @property
    def jobId(self) -> str:
        assert self.mine is not None
        return self.mine.jobId


class Maker(Client):
    """A client that does as it is told."""

    def make(self, service: str, seconds: float) -> Mine:
        """Make a job, which is PENDING then."""
        form = {"seconds": f"{seconds:g}"}
        op = self._op("create", service)
        self.asker.ask(op, "POST", f"/{service}/async", **form)
        assert op.outcome == "acked", f"{op.status} {op.text}"
        op.jobId = str(op.value).rpartition("/")[2]
        self.asker.log.add(self._noted(op, "created", form))
        return Mine(jobId=op.jobId, service=service)


class Play:
    """
    One fault, at jobs in every state at once, in a cluster of its own.

    @ivar first: the node at which the fault is, if it is at one.
    @ivar skipped: why it cannot be played here.
    @ivar wrong: what is wrong with no job.
    """

    def __init__(self, fault: str) -> None:
        self.fault, self.column = fault, COLUMNS[fault]
        self.fates = [Fate(cell=cell) for cell in cells(fault)]
        self.directory = Path(tempfile.mkdtemp(prefix=f"twuws-matrix-{fault}-"))
        self.cluster = Cluster(
            self.directory,
            self.column.hosts,
            slots=SLOTS,
            lease=self.column.lease,
            running=SLOTS,
            gated=True,
        )
        self.first = self.cluster.nodes[0]
        self.log = Log(self.directory / "clients.jsonl")
        self.evidence = Evidence()
        self.skipped: str | None = None
        self.wrong: list[str] = []

    def run(self) -> None:
        """Play it to its end."""
        try:
            if self.fault == "disk" and not self.cluster.disk:
                self.skipped = "no small disk can be mounted here, which takes root"
            else:
                self._play()
        finally:
            self.cluster.close()
            self.log.close()
        if self.skipped is None:
            self._judge(check(self.evidence))
        if not any([self.wrong, *(fate.wrong for fate in self.fates)]):
            shutil.rmtree(self.directory, ignore_errors=True)

    def _play(self) -> None:
        self.cluster.postgres.start()
        self.first.start()
        self._prepare()
        for node in self.cluster.nodes[1:]:
            node.start()
        self._break()
        self._settle()

    # Before

    @contextmanager
    def guarded(self, fate: Fate) -> Iterator[None]:
        """Keep to one cell what goes wrong with it."""
        try:
            yield
        except Exception as e:
            fate.wrong.append(f"{type(e).__name__}: {e}")

    def _each(self, action: Callable[[Fate], object], *states: str) -> None:
        for fate in self.fates:
            if fate.cell.state in states and not fate.wrong:
                with self.guarded(fate):
                    action(fate)

    def _prepare(self) -> None:
        """Bring every job into its state, and keep it there."""
        maker = self._makerAt(self.first)
        gated, ending = tuple(_GATES), ("aborting", "deleting")
        every = (*gated, "EXECUTING", "QUEUED")

        def run(fate: Fate) -> None:
            assert fate.mine is not None
            maker.runIt(fate.mine)

        def end(fate: Fate) -> None:
            assert fate.mine is not None
            (maker.abort if fate.cell.state == "aborting" else maker.delete)(fate.mine)

        def make(fate: Fate) -> None:
            seconds = _SECONDS.get(fate.cell.state, self.column.seconds)
            fate.mine = maker.make(fate.cell.service, seconds)
            self.cluster.known.add(fate.jobId)

        self._each(make, *every)
        self._each(lambda fate: self._gates.close(_GATES[fate.cell.state], fate.jobId), *gated)
        self._each(run, *gated)
        self._each(self._untilItWorks, *ending)
        self._each(end, *ending)
        self._each(self._untilReached, *gated)
        self._each(run, "EXECUTING")
        self._each(self._untilItWorks, "EXECUTING")
        self._gates.close(CLAIM)
        self._each(run, "QUEUED")
        self._each(self._checkState, *every)

    @property
    def _gates(self) -> Any:
        assert self.cluster.gates is not None
        return self.cluster.gates

    def _makerAt(self, node: Node) -> Maker:
        return Maker(0, self.fault, Asker({node.name: node.url}, self.log))

    def _untilReached(self, fate: Fate) -> None:
        self._gates.untilReached(_GATES[fate.cell.state], fate.jobId, _PATIENCE)

    def _untilItWorks(self, fate: Fate) -> None:
        until = time.monotonic() + _PATIENCE
        while not any(span.jobId == fate.jobId for span in journal.read(self.cluster.journal)):
            assert time.monotonic() < until, "it does not begin to work"
            time.sleep(0.05)

    def _checkState(self, fate: Fate) -> None:
        """See that a job is in the state that its cell is about."""
        rows = self.cluster.postgres.query(
            """SELECT (SELECT phase FROM jobs WHERE job_id = %(id)s) AS phase,
                      EXISTS (SELECT FROM queue WHERE job_id = %(id)s AND ref IS NOT NULL) AS ref,
                      EXISTS (SELECT FROM stops WHERE job_id = %(id)s) AS stop""",
            {"id": fate.jobId},
        )
        found = rows[0]["phase"], rows[0]["ref"], rows[0]["stop"]
        assert found == {
            "QUEUED": ("QUEUED", False, False),
            "claimed": ("EXECUTING", False, False),
            "started": ("EXECUTING", False, False),
            "EXECUTING": ("EXECUTING", True, False),
            "ended": ("EXECUTING", True, False),
            "aborting": ("ABORTED", False, True),
            "deleting": (None, False, True),
        }[fate.cell.state]  # fmt: skip

    # While it is broken

    def _break(self) -> None:
        self.evidence.usage = {name: (one, one) for name, one in usageOf(self.cluster).items()}
        fault = Fault(kind=self.fault, node=self.first.name, text=self.column.what)
        self.evidence.faults.append(fault)
        self.column.inject(self)
        fault.ended = clock()

    def openFor(self, fate: Fate) -> None:
        """Let go on what keeps the job of one cell in its state."""
        if fate.cell.state == "QUEUED":
            self._gates.open(CLAIM)
        elif stage := _GATES.get(fate.cell.state):
            self._gates.open(stage, fate.jobId)

    def open(self) -> None:
        """Let everything go on."""
        self._gates.open(CLAIM)
        for fate in self.fates:
            if fate.mine is not None:
                self.openFor(fate)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Have clients that wait for jobs, and see that they hear of their ends at once."""
        asker, several = Asker({self.first.name: self.first.url}, self.log), []

        def wait(fate: Fate) -> None:
            op = Op(what="wait", node=self.first.name, service=fate.cell.service, wait=20)
            op.jobId = fate.jobId
            asker.ask(op, "GET", f"/{op.service}/async/{op.jobId}?WAIT=20")
            ended = max(one.last for one in journal.read(self.cluster.journal)
                        if one.jobId == op.jobId)  # fmt: skip
            if "COMPLETED" not in op.text or op.ended > ended + 5:
                fate.wrong.append(f"who waited was told after {op.ended - ended:.1f} s: {op.text}")

        for fate in self.fates:
            if fate.cell.state == "EXECUTING" and not fate.wrong:
                several.append(threading.Thread(target=wait, args=(fate,), daemon=True))
        for thread in several:
            thread.start()
        time.sleep(1)  # until all of them wait
        yield
        for thread in several:
            thread.join(60)

    def checkUnavailable(self) -> None:
        """See that who reads or writes is asked to come back."""
        jobId = next(fate.jobId for fate in self.fates if fate.mine is not None)
        for method, path in (("GET", f"/worked/async/{jobId}"), ("POST", "/worked/async")):
            connection = http.client.HTTPConnection("127.0.0.1", self.first.port, timeout=30)
            connection.request(method, path)
            answer = connection.getresponse()
            if answer.status != 503 or not answer.headers["Retry-After"]:
                self.wrong.append(f"{method} is answered with {answer.status} meanwhile")
            connection.close()

    # Afterwards

    def _settle(self) -> None:
        """Wait until all has ended that is to end, and look at what is left."""
        healed = time.monotonic()
        if self.column.isLosing:  # what is lost is seen one lease later
            time.sleep(self.column.lease * 1.5)
        self.evidence.mismatches = watchMismatches(self.cluster)
        for node in self.cluster.nodes:  # who was never to come back comes back after all
            if not node.isThere:
                node.start()
        until = healed + self.column.settled + self.column.seconds
        self.evidence.unsettled = untilEmpty(self.cluster, max(5, until - time.monotonic()))
        self._each(self._untilRemoved, "deleting")
        self._goOn()
        collect(self.cluster, self.evidence, self._makerAt(self.first).asker)
        self.evidence.ops = self.log.ops
        after = usageOf(self.cluster)
        for name, (before, _) in self.evidence.usage.items():
            self.evidence.usage[name] = before, after[name]

    def _untilRemoved(self, fate: Fate) -> None:
        until = time.monotonic() + 10
        while directoryOf(self.cluster, fate.jobId).exists():
            assert time.monotonic() < until, "its directory is still there"
            time.sleep(0.05)

    def _goOn(self) -> None:
        """See that every node answers, and that the service does what comes next."""
        for node in self.cluster.nodes:
            maker = self._makerAt(node)
            for service in ("worked", "awaited"):
                job = maker.make(service, 0.1)
                self.cluster.known.add(job.jobId)
                maker.runIt(job)
                for _ in range(4):  # its phases, and one time limit
                    maker.wait(job)
                    if job.phase == "COMPLETED":
                        break
                else:
                    self.wrong.append(f"{node.name} does not run {job.jobId}: it is {job.phase}")

    def _judge(self, violations: list[Violation]) -> None:
        """Tell each cell what was found."""
        fates = {fate.mine.jobId: fate for fate in self.fates if fate.mine is not None}
        for jobId, fate in fates.items():
            fate.end = _endOf(self.evidence.jobs.get(jobId))
            if fate.end not in fate.cell.ends:
                fate.wrong.append(f"it ends as {fate.end}, not as {' or '.join(fate.cell.ends)}")
            for event in self.evidence.events:
                if event["job_id"] == jobId:
                    told = (event["phase"], event["attempt"], event["node"], event["why"])
                    fate.story.append(f"{event['at']:%M:%S.%f} " + " ".join(map(str, told)))
        for one in violations:
            owner = fates.get(one.jobId or "")
            (owner.wrong if owner else self.wrong).append(f"{one.rule}: {one.jobId} {one.text}")


def _endOf(row: dict[str, Any] | None) -> str:
    """
    A job's end in the words of L{tests.chaos.matrix.TABLE}.

    >>> _endOf(None), _endOf({"phase": "COMPLETED", "attempt": 2})
    ('--', 'C2')
    """
    if row is None:
        return GONE
    letter = row["phase"][0]
    if row["phase"] == "ERROR":
        letter = row["error"]["type"][0].upper()
    return f"{letter}{row['attempt']}"


@cache
def played(fault: str) -> Play:
    """A column that has been played, once."""
    play = Play(fault)
    try:
        play.run()
    except Exception as e:
        play.wrong.append(f"the column could not be played: {type(e).__name__}: {e}")
    return play


def _playedHere(fault: str) -> Play:
    play = played(fault)
    if play.skipped is not None:
        pytest.skip(play.skipped)
    return play


def expect(cell: Cell) -> None:
    """Fail unless a cell is as it is to be."""
    play = _playedHere(cell.fault)
    fate = next(fate for fate in play.fates if fate.cell == cell)
    wrong = fate.wrong or ([] if fate.end else play.wrong)
    assert not wrong, "\n".join([*wrong, *fate.story, f"the logs are in {play.directory}"])


def expectTheRest(fault: str) -> None:
    """Fail unless all that is of no cell is as it is to be, too."""
    play = _playedHere(fault)
    assert not play.wrong, "\n".join([*play.wrong, f"the logs are in {play.directory}"])
