"""
docs/proxies.rst does what it says: nginx and Apache are started with what is on the page, other
paths and ports apart, and whole jobs go through them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from tests.authority import Authority
from tests.pages import documented
from tests.test_operation import needs
from tests.test_readme import freePort
from tests.working import waitUntil
from twuws.testing import running

pytestmark = pytest.mark.slow

PAGE = "docs/proxies.rst"
SERVICE = """
[services.cat]
command = ["cat", "{f}"]
[services.cat.parameters.f]
type = "File"
required = true
[services.cat.results."what it says"]
type = "text/plain"
file = "out"
stream = "stdout"
"""

#: What a client that means ill says of itself.
FORGED = {
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=http",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Server": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "X-Auth-Request-User": "CN=root,O=Tests",
}
CA, OTHER = Authority("CA"), Authority("Other")


def block(name):
    (found,) = [one for one in documented(PAGE) if one.fileName == name]
    return found.text


class Place:
    """A directory in which all is that the page has elsewhere."""

    def __init__(self, path):
        self.path = path
        self.port = freePort()
        host = CA.issueForHost()
        (path / "ca.pem").write_bytes(CA.pem)
        (path / "uws.pem").write_bytes(host.pem)
        (path / "uws.key").write_bytes(host.keyPEM)
        self.paths = {
            "/etc/ssl/uws.pem": path / "uws.pem",
            "/etc/ssl/private/uws.key": path / "uws.key",
            "/etc/ssl/users.pem": path / "ca.pem",
            "/run/uws/uws.sock": path / "uws.sock",
            "/var/log/uws/audit.log": path / "audit.log",
            "/var/log/nginx/uws.log": path / "access.log",
            "/var/log/apache2/uws.log": path / "access.log",
        }

    def here(self, text):
        for there, place in self.paths.items():
            text = text.replace(there, str(place))
        return text

    def audited(self):
        text = (self.path / "audit.log").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def place():
    """With a short path: it has a socket."""
    path = Path(tempfile.mkdtemp(prefix="twuws-proxies-"))
    path.chmod(0o755)
    place = Place(path)
    (path / "uws.toml").write_text(place.here(block("uws.toml")) + SERVICE)
    with running(path / "uws.toml", listen=f"unix:{path}/uws.sock:mode=660", dataDir=path / "data"):
        yield place
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def started(command, place, port):
    process = subprocess.Popen(command, cwd=place.path)

    def isUp():
        assert process.poll() is None, [one.read_text() for one in place.path.glob("*.log")]
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    try:
        waitUntil(isUp)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def nginx(place, conf, port):
    """nginx with a part of its configuration for C{http}."""
    temporary = "".join(
        f"{kind}_temp_path {place.path}/nginx-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    path = place.path / f"nginx-{port}.conf"
    path.write_text(
        f"daemon off;\n{user}pid {place.path}/nginx-{port}.pid;\n"
        f"error_log {place.path}/error.log;\n"
        f"events {{}}\nhttp {{\n{temporary}{conf}}}\n"
    )
    with started(["nginx", "-e", f"{place.path}/error.log", "-c", str(path)], place, port):
        yield port


MODULES = Path("/usr/lib/apache2/modules")


@contextmanager
def apache(place, conf, port, *more):
    """Apache with one host, and the modules that Debian has switched on and the page names."""
    names = ["mpm_event", "authz_core", "authn_core", "unixd", "ssl", "headers", "proxy",
             "proxy_http", "reqtimeout", "setenvif", "socache_shmcb", *more]  # fmt: skip
    # Some of them are built in, and not to be loaded.
    modules = "".join(
        f"LoadModule {name}_module {MODULES}/mod_{name}.so\n"
        for name in names
        if (MODULES / f"mod_{name}.so").exists()
    )
    user = "User www-data\nGroup root\n" if os.geteuid() == 0 else ""
    path = place.path / f"apache-{port}.conf"
    path.write_text(
        f'ServerRoot "{place.path}"\nServerName localhost\nPidFile {place.path}/apache-{port}.pid\n'
        f"DefaultRuntimeDir {place.path}\nMutex file:{place.path} default\n"
        f"ErrorLog {place.path}/error.log\nListen 127.0.0.1:{port}\n{modules}{user}{conf}"
    )
    with started(["apache2", "-D", "FOREGROUND", "-f", str(path)], place, port):
        yield port


@contextmanager
def front(place, which, *replaced):
    """One of the two, as on the page: its URL, and what asks it, with a certificate or without."""
    port = freePort()
    start, line = {
        "nginx": (nginx, ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")),
        "apache": (apache, ("<VirtualHost *:443>", f"<VirtualHost *:{port}>")),
    }[which]
    conf = place.here(block(f"{which}.conf"))
    for old, new in (line, *replaced):
        assert old in conf
        conf = conf.replace(old, new)
    with start(place, conf, port):
        url = f"https://localhost:{port}"

        def ask(method, path, holder=None, **more):
            where = path if path.startswith("http") else url + path
            cert = str(holder.write(place.path / "client.pem")) if holder else None
            more = {"timeout": 60, "allow_redirects": False, **more}
            return requests.request(
                method, where, verify=str(place.path / "ca.pem"), cert=cert, **more
            )

        yield SimpleNamespace(url=url, ask=ask, place=place, name=which)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("nginx", marks=needs("nginx")),
        pytest.param("apache", marks=needs("apache2")),
    ],
)
def proxy(request, place):
    (place.path / "access.log").write_text("")
    with front(place, request.param) as proxy:
        yield proxy


def jobOf(proxy, holder=None, **more):
    files = {"f": ("f", b"what was sent")}
    made = proxy.ask("POST", "/cat/async", holder, files=files, params={"PHASE": "RUN"}, **more)
    assert made.status_code == 303, made.text
    return made.headers["location"]


def test_job(proxy):
    """All of one, from an upload to a result; all URLs are as the client knows the proxy."""
    url = jobOf(proxy)
    assert url.startswith(f"{proxy.url}/cat/async/")
    while "COMPLETED" not in (job := proxy.ask("GET", url, params={"WAIT": "20"})).text:
        assert "ERROR" not in job.text
    assert job.headers["strict-transport-security"] == "max-age=31536000"
    hrefs = [part for part in job.text.split('"') if part.startswith("http") and "/cat/" in part]
    assert hrefs == [f"{url}/results/what%20it%20says"]
    assert f"{url}/parameters/f" in job.text
    assert proxy.ask("GET", hrefs[0]).text == "what was sent"
    part = proxy.ask("GET", hrefs[0], headers={"range": "bytes=5-7"})
    assert (part.status_code, part.text) == (206, "was")
    assert proxy.ask("DELETE", url).headers["location"] == f"{proxy.url}/cat/async"
    assert proxy.ask("GET", url).status_code == 404


def test_addresses(proxy):
    """The record has the client's, whatever it says."""
    for headers in ({}, FORGED):
        jobOf(proxy, headers=headers)
        assert proxy.place.audited()[-1]["from"] == "127.0.0.1"


