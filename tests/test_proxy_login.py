"""Users whom a proxy names in a header: who is believed, and what is no name."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest
from pytest_twisted import blockon
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.pages import documented
from tests.serving import serve
from tests.test_operation import needs
from tests.test_readme import freePort
from tests.working import until
from twuws import config
from twuws.authenticators.proxy import ProxyAuthenticator
from twuws.errors import ConfigError
from twuws.proxies import Proxies
from twuws.web.access import Access, Admitted, Anonymous
from twuws.web.settings import WebSettings

USER, GROUPS = "X-Auth-Request-User", "X-Auth-Request-Groups"
PROGRAM = '[services.a]\ncommand = ["cat"]\n'


@pytest.fixture
def start(database, tmp_path):
    """Starts a service that believes proxies."""
    started = []

    async def start(*proxies, **access):
        authenticator = ProxyAuthenticator(USER, GROUPS, Proxies(proxies))
        rules = {"anonymous": Anonymous.CREATE, **access}
        web = WebSettings(access=Access(authenticators=(authenticator,), **rules))
        started.append(await serve(database, tmp_path / "jobs", settings=web, slots=0))
        return started[-1]

    yield start
    for serving in started:
        blockon(Deferred.fromCoroutine(serving.stop()))


async def ask(serving, *headers, path=None):
    """Who sends these lines, as bytes, or the status; by a Unix socket if there is a path."""

    def talk():
        kind, place = socket.AF_INET, ("127.0.0.1", serving.port.getHost().port)
        if path is not None:
            kind, place = socket.AF_UNIX, str(path)
        with socket.socket(kind) as s:
            s.settimeout(20)
            s.connect(place)
            lines = [b"GET /noted/async HTTP/1.1", b"Host: a", b"Connection: close", *headers]
            s.sendall(b"".join(line + b"\r\n" for line in lines) + b"\r\n")
            return b"".join(iter(lambda: s.recv(10_000), b""))

    answer = (await deferToThread(talk)).decode("latin-1")
    status = int(answer.split(" ", 2)[1])
    who = re.search(r"(?mi)^x-vo-authenticated: (.*?)\r$", answer)
    if status == 200:
        return who and who[1]
    assert who is None or status != 401
    return status


async def test_believed(start):
    serving = await start("127.0.0.1")
    assert await ask(serving) is None
    assert await ask(serving, b"X-Auth-Request-User: alice") == "alice"
    assert await ask(serving, b"x-auth-request-user:  Ada, L.  ") == "Ada, L."
    assert await ask(serving, "X-Auth-Request-User: ö".encode()) == "\\xf6"
    assert await ask(serving, b"X-Auth-Request-Groups: astro") is None
    assert await ask(serving, b"X_Auth_Request_User: alice") is None


async def test_not_believed(start):
    """Who is no proxy is told so, whatever address they say that they have."""
    for proxies in ((), ("192.0.2.0/24", "::1", "unix")):
        serving = await start(*proxies)
        assert await ask(serving) is None
        for line in (
            b"X-Auth-Request-User: alice",
            b"X-Auth-Request-User:",
            b"X-Auth-Request-Groups: a",
        ):
            assert await ask(serving, line) == 401
            told = b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=192.0.2.1", b"X-Real-IP: ::1"
            assert await ask(serving, line, *told) == 401


async def test_unix(start, tmp_path):
    for proxies, expected in ((("unix",), "alice"), (("127.0.0.1", "0.0.0.0/0", "::/0"), 401)):
        serving = await start(*proxies)
        port = serving.reactor.listenUNIX(str(tmp_path / "s"), serving.port.factory)
        try:
            line = b"X-Auth-Request-User: alice"
            assert await ask(serving, line, path=tmp_path / "s") == expected
        finally:
            await maybeDeferred(port.stopListening)


NAMES = [
    b"", b" ", b"(null)", b"a\x01b", b"a\tb", b"\x7f", b"\xff", b"\xc3", "a\u202eb".encode(),
    "a\u2028b".encode(), b"a" * 256,
]  # fmt: skip


async def test_no_names(start):
    serving = await start("127.0.0.1")
    for name in NAMES:
        assert await ask(serving, b"X-Auth-Request-User: " + name) == 401, name
    for lines in (
        (b"X-Auth-Request-User: alice", b"X-Auth-Request-User: alice"),
        (b"X-Auth-Request-User: alice", b"x-auth-request-user: root"),
        (b"X-Auth-Request-User:", b"X-Auth-Request-User: root"),
        (b"X-Auth-Request-User: alice", b"X-Auth-Request-Groups: a", b"X-Auth-Request-Groups: b"),
        (b"X-Auth-Request-User: alice", b"X-Auth-Request-Groups: a,\xff"),
        (b"X-Auth-Request-User: alice", b"X-Auth-Request-Groups: a\x01"),
    ):
        assert await ask(serving, *lines) == 401, lines
    assert await ask(serving, b"X-Auth-Request-User: " + b"a" * 255) == "a" * 255


async def test_groups(start):
    serving = await start("127.0.0.1", admitted=Admitted(groups=frozenset({"astro"})))
    user = b"X-Auth-Request-User: alice"
    for groups in (b"astro", b"a, astro ,b", b",astro,"):
        assert await ask(serving, user, b"X-Auth-Request-Groups: " + groups) == "alice"
    for groups in (b"", b"a", b"a astro", b"(null)", b"a;astro"):
        assert await ask(serving, user, b"X-Auth-Request-Groups: " + groups) == 403
    assert await ask(serving, b"X-Auth-Request-Groups: astro") == 401


async def test_other_sites(start):
    """A browser is known to the proxy whoever has it make a request."""
    serving = await start("127.0.0.1")
    headers = {USER: "alice"}
    assert (await serving.post(headers=headers)).status == 303
    other = {**headers, "Origin": "https://a.example"}
    assert (await serving.post(headers=other)).status == 403
    assert (await serving.post(headers={**headers, "Sec-Fetch-Site": "cross-site"})).status == 403


# Configuration


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "uws.toml"
        path.write_text(text + "\n" + PROGRAM)
        return config.load(str(path)).web.access

    return load


def test_configuration(load):
    access = load('[auth.proxy]\nheader = "A"\ngroups-header = "B"\nfrom = ["10.0.0.0/8"]')
    (authenticator,) = access.authenticators
    assert (authenticator._header, authenticator._groupsHeader) == ("A", "B")
    assert authenticator._proxies.trusts("10.1.1.1")
    assert not authenticator._proxies.trusts(None)
    assert access.anonymous is Anonymous.CREATE


@pytest.mark.parametrize(("text", "mistake"), [
    ("", "header: expected the header in which proxies name users, found none"),
    ("", "from: expected the addresses of the proxies, or unix, found none"),
    ("from = []", "from: expected the addresses of the proxies, or unix, found none"),
    ('from = ["localhost"]', "from: expected addresses, networks, or unix, found: 'localhost'"),
    ('from = ["10.0.0.1/8"]', "from: expected addresses, networks, or unix, found: 10.0.0.1/8"),
    ('from = "unix"', "from: expected a list of texts, found 'unix'"),
    ('header = "X: Y"', "header: expected the name of a header, found 'X: Y'"),
    ('header = "Ü"', "header: expected the name of a header"),
    ('groups-header = ""', "groups-header: expected the name of a header, found ''"),
    ('headers = "a"', "headers: this key means nothing here; did you mean header?"),
])  # fmt: skip
def test_mistakes(load, text, mistake):
    with pytest.raises(ConfigError) as caught:
        load(f"[auth.proxy]\n{text}")
    assert f"uws.toml: [auth.proxy] {mistake}" in str(caught.value)


# nginx


class Login(Resource):
    """What oauth2-proxy is to nginx."""

    isLeaf = True
    said: dict | None = None

    def render_GET(self, request):
        assert request.path == b"/oauth2/auth"
        if self.said is None:
            request.setResponseCode(401)
            return b""
        request.setResponseCode(202)
        for name, value in self.said.items():
            request.setHeader(name, value)
        return b""


@pytest.mark.slow
@needs("nginx")
async def test_nginx(start, tmp_path):
    """Configured as in the page: it replaces what clients send."""
    serving = await start("unix")
    unix = serving.reactor.listenUNIX(str(tmp_path / "s"), serving.port.factory)
    login = Login()
    site = Site(login)
    other = serving.reactor.listenTCP(0, site, interface="127.0.0.1")
    port = freePort()
    blocks = documented("docs/logins.rst")
    (conf,) = [block for block in blocks if block.fileName == "login.conf"]
    text = re.sub("(?m)^ *ssl_.*\n", "", conf.text)
    text = text.replace("443 ssl;", f"127.0.0.1:{port};").replace(
        "/run/uws/uws.sock", f"{tmp_path}/s"
    )
    text = text.replace("127.0.0.1:4180", f"127.0.0.1:{other.getHost().port}")
    places = "".join(
        f"{kind}_temp_path {tmp_path}/nginx-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = tmp_path / "nginx.conf"
    path.write_text(
        f"daemon off;\nuser root;\npid {tmp_path}/nginx.pid;\nerror_log {tmp_path}/nginx.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{text}}}\n"
    )
    nginx = subprocess.Popen(["nginx", "-e", f"{tmp_path}/nginx.log", "-c", str(path)])
    try:
        await until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        url = f"http://127.0.0.1:{port}/noted/async"

        async def who(**more):
            answer = await serving.get(url, **more)
            return (
                answer.headers.get("x-vo-authenticated") if answer.status == 200 else answer.status
            )

        forged = {USER: "root", GROUPS: "a", "Authorization": "Basic YTpi"}
        for headers in ({}, forged, {USER: ["root", "root"]}):
            for said, expected in (
                ({USER: "alice", GROUPS: "x"}, "alice"), ({USER: "alice"}, "alice"), ({}, None),
                (None, 401),
            ):  # fmt: skip
                login.said = said
                assert await who(headers=headers) == expected, (headers, said)
        login.said = {USER: "alice"}
        assert (await serving.post(url, {"label": "x"})).location.startswith(url)
    finally:
        nginx.terminate()
        await deferToThread(nginx.wait, 10)
        for one in (unix, other):
            await maybeDeferred(one.stopListening)
