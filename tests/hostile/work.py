"""
Work that is as bad as it can be: a job class of the service that is attacked.

The service runs it in a process of its own, as the same user, and so it can do what it likes with
files; what counts is what the service makes of these.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twuws import UWSJob, parameters
from twuws.errors import JobFailure

#: What is in each result.
CONTENT = b"<script>alert(1)</script>"
#: Names that are to lead elsewhere, or cannot be.
NAMES = (
    "..", ".", "", "../up", "../../up", "../job.json", "../outcome.json", "/tmp/up", "a/b", "a\0b",
    "\0", "a" * 201, "a" * 4096, "\xe9" * 2048, "\udcff\udcfe", "a\nb", "a\r\nX-Kit: yes",
    "a\u2028b", ".hidden", "..\\up", "%2e%2e%2fup", "~root", "-rf", "a;b\"c'd", "$(id)",
    "<script>", "\u202etxt", "con", "a b", "\xe9", "\U0001f600", "out.part1",
)  # fmt: skip
#: What programs call what they make, which some browser would run; and what is none.
MEDIA_TYPES = (
    "text/html", "TEXT/HTML; charset=utf-7", " text/html", "image/svg+xml", "application/xhtml+xml",
    "text/xml", "application/xml", "text/xsl", "application/javascript", "text/css",
    "multipart/x-mixed-replace; boundary=a", "message/rfc822", "application/x-shockwave-flash",
    "text/plain\r\nX-Kit: yes", "text/plain\nX-Kit: yes", "text/plain,text/html",
    "text/plain;text/html", "text/plain text/html", "", "x", "a/" + "b" * 4000,
    "text/html\0", "\xe9", "audio/x\ttext/html", "text/plain", "image/png", "application/pdf",
    "text/csv",
)  # fmt: skip
#: What a result's file is replaced by, as L{Odd._replaced} has it.
REPLACED = ("link", "hard link", "link to a directory", "directory", "pipe", "device", "nothing",
            "shorter", "a link above")  # fmt: skip


class Odd(UWSJob):
    """Does what C{what} says with its results."""

    what = parameters.Text()
    target = parameters.Text(default="")

    def run(self):
        how: Callable[[], None] = getattr(self, "_" + self.what.partition(":")[0])
        how()

    def _result(self, id: str, mediaType: str = "text/plain", file: str | None = None) -> None:
        with self.openResult(id, mediaType, file) as out:
            out.write(CONTENT)

    def _names(self) -> None:
        """Each name as the id of a result, and as the name of its file."""
        for number, name in enumerate(NAMES):
            with suppress(ValueError, OSError):
                self._result(name, file=f"file{number}")
            with suppress(ValueError, OSError):
                self._result(f"id{number}", file=name)
            with suppress(ValueError, OSError):
                self._result(name)

    def _types(self) -> None:
        for number, mediaType in enumerate(MEDIA_TYPES):
            self._result(f"r{number}", mediaType, f"r{number}.html")

    def _replaced(self) -> None:
        """A result that is whole, and then something else."""
        kind = self.what.partition(":")[2]
        self._result("out")
        path = Path("out")
        size = path.stat().st_size
        path.unlink()
        if kind == "link":
            path.symlink_to(self.target)
        elif kind == "hard link":
            path.hardlink_to(self.target)
        elif kind == "link to a directory":
            path.symlink_to("/etc")
        elif kind == "directory":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "shorter":
            path.write_bytes(bytes(size - 1))
        elif kind == "a link above":
            results = Path.cwd()
            os.chdir("..")
            shutil.rmtree(results)
            results.symlink_to(Path(self.target).parent)

    def _events(self) -> None:
        """Results that are told of in the file itself, with files that are none of it."""
        lines = []
        for number, file in enumerate((self.target, "../job.json", "../../../../secret",
                                       "../parameters/x", "", None, 1, ["a"], *NAMES)):  # fmt: skip
            lines += [
                {"id": f"e{number}", "file": file, "mediaType": "text/plain", "size": 1},
                {"id": file, "file": "file", "mediaType": "text/plain", "size": -1},
                {"id": f"m{number}", "file": "file", "mediaType": file, "size": "x"},
            ]
        Path("file").write_bytes(CONTENT)
        with Path("../events.jsonl").open("a") as events:
            for line in lines:
                events.write(json.dumps({"event": "result", **line}) + "\n")
            forged = {"event": "progress", "fraction": 1e999, "message": "a\n2026-01-01T b" * 999}
            events.write(json.dumps(forged) + "\n")
            events.write("[" * 100_000 + "\n" + "x" * 2_000_000 + "\n")

    def _says(self) -> None:
        """Fails with lines that would be those of a log, and has found where the runner's go."""
        line = "2026-01-01T00:00:00+0000 [forged#info] root did it"
        with Path(f"/proc/{os.getppid()}/fd/2").open("w") as ofRunner:
            ofRunner.write(f"a\r\n{line}\x1b[2J\x9b2J\n{line}\r{line}\u2028{line}\n")
        print(f"a\r\n{line}\x1b[2J")  # noqa: T201, what it prints is kept
        raise JobFailure(f"a\n{line}\r{line}\u2028{line}\x1b[2J", f"<script>\n{line}")

    def _surroundings(self) -> None:
        """All that it finds out about those beside it that anybody may."""
        with self.openResult("out", "text/plain") as out:
            out.write(repr(dict(os.environ)).encode())
            out.write(Path("../job.json").read_bytes())
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    out.write((process / "cmdline").read_bytes() + b"\n")


class Alone(Odd):
    """The same with a runner that was started: what its stderr is can be opened by the work."""

    importedOnce = False
