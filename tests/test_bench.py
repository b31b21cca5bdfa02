"""The benchmark: that it runs, and that what it says is right."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from lxml import etree
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.web import server
from twisted.web.resource import Resource

from bench import wrk
from bench.client import postRequest
from bench.compare import differences
from bench.figures import Figure, Target, quantile, ratioOf, table
from bench.lxmllist import writeList
from bench.rows import NAMES, measureOf
from twuws.documents import jobListEnd, jobListStart, jobRef
from twuws.jobs import JobRef
from twuws.phases import COMPLETED

ROOT = Path(__file__).parent.parent
RATIO = Target(least=0.5, ofRatio=True, slack=2)


def figure(**more):
    return Figure(**{"row": "x", "what": "it", "value": 10, "unit": "/s", **more})


def bench(*arguments, status=0):
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("target", "more", "ok", "okInShort"),
    [
        (RATIO, {"ratio": 0.5}, True, True),
        (RATIO, {"ratio": 0.3}, False, True),
        (RATIO, {"ratio": 0.2}, False, False),
        (RATIO, {"ratio": math.nan}, False, False),
        (RATIO, {}, False, False),
        (Target(most=10, slack=1), {}, True, True),
        (Target(most=9, slack=1.2), {}, False, True),
        (Target(most=9, slack=1), {}, False, False),
        (Target(most=9), {"skipped": "why"}, None, None),
        (None, {}, None, None),
    ],
)
def test_targets(target, more, ok, okInShort):
    one = figure(target=target, **more)
    assert (one.isOk(False), one.isOk(True)) == (ok, okInShort)


def test_ratios_are_of_rounds():
    """A round in which the machine was busy with something else says as much as another."""
    assert ratioOf([50, 5, 51], [100, 10, 100]) == 0.5


def test_quantiles():
    values = [5, 1, 4, 2, 3]
    assert [quantile(values, part) for part in (0, 0.5, 0.99, 1)] == [1, 3, 5, 5]
    assert math.isnan(quantile([], 0.5))


def test_table():
    text = table([figure(bound=20, ratio=0.5, target=RATIO, more={"cpu": 1.25})], False)
    line = " ".join(text.splitlines()[3].split())
    assert line == "x it 10 /s 20 0.5 ≥ 0.5 x yes 1.25 \\"


def test_differences():
    one = figure(bound=20, ratio=0.5, more={"cpu": 2}).asJSON(False)
    other = figure(value=15, bound=20, ratio=0.75, more={"cpu": 1}).asJSON(False)
    text = differences([one, figure(what="gone").asJSON(False)], [other], ("old", "new"))
    assert text.splitlines()[-1].split() == ["it", "10", "15", "1.5", "1.5", "0.5"]


def test_lxml_writes_the_same_list():
    """But for what is the same in all lists."""
    at = datetime(2026, 11, 29, 3, 30, 3, 633000, tzinfo=UTC)
    ref = JobRef(jobId="abc", phase=COMPLETED, owner=None, runId=None, creationTime=at)
    ours = b"".join([jobListStart(), jobRef(ref, "http://localhost/abc"), jobListEnd()])
    out = BytesIO()
    jobs = [("abc", "COMPLETED", "2026-11-29T03:30:03.633Z")]
    writeList(jobs, "http://localhost/", out)
    assert canonical(out.getvalue()) == canonical(ours)


def canonical(document):
    """What a document says, however its empty elements are written."""
    (ref,) = etree.fromstring(document)
    return etree.tostring(ref, method="c14n")


def test_rows_are_told():
    """Each is a module that says what it measures, and the page about them has it."""
    told = (ROOT / "bench" / "README.rst").read_text("utf-8")
    for name in NAMES:
        assert measureOf(name).__module__ == f"bench.rows.{name}"
        assert f"``{name}``" in told


def test_what_is_no_commit():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--compare", "nowhere", "nothing"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nowhere is no file and no commit" in done.stderr


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
async def test_wrk():
    """It sends requests as they are, and tells of answers that are not as expected."""
    seen = []

    class Site(Resource):
        isLeaf = True

        def render_POST(self, request):
            seen.append((request.path, request.content.read()))
            request.setResponseCode(303)
            return b""

    port = reactor.listenTCP(0, server.Site(Site()), interface="127.0.0.1")
    number = port.getHost().port
    requests = [postRequest(number, path, {"a": '1 "2"'}) for path in ("/one", "/two")]
    wish = {"port": number, "connections": 2, "seconds": 1, "requests": requests}
    good = await deferToThread(wrk.run, {**wish, "expect": 303})
    bad = await deferToThread(wrk.run, {**wish, "expect": 200})
    assert set(seen) == {(b"/one", b"a=1+%222%22"), (b"/two", b"a=1+%222%22")}
    assert 0 < good["requests"] == pytest.approx(good["rate"] * good["seconds"])
    assert (good["failures"], bad["failures"]) == (0, bad["requests"])
    await port.stopListening()
