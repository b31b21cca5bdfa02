"""
A crowd of clients: each makes jobs, runs, aborts, changes and deletes them at any node, and
keeps a log of what it was told.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.chaos.journal import clock

#: How long a client waits for any answer, s; nobody is to wait that long.
PATIENCE = 90.0
FINAL = ("COMPLETED", "ERROR", "ABORTED", "ARCHIVED")
_PHASE = re.compile(r"<uws:phase>(\w+)<")
_RESULT = re.compile(r'<uws:result id="(\w+)"[^>]* xlink:href="([^"]+)"')


@dataclass(kw_only=True)
class Op:
    """
    One request, and what became of it.

    @ivar what: C{create}, C{run}, C{abort}, C{delete}, C{destruction}, C{read}, C{wait},
        C{result} or C{list}.
    @ivar outcome: C{acked}, C{refused} (with 4xx), or C{unsure}: it may or may not have
        been done.
    @ivar wait: what WAIT it asked for, s.
    @ivar value: what was asked for, or what the answer said.
    """

    what: str
    node: str
    service: str
    jobId: str | None = None
    began: float = field(default_factory=clock)
    ended: float = 0.0
    outcome: str = "unsure"
    status: int | None = None
    wait: float = 0.0
    value: Any = None
    text: str = ""


@dataclass(kw_only=True)
class Mine:
    """A job, as the client that made it knows it."""

    jobId: str
    service: str
    phase: str = "PENDING"
    runTried: bool = False
    isVerified: bool = False


class Log:
    """What all clients were told, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self.ops: list[Op] = []
        self._file = path.open("w")
        self._lock = threading.Lock()

    def add(self, op: Op) -> None:
        with self._lock:
            self.ops.append(op)
            self._file.write(json.dumps(asdict(op)) + "\n")

    def close(self) -> None:
        self._file.close()


class Asker:
    """
    Makes requests at nodes, and logs them.

    @param nodes: names and URLs.
    @ivar patience: how long to wait for an answer of each, s.
    """

    def __init__(self, nodes: dict[str, str], log: Log) -> None:
        self.nodes = nodes
        self.log = log
        self.patience = dict.fromkeys(nodes, PATIENCE)

    def ask(self, op: Op, method: str, path: str, **form: str) -> Op:
        """Make a request, and wait for its answer; never raises for what may go wrong."""
        address = urllib.parse.urlsplit(self.nodes[op.node]).netloc
        connection = http.client.HTTPConnection(address, timeout=self.patience[op.node])
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urllib.parse.urlencode(form) if method == "POST" else None
        try:
            connection.request(method, path, body, kind if body is not None else {})
            answer = connection.getresponse()
            content = answer.read()
            op.status, op.text = answer.status, content.decode(errors="replace")
            if answer.status < 400:
                op.outcome = "acked"
                if op.what == "create":
                    op.value = answer.headers["Location"]
            elif answer.status < 500:
                op.outcome = "refused"
        except TimeoutError:
            op.text = "no answer in time"
        except ConnectionRefusedError as e:
            op.outcome, op.text = "refused", repr(e)  # nobody was there
        except (OSError, http.client.HTTPException) as e:
            op.text = repr(e)
        finally:
            connection.close()
        op.ended = clock()
        keep, whole = op.text, op.text
        op.text = keep[:300] if op.outcome != "acked" else ""
        self.log.add(op)
        op.text = whole
        return op


