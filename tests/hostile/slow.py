"""
Clients that hold what they have for as long as they can.
"""

from __future__ import annotations

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
    fates = Crowd(service.port, 1, lambda n: b"").run(5)
    return str(fates)


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
