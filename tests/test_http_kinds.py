"""
Bodies of other kinds than forms: JSON objects, XML documents, and what is encoded (behaviour 70).
"""

from __future__ import annotations

import gzip
import io
import json
import socket
import time
from decimal import Decimal

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.serving import serve, text
from tests.validation import validate
from tests.working import until
from twuws import parameters as p
from twuws.errors import BadRequest, ParameterError, TooLarge
from twuws.jobs import UWSJob
from twuws.web.jsonbodies import pairsOfJSON
from twuws.web.limits import USUAL
from twuws.wellformed import checkDocument

pytestmark = [pytest.mark.slow, pytest.mark.covered]

JSON = {"Content-Type": "application/json"}
XML = {"Content-Type": "text/xml; charset=utf-8"}
GOOD = '<?xml version="1.0"?>\n<Job xmlns="urn:x"><Target ra="1.5">é</Target></Job>\n'.encode()
BOMB = (
    b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY e0 "lol">'
    + b"".join(
        b'<!ENTITY e%d "%s">' % (n, b"&e%d;" % (n - 1) * 10)
        for n in range(1, 12)
    )
    + b"]><a>&e11;</a>"
)  # fmt: skip


class Described(UWSJob):
    """Works on an XML document."""

    description = p.Document(required=True)
    x = p.Real(minimum=0, maximum=10)
    f = p.File()

    async def run(self):
        with open(self.description, "rb") as f, self.openResult("copy", "text/xml") as out:
            out.write(f.read())


class Compared(UWSJob):
    """Compares two XML documents."""

    one = p.Document()
    two = p.Document()

    async def run(self):
        pass


class Lenient(UWSJob):
    """Takes anything, and fails at RUN."""

    valuesAreCheckedAtRun = True
    x = p.Real(minimum=0, maximum=10)
    word = p.Text()
    f = p.File()

    async def run(self):
        pass


@pytest.fixture
def serveJobs(database, tmp_path):
    """Serves a job class."""
    begun = []

    async def begin(jobClass):
        begun.append(await serve(database, tmp_path / jobClass.__name__, jobClass=jobClass))
        return begun[-1]

    yield begin
    for one in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


def parameters(job):
    """Names and values, in the order of the names: the database does not keep theirs."""
    pairs = [(one.get("id"), one.text or "") for one in job.findall("{*}parameters/*")]
    return sorted(pairs, key=lambda pair: pair[0])


async def isEmpty(serving):
    """There is neither a job nor a file."""
    assert len(validate((await serving.get()).content)) == 0
    assert list(serving.uws.workDirs.known()) == []
    await until(lambda: list(serving.uws.workDirs.uploads().iterdir()) == [])


@pytest.mark.parametrize("kind", ["application/json", "application/xml", "text/xml"])
async def test_nothing_is_neither(serveJobs, kind):
    """An empty body is no form of these kinds, and makes no job."""
    serving = await serveJobs(Described)
    answer = await serving.post("", b"", headers={"Content-Type": kind, "Content-Length": "0"})
    assert answer.status == 400
    assert len(validate((await serving.get()).content)) == 0


# JSON


async def test_json_at_creation(serving):
    body = (
        b'\xef\xbb\xbf{"X": 0.1000, "several": [1, 2], "label": "a\\u00fc\\ud83d\\ude00",'
        b' "RunId": "r", "other": [-0, "t", true], "another": 1e400, "failure": null, "no": [],'
        b' "executionDuration": 60}'
    )
    for kind in ("application/json", 'Application/JSON; charset="UTF-8"', "application/x+json"):
        answer = await serving.post("?x=0.1000", body, headers={"Content-Type": kind})
        assert answer.status == 303, answer.text
        job = await serving.job(answer.location)
        assert parameters(job) == [
            ("another", "1e400"), ("label", "aü😀"), ("other", "true"),
            ("several", "1"), ("several", "2"), ("x", "0.1000"),
        ]  # fmt: skip
        assert text(job, "runId") == "r"
        assert text(job, "executionDuration") == "60"


