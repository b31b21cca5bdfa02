"""
What callers say is in the log as a part of a line: it begins none, and moves no cursor.
"""

from __future__ import annotations

import io
import re
import socket
import urllib.parse

import pytest
import requests
from twisted.logger import Logger, LogLevel, LogPublisher, textFileLogObserver
from twisted.python.failure import Failure

from tests.working import waitUntil
from twuws.logs import clean, oneLine, toldURI
from twuws.testing import running

#: Ends of lines, and what terminals obey, of all kinds.
EVIL = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1b[2J", "\x9b2J", "\x07",
        "\x08", "\x7f", "\u202e", "\ud800", "\x00"]  # fmt: skip
FORGED = "2026-01-01T00:00:00+0000 [-] FORGED"

CONFIG = """
[services.shell]
command = ["sh", "-c", "{script}"]
[services.shell.parameters.script]
type = "Text"
[services.shell.parameters.f]
type = "File"
"""


@pytest.fixture
def log():
    """Writes to a file as twistd does; what is in there by then."""
    file = io.StringIO()
    publisher = LogPublisher(clean, textFileLogObserver(file))
    log = Logger(observer=publisher, namespace="test")

    def said(name, *args, **more):
        getattr(log, name)(*args, **more)
        return file.getvalue()

    return said


def assertFit(text):
    """Each line is twistd's, or begins with a tab as what belongs to one before."""
    assert text.encode("utf-8").endswith(b"\n")
    found = re.findall(r"[^\n\t\x20-\x7e\xa0-\u2027\u2030-\ud7ff\ue000-\uffff]", text)
    assert not found
    assert not re.findall(r"[\u202a-\u202e]", text)
    for line in text.split("\n")[:-1]:
        assert re.match(r"\d{4}-\d\d-\d\dT\S+ \[|\t", line), line
        assert not re.match(r"\s*" + re.escape(FORGED), line)


@pytest.mark.parametrize("evil", EVIL)
def test_fields(log, evil):
    text = log("info", "{jobId} has RUNID {runId}", jobId="1", runId=f"a{evil}{FORGED}")
    assertFit(text)
    assert "[test#info] 1 has RUNID a\\" in text
    text = log("error", "not so: {e}", e=ValueError(f"a{evil}{FORGED}"))
    assertFit(text)
    assert "not so: a\\" in text


@pytest.mark.parametrize("evil", EVIL)
def test_failures(log, evil):
    """A traceback has lines of its own; a forged one is one of these."""
    failure = Failure(ValueError(f"a{evil}{FORGED}"))
    text = log("failure", "broken", failure)
    assert text.encode("utf-8")
    assert "ValueError: a" in text
    assert not re.search(rf"^{re.escape(FORGED)}", text, re.MULTILINE)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)


def test_whatIsFitStays(log):
    failure = Failure(ValueError("ä ☉ 漢"))
    event = {"log_failure": failure, "x": "ä ☉ 漢\t", "e": failure.value, "n": 3}
    before = dict(event)
    clean(event)
    assert event == before
    assert log("critical", "{e}", e="one\ntwo").endswith("one\n\ttwo\n")
    assert oneLine("a\\b") == "a\\b"


def test_whatIsNoText(log):
    class Odd(Exception):
        def __str__(self):
            raise ZeroDivisionError

    assert "Odd" in log("info", "{e}", e=Odd())
    assert LogLevel.info  # and nothing was raised


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (b"/a/async/1/results/x", b"/a/async/1/results/x"),
        (b"/a/sync?access_token=secret", b"/a/sync?..."),
        (b"/a/async?", b"/a/async?..."),
        (b"http://me:secret@h/a", b"http://h/a"),
        (
            b"/x/a/shared/1f.1790000000.c2VjcmV0-_/results/y",
            b"/x/a/shared/1f.1790000000..../results/y",
        ),
        (b"/" + b"a" * 5000, b"/" + b"a" * 999),
    ],
)
def test_toldURI(uri, told):
    assert toldURI(uri) == told


@pytest.mark.slow
def test_service(tmp_path):
    """All that callers can say, in all the places where they can say it."""
    path = tmp_path / "uws.toml"
    path.write_text(CONFIG)
    with running(path) as service:
        jobs = service.jobList("shell")
        for evil in EVIL:
            said = f"a{evil}{FORGED}"
            asBytes = said.encode("utf-8", "surrogatepass")
            quoted = urllib.parse.quote_from_bytes(asBytes)
            raw(service, b"GET /" + asBytes.replace(b" ", b"") + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            raw(service, b"HEAD /shell/a\x80?token=c4n4ry HTTP/1.1\r\nHost: x\r\n\r\n")
            raw(service, b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: " + asBytes + b"\r\n\r\n")
            raw(service, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + asBytes + b"\r\n\r\n")
            requests.get(f"{jobs}/{quoted}/{quoted}?{quoted}={quoted}", timeout=30)
            body = f"RUNID={quoted}&{quoted}=1&script=true"
            form = {"content-type": "application/x-www-form-urlencoded"}
            requests.post(jobs, data=body, headers=form, allow_redirects=False, timeout=30)
        # Work that has found the runner's own words.
        words = "/proc/$PPID/fd/2"
        script = (
            f"printf '\\n{FORGED}\\033[2J\\n' > {words};"
            f"head -c 100000 /dev/zero | tr '\\0' x > {words}"
        )
        made = requests.post(jobs, data={"script": script, "PHASE": "RUN"}, timeout=30)
        waitUntil(lambda: "COMPLETED" in requests.get(made.url, timeout=30).text, 30)
        waitUntil(lambda: "runner of" in service.log(), 10)
        log = service.log()
    assert "RUNID" in log
    assert "FORGED" in log
    assert "Traceback" not in log
    assert "c4n4ry" not in log
    assert len(log) < 500_000
    assertFit(log)


def raw(service, data):
    host, port = urllib.parse.urlsplit(service.url).netloc.split(":")
    with socket.create_connection((host, int(port)), 10) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