def test_forged(proxy):
    """What a client says of itself counts for nothing."""
    url = jobOf(proxy, headers=FORGED)
    assert url.startswith(f"{proxy.url}/cat/async/")
    job = proxy.ask("GET", url, headers=FORGED)
    assert "evil" not in job.text
    assert '<uws:ownerId xsi:nil="true"/>' in job.text
    last = proxy.place.audited()[-1]
    assert (last["who"], last["by"]) == (None, "none")
    # Not even beside a true one, nor twice.
    alice = CA.issue("alice")
    url = jobOf(proxy, alice, headers=FORGED)
    assert proxy.ask("GET", url + "/owner", alice, headers=FORGED).text == "CN=alice,O=Tests"
    assert proxy.ask("GET", url + "/owner", headers=FORGED).status_code == 401


def test_headersThatComeTwice(proxy):
    """A proxy that replaced the first only would pass on the second."""
    import ssl

    context = ssl.create_default_context(cafile=str(proxy.place.path / "ca.pem"))
    port = int(proxy.url.rpartition(":")[2])
    lines = [f"{name}: {value}" for name, value in FORGED.items() for _ in range(2)]
    lines += [f"{name.lower().replace('-', '_')}: {value}" for name, value in FORGED.items()]
    head = "\r\n".join(
        ["GET /cat/async HTTP/1.1", f"Host: localhost:{port}", "Connection: close", *lines]
    )
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as s,
    ):
        s.sendall(head.encode() + b"\r\n\r\n")
        said = b""
        while more := s.recv(65536):
            said += more
    assert said.startswith(b"HTTP/1.1 200"), said
    assert b"x-vo-authenticated" not in said.lower()
    assert b"evil" not in said


