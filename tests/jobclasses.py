"""
Job classes for tests of the runner and the backends, importable as C{tests.jobclasses}.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from twuws import UWSJob, parameters
from twuws.errors import JobFailure, ParameterError


class Sum(UWSJob):
    """Adds numbers."""

    numbers = parameters.Real(multiple=True)

    def run(self):
        self.reportProgress(0.5, "half of it")
        print("adding", self.numbers)  # noqa: T201, what it prints is looked at
        with self.openResult("sum", "text/plain", "sum.txt") as out:
            out.write(str(sum(self.numbers)).encode())


class Failing(UWSJob):
    """Fails in the way that it is told."""

    how = parameters.Text()

    def run(self):
        getattr(self, "_" + self.how)()

    def _failure(self):
        raise JobFailure("The sky is cloudy", "all of it", transient=True)

    def _parameter(self):
        raise ParameterError("how", "it is no way to fail")

    def _exception(self):
        raise ZeroDivisionError("by\nnothing")

    def _exit(self):
        sys.exit(7)

    def _exitWell(self):
        sys.exit(0)

    def _memory(self):
        bytearray(1 << 40)

    def _fileSize(self):
        with self.openResult("large", "text/plain") as out:
            out.write(bytes(1 << 20))

    def _orphan(self):
        subprocess.Popen(["sleep", "61.5"], start_new_session=True)

    def _fork(self):
        if os.fork() == 0:
            raise ValueError("in a fork of the work")
        os.wait()


class Async(UWSJob):
    """Cannot run in a process."""

    async def run(self):
        pass


class Environment(UWSJob):
    """Shows its surroundings."""

    def run(self):
        with self.openResult("environment", "text/plain") as out:
            out.write("\n".join(f"{k}={v}" for k, v in os.environ.items()).encode())
        with self.openResult("path", "text/plain") as out:
            out.write("\n".join(sys.path).encode())


class Shell(UWSJob):
    """A program: a shell script, with arguments."""

    command = ("sh", "-c", "{script}", "sh", "{argument}")
    programResults = (
        {"id": "out", "file": "out.txt", "mediaType": "text/plain", "stream": "stdout"},
    )

    script = parameters.Text(required=True)
    argument = parameters.Text(multiple=True)


class Filter(UWSJob):
    """A program that reads an uploaded file."""

    command = ("sha256sum",)
    stdin = "{file}"
    programResults = ({"id": "sum", "file": "sum", "mediaType": "text/plain", "stream": "stdout"},)

    file = parameters.File()


class Bulky(UWSJob):
    """Writes a large result, or many small ones once it may."""

    size = parameters.Integer(default=0)
    number = parameters.Integer(default=0)
    after = parameters.Text(default="/")

    def run(self):
        while not os.path.exists(self.after):
            time.sleep(0.01)
        with self.openResult("large", "text/plain") as out:
            for _ in range(self.size >> 16):
                out.write(bytes(1 << 16))
        for i in range(self.number):
            with self.openResult(f"small{i}", "text/plain"):
                pass


class Opening(UWSJob):
    """Opens a file that is not there."""

    path = parameters.Text(required=True)

    def run(self):
        open(os.path.abspath(self.path)).close()


class OpeningHere(UWSJob):
    """The same in the service's process, in the job's directory or elsewhere."""

    path = parameters.Text(required=True)

    async def run(self):
        with self.openResult("other", "text/plain") as other:
            open(os.path.join(os.path.dirname(other.name), self.path)).close()
