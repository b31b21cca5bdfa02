"""
The processes that take part: started, looked at, and ended.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

#: Where C{bench} is, and in a checkout C{twuws}.
ROOT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    """What every process here is given, so that all import the same."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Child:
    """
    A process; one that reads its stdin ends with that.

    @param log: the file for what it says of itself; it is shown when it fails.
    """

    def __init__(self, args: Sequence[str], log: Path, **more: Any) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process: subprocess.Popen[str] = subprocess.Popen(
                args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
                cwd=ROOT, env=environment(), **more,
            )  # fmt: skip
        self._ps = psutil.Process(self.process.pid)

    @classmethod
    def module(cls, name: str, *args: str, log: Path) -> Child:
        """Run one of our own programs."""
        return cls([sys.executable, "-m", name, *args], log)

    @property
    def stdin(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def line(self) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        found = self.process.stdout.readline()
        if not found:
            raise RuntimeError(f"{self.process.args!r} has ended: {self.said()}")
        return found.rstrip("\n")

    def ask(self, wish: Any) -> Any:
        """Send a line of JSON, and return what it answers."""
        self.tell(wish)
        return json.loads(self.line())

    def tell(self, wish: Any) -> None:
        self.stdin.write(json.dumps(wish) + "\n")
        self.stdin.flush()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-2000:]

    def cpu(self) -> float:
        """How long it has kept a core busy, s."""
        times = self._ps.cpu_times()
        return float(times.user + times.system)

    def treeCpu(self) -> float:
        """The same, with all that it has started."""
        total = 0.0
        for one in (self._ps, *self._ps.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> float:
        """What it has in memory, MB."""
        return float(self._ps.memory_info().rss / 1e6)

    def forgetPeak(self) -> None:
        """Let L{peak} tell of what is from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        """The most that it has had in memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    def end(self) -> None:
        """End it in order, or else at once."""
        self.stdin.close()
        if not self._hasEnded(1 if self.process.poll() is None else 0):
            self.process.terminate()
            if not self._hasEnded(30):
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _hasEnded(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def freePort() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(condition: Callable[[], Any], what: str, seconds: float = 60, every: float = 0.01) -> Any:
    """
    Wait until a condition holds, and return what it says.

    @raise TimeoutError: if it never does.
    """
    giveUpAt = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > giveUpAt:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return found
