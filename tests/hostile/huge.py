"""
Requests that are more than any service can take.
"""

from __future__ import annotations

import gzip
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, repeat

from tests.hostile.attack import attack
from tests.hostile.service import LARGEST, Service
from tests.hostile.watcher import MB
from tests.hostile.wire import FORM, SOON, Answer, Client, asJSON, connected, request

#: How many do the same at a time, and how often each.
AT_ONCE, TIMES = 4, 3
MULTIPART = "multipart/form-data; boundary=b"
JSON = "application/json"
WORK = "/work/async"


# What has no end


def _endless(service: Service, head: bytes, pieces: Iterator[bytes], most: int) -> int | None:
    """
    Send what has no end; the status of the answer, C{None} if the connection was just closed.

    @raise AssertionError: if more was taken than C{most} bytes.
    """
    sent = 0
    with connected(service.port, timeout=SOON) as s:
        with suppress(OSError):
            s.sendall(head)
            for piece in pieces:
                s.sendall(piece)
                sent += len(piece)
                assert sent <= most, f"{sent} bytes of {head[:60]!r} were taken"
                if _says(s):
                    break
        s.settimeout(SOON)
        said = b""
        with suppress(ConnectionError):
            said = s.recv(4096)
    return int(said.split()[1]) if said else None


def _says(s: socket.socket) -> bool:
    s.settimeout(0)
    try:
        return bool(s.recv(1, socket.MSG_PEEK)) or True
    except BlockingIOError:
        return False
    finally:
        s.settimeout(SOON)


def _chunked(mediaType: str) -> bytes:
    pairs = [("Content-Type", mediaType), ("Transfer-Encoding", "chunked")]
    return request("POST", WORK, pairs, close=False)


