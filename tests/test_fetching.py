"""Uploads by UPLOAD=label,URL: what becomes of them over HTTP, and of their jobs."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.remote import LARGE, TABLE, Remotes
from tests.serving import serve, text
from tests.validation import validate
from tests.working import until
from twuws import config
from twuws import parameters as p
from twuws.composition import makeServices
from twuws.database import Database
from twuws.errors import JobFailure, StaleAttempt
from twuws.fetching import Fetcher
from twuws.jobs import UWSJob
from twuws.jobservices import JobServices
from twuws.policy import FetchPolicy
from twuws.programs import programClass
from twuws.rescuer import Rescuer
from twuws.statements import STATEMENTS
from twuws.submission import MOST_SOURCES
from twuws.uws import UWS

pytestmark = [pytest.mark.slow, pytest.mark.covered]

ANYWHERE = FetchPolicy(privateAddresses=True, maximumSize=4 << 20, timeout=20)


class Reads(UWSJob):
    """Its result is what its files have in them."""

    f = p.File()
    x = p.Real(maximum=10)
    document = p.Document()

    async def run(self):
        with self.openResult("got", "text/plain") as out:
            for values in self.parameters.values():
                for value in values:
                    if not isinstance(value, str):
                        out.write(Path(self.workPlace.parameterPath(value.file)).read_bytes())


Cat = programClass(
    "Cat",
    ("sh", "-c", 'echo "$0"; cat "$0"', "{f}"),
    {"f": p.File(required=True)},
    ({"id": "out", "file": "out", "mediaType": "text/plain", "stream": "stdout"},),
)


@pytest.fixture
def remotes():
    remotes = Remotes()
    yield remotes
    pytest_twisted.blockon(Deferred.fromCoroutine(remotes.close()))


@pytest.fixture
def start(database, tmp_path):
    """Starts a service; it is stopped after the test."""
    made = []

    async def start(jobClass=Reads, fetchPolicy=ANYWHERE, **more):
        directory = tmp_path / "jobs"
        made.append(await serve(database, directory, jobClass, fetchPolicy=fetchPolicy, **more))
        return made[-1]

    yield start
    for serving in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))


def parametersOf(job):
    return {one.get("id"): one for one in job.findall("{*}parameters/*")}


def directoryOf(serving, url):
    return serving.uws.workDirs.forJob(url.rpartition("/")[2])


def filesOf(serving, url):
    """The names in C{parameters/}, hidden ones included."""
    return sorted(path.name for path in directoryOf(serving, url).parameters.iterdir())


async def record(serving, url):
    return (await serving.uws.getJob(url.rpartition("/")[2])).record


async def settled(serving):
    """Nothing is being done, and nothing is to be ended."""
    await until(lambda: not serving.jobServices.dispatcher.busy)
    while await serving.uws.database.query("SELECT * FROM stops"):
        await deferLater(serving.reactor, 0.01)


# What goes well


async def test_labelled(start, remotes):
    serving = await start()
    remote, pages = remotes.pages()
    source = f"{remote}/table?a;b"
    url = await serving.create({"UPLOAD": f"t1,{source}"})
    document = (await serving.get(url)).content
    (one,) = validate(document).findall("{*}parameters/*")
    assert (one.get("id"), one.text) == ("UPLOAD", f"t1,{url}/parameters/t1")
    before = await serving.get(url + "/parameters/t1")
    assert (before.status, before.location, pages.asked) == (303, source, [])
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"
    assert (await serving.get(url + "/results/got")).content == TABLE
    after = await serving.get(url + "/parameters/t1")
    assert (after.status, after.content) == (200, TABLE)
    assert after.headers["content-type"] == "text/csv; header=present"
    (value,) = (await record(serving, url)).parameters["UPLOAD"]
    assert (value.label, value.source, value.size) == ("t1", source, len(TABLE))
    assert parametersOf(job)["UPLOAD"].text == one.text
    assert job.find("{*}jobInfo") is None  # the message that it was loading


async def test_of_a_declared_parameter(start, remotes):
    serving = await start()
    remote, _ = remotes.pages()
    url = await serving.create({"UPLOAD": f"F,{remote}/large", "PHASE": "RUN"})
    job = await serving.ended(url)
    one = parametersOf(job)["f"]
    assert (one.get("byReference"), one.text) == ("true", url + "/parameters/f")
    assert (await serving.get(one.text)).content == LARGE
    assert (await serving.get(url + "/results/got")).content == LARGE
    assert filesOf(serving, url) == ["f"]


async def test_program(start, remotes):
    """It gets a path, as with any other upload."""
    serving = await start(Cat)
    remote, _ = remotes.pages()
    url = await serving.create({"UPLOAD": f"f,{remote}/table", "PHASE": "RUN"})
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    got = (await serving.get(url + "/results/out")).content
    assert got == b"../parameters/f\n" + TABLE


async def test_several(start, remotes):
    """In one value or in several, in several requests, also where names are the same."""
    serving = await start()
    remote, pages = remotes.pages()
    source = f"{remote}/table"
    url = await serving.create(
        [("UPLOAD", f"a,{source}; b,{source}?x;y,z"), ("UPLOAD", f"x,{source}")]
    )
    again = await serving.post(url + "/parameters", {"UPLOAD": f"A,{source}"})
    assert (again.status, again.text) == (
        400,
        "Parameter UPLOAD: the label A is there already\n",
    )
    await serving.post(url + "/parameters", {"UPLOAD": f"c,{source}"})
    await serving.post(url + "/parameters", {"UPLOAD": f"f,{source}"})
    await serving.post(url + "/parameters", {"UPLOAD": f"f,{source}?new"})
    values = (await record(serving, url)).parameters
    assert [(v.label, v.file, v.source) for v in values["UPLOAD"]] == [
        ("a", "a", source), ("b", "b", f"{source}?x;y,z"), ("x", "x-upload", source),
        ("c", "c", source),
    ]  # fmt: skip
    assert [v.source for v in values["f"]] == [f"{source}?new"]
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert (await serving.get(url + "/results/got")).content == TABLE * 5
    assert len(pages.asked) == 5
    assert len(filesOf(serving, url)) == 5


async def test_no_name_twice(start, remotes):
    """A file that is still elsewhere has its name."""
    serving = await start()
    source = "http://example.org/"
    url = await serving.create({"UPLOAD": f"a,{source}1"})
    files = {"a": ("a.txt", io.BytesIO(b"2"))}
    await serving.post(url + "/parameters", {"UPLOAD": "b,param:a"}, files=files)
    assert (await serving.get(f"{url}/parameters/a")).location == f"{source}1"
    assert (await serving.get(f"{url}/parameters/a-2")).content == b"2"


# What is refused at once


@pytest.mark.parametrize(("value", "words"), [
    ("t,ftp://example.org/", "UPLOAD t: .*scheme"), ("t,vos://example.org!a", "scheme"),
    ("t,http://me:pw@example.org/", "UPLOAD t: .*credentials"), ("t,http:///a", "no host"),
    ("t,http://a/b c", "percent-encode"), ("t,", "not label,URI"), ("t", "not label,URI"),
    ("1t,http://example.org/", "not label,URI"), (",http://example.org/", "not label,URI"),
    ("t,http://example.org/" + "a" * 2000, "2000"),
    ("t,http://a/;T,http://b/", "more than once"),
    ("a,http://a/;;b,param:c", "b: .*'c'"), ("t,http://a..b/", "none that can be"),
])  # fmt: skip
async def test_refused(start, value, words):
    serving = await start()
    answer = await serving.post("", {"UPLOAD": value})
    assert answer.status == 400
    assert re.search(words, answer.text), answer.text
    assert list(serving.uws.workDirs.known()) == []


async def test_too_many(start):
    serving = await start()
    many = [("UPLOAD", f"t{n},http://example.org/") for n in range(MOST_SOURCES)]
    url = await serving.create(many)
    for where, more in (("", many), (url + "/parameters", [])):
        answer = await serving.post(where, [*more, ("UPLOAD", "one,http://example.org/")])
        assert (answer.status, "100 files" in answer.text) == (413, True)


async def test_not_enabled(start):
    serving = await start(fetchPolicy=FetchPolicy(enabled=False))
    answer = await serving.post("", {"UPLOAD": "t,http://example.org/"})
    assert (answer.status, "does not load from URLs" in answer.text) == (400, True)
    assert (await serving.post("", {"UPLOAD": "t,param:t"}, files={"t": ("a", b"x")})).status == 303
    serving.uws.fetchPolicy = ANYWHERE
    url = await serving.create({"UPLOAD": "t,http://example.org/"})
    serving.uws.fetchPolicy = FetchPolicy(enabled=False)  # as after another start
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    job = await serving.ended(url)
    assert text(job, "errorSummary/message") == ("UPLOAD t: this service does not load from URLs.")


# What fails


@pytest.mark.parametrize(("upload", "words", "kind"), [
    ("t,{}/status/404", "UPLOAD t: {}/… answered 404 Not Found", "fatal"),
    ("f,{}/status/503", "Parameter f: {}/… answered 503 Service Unavailable", "transient"),
    ("t,{}/to/{}/status/404", "UPLOAD t: {}/… redirects to {}/…, which answered 404", "fatal"),
    ("t,{}/large;u,{}/large", "UPLOAD u: {}/… goes beyond the 4 MiB that are loaded for one job",
     "fatal"),
])  # fmt: skip
async def test_failure(start, remotes, upload, words, kind):
    serving = await start()
    remote, _ = remotes.pages()
    url = await serving.create({"UPLOAD": upload.replace("{}", remote), "PHASE": "RUN"})
    job = await serving.ended(url)
    (error,) = job.findall("{*}errorSummary")
    assert (text(job, "phase"), error.get("type")) == ("ERROR", kind)
    assert text(job, "errorSummary/message").startswith(words.replace("{}", remote))
    assert (await serving.get(url + "/results/got")).status == 404
    loaded = [name for name in filesOf(serving, url) if not name.startswith(".")]
    assert filesOf(serving, url) == loaded == (["t"] if "large" in upload else [])
    name = upload.rpartition(";")[2].partition(",")[0]
    assert (await serving.get(f"{url}/parameters/{name}")).status == 303


async def test_private_address(start, remotes):
    """The default."""
    serving = await start(fetchPolicy=None)
    remote, pages = remotes.pages()
    for host in ("127.0.0.1", "localhost", "0x7f.1"):
        source = remote.replace("127.0.0.1", host)
        url = await serving.create({"UPLOAD": f"t,{source}/table", "PHASE": "RUN"})
        job = await serving.ended(url)
        assert text(job, "errorSummary/message").startswith(
            f"UPLOAD t: {source}/… leads to a private address, which"
        )
    assert pages.asked == []


async def test_document(start, remotes):
    """What is to be an XML document is one, also if it was elsewhere."""
    serving = await start()
    remote, _ = remotes.pages()
    for page, words in (("table", "well-formed"), ("doctype", "DOCTYPE")):
        url = await serving.create({"UPLOAD": f"document,{remote}/{page}", "PHASE": "RUN"})
        job = await serving.ended(url)
        assert text(job, "phase") == "ERROR"
        assert words in text(job, "errorSummary/message")


# In the middle of it


async def inTheMiddle(serving, remotes, **more):
    """A job whose upload has come half; the pages that have it."""
    remote, pages = remotes.pages()
    url = await serving.create({"UPLOAD": f"t,{remote}/waits", "PHASE": "RUN", **more})
    await until(lambda: pages.waiting)
    assert await serving.phase(url) == "EXECUTING"
    return url, pages


@pytest.mark.parametrize("how", ["ABORT", "DELETE", "time"])
async def test_ended(start, remotes, how):
    serving = await start()
    url, pages = await inTheMiddle(serving, remotes)
    job = await serving.job(url)
    assert "UPLOAD t: loading from http://127.0.0.1:" in job.find("{*}jobInfo")[0].text
    began = time.monotonic()
    if how == "ABORT":
        await serving.post(url + "/phase", {"PHASE": "ABORT"})
    elif how == "DELETE":
        await serving.request("DELETE", url)
    else:
        await serving.post(url + "/executionduration", {"EXECUTIONDURATION": "1"})
        assert text(await serving.ended(url), "phase") == "ABORTED"
        began = time.monotonic()
    await until(lambda: pages.hungUp)
    await settled(serving)
    assert time.monotonic() - began < 1
    if how == "DELETE":
        await until(lambda: not directoryOf(serving, url).path.exists())
    else:
        assert filesOf(serving, url) == []
        assert await serving.phase(url) == "ABORTED"
        assert (await serving.get(url + "/parameters/t")).status == 303


async def test_stopped(start, remotes):
    """The job is queued again, for whoever comes next."""
    serving = await start()
    url, pages = await inTheMiddle(serving, remotes)
    began = time.monotonic()
    await serving.jobServices.stopService()
    assert time.monotonic() - began < 1
    job = await record(serving, url)
    assert (job.phase, job.attempt, filesOf(serving, url)) == ("QUEUED", 1, [])
    await until(lambda: pages.hungUp)
    serving.jobServices = JobServices([serving.uws])
    serving.jobServices.startService()
    await until(lambda: pages.waiting)
    pages.goOn()
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert (await record(serving, url)).attempt == 2
    assert (await serving.get(url + "/results/got")).content == TABLE


async def test_not_lost(start, remotes):
    """What takes long is not begun a second time."""
    serving = await start()
    url, pages = await inTheMiddle(serving, remotes)
    await serving.uws.database.query("UPDATE queue SET claimed_at = now() - interval '1 hour'")
    await Rescuer(serving.jobServices.dispatcher).runOnce()
    pages.goOn()
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert ((await record(serving, url)).attempt, len(pages.asked)) == (1, 1)


def serveUntilKilled(dsn, schemaName, directory):
    """What the process that is going to be killed does."""
    from twisted.internet import reactor

    database = Database(dsn, schema=schemaName)
    uws = UWS(Reads, database=database, directory=directory, name="noted", fetchPolicy=ANYWHERE)
    JobServices([uws]).startService()
    reactor.run(installSignalHandlers=False)


async def test_killed(start, remotes):
    """The next process finds that the work has never begun, and begins it."""
    serving = await start(slots=0)
    database = serving.uws.database
    args = (database.dsn, database.schema, str(serving.uws.workDirs.root))
    code = f"from tests.test_fetching import serveUntilKilled as f; f(*{args!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    try:
        url, pages = await inTheMiddle(serving, remotes, x="1")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    await until(lambda: pages.hungUp)
    part = directoryOf(serving, url).parameters / ".t.0.part"
    part.write_bytes(b"of an attempt before")
    await serving.jobServices.stopService()
    serving.jobServices = JobServices([serving.uws])
    serving.jobServices.startService()
    await until(lambda: pages.waiting)
    assert filesOf(serving, url) in ([], [".t.2.part"])
    pages.goOn()
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert (await record(serving, url)).attempt == 2
    assert filesOf(serving, url) == ["t"]


async def claimed(serving, upload):
    """A job that a node has claimed."""
    url = await serving.create({"UPLOAD": upload, "PHASE": "RUN"})
    return url, await serving.jobServices.node.claim()


async def test_loaded_once(start, remotes):
    """What an earlier attempt has loaded stays, and its size is known."""
    serving = await start(slots=0)
    remote, pages = remotes.pages()
    url, job = await claimed(serving, f"t,{remote}/table")
    fetcher = Fetcher(serving.uws)
    after = await fetcher.fetch(job)
    assert after.parameters["UPLOAD"][0].size == len(TABLE)
    assert (await record(serving, url)).parameters == after.parameters
    assert await fetcher.fetch(after) == after
    again = await fetcher.fetch(job)  # as if it had never been recorded
    assert again.parameters["UPLOAD"][0].size == len(TABLE)
    assert len(pages.asked) == 1


async def test_stale(start, remotes):
    """An attempt that is no longer the job's loads nothing, and records nothing."""
    serving = await start(slots=0)
    remote, pages = remotes.pages()
    url, job = await claimed(serving, f"t,{remote}/table")
    await serving.post(url + "/phase", {"PHASE": "ABORT"})
    before = await record(serving, url)
    with pytest.raises(StaleAttempt):
        await Fetcher(serving.uws).fetch(job)
    assert (pages.asked, await record(serving, url)) == ([], before)