async def test_json_everywhere_that_takes_forms(serving):
    url = await serving.create({"x": "1"})
    for path, body in (
        ("/parameters", {"x": 2}),
        ("", {"label": "l"}),
        ("/executionduration", {"executionduration": 50}),
        ("/destruction", {"DESTRUCTION": "2031-01-01"}),
        ("/phase", {"phase": "RUN"}),
    ):
        answer = await serving.post(url + path, json.dumps(body).encode(), headers=JSON)
        assert (answer.status, answer.location) == (303, url), answer.text
    job = await serving.ended(url)
    assert parameters(job) == [("label", "l"), ("x", "2")]
    assert text(job, "executionDuration") == "50"
    answer = await serving.post(url, b'{"ACTION": "DELETE"}', headers=JSON)
    assert (answer.status, answer.location) == (303, serving.url)


async def test_json_as_a_value(serving):
    """PUT: the body is the value, whatever it is."""
    url = await serving.create()
    body = b'{"a": {}}'
    answer = await serving.request("PUT", url + "/parameters/label", data=body, headers=JSON)
    assert answer.status == 303
    assert (await serving.get(url + "/parameters/label")).content == body


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"x": {"a": 1}}', 400, ["x", "an object"]),
        (b'{"x": [[1]]}', 400, ["x", "a list"]),
        (b'{"x": [null]}', 400, ["x", "null in a list"]),
        (b'{"x": 1, "X": 2}', 400, ["'X'", "twice"]),
        (b'{"x": 1, "x": 1}', 400, ["'x'", "twice"]),
        (b'{"x": null, "X": 1}', 400, ["'X'", "twice"]),
        (b'{"x": 1', 400, ["malformed", "line 1"]),
        (b'{"x": 1} 2', 400, ["malformed"]),
        (b'{"x": NaN}', 400, ["NaN"]),
        (b'{"x": -Infinity}', 400, ["-Infinity"]),
        (b'{"x": 01}', 400, ["malformed"]),
        (b'{"x": "\\ud800"}', 400, ["x", "UTF-8"]),
        (b'{"\\ud800": 1}', 400, ["UTF-8"]),
        (b'{"": 1}', 400, ["no name"]),
        (b'{"a\\u0000b": 1}', 400, ["control characters"]),
        (b'{"x": "\xff"}', 400, ["UTF-8"]),
        (b"[1]", 400, ["no object"]),
        (b"[]", 400, ["no object"]),
        (b'"x"', 400, ["no object"]),
        (b"null", 400, ["no object"]),
        (b" ", 400, ["malformed"]),
        (b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, ["nested"]),
        (b'{"x": ' + b'{"x":' * 15_000 + b"1" + b"}" * 15_000 + b"}", 400, ["nested"]),
        (b'{"x": ' + b"[" * 2_000_000, 413, ["10000"]),
        (b'{"several": [' + b"1," * 2_000_000 + b"1]}", 413, ["10000"]),
        (b'{"several": [' + b"1," * 10_000 + b"1]}", 413, ["10000"]),
        (b'{"a": [' + b'"",' * 5_000_000 + b'""]}', 413, ["10000"]),
        (
            b'{"label": "' + b"x" * (USUAL.valueSize + 1) + b'"}',
            413,
            ["label", str(USUAL.valueSize)],
        ),
        (b" " * (USUAL.textSize + 1), 413, [str(USUAL.textSize)]),
        (b'{"x": 11}', 400, ["x", "from 0 to 10"]),
        (b'{"x": [1, 2]}', 400, ["x", "2 values"]),
        (b'{"PHASE": true}', 400, ["PHASE"]),
        (b'{"f": "text"}', 400, ["f", "file"]),
        (b'{"f": "param:f"}', 400, ["f", "refers"]),
    ],
    ids=range(34),
)
async def test_json_that_is_refused(serving, body, status, words):
    answer = await serving.post("", body, headers=JSON)
    assert (answer.status, len(answer.text) < 400) == (status, True), answer.text
    assert all(word in answer.text for word in words), answer.text
    await isEmpty(serving)


async def test_json_is_utf8(serving):
    for charset in ("utf-16", "latin-1"):
        answer = await serving.post(
            "", b'{"x": 1}', headers={"Content-Type": f"application/json;charset={charset}"}
        )
        assert (answer.status, charset in answer.text) == (415, True)


def test_hostile_json_takes_no_time():
    began = time.process_time()
    for body in (b'{"a":[' + b'"",' * 5_000_000, b"{" * 16_000_000, b'"\\' * 8_000_000,
                 b'"' + b"\\" * 15_999_999, b'{"a":' + b"9" * 16_000_000):  # fmt: skip
        with pytest.raises((BadRequest, TooLarge)):
            pairsOfJSON(body)
    assert time.process_time() - began < 3


VALUE = st.text(st.characters(exclude_categories=["Cs"])) | st.booleans() | st.integers()
NAME = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9).filter(
    lambda name: "\ufffd" not in name
)


def written(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(st.dictionaries(NAME, VALUE | st.none() | st.lists(VALUE, max_size=3)), st.booleans())
def test_what_json_writes_is_read(values, isASCII):
    unique = {name.lower(): name for name in values}
    values = {name: values[name] for name in unique.values()}
    expected = []
    for name, value in values.items():
        several = value if isinstance(value, list) else [] if value is None else [value]
        expected += [(name, written(one)) for one in several]
    assert pairsOfJSON(json.dumps(values, ensure_ascii=isASCII).encode()) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_stay_as_they_are_written(number: Decimal):
    written = format(number, "f")
    assert pairsOfJSON(f'{{"x": {written}}}'.encode()) == [("x", written)]


# XML


@pytest.mark.parametrize("kind", ["text/xml", "application/xml", "application/vnd.x+xml; q=1"])
async def test_a_document_is_the_body(serveJobs, kind):
    serving = await serveJobs(Described)
    answer = await serving.post("?PHASE=RUN&x=2&RUNID=mine", GOOD, headers={"Content-Type": kind})
    assert answer.status == 303, answer.text
    url = answer.location
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"
    assert text(job, "runId") == "mine"
    assert parameters(job) == [("description", url + "/parameters/description"), ("x", "2")]
    assert job.find("{*}parameters/*[@id='description']").get("byReference") == "true"
    shown = await serving.get(url + "/parameters/description")
    assert (shown.content, shown.headers["content-type"]) == (GOOD, kind)
    assert (await serving.get(url + "/results/copy")).content == GOOD
    assert list(serving.uws.workDirs.uploads().iterdir()) == []


async def test_a_document_later(serveJobs):
    serving = await serveJobs(Described)
    url = await serving.create({"x": "1"})
    for path, document in (("/parameters", GOOD), ("", b"<a/>"), ("/parameters", b"<b/>")):
        answer = await serving.post(url + path, document, headers=XML)
        assert (answer.status, answer.location) == (303, url), answer.text
        assert (await serving.get(url + "/parameters/description")).content == document
    refused = await serving.post(url + "/parameters", b"<b>", headers=XML)
    assert refused.status == 400
    assert (await serving.get(url + "/parameters/description")).content == b"<b/>"
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    await serving.ended(url)
    assert (await serving.post(url + "/parameters", GOOD, headers=XML)).status == 403
    await until(lambda: list(serving.uws.workDirs.uploads().iterdir()) == [])


@pytest.mark.parametrize("part", ["description", "d"])
async def test_a_document_in_a_form(serveJobs, part):
    serving = await serveJobs(Described)
    data = {} if part == "description" else {"description": "param:d"}
    url = await serving.create(data, files={part: ("d.xml", "text/xml", io.BytesIO(GOOD))})
    assert (await serving.get(url + "/parameters/description")).content == GOOD
    answer = await serving.post(
        url + "/parameters", data, files={part: ("d.xml", "text/xml", io.BytesIO(b"<a>\n<b></a>"))}
    )
    assert answer.status == 400
    assert "description: line 2" in answer.text
    assert (await serving.get(url + "/parameters/description")).content == GOOD
    await until(lambda: list(serving.uws.workDirs.uploads().iterdir()) == [])


LARGE = b"<a>" + b"<b c='d'>text</b>\n" * 100_000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no XML", ["line 1", "'<' not found"]),
        (b" ", ["line 1"]),
        (b"<a>\n<b>\n</a>", ["line 3", "mismatch", "b"]),
        (b"<a/><b/>", ["line 1", "Extra content"]),
        (b"<a", ["line 1"]),
        (b"<a>\n&x;</a>", ["line 2", "'x'"]),
        (b"<x:a/>", ["line 1", "prefix x"]),
        (b"<a>\xff</a>", ["line 1", "encoding"]),
        (b"<a>\x00</a>", ["line 1"]),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", ["nonsense"]),
        (b"<a>" * 1000 + b"</a>" * 1000, ["line 1", "depth"]),
        (b"<a b='" + b"x" * 20_000_000 + b"'/>", ["line 1", "limit exceeded; send"]),
        (b"<a><!--" + b"x" * 20_000_000 + b"--></a>", ["line 1", "too big"]),
        (LARGE + b"</b>", ["line 100001", "mismatch"]),
        (b"<!DOCTYPE a>\n<a/>", ["DOCTYPE"]),
        (BOMB, ["DOCTYPE"]),
    ],
    ids=range(16),
)
async def test_documents_that_are_none(serveJobs, body, words):
    serving = await serveJobs(Described)
    answer = await serving.post("?PHASE=RUN", body, headers=XML)
    assert (answer.status, len(answer.text) < 400) == (400, True), answer.text
    assert all(word in answer.text for word in ["description", *words]), answer.text
    await isEmpty(serving)


async def test_a_large_document(serveJobs):
    serving = await serveJobs(Described)
    answer = await serving.post("", LARGE + b"</a>", headers=XML)
    assert answer.status == 303
    shown = await serving.get(answer.location + "/parameters/description")
    assert shown.content == LARGE + b"</a>"


async def test_nothing_is_loaded(serveJobs):
    """Neither from this machine nor from another one."""
    serving = await serveJobs(Described)
    with socket.create_server(("127.0.0.1", 0)) as outside:
        outside.setblocking(False)
        url = f"http://127.0.0.1:{outside.getsockname()[1]}/x"
        for document in (
            f'<!DOCTYPE a SYSTEM "{url}"><a/>',
            f'<!DOCTYPE a [<!ENTITY e SYSTEM "{url}">]><a>&e;</a>',
            f'<!DOCTYPE a [<!ENTITY % e SYSTEM "{url}"> %e;]><a/>',
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>',
        ):
            answer = await serving.post("", document.encode(), headers=XML)
            assert (answer.status, "DOCTYPE" in answer.text) == (400, True)
        with pytest.raises(BlockingIOError):
            outside.accept()
    await isEmpty(serving)


def test_a_bomb_takes_no_time(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(BOMB)
    began = time.process_time()
    with pytest.raises(ParameterError, match="DOCTYPE"):
        checkDocument(path, "x")
    assert time.process_time() - began < 0.1


def test_a_document_of_any_encoding(tmp_path):
    path = tmp_path / "document"
    for encoding in ("utf-8", "utf-16", "iso-8859-1"):
        path.write_bytes(f"<?xml version='1.0' encoding='{encoding}'?><a>é</a>".encode(encoding))
        checkDocument(path, "x")
    path.write_bytes(b"")
    with pytest.raises(ParameterError, match=r"x: line 1: "):
        checkDocument(path, "x")


async def test_where_no_document_is_declared(serving, serveJobs):
    """None, or more than one: then it is not said which the body would be."""
    compared = await serveJobs(Compared)
    for one in (serving, compared):
        answer = await one.post("", GOOD, headers=XML)
        assert answer.status == 415
        assert all(word in answer.text for word in ("text/xml", "application/json", "multipart"))
        assert "application/xml" not in answer.text
        await isEmpty(one)
    two = {
        name: (name, "text/xml", io.BytesIO(content))
        for name, content in (("one", b"<a/>"), ("two", b"<b/>"))
    }
    url = await compared.create(files=two)
    assert (await compared.get(url + "/parameters/two")).content == b"<b/>"


async def test_what_can_be_sent(serveJobs):
    serving = await serveJobs(Described)
    answer = await serving.post("", b"x", headers={"Content-Type": "application/x-nothing"})
    assert answer.status == 415
    assert "application/xml" in answer.text


async def test_a_client_that_goes_while_its_document_is_read(serveJobs):
    serving = await serveJobs(Described)
    port = serving.port.getHost().port
    sent = b"POST /noted/async HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n" + (
        b"Content-Length: %d\r\n\r\n" % (len(LARGE) * 5) + LARGE * 5
    )

    def hangUp(size):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            s.sendall(sent[:size])

    for size in (len(sent), len(sent), len(sent) - 1):
        await deferToThread(hangUp, size)
    answer = await serving.post("", b"<a/>", headers=XML)
    assert answer.status == 303
    await until(lambda: list(serving.uws.workDirs.uploads().iterdir()) == [])
    assert len(list(serving.uws.workDirs.known())) == 1


# Encodings


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "x" * 300])
async def test_encoded_bodies(serving, encoding):
    url = await serving.create({"x": "1"})
    headers = {"Content-Encoding": encoding, "Content-Type": "application/x-www-form-urlencoded"}
    for method, path in (("POST", ""), ("POST", url), ("PUT", url + "/parameters/x")):
        answer = await serving.request(method, path, data=gzip.compress(b"x=2"), headers=headers)
        assert (answer.status, encoding[:50] in answer.text) == (415, True)
        assert len(answer.text) < 400
    assert parameters(await serving.job(url)) == [("x", "1")]


async def test_the_identity_encoding(serving):
    headers = {"Content-Encoding": "Identity", "Content-Type": "application/json"}
    answer = await serving.post("", b'{"x": 2}', headers=headers)
    assert parameters(await serving.job(answer.location)) == [("x", "2")]


# Values that are checked at RUN only


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": "11"}, "Parameter x: '11' is not a number from 0 to 10"),
        ({"X": "abc"}, "Parameter x: 'abc' is not a number from 0 to 10"),
        ([("x", "1"), ("x", "2")], "Parameter x: 2 values were given, but it takes one"),
        (
            {"f": "text"},
            "Parameter f: this is a file; send it in a multipart form, or say where it is:"
            " UPLOAD=f,URL",
        ),
    ],
)
async def test_checked_at_run(serveJobs, data, message):
    serving = await serveJobs(Lenient)
    pairs = list(data.items()) if isinstance(data, dict) else data
    for url in (await serving.create(data), await serving.create([*pairs, ("PHASE", "RUN")])):
        if (await serving.phase(url)) == "PENDING":
            assert [value for _, value in parameters(await serving.job(url))] == [
                value for _, value in pairs
            ]
            await serving.post(url + "/phase", {"PHASE": "RUN"})
        job = await serving.ended(url)
        assert text(job, "phase") == "ERROR"
        assert text(job, "errorSummary/message") == message


async def test_what_is_checked_at_run_may_be_right(serveJobs):
    serving = await serveJobs(Lenient)
    url = await serving.create({"x": "11"})
    await serving.post(url + "/parameters", {"x": "5", "word": "w", "other": "o"})
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    job = await serving.ended(url)
    assert text(job, "phase") == "COMPLETED"
    assert parameters(job) == [("other", "o"), ("word", "w"), ("x", "5")]
    assert (await serving.post("", {"PHASE": "BAD"})).status == 400
