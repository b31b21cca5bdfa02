"""
The C{twuws} command: jobs from the command line, with or without a running service.

What C{--json} writes is for programs, and stays as it is:

    ============================  =========================================================
    C{list}                       an array of jobs, each as L{JobRecord.asJSON} has it
    C{show}                       C{{"job": …, "directory": "/…"}}
    C{history}                    C{{"service", "jobId", "events": [{"at", "phase", "attempt",
                                  "node", "who", "why"}]}}; the phase is null for the end of a
                                  destroyed job
    C{run}, C{abort}, C{destroy}  C{{"done": [{"service", "jobId", "phase"}],
                                  "failed": [{"job", "message"}]}}; the phase of a destroyed
                                  job is null
    C{cleanup}                    C{{"dryRun": false, "jobs": [{"service", "jobId"}],
                                  "leftovers": ["/…"]}}: directories and uploads without a job
    C{nodes}                      an array of nodes: C{{"node", "host", "state", "draining",
                                  "web", "running", "slots", "version", "heartbeat",
                                  "services"}}; the state is up, draining, silent, lost or left
    C{drain}                      C{{"asked": [{"node", "onStop", "left"}],
                                  "failed": [{"node", "message"}]}}; left is null unless that
                                  was waited for
    C{hold}, C{release}           the same for jobs; else C{{"service", "owner", "jobs": 7}}, the
                                  jobs whose phase changed; null is all services, or owners
    C{holds}                      an array of C{{"jobId", "service", "owner", "since", "who",
                                  "why"}}; see L{Hold}
    C{passwd}                     C{{"file", "name", "did"}}: added, changed or removed; with
                                  C{--list} an array of names
    C{token create}               C{{"token", "id", "owner", "scopes", "label", "made", "madeBy",
                                  "expires"}}; it expires at null if it never does
    C{token list}                 an array of the same, without C{token}
    C{token revoke}               C{{"revoked": ["0c5f…"], "missing": []}}
    C{limits}                     C{{"owner", "address", "limits": [{"limit", "now", "most",
                                  "services": {"sleep": 7}}]}}; now and most may be null, for
                                  what is not known, and any number
    C{upgrade}                    C{{"schema": "uws", "from": 1, "to": 2}}
    ============================  =========================================================

Exit status: 0 if all was done; 1 if something could not be; 2 if nothing could be, for the
options are wrong or there is no database.  Each trouble is a line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import react
from twisted.logger import (
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from twuws.admin import auditing, commands, passwords
from twuws.admin.options import SHARED, makeParser
from twuws.admin.output import Report
from twuws.admin.session import Session
from twuws.composition import embeddedPostgres
from twuws.config import Config, load
from twuws.conformance import command as conformance
from twuws.database import Database
from twuws.embedded import runningDSN
from twuws.errors import UWSError
from twuws.logs import keepClean, lines

#: The exit status after an interrupt, as shells have it.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """
    Run the command, and leave with its exit status.

    @param argv: the command line, without the program; C{None} for the process's own.
    """
    options = makeParser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if options.command in (conformance.run, passwords.run):  # no reactor, and no database
        raise SystemExit(options.command(options))
    react(_run, (options,))


def _run(reactor: Any, options: argparse.Namespace) -> Deferred[None]:
    """Do it; an interrupt ends what has been begun."""
    work = Deferred.fromCoroutine(_perform(reactor, options))
    ended: Deferred[None] = Deferred()

    def tell(result: Any) -> Any:
        ended.callback(None)
        return result

    def interrupt() -> Deferred[None]:
        work.cancel()
        return ended

    work.addBoth(tell)
    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    return work


async def _perform(reactor: Any, options: argparse.Namespace) -> None:
    report = Report(sys.stdout, sys.stderr, options.json)
    _beginLogging(report, options.debug)
    begun: list[Any] = []
    status = None
    try:
        await _command(reactor, options, report, begun)
        sys.stdout.flush()
    except CancelledError:
        status = INTERRUPTED
    except BrokenPipeError:  # who reads this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as e:
        if options.debug:
            sys.stderr.write(lines(traceback.format_exc()))
        report.failure(str(e) if isinstance(e, UWSError) else f"{type(e).__name__}: {e}")
        status = 2
    finally:
        while begun:
            await maybeDeferred(begun.pop().stopService)
    raise SystemExit(int(report.failed) if status is None else status)


async def _command(
    reactor: Any, options: argparse.Namespace, report: Report, begun: list[Any]
) -> None:
    given = {name: getattr(options, name.replace("-", "_")) for name in SHARED}
    config = load(options.config, given)
    database = Database(await _dsn(config, reactor, begun), reactor=reactor)
    begun.append(database)
    database.startService()
    session = Session(config=config, database=database, report=report)
    if options.command is not commands.upgrade:
        await session.checkSchema()
    if (audit := auditing.auditFor(session, options)) is None:
        await options.command(session, options)
        return
    status = 2
    try:
        await options.command(session, options)
        status = int(report.failed)
    finally:
        auditing.record(audit, session, options, status)


async def _dsn(config: Config, reactor: Any, begun: list[Any]) -> str:
    """
    How to connect: as the configuration says, or to the server in the data directory, which
    is started if it does not run.

    @raise UWSError: if there is none; none is made.
    """
    if config.database is not None:
        return config.database
    directory = config.dataDir.absolute()
    if running := runningDSN(directory / "postgres"):
        return running
    _checkDataDir(directory)
    postgres = embeddedPostgres(config, reactor)
    begun.append(postgres)
    postgres.startService()
    return await postgres.start()


def _checkDataDir(directory: Path) -> None:
    remedy = "give the service's with --data-dir, or its database with --database."
    try:
        if not directory.is_dir():
            raise UWSError(f"There is no data directory {directory}: {remedy}")
        if not (directory / "postgres" / "cluster").exists():
            raise UWSError(f"There is no database in the data directory {directory}: {remedy}")
    except OSError as e:
        raise UWSError(
            f"The data directory {directory} cannot be looked into ({e.strerror}): be the user"
            " who runs the service."
        ) from None


def _beginLogging(report: Report, debug: bool) -> None:
    """Make a failure of what is logged as an error; show all of it to who asks."""

    def observe(event: LogEvent) -> None:
        if event["log_level"] < LogLevel.error:
            return
        failure: Failure | None = event.get("log_failure")
        why = f": {failure.getErrorMessage()}" if failure else ""
        report.failure(" ".join(f"{formatEvent(event)}{why}".split()))

    keepClean()
    observers: list[Any] = [observe, textFileLogObserver(sys.stderr)] if debug else [observe]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
