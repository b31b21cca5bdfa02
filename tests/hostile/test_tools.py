"""Programs of others that look for weak places find none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.service import service
from tests.hostile.watcher import MB, SPARE, Watcher

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("tools")]

#: What they report that is as it is meant to be, by a part of their words, with the reason.
ACCEPTED = {
    "X-Frame-Options": "the one page says frame-ancestors 'none', which goes before it",
    "X-XSS-Protection": "browsers have given that up, and it did harm; no script may run here",
    "Strict-Transport-Security": "it counts by https only, and is for who has the host's name",
}
#: How slowhttptest is to be slow: with headers, with bodies, with ranges, with reading.
MODES = (
    ("-H",), ("-B", "-s", "8192", "-t", "POST"), ("-R", "-t", "HEAD"),
    ("-X", "-n", "5", "-z", "32", "-k", "3"),
)  # fmt: skip
#: How many connections each makes, how many in a second; how often it sends something, and for
#: how long it does, s; and how long it waits for an answer while it does, s.
USUAL = ("-c", "1000", "-r", "200", "-i", "5", "-l", "30", "-p", "10")
#: What wapiti looks for.  Its module nikto, for one, has paths of thousands of programs.
MODULES = (
    "backup,blindsql,brute_login_form,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,"
    "methods,nikto,permanentxss,redirect,shellshock,sql,xss"
)
#: Where wapiti begins: it finds its way by links and forms, and here most have none.
STARTS = (
    "/work/async?PHASE=PENDING&LAST=3", "/work/sync?text=a&RUNID=b", "/work/capabilities",
    "/work/async?AFTER=2026-01-01", "/read/async", "/work/login",
)  # fmt: skip


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def target():
    with service() as target:
        yield target


@needs("slowhttptest")
def test_slowhttptest(target):
    """With 1000 connections in each of its ways, all ways at the same time."""
    url = f"http://127.0.0.1:{target.port}/work/async"
    with Watcher(target) as watcher:
        several = [
            subprocess.Popen(
                ["slowhttptest", *mode, *USUAL, "-u", url],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for mode in MODES
        ]
        said = [one.communicate(timeout=120)[0] for one in several]
    cost = watcher.cost
    for mode, told in zip(MODES, said, strict=True):
        plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", told)
        states = re.findall(r"service available:\s+(\w+)", plain)
        assert states, (mode, plain[-2000:])
        # Its own patience may end on a machine that is busy.
        assert states.count("YES") > len(states) / 2, (mode, states)
        assert states[-1] == "YES", (mode, states)
    assert not cost.failed, cost.failed[:5]
    assert cost.latency < 10, cost.row()
    assert cost.memory < 160 * MB, cost.row()
    assert cost.descriptorsLeft <= SPARE, cost.row()
    assert not cost.troubles, cost.troubles[:5]


@needs("wapiti")
def test_wapiti(target, tmp_path):
    base = f"http://127.0.0.1:{target.port}"
    report = tmp_path / "report.json"
    with Watcher(target, settling=5) as watcher:  # the jobs that it makes stay
        subprocess.run(
            [
                *("wapiti", "-u", base + "/", "--scope", "domain", "-m", MODULES, "-f", "json"),
                *("-o", str(report), "--store-session", str(tmp_path), "--no-bugreport"),
                *("--store-config", str(tmp_path / "config"), "--flush-session", "-l", "1"),
                *("--max-scan-time", "30", "--max-attack-time", "15", "-t", "10"),
                *(word for start in STARTS for word in ("-s", base + start)),
            ],
            capture_output=True,
            timeout=600,
            check=True,
        )
    told = json.loads(report.read_text())
    found = [
        f"{kind}: {one['method']} {one['path']} {one['info']}"
        for kind, one in _reported(told)
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
            *("-output", str(report), "-ask", "no", "-nointeractive", "-maxtime", "60s"),
        ],
        capture_output=True,
        timeout=180,
        check=False,
    )
    found = json.loads(report.read_text() or "{}")
    several = found if isinstance(found, list) else [found]
    told = [one["msg"] for host in several for one in host.get("vulnerabilities", [])]
    assert [one for one in told if not any(known in one for known in ACCEPTED)] == []
