"""C{twuws check} as people and programs run it."""

from __future__ import annotations

import doctest
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module

import pytest
from lxml import etree

from tests.conformance.rightserver import RightServer
from tests.conformance.test_checks import settingsFor
from twuws.conformance import command
from twuws.conformance.outcomes import Failed, Skipped, Unusable
from twuws.conformance.runner import hidden
from twuws.conformance.session import Session
from twuws.conformance.settings import Credentials, Settings

pytestmark = pytest.mark.slow

SOON = ["--veryshort", "seconds=0.02", "--delay", "0.3", "--poll", "0.02", "--patience", "2"]
TESTS = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "twuws.conformance"]


def run(*words, status=0, environment=(), program=(sys.executable, "-m", "twuws.conformance")):
    done = subprocess.run(
        [*program, *map(str, words)], capture_output=True, text=True, timeout=60, cwd="/",
        env={**os.environ, **dict(environment)},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_all_is_well(tmp_path):
    (tmp_path / "table").write_bytes(b"a,b\n")
    files = ["--json", tmp_path / "o.json", "--junit", tmp_path / "o.xml"]
    with RightServer() as server:
        upload = ["--veryshort", f"table=@{tmp_path / 'table'}"]
        out = run(server.url, *SOON, *upload, "--only", "4", "9,14", "I", *files)
        assert not server.jobs.all()
    assert "ok        14 M 2.2.3.2  DELETE of a job" in out
    assert "  9: not known how to make such a job; give --long NAME=VALUE" in out
    assert "Jobs made: 2; deleted again: 2." in out
    report = json.loads((tmp_path / "o.json").read_text())
    assert report["counts"] == {"passed": 2, "failed": 0, "skipped": 10, "broken": 0}
    assert [one["status"] for one in report["checks"][:3]] == ["passed", "skipped", "passed"]
    suites = etree.parse(tmp_path / "o.xml").findall("testsuite")
    assert [suite.get("tests") for suite in suites] == ["3", "9"]
    assert len(suites[1].findall("testcase/skipped")) == 9


@pytest.mark.parametrize(
    ("fault", "number", "status"), [("deletedWith200", "14", 1), ("jobIdDiffers", "5", 0)]
)
def test_failures_are_explained(fault, number, status, tmp_path):
    """And only those of level M are in the status."""
    path = tmp_path / "o.xml"
    with RightServer(faults=[fault]) as server:
        out = run(server.url, *SOON, "--only", number, "--junit", path, status=status)
    assert "FAILED" in out
    assert f"    {'M, must' if status else 'S, should'} (UWS 1.1, " in out
    assert "    | 200 OK" in out
    (failure,) = etree.parse(path).iter("failure")
    assert "200 OK" in failure.text


def test_wrong_options():
    with RightServer() as server:
        for words, message in (
            (["--only", "Z"], "Z is neither a check, nor a part"),
            (["--only", "5", "--skip", "5"], "nothing is left"),
            (["--veryshort", "seconds"], "'seconds' is not NAME=VALUE"),
            (["--long", "f=@/nowhere"], "/nowhere cannot be read"),
            (["--password", "x"], "a password needs --user"),
            (["--user", "x"], "--user needs a password"),
            (["--xsd", "/nowhere"], "/nowhere cannot be read"),
            (["--ca", "/nowhere"], "there is no file of certificates"),
        ):
            out = run(server.url, *words, status=2)
            assert out.startswith("twuws: ")
            assert message in out
            assert out.count("\n") == 1
        assert "the URL is that of the job list" in run(server.url + "/nothing", status=2)
        url = server.url
    assert "There is no answer" in run(url, status=2)
    assert "begins with http" in run("nonsense", status=2)
    assert "must not hold a user" in run("http://me:secret@localhost/x", status=2)


def test_it_says_what_is_missing(monkeypatch, capsys):
    def none(name):
        raise command.PackageNotFoundError(name)

    monkeypatch.setattr(command, "version", none)
    with pytest.raises(SystemExit) as left:
        command.main(["http://localhost/x"])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"twuws: {command.NEEDS}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupts_leave_nothing(number):
    words = ["--only", "16", *SOON, "--long", "seconds=30", "--delay", "40"]
    with RightServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "twuws.conformance", server.url, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until = time.monotonic() + 20
        while not any(job.phase == "EXECUTING" for job in server.jobs.all()):
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        assert process.returncode == 130, out + errors
        assert "Jobs made: 1; deleted again: 1." in out
        assert not server.jobs.all()


def test_secrets_are_not_told(tmp_path):
    users = {"alice": "wonder-land"}
    files = [tmp_path / "o.json", tmp_path / "o.xml"]
    words = ["--only", "A", *SOON, "--json", files[0], "--junit", files[1]]
    for how, environment in (
        (["--user", "alice"], {"UWS_PASSWORD": "wonder-land"}),
        (["--token", "wonder-land"], {}),
    ):
        with RightServer(users=users, faults=["wrongOrder"]) as server:
            out = run(server.url, *words, *how, status=1, environment=environment)
        assert "<uws:ownerId>alice</uws:ownerId>" in out
        for text in (out, *(path.read_text() for path in files)):
            assert "wonder-land" not in text
            assert "YWxpY2U6" not in text
            assert "crumbs-" not in text
            assert "Authorization" not in text
    with RightServer(users=users) as server:
        assert "give --user" in run(server.url, "--token", "wrong", status=2)


def test_credentials_stay_at_home():
    class Pool:
        def request(self, method, url, headers, **more):
            seen.append((url, headers.get("Authorization")))
            raise OSError("closed")

    seen = []
    uws = Session(Settings(url="http://here/async", credentials=Credentials(token="t")))
    uws.client._pool = Pool()
    urls = ["http://here/x", "http://there/x", "https://here/x", "http://here:81/x", "/x"]
    for url in urls:
        with pytest.raises(Failed, match="closed"):
            uws.get(url)
    assert [given for _, given in seen] == ["Bearer t", None, None, None, "Bearer t"]


def test_session():
    with RightServer() as server:
        uws = Session(settingsFor(server.url, text=None, long=None))
        with pytest.raises(Skipped, match="--long"):
            uws.newJob(uws.long)
        with pytest.raises(Skipped, match="no other user"):
            uws.other.get()
        job = uws.newJob(run=True)
        assert job.ended().phase == "COMPLETED"
        assert uws.completed() is uws.completed()
        assert uws.parallel([partial(int, "1"), partial(int, "2")]) == [1, 2]
        with pytest.raises(Failed, match="and not PENDING"):
            job.waitUntil("PENDING")
        with pytest.raises(Failed, match="not 4xx"):
            uws.expectRefusal(job.get())
        uws.tidy()
        assert [one.id for one in server.jobs.all()] == [uws.completed().id]
        uws.close()
        assert (uws.made, uws.deleted, uws.left) == (2, 2, [])


def test_jobs_that_stay_are_told():
    with RightServer(faults=["deleteForbidden"]) as server:
        uws = Session(settingsFor(server.url))
        url = uws.newJob().url
        uws.close()
    assert (uws.made, uws.deleted, uws.left) == (1, 0, [url])


def test_no_set_of_parameters():
    """A job without parameters may fail; what needs one that does not is skipped."""
    with RightServer() as server:
        uws = Session(settingsFor(server.url, veryShort=None))
        assert uws.completed().document().phase == "COMPLETED"
        uws.close()
    with RightServer(faults=["emptyFails"]) as server:
        uws = Session(settingsFor(server.url, veryShort=None))
        with pytest.raises(Skipped, match="--veryshort"):
            uws.completed()
        uws.close()


def test_hidden():
    assert hidden("a secret, a token", ("secret", "token")) == "a (hidden), a (hidden)"
    assert "secret" not in repr(Credentials(user="a", password="secret"))
    with pytest.raises(Unusable, match="without a query"):
        Settings(url="http://a/async?LAST=1")


def test_as_tests(tmp_path):
    words = ["--uws-veryshort", "seconds=0.02", "--uws-delay", "0.3", "--uws-poll", "0.02"]
    program = [*TESTS, "-q", "-rs", *words]
    with RightServer() as server:
        out = run("--uws-url", server.url, "--uws-only", "8,9", "--uws-only=14", program=program)
        assert "2 passed, 1 skipped" in out
        assert "give --long" in out
        assert not server.jobs.all()
    with RightServer(faults=["abortPendingIgnored"]) as server:
        out = run("--uws-url", server.url, "--uws-only", "8", program=program, status=1)
        assert "The job was aborted, and is PENDING." in out
        assert "test_uws[8-M-abortPending]" in out


def test_as_tests_without_a_service():
    assert "give the job list of a service with --uws-url" in run(program=TESTS, status=2)
    assert "begins with http" in run("--uws-url", "nonsense", program=TESTS, status=4)
    with RightServer() as server:
        url = server.url
    assert "There is no answer" in run("--uws-url", url, program=TESTS, status=4)


def test_it_needs_nothing_of_the_rest():
    code = (
        "import sys; from twuws.conformance.registry import allChecks; allChecks();"
        "import twuws.conformance.command, twuws.conformance.session; print(*sys.modules)"
    )
    loaded = run("-c", code, program=[sys.executable]).split()
    ours = [name for name in loaded if name.partition(".")[0] == "twuws"]
    assert {name for name in ours if not name.startswith("twuws.conformance")} == {"twuws"}
    assert not {"twisted", "klein", "zope"} & set(loaded)


def test_it_is_a_command_of_twuws():
    from twuws.admin.options import makeParser

    options = makeParser().parse_args(
        ["check", "http://a/x", "--long", "a=1", "b=2", "--json", "f"]
    )
    assert options.command is command.run
    assert options.long == ["a=1", "b=2"]


@pytest.mark.parametrize("name", ["answers", "client", "options", "report", "runner", "settings"])
def test_examples_in_docstrings(name):
    module = import_module(f"twuws.conformance.{name}")
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed
