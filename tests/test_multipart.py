"""Forms exactly as the clients send them, and as those send them who mean no good."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
from email.message import Message
from email.mime.multipart import MIMEMultipart
from functools import partial
from io import BytesIO
from threading import Event
from time import perf_counter

import psutil
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from tests.test_requests import FORM, serving
from twuws.errors import BadRequest, TooLarge, Unavailable
from twuws.web import multipart as m
from twuws.web.limits import USUAL
from twuws.workdir import WorkDirs

#: What is in a form must come out again, whatever it looks like.
CONTENTS = {
    "empty": b"",
    "lines": b"\r\n\r\na\r\n",
    "dashes": b"--b--\r\n\r\n--\r\n-\r\n--",
    "almost": b"\r\n--boundar\r\n--boundary"[:-1] + b"\r",
    "bytes": bytes(range(256)) * 9,
    "larger": os.urandom(300_000),
}


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def part(name: bytes, content: bytes, more=b"", headers=b"") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"%s\r\n' % (name, more)
    return b"".join([b"--boundary\r\n", disposition, headers, b"\r\n", content, b"\r\n"])


TYPE = b"multipart/form-data; boundary=boundary"
END = b"--boundary--\r\n"


def data(said) -> dict[str, list[bytes]]:
    """The content of the files in an answer."""
    return {
        name: [base64.b64decode(one["data"]) for one in files]
        for name, files in said["files"].items()
    }


# Clients


@pytest.mark.parametrize("size", [7, 100, 1 << 20])
async def test_stilts(tmp_path, size):
    boundary = b"<<<--------------MULTIPART-BOUNDARY------->>>"
    query = "SELECT 'é'\r\nFROM TAP_UPLOAD.t1"
    texts = {b"REQUEST": b"doQuery", b"QUERY": query.encode(), b"UPLOAD": b"t1,param:t1"}
    body = b"".join(
        b"\r\n--%s\r\nContent-Type: text/plain; charset=UTF-8\r\n"
        b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (boundary, name, value)
        for name, value in texts.items()
    )
    body += (
        b'\r\n--%s\r\nContent-Disposition: form-data; name="t1"; filename="t1"\r\n'
        b"Content-Type: application/x-votable+xml\r\n\r\n<VOTABLE/>\n"
        b"\r\n--%s--\r\n" % (boundary, boundary)
    )
    assert body.startswith(b"\r\n--<<<")
    async with serving(tmp_path, resolve=True) as server:
        status, said = await server.send(
            chunked(body, size),
            b'multipart/form-data; boundary="%s"' % boundary,
            headers=b"Transfer-Encoding: chunked\r\nUser-Agent: STILTS/3.5-4 Java/17.0.9\r\n",
        )
    assert status == 200
    assert said["args"] == {"REQUEST": ["doQuery"], "QUERY": [query]}
    assert data(said) == {"UPLOAD": [b"<VOTABLE/>\n"]}
    one = said["files"]["UPLOAD"][0]
    assert (one["label"], one["fileName"], one["part"]) == ("t1", "t1", "t1")
    assert one["mediaType"] == "application/x-votable+xml"


async def test_astroquery(tmp_path):
    boundary = b"===1795453847868==="
    body = (
        b"--%(b)s\r\n"
        b'Content-Disposition: form-data; name="PHASE"\r\n\r\nRUN\r\n'
        b"--%(b)s\r\n"
        b'Content-Disposition: form-data; name="UPLOAD"\r\n\r\nmine,param:mine\r\n'
        b"--%(b)s\r\n"
        b'Content-Disposition: form-data; name="mine"; filename="/home/me/t.xml"\r\n'
        b"Content-Type: None\r\n\r\n<VOTABLE/>\r\n"
        b"--%(b)s--\r\n\r\n"
    ) % {b"b": boundary}
    async with serving(tmp_path, resolve=True) as server:
        _, said = await server.send(body, b"multipart/form-data; boundary=" + boundary)
    assert said["args"] == {"PHASE": ["RUN"]}
    assert data(said) == {"UPLOAD": [b"<VOTABLE/>"]}
    one = said["files"]["UPLOAD"][0]
    assert one["mediaType"] == "application/octet-stream"
    assert (one["fileName"], one["label"]) == ("t.xml", "mine")


@pytest.mark.parametrize("blank", [b"", b" "])
async def test_gavo(tmp_path, blank):
    """
    A Python e-mail as its generator writes it, its own headers before the first part, and
    without the blank that ends the boundary.
    """
    mail = MIMEMultipart("form-data")
    mail.set_param("boundary", "========== bounda r y 930 ")
    mail.epilogue = ""
    for name, value, more in [("UPLOAD", "t,param:t", {}), ("t", "<VOTABLE/>", {"filename": "x"})]:
        message = Message()
        if more:
            message.set_type("application/octet-stream")
        message["Content-Disposition"] = "form-data"
        for key, one in {"name": name, **more}.items():
            message.set_param(key, one, "Content-Disposition")
        message.set_payload(value)
        mail.attach(message)
    body = mail.as_string().replace("\n", "\r\n").encode()
    assert b"Content-Type: multipart" in body.partition(b"--=")[0]
    contentType = b'multipart/form-data; boundary="========== bounda r y 930%s"' % blank
    async with serving(tmp_path, resolve=True) as server:
        _, said = await server.send(body, contentType)
    assert said["args"] == {}
    assert data(said) == {"UPLOAD": [b"<VOTABLE/>"]}


async def test_requests_as_pyvo_uses_it(tmp_path):
    def post(url):
        return requests.post(
            url,
            data={"QUERY": "SELECT é", "UPLOAD": "a,param:a;b,param:b"},
            files={
                "a": ("a", BytesIO(CONTENTS["bytes"]), "application/x-votable+xml"),
                "b": ("größe.csv", BytesIO(b""), ""),
            },
            timeout=20,
        ).json()

    async with serving(tmp_path, resolve=True) as server:
        said = await deferToThread(post, server.url)
        assert said["args"] == {"QUERY": ["SELECT é"]}
        assert data(said) == {"UPLOAD": [CONTENTS["bytes"], b""]}
        assert [one["label"] for one in said["files"]["UPLOAD"]] == ["a", "b"]
        assert said["files"]["UPLOAD"][1]["fileName"] == "größe.csv"


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
async def test_curl(tmp_path):
    content = os.urandom(1_500_000)  # large enough for Expect: 100-continue
    (tmp_path / "my table.csv").write_bytes(content)

    def post(url):
        command = ["curl", "-sS", "-F", "ra=1.5", "-F", "PHASE=RUN"]
        command += ["-F", "table=@my table.csv;type=text/csv", "-F", "note=<-", url]
        done = subprocess.run(command, cwd=tmp_path, input=b"a\nb", capture_output=True, check=True)
        return done.stdout

    async with serving(tmp_path, fileNames=["Table"]) as server:
        said = json.loads(await deferToThread(post, server.url))
    assert said["args"] == {"ra": ["1.5"], "PHASE": ["RUN"], "note": ["a\nb"]}
    one = said["files"]["table"][0]
    assert one["sha256"] == hashlib.sha256(content).hexdigest()
    assert (one["fileName"], one["mediaType"]) == ("my table.csv", "text/csv")


async def test_browsers(tmp_path):
    boundary = b"----WebKitFormBoundaryrQ3Pq4XhQ8JjPzQb"
    body = (
        b"------WebKitFormBoundaryrQ3Pq4XhQ8JjPzQb\r\n"
        b'Content-Disposition: form-data; name="ra"\r\n\r\n\r\n'
        b"------WebKitFormBoundaryrQ3Pq4XhQ8JjPzQb\r\n"
        b'Content-Disposition: form-data; name="unfilled"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n"
        b"------WebKitFormBoundaryrQ3Pq4XhQ8JjPzQb\r\n"
        b'Content-Disposition: form-data; name="table"; '
        b'filename="\xc3\xbcber %22x%22 \xe2\x82\xac.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\n1,2\n\r\n"
        b"------WebKitFormBoundaryrQ3Pq4XhQ8JjPzQb--\r\n"
    )
    async with serving(tmp_path) as server:
        _, said = await server.send(body, b"multipart/form-data; boundary=" + boundary)
    assert said["args"] == {"ra": [""]}
    assert data(said) == {"table": [b"1,2\n"]}
    assert said["files"]["table"][0]["fileName"] == 'über "x" €.csv'


# File names and types


@pytest.mark.parametrize(
    ("more", "fileName"),
    [
        (b'; filename="a.csv"', "a.csv"),
        (b"; filename=a.csv", "a.csv"),
        (b'; filename=""', None),
        (b'; filename="../../etc/passwd"', "passwd"),
        (b'; filename="C:\\Users\\me\\a.csv"', "a.csv"),
        (b'; filename=".."', None),
        (b'; filename="a\x00\x1b[1mb"', "a[1mb"),
        ('; filename="\u202egpj.exe"'.encode(), "gpj.exe"),
        (b'; filename="\xff\xfe.csv"', "\ufffd\ufffd.csv"),
        (b'; filename="' + b"x" * 4096 + b'"', "x" * 255),
        (b"; filename*=UTF-8''%e2%82%ac%20rates", "€ rates"),
        (b"; filename=\"EUR\"; filename*=utf-8'en'%e2%82%ac", "€"),
        (b"; filename*=iso-8859-1''caf%E9", "café"),
    ],
)
async def test_file_names(tmp_path, more, fileName):
    async with serving(tmp_path) as server:
        status, said = await server.send(part(b"f", b"F", more) + END, TYPE)
    assert status == 200
    assert said["files"]["f"][0]["fileName"] == fileName
    assert data(said) == {"f": [b"F"]}


@pytest.mark.parametrize(
    ("header", "mediaType"),
    [
        (b"", "application/octet-stream"),
        (b"Content-Type: text/csv; header=present\r\n", "text/csv; header=present"),
        (b"content-type:  image/fits  \r\n", "image/fits"),
        (b"Content-Type: None\r\n", "application/octet-stream"),
        (b"Content-Type: text/\xe9\r\n", "application/octet-stream"),
        (b"Content-Type: a/" + b"b" * 300 + b"\r\n", "application/octet-stream"),
    ],
)
async def test_media_types(tmp_path, header, mediaType):
    async with serving(tmp_path) as server:
        body = part(b"f", b"F", b'; filename="x"', header) + END
        _, said = await server.send(body, TYPE)
    assert said["files"]["f"][0]["mediaType"] == mediaType


# What is a file


async def test_what_is_a_file(tmp_path):
    body = (
        part(b"declared", b"1")
        + part(b"later", b"2")
        + part(b"byQuery", b"3")
        + part(b"text", b"4")
        + part(b"x", b"param:later")
        + part(b"same", b"param:same")
        + part(b"same", b"5", b'; filename="s"')
        + END
    )
    async with serving(tmp_path, fileNames=["DECLARED"]) as server:
        _, said = await server.send(body, TYPE, path=b"/?UPLOAD=t,param:BYQUERY")
    assert said["args"] == {
        "UPLOAD": ["t,param:BYQUERY"],
        "text": ["4"],
        "x": ["param:later"],
        "same": ["param:same"],
    }
    assert data(said) == {"declared": [b"1"], "later": [b"2"], "byQuery": [b"3"], "same": [b"5"]}


async def test_large_text_is_text(tmp_path):
    """Beyond what is held in memory, several times over, and after files."""
    long = "ä" * 500_000
    body = part(b"f", b"F" * 70_000, b'; filename="f"')
    body += b"".join(part(b"t%d" % i, long.encode()) for i in range(3))
    body += b"".join(part(b"s%d" % i, b"x" * 60_000) for i in range(20)) + END
    async with serving(tmp_path) as server:
        _, said = await server.send(body, TYPE)
    assert [said["args"][f"t{i}"] for i in range(3)] == [[long]] * 3
    assert [said["args"][f"s{i}"] for i in range(20)] == [["x" * 60_000]] * 20
    assert data(said) == {"f": [b"F" * 70_000]}


async def test_charsets(tmp_path):
    def text(charset: bytes, content: bytes) -> bytes:
        return part(b"t", content, headers=b"Content-Type: text/plain; charset=%s\r\n" % charset)

    async with serving(tmp_path) as server:
        body = text(b"ISO-8859-1", b"\xe9") + text(b'"utf-8"', "é".encode()) + END
        _, said = await server.send(body, TYPE)
        assert said["args"] == {"t": ["é", "é"]}
        for charset, content in [(b"utf-8", b"\xff"), (b"punycode", b"x"), (b"zip", b"x")]:
            status, message = await server.send(text(charset, content) + END, TYPE)
            assert (status, "Parameter t" in message) == (400, True)


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("before", [0, 65_500])
async def test_content_byte_for_byte(tmp_path, name, before):
    """C{before} lets the boundary fall across the pieces in which the form is read."""
    content = CONTENTS[name]
    body = part(b"z", b"z" * before) + part(b"f", content, b'; filename="f"') + END
    async with serving(tmp_path) as server:
        status, said = await server.send(body, TYPE)
    one = said["files"]["f"][0]
    assert (status, one["size"]) == (200, len(content))
    assert one["sha256"] == hashlib.sha256(content).hexdigest()


# Large ones


@pytest.mark.parametrize("asItComes", [False, True])
async def test_twenty_megabytes_disturb_nobody(tmp_path, asItComes):
    content = os.urandom(2**20) * 20
    body = part(b"f", content, b'; filename="f"') + part(b"a", b"1") + END
    gaps, sizes = [], []
    last = perf_counter()

    def tick():
        nonlocal last
        now = perf_counter()
        gaps.append(now - last)
        sizes.append(psutil.Process().memory_info().rss)
        last = now

    async with serving(tmp_path, asItComes=asItComes) as server:
        raw = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        raw = raw % (TYPE, len(body)) + body
        ticking = LoopingCall(tick)
        ticking.start(0.005)
        try:
            status, said = await server.raw(raw)
        finally:
            ticking.stop()
        assert server.echo.left() == []
    assert (status, said["args"]) == (200, {"a": ["1"]})
    assert said["files"]["f"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert max(gaps) < 0.1
    assert max(sizes) - sizes[0] < 12 * 2**20


# Malformed ones


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (part(b"f", b"F" * 99, b'; filename="f"'), 400, "malformed"),
        (part(b"f", b"F" * 200_000, b'; filename="f"'), 400, "malformed"),
        (part(b"f", b"F" * 200_000, b'; filename="f"') + b"--boundary", 400, "malformed"),
        (b"--boundary", 400, "malformed"),
        (b"no boundary at all", 400, "malformed"),
        (part(b"f", b"F").replace(b"\r\n", b"\n") + END, 400, "malformed"),
        (b"--boundary\r\n\r\nx\r\n" + END, 400, "Content-Disposition"),
        (b"--boundary\r\nno colon\r\n\r\nx\r\n" + END, 400, "header"),
        (b"--boundary\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, 400, "no name"),
        (part(b"", b"x") + END, 400, "no name"),
        (part(b"a\x00b", b"x") + END, 400, "control"),
        (part(b"a%0D%0Ab", b"x") + END, 400, "control"),
        (part(b"a\xffb", b"x") + END, 400, "UTF-8"),
        (part(b"n" * 1001, b"x") + END, 400, "1000"),
        (part(b"f", b"x", headers=b"X: " + b"x" * 20_000 + b"\r\n") + END, 413, "header"),
        (part(b"f", b"x", headers=b"X: y\r\n" * 100) + END, 413, "header"),
        (b"--boundary\r\n" + b"x" * 200_000, 413, "header"),
        (part(b"f", b"", headers=b"Content-Transfer-Encoding: base64\r\n") + END, 400, "as it is"),
        (part(b"a", b"") * 10_001 + END, 413, "count"),
        (part(b"a", b"x" * (USUAL.valueSize + 1)) + END, 413, "Parameter a"),
        (part(b"a", b"x" * USUAL.valueSize) * 9 + END, 413, "together"),
        (
            part(b"f", b"F" * 200_000, b'; filename="f"') + part(b"a", b"\xff") + END,
            400,
            "Parameter a",
        ),
        (b"--boundary--", 200, ""),
        (b"--boundary--\r\n" + b"epilogue" * 20_000, 200, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("asItComes", [False, True])
async def test_malformed(tmp_path, asItComes, body, status, word):
    async with serving(tmp_path, asItComes=asItComes) as server:
        found, message = await server.send(body, TYPE)  # which looks that nothing is left
    assert found == status, message
    assert word in str(message)


@pytest.mark.parametrize("small", [0, 5, 50, 2000])
async def test_as_it_comes(tmp_path, small):
    """A form is read alike, whether that begins before it is there, and however far it gets."""
    body = part(b"a", b"%r" % small) + b"".join(part(b"s%d" % n, b"x" * 90) for n in range(small))
    for name in (b"f", b"g"):
        body += part(name, CONTENTS["larger"] + CONTENTS["almost"], b'; filename="f"')
    body += part(b"f", b"small", b'; filename="f"') + part(b"a", b"last") + END
    async with serving(tmp_path) as server, serving(tmp_path, asItComes=True) as other:
        known = await server.send(body, TYPE)
        assert known[0] == 200
        assert sorted(known[1]["files"]) == ["f", "g"]
        assert await other.send(body, TYPE) == known


async def test_the_query_counts_too(tmp_path):
    async with serving(tmp_path) as server:
        body = part(b"a", b"") * 10_000 + END
        assert (await server.send(body, TYPE))[0] == 200
        assert (await server.send(body, TYPE, path=b"/?a=1"))[0] == 413


@pytest.mark.parametrize(
    "contentType",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary=""',
        b"multipart/form-data; xboundary=boundary",
        b"multipart/form-data; boundary=" + b"x" * 201,
    ],
)
async def test_no_boundary(tmp_path, contentType):
    async with serving(tmp_path) as server:
        status, message = await server.send(part(b"a", b"1") + END, contentType)
    assert (status, "boundary" in message) == (400, True)


async def test_a_stray_file_is_refused(tmp_path):
    body = part(b"stray", b"x", b'; filename="f"') + END
    async with serving(tmp_path, resolve=True, fileNames=["Table"]) as server:
        status, message = await server.send(body, TYPE)
    assert (status, "stray" in message, "Table" in message) == (400, True, True)


async def test_a_full_disk_leaves_nothing(tmp_path, loggedErrors):
    class Full(WorkDirs):
        files = 0

        def newUpload(self):
            self.files += 1
            if self.files == 3:
                raise OSError(28, "No space left on device")
            return super().newUpload()

    form = m.Form(
        BytesIO(part(b"f", b"F" * 70_000, b'; filename="f"') * 3 + END), b"boundary", Full(tmp_path)
    )
    with pytest.raises(Unavailable, match="cannot store this now: the disk is full"):
        await form.read([], [], inThread=True)
    assert list((tmp_path / ".uploads").iterdir()) == []


# Clients that go


class SlowUploads(WorkDirs):
    """Lets the second file wait until it may go on."""

    def __init__(self, root) -> None:
        super().__init__(root)
        self.reached, self.goOn = Event(), Event()
        self.files = 0

    def newUpload(self):
        self.files += 1
        if self.files == 2:
            self.reached.set()
            self.goOn.wait(20)
        return super().newUpload()


async def gone(directory) -> None:
    from twisted.internet import reactor

    while list(directory.iterdir()):
        await deferLater(reactor, 0.005)


@pytest.mark.parametrize("more", [b"", part(b"h", b"H" * 200_000, b'; filename="h"')])
async def test_a_client_that_hangs_up_leaves_nothing(tmp_path, more):
    """Whether the thread has more to read or just ends."""
    slow = SlowUploads(tmp_path)
    body = part(b"f", b"F" * 70_000, b'; filename="f"')
    body += part(b"g", b"G" * (66_000 if more else 9), b'; filename="g"') + more + END
    async with serving(tmp_path, uploads=slow) as server:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        s = socket.create_connection(("127.0.0.1", server.port))
        await deferToThread(s.sendall, head % (TYPE, len(body)) + body)
        await deferToThread(slow.reached.wait, 20)
        assert len(server.echo.left()) == 1
        ended: Deferred[object] = Deferred()
        server.echo.waiting.append(ended)
        s.close()
        assert await ended == "cancelled"
        slow.goOn.set()
        await gone(slow.uploads())


async def test_a_body_that_is_closed_while_it_is_read(tmp_path):
    """Twisted does that when the connection is lost."""
    body = BytesIO(part(b"f", b"F") + END)
    body.close()
    with pytest.raises(BadRequest, match="hung up"):
        await m.Form(body, b"boundary", WorkDirs(tmp_path)).read([], [], inThread=True)


async def test_cancelled_before_the_thread_begins(tmp_path):
    body = BytesIO(part(b"f", b"F" * 70_000, b'; filename="f"') + END)
    uploads = WorkDirs(tmp_path)
    form = m.Form(body, b"boundary", uploads)
    reading = Deferred.fromCoroutine(form.read([], [], inThread=True))
    reading.cancel()
    with pytest.raises(CancelledError):
        await reading
    await gone(uploads.uploads())


# Round trips

NAME = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"\\%\ufffd'),
    min_size=1,
    max_size=9,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PIECES = st.lists(
    st.sampled_from([b"\r\n", b"--", b"bound", b"ary", b"--boundary", b"\r\n--bou", b"\x00", b"-"]),
    max_size=12,
).map(b"".join)


def isContent(content: bytes) -> bool:
    return b"\r\n--boundary" not in b"\r\n" + content + b"\r\n--"


@given(
    texts=st.lists(st.tuples(NAME, TEXT), max_size=4),
    files=st.lists(
        st.tuples(NAME, (PIECES | st.binary(max_size=50)).filter(isContent)), max_size=4
    ),
    padding=st.integers(0, 140_000),
)
def test_round_trip(tmp_path_factory, texts, files, padding):
    texts = [(n, t) for n, t in texts if isContent(t.encode()) and "param:" not in t]
    body = part(b"padding", b"." * padding)
    body += b"".join(part(n.encode(), t.encode()) for n, t in texts)
    body += b"".join(part(n.encode(), c, b'; filename="x"') for n, c in files) + END
    uploads = WorkDirs(tmp_path_factory.getbasetemp() / "roundtrip")
    form = m.Form(BytesIO(body), b"boundary", uploads)
    form._take([form._parse, partial(form._decide, [], []), form._store])
    assert form.texts == [("padding", "." * padding), *texts]
    expected: dict[str, list[bytes]] = {}
    for name, content in files:
        expected.setdefault(name.lower(), []).append(content)
    found = {
        name.lower(): [one.path.read_bytes() for one in several]
        for name, several in form.files.items()
    }
    assert found == expected
    form.discard()
    assert list(uploads.uploads().iterdir()) == []


@given(st.binary(max_size=300) | PIECES)
def test_whatever_comes_is_refused_or_read(tmp_path_factory, body):
    uploads = WorkDirs(tmp_path_factory.getbasetemp() / "whatever")
    form = m.Form(BytesIO(b"--boundary\r\n" + body), b"boundary", uploads)
    try:
        form._take([form._parse, partial(form._decide, [], []), form._store])
        form.discard()
    except (BadRequest, TooLarge):
        pass
    assert list(uploads.uploads().iterdir()) == []


async def test_urlencoded_beside_multipart(tmp_path):
    """What is no multipart form has no files."""
    async with serving(tmp_path) as server:
        _, said = await server.send(b"f=param:x", FORM)
    assert said == {"args": {"f": ["param:x"]}, "files": {}}
