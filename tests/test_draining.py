"""Processes that share the work, and that leave when they are asked to."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager

import psutil
import pytest

from tests.test_admin import command, empty, place  # noqa: F401, two are fixtures
from tests.test_metrics import scraped
from tests.test_nodes import ask, create, phase
from tests.working import isAlive, waitUntil
from twuws.testing import running

pytestmark = pytest.mark.slow

#: Work that goes on until a file is there.
CONFIG = """
on-stop = "abort"
[services.gate]
command = ["sh", "-c", "until [ -e \\"$0\\" ]; do sleep 0.05; done", "{file}"]
parameters = {file = {type = "Text"}}
[services.final]
restartable = true
max-attempts = 1
command = ["sh", "-c", "until [ -e \\"$0\\" ]; do sleep 0.05; done", "{file}"]
parameters = {file = {type = "Text"}}
[services.again]
restartable = true
max-attempts = 2
command = ["sh", "-c", "until [ -e \\"$0\\" ]; do sleep 0.05; done", "{file}"]
parameters = {file = {type = "Text"}}
"""


class Nodes:
    """Processes on one database and one tree of job directories, and the command on them."""

    def __init__(self, place, directory):  # noqa: F811
        self.place = place
        self.gate = directory / "gate"
        self.config = directory / "uws.toml"
        self.config.write_text(CONFIG)
        self.options = ("--config", self.config)

    @contextmanager
    def running(self, *options, slots=3):
        with running(
            self.config,
            database=self.place.url,
            dataDir=self.place.dataDir,
            slots=slots,
            options=options,
        ) as service:
            yield service

    def rows(self):
        """The nodes, by process id."""
        listed = {row["node"]: row for row in self.place.json("nodes")}
        return {pid: listed[node] for node, pid in self.place.query("SELECT node, pid FROM nodes")}

    def of(self, service):
        return self.rows()[service.process.pid]

    def drain(self, service, *options, **more):
        return self.place("drain", self.of(service)["node"], *options, *self.options, **more)

    def begun(self, service, name="gate"):
        """A job that runs: its URL, and the process that does it."""
        url = create(service, name, file=str(self.gate), PHASE="RUN")
        return url, waitUntil(lambda: self.worker(url))

    def worker(self, url):
        (row,) = self.place.query("SELECT ref FROM queue WHERE job_id = %s", idOf(url))
        return row["ref"] and row["ref"]["pid"]

    def nodeOf(self, url):
        rows = self.place.query("SELECT node FROM queue WHERE job_id = %s", idOf(url))
        return rows[0]["node"] if rows else None


def idOf(url):
    return url.rstrip("/").rpartition("/")[2]


def availability(service, name="gate"):
    document = ask(f"{service.url}{name}/availability")[0]
    return re.search("available>(.*?)<", document)[1], document


def at(service, url):
    """The same job at another process."""
    return re.sub("^http://[^/]+/", service.url, url)


@pytest.fixture
def nodes(place, tmp_path):  # noqa: F811
    return Nodes(place, tmp_path)


def test_listed(nodes):
    with nodes.running(slots=1) as one, nodes.running("--no-web", slots=2) as other:
        nodes.begun(one)
        first, second = nodes.of(one), nodes.of(other)
        assert (first["state"], first["web"], first["slots"]) == ("up", True, 1)
        assert (second["state"], second["web"], second["slots"]) == ("up", False, 2)
        assert first["running"] + second["running"] == 1
        assert first["services"] == ["gate", "final", "again"]
        head, *lines = nodes.place("nodes")[0].splitlines()
        assert head.split()[:3] == ["node", "host", "state"]
        assert sorted(line.split()[0] for line in lines) == sorted((first["node"], second["node"]))
        row = re.compile("  up +(yes|no) .* s ago +gate, final, again$")
        assert all(row.search(line) for line in lines)
        # On another host, so that nobody here can see for himself that it is no more.
        nodes.place.query(
            "INSERT INTO nodes (node, host, pid, started, version, slots, services, heartbeat,"
            " lease_ends) SELECT 'far-1', 'far', 7, '7', '1', 2, '{gate}',"
            " now() - interval '5 min', now() - interval '3 min'"
        )
        assert re.search("^far-1 +far +lost +no .* 5 min ago", nodes.place("nodes")[0], re.M)
        assert "longer than its lease" in nodes.place.refuses("drain", "far-1", status=1)


def test_leave(nodes):
    """The job goes on, and the next process watches it."""
    with nodes.running() as one:
        url, worker = nodes.begun(one)
        with nodes.running("--metrics", "tcp:0:interface=127.0.0.1") as other:
            name = nodes.of(one)["node"]
            out, _ = nodes.drain(one, "--on-stop", "leave", "--wait", "30")
            assert out == f"{name} was asked to leave (leave)\n{name} has left\n"
            assert one.process.wait(30) == 0
            here = at(other, url)
            assert (phase(here), isAlive(worker)) == ("EXECUTING", True)
            waitUntil(lambda: nodes.nodeOf(url) == nodes.of(other)["node"], 10)
            assert nodes.worker(url) == worker
            metrics = re.search(r"metrics are at (\S+)", other.log())[1]
            waitUntil(lambda: scraped(metrics).get(("twuws_takeovers_total", "gate")) == 1)
            nodes.gate.touch()
            waitUntil(lambda: phase(here) == "COMPLETED")


def test_finish(nodes):
    """HTTP is answered while the job is waited for; new jobs run elsewhere."""
    with nodes.running() as one, nodes.running(slots=0) as other:
        url, _ = nodes.begun(one)
        assert nodes.drain(one, "--on-stop", "finish")[0].endswith("leave (finish)\n")
        waitUntil(lambda: availability(one)[0] == "false")
        assert "about to leave" in availability(one)[1]
        assert availability(other)[0] == "false"  # there is no other that runs jobs
        assert nodes.of(one)["state"] == "draining"
        assert "draining (finish)" in nodes.place("nodes")[0]
        with nodes.running() as third:
            waitUntil(lambda: availability(third)[0] == "true")
            assert availability(other)[0] == "true"
            second, _ = nodes.begun(one)  # it still takes them, but runs none
            assert nodes.nodeOf(second) == nodes.of(third)["node"]
            assert nodes.nodeOf(url) == nodes.of(one)["node"]
            nodes.gate.touch()
            assert one.process.wait(30) == 0
            assert phase(at(other, url)) == phase(at(third, second)) == "COMPLETED"


def test_requeue(nodes):
    """What may be started again is; the rest goes on, also what has no attempt left."""
    with nodes.running() as one:
        again, worker = nodes.begun(one, "again")
        others = [nodes.begun(one, name) for name in ("gate", "final")]
        with nodes.running() as other:
            nodes.drain(one, "--on-stop", "requeue", "--wait", "30")
            assert one.process.wait(30) == 0
            assert not isAlive(worker)
            waitUntil(lambda: nodes.worker(again) not in (None, worker))
            assert nodes.nodeOf(again) == nodes.of(other)["node"]
            document = ask(at(other, again))[0]
            assert "The node that ran the job was taken out of service." in document
            for url, pid in others:
                assert (phase(at(other, url)), isAlive(pid)) == ("EXECUTING", True)
            nodes.gate.touch()
            for url in (again, *(url for url, _ in others)):
                waitUntil(lambda url=url: phase(at(other, url)) == "COMPLETED", 10)


def test_abort(nodes):
    """As the configuration says, if nothing else is said."""
    with nodes.running() as one:
        url, worker = nodes.begun(one)
        with nodes.running("--slots", "0") as other:
            nodes.drain(one, "--wait")
            assert one.process.wait(30) == 0
            assert (phase(at(other, url)), isAlive(worker)) == ("ABORTED", False)
            summary = re.search("<uws:errorSummary.*</uws:errorSummary>", ask(at(other, url))[0],
                                re.DOTALL)[0]  # fmt: skip
            assert 'type="transient"' in summary
            assert "was taken out of service" in summary
            assert nodes.place.query("SELECT * FROM stops") == []


def test_askedOtherwise(nodes):
    """Who cannot wait any longer says so."""
    with nodes.running() as one:
        url, worker = nodes.begun(one)
        nodes.drain(one, "--on-stop", "finish")
        waitUntil(lambda: availability(one)[0] == "false")
        _, errors = nodes.drain(one, "--on-stop", "finish", "--wait", "0.1", status=1)
        assert "has not left within 0.1 s" in errors
        assert one.process.poll() is None
        nodes.drain(one, "--on-stop", "leave", "--wait", "30")
        assert one.process.wait(30) == 0
        assert nodes.nodeOf(url) is not None
        assert isAlive(worker)


@pytest.mark.parametrize("how", ["leave", "finish", "requeue", "abort"])
def test_sigterm(nodes, how):
    """The same, as the process was told when it began."""
    with nodes.running("--on-stop", how) as one, nodes.running(slots=0) as other:
        url, worker = nodes.begun(one, "again")
        one.process.send_signal(signal.SIGTERM)
        if how == "finish":
            waitUntil(lambda: nodes.of(one)["state"] == "draining")
            assert availability(one)[0] == availability(other)[0] == "false"
            nodes.gate.touch()
        one.process.wait(30)
        found = {"finish": "COMPLETED", "leave": "EXECUTING", "requeue": "QUEUED"}
        assert phase(at(other, url)) == found.get(how, "ABORTED")
        assert isAlive(worker) == (how == "leave")


def test_whichNode(nodes):
    with nodes.running() as one, nodes.running() as other:
        first, second = nodes.of(one)["node"], nodes.of(other)["node"]
        place = nodes.place
        unknown = place.refuses("drain", "nobody", status=1)
        assert "no node 'nobody'" in unknown
        assert "twuws nodes" in unknown
        common = first[: next(n for n in range(len(first)) if first[n] != second[n])]
        ambiguous = place.refuses("drain", common, status=1)
        assert f"{first} (up)" in ambiguous
        assert f"{second} (up)" in ambiguous
        said = place.json("drain", first, "nobody", "--on-stop", "leave", "--wait", "30", status=1)
        assert said["asked"] == [{"node": first, "onStop": "leave", "left": True}]
        assert [one["node"] for one in said["failed"]] == ["nobody"]
        assert one.process.wait(30) == 0
        # What has left is not meant where one that is there may be.
        assert place("drain", common, "--wait", "30")[0].startswith(second)
        assert other.process.wait(30) == 0
        assert "has left already" in place.refuses("drain", second, status=1)
    assert "not a number of seconds" in command("drain", "x", "--wait", "soon", status=2)[1]


def test_onlyWeb_and_onlyWork(nodes):
    """A process of each kind does its part, and nothing of the other's."""
    with nodes.running(slots=0) as web:
        url = create(web, "gate", file=str(nodes.gate), PHASE="RUN")
        assert availability(web)[0] == "false"
        assert phase(url) == "QUEUED"
        with nodes.running("--no-web", slots=1) as worker:
            waitUntil(lambda: nodes.worker(url))
            waitUntil(lambda: availability(web)[0] == "true")
            assert nodes.nodeOf(url) == nodes.of(worker)["node"]
            assert listening(web)
            assert not listening(worker)
            nodes.gate.touch()
            waitUntil(lambda: phase(url) == "COMPLETED")


def listening(service):
    connections = psutil.Process(service.process.pid).net_connections("all")
    return [one for one in connections if one.status == psutil.CONN_LISTEN]
