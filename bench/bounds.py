"""
What can't be beaten: the same answers by Twisted and Klein alone.

C{python -m bench.bounds LOGFILE DSN FILES}; it prints its port.  It writes a log of requests, as
twistd does.

    ==================  ===================================================================
    C{/bytes/PATH}      the bytes that were posted there before, by a Klein handler
    C{/looked/PATH}     the same after one SELECT of one row through L{twuws.database}
    C{/insert}          a POST is one INSERT and COMMIT through L{twuws.database}
    C{/create}          a POST is a directory and a row as a service makes them for a job
    C{/upload}          a POST is written to a file by Twisted
    C{/files}           the directory FILES, by L{twisted.web.static.File}
    ==================  ===================================================================
"""

from __future__ import annotations

import secrets
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.python.log import startLogging
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File

from bench.watching import stdinClosed
from twuws.database import Database, asJSON
from twuws.jobs import JobRecord
from twuws.jobstable import JobsTable, NewJob
from twuws.schema import prepare
from twuws.workdir import WorkDirs

DAY = 86_400


class Bare:
    """Handlers that do nothing but answer."""

    app = Klein()

    def __init__(self, database: Database, directories: WorkDirs) -> None:
        self._database = database
        self._directories = directories
        self._table = JobsTable(database)
        self._bytes: dict[str, bytes] = {}

    @app.route("/bytes/<path:path>", methods=["POST"])
    def store(self, request: Any, path: str) -> bytes:
        self._bytes[path] = request.content.read()
        return b""

    @app.route("/bytes/<path:path>", methods=["GET"])
    def send(self, request: Any, path: str) -> bytes:
        request.setHeader("content-type", "text/xml; charset=utf-8")
        return self._bytes[path]

    @app.route("/looked/<path:path>", methods=["GET"])
    async def look(self, request: Any, path: str) -> bytes:
        await self._database.query("SELECT * FROM bare WHERE job_id = %s", ("one",))
        return self.send(request, path)

    @app.route("/insert", methods=["POST"])
    async def insert(self, request: Any) -> bytes:
        """Nothing is checked; the form is read by Twisted."""
        jobId, values = secrets.token_hex(16), _textsOf(request)
        await self._database.query(
            "INSERT INTO bare (job_id, parameters) VALUES (%s, %s)", (jobId, asJSON(values))
        )
        return _made(request, jobId)

    @app.route("/create", methods=["POST"])
    async def create(self, request: Any) -> bytes:
        """The same of a job, without limits."""
        jobId, values = secrets.token_hex(16), _textsOf(request)
        await deferToThread(self._directories.forJob(jobId).create)
        job = JobRecord(
            service="five", jobId=jobId, creationTime=datetime.min, parameters=values
        )  # fmt: skip
        await self._table.makeSome([NewJob(job=job, lifetime=DAY, longestLifetime=DAY)])
        return _made(request, jobId)


def _textsOf(request: Any) -> dict[str, tuple[str, ...]]:
    return {k.decode(): tuple(v.decode() for v in some) for k, some in request.args.items()}


def _made(request: Any, jobId: str) -> bytes:
    request.setResponseCode(303)
    request.setHeader("location", f"http://127.0.0.1/made/{jobId}")
    return b""


class Upload(Resource):
    """Twisted has written the body to a file before this is asked."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        request.setResponseCode(303)
        request.setHeader("location", b"/")
        return b""


class OwnSite(Site):
    """Takes forms apart for Klein's handlers, and leaves uploads alone."""

    def __init__(self, root: Any, reactor: Any, forms: bool) -> None:
        super().__init__(root, parsePOSTFormSubmission=forms, reactor=reactor)


async def main(reactor: Any, logFile: str, dsn: str, files: str) -> None:
    """Answer until told to end."""
    startLogging(open(logFile, "a"), setStdout=False)  # noqa: SIM115
    database = Database(dsn, reactor=reactor)
    database.startService()
    await prepare(database)
    await database.query(
        "CREATE TABLE IF NOT EXISTS bare (job_id text PRIMARY KEY, parameters jsonb NOT NULL)"
    )
    await database.query(
        'INSERT INTO bare VALUES (\'one\', \'{"ra": ["10.68"], "dec": ["41.27"]}\')'
    )
    forms, plain = Bare(database, WorkDirs(Path(files) / "jobs")).app.resource(), Resource()
    plain.putChild(b"upload", Upload())
    plain.putChild(b"files", File(files))
    ports = [
        reactor.listenTCP(0, OwnSite(root, reactor, isForms), interface="127.0.0.1")
        for root, isForms in ((forms, True), (plain, False))
    ]
    closed = stdinClosed()
    sys.stdout.write(" ".join(str(port.getHost().port) for port in ports) + "\n")
    sys.stdout.flush()
    await closed
    await database.stopService()


if __name__ == "__main__":
    arguments = sys.argv[1:4]
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *arguments)))
