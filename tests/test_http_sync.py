"""Jobs in one request: what is at C{sync} (UWS 1.1, section 5; behaviour 79)."""

from __future__ import annotations

import json
import socket

import pytest
import pytest_twisted
import pyvo
import requests
import treq
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.serving import UWSNS, Noted, serve, text, within
from tests.test_hangup import FORM, hangUp, isHealthy, request
from tests.validation import validate
from twuws import parameters as p
from twuws.jobs import Result, UWSJob
from twuws.proxies import Proxies
from twuws.web.settings import WebSettings

pytestmark = [pytest.mark.slow, pytest.mark.covered]

RESULT = b"a,b\n1,2\n" * 1000
VOTABLE = "{http://www.ivoa.net/xml/VOTable/v1.3}"


class Named(UWSJob):
    """Makes results of these names."""

    names = p.Text(multiple=True)

    async def run(self):
        for name in self.names:
            with self.openResult(name, "text/plain", name.replace(" ", "-")) as out:
                out.write(name.encode())


class Demanding(UWSJob):
    """Cannot run without."""

    needed = p.Integer(required=True)

    async def run(self):
        pass


@pytest.fixture
def start(database, tmp_path):
    """Start a service: its job class, its slots, its settings."""
    begun = []

    async def begin(jobClass=Noted, slots=2, **settings):
        directory = tmp_path / f"jobs{len(begun)}"
        made = serve(database, directory, jobClass, slots, WebSettings(**settings))
        begun.append(await made)
        return begun[-1]

    yield begin
    for one in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


def begin(coroutine):
    return Deferred.fromCoroutine(coroutine)


async def waitingFor(serving, number):
    """Until so many wait."""
    while serving.uws.watcher.waiting() != number:
        await deferLater(serving.reactor, 0.005)


async def sync(serving, data=()):
    """Begin a synchronous job; the URL to wait at, and the job's."""
    answer = await serving.post(serving.base + "/sync", data)
    assert answer.status == 303, answer.text
    return answer.location, f"{serving.url}/{answer.location.rpartition('/')[2]}"


async def jobsOf(serving):
    return [ref.get("id") for ref in validate((await serving.get()).content)]


# To the one result


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_way(serving, method):
    """To the job, to its result, and the job is like any other."""
    words = "x=1.5&LABEL=a%20b&RUNID=night%203&several=1&several=2"
    where, more = serving.base + "/sync", {}
    if method == "GET":
        where += "?WAIT=5&" + words
    else:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        more = {"data": words.encode(), "headers": form}
    first = await serving.request(method, where, **more)
    assert (first.status, first.content) == (303, b"")
    assert first.headers["cache-control"] == "no-store"
    base, _, jobId = first.location.rpartition("/")
    assert base == serving.base + "/sync"
    second = await serving.get(first.location)
    assert (second.status, second.content) == (303, b"")
    assert second.headers["cache-control"] == "no-store"
    assert second.location == f"{serving.url}/{jobId}/results/result"
    assert (await serving.get(second.location)).content == RESULT
    assert await jobsOf(serving) == [jobId]
    job = await serving.job(f"{serving.url}/{jobId}")
    assert (text(job, "phase"), text(job, "runId")) == ("COMPLETED", "night 3")
    parameters = [(one.get("id"), one.text) for one in job.iterfind(".//uws:parameter", UWSNS)]
    assert parameters == [("x", "1.5"), ("label", "a b"), ("several", "1"), ("several", "2")]


def byRequests(session, url):
    return session.get(url, params={"x": "1", "seconds": "0.1"}, timeout=20).content


def byRequestsWithAFile(session, url):
    files = {"f": ("a.txt", b"hello")}
    return session.post(url, data={"x": "1"}, files=files, timeout=20).content


def byRequestsAsJSON(session, url):
    return session.post(url, json={"x": 1}, timeout=20).content


def byPyVO(session, url):
    return pyvo.dal.DALService(url, session=session).create_query(x=1).execute_raw()


CLIENTS = [byRequests, byRequestsWithAFile, byRequestsAsJSON, byPyVO]


