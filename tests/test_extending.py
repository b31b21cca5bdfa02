"""
What users of the library override and add.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
import treq
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import Site

from twuws import UWS, Database, JobAction, JobActions, JobServices, UWSJob, UWSResource
from twuws import parameters as p


class Plain(UWSJob):
    """A job."""

    x = p.Integer()

    async def run(self):
        pass


class Log(JobAction):
    """A child of one's own."""

    name = "log"
    hasChildren = True

    async def doGET(self, asked):
        return asked.text(f"{asked.jobId} {'/'.join(asked.segments)}")


class Owner(JobAction):
    """Takes the place of a standard one."""

    name = "owner"

    async def doGET(self, asked):
        return asked.text("everybody")

    async def doPOST(self, asked):
        async with asked.uws.changeableJob(asked.jobId) as job:
            job.runId = asked.request.args["NAME"][0]
        return asked.toJob()


class Mine(UWS):
    """Overrides what is there to be overridden."""

    def setParamsFromRequest(self, job, request):
        job.x = int(request.args["Y"][0]) * 2
        return succeed(None)

    def getURLForId(self, jobId, jobListURL=None):
        return f"https://jobs.example.org/{jobId}"


def answersOf(port, path, data=None):
    url = f"http://127.0.0.1:{port.getHost().port}{path}"
    options = {"allow_redirects": False, "persistent": False}
    return treq.post(url, data, **options) if data is not None else treq.get(url, **options)


async def test_embedding(postgres, database, tmp_path):
    """In about five lines, under a MultiService and a Site that are there already."""
    from twisted.internet import reactor

    application, root = MultiService(), Resource()

    mine = Database(postgres, schema=database.schema)
    mine.setServiceParent(application)
    uws = UWS(Plain, JobActions(Log(), Owner()), database=mine, directory=tmp_path, name="plain")
    root.putChild(b"plain", UWSResource(uws))
    JobServices([uws], slots=1).setServiceParent(application)

    application.startService()
    site = Site(root, parsePOSTFormSubmission=False)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        created = await answersOf(port, "/plain/async", {"x": "3", "PHASE": "RUN"})
        url = created.headers.getRawHeaders("location")[0]
        path = "/plain/async/" + url.rpartition("/")[2]
        await treq.content(created)
        job = await treq.text_content(await answersOf(port, path + "?WAIT=10&PHASE=QUEUED"))
        job = await treq.text_content(await answersOf(port, path + "?WAIT=10"))
        assert ">COMPLETED<" in job
        jobId = path.rpartition("/")[2]
        assert await treq.text_content(await answersOf(port, path + "/log/a/b")) == f"{jobId} a/b"
        assert await treq.text_content(await answersOf(port, path + "/owner")) == "everybody"
        renamed = await answersOf(port, path + "/owner", {"name": "r"})
        await treq.content(renamed)
        assert renamed.code == 303
        assert (await uws.getJob(jobId)).runId == "r"
        assert await treq.text_content(await answersOf(port, path + "/quote")) == ""
    finally:
        await port.stopListening()
        await application.stopService()


async def test_overriding(database, tmp_path):
    uws = Mine(Plain, database=database, directory=tmp_path, name="plain")
    jobId = await uws.getNewIdFromRequest(SimpleNamespace(args={"Y": ["21"]}, files={}))
    assert (await uws.getJob(jobId)).x == 42
    assert uws.getURLForId(jobId) == f"https://jobs.example.org/{jobId}"
    with pytest.raises(KeyError):
        await uws.getNewIdFromRequest(SimpleNamespace(args={}, files={}))
    assert [known for known, _ in await uws.getIdsAndPhases()] == [jobId]


STYLE = '<?xml-stylesheet type="text/css" href="{}.css"?>'


class Styled(Mine):
    """What is overridden is what clients see."""

    jobdocPreamble = STYLE.format("job")
    joblistPreamble = STYLE.format("jobs")


async def test_overridden_over_http(database, tmp_path):
    """Parameters from query and body, whatever the case; URLs; what is before documents."""
    from twisted.internet import reactor

    uws = Styled(Plain, database=database, directory=tmp_path, name="plain")
    root = Resource()
    root.putChild(b"plain", UWSResource(uws))
    site = Site(root, parsePOSTFormSubmission=False)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        for path, data in (("?y=21", b""), ("", {"Y": "21"}), ("?unused=1", {"y": "21"})):
            created = await answersOf(port, "/plain/async" + path, data)
            await treq.content(created)
            (url,) = created.headers.getRawHeaders("location")
            jobId = url.removeprefix("https://jobs.example.org/")
            assert (await uws.getJob(jobId)).x == 42
        jobs = await treq.text_content(await answersOf(port, "/plain/async"))
        job = await treq.text_content(await answersOf(port, f"/plain/async/{jobId}"))
        parameters = await treq.text_content(
            await answersOf(port, f"/plain/async/{jobId}/parameters")
        )
    finally:
        await port.stopListening()
    assert jobs.index(STYLE.format("jobs")) < jobs.index("<uws:jobs")
    assert f'href="{url}"' in jobs
    for document in (job, parameters):
        assert document.index(STYLE.format("job")) < document.index("<uws:")


async def test_url_without_a_request(database, tmp_path):
    uws = UWS(Plain, database=database, directory=tmp_path, name="plain")
    with pytest.raises(ValueError, match="plain"):
        uws.getURLForId("x")
    uws.jobListURL = "http://x/async/"
    assert uws.getURLForId("abc") == "http://x/async/abc"


class Careful(UWSJob):
    """Looks after something outside."""

    released: ClassVar[list[tuple[str, bool]]] = []

    def prepareForDestruction(self):
        async def release():
            from twisted.internet import reactor

            await deferLater(reactor, 0.01)
            self.released.append((self.jobId, self.isChangeable))

        return Deferred.fromCoroutine(release())


async def test_prepareForDestruction(database, tmp_path):
    uws = UWS(Careful, database=database, directory=tmp_path, name="careful")
    jobId = await uws.getNewJobId()
    await uws.destroy(jobId)
    assert Careful.released == [(jobId, True)]
    await uws.directoriesRemoved()
