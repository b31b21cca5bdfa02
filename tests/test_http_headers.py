"""What headers of a request ask for, and what those of the answers say."""

from __future__ import annotations

import gzip
import io
import socket
import time
from functools import partial
from urllib.request import Request, urlopen

import pytest
import pytest_twisted
from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.http_headers import Headers

from tests.serving import HREF, serve
from tests.validation import validate
from twuws.proxies import Proxies
from twuws.web.settings import WebSettings

pytestmark = [pytest.mark.slow, pytest.mark.covered]

VOTABLE = "{http://www.ivoa.net/xml/VOTable/v1.3}"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"


@pytest.fixture
def special(database, tmp_path):
    """A service with settings: call it with them."""
    begun = []

    async def start(**settings):
        begun.append(await serve(database, tmp_path, settings=WebSettings(**settings)))
        return begun[-1]

    yield start
    for one in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


# Accept


@pytest.mark.parametrize(
    ("accept", "mediaType"),
    [
        (None, "text/xml"),
        ("*/*", "text/xml"),
        (JAVA, "text/xml"),
        ("application/xml,text/plain", "application/xml"),
        ("application/xml, text/xml;q=0.9", "application/xml"),
        (BROWSER, "application/xml"),
    ],
)
async def test_documents(serving, accept, mediaType):
    url = await serving.create()
    for path in (serving.url, url, url + "/results", url + "/parameters"):
        answer = await serving.get(path, headers={"Accept": accept} if accept else {})
        assert answer.status == 200
        assert answer.headers["content-type"] == f"{mediaType}; charset=utf-8"
        assert "Accept" in answer.headers["vary"]
        validate(answer.content)


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/plain"])
async def test_notAcceptable(serving, accept):
    url = await serving.create()
    headers = {"Accept": accept}
    for path in (serving.url, url, url + "?WAIT=30", url + "/results", url + "/parameters"):
        answer = await serving.get(path, headers=headers)
        assert answer.status == 406
        assert answer.text.startswith("This is to be had as text/xml or application/xml")
    for name in ("phase", "quote", "owner", "executionduration", "destruction"):  # rule 6
        answer = await serving.get(f"{url}/{name}", headers=headers)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")


HEADERS = (
    "Accept", "Accept-Encoding", "If-None-Match", "If-Range", "Range", "Origin", "Forwarded",
    "X-Forwarded-Host", "X-Forwarded-For", "Content-Type", "Content-Encoding", "Expect",
    "Access-Control-Request-Headers", "If-Modified-Since",
)  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_bytesThatAreNoText(special, method):
    """In any header that is looked at: no mistake of the service's."""
    serving = await special(proxies=Proxies(["127.0.0.1"]), origins=frozenset({"*"}))
    url = await serving.create()
    for name in HEADERS:
        for path in (serving.url, url, url + "/phase", url + "/results/x"):
            answer = await serving.request(method, path, headers={name.encode(): b"\xff\x80, \xe4"})
            assert answer.status < 500


# What is wrong


async def test_errorsAsVOTable(serving):
    url = await serving.create({"failure": "no <light> today", "PHASE": "RUN"})
    await serving.ended(url)
    wanted = {"Accept": "application/x-votable+xml"}
    for path, status, message in (
        (url + "/error", 200, "ValueError: no <light> today"),
        (serving.url + "?LAST=0", 400, "LAST: it is a number of jobs, 1 or more"),
        (serving.url + "/none/phase", 404, "There is no job 'none' here."),
        (url + "/nonsense", 404, "A job has no 'nonsense'"),
    ):
        answer = await serving.get(path, headers=wanted)
        assert (answer.status, answer.headers["content-type"]) == (
            status,
            "application/x-votable+xml",
        )
        info = etree.fromstring(answer.content).find(f"{VOTABLE}RESOURCE[@type='results']/")
        assert dict(info.attrib) == {"name": "QUERY_STATUS", "value": "ERROR"}
        assert info.text.startswith(message)
        assert '<INFO name="QUERY_STATUS" value="ERROR">' in answer.text  # rule 20
        plain = await serving.get(path)
        assert plain.headers["content-type"] == "text/plain; charset=utf-8"
        assert plain.text.startswith(message)


# Conditional requests


async def test_etagOfAJob(serving):
    url = await serving.create()
    first = await serving.get(url)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (tag, f'"x", W/{tag},"y"', "*"):
        again = await serving.get(url, headers={"If-None-Match": known})
        assert (again.status, again.content, again.headers["etag"]) == (304, b"", tag)
    head = await serving.request("HEAD", url)
    assert head.headers["etag"] == tag
    await serving.post(url, {"RUNID": "other"})
    changed = await serving.get(url, headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["etag"] != tag


async def test_etagOfAResult(serving):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    result = url + "/results/result"
    first = await serving.get(result)
    tag = first.headers["etag"]
    again = await serving.get(result, headers={"If-None-Match": tag})
    assert (again.status, again.content) == (304, b"")
    since = {"If-None-Match": '"other"', "If-Modified-Since": first.headers["last-modified"]}
    assert (await serving.get(result, headers=since)).status == 200
    del since["If-None-Match"]
    assert (await serving.get(result, headers=since)).status == 304
    part = {"Range": "bytes=0-3", "If-Range": tag}
    assert (await serving.get(result, headers=part)).content == b"a,b\n"
    part["If-Range"] = '"other"'
    assert (await serving.get(result, headers=part)).content == first.content


# Methods, and scripts of other sites


async def test_options(serving):
    url = await serving.create()
    for path, allowed in (
        (serving.url, "GET, HEAD, OPTIONS, POST"),
        (url, "DELETE, GET, HEAD, OPTIONS, POST"),
        (url + "/phase", "GET, HEAD, OPTIONS, POST"),
        (url + "/parameters", "GET, HEAD, OPTIONS, POST"),
        (url + "/parameters/x", "GET, HEAD, OPTIONS, PUT"),
        (url + "/results", "GET, HEAD, OPTIONS"),
    ):
        answer = await serving.request("OPTIONS", path)
        assert (answer.status, answer.headers["allow"], answer.content) == (204, allowed, b"")
        assert "access-control-allow-origin" not in answer.headers
    for path in ("/phase/x", "/results/x", "x/phase", "x"):
        assert (await serving.request("OPTIONS", url + path)).status == 404
    assert len(validate((await serving.get()).content)) == 1


@pytest.mark.parametrize("origins", ["*", "https://here.example"])
async def test_scriptsOfOtherSites(special, origins):
    serving = await special(origins=frozenset({origins}))
    here, there = {"Origin": "https://here.example"}, {"Origin": "https://there.example"}
    asking = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a, x-b"}
    answer = await serving.request("OPTIONS", serving.url, headers=here | asking)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == origins
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "x-a, x-b"
    created = await serving.post("", {"RUNID": "a"}, headers=here)
    assert created.status == 303
    assert "Location" in created.headers["access-control-expose-headers"]
    missing = await serving.get("/none", headers=here)
    assert (missing.status, missing.headers["access-control-allow-origin"]) == (404, origins)
    assert "Origin" in missing.headers["vary"]
    for headers in (there, there | asking):
        other = await serving.request("OPTIONS", serving.url, headers=headers)
        assert other.headers.get("access-control-allow-origin") == ("*" if origins == "*" else None)
        assert "access-control-allow-credentials" not in other.headers


async def test_noScriptsByDefault(serving):
    answer = await serving.get(headers={"Origin": "https://here.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# Long lists


async def test_longListsAreCompressed(serving):
    await serving.uws.database.query(
        """INSERT INTO jobs (job_id, service, execution_duration)
           SELECT md5(n::text), 'noted', 0 FROM generate_series(1, 1501) n"""
    )
    get = partial(deferToThread, _rawly, serving.url)
    small, _ = await get("?LAST=10", "gzip")
    assert "content-encoding" not in small
    headers, plain = await get("", "br, gzip;q=0")
    assert "content-encoding" not in headers
    headers, packed = await get("", "br, gzip")
    assert headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in headers["vary"]
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 3
    assert len(validate(plain)) == 1501


def _rawly(url, query, acceptEncoding):
    """Headers and content, as they come: treq would unpack them."""
    request = Request(url + query, headers={"Accept-Encoding": acceptEncoding})
    with urlopen(request, timeout=20) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}, answer.read()


# Where a client thinks that it is


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "http://inner:1/noted"),
        ({"Forwarded": 'for=192.0.2.1;proto=https;host="a.example:8443"'},
         "https://a.example:8443/noted"),
        ({"Forwarded": "for=192.0.2.9;host=evil.example, for=192.0.2.1;host=a.example;proto=HTTPS"},
         "https://a.example/noted"),
        ({"Forwarded": 'host=a.example;proto=https;for=192.0.2.1, for="[::1]:80"'},
         "https://a.example/noted"),
        ({"Forwarded": 'for="a;b,c=\\"d";proto=https'}, "https://inner:1/noted"),
        ({"Forwarded": "proto=gopher;host=a/b"}, "http://inner:1/noted"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "b.example"},
         "https://b.example/noted"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "b.example",
          "X-Forwarded-Port": "8443", "X-Forwarded-Prefix": "/data/"},
         "https://b.example:8443/data/noted"),
        ({"X-Forwarded-Host": "evil.example, b.example", "X-Forwarded-For": "192.0.2.1"},
         "http://b.example/noted"),
        ({"X-Forwarded-Host": "evil.example, b.example, inner", "X-Forwarded-Proto": "https",
          "X-Forwarded-For": "192.0.2.1, 127.0.0.1"}, "https://b.example/noted"),
        ({"X-Forwarded-Host": "a b", "X-Forwarded-Prefix": "/<script>"}, "http://inner:1/noted"),
    ],
)  # fmt: skip
async def test_behindAProxy(special, headers, base):
    serving = await special(proxies=Proxies(["127.0.0.0/8", "::1"]))
    headers = Headers({"Host": ["inner:1"], **{name: [value] for name, value in headers.items()}})
    answer = await serving.post("", {"RUNID": "a"}, headers=headers)
    assert answer.location.startswith(base + "/async/")
    (ref,) = validate((await serving.get(headers=headers)).content)
    assert ref.get(HREF) == answer.location


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Forwarded": "host=evil.example;proto=https", "X-Forwarded-Host": "a.example"},
         "http://inner:1/noted"),
        ({"Forwarded": "host=a.example;proto=https", "X-Forwarded-Host": "a.example"},
         "http://a.example/noted"),
        ({"Forwarded": "x", "X-Forwarded-Host": "a.example"}, "http://a.example/noted"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"}, "https://inner:8443/noted"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}, "https://inner/noted"),
        ({"X-Forwarded-Host": "a.example", "X-Forwarded-Port": "99999"}, "http://a.example/noted"),
        ({"X-Forwarded-Prefix": "/a/../.."}, "http://inner:1/noted"),
        ({"Forwarded": "host=a.example;x=" + "y" * 2000}, "http://inner:1/noted"),
    ],
)  # fmt: skip
async def test_whatAProxyMayNotHaveSaid(special, headers, base):
    serving = await special(proxies=Proxies(["127.0.0.1"]))
    headers = Headers({"Host": ["inner:1"], **{name: [value] for name, value in headers.items()}})
    answer = await serving.post("", {"RUNID": "a"}, headers=headers)
    assert answer.location.startswith(base + "/async/")


