"""
A PostgreSQL of the run's own, which can be stopped, paused and restarted in any way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import psycopg2.extras
from psycopg2.extensions import parse_dsn

#: Finds the programs, and the account to run them as, by what the service itself has for that.
_FIND = """
import json, sys
from pathlib import Path
from twisted.internet.task import react

async def main(reactor):
    from twuws.postgresbinaries import findBinaries
    from twuws.postgresdirectory import accountFor, settle

    directory = Path(sys.argv[1])
    account = accountFor(directory, "nobody")
    home = settle(directory, account)
    found = await findBinaries(reactor=reactor)
    if account is not None:
        found = await found.within(account, reactor)
    ids = [account.uid, account.gid] if account else None
    print(json.dumps([str(home), str(found.directory), ids]))

react(lambda reactor: __import__("twisted.internet.defer", fromlist=["_"])
      .Deferred.fromCoroutine(main(reactor)))
"""

#: Nothing here survives a power cut, but all of it any end of the server.
_OPTIONS = (
    *("listen_addresses=", "port=5432", "unix_socket_permissions=0777"),
    *("fsync=off", "full_page_writes=off", "synchronous_commit=on"),
    *("shared_buffers=32MB", "max_wal_size=128MB", "log_min_messages=warning"),
    "log_line_prefix=%m [%p] ",
)


class Postgres:
    """
    One server, in a process of its own.

    @param directory: where everybody may go, for as root it is run as somebody else.
    @ivar socket: the path of its Unix socket.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "postgres"
        found = subprocess.run(
            [sys.executable, "-c", _FIND, str(self.directory)],
            check=True,
            capture_output=True,
            text=True,
        )
        home, binaries, ids = json.loads(found.stdout)
        self.cluster = Path(home) / "cluster"
        self._binaries = Path(binaries)
        self._as: dict[str, Any] = (
            {"user": ids[0], "group": ids[1], "extra_groups": []} if ids else {}
        )
        if ids:
            os.chown(home, *ids)
        self.log = directory / "postgres.log"
        self.socket = self.cluster / ".s.PGSQL.5432"
        self.process: subprocess.Popen[bytes] | None = None
        self._run(
            *("initdb", "-D", str(self.cluster), "-U", "uws", "--encoding=UTF8", "--locale=C"),
            *("--auth=trust", "--no-sync"),
        )

    @property
    def dsn(self) -> str:
        return f"host={self.cluster} port=5432 user=uws dbname=postgres"

    @property
    def url(self) -> str:
        return "postgresql:///?" + urllib.parse.urlencode(parse_dsn(self.dsn))

    def _run(self, program: str, *words: str) -> None:
        with self.log.open("ab") as log:
            subprocess.run(
                [str(self._binaries / program), *words],
                check=True,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                **self._as,
            )

    def start(self, seconds: float = 180) -> None:
        """Start it, and wait until it answers."""
        options = (*_OPTIONS, f"unix_socket_directories={self.cluster}")
        until = time.monotonic() + seconds
        while True:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [
                        *(str(self._binaries / "postgres"), "-D", str(self.cluster)),
                        *(word for option in options for word in ("-c", option)),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,
                    **self._as,
                )
            while self.process.poll() is None:  # its last one may still have children
                with suppress(psycopg2.Error):
                    psycopg2.connect(self.dsn, connect_timeout=5).close()
                    return
                assert time.monotonic() < until, f"PostgreSQL does not answer; see {self.log}"
                time.sleep(0.05)
            assert time.monotonic() < until, f"PostgreSQL does not start; see {self.log}"
            time.sleep(0.2)

    def stop(self, how: str = "fast") -> None:
        """End it: C{fast} in order, C{immediate} as a crash would, C{kill} without a word."""
        assert self.process is not None
        number = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}[how]
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        self.process.wait(180)

    def restart(self, how: str = "fast", away: float = 0) -> None:
        """End it, be away for some seconds, and start it again."""
        self.stop(how)
        time.sleep(away)
        self.start()

    def pause(self) -> None:
        """Let all of its processes stand still."""
        self._signal(signal.SIGSTOP)

    def goOn(self) -> None:
        """Let all of its processes go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):
                process.send_signal(number)

    def query(self, sql: str, args: Any = None) -> list[dict[str, Any]]:
        """Rows of a statement, on a connection of its own."""
        connection = psycopg2.connect(self.dsn, connect_timeout=10)
        try:
            with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as c:
                c.execute("SET search_path TO uws")
                c.execute(sql, args)
                return [dict(row) for row in c.fetchall()] if c.description else []
        finally:
            connection.close()

    def terminate(self, like: str, limit: int = 1000) -> int:
        """
        End connections of the nodes as C{pg_terminate_backend} does; how many.

        @param like: a pattern for the last statement of each, as C{LISTEN%}.
        """
        rows = self.query(
            """SELECT pg_terminate_backend(pid) FROM (
                   SELECT pid FROM pg_stat_activity
                   WHERE application_name = 'twuws' AND query LIKE %s
                   ORDER BY random() LIMIT %s) chosen""",
            (like, limit),
        )
        return len(rows)
