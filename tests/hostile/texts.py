"""
Texts that want to be more: markup, headers, lines of a log, paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from lxml import etree

from tests.hostile.attack import attack
from tests.hostile.service import PROXY, SECRET, Service
from tests.hostile.wire import Answer, Client, exchange, parsed, request

WORK = "/work/async"
VOTABLE = "application/x-votable+xml"
MULTIPART = "multipart/form-data; boundary=b"

#: A program would show it, or do it, if it took it for markup.
SCRIPT = "<script>alert(1)</script>"
MARKUPS = (
    SCRIPT, "]]><script>alert(1)</script>", "\"'><script>alert(1)</script>",
    "--><script>alert(1)</script>", "<?xml-stylesheet href='javascript:alert(1)'?><script/>",
)  # fmt: skip


def _expectHarmless(answer: Answer, said: str) -> None:
    """Nothing that was sent is markup of the answer, and no browser guesses that it is."""
    assert answer.status != 500, (said, answer.text)
    if answer.body:
        assert answer.headers.get("x-content-type-options") == "nosniff", (said, answer.status)
    if answer.mediaType.endswith("xml") and answer.body:
        names = {etree.QName(one).localname for one in etree.fromstring(answer.body).iter("*")}
        assert "script" not in names, (said, answer.text)
        assert b"<?xml-stylesheet" not in answer.body, said
    elif "html" in answer.mediaType:
        assert "<script" not in answer.text.lower(), (said, answer.text)
    else:
        assert answer.mediaType in ("", "text/plain"), (said, answer.mediaType)


@attack("markup in every text that comes back")
def markup(service: Service) -> str:
    client, number = Client(service.port), 0
    for text in MARKUPS:
        for accept in ("text/html,application/xhtml+xml,*/*;q=0.8", VOTABLE, "text/xml"):
            for answer in _shown(client, text, accept):
                _expectHarmless(answer, text)
                number += 1
    proxy = Client(service.port, PROXY)
    for headers in (
        {"X-Remote-User": SCRIPT}, {"X-Forwarded-Host": SCRIPT},
        {"X-Forwarded-Prefix": f"/{SCRIPT}"},
        {"X-Forwarded-Proto": SCRIPT}, {"Forwarded": f'host="{SCRIPT}"'}, {"Host": SCRIPT},
    ):  # fmt: skip
        for path in ("/", WORK, "/work/capabilities", "/nothing", "/closed/async"):
            _expectHarmless(proxy.get(path, headers), str(headers))
    job = proxy.make(headers={"X-Remote-User": SCRIPT})
    for path in (job, job + "/owner", WORK):
        _expectHarmless(proxy.get(path, {"X-Remote-User": SCRIPT}), "owner")
    proxy.end(job, {"X-Remote-User": SCRIPT})
    return f"{number} answers"


def _shown(client: Client, text: str, accept: str) -> Iterator[Answer]:
    """Answers that may have a text in them."""
    wanted, sent = {"Accept": accept}, quote(text)
    form = f"text={sent}&RUNID={sent[:64].rpartition('%')[0]}".encode()
    yield client.get(f"/{sent}", wanted)
    yield client.get(f"/work/{sent}", wanted)
    yield client.get(f"{WORK}/{sent}", wanted)
    for name in ("PHASE", "LAST", "AFTER", "WAIT"):
        yield client.get(f"{WORK}?{name}={sent}", wanted)
    for name in ("number", "real", "when", "fails", "PHASE", "ACTION", "DESTRUCTION", "UPLOAD",
                 "RUNID", "EXECUTIONDURATION", "Idempotency-Key"):  # fmt: skip
        answer = client.post(WORK, f"{name}={sent}".encode(), headers=wanted)
        if answer.status == 303:  # to a job that may have gone already, with a key
            client.ask("DELETE", "/" + answer.headers["location"].split("/", 3)[3])
        yield answer
    yield client.post("/work/login", f"username={sent}&password=x".encode(), headers=wanted)
    yield client.post(WORK, text.encode(), text, headers=wanted)
    yield client.ask(text.partition(" ")[0] or "X", WORK, wanted)
    for header in ("Content-Encoding", "Authorization", "Origin", "Range", "If-None-Match"):
        yield client.post(WORK + "?PHASE=x", b"a=b", headers={header: text, **wanted})
    job = client.make(body=form + f"&{sent}={sent}".encode())
    upload = (
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{text}.html"\r\n'
        f"Content-Type: text/html\r\n\r\n{text}\r\n--b--\r\n"
    )
    yield client.post(job + "/parameters", upload.encode(), MULTIPART)
    for child in ("", "/parameters", f"/parameters/{sent}", "/parameters/text", f"/results/{sent}",
                  f"/{sent}", "/owner"):  # fmt: skip
        yield client.get(job + child, wanted)
    yield client.post(job + "/phase", f"PHASE={sent}".encode(), headers=wanted)
    yield client.post(job, b"fails=yes")
    assert client.untilEnded(job) == "ERROR"
    for child in ("", "/error", "/results"):
        yield client.get(job + child, wanted)
    _expectConfined(client.get(job + "/stderr"))
    _expectConfined(client.get(job + "/parameters/file"))
    client.end(job)


def _expectConfined(answer: Answer) -> None:
    """A file of a job can do nothing in a browser."""
    assert answer.status == 200, (answer.status, answer.text)
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy, policy
    assert "default-src 'none'" in policy, policy
    if answer.mediaType != "text/plain":
        assert (answer.headers["content-disposition"] or "").startswith("attachment"), answer


# Headers, and lines


@attack("lines that would be headers, answers, or the log's")
def injectedLines(service: Service) -> str:
    client, number = Client(service.port), 0
    begin = service.log.stat().st_size
    for end in (
        "%0d%0a",
        "%0a",
        "%0d",
        "%E5%98%8D%E5%98%8A",
        "%C4%8D%C4%8A",
        "%E2%80%A8",
        "%C2%85",
    ):
        for more in ("X-Kit:%20yes", f"{end}HTTP/1.1%20200%20OK{end}X-Kit:%20yes{end}{end}Forged"):
            sent = f"a{end}{more}"
            for answer in _named(client, sent):
                assert "x-kit" not in answer.headers, (sent, answer.headers.items())
                assert not answer.rest, (sent, answer.rest)
                assert answer.status != 500, (sent, answer.text)
                number += 1
    raw = "a\r\nX-Kit: yes"
    for headers in ({"X-Remote-User": raw}, {"Host": raw}, {"X-Forwarded-Host": raw}):
        for source in ("127.0.1.1", PROXY):
            answer = Client(service.port, source).post(WORK, headers=headers)
            assert "x-kit" not in answer.headers, headers
            number += 1
    for line in (service.log.read_bytes()[begin:]).splitlines():
        assert re.match(rb"\d{4}-\d\d-\d\dT", line), f"the log has {line!r}"
    return f"{number} answers"


def _named(client: Client, sent: str) -> Iterator[Answer]:
    for path in (
        f"/{sent}",
        f"{WORK}/{sent}",
        f"{WORK}?PHASE={sent}",
        f"/work/sync/{sent}",
        f"//{sent}",
    ):
        yield client.get(path)
    for name in ("RUNID", "text", "Idempotency-Key", sent, "PHASE", "UPLOAD"):
        answer = client.post(WORK, f"{name}={sent}".encode())
        yield answer
        if answer.status == 303:
            job = "/" + answer.headers["location"].split("/", 3)[3]
            yield client.get(job)
            yield client.ask("PUT", f"{job}/parameters/{sent}", body=b"x")
            client.end(job)
    yield client.post("/work/login", f"username={sent}&password=x".encode())
    name = (
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{sent}"\r\n\r\nx\r\n--b--'
    )
    answer = client.post(WORK, name.encode(), MULTIPART)
    yield answer
    if answer.status == 303:
        job = "/" + answer.headers["location"].split("/", 3)[3]
        yield client.get(job + "/parameters/file")
        client.end(job)


@attack("requests that are two, to somebody before us")
def smuggling(service: Service) -> str:
    """Where it is not clear where a request ends, nothing that follows it is answered."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    told = []
    for headers in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: 4, 5\r\n", b"Content-Length: +4\r\n", b"Content-Length: 0x4\r\n",
        b"Content-Length: -1\r\n", b"Content-Length: 4_0\r\n", b"Content-Length : 4\r\n",
        b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n", b"X: a\r\n Transfer-Encoding: chunked\r\n",
        b"X: a\rTransfer-Encoding: chunked\r\n", b"Content-Length: \xb2\r\n",
        b"Content-Length: 9999999999999999999999\r\n", b"\x00: a\r\n", b"X\r\n", b": a\r\n",
    ):  # fmt: skip
        data = b"POST /work/async HTTP/1.1\r\nHost: a\r\n%s\r\n0\r\n\r\n%s" % (headers, hidden)
        last = request("GET", "/last")
        raw = exchange(service.port, data + last, timeout=100)
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", raw)
        assert b"500" not in statuses, (headers, raw)
        assert len(statuses) < 3, (headers, raw)
        told.append(b"+".join(statuses).decode() or "closed")
    for body in (b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"0x5\r\nhello\r\n0\r\n\r\n",
                 b"5 \r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
                 b"5\r\nhelloXX0\r\n\r\n"):  # fmt: skip
        data = b"POST /work/async HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw = exchange(service.port, data + body + request("GET", "/last"), timeout=100)
        told.append(b"+".join(re.findall(rb"HTTP/1\.1 (\d+)", raw)).decode() or "closed")
        assert b" 500 " not in raw, (body, raw)
    return ", ".join(told)


