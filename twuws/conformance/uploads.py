"""
Uploads as no careful client would send them: with strange names, too large, or not in full.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress

from twuws.conformance.answers import Answer
from twuws.conformance.outcomes import Failed, Skipped
from twuws.conformance.session import Session

#: How much of what is announced as too large is sent, bytes.
_SENT = 65536
_PIECE = b"0" * 65536


def isRefused(answer: Answer) -> bool:
    """Whether an answer says that the request is wrong, or its method not known."""
    return 400 <= answer.status < 500 or answer.status == 501


class UploadForm:
    """
    A form that makes a very short job with a file, written here byte by byte.

    The check is skipped if no parameter is known that takes a file.

    @ivar name: the parameter.
    @ivar part: the part that it names, where it names one.
    """

    part = "kit_part"

    def __init__(self, uws: Session) -> None:
        if uws.settings.file is None:
            raise Skipped("no parameter that takes a file is known; give --file NAME")
        self._uws = uws
        self.name = uws.settings.file
        self._boundary = f"kit{secrets.token_hex(16)}"
        self.mediaType = f"multipart/form-data; boundary={self._boundary}"

    def send(
        self, filename: bytes, content: bytes, mediaType: str, *, byName: bool = False
    ) -> Answer:
        """
        Send it.

        @param byName: whether the parameter names the part with the file, which is how UWS has
            it; else it is that part, which is how HTML has it.
        """
        parts = list(self._others())
        if byName:
            parts.append(self._part(self.name, f"param:{self.part}".encode()))
        parts.append(self._part(self.part if byName else self.name, content, filename, mediaType))
        body = b"".join(parts) + f"--{self._boundary}--\r\n".encode()
        return self._uws.post("", body=body, mediaType=self.mediaType)

    def prefersName(self) -> bool:
        """Whether the file has to be named; the check is skipped if no file is taken."""
        for byName in (True, False):
            answer = self.send(b"kit.txt", b"kit\n", "text/plain", byName=byName)
            if not isRefused(answer):
                self._uws.jobFrom(answer).delete()
                return byName
        raise Skipped(f"no file is taken for {self.name} (the answer is {answer.status})")

    @property
    def beginning(self) -> bytes:
        """The form as far as the file's content."""
        return self._part(self.name, b"", b"kit.txt", "text/plain").removesuffix(b"\r\n")

    def _others(self) -> Iterator[bytes]:
        """What a very short job needs beside the file."""
        chosen = self._uws.veryShort
        for name, value in chosen.pairs:
            if name.lower() != self.name.lower():
                yield self._part(name, value.encode("utf-8", "surrogateescape"))
        for name, filename, content in chosen.files:
            if name.lower() != self.name.lower():
                yield self._part(name, content, filename.encode(), "application/octet-stream")

    def _part(
        self, name: str, content: bytes, filename: bytes | None = None, mediaType: str = ""
    ) -> bytes:
        said = b'; filename="' + filename + b'"' if filename is not None else b""
        kind = f"Content-Type: {mediaType}\r\n".encode() if mediaType else b""
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        return head + said + b"\r\n" + kind + b"\r\n" + content + b"\r\n"


def tooMuch(
    uws: Session, beginning: bytes, mediaType: str, limit: int, *, inChunks: bool = False
) -> Answer:
    """
    The answer to a body that is larger than a service takes.

    Its length is said, and little is sent: who knows the length need not see more.  Or else, in
    chunks, it is sent in full, for nothing tells its length before.
    """
    total = limit + limit // 10 + 2 * _SENT

    def pieces(size: int) -> Iterator[bytes]:
        yield beginning
        for _ in range(0, size, len(_PIECE)):
            yield _PIECE

    headers = {"Connection": "close"} | ({} if inChunks else {"Content-Length": str(total)})
    wait = 5 * uws.settings.delay
    for _ in range(2 if inChunks else 1):  # a reset may overtake an answer
        with suppress(Failed):
            body = pieces(total if inChunks else _SENT)
            return uws.post(
                "", body=body, mediaType=mediaType, headers=headers,
                timeout=wait - uws.settings.timeout,
            )  # fmt: skip
    how = "were sent in chunks" if inChunks else "were announced, and their beginning sent"
    raise Failed(f"{total} bytes {how}, and no answer came within {wait:g} s; 413 is due.")
