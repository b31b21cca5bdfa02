"""
README.rst does what it says: its blocks are run in order, as they would be pasted.

Blocks that begin with C{# name} are files of that name.  Blocks that start twistd are run
in the background, as in a terminal of their own, and end the service that was started
before them.  All others are pasted into one shell; a C{text} block after one of them is
what it prints, with C{...} for what differs from time to time.  Only the ports are other
ones.  Nothing is installed: C{.venv} is the environment that the tests run in.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.pages import documented

START = "python3 -m venv .venv && .venv/bin/pip install '.[embedded]' && .venv/bin/twistd -n uws"
TEST = "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest"


def freePort():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Terminal:
    """A shell to paste into."""

    def __init__(self, directory, environment):
        self.directory = directory
        self.shell = subprocess.Popen(
            ["bash"], cwd=directory, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def paste(self, text):
        """What it prints, and its status."""
        (self.directory / "pasted").write_text(text)
        self.shell.stdin.write(". ./pasted < /dev/null; echo; echo END $?\n")
        self.shell.stdin.flush()
        output = ""
        while not (end := re.search(r"\nEND (\d+)\n\Z", output)):
            line = self.shell.stdout.readline()
            assert line, f"the shell has gone after {output!r}"
            output += line
        return output[: end.start()], int(end[1])

    def close(self):
        self.shell.communicate("exit\n", timeout=10)


class Service:
    """What a block with twistd starts."""

    def __init__(self, command, directory, environment, port):
        self.port = port
        self.log = directory / f"log-{time.monotonic_ns()}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], cwd=directory, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    def waitUntilItListens(self):
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)

    def stop(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        try:
            assert self.process.wait(60) in (0, -signal.SIGINT), self.log.read_text()
        finally:
            self.process.kill()
        log = self.log.read_text()
        assert "Traceback" not in log, log
        assert "twuws" not in log or "critical" not in log, log


class Reader:
    """Somebody who pastes the README, block by block."""

    def __init__(self, directory):
        self.directory = directory
        (directory / ".venv").symlink_to(sys.prefix)
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV_", "COVERAGE"))
        }
        self.ports = {8080: freePort(), 8081: freePort()}
        self.services = {}
        self.terminal = Terminal(directory, self.environment)
        self.output = None  # what the last block printed
        self.compared = 0

    def take(self, block):
        text = self.withOtherPorts(block.text)
        if block.language == "text":
            self.compare(text)
        elif block.fileName:
            (self.directory / block.fileName).write_text(text)
        elif ".venv/bin/twistd -n" in text:
            self.start(text)
        elif block.language == "bash" and "pip install" not in text:
            self.output, status = self.terminal.paste(text)
            assert status == 0, f"status {status}: {self.output}"
        else:
            assert block.language in ("", "bash"), f"{block.language} without a file name"

    def withOtherPorts(self, text):
        for port, other in self.ports.items():
            text = text.replace(f":{port}", f":{other}")
        return text

    def start(self, command):
        command = command.strip().rpartition("&& ")[2]
        port = 8081 if "--python" in command else 8080
        if port == 8080:
            self.stop(8080)
            listen = f"--listen tcp:{self.ports[8080]}:interface=127.0.0.1"
            command = command.replace("twistd -n uws", f"twistd -n uws {listen}")
        service = Service(command, self.directory, self.environment, self.ports[port])
        self.services[port] = service
        service.waitUntilItListens()
        self.output = service.log.read_text()

    def compare(self, wanted):
        checker = doctest.OutputChecker()
        got = self.output.rstrip("\n") + "\n"
        assert checker.check_output(wanted, got, doctest.ELLIPSIS), f"wanted {wanted}\ngot {got}"
        self.compared += 1

    def stop(self, port):
        if service := self.services.pop(port, None):
            service.stop()

    def close(self):
        with ExitStack() as all:  # each of them, whatever becomes of the others
            all.callback(self.terminal.close)
            for port in sorted(self.services):
                all.callback(self.stop, port)


@pytest.fixture
def reader():
    directory = Path(tempfile.mkdtemp(prefix="twuws-readme-"))
    directory.chmod(0o755)  # PostgreSQL may have to run as another user
    reader = Reader(directory)
    yield reader
    try:
        reader.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def paste(reader, name, some):
    for block in some:
        try:
            reader.take(block)
        except AssertionError as e:
            where = f"{name}, line {block.line}"
            raise AssertionError(f"{where}:\n{block.text}\n{e}") from None


def test_lines_to_start_with():
    """The two lines that install, exactly so, and in this order."""
    literal = [block.text.strip() for block in documented("README.rst") if not block.language]
    assert literal[0] == START
    assert literal.index(TEST) > 0


@pytest.mark.slow
def test_readme(reader):
    everything = documented("README.rst")
    paste(reader, "README.rst", everything)
    assert reader.compared == sum(block.language == "text" for block in everything) > 10


@pytest.mark.slow
def test_authentication(reader):
    page = documented("docs/authentication.rst")
    paste(reader, "docs/authentication.rst", [block for block in page if block.language])
    assert reader.compared == sum(block.language == "text" for block in page) == 6


@pytest.mark.slow
def test_embedding(reader):
    """It goes on from README.rst; what has no language there is only to be read."""
    before = documented("README.rst")
    paste(reader, "README.rst", [b for b in before if b.fileName == "jobs.py" or START in b.text])
    paste(reader, "docs/embedding.rst", [b for b in documented("docs/embedding.rst") if b.language])
    assert reader.compared == 1
    assert "goes, it was COMPLETED" in reader.services[8081].log.read_text()