@pytest.mark.parametrize("client", CLIENTS)
async def test_clients_that_follow(serving, client):
    with requests.Session() as session:
        session.headers["Connection"] = "close"
        assert await deferToThread(client, session, serving.base + "/sync") == RESULT
    (jobId,) = await jobsOf(serving)
    job = await serving.job(f"{serving.url}/{jobId}")
    assert float(job.findtext(".//uws:parameter[@id='x']", namespaces=UWSNS)) == 1
    if client is byRequestsWithAFile:
        assert (await serving.get(f"{serving.url}/{jobId}/parameters/f")).text == "hello"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_treq_follows(serving, method):
    more = {"params": {"x": "1"}} if method == "GET" else {"data": {"x": "1"}}
    answer = await serving.client.request(method, serving.base + "/sync", **more)
    assert answer.code == 200
    assert answer.headers.getRawHeaders("content-type") == ["text/csv"]
    assert await treq.content(answer) == RESULT


@pytest.mark.parametrize(
    ("names", "main"),
    [(["a", "result", "b"], "result"), (["z", "a"], "z"), (["only one"], "only%20one")],
)
async def test_which_result(start, names, main):
    serving = await start(Named)
    where, url = await sync(serving, [("names", name) for name in names])
    answer = await serving.get(where)
    assert answer.status == 303, answer.text
    assert answer.location == f"{url}/results/{main}"


async def test_no_result(start):
    serving = await start(Named)
    where, url = await sync(serving)
    answer = await serving.get(where)
    assert answer.status == 404
    assert "no result" in answer.text
    assert url in answer.text


async def test_result_elsewhere(start):
    serving = await start(slots=0)
    url = await serving.create()
    jobId = url.rpartition("/")[2]
    await serving.uws.changeToPhase(jobId, "QUEUED")
    await serving.uws.changeToPhase(jobId, "EXECUTING")
    async with serving.uws.changeableJob(jobId) as job:
        job.results = (Result(id="result", href="https://example.org/a?b=c"),)
    await serving.uws.changeToPhase(jobId, "COMPLETED")
    answer = await serving.get(f"{serving.base}/sync/{jobId}")
    assert (answer.status, answer.location) == (303, "https://example.org/a?b=c")


async def test_behind_a_proxy(start):
    serving = await start(proxies=Proxies(["127.0.0.1"]))
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "x.org", "X-Forwarded-Prefix": "/u"}
    first = await serving.get(serving.base + "/sync", headers=told)
    base, _, jobId = first.location.rpartition("/")
    assert base == "https://x.org/u/noted/sync"
    second = await serving.get(f"{serving.base}/sync/{jobId}", headers=told)
    assert second.location == f"https://x.org/u/noted/async/{jobId}/results/result"


# What is refused, and what fails


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("x=11", "Parameter x:"),
        ("x=1&x=2", "Parameter x:"),
        ("PHASE=ABORT", "PHASE:"),
        ("PHASE=nonsense", "PHASE:"),
        ("ACTION=DELETE", "ACTION:"),
        ("DESTRUCTION=2001-01-01", "DESTRUCTION:"),
        ("EXECUTIONDURATION=soon", "EXECUTIONDURATION:"),
    ],
)
async def test_refused(serving, words, first):
    """No job is made."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for answer in (
        await serving.get(f"{serving.base}/sync?{words}"),
        await serving.post(serving.base + "/sync", headers=form, data=words.encode()),
    ):
        assert answer.status == 400
        assert answer.text.startswith(first)
    assert await jobsOf(serving) == []


async def test_controls(serving):
    words = {"PHASE": "RUN", "EXECUTIONDURATION": "77", "DESTRUCTION": "2099-01-01"}
    where, url = await sync(serving, words)
    assert (await serving.get(where)).status == 303
    job = await serving.job(url)
    assert text(job, "executionDuration") == "77"
    assert job.find("uws:parameters", UWSNS)[:] == []


async def test_failed_work(serving):
    where, url = await sync(serving, {"failure": "no <light> today"})
    answer = await serving.get(where)
    assert (answer.status, answer.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    assert answer.text == f"ValueError: no <light> today\n\nThe job is {url}\n"
    assert url in answer.text
    answer = await serving.get(where, headers={"Accept": "application/x-votable+xml"})
    assert (answer.status, answer.headers["content-type"]) == (500, "application/x-votable+xml")
    info = etree.fromstring(answer.content).find(f".//{VOTABLE}INFO[@value='ERROR']")
    assert info.text.startswith("ValueError: no <light> today\n\n")


async def test_parameters_are_missing(start):
    """That is found out at RUN, and is the client's fault."""
    serving = await start(Demanding)
    where, url = await sync(serving)
    answer = await serving.get(where)
    assert answer.status == 400
    assert answer.text.startswith("Parameter needed: it is required")
    assert await serving.phase(url) == "ERROR"


