"""What a request says, read over real sockets from a real Site."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import time
import traceback
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
import treq
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from twuws.errors import BadRequest, TooLarge, UWSError
from twuws.jobstable import ListFilters
from twuws.phases import Phase
from twuws.submission import Upload
from twuws.uwschanging import UNSET
from twuws.web import controls as c
from twuws.web import requests as r
from twuws.web.bodies import requestFactory
from twuws.web.limits import USUAL
from twuws.web.multipart import ByName, uploadPairs
from twuws.workdir import WorkDirs

FORM = b"application/x-www-form-urlencoded"


class Echo(Resource):
    """Says what was read from a request; gives up when the client does, as Klein has it."""

    isLeaf = True

    def __init__(self, uploads: WorkDirs, resolve=False, **options) -> None:
        super().__init__()
        self.uploads = uploads
        self.resolve = resolve
        self.options = options
        self.outcomes: list[object] = []
        self.waiting: list[Deferred[object]] = []

    def render(self, request):
        answer = Deferred.fromCoroutine(self.answer(request))
        request.notifyFinish().addErrback(lambda _: answer.cancel())
        answer.addErrback(lambda failure: failure.trap(CancelledError) and "cancelled")
        answer.addBoth(self.ended)
        return NOT_DONE_YET

    def ended(self, outcome):
        self.outcomes.append(outcome)
        while self.waiting:
            self.waiting.pop().callback(outcome)

    async def answer(self, request):
        try:
            for _ in range(2):  # the second time there is nothing to do
                await r.readArguments(request, uploads=self.uploads, **self.options)
            files = request.files
            if self.resolve:
                files = r.referenced(request.args, files, self.options.get("fileNames", ()))
            described = await deferToThread(self.described, files)
            answer: object = {"args": request.args, "files": described}
        except UWSError as e:
            request.setResponseCode(e.status)
            answer = str(e)
        finally:
            await r.discard(request)
        request.write(json.dumps(answer).encode())
        request.finish()

    def described(self, files):
        return {
            name: [{**vars(one), "path": None, **self.content(one)} for one in several]
            for name, several in files.items()
        }

    def content(self, one: Upload):
        assert one.path is not None
        with one.path.open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        small = one.size <= 100_000
        data = base64.b64encode(one.path.read_bytes()).decode() if small else None
        return {"sha256": digest, "data": data}

    def left(self) -> list[Path]:
        return list(self.uploads.uploads().iterdir())


class Server:
    """An Echo that listens."""

    def __init__(self, echo: Echo, port: int) -> None:
        self.echo = echo
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"

    def exchange(self, raw: bytes):
        """Send bytes and read one answer.  Blocks."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
            s.sendall(raw)
            answer = HTTPResponse(s)
            answer.begin()
            return answer.status, json.loads(answer.read() or b"null")

    async def raw(self, raw: bytes):
        return await deferToThread(self.exchange, raw)

    async def send(self, body=b"", contentType=FORM, path=b"/", method=b"POST", headers=b""):
        """Send a request; return status and what came back.  No file may be left behind."""
        head = b"%s %s HTTP/1.1\r\nHost: h\r\n%s" % (method, path, headers)
        if contentType is not None:
            head += b"Content-Type: %s\r\n" % contentType
        if b"chunked" not in headers:
            head += b"Content-Length: %d\r\n" % len(body)
        answer = await self.raw(head + b"\r\n" + body)
        assert self.echo.left() == []
        return answer


@asynccontextmanager
async def serving(directory: Path, parsing=False, uploads=None, asItComes=False, **options):
    """
    A Server that reads with the given options.

    @param asItComes: take large forms as they come.
    """
    from twisted.internet import reactor

    echo = Echo(uploads or WorkDirs(directory), **options)
    makeRequest = requestFactory(directory) if asItComes else Request
    site = Site(echo, makeRequest, timeout=None, parsePOSTFormSubmission=parsing)
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]  # Site is a factory
    try:
        yield Server(echo, port.getHost().port)
    finally:
        await port.stopListening()


# Arguments


