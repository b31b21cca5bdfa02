"""
The runner's pipes: what the work prints, and how signals reach C{select}.
"""

from __future__ import annotations

import os
import signal

#: How much of the end of a stream is remembered, bytes.
TAIL = 4096

#: How much room is kept for the outcome, bytes.
RESERVED = 4096


class Pipe:
    """A pipe from the work to us."""

    def __init__(self) -> None:
        self.source, self.sink = os.pipe()
        self.tail = b""

    def fileno(self) -> int:
        return self.source

    def pump(self) -> bool:
        """Take what there is, once C{select} has said so; false at the end."""
        data = os.read(self.source, 1 << 16)
        self.take(data)
        return bool(data)

    def take(self, data: bytes) -> None:
        self.tail += data


class Output(Pipe):
    """What the work prints: the beginning of it in a file, the end in memory."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__()
        self.file = create(path)
        self.room = self.limit = limit

    def take(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-TAIL:]
        kept, self.room = data[: max(self.room, 0)], self.room - len(data)
        if self.room < 0 <= self.room + len(data):
            kept += f"\n[Only the first {self.limit} bytes are kept.]\n".encode()
        try:
            os.write(self.file, kept)
        except OSError:  # a full disk must not stop work that may not even need its output
            self.room = -1


class Wakeup(Pipe):
    """Where signals are noticed by C{select}."""

    def __init__(self) -> None:
        super().__init__()
        os.set_blocking(self.sink, False)
        signal.set_wakeup_fd(self.sink, warn_on_full_buffer=False)

    def take(self, data: bytes) -> None:
        pass


def create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def reserve(path: str) -> None:
    """Take the room for an outcome without details now, for later the disk may be full."""
    handle = create(path)
    try:
        os.write(handle, bytes(RESERVED))
    finally:
        os.close(handle)
