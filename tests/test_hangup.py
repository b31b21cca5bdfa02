"""
A client that hangs up in the middle of any request leaves the service as it was.
"""

from __future__ import annotations

import socket

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.validation import validate

pytestmark = [pytest.mark.slow, pytest.mark.covered]

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
MULTIPART = b"Content-Type: multipart/form-data; boundary=b\r\n"
JSON = b"Content-Type: application/json\r\n"
OCTETS = b"Content-Type: application/octet-stream\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'


def request(method, path, headers=b"", body=b""):
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%s%s\r\n%s" % (method, path, headers, length, body)


def kinds(path):
    """Each kind of request, for a job at C{path}."""
    jobs = path.rpartition(b"/")[0]
    service = jobs.rpartition(b"/")[0]
    upload = PART + b"x" * 300_000 + b"\r\n--b--\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(upload), upload)
    return {
        "front": request(b"GET", service or b"/"),
        "capabilities": request(b"GET", service + b"/capabilities"),
        "availability": request(b"GET", service + b"/availability"),
        "sync": request(b"GET", service + b"/sync?x=1"),
        "syncUpload": request(b"POST", service + b"/sync", MULTIPART, upload),
        "filtered": request(b"GET", jobs + b"?PHASE=PENDING&LAST=3"),
        "list": request(b"GET", jobs),
        "create": request(b"POST", jobs, FORM, b"x=1&label=abc"),
        "createAndRun": request(b"POST", jobs + b"?PHASE=RUN", FORM, b"x=1"),
        "upload": request(b"POST", jobs, MULTIPART, upload),
        "chunked": request(b"POST", jobs, MULTIPART + b"Transfer-Encoding: chunked\r\n") + chunks,
        "json": request(b"POST", jobs, JSON, b'{"x": 1, "label": "abc", "PHASE": "RUN"}'),
        "uploadLater": request(b"POST", path + b"/parameters", MULTIPART, upload),
        "job": request(b"GET", path),
        "head": request(b"HEAD", path),
        "wait": request(b"GET", path + b"?WAIT=20"),
        "phase": request(b"GET", path + b"/phase"),
        "run": request(b"POST", path + b"/phase", FORM, b"PHASE=RUN"),
        "abort": request(b"POST", path + b"/phase", FORM, b"PHASE=ABORT"),
        "parameters": request(b"POST", path + b"/parameters", FORM, b"x=2"),
        "put": request(b"PUT", path + b"/parameters/x", b"", b"3"),
        "putFile": request(b"PUT", path + b"/parameters/f", OCTETS, b"x" * 300_000),
        "putPhase": request(b"PUT", path + b"/phase", b"", b"RUN"),
        "oneParameter": request(b"GET", path + b"/parameters/x"),
        "duration": request(b"POST", path + b"/executionduration", FORM, b"EXECUTIONDURATION=9"),
        "destruction": request(b"POST", path + b"/destruction", FORM, b"DESTRUCTION="),
        "result": request(b"GET", path + b"/results/early"),
        "range": request(b"GET", path + b"/results/result", b"Range: bytes=1-100\r\n"),
        "stdout": request(b"GET", path + b"/stdout"),
        "options": request(b"OPTIONS", path),
        "delete": request(b"DELETE", path),
        "actionDelete": request(b"POST", path, FORM, b"ACTION=DELETE"),
        "nonsense": request(b"BREW", path),
    }


def hangUp(port, data):
    """Send it, and close at once, with a reset and so without regard for an answer."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        s.sendall(data)


async def isHealthy(serving):
    """All connections are fit for use, nobody waits, no upload is left, jobs can be made."""
    database = serving.uws.database
    while serving.uws.watcher.waiting():
        await deferLater(serving.reactor, 0.01)
    rows = [Deferred.fromCoroutine(inTransaction(database)) for _ in range(database.size)]
    for one in rows:
        assert (await one) == [{"idle": True}]
    uploads = serving.uws.workDirs.uploads()
    while list(uploads.iterdir()):
        await deferLater(serving.reactor, 0.01)
    url = await serving.create({"x": "1", "PHASE": "RUN"})
    assert (await serving.ended(url)).findtext("{*}phase") == "COMPLETED"
    validate((await serving.get()).content)


async def inTransaction(database):
    """Holds a connection until all the others are held, too."""
    async with database.transaction() as t:
        await deferLater(database.reactor, 0.05)
        return await t.execute("SELECT count(*) >= 0 AS idle FROM jobs")


@pytest.mark.parametrize("kind", list(kinds(b"/x/y")))
async def test_hangUp(serving, kind):
    port = serving.port.getHost().port
    for fraction in (0.1, 0.5, 0.9, 1, 1, 1, 1):
        url = await serving.create({"x": "1"})
        data = kinds(url.partition(f":{port}")[2].encode())[kind]
        await deferToThread(hangUp, port, data[: int(len(data) * fraction)])
    await isHealthy(serving)


async def test_many_at_once(serving):
    port = serving.port.getHost().port
    urls = [await serving.create({"x": "1"}) for _ in range(5)]
    attacks = [
        deferToThread(hangUp, port, data)
        for url in urls
        for data in kinds(url.partition(f":{port}")[2].encode()).values()
    ]
    for one in attacks:
        await one
    await isHealthy(serving)


async def test_while_a_result_is_sent(serving):
    """The answer does not fit the socket's buffers, and its reader goes away."""
    url = await serving.create({"x": "1", "PHASE": "RUN"})
    await serving.ended(url)
    jobId = url.rpartition("/")[2]
    path = serving.uws.workDirs.forJob(jobId).resultPath("result.csv")
    await deferToThread(path.write_bytes, bytes(20_000_000))
    port = serving.port.getHost().port
    data = request(b"GET", url.partition(f":{port}")[2].encode() + b"/results/result")

    def readALittle():
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(data)
            return s.recv(1000)

    for _ in range(3):
        assert (await deferToThread(readALittle)).startswith(b"HTTP/1.1 200")
    await isHealthy(serving)
