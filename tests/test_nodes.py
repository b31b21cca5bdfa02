"""Whole services in processes of their own that share a database, and that come and go."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from tests.test_admin import urlOf
from tests.working import waitUntil
from twuws.embedded import runningDSN
from twuws.testing import running

pytestmark = pytest.mark.slow


def ask(url, method="GET", **form):
    """The content, and where the answer is from."""
    body = urllib.parse.urlencode(form).encode() if method == "POST" else None
    with urllib.request.urlopen(
        urllib.request.Request(url, body, method=method), timeout=30
    ) as answer:
        return answer.read().decode(), answer.url


def create(service, name="sleep", **form):
    return ask(service.jobList(name), "POST", **form)[1]


def phase(url):
    return ask(url + "/phase")[0]


@pytest.fixture
def pair():
    """Two processes of the same services: the first runs jobs, the second does not."""
    directory = Path(tempfile.mkdtemp(prefix="twuws-nodes-"))
    directory.chmod(0o755)
    dataDir = directory / "data"
    with running(dataDir=dataDir, slots=1) as one:
        dsn = runningDSN(dataDir / "postgres")
        url = urlOf(dsn, parse_dsn(dsn)["dbname"])
        second = directory / "second"
        second.mkdir()
        (second / "jobs").symlink_to(dataDir / "jobs")  # one tree for all nodes
        with running(dataDir=second, database=url, slots=0) as other:
            yield one, other
    shutil.rmtree(directory)


def test_twoProcesses(pair):
    """A job that is made at one is there at the other; it runs, waits and ends across both."""
    one, other = pair
    url = create(other, seconds="600")
    here = url.replace(other.url, one.url)
    assert phase(here) == "PENDING"
    found = []
    waiter = threading.Thread(target=lambda: found.append(ask(here + "?WAIT=30&PHASE=PENDING")[0]))
    waiter.start()
    began = time.monotonic()
    ask(url + "/phase", "POST", PHASE="RUN")
    waiter.join(20)
    assert time.monotonic() - began < 10
    assert "<uws:phase>PENDING<" not in found[0]
    waitUntil(lambda: phase(url) == "EXECUTING")
    ask(url + "/phase", "POST", PHASE="ABORT")
    assert phase(here) == "ABORTED"
    second = create(other, seconds="0", PHASE="RUN")  # the slot is free again: its work has ended
    waitUntil(lambda: phase(second) == "COMPLETED")


def test_restartWithAQueue():
    """What was queued runs in its order, and what had ended is as it was (88, 89)."""
    with running(slots=1) as service:
        ended = create(service, "messier", ra="83.8", dec="-5.4", RUNID="mine", PHASE="RUN")
        waitUntil(lambda: phase(ended) == "COMPLETED")
        aborted = create(service, seconds="600", PHASE="RUN")
        running_ = create(service, seconds="600", PHASE="RUN")
        queued = [create(service, seconds="0", PHASE="RUN") for _ in range(3)]
        ask(aborted + "/phase", "POST", PHASE="ABORT")
        waitUntil(lambda: phase(running_) == "EXECUTING")
        before = {url: ask(url)[0] for url in (ended, aborted)}
        assert {phase(url) for url in queued} == {"QUEUED"}
        service.restart()
        assert {url: ask(url)[0] for url in before} == before
        assert {phase(url) for url in queued} == {"QUEUED"}
        assert phase(running_) == "EXECUTING"
        ask(running_ + "/phase", "POST", PHASE="ABORT")
        for url in queued:
            waitUntil(lambda url=url: phase(url) == "COMPLETED")
        started = [re.search(r"<uws:startTime>(.*?)<", ask(url)[0])[1] for url in queued]
        assert started == sorted(started)


def test_abortedJustBeforeTheEnd():
    """Who is told that a job is ABORTED can count on it, whatever happens next (90)."""
    with running() as service:
        url = create(service, seconds="600", PHASE="RUN")
        waitUntil(lambda: phase(url) == "EXECUTING")
        ask(url + "/phase", "POST", PHASE="ABORT")
        service.kill()
        service.restart()  # at the same port
        assert phase(url) == "ABORTED"
        second = create(service, seconds="0", PHASE="RUN")
        waitUntil(lambda: phase(second) == "COMPLETED")
        assert phase(url) == "ABORTED"