# Paths


@attack("paths that lead elsewhere")
def paths(service: Service) -> str:
    client = Client(service.port)
    job = client.make(body=b"text=hello")
    up = [quote("../") , "../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "....//", "..;/",
          "..%252f", "%c0%ae%c0%ae/", "%u002e%u002e/", "..%00/", ".%2e/", "/"]  # fmt: skip
    number = 0
    for start in ("/", "/work/", WORK + "/", job + "/", job + "/results/", job + "/parameters/",
                  "/work/sync/", "/static/"):  # fmt: skip
        for one in up:
            for target in ("etc/passwd", str(service.secret)[1:], "secret", "job.json", "uws.toml"):
                for times in (1, 12):
                    answer = client.get(start + one * times + target)
                    _expectNothing(answer, start + one * times + target)
                    number += 1
    for target in ("http://uws.example/../etc/passwd", "file:///etc/passwd", "*", "", "?", "#",
                   "http://evil.example:80/work/async", "//evil.example/..",
                   "/%", "/%zz", "/\xff"):  # fmt: skip
        data = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target.encode("latin-1")
        raw = exchange(service.port, data)
        assert raw == b"" or parsed(raw).status < 500, (target, raw)
        assert b"root:" not in raw, target
    _expectNothing(_uploaded(client, job, "../../../../secret"), "upload")
    _expectNothing(_uploaded(client, job, str(service.secret)), "upload")
    assert service.secret.read_text() == SECRET
    client.end(job)
    return f"{number} paths"


def _uploaded(client: Client, job: str, name: str) -> Answer:
    """What an upload with a file name is, once it is there."""
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    answer = client.post(job + "/parameters", head.encode() + b"x\r\n--b--\r\n", MULTIPART)
    assert answer.status == 303, (name, answer.status, answer.text)
    found = client.get(job + "/parameters/file")
    assert found.body == b"x", (name, found.text)
    return found


def _expectNothing(answer: Answer, path: str) -> None:
    assert answer.status < 500, (path, answer.text)
    assert SECRET not in answer.text, path
    assert "root:" not in answer.text, path
    assert '"jobId"' not in answer.text, path
    assert "[services." not in answer.text, path
