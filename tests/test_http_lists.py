"""The job list and its filters over HTTP (behaviours C)."""

from __future__ import annotations

import socket
from http.client import HTTPConnection

import pytest
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from tests.serving import HREF, text
from tests.validation import validate
from twuws.phases import Phase
from twuws.times import formatInstant


async def listed(serving, query=""):
    answer = await serving.get("?" + query if query else "")
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("text/xml")
    return [ref.get("id") for ref in validate(answer.content)]


async def ids(serving, number):
    return [(await serving.create({"RUNID": str(n)})).rpartition("/")[2] for n in range(number)]


async def test_references(serving):
    url = await serving.create({"RUNID": "r"})
    (ref,) = validate((await serving.get()).content)
    assert ref.get(HREF) == url
    assert text(await serving.job(ref.get(HREF)), "jobId") == ref.get("id")
    assert [child.tag.partition("}")[2] for child in ref] == [
        "phase", "runId", "ownerId", "creationTime",
    ]  # fmt: skip


async def test_empty(serving):
    assert await listed(serving) == []
    assert await listed(serving, "PHASE=COMPLETED&LAST=3&AFTER=2015") == []


async def test_phases(serving):
    by = {}
    for phase in (Phase.PENDING, Phase.ABORTED, Phase.HELD, Phase.ARCHIVED):
        (by[phase],) = await ids(serving, 1)
        if phase is Phase.ARCHIVED:
            await serving.uws.changeToPhase(by[phase], "ABORTED")
        if phase is not Phase.PENDING:
            await serving.uws.changeToPhase(by[phase], phase)
    for phase in Phase:
        assert await listed(serving, f"PHASE={phase}") == ([by[phase]] if phase in by else [])
    assert set(await listed(serving)) == set(by.values()) - {by[Phase.ARCHIVED]}
    both = await listed(serving, "PHASE=HELD&phase=ARCHIVED")
    assert set(both) == {by[Phase.HELD], by[Phase.ARCHIVED]}


async def test_last(serving):
    made = await ids(serving, 5)
    newest = await listed(serving)
    assert set(newest) == set(made)
    assert await listed(serving, "LAST=3") == newest[:3]
    assert await listed(serving, "LAST=3&last=2") == newest[:2]
    assert await listed(serving, "LAST=99") == newest
    times = [(await serving.uws.getJob(one)).creationTime for one in newest]
    assert times == sorted(times, reverse=True)


async def test_after(serving):
    made = await ids(serving, 4)
    newest = await listed(serving)
    times = {one: (await serving.uws.getJob(one)).creationTime for one in made}
    for one in made:
        later = [other for other in newest if times[other] > times[one]]
        assert await listed(serving, "AFTER=" + formatInstant(times[one])) == later
    assert await listed(serving, "AFTER=2015&AFTER=2099-01-01") == []
    for good in ("2015-10-26T09:15:35", "2015-10-26T09:15:35.123Z", "2015-10-26", "2015",
                 "20151026", "2015-10-26%2009:00"):  # fmt: skip
        assert await listed(serving, "AFTER=" + good) == newest


async def test_all_together(serving):
    made = await ids(serving, 6)
    for one in made[:4]:
        await serving.uws.abort(one)
    newest = [one for one in await listed(serving) if one in made[:4]]
    first = (await serving.uws.getJob(made[0])).creationTime
    expected = [one for one in newest if (await serving.uws.getJob(one)).creationTime > first][:2]
    query = f"PHASE=ABORTED&AFTER={formatInstant(first)}&LAST=2"
    assert await listed(serving, query) == expected


@pytest.mark.parametrize(
    "query",
    ["PHASE=pendinggg", "PHASE=1345", "PHASE=", "PHASE=<script>alert(1)</script>",
     "LAST=0", "LAST=-1", "LAST=-254", "LAST=abc", "LAST=1.5", "LAST=",
     "AFTER=2015-26-10", "AFTER=sometext", "AFTER=2015-10-26T09:00:00%2B01:00", "AFTER="],
)  # fmt: skip
async def test_bad_filters(serving, query):
    answer = await serving.get("?" + query)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith(query.partition("=")[0])


async def test_many_with_equal_times(serving):
    """More than a page, all created in the same millisecond: each once."""
    await serving.uws.database.query(
        """INSERT INTO jobs (job_id, service, execution_duration, creation_time)
           SELECT md5(n::text), 'noted', 0, '2026-01-01' FROM generate_series(1, 2500) n"""
    )
    everything = await listed(serving)
    assert len(everything) == len(set(everything)) == 2500
    assert await listed(serving, "LAST=1500") == everything[:1500]


async def test_writtenPieceByPiece(serving):
    """However long it is: others have their turn between the pieces, and none is large."""
    await serving.uws.database.query(
        """INSERT INTO jobs (job_id, service, execution_duration)
           SELECT md5(n::text), 'noted', 0 FROM generate_series(1, 2000) n"""
    )
    path = serving.url.partition(f":{serving.port.getHost().port}")[2]

    def read():
        connection = HTTPConnection("127.0.0.1", serving.port.getHost().port, timeout=20)
        connection.request("GET", path, headers={"Host": "x", "Connection": "close"})
        answer = connection.getresponse()
        assert answer.getheader("transfer-encoding") == "chunked"
        sizes = []
        while size := int(answer.fp.readline(), 16):
            sizes.append(size)
            answer.fp.read(size + 2)
        connection.close()
        return sizes

    sizes = await deferToThread(read)
    assert sum(sizes) > 2000 * 200
    assert max(sizes) < 100_000


async def test_aClientThatGoesInTheMiddle(serving, loggedErrors):
    """Nothing is left of it, and nothing is worth the log."""
    database = serving.uws.database
    await database.query(
        """INSERT INTO jobs (job_id, service, execution_duration)
           SELECT md5(n::text), 'noted', 0 FROM generate_series(1, 30000) n"""
    )
    path = serving.url.partition(f":{serving.port.getHost().port}")[2]

    def begin():
        with socket.create_connection(("127.0.0.1", serving.port.getHost().port)) as s:
            s.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            return s.recv(1000)

    warned = []

    def observe(event):
        if "broke off" in (event.get("log_format") or ""):
            warned.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        assert b" 200 OK" in await deferToThread(begin)
        assert len(await listed(serving, "LAST=10")) == 10
        await serving.stop()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert warned == []


async def test_broken_off(serving):
    """A list that cannot be read to its end does not look as if it had one."""
    database = serving.uws.database
    await database.query(
        """INSERT INTO jobs (job_id, service, execution_duration)
           SELECT md5(n::text), 'noted', 0 FROM generate_series(1, 60000) n"""
    )
    path = serving.url.partition(f":{serving.port.getHost().port}")[2]

    def begin():
        s = socket.create_connection(("127.0.0.1", serving.port.getHost().port))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return s, s.recv(1000)

    def goOn(s):
        got = b""
        try:
            while data := s.recv(1 << 20):
                got += data
        except ConnectionResetError:
            pass
        s.close()
        return got

    s, start = await deferToThread(begin)
    assert b" 200 OK" in start
    await serving.jobServices.stopService()
    await database.stopService()
    rest = await deferToThread(goOn, s)
    database.startService()
    assert 0 < rest.count(b"<uws:jobref") < 60000
    assert b"</uws:jobs>" not in rest
    assert not rest.endswith(b"0\r\n\r\n")  # that would say that it is whole
    assert b"database" not in rest
