"""
Names that lead elsewhere, and files that are not what they were or what they seem.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from lxml import etree

from tests.hostile.attack import attack
from tests.hostile.service import SECRET, Service
from tests.hostile.wire import Answer, Client
from tests.hostile.work import CONTENT, MEDIA_TYPES, NAMES, REPLACED

ODD = "/odd/async"
WORK = "/work/async"
MULTIPART = "multipart/form-data; boundary=b"
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
#: What a browser shows although it is somebody's, for it can do nothing there.
_SHOWN = re.compile(
    r"text/(plain|csv|tab-separated-values)|image/(png|jpeg|gif|webp|tiff|fits)|audio/[^\s,;]+"
    r"|video/[^\s,;]+|application/(json|pdf)"
)


def _expectConfined(answer: Answer, what: object) -> None:
    """A file of a job can do nothing in a browser, and has no header that it wrote itself."""
    assert answer.headers.get("x-content-type-options") == "nosniff", what
    assert "x-kit" not in answer.headers, what
    assert not answer.rest, (what, answer.rest)
    policy = answer.headers["content-security-policy"] or ""
    assert "sandbox" in policy, (what, policy)
    assert "default-src 'none'" in policy, (what, policy)
    if not _SHOWN.fullmatch(answer.mediaType):
        said = answer.headers["content-disposition"] or ""
        assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.%~-]*", said), (what, said)


def _directory(service: Service, job: str) -> Path:
    jobId = job.rpartition("/")[2]
    return service.data / "jobs" / jobId[:2] / jobId


def _around(service: Service) -> set[str]:
    """All that is there beside the jobs' own directories and the database, and might appear."""
    beside = {
        os.path.join(where, name)
        for where, _, names in os.walk(service.directory)
        if not {"postgres", "jobs"} & set(Path(where).parts)
        for name in names
    }
    return beside | {str(one) for one in (Path("/tmp/up"), Path("/up")) if one.exists()}


def _ended(service: Service, client: Client, what: str, phase: str = "COMPLETED") -> str:
    """A job that has done something odd; its path."""
    job = client.make(ODD, f"what={what}&target={service.secret}".encode())
    found = client.untilEnded(job)
    assert found == phase, (what, found, client.get(job + "/error").text)
    return job


def _results(client: Client, job: str) -> list[str]:
    """Where the results are, as the job's document says it."""
    return _paths(client.get(job + "/results"), "//@*[local-name()='href']")


def _paths(answer: Answer, where: str) -> list[str]:
    """The paths of the URLs that an expression of XPath finds."""
    found: Any = etree.fromstring(answer.body).xpath(where)
    return ["/" + url.split("/", 3)[3] for url in found]


# Uploads


def _odd() -> list[bytes]:
    """Names as bytes, quoted as a part of a multipart form has them."""
    texts = [name.encode("utf-8", "surrogateescape") for name in NAMES]
    more = [b"\xff\xfe\xfd", b"\xc0\xae\xc0\xae\xc0\xaf", b"../" * 1365 + b"x", b"job.json",
            b"events.jsonl", b"outcome.json", b"C:\\Windows\\x", b"..\\..\\x"]  # fmt: skip
    return [re.sub(rb'(["\\])', rb"\\\1", one) for one in texts] + more


def _plain(name: bytes) -> bytes:
    """As it is without the quotes of a header."""
    return re.sub(rb"\\(.)", rb"\1", name)


@attack("files with names that lead elsewhere, are long, or cannot be", disk=8 * 2**20)
def uploads(service: Service) -> str:
    client, taken, refused = Client(service.port), 0, 0
    around = _around(service)
    for name in _odd():
        for part in (
            b'name="file"; filename="%s"' % name,
            b"name=\"file\"; filename*=UTF-8''" + b"".join(b"%%%02x" % byte for byte in name),
            b'name="%s"; filename="a"' % name,
            b'name="UPLOAD"\r\n\r\nt1,param:%s\r\n--b\r\n'
            b'Content-Disposition: form-data; name="%s"; filename="a"' % (_plain(name), name),
        ):
            body = b"--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n--b--\r\n"
            answer = client.post(WORK, body % (part, CONTENT), MULTIPART)
            assert answer.status in (303, 400), (part[:80], answer.status, answer.text)
            assert "x-kit" not in answer.headers, part[:80]
            refused += answer.status == 400
            if answer.status == 303:
                taken += 1
                _expectKept(service, client, "/" + answer.headers["location"].split("/", 3)[3])
    assert service.secret.read_text() == SECRET
    assert _around(service) <= around, _around(service) - around
    return f"{taken} were taken, {refused} refused"


