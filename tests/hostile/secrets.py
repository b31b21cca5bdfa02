"""
What only the service may know, and lines that only it may write.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import jwt
import psutil

from tests.authenticating import basic
from tests.hostile.attack import attack
from tests.hostile.service import CANARY, PROXY, Service
from tests.hostile.wire import Client, exchange, request
from tests.issuer import AUDIENCE, KEYS

ODD = "/odd/async"
WORK = "/work/async"
#: A line that would be the log's.
FORGED = "2026-01-01T00:00:00+0000 [forged#info] root did it"
_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[(?!forged)[^]]+\] ")
#: What a terminal obeys, or would show as more lines.
_UNFIT = re.compile(b"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]")


# Secrets


@attack("what the work of a job, and whoever looks at processes, can find out")
def surroundings(service: Service) -> str:
    client = Client(service.port)
    job = client.make(ODD, b"what=surroundings")
    assert client.untilEnded(job) == "COMPLETED"
    found = exchange(service.port, request("GET", job + "/results/out"))
    assert b"UWS_JOB_ID" in found, found[:200]
    assert CANARY.encode() not in found, "a secret of the service is in its work"
    waits = client.make(body=b"sleeps=yes")
    client.post(waits + "/phase", b"PHASE=RUN")
    client.ask("GET", waits + "?WAIT=5&PHASE=QUEUED")
    number = 0
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with suppress(psutil.Error, OSError):
            seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            seen += Path(f"/proc/{process.pid}/environ").read_bytes()
            assert CANARY.encode() not in seen, process.cmdline()
            number += 1
    assert number > 3, number
    for one in (job, waits):
        client.end(one)
    return f"{number} processes know nothing"


def _shown(service: Service, client: Client) -> dict[str, str]:
    """All ways to say who one is: what is secret about each, by what it is."""
    claims = {"iss": service.issuer.url, "aud": AUDIENCE, "sub": "alice"}
    times = {"iat": 0, "exp": 2**33}
    signed = jwt.encode({**claims, **times}, KEYS[0], algorithm="RS256", headers={"kid": "one"})
    answer = client.post("/work/login", b"username=alice&password=ecila")
    assert answer.status < 400, (answer.status, answer.text)
    login = re.search(r"twuws_[\w.-]+", answer.text + str(answer.headers))
    job = client.make(headers=basic("alice"))
    shared = client.post(job + "/share", headers=basic("alice")).text.strip()
    assert "/shared/" in shared, shared
    assert client.get("/" + shared.split("/", 3)[3]).status == 200
    client.end(job, basic("alice"))
    found = {"password": basic("alice")["Authorization"].partition(" ")[2],
             "token": service.token(), "OpenID": signed.rpartition(".")[2],
             "shared": shared.rpartition(".")[2], "guess": CANARY, "whole": signed}  # fmt: skip
    return {**found, "login": login[0]} if login else found


@attack("secrets of callers, and where they are left")
def callers(service: Service) -> str:
    client = Client(service.port)
    offset = service.log.stat().st_size
    secrets = _shown(service, client)
    job = client.make(body=b"text=a")
    for secret in secrets.values():
        for method in ("GET", "HEAD", "POST", "DELETE", "BREW"):
            for told in (
                {"Authorization": f"Bearer {secret}"}, {"Authorization": f"Basic {secret}"},
                {"Cookie": f"session={secret}"}, {"X-Auth-Token": secret},
                {"Authorization": secret}, {"Referer": f"http://x/?token={secret}"},
                {"Proxy-Authorization": f"Bearer {secret}"},
            ):  # fmt: skip
                client.ask(method, job + f"/nothing?access_token={secret}", told)
        client.get(f"/work/shared/{'0' * 32}.{2**33}.{secret}/phase")
        exchange(service.port, request("GET", f"http://alice:{secret}@uws.example{job}"))
        client.post("/work/login", f"username=alice&password={secret}".encode())
    assert client.untilEnded(job) == "COMPLETED"
    left = {"the log": service.log.read_bytes()[offset:],
            "the audit log": (service.directory / "audit.jsonl").read_bytes(),
            "the job": client.get(job).body,
            **{name: Path(name).read_bytes() for name in service.files()}}  # fmt: skip
    for where, content in left.items():
        for what, secret in secrets.items():
            assert secret.encode() not in content, f"{where} has {what}"
    client.end(job)
    return f"{len(secrets)} secrets, in none of {len(left)} places"


# Lines


@attack("lines of the logs that are made up")
def forgedLines(service: Service) -> str:
    client = Client(service.port)
    offset, number = service.log.stat().st_size, 0
    for end in (
        "\n",
        "\r\n",
        "\r",
        "\x0b",
        "\x0c",
        "\x1b[2J\x1b[H",
        "\x85",
        "\u2028",
        "\x00",
        "\u202e",
    ):
        for data in _asked(f"a{end}{FORGED}"):
            exchange(service.port, data, PROXY if b"X-Remote-User" in data else "127.0.1.1")
            number += 1
    job = client.make("/alone/async", b"what=says")
    assert client.untilEnded(job) == "ERROR"
    until = time.monotonic() + 20
    while b"runner of" not in service.log.read_bytes()[offset:]:
        assert time.monotonic() < until, "what the runner said is not in the log"
        time.sleep(0.1)
    client.end(job)
    for line in service.log.read_bytes()[offset:].splitlines():
        assert _LINE.match(line) or line.startswith(b"\t"), f"the log has {line!r}"
        assert not _UNFIT.search(line), f"the log has {line!r}"
    for line in (service.directory / "audit.jsonl").read_bytes().splitlines():
        record = json.loads(line)
        assert {"at", "who", "by", "from", "did", "to", "status"} <= set(record), record
        assert line.isascii(), line
        assert b"\x1b" not in line, line
    return f"{number} requests"


def _asked(text: str) -> Iterator[bytes]:
    """Requests with a text in all that may be logged."""
    sent, raw = quote(text), text.encode()
    pair = base64.b64encode(raw + b":x")
    unsigned = base64.urlsafe_b64encode(json.dumps({"alg": text, "kid": text}).encode())
    form = "application/x-www-form-urlencoded"
    for headers in (
        [("User-Agent", raw), ("Referer", raw)], [("Authorization", b"Basic " + pair)],
        [("Authorization", b"Bearer " + unsigned + b".e30.")], [("X-Remote-User", raw)],
        [("Host", raw)], [("X-Forwarded-For", raw), ("X-Remote-User", b"a")], [("Origin", raw)],
        [("Idempotency-Key", raw)], [("Transfer-Encoding", raw)], [("Content-Length", raw)],
    ):  # fmt: skip
        yield request("POST", WORK, [("Content-Type", form), *headers], b"number=x")
    yield request(raw, WORK)
    yield request("HEAD", raw.replace(b"\r", b"").replace(b"\n", b"").replace(b" ", b""))
    yield request("GET", raw)
    yield request("DELETE", f"/work/async/{sent}/{sent}?{sent}={sent}")
    yield request("POST", f"/{sent}/async", [("Content-Type", form)], f"{sent}={sent}".encode())
    body = f"username={sent}&password={sent}".encode()
    yield request("POST", "/work/login", [("Content-Type", form)], body)
    for name in ("UPLOAD", "PHASE", "number", "RUNID"):
        yield request("POST", WORK, [("Content-Type", form)], f"{name}=file,{sent}".encode())
