"""
Tables of a TOML file, taken apart key by key: what is wrong is noted, and reading goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import Enum
from math import isfinite
from typing import Any

from twuws.formats import checkFormats
from twuws.times import LONGEST_DURATION, parseInstant

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?i?)B?", re.ASCII)
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS.update({"ki": 2**10, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40})


def _whole(value: Any) -> int:
    if isinstance(value, str):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _atLeast(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if (number := _whole(value)) < least:
            raise ValueError(value)
        return number

    return read


def _priority(value: Any) -> int:
    if abs(number := _whole(value)) > 1000:
        raise ValueError(value)
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(value)
    return value


def _positiveNumber(value: Any) -> float:
    if not 0 < (number := _number(value)) <= LONGEST_DURATION:
        raise ValueError(value)
    return number


def _instance(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError(value)
        return value

    return read


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(value)
    return tuple(value)


def _size(value: Any) -> int:
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        return int(float(found[1]) * _UNITS[found[2]])
    return _atLeast(1)(value)


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return parseInstant(_instance(str)(value))


def _pattern(value: Any) -> str:
    try:
        re.compile(_instance(str)(value))
    except re.error as e:
        raise ValueError(value) from e
    return str(value)


class Kind(Enum):
    """What a key can hold: in words, and how it is read."""

    TEXT = ("a text", _instance(str))
    TEXTS = ("a list of texts", _texts)
    LIST = ("a list", _instance(list))
    TRUTH = ("true or false", _instance(bool))
    WHOLE = ("a whole number", _whole)
    COUNT = ("a whole number, 0 or more", _atLeast(0))
    POSITIVE = ("a whole number, 1 or more", _atLeast(1))
    PRIORITY = ("a whole number from -1000 to 1000", _priority)
    NUMBER = ("a number", _number)
    POSITIVE_NUMBER = (f"a number above 0, {LONGEST_DURATION} at most", _positiveNumber)
    SIZE = ('a number of bytes, or a text such as "2 GB"', _size)
    INSTANT = ("an instant such as 2015-10-26T09:15:35Z", _instant)
    PATTERN = ("a regular expression", _pattern)
    FORMATS = ('short names with their media types, such as {csv = "text/csv"}', checkFormats)

    def __init__(self, words: str, read: Callable[[Any], Any]) -> None:
        self.words = words
        self.read = read


class Table:
    """
    One table of a file.

    @ivar file: the file's name, for messages.
    @ivar name: of the table, with dots; empty for the whole file.
    @ivar mistakes: where what is wrong is noted; shared by all tables of a file.
    @ivar prefix: what keys have before them in messages.
    """

    def __init__(
        self, file: str, name: str, content: Any, mistakes: list[str], prefix: str = ""
    ) -> None:
        self.file = file
        self.name = name
        self.mistakes = mistakes
        self.prefix = prefix
        if not isinstance(content, Mapping):
            self.wrong("", f"expected a table, found {content!r}")
            content = {}
        self._content = dict(content)
        self._known: set[str] = set()

    def wrong(self, key: str, message: str) -> None:
        """Note a mistake."""
        where = f" [{self.name}]" if self.name else ""
        what = f" {self.prefix}{key}:" if key else ""
        self.mistakes.append(f"{self.file}:{where}{what} {message}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._content

    def isZero(self, key: str) -> bool:
        """Whether the key holds 0, which is taken out then."""
        value = self._content.get(key)
        if value != 0 or isinstance(value, bool):
            return False
        self.pop(key)
        return True

    def pop(self, key: str) -> Any:
        """Take out whatever the key holds; C{None} if it is not there."""
        self._known.add(key)
        return self._content.pop(key, None)

    def forget(self, *keys: str) -> None:
        """Take out keys that do not matter."""
        for key in keys:
            self.pop(key)

    def take(self, key: str, kind: Kind, default: Any) -> Any:
        """What the key holds, read as what it should be; the default if it is wrong."""
        value = self.pop(key)
        if value is None:
            return default
        try:
            return kind.read(value)
        except (ValueError, TypeError):
            self.wrong(key, f"expected {kind.words}, found {value!r}")
            return default

    def table(self, key: str) -> Table:
        """A table in this one; an empty one if it is not there."""
        return self._below(key, self.pop(key))

    def tables(self, key: str) -> dict[str, Table]:
        """The tables in a table in this one, by name."""
        self._known.add(key)
        outer = self._below(key, self._content.pop(key, None))
        return {name: outer._below(name, one) for name, one in outer._content.items()}

    def names(self) -> list[str]:
        """All keys of this table that have not been taken out."""
        return list(self._content)

    def texts(self) -> dict[str, str | None]:
        """All keys of this table, which hold texts."""
        return {key: self.take(key, Kind.TEXT, None) for key in self.names()}

    def _below(self, key: str, content: Any) -> Table:
        name = f"{self.name}.{key}" if self.name else key
        return Table(self.file, name, {} if content is None else content, self.mistakes)

    def refuseRest(self) -> None:
        """Note each key that nobody has asked for."""
        for key in self._content:
            close = get_close_matches(key, self._known, 1)
            meant = f"did you mean {close[0]}?" if close else ", ".join(sorted(self._known))
            self.wrong(key, f"this key means nothing here; {meant}")
