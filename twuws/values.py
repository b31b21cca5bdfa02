"""
Values of parameters, as they are stored: text, or a file in the job's directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FileValue:
    """
    The value of a parameter that is in a file in the job's directory.

    @ivar file: its name below C{parameters/}, and below C{{job}/parameters/} over HTTP.
    @ivar mediaType: as the client gave it.
    @ivar size: in bytes.
    @ivar fileName: what the client called it; never used as a path.
    @ivar label: the name before the comma of DALI's C{UPLOAD=label,param:file}.
    """

    file: str
    mediaType: str = "application/octet-stream"
    size: int = 0
    fileName: str | None = None
    label: str | None = None

    def asJSON(self) -> dict[str, Any]:
        """The same as a dictionary that L{valueFromJSON} reads."""
        return {name: value for name, value in vars(self).items() if value is not None}


#: A value as it is stored: text as it was sent, or a file.
Value = str | FileValue

#: Values by the canonical spelling of the parameter's name, in the order they were set.
Values = Mapping[str, tuple[Value, ...]]


def valuesToJSON(values: Values) -> dict[str, list[Any]]:
    """Write values so that L{valuesFromJSON} gives them back."""
    return {
        name: [one if isinstance(one, str) else one.asJSON() for one in several]
        for name, several in values.items()
    }


def valuesFromJSON(stored: Mapping[str, list[Any]]) -> dict[str, tuple[Value, ...]]:
    """Read what L{valuesToJSON} wrote."""
    return {
        name: tuple(one if isinstance(one, str) else FileValue(**one) for one in several)
        for name, several in stored.items()
    }
