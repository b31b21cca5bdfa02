"""
What the C{twuws} command says: columns for people, or JSON for programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from twuws.jobs import JobRecord, Result
from twuws.times import formatInstant
from twuws.values import FileValue, Value


class Report:
    """
    Where a command writes to.

    @ivar asJSON: whether a program reads it.
    @ivar failed: whether anything could not be done.
    """

    def __init__(self, out: TextIO, errors: TextIO, asJSON: bool) -> None:
        self._out = out
        self._errors = errors
        self.asJSON = asJSON
        self.failed = False

    def say(self, line: str) -> None:
        """Write a line for people."""
        self._out.write(line + "\n")

    def give(self, value: Any) -> None:
        """Write a JSON document for programs."""
        json.dump(value, self._out, indent=2)
        self._out.write("\n")

    def failure(self, message: str) -> None:
        """Tell of something that could not be done, a line each."""
        self.failed = True
        for line in message.splitlines():
            self._errors.write(f"twuws: {printable(line)}\n")


class Columns:
    """
    A table that is written in pieces, for its whole need not fit into memory.

    Columns are as wide as the widest in any piece so far.
    """

    def __init__(self, report: Report, *names: str) -> None:
        self._report = report
        self._names = names
        self._widths = [len(name) for name in names]
        self._begun = False

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        """Write some rows, after the names of the columns if they are the first."""
        texts = [[shown(value) for value in row] for row in rows]
        for row in texts:
            self._widths = [max(pair) for pair in zip(self._widths, map(len, row), strict=True)]
        if not self._begun:
            self._begun = True
            texts.insert(0, list(self._names))
        for row in texts:
            cells = (cell.ljust(width) for cell, width in zip(row, self._widths, strict=True))
            self._report.say("  ".join(cells).rstrip())


def printable(text: str) -> str:
    """
    Text without anything that a terminal would obey.

    >>> printable("a\\x1b[31mb")
    'a?[31mb'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shown(value: object) -> str:
    """
    A value as one line for people.

    >>> shown(None), shown(3), shown("")
    ('-', '3', '-')
    """
    if isinstance(value, datetime):
        return formatInstant(value)
    return "-" if value is None or value == "" else printable(str(value))


def describe(record: JobRecord, directory: str) -> Iterator[str]:
    """All of a job, a property or a line of text each."""
    properties: dict[str, object] = {
        "service": record.service,
        "id": record.jobId,
        "phase": record.phase,
        "owner": record.owner,
        "runId": record.runId,
        "created": record.creationTime,
        "started": record.startTime,
        "ended": record.endTime,
        "duration": f"{record.executionDuration} s" if record.executionDuration else "unlimited",
        "destruction": record.destruction,
        "quote": record.quote,
        "attempt": record.attempt,
        "directory": directory,
    }
    yield from _pairs(properties, "")
    yield from _section("parameters", {k: _values(v) for k, v in record.parameters.items()})
    yield from _section("results", {one.id: _result(one) for one in record.results})
    yield from _section("jobInfo", record.jobInfo)
    if record.error is not None:
        yield from _section("error", {record.error.type: record.error.message})
        more = record.error.detail, record.error.traceback
        for line in "\n\n".join(one for one in more if one).splitlines():
            yield f"    {printable(line.expandtabs())}"


def _section(name: str, content: Mapping[str, object]) -> Iterator[str]:
    if content:
        yield name
        yield from _pairs(content, "  ")


def _pairs(content: Mapping[str, object], indent: str) -> Iterator[str]:
    width = max([13, *(len(shown(name)) for name in content)])
    for name, value in content.items():
        yield f"{indent}{shown(name).ljust(width)}  {shown(value)}"


def _values(values: Sequence[Value]) -> str:
    return ", ".join(_file(one) if isinstance(one, FileValue) else one for one in values)


def _file(value: FileValue) -> str:
    label = f"{value.label}: " if value.label else ""
    source = f" from {value.source}" if value.source else ""
    return f"{label}parameters/{value.file}{source} ({value.mediaType}, {value.size} bytes)"


def _result(result: Result) -> str:
    where = result.href if result.file is None else f"results/{result.file}"
    size = "" if result.size is None else f", {result.size} bytes"
    return f"{where} ({result.mediaType}{size})"
