"""
The format that a client wants a result in: DALI's C{RESPONSEFORMAT} (4.3.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twuws.parameterbase import Parameter

#: The media types that DALI calls C{votable}; who asks for one of them gets that.
VOTABLE = frozenset({"application/x-votable+xml", "text/xml"})
#: How long a media type can be, with its parameters.
_LONGEST = 200

_RESTRICTED = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*"  # RFC 6838, 4.2
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_MEDIA_TYPE = re.compile(rf"({_RESTRICTED}/{_RESTRICTED})((?: *; *{_WORD}=(?:{_WORD}|{_QUOTED}))*)")
_PARAMETER = re.compile(rf" *; *({_WORD})=(?:({_WORD})|({_QUOTED}))")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+/-]*")


def readMediaType(text: str) -> tuple[str, dict[str, str]]:
    """
    A media type without its parameters, and these by name; all but values in lower case.

    @raise ValueError: if it is none, or none that can be passed on as it is.

    >>> readMediaType('Text/CSV; Header="present"')
    ('text/csv', {'header': 'present'})
    """
    found = _MEDIA_TYPE.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"{text[:60]!r} is no media type, such as text/csv")
    every = _PARAMETER.findall(found[2])
    parameters = {
        name.lower(): token or re.sub(r"\\(.)", r"\1", quoted[1:-1])
        for name, token, quoted in every
    }
    if len(parameters) < len(every):
        raise ValueError(f"{text[:60]!r} says something twice")
    return found[1].lower(), parameters


def checkFormats(formats: Any) -> dict[str, str]:
    """
    Return what maps short names to media types.

    @raise ValueError: if it does not, or is empty, or if names differ in case only.
    """
    if not isinstance(formats, Mapping) or not formats:
        raise ValueError(f"expected short names with their media types, found {formats!r}")
    for name, mediaType in formats.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(f"expected a short name of a format, such as csv, found {name!r}")
        if not isinstance(mediaType, str):
            raise ValueError(f"expected a media type for {name}, found {mediaType!r}")
        readMediaType(mediaType)
    if len({name.lower() for name in formats}) < len(formats):
        raise ValueError(f"expected names that differ in more than case: {', '.join(formats)}")
    return dict(formats)


@dataclass(frozen=True, kw_only=True)
class ResponseFormat:
    """
    The format that a result is to have.

    >>> ResponseFormat(name="csv", mediaType="text/csv;header=absent").parameters
    {'header': 'absent'}

    @ivar name: its short name, as it is declared.
    @ivar mediaType: what the result's is to be, for C{openResult}: as the client has sent it,
        if it was a media type, else as it is declared.
    """

    name: str
    mediaType: str

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the media type; their names are in lower case."""
        return readMediaType(self.mediaType)[1]


class Format(Parameter[ResponseFormat]):
    """
    The format of a result, which the client chooses: DALI's C{RESPONSEFORMAT}.

    >>> wanted = Format(formats={"votable": "application/x-votable+xml", "csv": "text/csv"})
    >>> wanted.parse("CSV")
    ResponseFormat(name='csv', mediaType='text/csv')
    >>> wanted.parse("text/xml").name
    'votable'

    A client sends a short name, or a media type; case does not matter in either.  If it is a
    media type, that is what the result's has to be (D-027).  It can have parameters:

        - of what is declared with the same parameters, none may have another value: who
          declares C{"text/csv;header=present"} need not care for C{header=absent};
        - other parameters are the job class's to look at.

    Where one media type is declared several times, the parameters decide, then the order.

    @ivar formats: media types by their short names, the preferred one first.  That is the
        default, unless there is another or the parameter is required.
    """

    typeName = "format"

    def __init__(self, *, formats: Mapping[str, str], **more: Any) -> None:
        super().__init__(**more)
        self.formats = checkFormats(formats)
        if self.default is None and not self.required:
            self.default = self._named(next(iter(self.formats)))

    def _named(self, name: str) -> ResponseFormat:
        return ResponseFormat(name=name, mediaType=self.formats[name])

    def parse(self, text: str) -> ResponseFormat:
        asked = text.strip()
        for name in self.formats:
            if name.lower() == asked.lower():
                return self._named(name)
        try:
            mediaType, parameters = readMediaType(asked)
        except ValueError:
            raise self.refuseValue(text) from None
        ranks = {
            name: rank
            for name in self.formats
            if (rank := self._rank(name, mediaType, parameters)) is not None
        }
        if not ranks:
            raise self.refuseValue(text)
        return ResponseFormat(name=max(ranks, key=ranks.__getitem__), mediaType=asked)

    def _rank(
        self, name: str, mediaType: str, parameters: Mapping[str, str]
    ) -> tuple[bool, int] | None:
        """How well a format suits what was asked for, as something to compare."""
        known, declared = readMediaType(self.formats[name])
        isVOTable = name.lower() == "votable" or known == "application/x-votable+xml"
        if mediaType != known and not (isVOTable and {mediaType, known} <= VOTABLE):
            return None
        if any(parameters.get(key, one).lower() != one.lower() for key, one in declared.items()):
            return None
        return mediaType == known, len(declared.keys() & parameters.keys())

    def serialize(self, value: ResponseFormat) -> str:
        isDeclared = self.formats.get(value.name) == value.mediaType
        return value.name if isDeclared else value.mediaType

    def argument(self, value: ResponseFormat) -> str:
        return value.name

    def wanted(self) -> str:
        return "one of " + ", ".join(f"{name} ({one})" for name, one in self.formats.items())
