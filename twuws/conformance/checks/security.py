"""
Part J: what nobody may do to a service, or through it.

What may hurt a service is done only where that was asked for.  The rest is what any stranger
may send by mistake.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlencode

from twuws.conformance.answers import Answer
from twuws.conformance.job import Job
from twuws.conformance.listener import Listener
from twuws.conformance.outcomes import Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

# Document types.


@check(95, "R", "2.2.3.1", "XML with a document type is refused soon, and makes no request.")
def documentTypes(uws: Session) -> None:
    readsXML = _readsXML(uws)
    with Listener(uws.settings) as listener:
        url = f"http://{listener.host}:{listener.port}/"
        for body, shown in _documentTypes(url, 9 if uws.settings.attack else 4):
            answer = _postXML(uws, body)
            late = answer.seconds > uws.settings.delay
            uws.require(not late, f"The answer took {answer.seconds:.1f} s.", answer)
            if answer.status != 303 or readsXML:
                uws.expectRefusal(answer)
            elif shown in _content(uws, uws.jobFrom(answer)):
                uws.require(False, "The entity is replaced in the job.", answer)
        uws.sleep(uws.settings.delay / 4)
        uws.require(not listener.calls, f"The service called {url}, as the document says.")


def _documentTypes(url: str, levels: int) -> Iterator[tuple[bytes, str]]:
    """Documents, and what is in them once their entities are replaced."""
    word = secrets.token_hex(8)
    doubled = "".join(
        f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, levels + 1)
    )
    for declared, entity, shown in (
        (f' [<!ENTITY a "{word[:8]}"><!ENTITY e "&a;{word[8:]}">]', "e", word),
        (f' [<!ENTITY e SYSTEM "{url}entity">]', "e", "kit\n"),
        (f' SYSTEM "{url}dtd"', "lt", "\0"),
        (f' [<!ENTITY % e SYSTEM "{url}parameter"> %e;]', "lt", "\0"),
        (f' [<!ENTITY e0 "{word}">{doubled}]', f"e{levels}", word),
    ):
        yield f'<?xml version="1.0"?><!DOCTYPE kit{declared}><kit>&{entity};</kit>'.encode(), shown


def _postXML(uws: Session, body: bytes) -> Answer:
    return uws.post("", body=body, mediaType="text/xml", query=uws.veryShort.pairs)


def _readsXML(uws: Session) -> bool:
    """Whether the content of an XML document becomes that of a job."""
    word = secrets.token_hex(8)
    answer = _postXML(uws, f"<kit>{word}</kit>".encode())
    return answer.status == 303 and word in _content(uws, uws.jobFrom(answer))


def _content(uws: Session, job: Job) -> str:
    """The job document, and the parameters that it points to."""
    document = job.document()
    texts = [str(document)]
    for one in document.parameters:
        if one.byReference and one.value.startswith(job.url):
            texts.append(uws.get(one.value).text)
    return "\n".join(texts)


# Text that comes back.

_MARKUP = "<img src=kit onerror=kit()>"
_BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
#: No program takes what is in these for a page.
_HARMLESS = ("text/plain", "application/json", "application/octet-stream")


@check(96, "R", "-", "What is sent comes back escaped or as plain text, and in no header.")
def escapedText(uws: Session) -> None:
    job = uws.newJob(controls={"RUNID": _MARKUP})
    for accept in (None, _BROWSER):
        for answer in (
            uws.get(query={"PHASE": _MARKUP}, accept=accept),
            uws.get(f"/{_MARKUP}", accept=accept),
            uws.get("/x%0d%0aX-Kit:%20yes%0d%0a", accept=accept),
            uws.get(query={"LAST": "1\r\nX-Kit: yes"}, accept=accept),
            job.get(accept=accept),
            job.post("/phase", {"PHASE": _MARKUP}, headers={"Accept": accept or "*/*"}),
            uws.get(query={"LAST": "20"}, accept=accept),
        ):
            raw = answer.mediaType not in _HARMLESS and _MARKUP in answer.text
            uws.require(not raw, f"Markup is verbatim in {answer.mediaType!r}.", answer)
            uws.require("x-kit" not in answer.headers, "A text has become a header.", answer)


_TRACES = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+"
    r"|\bat [\w$.]+\([\w$]+\.(?:java|kt|scala):\d+\)|\bjava\.(?:lang|sql|io|util)\.\w+"
    r"|Stack trace:|Fatal error</b>|\bin /[\w./-]+\.php\b|goroutine \d+ \["
    r"|\bSELECT\b[^\n]{1,200}\bFROM\b|\bINSERT INTO\b|\bUPDATE\b[^\n]{1,80}\bSET\b"
    r"|SQLSTATE|syntax error at or near|\bORA-\d{5}|psycopg|sqlite3?\.\w+Error|SQLException"
    r"|invalid input syntax for|invalid byte sequence for encoding"
)


@check(97, "R", "-", "No answer shows a stack trace, or a word of SQL.")
def noTraces(uws: Session) -> None:
    job = uws.newJob()
    for ask in _nonsense(uws, job):
        answer = ask()
        found = _TRACES.search(answer.text)
        uws.require(not found, f"The answer shows {found[0] if found else ''!r}.", answer)


def _nonsense(uws: Session, job: Job) -> Iterator[Callable[[], Answer]]:
    """Requests that may surprise whoever wrote the service."""
    for name, value in (
        ("LAST", "9" * 30), ("LAST", "1e400"), ("AFTER", "9" * 30), ("AFTER", "2020-13-41T25:61"),
        ("AFTER", "0000-00-00"), ("PHASE", "'\"\\"), ("PHASE", "\0"), ("PHASE", "\ud800"),
    ):  # fmt: skip
        yield partial(uws.get, "?" + urlencode({name: value}, errors="surrogatepass"))
    for path in ("/%00", "/'\"", "/%ff%fe", "/%F0%9F%98%80", "/-1", "/" + "9" * 2000, "/x'--"):
        yield partial(uws.get, path)
    for path in ("/results/%00", "/results/..%2f..%2f..", "/parameters/%ff", "?WAIT=nan&PHASE=%00"):
        yield partial(job.get, path)
    for path in ("/destruction", "/executionduration"):
        for value in ("9" * 30, "-1", "\0", "NaN", "99999-01-01T00:00:00Z"):
            yield partial(job.post, path, {path[1:].upper(): value})
    for mediaType, body in (
        ("application/json", b'{"a": ['),
        ("application/json", b"[" * 2000),
        ("text/xml", b"<a><b></a>"),
        ("multipart/form-data", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense"),
        ("multipart/form-data; boundary=" + "x" * 500, b"--x--"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"a=%zz&%ff=\xff&RUNID=%00"),
        ("nonsense", b"\0\xff"),
    ):
        yield partial(uws.post, body=body, mediaType=mediaType)


# Requests that a service makes.


@check(98, "R", "-", "A URL that is sent makes no request to the machine of the service itself.")
def ownNetwork(uws: Session) -> None:
    if uws.settings.file is None:
        raise Skipped("no parameter that takes a file is known; give --file NAME")
    with Listener(uws.settings) as listener:
        if not (listener.isBeside and listener.address == "127.0.0.1"):
            raise Skipped("it can be seen only where the service is asked at 127.0.0.1")
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{listener.port}/"
            for pair in ((uws.settings.file, url), ("UPLOAD", f"{uws.settings.file},{url}")):
                _offer(uws, pair)
                called = f"The service called {url} because of {pair[0]}={pair[1]}."
                uws.require(not listener.calls, called)


def _offer(uws: Session, pair: tuple[str, str]) -> None:
    """Make and run a job with a URL instead of a file, unless that is refused."""
    pairs = [one for one in uws.veryShort.pairs if one[0] not in (pair[0], uws.settings.file)]
    answer = uws.post("", [*pairs, pair])
    if answer.status == 303:
        job = uws.jobFrom(answer)
        job.post("/phase", {"PHASE": "RUN"})
        uws.until(
            lambda: job.document().phase not in ("QUEUED", "EXECUTING"),
            uws.settings.patience, "The job does not end.",
        )  # fmt: skip
    else:
        uws.expectRefusal(answer)


# Requests that are too much.

#: How many requests that do not go on are begun, and how long each may keep its connection, s.
SLOW = 100
HELD = 90.0
#: How much of a form is sent that has no end, MB.
ENDLESS = 64
_MB = 1_000_000


@check(
    99, "R", "-", "Requests that are slow, endless or huge are ended, and hold up nobody.",
    attack=True,
)  # fmt: skip
def tooMuch(uws: Session) -> None:
    _manyParameters(uws)
    _hugeHeader(uws)
    _endlessBody(uws)
    _slowRequests(uws)
    uws.expect(uws.get(query={"LAST": "1"}), 200)


def _manyParameters(uws: Session) -> None:
    pairs = [(f"kit{number}", "x") for number in range(10_000)]
    answer = uws.post("", [*uws.veryShort.pairs, *pairs])
    uws.require(
        answer.status == 303 or 400 <= answer.status < 500,
        f"A form of 10 000 parameters is answered {answer.status}.", answer,
    )  # fmt: skip


def _hugeHeader(uws: Session) -> None:
    with uws.wire() as wire:
        wire.send(wire.head("GET", {"Connection": "close"})[:-2])
        line = b"X-Kit: " + b"x" * (_MB // 10) + b"\r\n"
        wanted = all(wire.send(line) and not wire.says(0.0) for _ in range(100))
        wire.send(b"\r\n")
        answer = wire.answer()
        taken = wanted and answer is not None and answer.status < 400
        uws.require(not taken, "Headers of 10 MB were taken.", answer)


def _endlessBody(uws: Session) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Transfer-Encoding": "chunked"}
    chunk = b"%x\r\n" % _MB + b"x" * _MB + b"\r\n"
    with uws.wire() as wire:
        wire.send(wire.head("POST", form))
        wire.send(b"6\r\nRUNID=\r\n")
        for _ in range(ENDLESS):
            if not wire.send(chunk) or wire.says(0.0):
                return
        refused = wire.says(uws.settings.delay)
    mayBeMore = (uws.settings.limit or 0) > ENDLESS * _MB
    uws.require(
        refused or mayBeMore, f"{ENDLESS} MB of a form were taken, and no --limit allows it."
    )


def _slowRequests(uws: Session) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(uws.wire()) for _ in range(SLOW)]
        until = time.monotonic() + HELD
        for number, wire in enumerate(wires):
            head = wire.head("POST", {"Content-Length": "100", "Content-Type": "text/plain"})
            wire.send(head + b"half" if number % 2 else head[:-4])
        answer = uws.get(query={"LAST": "1"})
        held = answer.seconds > uws.settings.delay
        took = f"{answer.seconds:.1f} s"
        uws.require(not held, f"Beside {SLOW} slow requests, an answer took {took}.", answer)
        kept = [wire for wire in wires if not wire.says(until - time.monotonic())]
        uws.require(not kept, f"{len(kept)} of {SLOW} slow requests are kept after {HELD:g} s.")
