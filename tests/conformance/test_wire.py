"""The checks of the parts J, K, L and V where less is there, or the kit knows less or more."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conformance.rightserver import RightServer
from tests.conformance.test_checks import CHECKS, USERS, outcomeOf, settingsFor
from tests.remote import certificate
from twuws.conformance.listener import Listener
from twuws.conformance.outcomes import Failed, Status
from twuws.conformance.report import cited
from twuws.conformance.runner import perform
from twuws.conformance.session import Session
from twuws.conformance.settings import Credentials, ParameterSet

UPLOAD = ParameterSet(files=(("table", "t.csv", b"a,b\n"),))


@pytest.mark.parametrize(
    ("number", "fault", "message"),
    [
        ("V1", "no vosi", "/uws/capabilities, and a plain UWS needs none"),
        ("V4", "no availability", "/uws/availability, and a plain UWS needs none"),
        ("V5", "no vosi", "/uws/capabilities, and a plain UWS needs none"),
        ("V2", "no capability of UWS", "jobs are part of ivo://ivoa.net/std/tap there"),
        ("V3", "no capability of UWS", "no capability is that of UWS 1.1"),
        ("L1", "no multipart", "takes no multipart forms"),
        ("L8", "controlsForbidden", "does not let clients change the destruction"),
    ],
)
def test_what_is_not_there(number, fault, message):
    outcome = outcomeOf(CHECKS[number], fault)
    assert outcome.status is Status.SKIPPED, outcome.message
    assert message in outcome.message


def test_capabilities_alone_are_enough():
    assert outcomeOf(CHECKS["V5"], "no availability").status is Status.PASSED


@pytest.mark.parametrize("number", ["95", "102", "L1", "L2", "L11", "L14", "L23"])
def test_a_very_short_job_with_a_file(number):
    outcome = outcomeOf(CHECKS[number], veryShort=UPLOAD)
    assert outcome.status is Status.PASSED, outcome.message


@pytest.mark.parametrize("number", ["L1", "L2", "L10", "L11", "L22"])
def test_without_a_parameter_for_text(number):
    outcome = outcomeOf(CHECKS[number], text=None, file=None)
    assert outcome.status is Status.PASSED, outcome.message


def test_skipped():
    outcome = outcomeOf(CHECKS["98"], file=None)
    assert "give --file NAME" in outcome.message
    outcome = outcomeOf(CHECKS["L22"], veryShort=UPLOAD)
    assert "L1 sends one in chunks" in outcome.message


def test_xml_is_refused_altogether():
    outcome = outcomeOf(CHECKS["95"], "no xml")
    assert outcome.status is Status.PASSED, outcome.message


@pytest.mark.parametrize("number", ["L22", "99", "V1"])
def test_with_users(number):
    alice = Credentials(user="alice", password=USERS["alice"])
    with RightServer(users=USERS, faults=["no anonymous"]) as server:
        uws = Session(settingsFor(server.url, CHECKS[number], credentials=alice))
        outcome = perform(CHECKS[number], uws)
        uws.close()
        assert not server.jobs.all()
    assert outcome.status is Status.PASSED, outcome.message


def test_more_is_allowed():
    more = {"limit": 100_000_000}
    assert outcomeOf(CHECKS["99"], "takesAnySize", **more).status is Status.PASSED


@pytest.mark.parametrize("trust", [{"verify": False}, {"ca": "it"}, {}])
def test_tls(tmp_path, trust):
    made, path = certificate("127.0.0.1"), tmp_path / "certificate"
    key = made.privateKey.original.to_cryptography_key()
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.dumpPEM() + key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    more = {"ca": path} if "ca" in trust else trust
    server = RightServer()
    server.url = server.documents.url = server.url.replace("http", "https", 1)
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    with server:
        uws = Session(settingsFor(server.url, **more))
        outcome = perform(CHECKS["L22"], uws)
        if trust:
            assert outcome.status is Status.PASSED, outcome.message
        else:
            with pytest.raises(Failed, match="CERTIFICATE_VERIFY_FAILED"), uws.wire():
                pass
        uws.close()


def test_nobody_is_there():
    with RightServer() as server:
        uws = Session(settingsFor(server.url))
    with pytest.raises(Failed, match="There is no connection to 127.0.0.1"), uws.wire():
        pass


def test_hanging_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        uws = Session(settingsFor(f"http://127.0.0.1:{port}/async", timeout=0.1))
        with uws.wire() as wire:
            taken, _ = server.accept()
            assert wire.send(wire.head("GET", {}))
            assert not wire.says(0.0)
            with pytest.raises(Failed, match="There is no answer to GET"):
                wire.answer()
        with uws.wire() as wire:
            server.accept()[0].close()
            assert wire.says(5.0)
            assert wire.answer() is None
            assert not all(wire.send(b"x" * 100_000) for _ in range(100))
        taken.close()


def test_listening():
    with Listener(settingsFor("http://127.0.0.1/async")) as listener:
        assert (listener.isBeside, listener.host) == (True, "127.0.0.1")
        for number in (1, 2):
            with socket.create_connection((listener.address, listener.port)) as caller:
                caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert caller.recv(100).startswith(b"HTTP/1.1 200")
            assert listener.calls == number
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((listener.address, listener.port)).close()


def test_sections():
    assert {cited(one) for one in CHECKS.values()} >= {"", "UWS 1.1, 2.2.3.1", "VOSI 3.1"}


@pytest.mark.parametrize("times", [1, 2])
def test_a_connection_that_is_closed_as_somebody_asks(times):
    """A service may do that to one that was kept; but not to one that is new."""

    def serve():
        with server.accept()[0] as kept:
            kept.recv(10_000)
            kept.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
            kept.recv(10_000)
        for number in range(2, times + 2):
            with server.accept()[0] as new:
                new.recv(10_000)
                if number > times:
                    new.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        served = pool.submit(serve)
        uws = Session(settingsFor(f"http://127.0.0.1:{server.getsockname()[1]}", CHECKS["1"]))
        assert uws.get().body == b"1"
        if times == 1:
            assert uws.get().body == b"2"
        else:
            with pytest.raises(Failed, match="There is no answer to GET"):
                uws.get()
            assert uws.get().body == b"2"
        uws.close()
        served.result(10)