async def test_aborted_by_somebody(serving):
    where, url = await sync(serving, {"seconds": "60"})
    waiting = begin(serving.get(where))
    await waitingFor(serving, 1)
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    answer = await within(5, waiting)
    assert answer.status == 409
    assert answer.text.startswith("The job was aborted.")
    assert url in answer.text


async def test_aborted_for_its_time(serving):
    where, _ = await sync(serving, {"seconds": "60", "EXECUTIONDURATION": "1"})
    answer = await within(10, begin(serving.get(where)))
    assert answer.status == 409
    assert answer.text.startswith("The execution duration of 1 s was exceeded")


async def test_gone(serving):
    where, url = await sync(serving, {"seconds": "60"})
    waiting = begin(serving.get(where))
    await waitingFor(serving, 1)
    await serving.request("DELETE", url)
    assert (await within(5, waiting)).status == 404
    assert (await serving.get(where)).status == 404
    assert (await serving.get(serving.base + "/sync/" + "0" * 32)).status == 404


async def test_archived(serving):
    where, url = await sync(serving)
    assert (await serving.get(where)).status == 303
    await serving.uws.changeToPhase(url.rpartition("/")[2], "ARCHIVED")
    answer = await serving.get(where)
    assert answer.status == 404
    assert "ARCHIVED" in answer.text


# Time


@pytest.mark.parametrize("aborts", [False, True])
async def test_time_is_up(start, aborts):
    """The job goes on, and can be waited for elsewhere, or here again."""
    serving = await start(syncTimeout=0.2, syncAborts=aborts)
    where, url = await sync(serving, {"seconds": "1"})
    answer = await within(5, begin(serving.get(where)))
    assert answer.status == 408
    assert answer.text.startswith("The job is still EXECUTING after 0.2 s")
    assert f"{url}?WAIT=" in answer.text
    await waitingFor(serving, 0)
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert (await serving.get(where)).status == 303


async def test_longer_than_others_wait(start):
    serving = await start(syncTimeout=20)
    serving.uws.longestWait = 0.05
    where, _ = await sync(serving, {"seconds": "0.5"})
    assert (await within(10, begin(serving.get(where)))).status == 303


async def test_through_all_phases(start):
    """Also those in which a WAIT would not block."""
    serving = await start(slots=0)
    where, url = await sync(serving)
    jobId = url.rpartition("/")[2]
    waiting = begin(serving.get(where))
    for phase in ("HELD", "QUEUED", "EXECUTING", "SUSPENDED", "EXECUTING", "UNKNOWN"):
        await waitingFor(serving, 1)
        await serving.uws.changeToPhase(jobId, phase)
        assert await serving.phase(url) == phase
    await serving.uws.changeToPhase(jobId, "ERROR")
    assert (await within(5, waiting)).status == 400


# Clients that go, and services


def connected(serving, where):
    """A socket over which somebody waits for a job."""
    port = serving.port.getHost().port
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(request(b"GET", where.partition(f":{port}")[2].encode()))
    return s


async def test_client_gone(serving):
    """By default the job goes on."""
    where, url = await sync(serving, {"seconds": "0.5"})
    s = await deferToThread(connected, serving, where)
    await waitingFor(serving, 1)
    s.close()
    await waitingFor(serving, 0)
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert (await serving.get(where)).status == 303