def test_certificates(proxy):
    """A user's is a name; another authority's opens nothing."""
    alice = CA.issue("Ada L.")
    url = jobOf(proxy, alice)
    assert proxy.ask("GET", url + "/owner", alice).text == "CN=Ada L.,O=Tests"
    assert proxy.ask("GET", url).status_code == 401
    assert proxy.ask("GET", url, CA.issue("bob")).status_code == 403
    try:
        answer = proxy.ask("GET", url, OTHER.issue("Ada L."))
    except requests.ConnectionError:
        return
    assert answer.status_code == 400


def test_shared(proxy):
    """A shared URL leads through the proxy, and is not in its log; nor is a query."""
    alice = CA.issue("alice")
    url = jobOf(proxy, alice)
    shared = proxy.ask("POST", url + "/share", alice).headers["location"]
    assert shared.startswith(f"{proxy.url}/cat/shared/")
    assert proxy.ask("GET", shared + "/owner", params={"x": "SECRET"}).text == "CN=alice,O=Tests"
    proxy.ask("GET", url + "/phase", alice, params={"x": "SECRET"})
    log = proxy.place.path / "access.log"
    waitUntil(lambda: url.rpartition("/")[2] + "/phase" in log.read_text())
    assert shared.rpartition(".")[2] not in log.read_text()
    assert "SECRET" not in log.read_text()


@needs("nginx")
def test_tooLarge(place):
    """What is announced to be too large is not even sent."""
    limit = ("client_max_body_size 4g;", "client_max_body_size 100k;")
    with front(place, "nginx", limit) as proxy:
        with suppress(requests.ConnectionError):  # it may have closed before it was read
            files = {"f": ("f", b"x" * 400_000)}
            assert proxy.ask("POST", "/cat/async", files=files).status_code == 413
        assert proxy.ask("POST", "/cat/async", files={"f": b"x"}).status_code == 303
        assert "too large body" in (place.path / "error.log").read_text()


# docs/logins.rst


@needs("apache2")
def test_loginsOfApache(place):
    """What the page has for Apache, with the login that it can do by itself."""
    (conf,) = [one.text for one in documented("docs/logins.rst") if one.language == "apache"]
    htpasswd = place.path / "passwords"
    htpasswd.write_text("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")  # password
    assert "AuthType openid-connect" in conf
    login = f"AuthType Basic\nAuthName uws\nAuthBasicProvider file\nAuthUserFile {htpasswd}"
    conf = place.here(conf.replace("AuthType openid-connect", login))
    port = freePort()
    more = ("auth_basic", "authn_file", "authz_user")
    with apache(place, f"<VirtualHost *:{port}>\n{conf}</VirtualHost>\n", port, *more):
        url = f"http://127.0.0.1:{port}"
        assert requests.get(f"{url}/cat/async", timeout=30).status_code == 401
        forged = {"X-Auth-Request-User": "root", "X-Auth-Request-Groups": "admins"}
        for headers in ({}, forged):
            made = requests.post(
                f"{url}/cat/async",
                auth=("alice", "password"),
                files={"f": b"x"},
                headers=headers,
                allow_redirects=False,
                timeout=30,
            )
            assert made.status_code == 303, made.text
            job = made.headers["location"]
            assert job.startswith(f"{url}/cat/async/")
            owner = requests.get(f"{job}/owner", auth=("alice", "password"), timeout=30)
            assert owner.text == "alice"