def _crowd(ask: Callable[[], int | None]) -> str:
    """Several who do the same at a time; how often there was which answer."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = Counter(one.result() for one in [pool.submit(ask) for _ in range(AT_ONCE * TIMES)])
    return ", ".join(f"{number} x {status}" for status, number in found.items())


def _without500(said: str) -> str:
    assert "500" not in said, said
    return said


@attack("chunks without an end: a form, and one with files", disk=AT_ONCE * LARGEST + MB)
def endlessChunks(service: Service) -> str:
    chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    told = []
    for kind in (FORM, JSON, MULTIPART):
        head = _chunked(kind)
        told.append(_crowd(partial(_endless, service, head, repeat(chunk), 4 * LARGEST)))
    assert all(set(one.split(" x ")[1:]) == {"413"} for one in told), told
    return "; ".join(told)


@attack("chunks of one byte without an end")
def tinyChunks(service: Service) -> str:
    chunk = b"1\r\nx\r\n" * 1000
    began = time.monotonic()

    def pieces() -> Iterator[bytes]:
        while time.monotonic() < began + 10:
            yield chunk

    told = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(
            lambda n: _endlessQuietly(service, _chunked(MULTIPART), pieces()), range(AT_ONCE)
        ):
            told.append("sent")
    return f"{len(told)} connections for 10 s"


def _endlessQuietly(service: Service, head: bytes, pieces: Iterator[bytes]) -> None:
    with connected(service.port, timeout=SOON) as s, suppress(OSError):
        s.sendall(head)
        for piece in pieces:
            s.sendall(piece)


@attack("the line of a chunk, its digits, its trailers, without an end")
def endlessLines(service: Service) -> str:
    head, one = _chunked(MULTIPART), b"x" * 1000
    told = []
    for pieces in (
        repeat(b"0" * 1000), chain([b"5;"], repeat(one)),
        chain([b"0\r\n"], repeat(b"a: b\r\n" * 99)),
        chain([b"0\r\nA: "], repeat(one)), repeat(b"f" * 1000), repeat(b"\r\n" * 500),
    ):  # fmt: skip
        told.append(str(_endless(service, head, pieces, 8 * MB)))
    return ", ".join(told)


@attack("request lines and headers without an end, and 100,000 of them")
def endlessHeaders(service: Service) -> str:
    begin = request("GET", WORK, close=False)[:-2]
    told = []
    for head, pieces in (
        (b"", repeat(b"G" * 10_000)), (b"GET /", repeat(b"a" * 10_000)),
        (b"GET / HTTP/1.1\r\nX: ", repeat(b"a" * 10_000)), (begin, repeat(b"X: a\r\n" * 500)),
        (begin, repeat(b" folded\r\n" * 500)), (b"", repeat(b"\r\n" * 5000)),
        (begin, repeat(b"Cookie: a=b\r\n" * 500)),
    ):  # fmt: skip
        told.append(str(_endless(service, head, pieces, 8 * MB)))
    return ", ".join(told)


# What is too much of something


def _post(service: Service, kind: str, body: bytes, path: str = WORK, **more) -> Answer:
    client = Client(service.port)
    answer = client.post(path, body, kind, **more)
    if answer.status == 303:
        client.end("/" + answer.headers["location"].split("/", 3)[3])
    return answer


def _refused(service: Service, kind: str, body: bytes, path: str = WORK, **more) -> str:
    """Send it several times at a time; all are refused."""
    said = _crowd(lambda: _post(service, kind, body, path, **more).status)
    assert set(said.split(" x ")[1:]) <= {"400", "413", "414", "415", "431"}, (kind, said)
    return said


@attack("100,000 parameters", memory=192 * MB)
def manyParameters(service: Service) -> str:
    many = range(100_000)
    part = b'--b\r\nContent-Disposition: form-data; name="p%d"\r\n\r\n1\r\n'
    told = [
        _refused(service, FORM, b"&".join(b"p%d=1" % n for n in many)),
        _refused(service, FORM, b"a=1&" * 100_000),
        _refused(service, FORM, b"&" * 16_000_000),
        _refused(service, JSON, asJSON({f"p{n}": n for n in many})),
        _refused(service, JSON, asJSON({"p": list(many)})),
        _refused(service, MULTIPART, b"".join(part % n for n in many) + b"--b--"),
        _refused(service, FORM, b"", WORK + "?" + "&".join(f"p{n}" for n in many)),
    ]
    return "; ".join(told)


@attack("multipart forms that are deep, or almost end all the time", memory=96 * MB)
def deepMultipart(service: Service) -> str:
    file = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    nested = b"".join(
        b'--b%d\r\nContent-Disposition: form-data; name="f"\r\nContent-Type: multipart/mixed;'
        b" boundary=b%d\r\n\r\n" % (n, n + 1)
        for n in range(100_000)
    )
    long, kind = "a" * 199, "multipart/form-data; boundary"
    quoted = b'--b\r\nContent-Disposition: form-data; name="' + b'\\"' * 7000
    told = [
        _refused(service, "multipart/form-data; boundary=b0", nested),
        _refused(service, MULTIPART, file + b"\r\n--" * 5_000_000),
        _refused(service, MULTIPART, file + b"\r\n--b" * 5_000_000),
        _refused(service, f"{kind}={long}b", b"--" + long.encode() * 100_000),
        _refused(
            service, f"{kind}={long}b",
            file.replace(b"--b", b"--" + long.encode() + b"b")
            + (b"\r\n--" + long.encode()) * 100_000,
        ),
        _refused(service, MULTIPART, b"--b\r\n" + b"X: a\r\n" * 1_000_000),
        _refused(service, MULTIPART, b"--b\r\nX: " + b"a" * 10_000_000),
        _refused(service, MULTIPART, b"--b\r\n" * 3_000_000),
        _refused(service, MULTIPART, b"\r\n" * 10_000_000),
        _refused(service, MULTIPART, quoted),
    ]  # fmt: skip
    return "; ".join(told)


@attack("JSON that is deep, long, or repeats itself", memory=160 * MB)
def deepJSON(service: Service) -> str:
    told = [
        _refused(service, JSON, b"[" * 1_000_000),
        _refused(service, JSON, b'{"a":' * 1_000_000),
        _refused(service, JSON, b'{"a": [' + b"[], " * 1_000_000 + b"[]]}"),
        _refused(service, JSON, b'{"a": "' + b"\\u0041" * 2_500_000),
        _refused(service, JSON, b'{"a": "' + b'\\"' * 7_000_000 + b'"}'),
        _refused(service, JSON, b" " * 15_000_000),
        _refused(service, JSON, b'{"number": ' + b"9" * 15_000_000 + b"}"),
        _refused(service, JSON, b'"' * 10_000_001),
    ]
    return "; ".join(told)


@attack("numbers, times and words that have millions of digits", memory=256 * MB)
def longValues(service: Service) -> str:
    told = []
    for name in ("number", "real", "when", "within", "EXECUTIONDURATION", "DESTRUCTION", "PHASE",
                 "RUNID", "WAIT", "Idempotency-Key", "UPLOAD", "fails"):  # fmt: skip
        for value in (b"9" * 1_900_000, b"1 " * 900_000, b"-" * 1_900_000, b"1e999999999",
                      b"P" + b"1" * 1_800_000, b"2000-" * 300_000, b"a," * 900_000, b"0." * 900_000,
                      b"http:" * 300_000, b"%00" * 600_000, b"\xff" * 1_900_000):  # fmt: skip
            answer = _post(service, FORM, name.encode() + b"=" + value)
            assert answer.status in (303, 400, 413), (name, value[:20], answer.status, answer.text)
            assert answer.seconds < 5, (name, value[:20], answer.seconds)
            told.append(answer.seconds)
    return f"{len(told)} answers, the last after {max(told):.2f} s"


@attack("headers that take long to read")
def longHeaders(service: Service) -> str:
    told = []
    values = [
        "," * 15_000, '"' * 15_000, "a=" * 7_500, '\\"' * 7_500, "a;" * 7_500, " " * 15_000,
        "*/*;q=0.1," * 1500, "bytes=" + "0-1," * 3700, 'for="' + "\\" * 14_000, "a" * 15_000 + "!",
        "for=127.0.0.3;" * 1000, "127.0.0.3," * 1500, 'W/"a",' * 2500, "Basic " + "YTph" * 3700,
        "Bearer " + "e" * 14_000 + "." + "e" * 500 + ".", "; charset=" * 1500, "boundary=" * 1600,
    ]  # fmt: skip
    for name in ("Accept", "Range", "Forwarded", "X-Forwarded-For", "If-None-Match", "If-Range",
                 "Authorization", "Content-Type", "Origin", "Cookie", "Accept-Encoding", "Host",
                 "Idempotency-Key", "X-Remote-User", "Content-Encoding"):  # fmt: skip
        for value in values:
            client = Client(service.port, "127.0.0.3" if "F" in name[1:] else "127.0.1.1")
            for method, path in (("GET", WORK), ("POST", WORK)):
                answer = client.ask(
                    method, path, {name: value}, b"a=b" if method == "POST" else None
                )
                assert answer.status != 500, (name, value[:20], answer.text)
                assert answer.seconds < 5, (name, value[:20], answer.seconds)
                if answer.status == 303:
                    client.end("/" + answer.headers["location"].split("/", 3)[3])
                told.append(answer.seconds)
    return f"{len(told)} answers, the last after {max(told):.2f} s"


@attack("bodies that are compressed", memory=48 * MB)
def bombs(service: Service) -> str:
    bomb = gzip.compress(bytes(100 * MB), 9)
    return "; ".join(
        _refused(service, kind, bomb, headers={"Content-Encoding": name})
        for kind in (FORM, JSON, MULTIPART) for name in ("gzip", "deflate", "br", "GZIP, gzip")
    )  # fmt: skip


@attack("a job that gets 16 MB more each time", memory=640 * MB)
def growingJob(service: Service) -> str:
    """A job of 16 MB takes some 270 MB while it is changed; that is not to become more."""
    client = Client(service.port)
    job = client.make()
    statuses: Counter[int] = Counter()
    for number in range(10):
        pairs = (f"p{number}.{n}=".encode() + b"x" * 2_000_000 for n in range(8))
        statuses[client.post(job + "/parameters", b"&".join(pairs)).status] += 1
    answer = client.get(job)
    assert len(answer.body) < 17 * MB, f"the job's document has {len(answer.body)} bytes"
    client.end(job)
    return f"{dict(statuses)}, {len(answer.body) / MB:.1f} MB"
