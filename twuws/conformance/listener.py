"""
Listening whether a service calls somebody whom it should not.
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

from twuws.conformance.outcomes import Skipped
from twuws.conformance.settings import Settings

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nkit\n"


class Listener:
    """
    A port of this machine, at the address that it has for the service; for C{with}.

    @ivar calls: how many connections came.
    @ivar address: the address of this machine; C{port} where it listens there.
    @ivar isBeside: whether the service is on this machine, too.
    """

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.listURL)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.calls = 0
        try:
            family, kind, _, _, there = socket.getaddrinfo(
                parts.hostname, port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind) as probe:
                probe.connect(there)  # sends nothing, and tells the address
                self.address = str(probe.getsockname()[0])
            self.isBeside = self.address == there[0]
            self._socket = socket.create_server((self.address, 0), family=family)
            self._socket.settimeout(0.05)
            self.port = int(self._socket.getsockname()[1])
        except OSError as e:
            raise Skipped(f"the kit cannot listen whether the service calls it: {e}") from None

    def __enter__(self) -> Listener:
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
        self._thread.join(1.0)  # until then the port is open

    @property
    def host(self) -> str:
        """The address as a URL has it."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.calls += 1
            with connection:
                connection.settimeout(1.0)
                try:
                    connection.recv(65536)
                    connection.sendall(_ANSWER)
                except OSError:
                    continue
