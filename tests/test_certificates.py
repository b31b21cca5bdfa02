"""Certificates of clients: whom they name, and which get no connection at all."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from pytest_twisted import blockon
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.threads import deferToThread

from tests.authority import DAY, PEM, Authority, Holder, emails, named
from tests.serving import serve
from tests.working import waitUntil
from twuws import config
from twuws.authenticators.certificates import CertificateAuthenticator, Named
from twuws.errors import ConfigError
from twuws.mtls import EndpointError
from twuws.web.access import Access, Anonymous
from twuws.web.bodies import requestFactory
from twuws.web.settings import WebSettings
from twuws.web.site import PoliteSite

PROGRAM = '[services.a]\ncommand = ["cat"]\n'
CA = Authority("CA")
OTHER = Authority("Other CA")
BELOW = Authority("Below", CA)
#: Of the same name as one that is trusted, and another key.
FALSE = Authority("CA")


def endpointOf(path, *authorities, port=0, **more):
    """The string for an endpoint, with its files."""
    key = CA.issueForHost().write(path / "server.pem")
    (path / "cas.pem").write_bytes(b"".join(one.pem for one in authorities))
    words = {"privateKey": key, "clientCAs": path / "cas.pem", "interface": "127.0.0.1", **more}
    said = "".join(f":{name}={quoteStringArgument(str(one))}" for name, one in words.items())
    return f"mtls:{port}{said}"


class Client:
    """Somebody with a certificate, or none, who trusts the server's authority."""

    def __init__(self, path, port, holder=None):
        self.port = port
        (path / "trusted.pem").write_bytes(CA.pem)
        self.context = ssl.create_default_context(cafile=path / "trusted.pem")
        if holder is not None:
            self.context.load_cert_chain(holder.write(path / "client.pem"))

    def connect(self):
        return http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.context)

    def ask(self, method="GET", path="/noted/async", connection=None, **headers):
        connection = connection or self.connect()
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.text = answer.read().decode()
        return answer


@pytest.fixture
def start(database, tmp_path):
    """
    Starts a service that takes certificates of some authorities; what asks it, with somebody's.
    """
    started = []

    async def start(*authorities, endpoint=None, access=None, **more):
        authenticator = CertificateAuthenticator(**more)
        rules = {"anonymous": Anonymous.CREATE, **(access or {})}
        web = WebSettings(access=Access(authenticators=(authenticator,), **rules))
        serving = await serve(database, tmp_path / "jobs", settings=web, slots=0)
        site = PoliteSite(
            serving.port.factory.resource, requestFactory(tmp_path / "jobs", web), serving.reactor
        )
        described = endpointOf(tmp_path, *(authorities or (CA,)), **(endpoint or {}))
        port = await serverFromString(serving.reactor, described).listen(site)
        started.append((serving, port, site))

        def ask(holder=None, *args, **kwargs):
            client = Client(tmp_path, port.getHost().port, holder)
            return deferToThread(client.ask, *args, **kwargs)

        ask.port = port.getHost().port
        return ask

    yield start

    async def stop(serving, port, site):
        await maybeDeferred(port.stopListening)
        await site.leave()
        await serving.stop()

    for one in started:
        blockon(Deferred.fromCoroutine(stop(*one)))


async def whoIs(asking):
    answer = await asking
    assert answer.status == 200, answer.text
    return answer.getheader("x-vo-authenticated")


async def refused(asking):
    """Whether there was no answer at all."""
    try:
        answer = await asking
    except OSError:  # ssl.SSLError is one, as is a reset
        return True
    raise AssertionError(answer.text)


# Who is who


async def test_subject(start):
    ask = await start()
    assert await whoIs(ask(CA.issue("alice"))) == "CN=alice,O=Tests"
    assert await whoIs(ask(CA.issue("a,b"))) == "CN=a\\,b,O=Tests"


async def test_common_name(start):
    ask = await start(named=Named.COMMON_NAME)
    assert await whoIs(ask(CA.issue("Ada L."))) == "Ada L."
    for subject in (named("a", "b"), x509.Name([]), named("a\nb"), named(" a")):
        answer = await ask(CA.issue(subject))
        assert (answer.status, "does not say who you are" in answer.text) == (401, True)


async def test_email(start):
    ask = await start(named=Named.EMAIL)
    assert await whoIs(ask(CA.issue("alice", emails("a@a.example")))) == "a@a.example"
    other = [x509.DNSName("a.example")]
    assert await whoIs(ask(CA.issue("alice", [*other, *emails("a@a.example")]))) == "a@a.example"
    for alternatives in ((), other, emails("a@a.example", "b@a.example")):
        answer = await ask(CA.issue("a@a.example", alternatives))
        assert (answer.status, "does not say who you are" in answer.text) == (401, True)


async def test_jobs_are_their_owners(start):
    """And URLs say https."""
    ask = await start()
    alice, bob = CA.issue("alice"), CA.issue("bob")
    answer = await ask(alice, "POST")
    assert answer.status == 303
    url = answer.getheader("location")
    assert url.startswith(f"https://localhost:{ask.port}/noted/async/")
    path = url.removeprefix(f"https://localhost:{ask.port}")
    assert (await ask(alice, "GET", path)).status == 200
    assert (await ask(bob, "GET", path)).status == 403


