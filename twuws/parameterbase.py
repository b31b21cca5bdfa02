"""
What all declarations of parameters have in common; the types are in L{twuws.parameters}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar, overload

from twuws.errors import ParameterError
from twuws.values import FileValue, Value

T = TypeVar("T")


class Parameter(Generic[T]):
    """
    What all declarations have in common.

    @ivar name: the name of the attribute that it is, set by the class.
    @ivar default: a value of the right type; C{None} for none.
    @ivar required: whether a job cannot run without.
    @ivar multiple: whether it may have several values.
    @ivar unit: a unit in VOUnits; C{ucd}: a UCD; C{description}: a sentence for people.
    """

    typeName: ClassVar[str] = "text"
    name: str = ""

    def __init__(
        self,
        *,
        default: T | None = None,
        required: bool = False,
        multiple: bool = False,
        unit: str | None = None,
        ucd: str | None = None,
        description: str = "",
    ) -> None:
        self.default = default
        self.required = required
        self.multiple = multiple
        self.unit = unit
        self.ucd = ucd
        self.description = description

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        if self.default is not None:
            self.default = self.parse(self._written(self.default))

    @overload
    def __get__(self, job: None, owner: type) -> Parameter[T]: ...
    @overload
    def __get__(self, job: Any, owner: type) -> Any: ...
    def __get__(self, job: Any, owner: type) -> Any:
        return self if job is None else job.getParameter(self)

    def __set__(self, job: Any, value: Any) -> None:
        several = value if self.multiple and not isinstance(value, str) else [value]
        job.setParameter(self.name, [] if value is None else [self.toStore(v) for v in several])

    def toStore(self, value: T | Value) -> Value:
        """Make what is stored from a Python value; raise L{ParameterError} if it is no such."""
        return self.accept(value if isinstance(value, FileValue) else self._written(value))

    def _written(self, value: T | str) -> str:
        """The text of a Python value, or of what is text already."""
        try:
            return value if isinstance(value, str) else self.serialize(value)
        except (AttributeError, OverflowError, TypeError, ValueError):
            raise self.refuseValue(value) from None

    def accept(self, value: Value) -> Value:
        """
        Return C{value} if this parameter can have it.

        @raise ParameterError: naming the parameter, what is wrong, and what would be right.
        """
        if isinstance(value, FileValue):
            raise self.refuse(f"this is not a file; give {self.wanted()} as text")
        self.parse(value)
        return value

    def acceptAll(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """Return all values if this parameter can have them; see L{accept}."""
        if len(values) > 1 and not self.multiple:
            raise self.refuse(f"{len(values)} values were given, but it takes one")
        return tuple(self.accept(one) for one in values)

    def value(self, stored: Value) -> T:
        """The Python value of what is stored."""
        return self.parse(str(stored))

    def parse(self, text: str) -> T:
        """Read one value from text; raise L{ParameterError} if it is none."""
        raise NotImplementedError

    def serialize(self, value: T) -> str:
        """Write one value so that L{parse} reads the same."""
        return str(value)

    def argument(self, value: T) -> str:
        """Write one value for the command line of a program."""
        return self.serialize(value)

    def cost(self, values: Sequence[Value]) -> float | str | None:
        """
        What the work costs by this parameter: a number that run times grow with, or a text, if
        all that can be said is whether it is the same.  C{None} if that is not known.

        @param values: as stored; none for the default.
        """
        try:
            given: list[Any] = [self.value(one) for one in values]
            if not given:
                given = [] if self.default is None else [self.default]
            return self.costOf(given)
        except (ArithmeticError, ParameterError):
            return None

    def costOf(self, values: Sequence[T]) -> float | str | None:
        """The same for parsed values."""
        return "\n".join(self.argument(one) for one in values)

    def wanted(self) -> str:
        """A noun phrase for error messages: what a right value is."""
        raise NotImplementedError

    def refuse(self, why: str) -> ParameterError:
        """Make the error that names this parameter."""
        return ParameterError(self.name, why)

    def refuseValue(self, value: object) -> ParameterError:
        """Make the error for a value that is not what is wanted."""
        if isinstance(value, str):
            shown = repr(value if len(value) <= 60 else value[:57] + "...")
        else:
            shown = f"this {type(value).__name__}"
        return self.refuse(f"{shown} is not {self.wanted()}")
