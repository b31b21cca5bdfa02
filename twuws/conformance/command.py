"""
C{twuws check}: make the checks, and leave with a status that says what came of them.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

from twuws.conformance.options import DESCRIPTION, EPILOG, addOptions, settingsFrom
from twuws.conformance.outcomes import Outcome, Status, Unusable

#: The exit status after an interrupt, as shells have it.
INTERRUPTED = 130
NEEDS = "this needs urllib3, 2 or newer: pip install 'twuws[check]'"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command alone, and leave with its exit status."""
    parser = argparse.ArgumentParser(
        prog="twuws check", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False
    )
    addOptions(parser)
    raise SystemExit(run(parser.parse_args(argv)))


def run(options: argparse.Namespace, out: TextIO | None = None) -> int:
    """Do what the options say; the exit status."""
    out = out or sys.stdout
    if not hasHTTP():
        return _refuse(NEEDS)
    try:
        return _check(options, out)
    except Unusable as e:
        return _refuse(str(e))


def hasHTTP() -> bool:
    """Whether there is what the kit asks with."""
    try:
        return int(version("urllib3").partition(".")[0]) >= 2
    except PackageNotFoundError:
        return False


def _refuse(why: str) -> int:
    sys.stderr.write(f"twuws: {why}\n")
    return 2


def _check(options: argparse.Namespace, out: TextIO) -> int:
    # What needs urllib3 is imported where it is known to be there.
    from twuws.conformance.files import writeJSON, writeJUnit
    from twuws.conformance.registry import select
    from twuws.conformance.report import Report
    from twuws.conformance.session import Session

    settings = settingsFrom(vars(options))
    checks = select(settings.only, settings.skip)
    uws = Session(settings)
    uws.greet()
    report = Report(out, options.verbose)
    outcomes: list[Outcome] = []
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        interrupted = _perform(checks, uws, report, outcomes)
    finally:
        signal.signal(signal.SIGTERM, previous)
    report.finish(outcomes, uws)
    for path, write in ((options.junitFile, writeJUnit), (options.jsonFile, writeJSON)):
        if path is not None:
            try:
                write(path, outcomes, uws)
            except OSError as e:
                raise Unusable(f"{path} cannot be written: {e.strerror}") from None
    return INTERRUPTED if interrupted else status(outcomes)


def _perform(checks: Any, uws: Any, report: Any, outcomes: list[Outcome]) -> bool:
    """Make all checks, and delete what they made; whether there was an interrupt."""
    from twuws.conformance.runner import perform

    interrupted = False
    try:
        for one in checks:
            report.begin(one)
            outcomes.append(perform(one, uws))
            report.end(outcomes[-1])
    except KeyboardInterrupt:
        interrupted = True
    finally:
        uws.close()
    return interrupted


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def status(outcomes: Sequence[Outcome]) -> int:
    """0 if every M that could be checked holds, and the kit itself did not break; else 1."""
    return int(
        any(
            outcome.status is Status.BROKEN
            or (outcome.status is Status.FAILED and outcome.check.level == "M")
            for outcome in outcomes
        )
    )
