"""Programs of others that look for weak places find none."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.attack import SPARE
from tests.hostile.service import service
from tests.hostile.watcher import MB, Watcher

pytestmark = pytest.mark.hostile

#: What they report that is as it is meant to be, by a part of their words, with the reason.
ACCEPTED = {
    "X-Frame-Options": "the one page has frame-ancestors 'none' in its policy, which goes before it",
    "X-XSS-Protection": "browsers have given that up, and it did harm; the policy lets no script run",
    "Strict-Transport-Security": "it counts by https only, and is for who has the host's name",
}


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def target():
    with service() as target:
        yield target


@needs("slowhttptest")
@pytest.mark.parametrize(
    "mode",
    [
        ("-H", "-p", "3"),
        ("-B", "-s", "8192", "-t", "POST"),
        ("-R", "-t", "HEAD"),
        ("-X", "-n", "5", "-z", "32", "-k", "3"),
    ],
    ids=lambda mode: mode[0],
)
def test_slowhttptest(target, mode):
    url = f"http://127.0.0.1:{target.port}/work/async"
    with Watcher(target) as watcher:
        done = subprocess.run(
            ["slowhttptest", *mode, "-c", "1000", "-r", "200", "-i", "5", "-l", "30", "-u", url],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    cost = watcher.cost
    assert "1000" in done.stdout, done.stdout + done.stderr
    assert not cost.failed, cost.failed[:5]
    assert cost.latency < 2, cost.row()
    assert cost.memory < 64 * MB, cost.row()
    assert cost.descriptorsLeft <= SPARE, cost.row()
    assert not cost.troubles, cost.troubles[:5]


@needs("wapiti")
def test_wapiti(target, tmp_path):
    """It finds its way by links and forms: it is led to what has none."""
    base = f"http://127.0.0.1:{target.port}"
    report = tmp_path / "report.json"
    starts = ("/work/async?PHASE=PENDING&LAST=3", "/work/sync?text=a&RUNID=b", "/work/capabilities",
              "/work/async?AFTER=2026-01-01", "/read/async", "/work/login")  # fmt: skip
    with Watcher(target) as watcher:
        subprocess.run(
            [
                *("wapiti", "-u", base + "/", "--scope", "domain", "-m", "all", "-f", "json"),
                *("-o", str(report), "--store-session", str(tmp_path), "--no-bugreport"),
                *("--store-config", str(tmp_path / "config"), "--flush-session", "-l", "2"),
                *("--max-scan-time", "60", "--max-attack-time", "30", "-t", "10"),
                *(word for start in starts for word in ("-s", base + start)),
            ],
            capture_output=True,
            timeout=900,
            check=True,
        )
    found = [
        f"{kind}: {one['method']} {one['path']} {one['info']}"
        for kind, one in _reported(json.loads(report.read_text()))
        if not any(known in one["info"] for known in ACCEPTED)
    ]
    assert not found, "\n".join(found)
    assert not watcher.cost.troubles, watcher.cost.troubles[:5]
    assert watcher.cost.descriptorsLeft <= SPARE, watcher.cost.row()


def _reported(report: Any) -> Iterator[tuple[str, Any]]:
    for group in ("vulnerabilities", "anomalies"):
        for kind, several in report[group].items():
            for one in several:
                yield kind, one


@needs("nikto")
def test_nikto(target, tmp_path):
    report = tmp_path / "report.json"
    subprocess.run(
        [
            *("nikto", "-host", f"http://127.0.0.1:{target.port}/", "-Format", "json"),
            *("-output", str(report), "-ask", "no", "-nointeractive", "-maxtime", "120s"),
        ],
        capture_output=True,
        timeout=300,
        check=False,
    )
    found = json.loads(report.read_text() or "{}")
    several = found if isinstance(found, list) else [found]
    told = [one["msg"] for host in several for one in host.get("vulnerabilities", [])]
    assert [one for one in told if not any(known in one for known in ACCEPTED)] == []
