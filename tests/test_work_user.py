"""
Services that are root and have their work done by another user: what the configuration says,
and whole services that are started so.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

import psutil
import pytest
import requests

from tests.otherusers import (
    NAME,
    OTHER,
    account,
    asPython,
    needsRoot,
    reachablePlace,
    reachablePython,
)
from tests.test_other_users import snapshot
from tests.working import isAlive, waitUntil
from twuws import config
from twuws.backends.family import MARK
from twuws.errors import ConfigError
from twuws.testing import NotStarted, running

SHELL = """
[services.shell]
command = ["sh", "-c", "{script}"]
user = "daemon"
restartable = true
[services.shell.parameters.script]
type = "Text"
required = true
[services.shell.parameters.f]
type = "File"
[services.shell.results.out]
type = "text/plain"
stream = "stdout"
optional = true
"""

ASYNC = '[services.a]\nclass = "tests.jobclasses.Async"\n'
PROGRAM = '[services.a]\ncommand = ["true"]\n'
DATABASE = 'database = "postgresql://db/uws"\n'


# The configuration


@pytest.fixture
def load(tmp_path):
    def load(text, runs=False):
        (tmp_path / "uws.toml").write_text(text)
        return config.load(str(tmp_path / "uws.toml"), runs=runs)

    return load


def users(found):
    return {one.name: one.user and one.user.name for one in found.services}


def test_oneOfItsOwn(load):
    both = PROGRAM + f'user = "{NAME}"\n[services.b]\ncommand = ["true"]\n'
    assert users(load(both)) == {"a": NAME, "b": None}
    found = load(both).services[0].user
    assert found == account()


def test_oneForAll(load):
    both = f'work-user = "{NAME}"\n' + PROGRAM + f'[services.b]\ncommand = ["true"]\nuser="{OTHER}"'
    assert users(load(both)) == {"a": NAME, "b": OTHER}
    assert users(load(f'work-user = "{NAME}"\n' + ASYNC + 'user = ""')) == {"a": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROGRAM + 'user = "no-such"', "user: expected a user of this host, found 'no-such'"),
        ('work-user = "no-such"\n' + PROGRAM, "user: expected a user of this host"),
        (PROGRAM + 'user = "root"', "user: expected a user other than root, found 'root'"),
        (PROGRAM + "user = 1", "user: expected a text, found 1"),
        (ASYNC + f'user = "{NAME}"', "Async.run is async"),
        (f'work-user = "{NAME}"\n' + ASYNC, 'say user = ""'),
        (PROGRAM + 'user = "nobody"', "who owns the database here"),
    ],
)
def test_mistakes(load, text, expected):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert len(caught.value.mistakes) == 1
    assert expected in caught.value.mistakes[0]


def test_onlyRootCan(load, monkeypatch):
    """To look at jobs nobody need be root."""
    text = DATABASE + PROGRAM + f'user = "{NAME}"'
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    load(text, runs=True)
    monkeypatch.setattr(os, "geteuid", lambda: account(OTHER).uid)
    with pytest.raises(ConfigError, match="start twistd as root, and without --uid"):
        load(text, runs=True)
    load(DATABASE + PROGRAM, runs=True)
    load(text)


# Services


@pytest.fixture(scope="module")
def place():
    with reachablePlace() as path:
        yield path


@pytest.fixture(scope="module")
def service(place):
    with ExitStack() as stack:
        yield begin(stack, place, SHELL)


def begin(stack, place, text, **more):
    path = place / "uws.toml"
    path.write_text(text)
    python = reachablePython()
    with asPython(python):
        found = stack.enter_context(running(path, dataDir=place / "data", **more))
        found.python = python
        return found


def submit(service, script, **more):
    answer = requests.post(
        service.jobList("shell"),
        data={"script": script, "PHASE": "RUN"},
        allow_redirects=False,
        timeout=30,
        **more,
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def phase(url):
    return requests.get(url + "/phase", timeout=30).text


def ended(url):
    return waitUntil(lambda: (p := phase(url)) in ("COMPLETED", "ERROR", "ABORTED") and p, 30)


def directoryOf(place, url):
    jobId = url.rpartition("/")[2]
    return place / "data" / "jobs" / jobId[:2] / jobId


def processesOf(url, program=None):
    """The processes of a job, or those that have something in their command line."""
    jobId = url.rpartition("/")[2]
    found = []
    for process in psutil.process_iter():
        try:
            isOurs = process.environ().get(MARK, "").startswith(jobId)
            if isOurs and (program is None or program in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@needsRoot
@pytest.mark.slow
class TestService:
    """A whole one, as root."""

    def test_job(self, service, place):
        url = submit(service, "id -un; cat ../parameters/f", files={"f": b"uploaded"})
        assert ended(url) == "COMPLETED"
        assert requests.get(url + "/results/out", timeout=30).text == f"{NAME}\nuploaded"
        assert requests.get(url + "/parameters/f", timeout=30).text == "uploaded"
        directory = directoryOf(place, url)
        assert directory.stat().st_uid == account().uid
        requests.delete(url, allow_redirects=False, timeout=30)
        waitUntil(lambda: not directory.exists())

    def test_aPendingJobIsNobodysElse(self, service, place):
        """Else work of the same user could put things in the way of its uploads."""
        url = requests.post(
            service.jobList("shell"), data={"script": "x"}, allow_redirects=False, timeout=30
        ).headers["location"]
        found = directoryOf(place, url).stat()
        assert (found.st_uid, found.st_mode & 0o777) == (0, 0o700)

    def test_stopped(self, service, place):
        """All of it, whatever it has become."""
        script = "(setsid sh -c 'env -i sleep 611 & sleep 612' &) ; touch up; sleep 613"
        url = submit(service, script)
        waitUntil((directoryOf(place, url) / "results" / "up").exists)
        processes = processesOf(url)
        assert {p.uids().effective for p in processes} == {account().uid}
        requests.post(url + "/phase", data={"PHASE": "ABORT"}, timeout=30)
        assert ended(url) == "ABORTED"
        waitUntil(lambda: not any(isAlive(p.pid) for p in processes))

    def test_foundAgain(self, service, place):
        """Work outlives the service, and the next one watches it to its end."""
        url = submit(service, "touch up; while [ ! -e go ]; do sleep 0.05; done; echo done")
        results = directoryOf(place, url) / "results"
        waitUntil((results / "up").exists)
        runner = processesOf(url, "twuws.runner")
        service.kill()
        with asPython(service.python):
            service.restart()
        assert [isAlive(p.pid) for p in runner] == [True]
        (results / "go").touch()
        assert ended(url) == "COMPLETED"
        assert requests.get(url + "/results/out", timeout=30).text == "done\n"

    def test_hostile(self, service, place):
        """
        Work leaves traps in its directory, and kills its runner, so that it is begun again; at the
        second attempt the service would write, own, or empty what they lead to.
        """
        victim = place / "victim"
        victim.mkdir(mode=0o700)
        (victim / "job.json").write_text("precious")
        (victim / "f").write_text("precious")
        before = snapshot(victim)
        script = f"""
            if [ "${{UWS_WORK##*.}}" = 1 ]; then
                cd ..
                mv parameters away; mv results gone
                for n in job.json.new outcome.json.new stdout events.jsonl; do
                    rm -f $n; ln -s {victim}/job.json $n
                done
                for n in parameters results lease.2 lease.2.new; do ln -s {victim} $n; done
                kill -9 $PPID
                sleep 600
            fi
            id -un
        """
        url = submit(service, script, files={"f": b"uploaded"})
        assert ended(url) == "ERROR"
        job = requests.get(url, timeout=30).text
        assert "the work has removed them" in job
        for path in ("/results/out", "/parameters/f", "/stdout", "/stderr"):
            assert "precious" not in requests.get(url + path, timeout=30).text
        requests.delete(url, allow_redirects=False, timeout=30)
        waitUntil(lambda: not directoryOf(place, url).exists())
        assert snapshot(victim) == before

    def test_hostileAndBegunAgain(self, service, place):
        """The same, with the uploads left in peace: then the second attempt is as the first."""
        victim = place / "other-victim"
        victim.mkdir(mode=0o700)
        (victim / "secret").write_text("precious")
        before = snapshot(victim)
        script = f"""
            if [ "${{UWS_WORK##*.}}" = 1 ]; then
                cd ..; rm -rf results; mkdir lease.2
                for n in job.json.new results outcome.json.new tmp lease.2.new; do
                    ln -sf {victim} $n
                done
                kill -9 $PPID
                sleep 600
            fi
            cat ../parameters/f
        """
        url = submit(service, script, files={"f": b"uploaded"})
        assert ended(url) == "COMPLETED", requests.get(url, timeout=30).text
        assert requests.get(url + "/results/out", timeout=30).text == "uploaded"
        assert snapshot(victim) == before

    def test_swappedWhileServed(self, service, place):
        """A result that is a link every other moment is never what it leads to."""
        secret = place / "root-only"
        secret.write_text("precious")
        secret.chmod(0o600)
        script = f"""
            echo fine > fine; echo fine > out.txt; touch up
            while [ ! -e end ]; do
                ln -sf {secret} l; mv -f l out; cp fine f; mv -f f out
            done; rm -f out
        """
        url = submit(service, script)
        directory = directoryOf(place, url)
        waitUntil((directory / "results" / "up").exists)
        with (directory / "events.jsonl").open("a") as f:
            f.write('{"event": "result", "attempt": 1, "id": "r", "file": "out",'
                    ' "mediaType": "text/plain", "size": 1}\n')  # fmt: skip
        until, seen = time.monotonic() + 3, set()
        while time.monotonic() < until:
            answer = requests.get(url + "/results/r", timeout=30)
            seen.add(answer.status_code)
            assert "precious" not in answer.text
        (directory / "results" / "end").touch()
        assert 200 in seen


@needsRoot
@pytest.mark.slow
def test_aPlaceThatTheUserDoesNotComeTo():
    with reachablePlace() as place, ExitStack() as stack:
        (place / "closed").mkdir(mode=0o700)
        with pytest.raises(NotStarted) as caught:
            begin(stack, place / "closed", SHELL, database="postgresql://127.0.0.1:1/x")
        assert f"does not come to the job directories, {place}/closed/data/jobs" in str(
            caught.value
        )
        assert f"not pass, {place}/closed." in str(caught.value)
