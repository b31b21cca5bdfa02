"""
What a job can be told: typed declarations of its parameters.

A declaration is an attribute of a job class.  It parses, checks and serializes the
values; error messages, XML, forms and descriptions are all made from it::

    class Cutout(UWSJob):
        ra = Real(unit="deg", ucd="pos.eq.ra", minimum=0, maximum=360, required=True)

On a job, C{job.ra} is the parsed value, or the default, or C{None}; for a parameter that
is C{multiple}, a list.  What is stored is the text that the client sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from twuws.formats import Format, ResponseFormat
from twuws.parameterbase import Parameter, T
from twuws.times import formatInstant, parseInstant
from twuws.values import FileValue, Value

__all__ = [
    "TYPES",
    "Boolean",
    "Choice",
    "Document",
    "File",
    "Format",
    "Instant",
    "Integer",
    "Interval",
    "Parameter",
    "Real",
    "ResponseFormat",
    "Text",
]


def _sum(numbers: Iterable[float]) -> float | None:
    """What several values cost together; C{None} if there is none, or no end to it."""
    several = [float(one) for one in numbers]
    total = math.fsum(several)
    return total if several and math.isfinite(total) else None


class _Ordered(Parameter[T]):
    """A parameter whose values have an order, with limits that are themselves allowed."""

    noun: ClassVar[str]

    def __init__(self, *, minimum: T | None = None, maximum: T | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.minimum = minimum
        self.maximum = maximum

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        low, high = self.minimum, self.maximum
        self.minimum = self.maximum = None
        if low is not None:
            self.minimum = self.parse(self._written(low))
        if high is not None:
            self.maximum = self.parse(self._written(high))
        super().__set_name__(owner, name)

    def wanted(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        low, high = (
            None if limit is None else self.serialize(limit).removesuffix(".0")
            for limit in (self.minimum, self.maximum)
        )
        if low is not None and high is not None:
            return f"{self.noun} from {low} to {high}{unit}"
        if low is not None:
            return f"{self.noun} of at least {low}{unit}"
        if high is not None:
            return f"{self.noun} of at most {high}{unit}"
        return self.noun + (f" in {self.unit}" if self.unit else "")

    def parse(self, text: str) -> T:
        try:
            value: Any = self.read(text.strip())
        except (ValueError, OverflowError):
            raise self.refuseValue(text) from None
        below = self.minimum is not None and value < self.minimum
        if below or (self.maximum is not None and value > self.maximum):
            raise self.refuseValue(text)
        return value  # type: ignore[no-any-return]

    def read(self, text: str) -> T:
        """Read one value, without looking at the limits; raise C{ValueError}."""
        raise NotImplementedError


class Integer(_Ordered[int]):
    """
    A whole number, in decimal digits.

    >>> Integer(minimum=1).parse(" 12 ")
    12
    """

    typeName = "integer"
    noun = "a whole number"
    _digits = re.compile(r"[+-]?\d{1,4000}", re.ASCII)

    def costOf(self, values: Sequence[float]) -> float | None:
        return _sum(values)

    def read(self, text: str) -> int:
        if not self._digits.fullmatch(text):
            raise ValueError(text)
        return int(text)


class Real(_Ordered[float]):
    """
    A finite number.

    >>> Real(maximum=90).parse("1.25e1")
    12.5
    """

    typeName = "real"
    noun = "a number"
    _number = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

    def read(self, text: str) -> float:
        if not self._number.fullmatch(text) or math.isinf(float(text)):
            raise ValueError(text)
        return float(text)

    def costOf(self, values: Sequence[float]) -> float | None:
        return _sum(values)

    def serialize(self, value: float) -> str:
        return repr(float(value)) if isinstance(value, float) else str(value)


class Instant(_Ordered[datetime]):
    """An instant in UTC (DALI 3.3.3), as a C{datetime} with zone."""

    typeName = "timestamp"
    noun = "an instant such as 2015-10-26T09:15:35.123Z"

    def read(self, text: str) -> datetime:
        return parseInstant(text)

    def serialize(self, value: datetime) -> str:
        utc = formatInstant(value)
        return utc[:-1] + f"{value.microsecond % 1000:03d}Z" if value.microsecond % 1000 else utc


class Text(Parameter[str]):
    """
    Any text.

    @ivar maximumLength: in characters; C{None} for any.
    @ivar pattern: a regular expression that all of it matches; C{None} for any.
    """

    typeName = "text"

    def __init__(
        self, *, maximumLength: int | None = None, pattern: str | None = None, **more: Any
    ) -> None:
        super().__init__(**more)
        self.maximumLength = maximumLength
        self.pattern = pattern

    def parse(self, text: str) -> str:
        if self.maximumLength is not None and len(text) > self.maximumLength:
            raise self.refuse(f"{len(text)} characters are more than the {self.maximumLength}"
                              " that it may have")  # fmt: skip
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise self.refuseValue(text)
        return text

    def wanted(self) -> str:
        return f"text that matches {self.pattern}" if self.pattern else "text"


class Choice(Parameter[str]):
    """
    One of a few words, in exactly this spelling (DALI 3.2: values are case-sensitive).

    @ivar choices: the words.
    """

    typeName = "choice"

    def __init__(self, *, choices: Iterable[str], **more: Any) -> None:
        super().__init__(**more)
        self.choices = tuple(choices)

    def parse(self, text: str) -> str:
        if text not in self.choices:
            raise self.refuseValue(text)
        return text

    def wanted(self) -> str:
        return "one of " + ", ".join(self.choices)


class Boolean(Parameter[bool]):
    """A truth value: C{true}, C{false}, C{1} or C{0}, in any case."""

    typeName = "boolean"
    _words: ClassVar = {"true": True, "1": True, "false": False, "0": False}

    def parse(self, text: str) -> bool:
        try:
            return bool(self._words[text.strip().lower()])
        except KeyError:
            raise self.refuseValue(text) from None

    def serialize(self, value: bool) -> str:
        return "true" if value else "false"

    def wanted(self) -> str:
        return "true or false"


class Interval(Parameter[tuple[float, float]]):
    """
    Two numbers, the first at most the second (DALI 3.3.4), open with C{-Inf} and C{+Inf}.

    >>> Interval().parse("0.5 +Inf")
    (0.5, inf)
    """

    typeName = "interval"
    _open: ClassVar = {"-inf": -math.inf, "+inf": math.inf, "inf": math.inf}

    def __init__(
        self, *, minimum: float | None = None, maximum: float | None = None, **more: Any
    ) -> None:
        super().__init__(**more)
        self.minimum = minimum
        self.maximum = maximum

    def parse(self, text: str) -> tuple[float, float]:
        ends = text.split()
        try:
            low, high = (
                self._open[end.lower()] if end.lower() in self._open else Real().read(end)
                for end in ends
            )
        except ValueError:
            raise self.refuseValue(text) from None
        # Limits hold for ends that are given; an open end is cut by whoever uses it.
        outside = any(
            (self.minimum is not None and end < self.minimum)
            or (self.maximum is not None and end > self.maximum)
            for end in (low, high)
            if math.isfinite(end)
        )
        if low > high or outside:
            raise self.refuseValue(text)
        return low, high

    def costOf(self, values: Sequence[tuple[float, float]]) -> float | None:
        return _sum(high - low for low, high in values)

    def serialize(self, value: tuple[float, float]) -> str:
        return " ".join(
            ("+Inf" if end > 0 else "-Inf") if math.isinf(end) else repr(float(end))
            for end in value
        )

    def wanted(self) -> str:
        within = f" from {self.minimum}" if self.minimum is not None else ""
        within += f" to {self.maximum}" if self.maximum is not None else ""
        unit = f" {self.unit}" if self.unit else ""
        return f"two numbers{within}{unit}, the smaller first, such as '0.5 2.5' or '0.5 +Inf'"


class File(Parameter[str]):
    """
    A file that the client uploads.

    On a job that runs, the value is the file's path.
    """

    typeName = "file"

    def accept(self, value: Value) -> Value:
        if isinstance(value, str):
            raise self.refuse(
                "this is a file; send it in a multipart form,"
                f" or say where it is: UPLOAD={self.name},URL"
            )
        return value

    def cost(self, values: Sequence[Value]) -> float | None:
        """The size of the files, in bytes; that of one that is yet to be loaded is not known."""
        files = [one for one in values if isinstance(one, FileValue)]
        if any(one.source is not None and one.size == 0 for one in files):
            return None
        return float(sum(one.size for one in files))

    def parse(self, text: str) -> str:
        return text

    def wanted(self) -> str:
        return "an uploaded file"


class Document(File):
    """
    A file that is an XML document; it is seen to that it is well-formed, and has no DOCTYPE.

    It comes as any other file does.  If a job class has just one, it can also be the whole
    body of the request.
    """

    typeName = "document"

    def wanted(self) -> str:
        return "an XML document"


#: The declarations by the name of their class, for configuration files.
TYPES: dict[str, type[Parameter[Any]]] = {
    kind.__name__: kind
    for kind in (Integer, Real, Text, Choice, Format, Boolean, Instant, Interval, File, Document)
}
