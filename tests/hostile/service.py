"""
The service that is attacked: a C{twistd uws} in a process of its own, with users.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import bcrypt
import psutil

from tests.issuer import AUDIENCE, KEYS, jwk

ROOT = Path(__file__).parent.parent.parent
#: Who is believed about where requests come from, and who sent them.
PROXY = "127.0.0.3"
#: Each has a password that is the name, reversed.
USERS = ("alice", "bob", "root")
#: The largest body that is taken, bytes.
LARGEST = 32 * 2**20
#: How long anything may take to start or to end, s.
PATIENCE = 120.0
#: What no answer may ever have in it.
SECRET = "the-secret-of-this-host"
#: What is secret in its environment.
CANARY = "c4n4ry-of-the-mine"
#: What the log has when something went wrong that nobody has thought of.
TROUBLE = (b"Traceback", b"Unhandled", b"twisted.internet.defer.", b"Too many open files")

_CONFIG = f"""
maximum-body = {LARGEST}
{{more}}
proxies = ["{PROXY}"]
[auth]
admins = ["root"]
audit-log = "{{directory}}/audit.jsonl"
[auth.passwords]
file = "{{directory}}/users"
[auth.tokens]
[auth.oidc]
issuer = "{{issuer}}"
audience = "{AUDIENCE}"
[auth.proxy]
header = "X-Remote-User"
from = ["{PROXY}"]
[services.work]
command = ["sh", "-c", 'printf %s "$1"; printf %s "$1" >&2; [ -z "$3" ] || sleep 600; [ -z "$2" ]',
    "sh", "{{{{text}}}}", "{{{{fails}}}}", "{{{{sleeps}}}}"]
[services.work.parameters.text]
type = "Text"
default = ""
[services.work.parameters.number]
type = "Integer"
[services.work.parameters.real]
type = "Real"
[services.work.parameters.when]
type = "Instant"
[services.work.parameters.within]
type = "Interval"
[services.work.parameters.file]
type = "File"
[services.work.parameters.fails]
type = "Choice"
choices = ["yes"]
[services.work.parameters.sleeps]
type = "Choice"
choices = ["yes"]
[services.work.results.out]
type = "text/html"
stream = "stdout"
[services.read]
command = ["wc", "-c", "{{{{document}}}}"]
[services.read.parameters.document]
type = "Document"
required = true
[services.read.results.out]
stream = "stdout"
[services.odd]
class = "tests.hostile.work.Odd"
[services.alone]
class = "tests.hostile.work.Alone"
[services.closed]
command = ["true"]
users = ["alice"]
"""
#: Where there are limits on addresses, they are to hold for those of this machine, too.
_LIMITS = """
[limits]
spared = ["127.0.9.0/24"]
"""


def hasLimits() -> bool:
    """Whether accounts and connections have limits."""
    return find_spec("twuws.limitsconfig") is not None


class Service:
    """
    One C{twistd uws} with a database of its own.

    @ivar directory: where all of it is.
    @ivar port: at 127.0.0.1.
    @ivar issuer: whose tokens it takes.

    @param descriptors: how many it may have; as many as this process if not given.
    @param more: keys at the top of its configuration, up to the beginning of its table C{[http]}.
    """

    def __init__(self, directory: Path, descriptors: int | None = None, more: str = "") -> None:
        self.directory = directory
        self.port = freePort()
        self.data = directory / "data"
        self.log = directory / "log"
        self.secret = directory / "secret"
        self.secret.write_text(SECRET)
        self.issuer = Authority()
        self._descriptors = descriptors
        lines = (
            f"{u}:{bcrypt.hashpw(u[::-1].encode(), bcrypt.gensalt(10)).decode()}\n" for u in USERS
        )
        (directory / "users").write_text("".join(lines))
        self.config = directory / "uws.toml"
        text = _CONFIG.format(
            directory=directory, issuer=self.issuer.url, more=more or "longest-wait = 20\n[http]"
        )
        self.config.write_text(text + (_LIMITS if hasLimits() else ""))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        secrets = dict.fromkeys(("API_TOKEN", "PGPASSWORD", "UWS_SECRET", "DATABASE_URL"), CANARY)
        path = os.pathsep.join([str(ROOT), *sys.path])
        environment = {**os.environ, **secrets, "PYTHONPATH": path}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _TWISTD, str(self._descriptors or 0)),
                    *("-n", "--pidfile=", "uws", "--config", str(self.config)),
                    *("--data-dir", str(self.data)),
                    *("--listen", f"tcp:{self.port}:interface=127.0.0.1"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.known = psutil.Process(self.process.pid)
        until = time.monotonic() + PATIENCE
        while b"twuws serves" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order, or else at once."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.issuer.close()

    def admin(self, *words: str) -> str:
        """Run C{twuws} as its operator; what it says."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "twuws.admin", "--config", str(self.config)),
                *("--data-dir", str(self.data), *words),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def token(self) -> str:
        """A token of the service's own, for alice."""
        return self.admin("token", "create", "--owner", "alice")

    # What it uses

    def files(self) -> list[str]:
        """The files under its job directories, but for those of nodes."""
        return [
            os.path.join(where, name)
            for where, _, names in os.walk(self.data / "jobs")
            for name in names
            if not where.endswith(".nodes")
        ]

    def stored(self) -> int:
        """The bytes under its job directories, and of files that have no name any more."""
        size = 0
        for name in self.files():
            with suppress(OSError):
                size += os.lstat(name).st_size
        with suppress(OSError), os.scandir(f"/proc/{self.process.pid}/fd") as opened:
            for one in opened:
                with suppress(OSError):
                    found = os.stat(one.path)
                    size += found.st_size if found.st_nlink == 0 else 0
        return size

    def descriptors(self) -> int:
        return self.known.num_fds()

    def memory(self) -> int:
        """Its resident memory, bytes."""
        return int(self.known.memory_info().rss)

    def cpu(self) -> float:
        """The CPU time that it has used, s."""
        times = self.known.cpu_times()
        return float(times.user + times.system)

    def troubles(self, offset: int = 0) -> list[str]:
        """What its log has, from an offset on, that tells of a mistake, each with its lines."""
        lines = re.split(rb"\n(?!\t)", self.log.read_bytes()[offset:])
        return [line.decode("utf-8", "replace") for line in lines if _isTrouble(line)]


def _isTrouble(line: bytes) -> bool:
    return any(one in line for one in TROUBLE)


#: twistd, with as many file descriptors as the first argument says, if that is not 0.
_TWISTD = """
import resource, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
most = int(sys.argv.pop(1))
if most:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
from twisted.scripts import twistd
twistd.run()
"""


class _Asked(BaseHTTPRequestHandler):
    documents: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        found = self.documents.get(self.path)
        self.send_response(404 if found is None else 200)
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""


class Authority:
    """An issuer of OpenID Connect, in a thread of this process."""

    def __init__(self) -> None:
        documents: dict[str, bytes] = {}
        kind = type("Asked", (_Asked,), {"documents": documents})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/realm"
        told = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        documents |= {
            "/realm/.well-known/openid-configuration": json.dumps(told).encode(),
            "/realm/keys": json.dumps({"keys": [jwk(KEYS[0], "one")]}).encode(),
        }
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def freePort() -> int:
    """A port that nobody gets by chance: below those that connections are made from."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


@contextmanager
def service(descriptors: int | None = None, more: str = "") -> Iterator[Service]:
    """A service that runs, in a temporary directory, for as long as a block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = Path(tempfile.mkdtemp(prefix="twuws-hostile-"))
    directory.chmod(0o755)
    made = Service(directory, descriptors, more)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
