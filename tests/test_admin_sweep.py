"""C{twuws cleanup} and what has no job."""

from __future__ import annotations

import os
import time

import pytest

from tests.test_admin import command, empty, place  # noqa: F401, fixtures

pytestmark = pytest.mark.slow

DAY = 86400


def aged(path, days):
    """Let a directory, or an upload, be as old as that."""
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


@pytest.fixture
def left(place):  # noqa: F811
    """Old and young, with and without a job; the paths that are to go."""
    kept = place.job()
    aged(place.directory(kept), 10)
    orphan, young = (place.directory(n * 16) for n in ("ab", "cd"))
    for path in (orphan, young):
        (path / "results").mkdir(parents=True)
    aged(orphan, 2)
    uploads = place.dataDir / "jobs" / ".uploads"
    uploads.mkdir()
    for name in ("old", "new"):
        (uploads / name).write_text("x")
    aged(uploads / "old", 2)
    return [uploads / "old", orphan], [uploads / "new", young, place.directory(kept)]


def test_sweep(place, left):  # noqa: F811
    go, stay = left
    paths = sorted(map(str, go))
    assert place.json("cleanup", "--dry-run") == {"dryRun": True, "jobs": [], "leftovers": paths}
    out, _ = place("cleanup", "--dry-run")
    assert out.splitlines() == [
        "0 jobs would be destroyed",
        *paths,
        "2 directories or uploads without a job would be removed",
    ]
    assert place.json("cleanup", "--service", "sleep")["leftovers"] == []
    assert all(path.exists() for path in go + stay)
    assert place.json("cleanup")["leftovers"] == paths
    assert [path.exists() for path in go + stay] == [False] * 2 + [True] * 3
    assert place("cleanup")[0] == "0 jobs destroyed\n"


def test_anotherDatabase(place, left):  # noqa: F811
    """One that knows nothing of what is there is not believed."""
    place.query("DELETE FROM jobs")
    for words in (["--dry-run"], []):
        out, errors = place("cleanup", *words, status=1)
        assert "knows none of its directories" in errors
        assert "ab" * 16 not in out
    assert all(place.directory(n * 16).exists() for n in ("ab", "cd"))


def test_nothingThere(place, tmp_path):  # noqa: F811
    """To look makes nothing."""
    where = tmp_path / "other"
    out, _ = command("cleanup", "--dry-run", "--database", place.url, "--data-dir", where)
    assert out == "0 jobs would be destroyed\n"
    assert not where.exists()
