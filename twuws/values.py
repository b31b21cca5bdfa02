"""
Values of parameters, as they are stored: text, or a file in the job's directory.

A file may have yet to come there, from where its C{source} leads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

#: How long a URI to load from can be, in characters.
LONGEST_SOURCE = 2000

_URI = re.compile(r"[\x21-\x7e]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:\s*;[\x20-\x7e]*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class FileValue:
    """
    The value of a parameter that is in a file in the job's directory.

    @ivar file: its name below C{parameters/}, and below C{{job}/parameters/} over HTTP.
    @ivar mediaType: as the client gave it.
    @ivar size: in bytes.
    @ivar fileName: what the client called it; never used as a path.
    @ivar label: the name before the comma of DALI's C{UPLOAD=label,param:file}.
    @ivar source: the URI that the file is loaded from before the job's work begins; until
        then there is none, and C{size} is 0.
    """

    file: str
    mediaType: str = "application/octet-stream"
    size: int = 0
    fileName: str | None = None
    label: str | None = None
    source: str | None = None

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


def sizeOf(values: Values) -> int:
    """The bytes of all files among values, each file once."""
    files = (one for several in values.values() for one in several if isinstance(one, FileValue))
    return sum({one.file: one.size for one in files}.values())


def checkedSource(uri: str) -> str:
    """
    Return a URI that files can be loaded from: http or https, and nothing odd about it.

    @raise ValueError: with what is wrong, as a sentence about "it".

    >>> checkedSource("ftp://example.org/a")
    Traceback (most recent call last):
    ValueError: its scheme is neither http nor https
    """
    if len(uri) > LONGEST_SOURCE:
        raise ValueError(f"it has {len(uri)} characters; {LONGEST_SOURCE} are the most")
    if not _URI.fullmatch(uri):
        raise ValueError("it has characters that URLs percent-encode")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ValueError("it is malformed: its host and port make no sense") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("its scheme is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("it has a user name or a password; nothing is loaded with credentials")
    if not parts.hostname:
        raise ValueError("it names no host")
    if port == 0 or not _isHost(parts.hostname):
        raise ValueError("it is malformed: its host and port make no sense")
    if ":" not in parts.hostname and not _isHostName(parts.hostname):
        raise ValueError(
            "its host name is none that can be: between the dots are 1 to 63 letters, digits"
            " and hyphens, no hyphen first or last, and xn-- only before what stands for others"
        )
    return uri


def _isHost(name: str) -> bool:
    if ":" not in name:
        return _HOST.fullmatch(name) is not None
    try:
        return IPv6Address(name).scope_id is None
    except ValueError:
        return False


def _isHostName(name: str) -> bool:
    """Whether a host can be called that, also in the eyes of Twisted, which would connect to it."""
    import idna  # not there in the runner, which needs it as little as Twisted

    try:
        idna.encode(name)
    except UnicodeError:
        return False
    return True


def mediaTypeOf(header: str) -> str:
    """
    The media type that a C{Content-Type} gives, if it is one that can be passed on.

    >>> mediaTypeOf("text/xml; charset=utf-8"), mediaTypeOf("XML")
    ('text/xml; charset=utf-8', 'application/octet-stream')
    """
    mediaType = header.strip()
    isOne = len(mediaType) <= 200 and _MEDIA_TYPE.fullmatch(mediaType)
    return mediaType if isOne else FileValue.mediaType
