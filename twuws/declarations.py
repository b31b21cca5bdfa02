"""
Programs that a configuration file declares: a command, its parameters and its results.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from twuws.backends.commandline import formatIn, namesIn
from twuws.errors import ParameterError
from twuws.jobs import UWSJob
from twuws.names import isSafeName
from twuws.parameters import TYPES, Format, Parameter, Text
from twuws.programs import Argument, programClass
from twuws.tables import Kind, Table

#: The keys of every parameter, beside type and default.
_EVERY: dict[str, tuple[Kind, Any]] = {
    "required": (Kind.TRUTH, False),
    "multiple": (Kind.TRUTH, False),
    "unit": (Kind.TEXT, None),
    "ucd": (Kind.TEXT, None),
    "description": (Kind.TEXT, ""),
}

#: The keys of some types of parameter.
_SOME: dict[str, dict[str, tuple[Kind, Any]]] = {
    "Integer": {"minimum": (Kind.WHOLE, None), "maximum": (Kind.WHOLE, None)},
    "Real": {"minimum": (Kind.NUMBER, None), "maximum": (Kind.NUMBER, None)},
    "Interval": {"minimum": (Kind.NUMBER, None), "maximum": (Kind.NUMBER, None)},
    "Instant": {"minimum": (Kind.INSTANT, None), "maximum": (Kind.INSTANT, None)},
    "Choice": {"choices": (Kind.TEXTS, ())},
    "Format": {"formats": (Kind.FORMATS, None)},
    "Text": {"maximumLength": (Kind.COUNT, None), "pattern": (Kind.PATTERN, None)},
}


def program(name: str, table: Table) -> type[UWSJob] | None:
    """The job class that a table declares; C{None} if it has mistakes, which are noted."""
    before = len(table.mistakes)
    tables = table.tables("parameters")
    declared = set(tables)
    for key, one in tables.items():
        _checkName(one, key, declared)
    parameters = {
        key: parameter for key, one in tables.items() if (parameter := _parameter(one)) is not None
    }
    command = _command(table, declared)
    stdin = table.take("stdin", Kind.TEXT, None)
    formats = {key for key in declared if _saysFormat(parameters.get(key))}
    results = tuple(_result(id, one, formats) for id, one in table.tables("results").items())
    more: dict[str, Any] = {
        "restartable": table.take("restartable", Kind.TRUTH, False),
        "maxAttempts": table.take("max-attempts", Kind.POSITIVE, UWSJob.maxAttempts),
        "costDependsOn": _costDependsOn(table, declared),
        "valuesAreCheckedAtRun": table.take("check-at-run", Kind.TRUTH, False),
    }
    title = table.take("title", Kind.TEXT, None)
    if title is not None:
        more["title"] = title
    if stdin is not None:
        _checkTemplate(table, "stdin", stdin, declared)
    if len(table.mistakes) > before:
        return None
    try:
        return programClass(name, command, parameters, results, stdin, **more)
    except (TypeError, RuntimeError, ParameterError) as e:
        table.wrong("parameters", str(e.__cause__ or e))
        return None


def _costDependsOn(table: Table, declared: set[str]) -> tuple[str, ...]:
    names: tuple[str, ...] = table.take("cost-depends-on", Kind.TEXTS, ())
    for name in names:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            table.wrong(
                "cost-depends-on", f"expected names of parameters ({known}), found {name!r}"
            )
    return names


def _command(table: Table, declared: set[str]) -> tuple[Argument, ...]:
    found = table.take("command", Kind.LIST, [])
    command: list[Argument] = []
    for argument in found:
        group = argument if isinstance(argument, list) else [argument]
        if not all(isinstance(word, str) for word in group):
            table.wrong("command", f"expected texts, and lists of texts, found {argument!r}")
            return ()
        command.append(tuple(group) if isinstance(argument, list) else argument)
        for word in group:
            _checkTemplate(table, "command", word, declared)
    if not command or not isinstance(command[0], str) or not command[0]:
        table.wrong("command", 'expected a list such as ["sha256sum", "{file}"]')
    elif shutil.which(command[0]) is None:
        table.wrong("command", f"expected a program that is there, found {command[0]!r}")
    return tuple(command)


def _checkTemplate(table: Table, key: str, word: str, declared: set[str]) -> None:
    try:
        unknown = namesIn(word) - declared
    except ValueError as e:
        table.wrong(key, str(e))
        return
    for name in sorted(unknown):
        known = ", ".join(sorted(declared)) or "none"
        table.wrong(key, f"expected the name of a parameter ({known}) in braces, found {name!r}")


def _checkName(table: Table, key: str, declared: set[str]) -> None:
    alike = sorted(name for name in declared if name.lower() == key.lower())
    if len(alike) > 1 and key == alike[-1]:
        known = ", ".join(alike)
        table.wrong("", f"expected names that differ in more than case, found {known}")
    try:
        programClass("any", (), {key: Text()})
    except TypeError as e:
        table.wrong("", str(e).partition(": ")[2])


def _parameter(table: Table) -> Parameter[Any] | None:
    kind = table.take("type", Kind.TEXT, None)
    if kind not in TYPES:
        table.wrong("type", f"expected one of {', '.join(TYPES)}, found {kind!r}")
        return None
    isGiven = table.has("formats")
    arguments = {
        key: table.take(key, k, d) for key, (k, d) in (_EVERY | _SOME.get(kind, {})).items()
    }
    default = table.pop("default")
    table.refuseRest()
    low, high = arguments.get("minimum"), arguments.get("maximum")
    if low is not None and high is not None and high < low:
        table.wrong("maximum", f"expected at least the minimum, {low}, found {high}")
    if kind == "Choice" and not arguments["choices"]:
        table.wrong("choices", "expected a list of texts with at least one in it")
        return None
    if kind == "Format" and not arguments["formats"]:
        if not isGiven:  # else it is said already what is wrong with them
            table.wrong("formats", f"expected {Kind.FORMATS.words}")
        return None
    parameter = TYPES[kind](**arguments)
    if default is not None:
        _setDefault(parameter, default, table)
    return parameter


def _setDefault(parameter: Parameter[Any], default: Any, table: Table) -> None:
    """A default is written as a client would write it, or as TOML's own kind of value."""
    text = str(default).lower() if isinstance(default, bool) else str(default)
    parameter.name = table.name.rpartition(".")[2]
    try:
        parameter.default = parameter.value(parameter.accept(text))
    except ParameterError as e:
        table.wrong("default", str(e))


