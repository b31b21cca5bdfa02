"""Requests that are under way when a service is stopped: they are answered."""

from __future__ import annotations

import signal
import socket
import threading
import time
import urllib.parse
import urllib.request

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from tests.working import until, waitUntil
from twuws.testing import running
from twuws.workerservice import Listening


@pytest.fixture
def service():
    with running() as service:
        yield service


def connect(service):
    url = urllib.parse.urlsplit(service.url)
    connection = socket.create_connection((url.hostname, url.port), timeout=30)
    return connection, url.netloc


def isRefused(service):
    try:
        connect(service)[0].close()
    except OSError:
        return True
    return False


def read(connection):
    answer = b""
    while data := connection.recv(65536):
        answer += data
    return answer.decode()


@pytest.mark.slow
def test_uploadUnderWay(service):
    """Who has begun to send a job when the service is told to stop has a job afterwards."""
    body = b"seconds=0"
    connection, host = connect(service)
    head = (
        f"POST /sleep/async HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\n"
    )
    with connection:
        connection.sendall(head.encode() + body[:4])
        urllib.request.urlopen(service.url).close()  # by now it has read that
        service.process.send_signal(signal.SIGTERM)
        waitUntil(lambda: isRefused(service))
        connection.sendall(body[4:])
        answer = read(connection)
    assert answer.startswith("HTTP/1.1 303 ")
    service.process.wait(30)
    service.restart()
    url = answer.partition("\r\nLocation: ")[2].partition("\r\n")[0]
    with urllib.request.urlopen(url + "/phase") as phase:
        assert phase.read() == b"PENDING"


@pytest.mark.slow
def test_whoWaits(service):
    """Who waits for a job hears at once how it is, rather than nothing."""
    form = urllib.parse.urlencode({"seconds": "600", "PHASE": "RUN"}).encode()
    with urllib.request.urlopen(service.jobList("sleep"), form) as answer:
        url = answer.url
    while True:
        with urllib.request.urlopen(url + "/phase") as phase:
            if phase.read() == b"EXECUTING":
                break
    found = []

    def wait():
        with urllib.request.urlopen(url + "?WAIT=60", timeout=90) as answer:
            found.append(answer.read().decode())

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.3)  # nobody outside can see that it waits
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    waiter.join(30)
    assert "<uws:phase>EXECUTING<" in found[0]
    service.process.wait(30)
    assert time.monotonic() - began < 8


@pytest.mark.slow
def test_whoNeverEnds(service):
    """Somebody who sends half a request and no more does not keep a service from stopping."""
    connection, host = connect(service)
    with connection:
        connection.sendall(f"POST /sleep/async HTTP/1.1\r\nHost: {host}\r\nConte".encode())
        urllib.request.urlopen(service.url).close()
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(30)
    assert "requests are cut off that have not ended: 1" in service.log()


async def test_all_who_have_come():
    """However many have got through to a port by then, and however few came before."""
    came = []

    class Seen(Protocol):
        def connectionMade(self):
            came.append(self.transport)

    port = reactor.listenTCP(0, Factory.forProtocol(Seen), interface="127.0.0.1")
    port.numberAccepts = 1  # as Twisted has it where one came at a time
    clients = [socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in range(20)]
    Listening(port).stopService()
    for client in clients:
        client.close()
    await until(lambda: not any(transport.connected for transport in came))
    assert len(came) == 20
