"""Declared parameters: what they take, what they refuse, and in which words."""

from __future__ import annotations

import doctest
import math
import time
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twuws import parameters
from twuws.errors import ParameterError
from twuws.jobs import JobRecord, UWSJob
from twuws.parameters import (
    TYPES,
    Boolean,
    Choice,
    Document,
    File,
    Format,
    Instant,
    Integer,
    Interval,
    Parameter,
    Real,
    ResponseFormat,
    Text,
)
from twuws.values import FileValue, valuesFromJSON, valuesToJSON

ANY_TEXT = st.text(st.characters(exclude_categories=()))
ADVERSARIAL = ["9" * 5000, "-" + "9" * 5000, "1_000", "\uff11\uff12", "nan", "inf", "-Infinity",
               "1e999", "-1e999", " 5 ", "0x10", "", " ", "--", "\0", "1\0", "1,5", "1 2 3",
               "\ud800", "1e", ".", "+", "True", "\u0130", "9" * 400 + ".5",
               "1e" + "9" * 5000]  # fmt: skip
MILLENNIUM = datetime(2000, 1, 1, tzinfo=UTC)


class Declared(UWSJob):
    """One parameter of every type, with limits and without."""

    integer = Integer()
    count = Integer(minimum=1, maximum=10)
    real = Real()
    ra = Real(minimum=0, maximum=360, unit="deg")
    text = Text()
    word = Text(maximumLength=5, pattern="[a-z]*")
    band = Choice(choices=["g", "r", "i"])
    format = Format(formats={"votable": "application/x-votable+xml", "csv": "text/csv"})
    boolean = Boolean()
    when = Instant()
    since = Instant(minimum=MILLENNIUM)
    interval = Interval()
    energy = Interval(minimum=0, maximum=10, unit="keV")
    file = File()
    document = Document()


ALL = list(Declared.declarations.values())


@settings(max_examples=500)
@given(
    declared=st.sampled_from(ALL),
    text=ANY_TEXT | st.sampled_from(ADVERSARIAL) | st.from_regex(r"[-+0-9eE.infINF ]{1,12}"),
)
def test_anyTextIsAValueOrAParameterError(declared: Parameter[Any], text: str) -> None:
    """Nothing else is raised, and the error names the parameter; what is taken is stable."""
    try:
        accepted = declared.accept(text)
    except ParameterError as e:
        error = e
    else:
        assert accepted == text
        value = declared.value(text)
        assert declared.parse(declared.serialize(value)) == value
        return
    assert error.name == declared.name
    assert str(error).startswith(f"Parameter {declared.name}: ")
    assert len(str(error)) < 1000


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: declared.name)
def test_adversarialText(declared: Parameter[Any]) -> None:
    """What Python takes for a number is not always one here."""
    taken = {
        "integer": {" 5 "},
        "count": {" 5 "},
        "real": {" 5 "},
        "ra": {" 5 "},
        "text": set(ADVERSARIAL),
        "word": {"nan", "inf", ""},
        "boolean": {"True"},
    }
    for text in ADVERSARIAL:
        if text in taken.get(declared.name, set()):
            assert declared.accept(text) == text
        else:
            with pytest.raises(ParameterError):
                declared.accept(text)


EVERY_VALUE: list[tuple[Parameter[Any], st.SearchStrategy[Any]]] = [
    (Integer(), st.integers(-(10**3999), 10**3999)),
    (Real(), st.floats(allow_nan=False, allow_infinity=False)),
    (Instant(), st.datetimes(timezones=st.just(UTC))),
    (Text(), ANY_TEXT),
    (Choice(choices=["a", " b", "C"]), st.sampled_from(["a", " b", "C"])),
    (
        Format(formats={"votable": "application/x-votable+xml", "csv": "text/csv"}),
        st.sampled_from(["text/csv", "text/csv; header=absent"]).map(
            lambda mediaType: ResponseFormat(name="csv", mediaType=mediaType)
        ),
    ),
    (Boolean(), st.booleans()),
    (
        Interval(),
        st.lists(st.floats(allow_nan=False), min_size=2, max_size=2).map(sorted).map(tuple),
    ),
    (File(), ANY_TEXT),
    (Document(), ANY_TEXT),
]