@pytest.mark.parametrize("header", ['"' + '\\"' * 7500, ";" * 15000 + 'a="\\""', "," * 16000])
async def test_forwardedTakesNoTime(special, header):
    serving = await special(proxies=Proxies(["127.0.0.1"]))
    began = time.monotonic()
    assert (await serving.get(headers={"Forwarded": header})).status == 200
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("host", ["a..b", ".", "x" * 64, "a:99999", "a b", "\xff", ""])
async def test_hostsThatAreNone(serving, host):
    """They are answered as if they were not there, and without an error in the log."""
    port = serving.port.getHost().port
    path = serving.url.partition(f":{port}")[2]

    def ask():
        with socket.create_connection(("127.0.0.1", port)) as s:
            request = f"POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
            s.sendall(request.encode("latin-1"))
            return s.recv(10_000).decode("latin-1")

    answer = await deferToThread(ask)
    assert answer.startswith("HTTP/1.0 303 ")
    assert f"Location: {serving.url}/" in answer


async def test_aUnixSocket(serving, tmp_path):
    """HTTP/1.0 without a Host, as health checks speak it."""
    port = serving.reactor.listenUNIX(str(tmp_path / "s"), serving.port.factory)

    def ask():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(tmp_path / "s"))
            s.sendall(b"POST /noted/async HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
            return s.recv(10_000).decode("latin-1")

    answer = await deferToThread(ask)
    assert "Location: http://localhost/noted/async/" in answer
    await port.stopListening()


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)), ("bytes=-4", 206, slice(-4, None)),
        ("bytes=-99999999999", 206, slice(None)), ("bytes=4-", 206, slice(4, None)),
        ("bytes=", 200, slice(None)), ("bytes=-", 200, slice(None)),
        ("bytes=3-1", 200, slice(None)), ("lines=1-2", 200, slice(None)),
        ("bytes=x", 200, slice(None)), ("BYTES = 0-3", 206, slice(0, 4)),
        ("bytes=99999999-", 416, None),
    ],
)  # fmt: skip
async def test_ranges(serving, wanted, status, part):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    whole = (await serving.get(url + "/results/result")).content
    answer = await serving.get(url + "/results/result", headers={"Range": wanted})
    assert answer.status == status
    assert part is None or answer.content == whole[part]


