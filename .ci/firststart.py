"""
Somebody's first minutes: the line that README.rst begins with, a job with an upload, a table
with the Messier catalogue, Ctrl-C, and a second start that still knows the jobs.

    python3 firststart.py DIRECTORY

The directory has a copy of the sources.  Only the port is another one.  This needs nothing
but the standard library.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

LINE = "python3 -m venv .venv && .venv/bin/pip install '.[embedded]' && .venv/bin/twistd -n uws"
SCRIPTS = ("firststart.py", "checkexamples.py")
STARS = b"name,ra,dec\nnear M42,83.82,-5.39\nnear nothing,10,-60\nnear M31,10.7,41.3\n"
MATCHES = {
    *(("near M42", name) for name in ("M42", "M43")),
    *(("near M31", name) for name in ("M31", "M32", "M110")),
}


def say(words):
    print(f"   {words}", flush=True)


class Service:
    """A command line in the foreground of a terminal of its own."""

    def __init__(self, line, directory, port, patience, names="messier, digest, sleep"):
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory.parent / f"{directory.name}-{time.monotonic_ns()}.log"
        began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"{line} --listen tcp:{port}:interface=127.0.0.1"],
                cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        while f"twuws serves {names} at {self.url}/" not in self.said():
            if self.process.poll() is not None or time.monotonic() > began + patience:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise SystemExit(f"{line}: it does not start:\n{self.said()}")
            time.sleep(0.05)
        say(f"{line.rpartition('/')[2]}: ready after {time.monotonic() - began:.1f} s")

    def said(self):
        return self.log.read_text(errors="replace")

    def interrupt(self):
        """Ctrl-C, which a terminal sends to all that runs in its foreground."""
        began = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        said = self.said()
        if "Traceback" in said or "Unhandled" in said:
            raise SystemExit(f"the log has an error:\n{said}")
        say(f"Ctrl-C: ended after {time.monotonic() - began:.1f} s")


def get(url):
    with urllib.request.urlopen(url, timeout=90) as answer:
        return answer.read()


def post(url, form):
    """Send a multipart form as browsers do; the URL that the answer leads to."""
    boundary = secrets.token_hex(16)
    body = b""
    for name, value in form.items():
        named = f'form-data; name="{name}"'
        if isinstance(value, bytes):
            named += f'; filename="{name}.dat"\r\nContent-Type: application/octet-stream'
        content = value if isinstance(value, bytes) else value.encode()
        body += f"--{boundary}\r\nContent-Disposition: {named}\r\n\r\n".encode() + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=90) as answer:
        return answer.url


def finished(job):
    """Wait until a job has ended, and see that it is complete."""
    for _ in range(20):
        document = get(f"{job}?WAIT=60").decode()
        phase = re.search(r"<uws:phase>(\w+)</uws:phase>", document)[1]
        if phase not in ("QUEUED", "EXECUTING"):
            break
    if phase != "COMPLETED":
        raise SystemExit(f"the job is {phase}:\n{document}")
    return job


def check(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: wanted {wanted!r}, found {found!r}")
    say(f"{what}: as it should be")


def processesIn(*directories):
    """Processes that were started in one of these, or work there: number and command."""
    names = [str(directory) for directory in directories]
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            places = [command, *(os.readlink(process / link) for link in ("cwd", "exe"))]
        except OSError:  # it has gone, or is somebody else's
            continue
        ours = any(n in command for n in SCRIPTS)  # this, and what it was started with
        if not ours and any(n in p for n in names for p in places):
            found[int(process.name)] = command
    return found


def copiedPrograms(database):
    """Where twuws has copied PostgreSQL's programs to, if it is root and they lie in a closet."""
    for number in processesIn(database):
        program = os.path.realpath(f"/proc/{number}/exe")
        if copied := re.match(r".*/twuws/postgresql-[^/]+", program):
            return copied[0]
    return None


def main(directory):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    service = Service(LINE, directory, port, patience=300)
    database = os.path.realpath(directory / "uws-data/postgres")
    copied = copiedPrograms(database)
    try:
        content = secrets.token_bytes(3_000_000)
        digest = finished(post(f"{service.url}/digest/async", {"file": content, "PHASE": "RUN"}))
        answer = get(f"{digest}/results/digest.txt").decode().split()[0]
        check("SHA-256 of an upload", answer, hashlib.sha256(content).hexdigest())

        form = {"table": STARS, "radius": "1", "PHASE": "RUN"}
        messier = finished(post(f"{service.url}/messier/async", form))
        rows = csv.DictReader(get(f"{messier}/results/result.csv").decode().splitlines())
        found = {(row["name"], row["messier_name"]) for row in rows}
        check("matches of an uploaded table", found, MATCHES)

        service.interrupt()
        check("processes left", processesIn(directory, database), {})

        service = Service(".venv/bin/twistd -n uws", directory, port, patience=60)
        check("the job of before", digest.encode() in get(f"{service.url}/digest/async"), True)
        check("its result", get(f"{digest}/results/digest.txt").decode().split()[0], answer)
        service.interrupt()
        check("processes left", processesIn(directory, database), {})
    finally:
        for number in processesIn(directory, database):
            os.kill(number, signal.SIGKILL)
        if not Path(database).is_relative_to(os.path.realpath(directory)):
            shutil.rmtree(database, ignore_errors=True)
        if copied:
            shutil.rmtree(copied, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
