"""
Clients that hold what they have for as long as they can.
"""

from __future__ import annotations

import time

from tests.hostile.attack import attack
from tests.hostile.service import Service
from tests.hostile.watcher import MB
from tests.hostile.wire import FORM, Client, Crowd, Fates, request

#: How many connections, and how long each may be held, s.
MANY = 2000
HELD = 95.0


def _slow(service: Service, **how) -> str:
    fates = Crowd(service.port, MANY, **how).run(HELD)
    _expectClosed(fates)
    return str(fates)


def _expectClosed(fates: Fates) -> None:
    assert not fates.kept, f"after {HELD:g} s: {fates}"


@attack("nothing at all, for comparison")
def nothing(service: Service) -> str:
    time.sleep(10)
    return "others ask as they do meanwhile, ten times a second each way"


@attack(f"{MANY} connections that say nothing", memory=96 * MB)
def silent(service: Service) -> str:
    return _slow(service, first=lambda n: b"")


@attack(f"{MANY} slow headers", memory=96 * MB)
def slowHeaders(service: Service) -> str:
    begin = request("GET", "/work/async", close=False)[:-2]
    return _slow(service, first=lambda n: begin, drip=lambda n, times: b"X-%d: a\r\n" % times)


@attack(f"{MANY} request lines, a byte at a time", memory=96 * MB)
def slowLines(service: Service) -> str:
    return _slow(
        service, first=lambda n: b"G", drip=lambda n, times: b"ET /x"[times : times + 1] or b"x"
    )


@attack(f"{MANY} slow bodies", memory=128 * MB)
def slowBodies(service: Service) -> str:
    head = [("Content-Type", FORM), ("Content-Length", "1000000")]
    begin = request("POST", "/work/async", head, b"text=", close=False)
    return _slow(service, first=lambda n: begin, drip=lambda n, times: b"x")


@attack(f"{MANY} bodies of slow chunks", memory=128 * MB)
def slowChunks(service: Service) -> str:
    head = [("Content-Type", "multipart/form-data; boundary=b"), ("Transfer-Encoding", "chunked")]
    begin = request("POST", "/work/async", head, close=False)
    return _slow(service, first=lambda n: begin, drip=lambda n, times: b"1\r\nx\r\n")


@attack("200 clients that read nothing of 8 MB", memory=900 * MB, failed=10)
def deafToJob(service: Service) -> str:
    """
    A job's document is in memory as a whole, for each who asks for it, until it is sent or
    others are in more need; and so many of them keep the database busy.
    """
    client = Client(service.port)
    pairs = [f"text{number}={'x' * 2_000_000}" for number in range(4)]
    job = client.make(body="&".join(pairs).encode())
    try:
        return _deaf(service, 200, job)
    finally:
        client.end(job)


@attack("200 clients that read nothing of a file of 30 MB", memory=64 * MB)
def deafToFile(service: Service) -> str:
    client = Client(service.port)
    job = client.make()
    try:
        answer = client.ask("PUT", job + "/parameters/file", body=bytes(30_000_000))
        assert answer.status == 303, answer.text
        return _deaf(service, 200, job + "/parameters/file")
    finally:
        client.end(job)


def _deaf(service: Service, size: int, path: str) -> str:
    """How long a client may read nothing is another matter: what is held for it is told here."""
    ask = request("GET", path, close=False)
    fates = Crowd(service.port, size, lambda n: ask, reads=False).run(15)
    return str(fates)


@attack("100,000 requests on 20 connections, and no answer read", memory=48 * MB)
def pipelined(service: Service) -> str:
    many = request("GET", "/work/capabilities", close=False) * 100
    fates = Crowd(
        service.port, 20, lambda n: many, lambda n, times: many, interval=0.3, reads=False
    ).run(15)
    return str(fates)


@attack("100 waits of an address that hang up at once, 20 times", memory=32 * MB, failed=60)
def waitsThatHangUp(service: Service) -> str:
    """
    Each has its look at the database, before anybody sees that its client has gone: where that is
    slow, others are told to come again later.
    """
    client = Client(service.port)
    job = client.make()
    ask = request("GET", job + "?WAIT=-1", close=False)
    for _ in range(20):
        Crowd(service.port, 100, lambda n: ask).run(0.2)
    client.end(job)
    return "2,000 waits"