def _saysFormat(parameter: Parameter[Any] | None) -> bool:
    """Whether a result's type can be what a parameter says; C{None} for one with mistakes."""
    return parameter is None or (isinstance(parameter, Format) and not parameter.multiple)


def _result(id: str, table: Table, formats: set[str]) -> Mapping[str, Any]:
    """
    A declared result.

    @param formats: the names of the parameters that its type can be.
    """
    result = {
        "id": id,
        "file": table.take("file", Kind.TEXT, id),
        "mediaType": table.take("type", Kind.TEXT, "application/octet-stream"),
        "optional": table.take("optional", Kind.TRUTH, False),
        "stream": table.take("stream", Kind.TEXT, None),
    }
    table.refuseRest()
    try:
        name = formatIn(result["mediaType"])
    except ValueError as e:
        table.wrong("type", str(e))
    else:
        if name is not None and name not in formats:
            known = ", ".join(sorted(formats)) or "none"
            table.wrong("type", f"expected the name of a Format parameter ({known}) in braces,"
                        f" found {name!r}")  # fmt: skip
    if not isSafeName(result["file"]):
        table.wrong("file", f"expected a file name without directories, found {result['file']!r}")
    if result["stream"] not in (None, "stdout", "stderr"):
        table.wrong("stream", f"expected stdout or stderr, found {result['stream']!r}")
    return result
