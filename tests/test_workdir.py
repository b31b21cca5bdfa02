"""The job's directory, when the work does with it as it likes."""

from __future__ import annotations

import json
import os

import pytest

from twuws.errors import StaleAttempt
from twuws.jobs import Outcome
from twuws.phases import COMPLETED
from twuws.submission import FilesToAdopt, Upload
from twuws.workdir import WorkDir, WorkDirs


@pytest.fixture
def directory(tmp_path):
    directory = WorkDir(tmp_path / "job")
    directory.create()
    directory.furnish()
    return directory


def everything(directory):
    """All events, read as the service reads them."""
    found, offset = [], 0
    while True:
        events, after = directory.readEvents(offset)
        found += events
        if after == offset:
            return found
        offset = after


def test_nonsense_among_events(directory):
    directory.addEvent("first")
    nonsense = [b"[" * 200_000, b"x" * (3 << 20), b"\xff\xfe", b"null", b'{"event": 3}', b""]
    for line in nonsense:
        with directory.events.open("ab") as f:
            f.write(line + b"\n")
        directory.addEvent("after", size=len(line))
    directory.events.open("ab").write(b'{"event": "unfinished')
    events = everything(directory)
    assert events[0] == {"event": "first"}
    assert [e["size"] for e in events[1:]] == [len(line) for line in nonsense]


@pytest.mark.parametrize("what", ["nothing", "directory", "fifo", "link"])
def test_events_that_are_no_file(directory, what):
    if what == "directory":
        directory.events.mkdir()
    elif what == "fifo":
        os.mkfifo(directory.events)
    elif what == "link":
        directory.events.symlink_to("/etc/passwd")
    assert directory.readEvents() == ([], 0)


def test_outcome_that_is_no_file(directory):
    assert directory.readOutcome() is None
    os.mkfifo(directory.outcome)
    with pytest.raises(OSError, match="regular"):
        directory.readOutcome()
    directory.outcome.unlink()
    directory.writeOutcome(Outcome(phase=COMPLETED))
    assert directory.readOutcome() == Outcome(phase=COMPLETED)


@pytest.mark.parametrize("size", [0, 38])
def test_outcomeThatNeverReachedTheDisk(directory, size):
    """After a crash of the host there may be just its name, or the room for it."""
    directory.outcome.write_bytes(bytes(size))
    assert directory.readOutcome() is None
    directory.outcome.write_bytes(b"{")
    with pytest.raises(ValueError, match="Expecting"):
        directory.readOutcome()


@pytest.mark.parametrize("id", ["", "a/b", "x" * 201, "a\nb", ".."])
def test_ids_that_cannot_be(directory, id):
    """They are refused where they are made, rather than lost on the way."""
    with (
        pytest.raises(ValueError, match="cannot name a result"),
        directory.openResult(id, "a/b", "f"),
    ):
        pass
    assert list(directory.results.iterdir()) == []


def test_long_message(directory):
    directory.reportProgress(0.5, "x" * (2 << 20))
    (event,) = everything(directory)
    assert event == {"event": "progress", "fraction": 0.5, "message": "x" * 1000}


def test_another_attempt_finds_nothing(directory):
    for path in (directory.stdout, directory.events, directory.results / "old"):
        path.write_text("old")
    directory.writeOutcome(Outcome(phase=COMPLETED))
    (directory.parameters / "kept").write_text("kept")
    directory.writeJob({"attempt": 2})
    assert sorted(p.name for p in directory.path.rglob("*") if p.is_file()) == ["job.json", "kept"]
    assert json.loads(directory.job.read_text()) == {"attempt": 2}


def test_only_what_is_a_value_is_adopted(tmp_path):
    dirs = WorkDirs(tmp_path)
    directory = dirs.forJob("abcdef")
    directory.create()

    class Request:
        files = {}

    request = Request()
    for name in ("used", "unused"):
        out, path = dirs.newUpload()
        with out:
            out.write(name.encode())
        request.files[name] = [Upload(path=path, part=name)]
    files = FilesToAdopt(directory, request)
    files.adopt({"used": tuple(request.files["used"])})
    assert [p.name for p in directory.parameters.iterdir()] == ["used"]
    assert [p.read_bytes() for p in dirs.uploads().iterdir()] == [b"unused"]


def test_late_attempt_touches_nothing(tmp_path):
    """An attempt whose service stood still while another began leaves that one's files alone."""
    first, second = (WorkDir(tmp_path / "job", attempt) for attempt in (1, 2))
    first.writeJob({"attempt": 1})
    second.writeJob({"attempt": 2})
    second.addEvent("result", id="early")
    (second.results / "early").write_text("early")
    with pytest.raises(StaleAttempt):
        first.writeJob({"attempt": 1})
    second.writeOutcome(Outcome(phase=COMPLETED))
    first.writeOutcome(Outcome.failed("It was held up"))
    assert second.readOutcome() == Outcome(phase=COMPLETED)
    assert second.readJob() == {"attempt": 2}
    assert (second.results / "early").read_text() == "early"
    assert [event["event"] for event in everything(second)] == ["result"]
    second.writeJob({"attempt": 2})  # its own beginning, once more
    assert everything(second) == []
