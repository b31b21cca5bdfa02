"""
The command: which rows, what is printed, and what is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import twuws
from bench.bed import Bed
from bench.compare import compare
from bench.figures import Figure, table
from bench.rows import NAMES, measureOf


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table; the short form ends with 1 if a row is not as it should be."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)  # all that was started ends, too
    rows = [name for name in NAMES if not chosen.only or name in chosen.only]
    if chosen.compare is not None:
        try:
            one, other = chosen.compare
            print(compare(one, other, rows, chosen.short))
        except ValueError as e:
            parser.error(str(e))
        return
    began = time.monotonic()
    figures, failed = measured(rows, chosen.short)
    print(f"\n{table(figures, chosen.short)}\n\nThis took {time.monotonic() - began:.0f} s.")
    if chosen.json is not None:
        write(chosen.json, figures, chosen.short)
    missed = [one for one in figures if one.isOk(chosen.short) is False]
    raise SystemExit(1 if failed or (chosen.short and missed) else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What users wait for, measured beside what bounds it.",
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, metavar="ROW", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--short", action="store_true",
        help="be quick, allow for noise, and end with 1 if something is not as it should be",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"),
        help="two files of --json, or two commits, whose rows are measured in turns",
    )  # fmt: skip
    return parser


def _interrupted(*_: object) -> NoReturn:
    raise SystemExit(143)


def measured(names: Sequence[str], isShort: bool) -> tuple[list[Figure], bool]:
    """All figures of some rows, and whether one could not be measured."""
    figures: list[Figure] = []
    failed = False
    with Bed(isShort) as bed:
        for name in names:
            began = time.monotonic()
            try:
                figures.extend(measureOf(name)(bed))
            except Exception:
                failed = True
                traceback.print_exc()
                figures.append(Figure(row=name, what="it failed, see above", skipped="failed"))
            print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return figures, failed


def write(path: Path, figures: Sequence[Figure], isShort: bool) -> None:
    """Write all figures as JSON."""
    content: dict[str, Any] = {
        "twuws": twuws.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "short": isShort,
        "figures": [one.asJSON(isShort) for one in figures],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