def test_arguments_ignore_case():
    args = r.Arguments({"RunID": ["x"]})
    args.setdefault("runid", []).append("y")
    args["LAST"] = ["1"]
    assert args == {"RunID": ["x", "y"], "LAST": ["1"]}
    assert isinstance(args, dict)
    assert list(args) == ["RunID", "LAST"]
    assert "RUNID" in args
    assert "run" not in args
    assert args.get("last") == args["Last"] == ["1"]
    assert args.get("x", 3) == 3
    assert args.pop("lasT") == ["1"]
    assert args.pop("last", None) is None
    del args["RUNID"]
    assert not args
    args["runid"] = ["z"]
    assert list(args) == ["runid"]
    with pytest.raises(KeyError, match="nothing"):
        args["nothing"]


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=3))))
def test_arguments_are_a_dictionary_of_lower_case_names(pairs):
    args = r.Arguments()
    model: dict[str, list[str]] = {}
    spelling: dict[str, str] = {}
    for name, value in pairs:
        args.setdefault(name, []).append(value)
        model.setdefault(name.lower(), []).append(value)
        spelling.setdefault(name.lower(), name)
    assert [(name.lower(), values) for name, values in args.items()] == list(model.items())
    assert list(args) == list(spelling.values())
    for name in spelling:
        assert args[name] == model[name]
        assert args.pop(name.upper() if name.upper().lower() == name else name) == model[name]
        assert name not in args
    assert len(args) == 0


NAME = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9).filter(
    lambda name: "\ufffd" not in name
)


@given(st.lists(st.tuples(NAME, st.text(st.characters(exclude_categories=["Cs"])))))
def test_what_urlencode_writes_is_read(pairs):
    assert r._pairs(urlencode(pairs).encode(), USUAL) == pairs


# Reading


async def test_query_and_body(tmp_path):
    async with serving(tmp_path) as server:
        body = b"phase=RUN&Name=M+31&x=1&x=2&empty=&utf=%C3%A9\xc3\xa9&semi=a;b=c"
        status, said = await server.send(body, path=b"/?X=0&PHASE=RUN&a=b%20c")
    assert status == 200
    assert said["files"] == {}
    assert said["args"] == {
        "X": ["0", "1", "2"],
        "PHASE": ["RUN"],
        "a": ["b c"],
        "Name": ["M 31"],
        "empty": [""],
        "utf": ["éé"],
        "semi": ["a;b=c"],
    }


async def test_a_name_in_two_cases_counts_once(tmp_path):
    async with serving(tmp_path) as server:
        _, said = await server.send(b"FORMAT=votable&format=votable&id=1&id=1&ID=2")
    assert said["args"] == {"FORMAT": ["votable"], "id": ["1", "1", "2"]}


async def test_by_treq(tmp_path):
    async with serving(tmp_path) as server:
        answer = await treq.post(server.url, data={"ra": "1.5"}, persistent=False)
        assert (await answer.json())["args"] == {"ra": ["1.5"]}
        answer = await treq.get(server.url, params={"WAIT": "-1"}, persistent=False)
        assert (await answer.json())["args"] == {"WAIT": ["-1"]}


@pytest.mark.parametrize(
    ("contentType", "body"),
    [
        (b"application/x-www-form-urlencoded; charset=UTF-8", b"a=1"),
        (b"Application/X-WWW-Form-URLEncoded", b"a=1\r\n"),
        (None, b"a=1"),
        (b"", b"a=1"),
    ],
)
async def test_types_of_forms(tmp_path, contentType, body):
    async with serving(tmp_path) as server:
        assert await server.send(body, contentType) == (200, {"args": {"a": ["1"]}, "files": {}})


@pytest.mark.parametrize("contentType", [b"text/xml", b"multipart/form-data", None, FORM])
async def test_an_empty_body_can_have_any_type(tmp_path, contentType):
    async with serving(tmp_path) as server:
        said = await server.send(b"", contentType, path=b"/?a=1")
    assert said == (200, {"args": {"a": ["1"]}, "files": {}})


async def test_only_a_post_has_a_form(tmp_path):
    async with serving(tmp_path) as server:
        for method in (b"PUT", b"GET", b"DELETE"):
            said = await server.send(b"b=2", FORM, path=b"/?a=1", method=method)
            assert said == (200, {"args": {"a": ["1"]}, "files": {}})