async def test_other_sites(start):
    """A browser shows its user's certificate whoever has it make a request."""
    ask = await start()
    headers = {"Origin": "https://a.example"}
    assert (await ask(CA.issue("alice"), "POST", **headers)).status == 403


async def test_without_tls():
    """Where nobody can show one there is none."""
    authenticator = CertificateAuthenticator()

    class Request:
        transport = object()

    assert await authenticator.authenticate(Request) is None


# Who gets a connection


def belowAUser():
    """Who has a certificate cannot make others."""
    user = CA.issue("alice")
    false = Authority("alice")
    false.key, false.chain = user.key, user.pem
    return false.issue("root")


ITSELF = Authority("alice")
BAD = {
    "none": None,
    "expired": CA.issue("alice", end=-DAY / 2),
    "not yet valid": CA.issue("alice", start=DAY / 2),
    "of another authority": OTHER.issue("alice"),
    "of one of the same name": FALSE.issue("alice"),
    "of nobody": Holder(certificate=ITSELF.certificate, key=ITSELF.key),
    "for servers": CA.issue("alice", usage=ExtendedKeyUsageOID.SERVER_AUTH),
    "below one that may not sign": belowAUser(),
}


async def test_bad(start):
    ask = await start()
    for what, holder in BAD.items():
        assert await refused(ask(holder)), what
    assert await whoIs(ask(CA.issue("alice"))) == "CN=alice,O=Tests"


async def test_not_required(start):
    """Who has none can be nobody; who has a wrong one cannot."""
    ask = await start(endpoint={"required": "no"})
    assert await whoIs(ask()) is None
    assert await whoIs(ask(CA.issue("alice"))) == "CN=alice,O=Tests"
    for what, holder in BAD.items():
        if holder is not None:
            assert await refused(ask(holder)), what


async def test_challenge(start):
    ask = await start(endpoint={"required": "no"}, access={"anonymous": Anonymous.NOTHING})
    answer = await ask()
    assert (answer.status, answer.getheader("www-authenticate")) == (401, "ivoa_x509")
    answer = await ask(CA.issue("alice"), "GET", "/noted/capabilities")
    assert "ivo://ivoa.net/sso#tls-with-certificate" in answer.text


async def test_authorities_below(start):
    """With the certificates in between, which clients send."""
    ask = await start()
    assert await whoIs(ask(BELOW.issue("alice"))) == "CN=alice,O=Tests"


async def test_issuers(start):
    ask = await start(CA, OTHER, issuers=[named("Other CA")])
    assert await whoIs(ask(OTHER.issue("alice"))) == "CN=alice,O=Tests"
    answer = await ask(CA.issue("alice"))
    assert (answer.status, "of an issuer" in answer.text) == (401, True)


async def test_expires_while_connected(start, tmp_path):
    now = [datetime.now(UTC)]
    ask = await start(now=lambda: now[0])
    client = Client(tmp_path, ask.port, CA.issue("alice"))
    connection = client.connect()
    try:
        answer = await deferToThread(client.ask, connection=connection)
        assert answer.status == 200
        now[0] += timedelta(days=2)
        answer = await deferToThread(client.ask, connection=connection)
        assert (answer.status, "has expired" in answer.text) == (401, True)
    finally:
        connection.close()


async def test_no_session_is_taken_up_again(start, tmp_path):
    """Each connection has its certificate looked at."""
    ask = await start()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = Client(tmp_path, ask.port, CA.issue("alice"))
        client.context.minimum_version = client.context.maximum_version = version

        def twice(client=client):
            reused, session = [], None
            for _ in range(2):
                connection = client.connect()
                connection.sock = client.context.wrap_socket(
                    socket.create_connection(("127.0.0.1", client.port), 20),
                    server_hostname="localhost",
                    session=session,
                )
                assert client.ask(connection=connection).status == 200
                reused.append(connection.sock and connection.sock.session_reused)
                session = connection.sock and connection.sock.session
                connection.close()
            return reused

        assert await deferToThread(twice) == [False, False]


# Endpoints


def make(path, **more):
    return serverFromString(None, endpointOf(path, CA, **more))


def test_key_and_certificate_apart(tmp_path):
    holder = BELOW.issueForHost()
    (tmp_path / "key.pem").write_bytes(holder.keyPEM)
    (tmp_path / "chain.pem").write_bytes(holder.pem)
    assert make(tmp_path, privateKey=tmp_path / "key.pem", certKey=tmp_path / "chain.pem")


def wrong(path, name, content):
    (path / "wrong.pem").write_bytes(content)
    return {name: path / "wrong.pem"}


def secretOf(key, encryption=None, form=serialization.PrivateFormat.PKCS8):
    return key.private_bytes(PEM, form, encryption or serialization.NoEncryption())