class Client(threading.Thread):
    """
    One client; its choices come from a seed.

    @ivar stopping: to be set when it is to end.
    @ivar isMaking: whether it makes new jobs.
    """

    mostJobs = 14

    def __init__(self, number: int, seed: object, asker: Asker) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.random = random.Random(f"{seed}/client/{number}")
        self.asker = asker
        self.stopping = threading.Event()
        self.isMaking = True
        self.jobs: dict[str, Mine] = {}
        self.trouble: BaseException | None = None
        self._numbers = itertools.count(1)
        self._number = number

    def run(self) -> None:
        try:
            while not self.stopping.wait(self.random.expovariate(4)):
                self.act()
        except BaseException as e:
            self.trouble = e
            raise

    def act(self) -> None:
        """Do one thing, or two at once."""
        actions: list[tuple[float, Callable[[Mine], Any]]] = [
            (3, self.runIt),
            (3, self.read),
            (3, self.wait),
            (1, self.abort),
            (0.5, self.delete),
            (0.7, self.destruction),
            (1.5, self.race),
            (0.3, self.list),
        ]
        if len(self.jobs) > self.mostJobs:
            self.tidy()
        if not self.jobs or (
            self.isMaking and len(self.jobs) < self.mostJobs and self.random.random() < 0.35
        ):
            if self.isMaking:
                self.create()
            return
        weights = [weight for weight, _ in actions]
        action = self.random.choices([one for _, one in actions], weights)[0]
        action(self.random.choice(list(self.jobs.values())))
        if self.random.random() < 0.3:
            self.tidy()

    def _op(self, what: str, service: str, jobId: str | None = None, **more: Any) -> Op:
        node = self.random.choice(list(self.asker.nodes))
        return Op(what=what, node=node, service=service, jobId=jobId, **more)

    def _path(self, job: Mine, more: str = "") -> str:
        return f"/{job.service}/async/{job.jobId}{more}"

    # What it does

    def create(self) -> None:
        service = self.random.choice(["worked", "again", "awaited", "once", "program", "again"])
        seconds = self.random.choice([0.0, 0.3, 1.0, 2.0, 4.0, 9.0])
        form = {"seconds": f"{seconds:g}", "RUNID": f"c{self._number}-{next(self._numbers)}"}
        runsAtOnce = self.random.random() < 0.5
        if runsAtOnce:
            form["PHASE"] = "RUN"
        if self.random.random() < 0.08:
            form["EXECUTIONDURATION"] = "2"
        op = self._op("create", service, value=None)
        self.asker.ask(op, "POST", f"/{service}/async", **form)
        if op.outcome == "acked":
            jobId = str(op.value).rpartition("/")[2]
            op.jobId = jobId
            self.jobs[jobId] = Mine(jobId=jobId, service=service, runTried=runsAtOnce)
            self.asker.log.add(self._noted(op, "created", form))
            if runsAtOnce:
                self.asker.log.add(self._noted(op, "run", form))

    def _noted(self, op: Op, what: str, form: dict[str, str]) -> Op:
        """What an answer said beside."""
        return Op(
            what=what,
            node=op.node,
            service=op.service,
            jobId=op.jobId,
            began=op.began,
            ended=op.ended,
            outcome=op.outcome,
            status=op.status,
            value=form,
        )

    def runIt(self, job: Mine) -> None:
        if job.runTried and self.random.random() < 0.8:
            return self.read(job)
        job.runTried = True
        op = self._op("run", job.service, job.jobId)
        self.asker.ask(op, "POST", self._path(job, "/phase"), PHASE="RUN")
        return None

    def abort(self, job: Mine) -> None:
        op = self._op("abort", job.service, job.jobId)
        self.asker.ask(op, "POST", self._path(job, "/phase"), PHASE="ABORT")

    def delete(self, job: Mine) -> None:
        op = self.asker.ask(self._op("delete", job.service, job.jobId), "DELETE", self._path(job))
        if op.outcome == "acked" or op.status == 404:
            self.jobs.pop(job.jobId, None)

    def destruction(self, job: Mine) -> None:
        """Mostly far away, sometimes soon."""
        seconds = self.random.choice([12, 3600, 7200, 86400])
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        op = self._op("destruction", job.service, job.jobId, value=at.timestamp())
        wanted = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.asker.ask(op, "POST", self._path(job, "/destruction"), DESTRUCTION=wanted)

    def read(self, job: Mine) -> None:
        op = self._op("read", job.service, job.jobId)
        self._see(job, self.asker.ask(op, "GET", self._path(job)))

    def wait(self, job: Mine) -> None:
        seconds = self.random.choice([1, 3, 8])
        op = self._op("wait", job.service, job.jobId, wait=seconds)
        self._see(job, self.asker.ask(op, "GET", self._path(job, f"?WAIT={seconds}")))

    def _see(self, job: Mine, op: Op) -> None:
        if op.status == 404:
            self.jobs.pop(job.jobId, None)
        if op.outcome != "acked" or (found := _PHASE.search(op.text)) is None:
            return
        job.phase = found[1]
        noted = self._noted(op, "saw", {"phase": job.phase})
        self.asker.log.add(noted)
        if job.phase == "COMPLETED" and not job.isVerified:
            job.isVerified = True
            for name, href in _RESULT.findall(op.text):
                self.result(job, name, href)

    def result(self, job: Mine, name: str, href: str) -> None:
        """Read a result; what is right is for the checker to say."""
        op = self._op("result", job.service, job.jobId, value=name)
        self.asker.ask(op, "GET", urllib.parse.urlsplit(href).path)
        if op.outcome == "acked":
            noted = self._noted(op, "had", {"result": name, "content": op.text})
            self.asker.log.add(noted)

    def list(self, job: Mine) -> None:
        self.asker.ask(self._op("list", job.service), "GET", f"/{job.service}/async?LAST=20")

    def race(self, job: Mine) -> None:
        """Two things at once, at two nodes."""
        several: tuple[Callable[[Mine], Any], ...] = self.random.choice(
            [
                (self.runIt, self.runIt),
                (self.runIt, self.runIt, self.runIt),
                (self.runIt, self.abort),
                (self.abort, self.destruction),
                (self.runIt, self.destruction),
                (self.abort, self.abort),
            ]
        )
        job.runTried = job.runTried and self.random.random() < 0.5
        threads = [threading.Thread(target=one, args=(job,), daemon=True) for one in several]
        for thread in threads:
            job.runTried = False
            thread.start()
        for thread in threads:
            thread.join()

    def tidy(self) -> None:
        """Look at the oldest job, and delete it once it has ended."""
        job = next(iter(self.jobs.values()), None)
        if job is None:
            return
        if job.phase in FINAL and len(self.jobs) > self.mostJobs // 2:
            self.delete(job)
        elif job.phase == "PENDING" and not job.runTried:
            self.runIt(job)
        else:
            self.read(job)


def crowd(number: int, seed: object, nodes: dict[str, str], log: Log) -> list[Client]:
    """Clients that are not started yet."""
    asker = Asker(nodes, log)
    return [Client(n, seed, asker) for n in range(number)]


def finish(clients: list[Client], seconds: float = PATIENCE + 10) -> None:
    """Have clients end what they do, and wait for that."""
    for one in clients:
        one.stopping.set()
    until = time.monotonic() + seconds
    for one in clients:
        one.join(max(0.1, until - time.monotonic()))
        assert not one.is_alive(), f"{one.name} hangs"
        assert one.trouble is None, f"{one.name} has failed"
