"""
A process that reads or sends what is long: C{python -m bench.transfer}.

Each line of its stdin is a wish in JSON: C{{"port", "path"}} to read, with C{"upload"} to send a
form with a file of so many bytes; each line of its stdout is what came of it.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

_HEAD = (
    b'--bench\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)
_TAIL = b"\r\n--bench--\r\n"


def _send(one: socket.socket, wish: dict[str, Any]) -> None:
    """The request, whatever it is."""
    host = f"Host: 127.0.0.1:{wish['port']}\r\nConnection: close\r\n"
    if "upload" not in wish:
        one.sendall(f"GET {wish['path']} HTTP/1.1\r\n{host}\r\n".encode())
        return
    size = len(_HEAD) + wish["upload"] + len(_TAIL)
    one.sendall(
        f"POST {wish['path']} HTTP/1.1\r\n{host}Content-Type: multipart/form-data; boundary=bench"
        f"\r\nContent-Length: {size}\r\n\r\n".encode()
        + _HEAD
    )
    block, left = bytes(range(256)) * 4096, wish["upload"]
    while left:
        one.sendall(block[: min(left, len(block))])
        left -= min(left, len(block))
    one.sendall(_TAIL)


def transfer(wish: dict[str, Any]) -> dict[str, Any]:
    """
    Do it.

    @return: C{status}; C{first} and C{seconds}, after which the answer began and was whole;
        C{bytes}, its length with all headers; C{location}, where it leads to.
    """
    with socket.create_connection(("127.0.0.1", wish["port"])) as one:
        began = time.perf_counter()
        _send(one, wish)
        head = one.recv(1 << 16)
        first = time.perf_counter() - began
        total, buffer = len(head), bytearray(1 << 20)
        while count := one.recv_into(buffer):
            total += count
    _, _, location = head.decode("latin-1").partition("\r\nLocation: ")
    return {
        "status": int(head[9:12]),
        "first": first,
        "seconds": time.perf_counter() - began,
        "bytes": total,
        "location": location.partition("\r\n")[0],
    }


def main() -> None:
    """Do what stdin says."""
    while line := sys.stdin.readline():
        sys.stdout.write(json.dumps(transfer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