def _expectKept(service: Service, client: Client, job: str) -> None:
    """The upload is in the job's directory, under a name that can do nothing, and comes back."""
    found = _directory(service, job)
    inside = {str(one.relative_to(found)) for one in found.rglob("*")}
    names = {one.partition("/")[2] for one in inside if one.startswith("parameters/")}
    assert inside <= {"parameters", "results", *(f"parameters/{one}" for one in names)}, inside
    assert all(_SAFE.fullmatch(one) for one in names), names
    for path in _paths(client.get(job + "/parameters"), "//*[@byReference='true']/text()"):
        answer = client.get(path)
        assert answer.body == CONTENT, (path, answer.status, answer.text)
        _expectConfined(answer, path)
    client.end(job)


# Results


@attack("results with names that lead elsewhere, are long, or cannot be", disk=8 * 2**20)
def resultNames(service: Service) -> str:
    client = Client(service.port)
    around = _around(service)
    job = _ended(service, client, "names")
    found = _directory(service, job)
    beside = {one.name for one in found.iterdir()} - {
        "parameters", "results", "job.json", "stdout", "stderr", "events.jsonl", "outcome.json",
        "lease.1",
    }  # fmt: skip
    assert not beside, beside
    odd = [one.name for one in (found / "results").iterdir() if not _SAFE.fullmatch(one.name)]
    assert not odd, odd
    assert _around(service) <= around, _around(service) - around
    number = _expectServed(client, job)
    assert number >= 10, number
    client.end(job)
    return f"{number} results"


def _expectServed(client: Client, job: str) -> int:
    paths = _results(client, job)
    for path in paths:
        answer = client.get(path)
        assert answer.status == 200, (path, answer.status, answer.text)
        assert answer.body == CONTENT, (path, answer.body[:100])
        _expectConfined(answer, path)
    return len(paths)


@attack("results that a browser would run")
def resultTypes(service: Service) -> str:
    client = Client(service.port)
    job = _ended(service, client, "types")
    for accept in ("*/*", "text/html,application/xhtml+xml;q=0.9", "application/javascript"):
        for path in _results(client, job):
            answer = client.get(path, {"Accept": accept})
            assert answer.body == CONTENT, (path, answer.status, answer.text)
            _expectConfined(answer, (path, answer.mediaType))
    number = _expectServed(client, job)
    assert number == len(MEDIA_TYPES), number
    client.end(job)
    return f"{number} kinds"


@attack("results that became links, pipes and devices")
def replaced(service: Service) -> str:
    client, told = Client(service.port), []
    for kind in REPLACED:
        job = _ended(service, client, f"replaced:{kind}")
        for method in ("GET", "HEAD"):
            answer = client.ask(method, job + "/results/out")
            assert answer.seconds < 3, (kind, answer.seconds)
            assert answer.status in (404, 410, 500), (kind, answer.status, answer.text)
            assert SECRET not in answer.text, kind
            assert "root:" not in answer.text, kind
        client.get(job + "/results")
        told.append(f"{kind} {answer.status}")
        client.end(job)
    assert service.secret.read_text() == SECRET
    assert Path("/etc/passwd").stat().st_size
    return ", ".join(told)


@attack("results that the work only says there are")
def forgedEvents(service: Service) -> str:
    client = Client(service.port)
    job = _ended(service, client, "events")
    for path in _results(client, job):
        answer = client.get(path)
        assert answer.status in (404, 410) or answer.body == CONTENT, (
            path,
            answer.status,
            answer.text,
        )
        assert SECRET not in answer.text, path
        assert "jobId" not in answer.text, path
        if answer.status == 200:
            _expectConfined(answer, path)
    document = client.get(job)
    etree.fromstring(document.body)
    assert SECRET not in document.text
    client.end(job)
    return "all of them are refused, or are what is in the results"
