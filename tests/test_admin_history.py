"""C{twuws history}, run as people run it."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from tests.test_admin import empty, linesOf, place  # noqa: F401, fixtures

pytestmark = pytest.mark.slow

WHO = f"admin {pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


@pytest.fixture
def keeping(place, tmp_path):  # noqa: F811
    """The same, with a configuration that keeps records."""
    config = tmp_path / "twuws.toml"
    config.write_text(
        'keep-history = 3600\n[services.sleep]\ncommand = ["sleep", "{seconds}"]\n'
        '[services.sleep.parameters.seconds]\ntype = "Integer"\nrequired = true\n'
    )
    place.options = (*place.options, "--config", config)
    return place


def test_history(keeping):
    jobId = keeping.job(parameters={"seconds": ["5"]})
    keeping("run", jobId)
    keeping("abort", jobId)
    shown = keeping.json("history", jobId[:8])
    assert (shown["service"], shown["jobId"]) == ("sleep", jobId)
    events = shown["events"]
    assert [(e["phase"], e["attempt"], e["node"], e["who"], e["why"]) for e in events] == [
        ("PENDING", 0, None, events[0]["who"], "It was changed in the database."),
        ("QUEUED", 0, None, WHO, None),
        ("ABORTED", 0, None, WHO, None),
    ]
    assert all(e["at"].endswith("Z") for e in events)
    lines = keeping("history", jobId)[0].splitlines()
    assert lines[0].split() == ["when", "phase", "attempt", "node", "who", "why"]
    for line, event in zip(lines[1:], events, strict=True):
        assert line.startswith(event["at"])
        assert event["phase"] in line
        assert event["who"] in line


@pytest.mark.parametrize("which", ["job", "owner", "service"])
def test_whoHoldsAndReleases(keeping, which):
    """The same name as whoever runs or aborts: of one job, or of all."""
    jobId = keeping.job(parameters={"seconds": ["5"]}, owner="ann")
    given = {"job": [jobId], "owner": ["--owner", "ann"], "service": ["--service", "sleep"]}[which]
    for words in (["run", jobId], ["hold", *given], ["release", *given], ["destroy", jobId]):
        keeping(*words)
    events = keeping.json("history", jobId)["events"][1:]
    assert [(e["phase"], e["who"]) for e in events] == [
        (phase, WHO) for phase in ("QUEUED", "HELD", "QUEUED", None)
    ]


def test_historyOfWhatWasDestroyed(keeping):
    jobId, other = keeping.job(), keeping.job(phase="ERROR")
    keeping("destroy", jobId)
    keeping("cleanup", "--include-failed")
    for one, why in ((jobId, None), (other, "A clean-up.")):
        last = keeping.json("history", one[:10])["events"][-1]
        assert (last["phase"], last["who"], last["why"]) == (None, WHO, why)
    assert " destroyed " in keeping("history", jobId)[0]
    assert jobId in keeping.refuses("show", jobId, status=1)


def test_noHistory(place):  # noqa: F811
    a, b = (place.job(job_id=f"abcdef{n}0") for n in (1, 2))
    place("destroy", a)
    assert a in place.refuses("history", a, status=1)  # nothing was kept
    assert place.json("history", "abcdef")["jobId"] == b
    place.query("DELETE FROM events")
    assert place.json("history", b)["events"] == []
    assert "6 characters" in place.refuses("history", "abc", status=1)


def test_ambiguous(keeping):
    a, b = (keeping.job(job_id=f"abcdef{n}0") for n in (1, 2))
    keeping("destroy", a)
    said = keeping.refuses("history", "abcdef", status=1)
    assert f"{a} (sleep, destroyed)" in said
    assert f"{b} (sleep, PENDING)" in said