@pytest.mark.parametrize(
    ("path", "contentType", "body", "status", "words"),
    [
        (b"/", b"application/x", b"{}", 415, ["application/x", "multipart/form-data", "json"]),
        (b"/", b"text/xml; charset=x", b"<a b='c'/>", 415, ["text/xml", "urlencoded"]),
        (b"/", None, b"<a b='c'/>", 415, ["no Content-Type"]),
        (b"/", None, b"just text", 415, ["no Content-Type"]),
        (b"/", FORM, b"ra=%ff", 400, ["ra", "UTF-8"]),
        (b"/?ra=%C3", FORM, b"", 400, ["ra", "UTF-8"]),
        (b"/", FORM, b"ra=%ED%A0%80", 400, ["ra", "UTF-8"]),
        (b"/", FORM, b"r%ffa=1", 400, ["r\ufffda"]),
        (b"/", FORM, b"r%00a=1", 400, ["control characters"]),
        (b"/", FORM, b"=1", 400, ["no name"]),
        (b"/", FORM, b"n" * (USUAL.nameLength + 1) + b"=1", 400, ["nnn...", "1000"]),
        (b"/", FORM, b"&".join([b"a=1"] * 10_001), 413, ["10000"]),
        (b"/?b=1", FORM, b"&".join([b"a=1"] * 10_000), 413, ["10000"]),
        (b"/", FORM, b"long=" + b"x" * (USUAL.valueSize + 1), 413, ["long", str(USUAL.valueSize)]),
        (b"/", FORM, b"long=" + b"x" * (3 * USUAL.valueSize), 413, ["long"]),
        (b"/", FORM, b"&x=" * (6 * 2**20), 413, ["16777216"]),
    ],
)
async def test_what_cannot_be_read(tmp_path, path, contentType, body, status, words):
    async with serving(tmp_path) as server:
        found, message = await server.send(body, contentType, path)
    assert found == status, message
    assert all(word in message for word in words), message


async def test_a_large_form_is_read_in_a_thread(tmp_path):
    async with serving(tmp_path) as server:
        query = "x" * USUAL.valueSize
        _, said = await server.send(b"a=1&query=" + query.encode())
        assert said["args"] == {"a": ["1"], "query": [query]}


async def test_limit_of_the_body(tmp_path):
    async with serving(tmp_path, maximumBody=10) as server:
        assert (await server.send(b"a=12345678"))[0] == 200
        status, message = await server.send(b"a=123456789")
        assert (status, "11 bytes" in message, "10" in message) == (413, True, True)


async def test_a_site_that_parses_forms(tmp_path):
    r._warnOfParsedForms.cache_clear()
    warnings = []

    @implementer(ILogObserver)
    def observe(event):
        if event.get("log_level") is LogLevel.warn and "parsePOST" in event["log_format"]:
            warnings.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        async with serving(tmp_path, parsing=True) as server:
            for _ in range(2):
                _, said = await server.send(b"a=2", path=b"/?a=1")
                assert said["args"] == {"a": ["1", "2"]}
            body = (
                b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nF\r\n--b--'
            )
            _, said = await server.send(body, b"multipart/form-data; boundary=b")
            assert said["files"]["f"][0]["fileName"] == "x"
    finally:
        globalLogPublisher.removeObserver(observe)
    assert len(warnings) == 1


# Controls


def test_controls_are_taken():
    args = r.Arguments(
        {
            "phase": ["run", "RUN"],
            "Action": ["delete"],
            "runId": [" my run 😀"],
            "executionduration": ["60 "],
            "DESTRUCTION": ["2030-01-02", "2030-01-02T00:00:00Z"],
            "ra": ["1"],
        }
    )
    assert c.takeControls(args) == c.Controls(
        phase="RUN",
        action="DELETE",
        runId=" my run 😀",
        executionDuration=60,
        destruction=datetime(2030, 1, 2, tzinfo=UTC),
    )
    assert args == {"ra": ["1"]}