@settings(max_examples=400)
@given(st.sampled_from(EVERY_VALUE).flatmap(lambda one: st.tuples(st.just(one[0]), one[1])))
def test_everyValueComesBack(one: tuple[Parameter[Any], Any]) -> None:
    """Exactly."""
    declared, value = one
    assert declared.parse(declared.serialize(value)) == value


def test_theCasesAboveAreAllTypes() -> None:
    assert {type(one) for one in ALL} == set(TYPES.values())
    assert {type(one) for one, _ in EVERY_VALUE} == set(TYPES.values())
    assert all(TYPES[kind.__name__] is kind for kind in TYPES.values())


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("count", ["1", "10", "+1", " 010 "], ["0", "11", "-1"]),
        ("ra", ["0", "360", "-0.0", "3.6e2", "360.", ".5"], ["-1e-300", "360.0000001", "1e9"]),
        ("since", ["2000", "2000-01-01T00:00:00Z"], ["1999-12-31T23:59:59.999Z", "1999"]),
        ("energy", ["0 10", "10 10", "-Inf +Inf", "0 inf"], ["-1 5", "5 11", "5 4", "NaN NaN"]),
        ("interval", ["-1 5", "1e300 +Inf", "-inf 0"], ["+Inf -Inf", "5", "1 2 3", "1,2", ""]),
        ("word", ["", "abcde"], ["abcdef", "A", "a\n"]),
        ("band", ["g"], ["G", " g", ""]),
        ("format", ["csv", "Text/CSV;a=b"], ["fits", "", "text/*", "text/csv;", "text/csv;a=b;A=c",
                                            "text/csv\n;a=b", "text/csv;a=" + "b" * 200]),
        ("boolean", ["true", "FALSE", "1", "0", " True "], ["yes", "2", ""]),
    ],
)  # fmt: skip
def test_limitsAreThemselvesAllowed(name: str, good: list[str], bad: list[str]) -> None:
    declared = Declared.declarations[name]
    for text in good:
        assert declared.accept(text) == text
    for text in bad:
        with pytest.raises(ParameterError):
            declared.accept(text)


