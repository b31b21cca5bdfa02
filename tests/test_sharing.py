"""A job that its owner shares by a URL: what it leads to, for how long, and for nobody else."""

from __future__ import annotations

import re

import pytest
from pytest_twisted import blockon
from twisted.internet.defer import Deferred

from tests.authenticating import basic, settingsFor
from tests.serving import HREF, UWSNS, serve, text
from twuws.errors import Forbidden, NotFound
from twuws.jobstable import JobsTable
from twuws.sharing import Shares, signature
from twuws.web.settings import WebSettings

ID = "0123456789abcdef" * 2


@pytest.fixture
def start(database, tmp_path):
    started = []

    async def start(settings=None, **more):
        settings = settings or settingsFor()
        serving = await serve(database, tmp_path / "jobs", settings=settings, **more)
        started.append(serving)
        return serving

    yield start
    for serving in started:
        blockon(Deferred.fromCoroutine(serving.stop()))


async def share(serving, url, data=(), **more):
    answer = await serving.post(url + "/share", data, **more)
    assert answer.status == 200, answer.text
    assert answer.text == answer.location + "\n"
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.location


# Tokens


@pytest.fixture
def shares(database):
    return Shares(JobsTable(database), "one")


async def test_token(shares, database):
    token = await shares.token(ID, 60)
    assert await shares.jobId(token) == ID
    assert await Shares(JobsTable(database), "one").jobId(token) == ID  # another node


async def test_aKeyOfTheServices(shares, database):
    """It is made once, has 256 bits, and is of no use without the service's name."""
    token = await shares.token(ID, 60)
    rows = await database.query("SELECT name, value FROM secrets")
    assert [row["name"] for row in rows] == ["sharing"]
    assert re.fullmatch("[0-9a-f]{64}", rows[0]["value"])
    key = bytes.fromhex(rows[0]["value"])
    assert token.endswith("." + signature(key, "one", ID, int(token.split(".")[1])))
    with pytest.raises(NotFound):
        await Shares(JobsTable(database), "two").jobId(token)
    await Shares(JobsTable(database), "two").token(ID, 60)
    assert await database.query("SELECT name, value FROM secrets") == rows


async def test_forged(shares):
    jobId, expires, signed = (await shares.token(ID, 60)).split(".")
    other = ("f" if jobId[0] != "f" else "e") + jobId[1:]
    last = "A" if signed[-1] != "A" else "E"
    for forged in (
        f"{other}.{expires}.{signed}",
        f"{jobId}.{int(expires) + 1}.{signed}",
        f"{jobId}.0{expires}.{signed}x",
        f"{jobId}.{expires}.{signed[:-1]}{last}",
        f"{jobId}.{expires}.{signed[:-1]}",
        f"{jobId}.{expires}.",
        f"{jobId}.{expires}",
        f"{jobId}.-1.{signed}",
        f"{jobId}.{expires}.{signed}=",
        f"{jobId.upper()}.{expires}.{signed}",
        f"{jobId}.{expires}.{'é' * 43}",
        "",
        "x" * 100_000,
    ):
        with pytest.raises(NotFound):
            await shares.jobId(forged)


async def test_expired(shares):
    shares.clock = lambda: 1000.0
    token = await shares.token(ID, 60)
    shares.clock = lambda: 1059.9
    assert await shares.jobId(token) == ID
    shares.clock = lambda: 1060.0
    with pytest.raises(Forbidden, match="over"):
        await shares.jobId(token)
    with pytest.raises(NotFound):  # that one had a time is not told of a forged one
        await shares.jobId(token[:-2])


# Over HTTP


async def test_everythingOfAJob(start):
    serving = await start()
    url = await serving.create({"label": "a", "PHASE": "RUN"}, headers=basic("alice"))
    shared = await share(serving, url, headers=basic("alice"))
    assert shared.startswith(serving.base + "/shared/")
    job = await serving.job(shared, params={"WAIT": "10"})
    while text(job, "phase") != "COMPLETED":
        job = await serving.job(shared, params={"WAIT": "10"})
    hrefs = [one.get(HREF) for one in job.findall(".//uws:result", UWSNS)]
    assert hrefs == [f"{shared}/results/early", f"{shared}/results/result"]
    assert (await serving.get(hrefs[0])).text == "early\n"
    part = await serving.get(hrefs[1], headers={"range": "bytes=0-2"})
    assert (part.status, part.text) == (206, "a,b")
    assert (await serving.get(shared + "/phase")).text == "COMPLETED"
    assert (await serving.get(shared + "/parameters/label")).text == "a"
    assert (await serving.get(shared + "/owner")).text == "alice"
    for path in ("", "/results", "/parameters"):
        answer = await serving.get(shared + path)
        assert "/async" not in answer.text
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert (await serving.request("HEAD", shared)).status == 200
    assert (await serving.get(url)).status == 401  # the job itself is not for everybody


async def test_uploadsAreAtTheSharedURL(start):
    serving = await start(slots=0)
    made = await serving.client.post(
        serving.url, files={"f": ("x", b"sent")}, headers=basic("alice"), allow_redirects=False
    )
    url = made.headers.getRawHeaders("location")[0]
    shared = await share(serving, url, headers=basic("alice"))
    assert f"{shared}/parameters/f" in (await serving.get(shared)).text
    assert (await serving.get(shared + "/parameters/f")).text == "sent"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, 86400), ({"LIFETIME": "60"}, 60), ({"lifetime": "9999999999999999"}, 30 * 86400)],
)
async def test_lifetimes(start, given, seconds):
    serving = await start(slots=0)
    serving.uws.shares.clock = lambda: 1000.0
    url = await serving.create()
    assert int((await share(serving, url, given)).split(".")[-2]) == 1000 + seconds


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "٣"])
async def test_lifetimesThatAreNone(start, value):
    serving = await start(slots=0)
    url = await serving.create()
    answer = await serving.post(url + "/share", {"LIFETIME": value})
    assert (answer.status, "LIFETIME" in answer.text) == (400, True)


async def test_over(start):
    serving = await start(slots=0)
    shared = await share(serving, await serving.create(), {"LIFETIME": "60"})
    now = serving.uws.shares.clock()
    serving.uws.shares.clock = lambda: now + 61
    answer = await serving.get(shared)
    assert (answer.status, "ask its owner" in answer.text) == (403, True)
    forged = await serving.get(shared[:-3] + "/phase")
    assert (forged.status, "Nothing is shared here" in forged.text) == (404, True)
    assert (await serving.get(serving.base + "/shared")).status == 404


async def test_destroyed(start):
    serving = await start(slots=0)
    url = await serving.create(headers=basic("alice"))
    shared = await share(serving, url, headers=basic("alice"))
    await serving.request("DELETE", url, headers=basic("alice"))
    assert (await serving.get(shared)).status == 404


async def test_onlyItsOwner(start):
    serving = await start(slots=0)
    url = await serving.create(headers=basic("alice"))
    for headers, status in ((basic("bob"), 403), (basic("root"), 403), ({}, 401)):
        assert (await serving.post(url + "/share", headers=headers)).status == status


async def test_notAtAll(start):
    """Where the operator does not want it, what was shared before is shared no longer."""
    serving = await start(WebSettings(), slots=0)
    url = await serving.create()
    shared = await share(serving, url)
    off = await start(WebSettings(longestShare=0), slots=0)
    answer = await off.post(off.url + "/" + url.rpartition("/")[2] + "/share")
    assert (answer.status, "does not let" in answer.text) == (403, True)
    assert (await off.get(shared.replace(serving.base, off.base))).status == 403