EC_KEY = ec.generate_private_key(ec.SECP256R1())
MISTAKES = {
    "privateKey= is missing": lambda _: {"privateKey": ""},
    "clientCAs= is missing": lambda _: {"clientCAs": ""},
    "required= is yes or no, not 'perhaps'": lambda _: {"required": "perhaps"},
    "wrong.pem has no certificates in PEM": lambda p: wrong(p, "clientCAs", b"nothing"),
    "wrong.pem has no private key in PEM": lambda p: wrong(p, "privateKey", CA.pem),
    "wrong.pem has a password": lambda p: wrong(
        p, "privateKey", secretOf(EC_KEY, serialization.BestAvailableEncryption(b"x")) + CA.pem
    ),
    "wrong.pem has a key that TLS has no use for": lambda p: wrong(
        p,
        "privateKey",
        secretOf(x25519.X25519PrivateKey.generate()) + CA.pem,
    ),
    "wrong.pem is not the certificate of": lambda p: wrong(p, "certKey", CA.pem),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_endpoints(tmp_path, mistake):
    """The configuration says what it is."""
    more = MISTAKES[mistake](tmp_path)
    with pytest.raises(EndpointError, match=re.escape(mistake)):
        make(tmp_path, **more)
    path = tmp_path / "uws.toml"
    path.write_text(f"listen = '{endpointOf(tmp_path, CA, **more)}'\n{PROGRAM}")
    with pytest.raises(ConfigError) as caught:
        config.load(str(path))
    assert re.search(
        rf"listen: expected a Twisted endpoint .*{re.escape(mistake)}", str(caught.value)
    )


def test_missing_file(tmp_path):
    path = tmp_path / "uws.toml"
    path.write_text(f"listen = 'mtls:0:privateKey=/none.pem:clientCAs=/none.pem'\n{PROGRAM}")
    with pytest.raises(ConfigError, match=r"\(No such file or directory: /none.pem\)"):
        config.load(str(path))


# Configuration


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "uws.toml"
        path.write_text(text + "\n" + PROGRAM)
        return config.load(str(path)).web.access

    return load


def test_configuration(load):
    access = load('[auth.certificates]\nname = "email"\nissuers = ["CN=Other CA,O=Tests"]')
    (authenticator,) = access.authenticators
    assert authenticator._named is Named.EMAIL
    assert authenticator._issuers == {OTHER.certificate.subject}
    (usual,) = load("[auth.certificates]").authenticators
    assert (usual._named, usual._issuers) == (Named.SUBJECT, None)


@pytest.mark.parametrize(("text", "mistake"), [
    ('name = "cn"', "name: expected subject, common-name, email, found 'cn'"),
    ("name = 7", "name: expected a text, found 7"),
    ('issuers = ["/C=DE/CN=x"]', "issuers: expected names such as CN=Example CA,O=Example"),
    ("issuers = []", "issuers: expected at least one: nobody can log in"),
    ('issuer = "a"', "issuer: this key means nothing here; did you mean issuers?"),
])  # fmt: skip
def test_mistakes(load, text, mistake):
    with pytest.raises(ConfigError) as caught:
        load(f"[auth.certificates]\n{text}")
    assert f"uws.toml: [auth.certificates] {mistake}" in str(caught.value)


def test_order(load):
    """What is sent on purpose comes first."""
    access = load(
        '[auth.certificates]\n[auth.proxy]\nheader = "A"\nfrom = ["unix"]\n'
        '[auth.oidc]\nissuer = "https://a"\naudience = "a"'
    )
    names = [type(one).__name__ for one in access.authenticators]
    assert names == ["OIDCAuthenticator", "ProxyAuthenticator", "CertificateAuthenticator"]


# All together


@pytest.mark.slow
def test_a_whole_service(tmp_path):
    """What it says of itself is https, and a job's work is done."""
    from tests.test_readme import freePort

    port = freePort()
    path = tmp_path / "uws.toml"
    path.write_text(
        f"listen = '{endpointOf(tmp_path, CA, port=port)}'\ndata-dir = '{tmp_path}/data'\n"
        '[auth.certificates]\nname = "common-name"\n[auth]\nanonymous = "nothing"\n'
        '[services.noted]\ncommand = ["echo", "done"]\n'
        '[services.noted.results.said]\nstream = "stdout"\n'
    )
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("twistd"), "-n", "--pidfile=", "uws", "-c", path],
            stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip
    try:
        waitUntil(lambda: "twuws serves" in log.read_text() or process.poll() is not None, 60)
        assert f"at https://127.0.0.1:{port}/" in log.read_text()
        client = Client(tmp_path, port, CA.issue("alice"))
        answer = client.ask("POST", "/noted/async?PHASE=RUN")
        url = answer.getheader("location")
        assert url.startswith(f"https://localhost:{port}/noted/async/"), answer.text
        job = url.partition(str(port))[2]
        waitUntil(lambda: client.ask(path=f"{job}/phase").text == "COMPLETED")
        assert client.ask(path=f"{job}/owner").text == "alice"
        assert client.ask(path=f"{job}/results/said").text == "done\n"
    finally:
        process.terminate()
        process.wait(60)