@given(st.integers())
def test_limitsOfIntegers(value: int) -> None:
    try:
        assert Declared.declarations["count"].parse(str(value)) in range(1, 11)
    except ParameterError:
        assert not 1 <= value <= 10


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("integer", "x", "Parameter integer: 'x' is not a whole number"),
        ("count", "11", "Parameter count: '11' is not a whole number from 1 to 10"),
        ("ra", "-1", "Parameter ra: '-1' is not a number from 0 to 360 deg"),
        ("since", "1999", "Parameter since: '1999' is not an instant such as"
                          " 2015-10-26T09:15:35.123Z of at least 2000-01-01T00:00:00.000Z"),
        ("word", "A", "Parameter word: 'A' is not text that matches [a-z]*"),
        ("word", "abcdef", "Parameter word: 6 characters are more than the 5 that it may have"),
        ("band", "u", "Parameter band: 'u' is not one of g, r, i"),
        ("format", "fits", "Parameter format: 'fits' is not one of"
                           " votable (application/x-votable+xml), csv (text/csv)"),
        ("boolean", "yes", "Parameter boolean: 'yes' is not true or false"),
        ("energy", "5 1", "Parameter energy: '5 1' is not two numbers from 0 to 10 keV, the smaller"
                          " first, such as '0.5 2.5' or '0.5 +Inf'"),
        (
            "file",
            "x",
            "Parameter file: this is a file; send it in a multipart form, or say where it is:"
            " UPLOAD=file,URL",
        ),
        ("integer", "9" * 5000, "Parameter integer: '" + "9" * 57 + "...' is not a whole number"),
    ],
    ids=lambda one: one[:12],
)  # fmt: skip
def test_messagesSayWhatWouldBeRight(name: str, text: str, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Declared.declarations[name].accept(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("declared", ALL, ids=lambda declared: declared.name)
def test_filesAreForFilesOnly(declared: Parameter[Any]) -> None:
    given = FileValue(file="f")
    if isinstance(declared, File):
        assert declared.accept(given) is given
        assert declared.toStore(given) is given
    else:
        with pytest.raises(ParameterError, match=r"this is not a file; give .* as text"):
            declared.accept(given)


@pytest.mark.parametrize(
    "text", ["9" * 20_000 + "x", "1." + "0" * 20_000 + "x", " " * 20_000 + "x"]
)
def test_longTextIsRefusedAtOnce(text: str) -> None:
    """A number's pattern once took quadratic time: 70 s, in the reactor, for 40 kB of digits."""
    started = time.process_time()
    for declared in ALL:
        if not isinstance(declared, Text):
            with pytest.raises(ParameterError):
                declared.accept(text)
    assert time.process_time() - started < 2


# Values that come from Python


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Instant(), date(2026, 1, 1)),
        (Instant(), datetime(2026, 1, 1)),
        (Interval(), 5),
        (Interval(), (1.0,)),
        (Interval(), ("a", "b")),
        (Interval(), (10**400, 1)),
        (Interval(), (math.nan, math.nan)),
        (Integer(), 10**5000),
        (Integer(), 1.5),
        (Integer(), True),
        (Real(), math.nan),
        (Real(), math.inf),
        (Choice(choices=["1"]), 2),
        (Format(formats={"csv": "text/csv"}), 2),
    ],
    ids=lambda one: type(one).__name__,
)
def test_valuesOfTheWrongTypeAreParameterErrors(declared: Parameter[Any], value: Any) -> None:
    """Whatever a job class assigns, the message names the parameter."""
    declared.name = "p"
    with pytest.raises(ParameterError, match=r"^Parameter p: .* is not "):
        declared.toStore(value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Integer(default="5"), 5),
        (Real(default=1), 1.0),
        (Interval(default=[0, 1]), (0.0, 1.0)),
        (Instant(default="2000"), MILLENNIUM),
        (Boolean(default=False), False),
        (Text(default=""), ""),
    ],
    ids=lambda one: repr(one)[:20],
)
def test_defaultsHaveTheRightType(declared: Parameter[Any], value: Any) -> None:
    """Also where they come from a configuration file, which has other types."""
    job = type("Defaulting", (UWSJob,), {"p": declared})
    found = job(JobRecord(service="s", jobId="1", creationTime=MILLENNIUM)).p
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Integer(default=0, minimum=1),
        lambda: Integer(default=1.5),
        lambda: Integer(default="x"),
        lambda: Integer(minimum="x"),  # type: ignore[arg-type]  # which is the point
        lambda: Integer(minimum=2, maximum=1),
        lambda: Real(default=math.nan),
        lambda: Real(maximum=math.inf),
        lambda: Instant(minimum=datetime(2026, 1, 1)),
        lambda: Choice(choices=["a"], default="b"),
        lambda: Format(formats={"csv": "text/csv"}, default="fits"),
        lambda: Text(maximumLength=1, default="ab"),
        lambda: Interval(default=(2, 1)),
        lambda: Interval(default=5),
    ],
)
def test_aDeclarationThatCannotBeRightIsRefusedWithTheClass(make: Any) -> None:
    """Before Python 3.12 the error arrives wrapped in another."""
    with pytest.raises((ParameterError, RuntimeError)) as caught:
        type("Wrong", (UWSJob,), {"p": make()})
    error = caught.value if isinstance(caught.value, ParameterError) else caught.value.__cause__
    assert isinstance(error, ParameterError)
    assert error.name == "p"


# Stored values

FILES = st.builds(
    FileValue,
    file=ANY_TEXT,
    mediaType=ANY_TEXT,
    size=st.integers(0),
    fileName=st.none() | ANY_TEXT,
    label=st.none() | ANY_TEXT,
)
VALUES = st.dictionaries(ANY_TEXT, st.lists(ANY_TEXT | FILES, max_size=3).map(tuple), max_size=4)


@given(VALUES)
@example({"a": ("", FileValue(file="f"))})
def test_valuesComeBackFromJSON(values: Any) -> None:
    assert valuesFromJSON(valuesToJSON(values)) == values


def test_theExamplesInTheModule() -> None:
    found = doctest.testmod(parameters)
    assert found.attempted
    assert not found.failed