def test_no_controls():
    found = c.takeControls(r.Arguments({"ra": ["1"]}))
    assert found == c.Controls()
    assert found.destruction is UNSET
    assert c.takeControls(r.Arguments({"destruction": [""]})).destruction is None
    assert c.takeControls(r.Arguments({"RUNID": ["x" * 64]})).runId == "x" * 64


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PHASE", ["RUN", "ABORT"]),
        ("RUNID", ["a", "b"]),
        ("EXECUTIONDURATION", [""]),
        ("EXECUTIONDURATION", ["-5"]),
        ("EXECUTIONDURATION", ["1e3"]),
        ("EXECUTIONDURATION", ["1" + "0" * 30]),
        ("EXECUTIONDURATION", ["1" * 100_000]),
        ("EXECUTIONDURATION", ["1", "2"]),
        ("DESTRUCTION", ["tomorrow"]),
        ("DESTRUCTION", ["2030-01-02T00:00:00+01:00"]),
        ("DESTRUCTION", ["", "2030-01-02"]),
    ],
)
def test_controls_that_are_none(name, values):
    with pytest.raises(BadRequest, match=name) as caught:
        c.takeControls(r.Arguments({name.lower(): values}))
    assert len(str(caught.value)) < 400


# WAIT


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, None),
        ({"PHASE": ["QUEUED"]}, None),
        ({"wait": ["0"]}, c.Wait(seconds=0)),
        ({"WAIT": ["-1"]}, c.Wait(seconds=-1)),
        ({"WAIT": [" 10"]}, c.Wait(seconds=10)),
        ({"WAIT": ["30", "-1", "7"]}, c.Wait(seconds=7)),
        ({"WAIT": ["9" * 40]}, c.Wait(seconds=2**31 - 1)),
        (
            {"WAIT": ["-1"], "Phase": ["queued", "EXECUTING"]},
            c.Wait(seconds=-1, phases=frozenset({Phase.QUEUED, Phase.EXECUTING})),
        ),
    ],
)
def test_wait(args, expected):
    assert c.readWait(r.Arguments(args)) == expected


@pytest.mark.parametrize("value", ["", "-2", "1.5", "nan", "text", "1e3", "9" * 5000, "٣", "1_0"])
def test_wait_that_is_none(value):
    for values in ([value], ["5", value]):
        with pytest.raises(BadRequest, match="WAIT"):
            c.readWait(r.Arguments({"WAIT": values}))


@pytest.mark.parametrize("phase", ["", "pendinggg", "1345"])
def test_unknown_phases(phase):
    with pytest.raises(BadRequest, match=r"PHASE.*PENDING"):
        c.readWait(r.Arguments({"WAIT": ["1"], "PHASE": ["QUEUED", phase]}))
    with pytest.raises(BadRequest, match=r"PHASE.*PENDING"):
        c.readListFilters(r.Arguments({"PHASE": [phase]}))


# Filters


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, ListFilters(listedOnly=True)),
        (
            {"phase": ["HELD", "ERROR", "held"]},
            ListFilters(listedOnly=True, phases=(Phase.HELD, Phase.ERROR)),
        ),
        ({"last": ["10", "3", "7"]}, ListFilters(listedOnly=True, last=3)),
        ({"LAST": ["9" * 30]}, ListFilters(listedOnly=True, last=2**31 - 1)),
        (
            {"AFTER": ["2015", "2015-10-26 09:00", "20151026"]},
            ListFilters(listedOnly=True, after=datetime(2015, 10, 26, 9, tzinfo=UTC)),
        ),
    ],
)
def test_filters(args, expected):
    assert c.readListFilters(r.Arguments(args)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("LAST", value) for value in ("0", "-1", "-254", "text", "", "1.5", "9" * 5000)],
        *[("AFTER", value) for value in ("2015-26-10", "sometext", "", "2015-10-26T09:00+01:00")],
    ],
)
def test_filters_that_are_none(name, value):
    with pytest.raises(BadRequest, match=name):
        c.readListFilters(r.Arguments({name: [value]}))


# References


def upload(part: str) -> Upload:
    return Upload(path=Path("/x") / part, part=part, fileName=None, mediaType="a/b", size=1)


def resolved(args, parts, fileNames=()):
    """(what is left of the arguments, [(parameter, part, label)])"""
    args = r.Arguments(args)
    values = r.referenced(args, ByName({part: [upload(part)] for part in parts}), fileNames)
    return dict(args), [
        (n, one.part, one.label) for n, several in values.items() for one in several
    ]


