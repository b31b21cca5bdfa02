"""
ABORT, DELETE and the time limit leave no process of a job alive, grandchildren included.
"""

from __future__ import annotations

import time

import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.serving import serve, text
from twuws import parameters as p
from twuws.interfaces import WorkLimits
from twuws.programs import programClass

# A child, one that ignores TERM, and one that forks twice into a session of its own.
pytestmark = [pytest.mark.slow, pytest.mark.covered]

SCRIPT = """
export TAG="$0"
sleep $TAG.1 &
sh -c 'trap "" TERM; while :; do sleep $TAG.2; done' &
setsid sh -c 'sleep $TAG.3 & exit' &
echo ready
printf '\\303\\251' >&2
sleep $TAG.4
"""

Family = programClass(
    "Family",
    ("sh", "-c", SCRIPT, "{tag}"),
    {"tag": p.Integer(required=True)},
)


@pytest.fixture
def families(database, tmp_path):
    limits = WorkLimits(grace=0.3)
    made = serve(database, tmp_path / "jobs", jobClass=Family, limits=limits)
    serving = pytest_twisted.blockon(Deferred.fromCoroutine(made))
    yield serving

    async def endAll():
        for jobId, _ in await serving.uws.getIdsAndPhases():
            await serving.uws.destroy(jobId)
        while await serving.uws.database.query("SELECT * FROM stops"):
            await deferLater(serving.reactor, 0.02)

    pytest_twisted.blockon(Deferred.fromCoroutine(endAll()))
    pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))


def alive(tag):
    """The sleeping processes of a job, by what they sleep for."""
    found = set()
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if words[:1] == ["sleep"] and words[1].startswith(f"{tag}."):
            found.add(words[1])
    return found


async def begun(serving, tag):
    url = await serving.create({"tag": str(tag), "PHASE": "RUN"})
    while len(alive(tag)) < 4:
        await deferLater(serving.reactor, 0.02)
    return url


@pytest.mark.parametrize("how", ["ABORT", "DELETE", "ACTION", "time"])
async def test_nothing_is_left(families, how):
    serving = families
    tag = 3000 + int(time.time() * 1000) % 100000
    url = await begun(serving, tag)
    if how == "ABORT":
        await serving.post(url + "/phase", {"PHASE": "ABORT"})
    elif how == "DELETE":
        await serving.request("DELETE", url)
    elif how == "ACTION":
        await serving.post(url, {"ACTION": "DELETE"})
    else:
        await serving.post(url + "/executionduration", {"EXECUTIONDURATION": "1"})
        job = await serving.job(url + "?WAIT=10")
        assert text(job, "phase") == "ABORTED"
        assert "execution duration" in text(job, "errorSummary/message").lower()
    until = time.monotonic() + 2 + 0.3
    while alive(tag):
        assert time.monotonic() < until, alive(tag)
        await deferLater(serving.reactor, 0.02)
    directory = serving.uws.workDirs.forJob(url.rpartition("/")[2])
    while how in ("DELETE", "ACTION") and directory.path.exists():
        await deferLater(serving.reactor, 0.02)
    while await serving.uws.database.query("SELECT * FROM stops"):
        await deferLater(serving.reactor, 0.02)


async def test_output_while_it_runs(families):
    serving = families
    tag = 3000 + int(time.time() * 1000) % 100000
    url = await begun(serving, tag)
    while (await serving.get(url + "/stdout")).text != "ready\n":
        await deferLater(serving.reactor, 0.02)
    assert (await serving.get(url + "/stderr")).text == "é"
    await serving.request("DELETE", url)
    assert (await serving.get(url + "/stdout")).status == 404
    while alive(tag):
        await deferLater(serving.reactor, 0.02)


async def test_a_late_end_changes_nothing(families):
    """The work of an aborted job ends, and the job stays as it was."""
    serving = families
    tag = 3000 + int(time.time() * 1000) % 100000
    url = await begun(serving, tag)
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    before = (await serving.get(url)).content
    while serving.jobServices.dispatcher.busy:
        await deferLater(serving.reactor, 0.02)
    assert (await serving.get(url)).content == before
    assert text(await serving.job(url), "phase") == "ABORTED"
