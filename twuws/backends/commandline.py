"""
Command lines made of templates and a job's parameters.

A command is a tuple of arguments in which C{{name}} stands for the value of the parameter
C{name}, and C{{{} and C{}}} for braces.  A tuple within it is a group of arguments::

    ("sextract", ("--radius", "{radius}"), "--verbose={verbose}", "--", "{image}")

    - A value is always within one argument, whatever it contains; there is no shell.
    - An argument, or a group as a whole, is left out if a parameter in it has no value and
      no default, and is repeated for each value of a parameter that has several.
    - Values have the spelling of their declaration (C{true} for C{TRUE}, C{10.0} for a
      Real of C{1e1}); a file is its path as seen from the work's current directory, and a
      Format its short name.
    - The program, which is the first argument, is not the client's to choose.

A value that starts with C{-} may be taken for an option by the program; where text is free,
put C{--} before it, or write C{--option={name}}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from twuws.jobs import UWSJob
from twuws.parameters import File, Format
from twuws.values import FileValue, Value

#: Arguments and groups of arguments.
Command = tuple[str | tuple[str, ...], ...]

#: A result's media type that is what a parameter says.
_REFERENCE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[^{}]+|(.)", re.DOTALL)


def names(command: Command) -> set[str]:
    """
    The names of the parameters that a command uses.

    @raise ValueError: if it is no command, with what is wrong with it.
    """
    if not command or not isinstance(command[0], str) or not command[0]:
        raise ValueError("A command starts with the name of a program.")
    if namesIn(command[0]):
        raise ValueError(f"{command[0]!r}: the program itself cannot depend on parameters.")
    return set().union(*(namesIn(one) for group in command for one in _group(group)))


def namesIn(template: str) -> set[str]:
    """
    The names of the parameters in one argument.

    >>> sorted(namesIn("{a}{{b}}{c}"))
    ['a', 'c']
    """
    return {name for _, name in _pieces(template) if name}


def expand(command: Command, job: UWSJob) -> list[str]:
    """
    The program and its arguments for one job.

    @raise ValueError: as L{names} does, and for parameters that the job does not declare.
    @raise ParameterError: for a value that no argument can hold.
    """
    used = names(command)
    values = {name: _values(job, name) for name in used}
    return [argument for group in command for argument in _expandGroup(_group(group), values)]


def expandStdin(template: str | None, job: UWSJob) -> str | None:
    """
    The path of the work's standard input; C{None} for an empty one.

    @raise ValueError: if it depends on anything but a file that the client sent, for then
        the client could read any file of the host.
    """
    if template is None:
        return None
    for name in namesIn(template):
        if not isinstance(job.declarations.get(name), File):
            raise ValueError(f"{template!r}: stdin can be a parameter of type File only.")
    found = expand(("stdin", template), job)[1:]
    if len(found) > 1:
        raise ValueError(f"{template!r}: stdin can be one file only, and this is {len(found)}.")
    return found[0] if found else None


def formatIn(mediaType: str) -> str | None:
    """
    The name of the parameter that says what a result's media type is, if one does.

    @raise ValueError: for braces that are anything but that.

    >>> formatIn("{RESPONSEFORMAT}"), formatIn("text/csv")
    ('RESPONSEFORMAT', None)
    """
    if found := _REFERENCE.fullmatch(mediaType):
        return found[1]
    if "{" in mediaType or "}" in mediaType:
        raise ValueError(f"{mediaType!r}: braces are around the name of a parameter, all of it.")
    return None


def expandResults(results: Iterable[Mapping[str, Any]], job: UWSJob) -> list[dict[str, Any]]:
    """
    The declared results for one job: with the media types that its parameters ask for.

    @raise ValueError: for a media type that depends on anything but a Format with one value.
    """
    return [{**one, "mediaType": _mediaType(one["mediaType"], job)} for one in results]


def _mediaType(template: str, job: UWSJob) -> str:
    name = formatIn(template)
    if name is None:
        return template
    declared = job.declarations.get(name)
    if not isinstance(declared, Format) or declared.multiple:
        raise ValueError(f"{template!r}: a result's type can be a parameter of type Format only,"
                         " which has one value.")  # fmt: skip
    wanted = job.getParameter(declared)
    return str(wanted.mediaType)


def _group(element: object) -> tuple[str, ...]:
    group = element if isinstance(element, tuple) else (element,)
    if not group or not all(isinstance(one, str) for one in group):
        raise ValueError(f"{element!r}: an argument is text, a group one or more of them.")
    return group


def _pieces(template: str) -> Iterator[tuple[str, str | None]]:
    """The parts of a template: literal text, or the name of a parameter."""
    for match in _PIECE.finditer(template):
        if match[2] is not None:
            raise ValueError(
                f"{template!r}: {match[2]!r} is neither part of {{name}} nor doubled to stand"
                " for itself."
            )
        text = {"{{": "{", "}}": "}"}.get(match[0], match[0])
        yield text, match[1]


def _expandGroup(group: tuple[str, ...], values: Mapping[str, list[str]]) -> Iterator[str]:
    used = sorted(set().union(*map(namesIn, group)))
    for chosen in product(*(values[name] for name in used)):
        byName = dict(zip(used, chosen, strict=True))
        for template in group:
            yield "".join(byName[name] if name else text for text, name in _pieces(template))


def _values(job: UWSJob, name: str) -> list[str]:
    declared = job.declarations.get(name)
    if declared is None:
        known = ", ".join(job.declarations) or "none"
        raise ValueError(f"{{{name}}} in the command is no parameter of the job; it has {known}.")
    stored: Iterable[Value] = job.parameters.get(name, ())
    if not stored and declared.default is not None:
        stored = (declared.serialize(declared.default),)
    return [_argument(job, name, one) for one in stored]


def _argument(job: UWSJob, name: str, stored: Value) -> str:
    declared = job.declarations[name]
    if isinstance(stored, FileValue):
        return f"../parameters/{stored.file}"
    text = declared.argument(declared.value(stored))
    if "\0" in text:
        raise declared.refuse("a value that contains a NUL character cannot be given to a program")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise declared.refuse("half of a surrogate pair is no character in UTF-8") from None
    return text