@pytest.mark.parametrize(
    ("args", "parts", "expected"),
    [
        ({"a": ["1"]}, [], ({"a": ["1"]}, [])),
        ({}, ["TABLE"], ({}, [("Table", "TABLE", None)])),
        ({"TABLE": ["param:f"]}, ["F"], ({}, [("Table", "F", None)])),
        ({"table": ["param:table"]}, ["table"], ({}, [("Table", "table", None)])),
        ({"other": ["param:f", "x"]}, ["f"], ({"other": ["x"]}, [("other", "f", None)])),
        ({"other": ["param:my%20f"]}, ["my f"], ({}, [("other", "my f", None)])),
        ({"note": ["param: a sentence"]}, [], ({"note": ["param: a sentence"]}, [])),
        ({"UPLOAD": ["table,param:f"]}, ["f"], ({}, [("Table", "f", None)])),
        ({"Upload": ["t_1, param:f"]}, ["f"], ({}, [("UPLOAD", "f", "t_1")])),
        (
            {"upload": ["a,param:f;b,param:g;", "c,param:f"]},
            ["f", "g"],
            ({}, [("UPLOAD", "f", "a"), ("UPLOAD", "g", "b"), ("UPLOAD", "f", "c")]),
        ),
    ],
)
def test_references(args, parts, expected):
    assert resolved(args, parts, ["Table"]) == expected


@pytest.mark.parametrize(
    ("args", "parts", "words"),
    [
        ({"x": ["param:f"]}, [], "x: .*'f'"),
        ({"UPLOAD": ["t,param:f"]}, ["g"], "t: .*'f'"),
        ({"UPLOAD": ["t,ftp://h/f"]}, [], "UPLOAD t: .*http"),
        ({"UPLOAD": ["t,http://h/f", "T,http://h/g"]}, [], "more than once"),
        ({"UPLOAD": ["param:f"]}, ["f"], "label"),
        ({"UPLOAD": ["1t,param:f"]}, ["f"], "label"),
        ({"UPLOAD": ["t,param:f", "T,param:f"]}, ["f"], "more than once"),
        ({}, ["stray"], "stray.*Table, Image"),
    ],
)
def test_references_to_nothing(args, parts, words):
    with pytest.raises(BadRequest, match=words):
        resolved(args, parts, ["Table", "Image"])


def test_too_large_is_a_request_error():
    with pytest.raises(TooLarge):
        r._pairs(b"a&" * 10_001, USUAL)


@pytest.mark.parametrize(
    "value", [";" + " " * 200_000 + "x", ";" * 200_000, "a,b:" + ";x" * 100_000, "," * 200_000]
)
def test_uploadPairsTakeNoTime(value):
    began = perf_counter()
    list(uploadPairs(value))
    assert perf_counter() - began < 5  # squared, it would be hours


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", b'{"a": "' + b"\\q" * 500_000),
        (b"application/json", b'{"a": "' + b"\xff" * 1_000_000 + b'"}'),
        (FORM, b"a=" + b"\xff" * 1_000_000),
    ],
)
async def test_refused_body_is_forgotten(kind, body):
    """An error is kept for as long as garbage is; what it was about is not."""
    request = SimpleNamespace(
        args={}, uri=b"/", method=b"POST", content=io.BytesIO(body),
        getHeader={b"content-type": kind}.get,
    )  # fmt: skip
    with pytest.raises(BadRequest) as found:
        await r.readArguments(request, uploads=None)
    assert found.value.__context__ is None
    kept = []
    for frame in traceback.walk_tb(found.value.__traceback__):
        kept += [one for one in frame[0].f_locals.values() if isinstance(one, bytes | str)]
    assert max(len(one) for one in kept if one is not body) < 1000


async def test_large_bodies_take_turns():
    """However many come, so few are in memory in pieces at a time."""
    now, most = 0, 0

    def parse(raw, limits):
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.02)
        now -= 1
        return [("a", str(len(raw)))]

    size = r.SMALL_BODY + 1
    several = [Deferred.fromCoroutine(r._readText(io.BytesIO(bytes(size)), size, USUAL, parse))
               for _ in range(8)]  # fmt: skip
    assert [await one for one in several] == [[("a", str(size))]] * 8
    assert most == r.AT_ONCE
