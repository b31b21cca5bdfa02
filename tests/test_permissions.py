"""Who may do what with whose job: every resource, every method, everybody."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet.defer import Deferred

from tests.authenticating import basic, settingsFor
from tests.serving import serve
from twuws.web.access import Anonymous
from twuws.web.uwsactions import METHODS, JobActions

#: What there is of a job, below its URL: each of its children, and something below those that
#: have something.
RESOURCES = (
    "",
    "/phase",
    "/executionduration",
    "/destruction",
    "/quote",
    "/owner",
    "/error",
    "/parameters",
    "/parameters/label",
    "/parameters/f",
    "/parameters/nothing",
    "/results",
    "/results/early",
    "/results/nothing",
    "/stdout",
    "/stderr",
    "/share",
    "/hold",
)
#: What is sent where; by default a parameter.
BODIES = {
    ("POST", "/phase"): [{"PHASE": "RUN"}, {"PHASE": "ABORT"}],
    ("POST", "/executionduration"): [{"EXECUTIONDURATION": "10"}],
    ("POST", "/share"): [{"LIFETIME": "60"}, {}],
    ("POST", "/hold"): [{"WHY": "Repairs."}, {}],
    ("POST", "/destruction"): [{"DESTRUCTION": "2999-01-01T00:00:00Z"}],
    ("POST", ""): [{"ACTION": "DELETE"}, {"label": "new"}, {"PHASE": "ABORT", "label": "new"},
                   {"PHASE": "ABORT"}, {"RUNID": "new"}],
}  # fmt: skip
#: What an administrator may do with the jobs of others, beside looking.
ACTS = (
    ("DELETE", "", None),
    ("POST", "", {"ACTION": "DELETE"}),
    ("POST", "", {"PHASE": "ABORT"}),
    ("POST", "/phase", {"PHASE": "ABORT"}),
)
#: What is for administrators alone, whosever the job is.
THEIRS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/hold", {"WHY": "Repairs."}),
    ("POST", "/hold", {}),
    ("DELETE", "/hold", None),
)
ALL = ("GET", "HEAD", *METHODS[1:], "OPTIONS", "PATCH")


def cells():
    for resource in RESOURCES:
        for method in ALL:
            bodies = [{"label": "new"}] if method in ("POST", "PUT", "PATCH") else [None]
            for body in BODIES.get((method, resource), bodies):
                yield method, resource, body


CELLS = list(cells())


def test_no_resource_is_without_its_row():
    assert {one.name for one in JobActions()} | {""} == {
        one.split("/")[1] if one else "" for one in RESOURCES
    }
    for action in JobActions():
        if action.hasChildren:
            assert any(one.startswith(f"/{action.name}/") for one in RESOURCES)
    assert set(METHODS) <= set(ALL)


@pytest.fixture
def start(database, tmp_path):
    started = []

    async def start(**access):
        settings = settingsFor(**access)
        serving = await serve(database, tmp_path / "jobs", settings=settings, slots=0)
        started.append(serving)
        return serving

    yield start
    for serving in started:
        blockon(Deferred.fromCoroutine(serving.stop()))


async def create(serving, headers=None):
    """A job that has a value and a file."""
    answer = await serving.client.post(
        serving.url,
        data={"label": "old"},
        files={"f": ("x", b"content")},
        headers=headers or {},
        allow_redirects=False,
    )
    assert answer.code == 303
    return answer.headers.getRawHeaders("location")[0]


async def ask(serving, url, cell, headers):
    method, resource, body = cell
    data = list(body.items()) if body else None
    return await serving.request(method, url + resource, data=data, headers=headers)


@pytest.mark.parametrize("hides", [False, True], ids=["403", "404"])
async def test_others(start, hides):
    """Nobody else sees or changes anything; all of it together has changed nothing."""
    serving = await start(hidesJobs=hides)
    url = await create(serving, basic("alice"))
    before = (await serving.get(url, headers=basic("alice"))).content
    for cell in CELLS:
        for headers, status in ((basic("bob"), 403), ({}, 401)):
            answer = await ask(serving, url, cell, headers)
            assert answer.status == (404 if hides else status), (cell, headers, answer.text)
            assert ("www-authenticate" in answer.headers) == (answer.status == 401)
            assert not re.search(r"\b(old|content)\b", answer.text)
    assert (await serving.get(url, headers=basic("alice"))).content == before


async def test_owner(start):
    """The owner of a job may do with it what anybody may with a job that nobody owns."""
    serving = await start()
    for cell in CELLS:
        nobodys, owned = await create(serving), await create(serving, basic("alice"))
        expected = await ask(serving, nobodys, cell, {})
        answer = await ask(serving, owned, cell, basic("alice"))
        if cell in THEIRS:
            assert (expected.status, answer.status) == (401, 403)
            continue
        assert answer.status == expected.status, (cell, answer.text)
        assert answer.status not in (401, 403), (cell, answer.text)


async def test_admin(start):
    """An administrator may look, hold, abort and destroy, and nothing else."""
    serving = await start()
    for cell in CELLS:
        mine, owned = await create(serving, basic("alice")), await create(serving, basic("alice"))
        expected = (await ask(serving, mine, cell, basic("alice"))).status
        answer = await ask(serving, owned, cell, basic("root"))
        if cell in THEIRS:  # there is no hold to be taken off
            assert (expected, answer.status) == (403, 404 if cell[0] == "DELETE" else 303)
            continue
        isLooking = cell[0] in ("GET", "HEAD", "OPTIONS")
        mayNot = not isLooking and cell not in ACTS and expected not in (404, 405)
        assert answer.status == (403 if mayNot else expected), (cell, answer.text)
        if mayNot:
            document = (await serving.get(owned, headers=basic("root"))).content
            assert (b"new" in document, b"PENDING" in document) == (False, True)


async def test_holding(start):
    """It is kept from running until the hold is taken off; it says why, and the records who."""
    serving = await start()
    for headers in (basic("alice"), {}):
        url = await create(serving, headers)
        why = {"WHY": " Repairs. "}
        assert (await serving.post(url + "/hold", why, headers=basic("root"))).location == url
        await serving.post(url + "/phase", {"PHASE": "RUN"}, headers=headers)
        held = await serving.get(url, headers=headers)
        assert "<uws:phase>HELD</uws:phase>" in held.text
        assert "Repairs." in held.text
        answer = await serving.request("DELETE", url + "/hold", headers=basic("root"))
        assert (answer.status, answer.location) == (303, url)
        assert (await serving.get(url + "/phase", headers=headers)).text == "QUEUED"
        events = await serving.uws.history(url.rpartition("/")[2])
        assert events[-1].who == "root"
    for wrong in ({"WHY": "x" * 1001}, {"label": "x"}, [("WHY", "a"), ("WHY", "b")]):
        assert (await serving.post(url + "/hold", wrong, headers=basic("root"))).status == 400


async def test_nobodys_job(start):
    """It is for whoever knows its URL, also under a name."""
    serving = await start()
    url = await create(serving)
    for headers in ({}, basic("alice"), basic("root")):
        assert (await serving.get(url, headers=headers)).status == 200
    assert (
        await serving.post(url + "/phase", {"PHASE": "RUN"}, headers=basic("bob"))
    ).status == 303


# What is shared


async def share(serving, url, headers):
    answer = await serving.post(url + "/share", headers=headers)
    assert answer.status == 200, answer.text
    return answer.location


async def test_shared(start):
    """Whoever has the URL may look at all of it, and do nothing; whoever they say they are."""
    serving = await start(anonymous=Anonymous.NOTHING)
    url = await create(serving, basic("alice"))
    shared = await share(serving, url, basic("alice"))
    before = (await serving.get(url, headers=basic("alice"))).content
    for cell in CELLS:
        looked = (cell[0] if cell[0] in ("GET", "HEAD") else "GET", cell[1], None)
        expected = await ask(serving, url, looked, basic("alice"))
        for headers in ({}, basic("bob"), basic("bob", "wrong")):
            answer = await ask(serving, shared, cell, headers)
            isLooking = cell[0] in ("GET", "HEAD", "OPTIONS")
            if cell[0] in ("GET", "HEAD"):
                assert answer.status == expected.status, (cell, answer.text)
            else:
                assert answer.status == (204 if isLooking else 403), (cell, answer.text)
            assert "/async" not in answer.text
            assert "www-authenticate" not in answer.headers
    assert (await serving.get(url, headers=basic("alice"))).content == before


# Lists


async def ids(serving, headers=None):
    answer = await serving.get("", headers=headers or {})
    assert answer.status == 200, answer.text
    return {
        url.rpartition("/")[2] for url in answer.text.split('"') if url.startswith("http://127")
    }


@pytest.mark.parametrize("anonymous", [Anonymous.ALL, Anonymous.CREATE])
async def test_lists(start, anonymous):
    serving = await start(anonymous=anonymous)
    byWhom = {}
    for name in ("alice", "bob", None):
        urls = [await create(serving, basic(name) if name else None) for _ in range(2)]
        byWhom[name] = {url.rpartition("/")[2] for url in urls}
    assert await ids(serving, basic("alice")) == byWhom["alice"]
    assert await ids(serving, basic("bob")) == byWhom["bob"]
    assert await ids(serving) == (byWhom[None] if anonymous is Anonymous.ALL else set())
    assert await ids(serving, basic("root")) == set().union(*byWhom.values())


async def test_nothing_for_those_who_do_not_log_in(start):
    serving = await start(anonymous=Anonymous.NOTHING)
    job = await create(serving, basic("alice"))
    for path in ("/async", "/sync", "/sync/" + job.rpartition("/")[2], "/capabilities"):
        for method in ("GET", "POST"):
            answer = await serving.request(method, serving.base + path)
            assert (answer.status, answer.headers["www-authenticate"][:5]) == (401, "Basic"), path
    assert (await serving.get(serving.base + "/availability")).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_sync(start, method):
    """The job of a synchronous request is its owner's, too."""
    serving = await start()
    answer = await serving.get(serving.base + "/sync?label=x", headers=basic("alice"))
    assert answer.status == 303
    for headers, status in (({}, 401), (basic("bob"), 403)):
        assert (await serving.request(method, answer.location, headers=headers)).status == status
    assert (await serving.request("HEAD", answer.location, headers=basic("root"))).status == 200
    assert len(await ids(serving, basic("alice"))) == 1
    assert not await ids(serving)


async def test_wait(start):
    """Nobody waits for what they may not see."""
    serving = await start()
    url = await create(serving, basic("alice"))
    await serving.post(url + "/phase", {"PHASE": "RUN"}, headers=basic("alice"))
    for headers, status in (({}, 401), (basic("bob"), 403)):
        assert (await serving.get(url + "?WAIT=20", headers=headers)).status == status


async def test_owner_is_told(start):
    serving = await start()
    url = await create(serving, basic("alice"))
    assert (await serving.get(url + "/owner", headers=basic("alice"))).text == "alice"
    document = (await serving.get(url, headers=basic("alice"))).text
    assert "<uws:ownerId>alice</uws:ownerId>" in document
    events = await serving.uws.history(url.rpartition("/")[2])
    assert [event.who for event in events] == ["alice"]
