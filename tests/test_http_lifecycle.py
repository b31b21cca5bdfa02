"""Creating, running, aborting and destroying over HTTP (behaviours A, E)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.serving import text
from tests.validation import validate

SPELLED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_create(serving):
    answer = await serving.post()
    assert answer.status == 303
    jobId = answer.location.removeprefix(serving.url + "/")
    assert re.fullmatch("[0-9a-f]{32}", jobId)
    document = await serving.get(answer.location)
    job = validate(document.content)
    assert document.headers["content-type"].startswith("text/xml")
    assert text(job, "jobId") == jobId
    assert text(job, "phase") == "PENDING"
    assert text(job, "ownerId") is None
    assert text(job, "quote") is None
    assert SPELLED.fullmatch(text(job, "creationTime"))
    listed = validate((await serving.get()).content)
    assert [ref.get("id") for ref in listed] == [jobId]


async def test_whole_life(serving):
    url = await serving.create({"x": "1.5", "RunID": "my run", "phase": "RUN"})
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"
    assert text(job, "runId") == "my run"
    assert text(job, "startTime") <= text(job, "endTime")
    gone = await serving.request("DELETE", url)
    assert (gone.status, gone.location) == (303, serving.url)
    for path in ("", "/phase", "/results", "/parameters/x"):
        assert (await serving.get(url + path)).status == 404
    assert (await serving.request("DELETE", url)).status == 404
    await serving.uws.directoriesRemoved()
    assert not serving.uws.workDirs.forJob(url.rpartition("/")[2]).path.exists()


@pytest.mark.parametrize("how", ["body", "query", "job", "phase", "jobQuery"])
async def test_ways_to_run(serving, how):
    if how == "body":
        url = await serving.create({"PHASE": "RUN"})
    elif how == "query":
        url = (await serving.post("?phase=run")).location
    else:
        url = await serving.create()
        path, data = {
            "job": (url, {"PHASE": "RUN"}),
            "phase": (url + "/phase", {"phase": "RUN"}),
            "jobQuery": (url + "/phase?PHASE=RUN", {}),
        }[how]
        answer = await serving.post(path, data)
        assert (answer.status, answer.location) == (303, url)
    assert await serving.phase(url) != "PENDING"
    assert text(await serving.ended(url), "phase") == "COMPLETED"


async def test_phases_that_cannot_be(serving):
    url = await serving.create()
    for bad in ("nonsense", "SHUTDOWN", "", "RUN\x00"):
        answer = await serving.post(url + "/phase", {"PHASE": bad})
        assert answer.status == 400
        assert answer.text.startswith("PHASE")
    assert (await serving.post(url + "/phase")).status == 400
    assert (await serving.post("", {"PHASE": "ABORT"})).status == 400
    assert await serving.phase(url) == "PENDING"
    assert (await serving.get(url + "/phase?PHASE=ABORT")).text == "PENDING"


async def test_final_is_final(serving):
    for data in ({}, {"failure": "x"}):
        url = await serving.create({"PHASE": "RUN", **data})
        job = await serving.ended(url)
        for phase in ("RUN", "ABORT"):
            assert (await serving.post(url + "/phase", {"PHASE": phase})).status == 403
        again = await serving.job(url)
        assert text(again, "phase") == text(job, "phase")
        assert text(again, "endTime") == text(job, "endTime")


async def test_abort(serving):
    url = await serving.create()
    assert (await serving.post(url + "/phase", {"PHASE": "ABORT"})).location == url
    job = await serving.job(url)
    assert text(job, "phase") == "ABORTED"
    assert text(job, "startTime") is None
    assert text(job, "endTime") is not None
    assert job.find("{*}errorSummary") is None
    assert (await serving.post(url + "/phase", {"PHASE": "ABORT"})).status == 303
    assert (await serving.post(url + "/phase", {"PHASE": "RUN"})).status == 403


async def test_abort_while_executing_keeps_results(serving):
    url = await serving.create({"seconds": "60", "PHASE": "RUN"})
    while b'id="early"' not in (await serving.get(url + "/results")).content:
        await serving.job(url, params={"WAIT": "1", "PHASE": "QUEUED"})
    job = await serving.job(url)
    assert "half" in job.find("{*}jobInfo").xpath("string()")
    assert (await serving.post(url + "/phase", {"PHASE": "ABORT"})).status == 303
    job = await serving.job(url)
    assert text(job, "phase") == "ABORTED"
    assert [r.get("id") for r in job.find("{*}results")] == ["early"]
    assert (await serving.get(url + "/results/early")).content == b"early\n"


async def test_abort_in_queue(serving):
    busy = [await serving.create({"seconds": "60", "PHASE": "RUN"}) for _ in range(2)]
    url = await serving.create({"PHASE": "RUN"})
    assert await serving.phase(url) == "QUEUED"
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    for other in busy:
        await serving.request("DELETE", other)
    last = await serving.create({"PHASE": "RUN"})
    assert text(await serving.ended(last), "phase") == "COMPLETED"
    job = await serving.job(url)
    assert text(job, "phase") == "ABORTED"
    assert text(job, "startTime") is None


async def test_delete_by_action(serving):
    url = await serving.create()
    for bad in ("KILL", ""):
        answer = await serving.post(url, {"ACTION": bad})
        assert answer.status == 400
        assert "ACTION" in answer.text
    answer = await serving.post(url, {"action": "delete"})
    assert (answer.status, answer.location) == (303, serving.url)
    assert (await serving.get(url)).status == 404


async def test_error(serving):
    url = await serving.create({"PHASE": "RUN", "failure": "the <reason> & more"})
    job = await serving.ended(url)
    assert text(job, "phase") == "ERROR"
    assert "the <reason> & more" in text(job, "errorSummary/message")
    summary = job.find("{*}errorSummary")
    assert (summary.get("type"), summary.get("hasDetail")) == ("fatal", "false")
    error = await serving.get(url + "/error")
    assert error.status == 200
    assert error.headers["content-type"].startswith("text/plain")
    assert error.text == "ValueError: the <reason> & more\n"  # and no traceback
    fine = await serving.create()
    assert (await serving.get(fine + "/error")).status == 404


async def test_sub_resources_agree_with_the_document(serving):
    url = await serving.create({"EXECUTIONDURATION": "77"})
    job = await serving.job(url)
    for path, element in (
        ("phase", "phase"),
        ("executionduration", "executionDuration"),
        ("destruction", "destruction"),
        ("quote", "quote"),
        ("owner", "ownerId"),
    ):
        answer = await serving.get(f"{url}/{path}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text == (text(job, element) or "")
    for path in ("results", "parameters"):
        answer = await serving.get(f"{url}/{path}")
        assert answer.headers["content-type"].startswith("text/xml")
        assert validate(answer.content).tag.endswith("}" + path)
    assert (await serving.get(url + "/nonsense")).status == 404
    assert (await serving.get(url + "/phase/nonsense")).status == 404


async def test_execution_duration(serving):
    url = await serving.create({"EXECUTIONDURATION": "77"})
    assert (await serving.get(url + "/executionduration")).text == "77"
    assert (
        await serving.post(url + "/executionduration", {"ExecutionDuration": "5"})
    ).status == 303
    assert text(await serving.job(url), "executionDuration") == "5"
    for bad in ("abc", "-5", "1e3", "1" + 30 * "0", "", "1.5"):
        answer = await serving.post(url + "/executionduration", {"EXECUTIONDURATION": bad})
        assert answer.status == 400
        assert answer.text.startswith("EXECUTIONDURATION")
    assert (await serving.get(url + "/executionduration")).text == "5"
    await serving.post(url + "/executionduration", {"EXECUTIONDURATION": "0"})
    assert (await serving.get(url + "/executionduration")).text == "86400"


async def test_destruction(serving):
    url = await serving.create()
    soon = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=123000)
    for spelling in (
        soon.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        soon.strftime("%Y-%m-%dT%H:%M:%S.123"),
    ):
        answer = await serving.post(url + "/destruction", {"DESTRUCTION": spelling})
        assert (answer.status, answer.location) == (303, url)
        expected = soon.strftime("%Y-%m-%dT%H:%M:%S.123Z")
        assert (await serving.get(url + "/destruction")).text == expected
    for bad in ("garbage", "2015-01-01", "2099-01-01T00:00:00+01:00", "2015-26-10"):
        answer = await serving.post(url + "/destruction", {"DESTRUCTION": bad})
        assert answer.status == 400
        assert "DESTRUCTION" in answer.text
    assert (await serving.get(url + "/destruction")).text == expected
    await serving.post(url + "/destruction", {"DESTRUCTION": "9999-12-31T00:00:00Z"})
    clamped = (await serving.get(url + "/destruction")).text
    assert clamped < (datetime.now(UTC) + timedelta(days=31, minutes=1)).isoformat()
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    await serving.ended(url)
    assert (await serving.post(url + "/destruction", {"DESTRUCTION": ""})).status == 303
    for bad in ("2015-01-01", "garbage"):
        assert (await serving.post("", {"DESTRUCTION": bad})).status == 400
    assert len(validate((await serving.get()).content)) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", ""), ("PUT", ""), ("OPTIONS", ""), ("DELETE", ""), ("HEAD", ""), ("POST", ""),
        ("POST", "/phase"), ("POST", "/phase?PHASE=nonsense"), ("DELETE", "/phase"),
        ("POST", "/destruction"), ("POST", "/executionduration?EXECUTIONDURATION=x"),
        ("PUT", "/parameters"), ("PUT", "/parameters/PHASE"), ("POST", "/results"),
        ("POST", "/results/none"), ("GET", "?WAIT=nonsense"),
    ],
)  # fmt: skip
async def test_whatIsNotThereIsNotFound(serving, method, path):
    """Whatever else is wrong with a request for a job that is gone (U-023)."""
    url = await serving.create()
    await serving.request("DELETE", url)
    answer = await serving.request(method, url + path, headers={"Accept": "image/png"})
    assert answer.status == 404
    assert method == "HEAD" or answer.text.startswith("There is no job")


async def test_resultsThatAreNotThere(serving):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = await serving.request(method, url + "/results/none")
        assert answer.status == 404
    assert (await serving.request("DELETE", url + "/results/early")).status == 405


async def test_propertiesAtOnePlace(serving):
    """What else a request says of a job is done, too, or nothing is."""
    url = await serving.create()
    answer = await serving.post(
        url + "/phase", {"PHASE": "RUN", "EXECUTIONDURATION": "77", "RUNID": "r"}
    )
    assert answer.status == 303
    job = await serving.ended(url)
    assert (text(job, "executionDuration"), text(job, "runId")) == ("77", "r")
    other = await serving.create()
    answer = await serving.post(
        other + "/executionduration", {"EXECUTIONDURATION": "77", "DESTRUCTION": "2015-01-01"}
    )
    assert answer.status == 400
    assert text(await serving.job(other), "executionDuration") != "77"


async def test_methods(serving):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    for method, path, allowed in (
        ("DELETE", serving.url, "GET, HEAD, OPTIONS, POST"),
        ("DELETE", url + "/phase", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", url + "/results/result", "GET, HEAD, OPTIONS"),
        ("POST", url + "/results", "GET, HEAD, OPTIONS"),
        ("PUT", url, "DELETE, GET, HEAD, OPTIONS, POST"),
        ("PATCH", url + "/quote", "GET, HEAD, OPTIONS"),
    ):
        answer = await serving.request(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
    for path in (serving.url, url, url + "/phase", url + "/results/result"):
        head, get = await serving.request("HEAD", path), await serving.get(path)
        assert (head.status, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != serving.url:
            assert head.headers["content-length"] == get.headers["content-length"]


async def test_slashes_and_odd_paths(serving):
    url = await serving.create()
    assert (await serving.get(url + "/")).status == 200
    assert (await serving.get(serving.url + "/")).status == 200
    assert (await serving.post(serving.url + "/")).status == 303
    for path in (
        serving.base,
        serving.base + "/",
        serving.base + "/nonsense",
        serving.url + "//x",
        serving.url + "/..%2f..%2fetc",
        serving.url + "/%00",
        serving.url + "/%ff",
        url + "/results/..%2f..%2fjob.json",
        url + "/results/%2e%2e/job.json",
        url + "/parameters/..%2fjob.json",
    ):
        answer = await serving.get(path)
        assert answer.status == 404, path
        assert answer.headers["content-type"].startswith("text/plain")


async def test_url_as_the_client_knows_it(serving):
    answer = await serving.post("", headers={"Host": "uws.example.org"})
    assert answer.location.startswith("http://uws.example.org/noted/async/")
    evil = await serving.post("", headers={"Host": 'x"><script>'})
    assert evil.location.startswith(serving.url)
    assert answer.headers["server"].startswith("twuws/")