async def test_no_directory(start, remotes):
    """A directory that was removed does not come back."""
    serving = await start(slots=0)
    remote, pages = remotes.pages()
    url, job = await claimed(serving, f"t,{remote}/table")
    directoryOf(serving, url).remove()
    with pytest.raises(JobFailure, match="UPLOAD t: the job's directory is gone"):
        await Fetcher(serving.uws).fetch(job)
    assert not directoryOf(serving, url).path.exists()
    assert pages.asked == []


async def test_database_away(start, remotes, monkeypatch):
    """A job that cannot be recorded is queued again."""
    serving = await start()
    remote, pages = remotes.pages()
    good = STATEMENTS["reportFetched"]
    monkeypatch.setitem(
        STATEMENTS, "reportFetched", "SELECT pg_terminate_backend(pg_backend_pid())"
    )
    url = await serving.create({"UPLOAD": f"t,{remote}/table", "PHASE": "RUN"})
    await until(lambda: serving.jobServices.dispatcher.busy)
    while (await record(serving, url)).attempt < 1:
        await deferLater(serving.reactor, 0.01)
    monkeypatch.setitem(STATEMENTS, "reportFetched", good)
    assert text(await serving.ended(url), "phase") == "COMPLETED"
    assert len(pages.asked) == 1


async def test_more_than_is_left(start, remotes):
    serving = await start(slots=0)
    remote, _ = remotes.pages()
    _, job = await claimed(serving, f"t,{remote}/large")
    serving.uws.fetchPolicy = FetchPolicy(privateAddresses=True, maximumSize=1000)
    with pytest.raises(JobFailure, match="goes beyond the 1000 bytes"):
        await Fetcher(serving.uws).fetch(job)


# Configuration


def test_configuration(tmp_path, database):
    path = tmp_path / "uws.toml"
    service = '[services.a]\nclass = "twuws.examples.messier.Messier"\n'
    path.write_text(service)
    assert config.load(str(path)).fetch == FetchPolicy()
    path.write_text(
        service + '[fetch]\nenabled = false\nmaximum-size = "1 kB"\ntimeout = 0.5\nredirects = 0\n'
        "private-addresses = true\n"
    )
    loaded = config.load(str(path))
    assert loaded.fetch == FetchPolicy(
        enabled=False, maximumSize=1000, timeout=0.5, redirects=0, privateAddresses=True
    )
    (uws,) = makeServices(loaded, database)
    assert uws.fetchPolicy == loaded.fetch
    for key, value in (("timeout", 0), ("redirects", -1), ("maximum-size", '"x"'), ("enable", 1)):
        path.write_text(f"{service}[fetch]\n{key} = {value}\n")
        with pytest.raises(config.ConfigError, match=rf"\[fetch\] {key}: "):
            config.load(str(path))
