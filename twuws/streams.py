"""
The runner's pipes: what the work prints, and how signals reach C{select}.
"""

from __future__ import annotations

import errno
import os
import signal

#: How much of the end of a stream is remembered, bytes.
TAIL = 4096

#: How much room is kept for the outcome, bytes.
RESERVED = 4096


class Pipe:
    """
    A pipe from the work to us.

    @ivar tail: the end of what came, or all of it where it is short.
    """

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


class Whole(Pipe):
    """
    What the work prints where that is a result: all of it is in a file, or else we know.

    A program need not mind that it could not write, so it does not write there itself.  Where
    there is trouble nobody reads the pipe any more, which ends most programs.

    @param most: how large the file may be, bytes; C{None} for any size.
    @ivar trouble: why not all of it is there.
    """

    def __init__(self, path: str, most: int | None) -> None:
        super().__init__()
        self.file = create(path)
        self.most = most
        self.size = 0
        self.trouble: OSError | None = None

    def pump(self) -> bool:
        isMore = super().pump()
        if self.trouble is None:
            return isMore
        os.close(self.source)
        return False

    def take(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-TAIL:]
        self.size += len(data)
        try:
            if self.most is not None and self.size > self.most:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.file, rest) :]
        except OSError as error:
            self.trouble = error

    def close(self) -> None:
        """All has come: there are file systems that say only now what could not be stored."""
        try:
            os.close(self.file)
        except OSError as error:
            self.trouble = self.trouble or error


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
