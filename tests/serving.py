"""
A whole service inside the test's own process: real sockets, a real database, real work.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import treq
from lxml import etree
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site

from twuws import parameters as p
from twuws.jobs import UWSJob
from twuws.jobservices import JobServices
from twuws.phasewatcher import PhaseWatcher
from twuws.uws import UWS

UWSNS = {"uws": "http://www.ivoa.net/xml/UWS/v1.0"}
HREF = "{http://www.w3.org/1999/xlink}href"


class Noted(UWSJob):
    """Ends at once, or when it is told to."""

    x = p.Real(minimum=0, maximum=10)
    label = p.Text()
    several = p.Integer(multiple=True)
    f = p.File()
    seconds = p.Real(default=0.0)
    failure = p.Text()

    async def run(self):
        from twisted.internet import reactor

        with self.openResult("early", "text/plain", "early.txt") as out:
            out.write(b"early\n")
        self.reportProgress(0.5, "half")
        await deferLater(reactor, self.seconds)
        if self.failure is not None:
            raise ValueError(self.failure)
        with self.openResult("result", "text/csv", "result.csv") as out:
            out.write(b"a,b\n1,2\n" * 1000)


class Serving:
    """
    One UWS on a port of the loopback, and a client for it that follows no redirects.

    @ivar url: the job list.
    """

    def __init__(self, uws, jobServices, port):
        from twisted.internet import reactor

        self.reactor = reactor
        self.uws = uws
        self.jobServices = jobServices
        self.port = port
        self.base = f"http://127.0.0.1:{port.getHost().port}/noted"
        self.url = self.base + "/async"
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.client = HTTPClient(Agent(reactor, pool=pool))

    async def request(self, method, url, **more):
        """The answer: status, headers (lower-case, first values), content and text."""
        if not url.startswith("http"):
            url = self.url + url
        response = await self.client.request(
            method, url, allow_redirects=False, browser_like_redirects=False, **more
        )
        content = await treq.content(response)
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in response.headers.getAllRawHeaders()
        }
        if isinstance(response.length, int):
            headers.setdefault("content-length", str(response.length))
        return SimpleNamespace(
            status=response.code,
            headers=headers,
            content=content,
            text=content.decode("utf-8", "replace"),
            location=headers.get("location"),
        )

    async def get(self, url="", **more):
        return await self.request("GET", url, **more)

    async def post(self, url="", data=(), **more):
        if isinstance(data, dict):
            data = list(data.items())
        return await self.request("POST", url, data=data or b"", **more)

    async def create(self, data=(), **more):
        """Create a job; its URL."""
        answer = await self.post("", data, **more)
        assert answer.status == 303, answer.text
        return answer.location

    async def job(self, url, **more):
        """The job document, parsed."""
        answer = await self.get(url, **more)
        assert answer.status == 200, answer.text
        return etree.fromstring(answer.content)

    async def phase(self, url):
        return (await self.get(url + "/phase")).text

    async def ended(self, url, *, within=10.0):
        """The job document once the job has ended."""
        until = time.monotonic() + within
        while True:
            job = await self.job(url, params={"WAIT": "5"})
            if text(job, "phase") in ("COMPLETED", "ERROR", "ABORTED"):
                return job
            assert time.monotonic() < until, etree.tostring(job)

    async def stop(self):
        await maybeDeferred(self.port.stopListening)
        await self.jobServices.stopService()


def text(job, path):
    """The text of an element, C{None} if it is nil, an error if it is not there."""
    found = job.findall(".//" + "/".join("uws:" + step for step in path.split("/")), UWSNS)
    assert len(found) == 1, (path, etree.tostring(job))
    return found[0].text


async def serve(
    database, directory, jobClass=Noted, slots=2, settings=None, makeSite=None, node=None, **more
):
    """
    Start a service; whoever does stops it.  C{settings} are L{WebSettings}, and C{node}
    L{NodeSettings}; C{makeSite} makes a site of a resource.
    """
    from twisted.internet import reactor
    from twisted.web.resource import Resource

    from twuws.web.resource import UWSResource

    uws = UWS(
        jobClass,
        database=database,
        directory=directory,
        name="noted",
        watcher=PhaseWatcher(database),
        **more,
    )
    root = Resource()
    root.putChild(b"noted", UWSResource(uws, settings))
    jobServices = JobServices([uws], slots=slots, settings=node)
    jobServices.startService()
    site = makeSite(root) if makeSite else Site(root, parsePOSTFormSubmission=False)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    serving = Serving(uws, jobServices, port)
    while not jobServices.running:
        await deferLater(reactor, 0.01)
    return serving


def within(seconds: float, d: Deferred):
    """Fail unless the Deferred fires in time."""
    from twisted.internet import reactor

    return d.addTimeout(seconds, reactor)