async def test_oneTagForOneForm(serving):
    url = await serving.create()
    tags = {
        (await serving.get(url, headers={"Accept": accept})).headers["etag"]
        for accept in ("text/xml", "application/xml")
    }
    assert len(tags) == 2


async def test_untrustedProxies(special):
    serving = await special(proxies=Proxies(["192.0.2.0/24", "unix"]))
    answer = await serving.post("", {"RUNID": "a"}, headers={"X-Forwarded-Host": "evil.example"})
    assert answer.location.startswith(serving.url)


async def test_publicURL(special):
    serving = await special(publicURL="https://a.example/x/", proxies=Proxies(["127.0.0.1"]))
    answer = await serving.post("", {}, headers={"X-Forwarded-Host": "evil.example"})
    assert answer.location.startswith("https://a.example/x/async/")


# What is otherwise by configuration


async def test_strictlyDALI(special):
    """Parameters have one place; what UWS itself takes of a POST to the job stays."""
    serving = await special(parametersAtJob=False)
    url = await serving.create()
    answer = await serving.post(url, {"x": "1", "PHASE": "RUN"})
    assert (answer.status, answer.text) == (
        403,
        f"Parameters of a job are sent to {url}/parameters.\n",
    )
    assert await serving.phase(url) == "PENDING"
    assert (await serving.post(url + "/parameters", {"x": "1"})).status == 303
    assert (await serving.post(url, {"PHASE": "RUN"})).status == 303
    assert (await serving.get(url + "/parameters/x")).text == "1"


async def test_tracebacks(special):
    """Only where the operator wants it do clients see where in the code it was."""
    serving = await special(tracebacks=True)
    url = await serving.create({"failure": "no light", "PHASE": "RUN"})
    await serving.ended(url)
    answer = await serving.get(url + "/error")
    assert answer.text.startswith("ValueError: no light\n\nTraceback")
    base = serving.base
    where = (await serving.get(base + "/sync?failure=no+light")).location
    assert "Traceback" in (await serving.get(where)).text


async def test_syncJobsThatAreNotListed(special):
    """They can be used all the same, and the operator sees them."""
    serving = await special(syncListed=False)
    where = (await serving.get(serving.base + "/sync")).location
    assert (await serving.get(where)).status == 303
    jobId = where.rpartition("/")[2]
    assert len(validate((await serving.get()).content)) == 0
    assert (await serving.phase(f"{serving.url}/{jobId}")) == "COMPLETED"
    assert await serving.uws.getIdsAndPhases() == [(jobId, "COMPLETED")]


async def test_waitForWhatIsSuspended(serving):
    url = await serving.create({"seconds": "100", "PHASE": "RUN"})
    while await serving.phase(url) != "EXECUTING":
        pass
    await serving.uws.changeToPhase(url.rpartition("/")[2], "SUSPENDED")
    answer = await serving.get(url + "?WAIT=30")
    assert (answer.status, answer.headers["retry-after"]) == (200, "5")
    assert "retry-after" not in (await serving.get(url)).headers


def test_proxies():
    assert Proxies(["unix"]).trusts(None)
    assert not Proxies().trusts(None)
    assert Proxies(["10.0.0.0/8"]).trusts("::ffff:10.1.1.1")
    assert Proxies(["fe80::/10"]).trusts("fe80::1%eth0")
    assert not Proxies(["10.0.0.0/8"]).trusts("unknown")
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        Proxies(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("mediaType", "isShown"),
    [
        ("text/plain", True),
        ("text/csv; charset=utf-8", True),
        ("image/png", True),
        ("text/html", False),
        ("TEXT/HTML", False),
        ("image/svg+xml", False),
        ("application/xhtml+xml", False),
        ("text/xml", False),
        ("application/javascript", False),
        ("whatever", False),
    ],
)
async def test_files_do_nothing_in_browsers(serving, mediaType, isShown):
    """Who sends a file says of what kind it is, and may mean harm to who looks at it."""
    answer = await serving.client.post(
        serving.url,
        files={"f": ("it's.html", mediaType, io.BytesIO(b"<script>alert(1)</script>"))},
        allow_redirects=False,
    )
    url = answer.headers.getRawHeaders("location")[0]
    answer = await serving.get(url + "/parameters/f")
    assert answer.status == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy)
    shown = answer.headers.get("content-disposition", "inline")
    assert shown == "inline" if isShown else shown.startswith("attachment; filename*=UTF-8''")
