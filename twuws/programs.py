"""
Programs as job classes: what a configuration file declares without Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twuws.jobs import UWSJob
from twuws.parameters import Parameter

#: An argument, or a group of arguments that is left out if a parameter in it has no value.
Argument = str | tuple[str, ...]


class ProgramJob(UWSJob):
    """
    A job that a program does.

    @cvar command: the program and its arguments; C{{name}} stands for a parameter's value.
    @cvar programResults: what it makes, as C{job.json} has it: C{id}, C{file}, C{mediaType},
        C{optional}, and C{stream} for C{stdout} or C{stderr}.
    @cvar stdin: the file that is its standard input, with C{{name}} for a parameter.
    """

    command: ClassVar[tuple[Argument, ...]] = ()
    programResults: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    stdin: ClassVar[str | None] = None


def programClass(
    name: str,
    command: tuple[Argument, ...],
    parameters: Mapping[str, Parameter[Any]],
    results: tuple[Mapping[str, Any], ...] = (),
    stdin: str | None = None,
    **more: Any,
) -> type[ProgramJob]:
    """
    Make the job class for a program.

    @param more: other class attributes, such as C{title}.
    @raise TypeError: for a name that no parameter can have.
    @raise ParameterError: for a default that its parameter cannot have.
    """
    body = {
        "command": command,
        "programResults": results,
        "stdin": stdin,
        "__module__": __name__,
        **more,
        **parameters,
    }
    return type(name, (ProgramJob,), body)
