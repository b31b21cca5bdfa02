"""C{twuws hold}, C{twuws release} and C{twuws holds}, run as people run them."""

from __future__ import annotations

import os
import pwd
import socket
import urllib.parse
import urllib.request

import pytest
from psycopg2.extensions import parse_dsn

from tests.test_admin import Place, command, urlOf
from tests.test_admin import empty as empty
from tests.test_admin import place as place
from tests.working import waitUntil
from twuws.embedded import runningDSN
from twuws.testing import running

pytestmark = pytest.mark.slow

ME = f"admin {pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


def queued(place, **columns):
    """A job that waits in the queue."""
    jobId = place.job(phase="QUEUED", **columns)
    place.query(
        "INSERT INTO queue (job_id, service, owner) SELECT job_id, service, COALESCE(owner, '')"
        " FROM jobs WHERE job_id = %s",
        jobId,
    )
    return jobId


def test_jobs(place):
    pending, waiting, ended = place.job(), queued(place), place.job(phase="COMPLETED")
    out, errors = place("hold", pending[:6], waiting, ended, "--why", "Look.", status=1)
    assert out == f"{pending} PENDING\n{waiting} HELD\n"
    assert errors == "twuws: The job is COMPLETED: there is nothing to hold.\n"
    shown = place("show", waiting)[0]
    assert "phase          HELD\n" in shown
    assert "heldBecause    Look.\n" in shown
    listed = place("list", "--phase", "held")[0]
    assert waiting in listed
    assert pending not in listed
    told = place.query("SELECT who, why FROM events WHERE job_id = %s AND phase = 'HELD'", waiting)
    assert [list(row) for row in told] == [[ME, "Look."]]
    assert place.json("release", pending, waiting) == {
        "done": [
            {"service": "sleep", "jobId": pending, "phase": "PENDING"},
            {"service": "sleep", "jobId": waiting, "phase": "QUEUED"},
        ],
        "failed": [],
    }
    assert "no hold on the job" in place.refuses("release", waiting, status=1)


def test_services_and_owners(place):
    """Each hold keeps what it says; a job is queued when none keeps it."""
    anna, ben = queued(place, owner="anna"), queued(place, owner="ben")
    nobody, far = queued(place), queued(place, service="far", owner="anna")
    every = (anna, ben, nobody, far)
    assert place("hold", "--owner", "anna", "--why", "Too many.")[0] == "2 jobs are HELD now\n"
    assert place.phases(*every) == ["HELD", "QUEUED", "QUEUED", "HELD"]
    assert place.json("hold", "--service", "sleep") == {
        "service": "sleep",
        "owner": None,
        "jobs": 2,
    }
    assert place.json("hold", "--service", "far", "--owner", "anna")["jobs"] == 0
    assert place("release", "--owner", "anna")[0] == "0 jobs are QUEUED now\n"
    assert place.phases(*every) == ["HELD"] * 4
    assert place("release", "--owner", "anna", "--service", "far")[0] == "1 job is QUEUED now\n"
    assert place.json("release", "--service", "sleep")["jobs"] == 3
    assert place.phases(*every) == ["QUEUED"] * 4
    assert place.json("hold", "--owner", "")["jobs"] == 1
    assert place.phases(*every) == ["QUEUED", "QUEUED", "HELD", "QUEUED"]


def test_the_list(place):
    assert place("holds")[0].split() == ["service", "owner", "job", "since", "who", "why"]
    assert place.json("holds") == []
    jobId = place.job()
    place("hold", jobId)
    place("hold", "--service", "sleep", "--why", "Repairs\x1b[1m.")
    place("hold", "--owner", "")
    found = place.json("holds")
    assert [(one["jobId"], one["service"], one["owner"]) for one in found] == [
        (jobId, "sleep", None),
        (None, "sleep", None),
        (None, None, ""),
    ]
    assert {one["who"] for one in found} == {ME}
    assert [one["why"] for one in found] == [None, "Repairs\x1b[1m.", None]
    since = [one["since"] for one in found]
    assert since == sorted(since)
    lines = [line.split() for line in place("holds")[0].splitlines()[1:]]
    assert lines[0][:4] == ["sleep", "-", jobId, since[0]]
    assert lines[1] == ["sleep", "all", "-", since[1], *ME.split(), "Repairs?[1m."]
    assert lines[2][:3] == ["all", "''", "-"]


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_mistakes(place, verb):
    for words in ((), ("abcdef", "--owner", "anna"), ("abcdef", "--service", "sleep")):
        assert "either jobs, or --owner" in place.refuses(verb, *words)
    assert "no service 'sleeep'" in place.refuses(verb, "--service", "sleeep")
    assert "no job" in place.refuses(verb, "abcdef", status=1)
    assert place.query("SELECT * FROM holds") == []


def test_releasing_what_is_not_held(place):
    place("hold", "--service", "sleep")
    refused = place.refuses("release", "--service", "sleep", "--owner", "anna")
    assert refused == "twuws: There is no hold on the owner 'anna' at the service sleep.\n"


def ask(url, **form):
    body = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, body, timeout=30) as answer:
        return answer.read().decode(), answer.url


def test_beside_a_service_that_runs(tmp_path):
    """RUN is answered with HELD, and what is released runs at once."""
    with running(slots=1) as service:
        dataDir = service.dataDir
        dsn = runningDSN(dataDir / "postgres")
        place = Place(urlOf(dsn, parse_dsn(dsn)["dbname"]), dataDir)
        place("hold", "--service", "sleep", "--why", "Repairs.")
        url = ask(service.jobList("sleep"), seconds="0", PHASE="RUN")[1]
        assert ask(url + "/phase")[0] == "HELD"
        assert "Repairs." in ask(url)[0]
        assert place("release", "--service", "sleep")[0] == "1 job is QUEUED now\n"
        waitUntil(lambda: ask(url + "/phase")[0] == "COMPLETED", seconds=10)


def test_help():
    for verb in ("hold", "release", "holds"):
        assert f"Example: twuws {verb} " in command(verb, "--help")[0]