async def test_client_gone_and_the_job_with_it(start):
    """If nobody else waits."""
    serving = await start(syncAborts=True)
    where, url = await sync(serving, {"seconds": "60"})
    both = [await deferToThread(connected, serving, where) for _ in range(2)]
    await waitingFor(serving, 2)
    both[0].close()
    await waitingFor(serving, 1)
    async with serving.uws.changeableJob(url.rpartition("/")[2]):  # after what comes before
        pass
    assert await serving.phase(url) in ("QUEUED", "EXECUTING")
    both[1].close()
    job = await serving.ended(url)
    assert text(job, "phase") == "ABORTED"
    assert "hung up" in text(job, "errorSummary/message")
    answer = await serving.get(where)
    assert answer.status == 409
    assert "hung up" in answer.text


@pytest.mark.parametrize("aborts", [False, True])
async def test_client_gone_at_any_time(start, aborts):
    serving = await start(syncAborts=aborts)
    port = serving.port.getHost().port
    for data in (
        request(b"GET", b"/noted/sync?x=1"),
        request(b"POST", b"/noted/sync", FORM, b"x=1"),
    ):
        for part in (0.5, 1, 1, 1, 1):
            await deferToThread(hangUp, port, data[: int(len(data) * part)])
    for seconds in ("0", "0", "0.1", "0.1"):
        where, _ = await sync(serving, {"seconds": seconds})
        data = request(b"GET", where.partition(f":{port}")[2].encode())
        await deferToThread(hangUp, port, data)
    await isHealthy(serving)
    while "QUEUED" in await phases(serving) or "EXECUTING" in await phases(serving):
        await deferLater(serving.reactor, 0.02)
    assert await phases(serving) <= ({"COMPLETED", "ABORTED"} if aborts else {"COMPLETED"})


async def phases(serving):
    return {phase for _, phase in await serving.uws.getIdsAndPhases()}


@pytest.mark.parametrize("aborts", [False, True])
async def test_service_stops(start, aborts):
    serving = await start(slots=0, syncAborts=aborts)
    where, url = await sync(serving)
    waiting = begin(serving.get(where))
    await waitingFor(serving, 1)
    await serving.jobServices.stopService()
    answer = await within(5, waiting)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert url in answer.text
    assert await phases(serving) == {"QUEUED"}


async def test_database_goes(serving):
    where, url = await sync(serving, {"seconds": "60"})
    waiting = begin(serving.get(where))
    await waitingFor(serving, 1)
    await serving.uws.database.stopService()
    serving.uws.watcher.wakeAll()
    answer = await within(5, waiting)
    serving.uws.database.startService()
    assert answer.status == 503
    assert url in answer.text


# Methods


async def test_methods_of_sync(serving):
    where = serving.base + "/sync"
    for method in ("HEAD", "PUT", "DELETE", "PATCH"):
        answer = await serving.request(method, where)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, OPTIONS, POST")
    answer = await serving.request("OPTIONS", where)
    assert (answer.status, answer.headers["allow"]) == (204, "GET, OPTIONS, POST")
    assert await jobsOf(serving) == []


async def test_methods_of_a_wait(serving):
    where, url = await sync(serving, {"seconds": "60"})
    answer = await within(5, begin(serving.request("HEAD", where)))
    assert (answer.status, answer.location) == (200, None)
    for method in ("POST", "PUT", "DELETE"):
        answer = await serving.request(method, where)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await serving.request("OPTIONS", where)).status == 204
    assert await serving.phase(url) in ("QUEUED", "EXECUTING")
    done, url = await sync(serving)
    await serving.ended(url)
    answer = await serving.request("HEAD", done)
    assert (answer.status, answer.location) == (303, url + "/results/result")


async def test_slashes(serving):
    """None of them is redirected to the other form (A-80)."""
    answer = await serving.post(serving.base + "/sync/", {"x": "1"})
    assert answer.status == 303
    assert (await serving.get(answer.location + "/")).status == 303
    assert (await serving.get(answer.location + "/results")).status == 404


async def test_json(serving):
    answer = await serving.post(
        serving.base + "/sync",
        data=json.dumps({"x": 2, "RUNID": "r"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    jobId = answer.location.rpartition("/")[2]
    assert text(await serving.ended(f"{serving.url}/{jobId}"), "runId") == "r"
