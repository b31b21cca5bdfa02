"""
What the state machine asks for and sees: the jobs of one example, each answer and each look held
against L{tests.chaos.model}.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import count, cycle
from typing import Any, NoReturn, Self

from tests.chaos.clients import Asker, Log, Op
from tests.chaos.cluster import Cluster, Node
from tests.chaos.jobs import GATED, gateOf
from tests.chaos.model import (
    ACKED,
    FINAL,
    GONE,
    NOT_FOUND,
    REFUSED,
    UNSURE,
    Contradiction,
    Job,
    Wish,
    queued,
)
from tests.chaos.pulse import Pulse
from tests.chaos.story import Story
from twuws.times import formatInstant, parseInstant

#: Destruction times, as seconds from when they are asked for.
SOON, FAR = 2.0, 86400.0
#: How long what must come may take, s.
LONG = 90.0

_REF = re.compile(
    r'<uws:jobref id="(\w+)".*?<uws:phase>(\w+)</uws:phase>(?:<uws:runId>([^<]*)<)?', re.DOTALL
)
_ELEMENT = r"<uws:{0}(?: [^>]*)?>([^<]*)<"
_DESTRUCTION = re.compile(r"\s*<uws:destruction.*?(/>|</uws:destruction>)", re.DOTALL)
_TEXT = re.compile(r'<uws:parameter [^>]*id="text"[^>]*>([^<]*)<')


class Example:
    """
    The jobs of one example at a time, in a cluster that all examples share.

    @ivar jobs: all that this example has asked for, there or not.
    @ivar held: by service, whether it may be held.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.seed = cluster, seed
        self.story = Story(f"CHAOS_SEED={seed}; the logs are in {cluster.directory}")
        self._log = Log(cluster.directory / "clients.jsonl")
        self.asker = Asker({node.name: node.url for node in cluster.nodes}, self._log)
        self._pulse = Pulse()
        self._pulse.start()
        self._examples = count(1)
        self._turns = cycle(cluster.nodes)

    def close(self) -> None:
        self._pulse.stopping.set()
        self._log.close()

    def begin(self) -> Self:
        """Begin an example; returns what is to be used in it."""
        if self.story.violation is not None:
            stand: Self = self.story.again()
            return stand
        self.story.begin()
        self.prefix = f"{self.seed}-{next(self._examples)}-"
        self.jobs: list[Job] = []
        self.held = {service: {False} for service in GATED}
        self.unrestUntil = 0.0
        self._forms: dict[str, dict[str, str]] = {}
        return self

    def check(self) -> None:
        """See that all is as it may be after a step."""
        self.look()
        self.story.checks += 1

    # What is wrong

    def judge(self, action: Callable[..., None], *args: Any) -> None:
        """Hold something against the model."""
        for job in self.jobs:
            instants = job.values["destruction"]
            job.hasExpired = any(float(one) <= time.time() for one in instants if one)
        try:
            action(*args)
            return
        except Contradiction as e:
            text = str(e)
        self.wrong(text)

    def wrong(self, text: str) -> NoReturn:
        """Something is as it must not be; what is recorded of the jobs that it is about follows."""
        ids = [job.jobId for job in self.jobs if job.jobId and job.jobId in text]
        events = [" ".join(map(str, event.values())) for event in self.events(ids)]
        self.story.wrong(text, events)

    def events(self, ids: Iterable[str | None]) -> list[dict[str, Any]]:
        """The records of jobs."""
        query = "SELECT * FROM events WHERE job_id = ANY(%s) ORDER BY event_id"
        return self.cluster.postgres.query(query, (list(ids),))

    # Asking

    def _ask(self, what: str, node: Node, service: str, path: str, **form: str) -> Op:
        """Ask a node for something of a service; what it is called says the method."""
        method = {"delete": "DELETE"}.get(what, "POST" if form else "GET")
        op = Op(what=what, node=node.name, service=service, jobId=path.split("/")[1] or None)
        self.asker.ask(op, method, f"/{service}/async{path.rstrip('/')}", **form)
        told = f"{path} {form or ''} at {node.name}: {op.outcome} {op.status}"
        if op.outcome != "acked":
            self.story.say(what, f"{told} {op.text[:100]}")
        elif what != "list":  # of which there are very many
            self.story.say(what, told)
        if op.status is not None and op.status >= 500 and op.status != 503:
            self.wrong(f"{what} is answered with {op.status}: {op.text[:500]}")
        return op

    def _surely(self, what: str, service: str, path: str) -> Op:
        """Ask nodes that are there in turn, until one answers."""
        until = time.monotonic() + LONG
        while True:
            node = next(self._turns)
            if node.isThere and not node.isPaused:
                op = self._ask(what, node, service, path)
                if howOf(op) in (ACKED, NOT_FOUND):
                    return op
            if time.monotonic() > until:
                self.wrong(f"{what} is not answered for {LONG} s")
            time.sleep(0.1)

    # Making jobs

    def create(
        self,
        service: str,
        nodes: Iterable[int],
        runs: bool,
        hasKey: bool = False,
        duration: int | None = None,
    ) -> Job:
        """Ask for a job, at several nodes at the same time if it has a key."""
        runId = f"{self.prefix}{len(self.jobs)}"
        form = {"RUNID": runId, **({"PHASE": "RUN"} if runs else {})}
        form |= {"Idempotency-Key": runId} if hasKey else {}
        form |= {"EXECUTIONDURATION": str(duration)} if duration else {}
        job = Job(
            service=service,
            runId=runId,
            held=self.held[service],
            isRestartable=service == "gatedagain",
            isHere=service == "gatedhere",
            may=queued(self.held[service]) if runs else {"PENDING"},
            values={"text": {""}, "duration": {duration or 3600}, "destruction": {""}},
        )
        self.jobs.append(job)
        self._forms[runId] = form
        self.createAgain(job, nodes)
        return job

    def createAgain(self, job: Job, nodes: Iterable[int]) -> None:
        """Ask for a job that may be there already, with the same words."""
        form = self._forms[job.runId]
        asked = [
            partial(self._ask, "create", self.cluster.nodes[one], job.service, "/", **form)
            for one in nodes
        ]
        for op in atOnce(asked):
            if howOf(op) in (REFUSED, NOT_FOUND):
                self.wrong(f"a creation is refused: {op.status} {op.text[:500]}")
            if howOf(op) == ACKED:
                self._born(job, str(op.value).rpartition("/")[2])

    def _born(self, job: Job, jobId: str) -> None:
        if job.jobId is None and all(one.jobId != jobId for one in self.jobs):
            job.jobId = jobId
            self.cluster.known.add(jobId)
        elif job.jobId != jobId:
            self.wrong(f"{job.runId} is {job.jobId} and {jobId}")

    # Changing them

    def wish(self, job: Job, *asked: tuple[Wish, int]) -> None:
        """Ask for one thing, or for several at the same time at different nodes."""
        if job.jobId is None:
            return
        wishes = [_settled(wish) for wish, _ in asked]
        sent = [
            partial(self._send, job, wish, self.cluster.nodes[node])
            for wish, (_, node) in zip(wishes, asked, strict=True)
        ]
        answers = [
            (wish, how)
            for wish, op in zip(wishes, atOnce(sent), strict=True)
            if (how := howOf(op)) is not None and not _isTooLate(wish, op)
        ]
        self.judge(partial(job.tell, *answers))

    def _send(self, job: Job, wish: Wish, node: Node) -> Op:
        path = f"/{job.jobId}"
        ask = partial(self._ask, wish.what, node, job.service)
        match wish.what:
            case "run" | "abort":
                return ask(f"{path}/phase", PHASE=wish.what.upper())
            case "text":
                return ask(f"{path}/parameters", text=str(wish.value))
            case "duration":
                return ask(f"{path}/executionduration", EXECUTIONDURATION=str(wish.value))
            case "destruction":
                return ask(f"{path}/destruction", DESTRUCTION=_instant(float(wish.value)))
        return ask(path)

    def open(self, job: Job, how: str) -> None:
        """Tell a job's work how to end, unless it was told already."""
        if job.jobId is None or job.gate is not None:
            return
        gate = gateOf(job.jobId, self.cluster.journal)
        gate.parent.mkdir(exist_ok=True)
        new = gate.with_name("new")
        new.write_text(how)
        job.gate = how
        new.rename(gate)
        self.story.say(how, job.jobId)

    # Looking at them

    def look(self) -> None:
        """See in the lists that all jobs are as they may be, and that there are no others."""
        if not any(node.isThere and not node.isPaused for node in self.cluster.nodes):
            return
        for service in {job.service for job in self.jobs}:
            text = self._surely("list", service, "/").text
            seen = {i: (phase, run) for i, phase, run in _REF.findall(text) if self._isMine(run)}
            self.beware()
            for job in self.jobs:
                if job.service == service:
                    self._see(job, seen)
            known = {job.jobId for job in self.jobs}
            if unknown := seen.keys() - known:
                self.wrong(f"there are jobs that nobody has made: {unknown}")

    def _isMine(self, runId: str) -> bool:
        return runId.startswith(self.prefix)

    def _see(self, job: Job, seen: dict[str, tuple[str, str]]) -> None:
        if job.jobId is None:  # it may be there without an answer
            for jobId, (_, runId) in seen.items():
                if runId == job.runId:
                    self._born(job, jobId)
        if job.jobId is None:
            return
        phase = seen[job.jobId][0] if job.jobId in seen else GONE
        self.judge(job.see, phase)
        if phase in FINAL and job.document is None:
            self._read(job, self._surely("read", job.service, f"/{job.jobId}"))

    def read(self, job: Job, node: int) -> None:
        """See that a job's document is as it may be."""
        if job.jobId is not None:
            op = self._ask("read", self.cluster.nodes[node], job.service, f"/{job.jobId}")
            self._read(job, op)

    def _read(self, job: Job, op: Op) -> None:
        self.beware()
        how = howOf(op)
        if how == NOT_FOUND:
            self.judge(job.see, GONE)
        if how != ACKED:
            return
        phase = _found("phase", op.text)
        self.judge(job.see, phase)
        text = found[1] if (found := _TEXT.search(op.text)) else ""
        self._compare(job, "text", text)
        self._compare(job, "duration", int(_found("executionDuration", op.text)))
        if "" not in job.values["destruction"]:  # which is the service's default
            instant = parseInstant(_found("destruction", op.text)).timestamp()
            self._compare(job, "destruction", instant)
        if phase in FINAL:
            self._compareFinal(job, op.text, text)

    def _compare(self, job: Job, what: str, value: str | float) -> None:
        if value not in job.values[what]:
            self.wrong(f"the {what} of {job} is {value}, not {job.values[what]}")

    def _compareFinal(self, job: Job, document: str, text: str) -> None:
        """A final job is what it was, but for its destruction, and has its result."""
        document = _DESTRUCTION.sub("", document)
        for node in self.cluster.nodes:
            document = document.replace(node.url, "/")
        if job.document is None:
            job.document = document
            if _found("phase", document) == "COMPLETED":
                self._compareResult(job, text)
        elif job.document != document:
            self.wrong(f"the end of {job} was {job.document}, and is {document}")

    def _compareResult(self, job: Job, text: str) -> None:
        op = self._surely("result", job.service, f"/{job.jobId}/results/result")
        if howOf(op) == NOT_FOUND:
            self.judge(job.see, GONE)
        elif not re.fullmatch(rf"{job.jobId}\.\d+ {text}", op.text):
            self.wrong(f"the result of {job} is {op.text!r}, for {text!r}")

    # What may have been lost

    def shake(self, fails: bool, here: bool = False) -> None:
        """
        Work that there is may be lost.

        @param fails: also what has begun.
        @param here: also what has begun in the process of a node.
        """
        for job in self.jobs:
            job.shake(fails or (here and job.isHere))

    def beware(self) -> None:
        """What has just been broken, or the machine itself, may have touched some more."""
        if (stood := self._pulse.stood()) > 1:
            self.story.say("the machine stands still", f"for {stood:.2f} s")
            self.shake(fails=True)
        if time.monotonic() < self.unrestUntil:
            self.shake(fails=False)

    def until(self, isSo: Callable[[], Any], text: str, seconds: float = 30) -> None:
        """Wait for something that must come."""
        until = time.monotonic() + seconds
        while not isSo():
            if time.monotonic() > until:
                self.wrong(text)
            time.sleep(0.05)


def howOf(op: Op) -> str | None:
    """What an answer means; C{None} if there was nobody to ask."""
    if op.status == 404:
        return NOT_FOUND
    if op.outcome == "refused":
        return None if op.status is None else REFUSED
    return ACKED if op.outcome == "acked" else UNSURE


def atOnce(actions: Iterable[Callable[[], Op]]) -> list[Op]:
    """Do several things at the same time."""
    several = list(actions)
    with ThreadPoolExecutor(len(several)) as pool:
        return [one.result() for one in [pool.submit(action) for action in several]]


def _settled(wish: Wish) -> Wish:
    """A wish with an instant in place of how far away that is."""
    if wish.what != "destruction":
        return wish
    return Wish(what=wish.what, value=float(int(time.time() + float(wish.value))))


def _isTooLate(wish: Wish, op: Op) -> bool:
    """The instant that was asked for has passed on the way."""
    return wish.what == "destruction" and op.status == 400 and float(wish.value) < time.time()


def _instant(seconds: float) -> str:
    return formatInstant(datetime.fromtimestamp(seconds, UTC))


def _found(element: str, document: str) -> str:
    found = re.search(_ELEMENT.format(element), document)
    assert found is not None, document
    return found[1]
