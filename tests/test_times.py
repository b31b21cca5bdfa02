"""Instants and durations: what is read, what is written, and that nothing else happens."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twuws import times
from twuws.times import LONGEST_DURATION, formatInstant, parseDuration, parseInstant

AWARE = st.datetimes(
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 12, 31),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015-10-26T09:15:35", (2015, 10, 26, 9, 15, 35)),
        ("2015-10-26T09:15:35Z", (2015, 10, 26, 9, 15, 35)),
        ("2015-10-26T09:15:35.123Z", (2015, 10, 26, 9, 15, 35, 123000)),
        ("2015-10-26T09:15:35.123", (2015, 10, 26, 9, 15, 35, 123000)),
        ("2015-10-26T09:15:35.123456Z", (2015, 10, 26, 9, 15, 35, 123456)),
        ("2015-10-26T09:15:35.123456789Z", (2015, 10, 26, 9, 15, 35, 123456)),
        ("2015-10-26T09:15:35.5Z", (2015, 10, 26, 9, 15, 35, 500000)),
        ("2015-10-26T09:15", (2015, 10, 26, 9, 15)),
        ("2015-10-26 09:00", (2015, 10, 26, 9)),
        ("2015-10-26", (2015, 10, 26)),
        ("20151026", (2015, 10, 26)),
        ("2015", (2015, 1, 1)),
        (" 2015-10-26\n", (2015, 10, 26)),
        ("2016-02-29", (2016, 2, 29)),
    ],
)
def test_instantsThatClientsSend(text: str, expected: tuple[int, ...]) -> None:
    """Behaviour 40, and what pyvo and others write (A-43)."""
    found = parseInstant(text)
    assert found == datetime(*expected, tzinfo=UTC)  # type: ignore[arg-type,misc]
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sometext",
        "2015-26-10",
        "2015-02-29",
        "0000",
        "201510",
        "2015-10",
        "20151026T09:00",
        "2015-10-26T",
        "2015-10-26T9:00",
        "2015-10-26T24:01",
        "2015-10-26T23:59:60Z",
        "2015-10-26T09:15:35.Z",
        "2015-10-26T09:15:35.1234567890Z",
        "2015-10-26T09:00:00+01:00",
        "2015-10-26T09:00:00+00:00",
        "2015-10-26T09:00:00-01:00",
        "2015-10-26T09:00:00z",
        "2015-10-26Z",
        "\uff12\uff10\uff11\uff15",
        "2015\0",
        "--",
        "-2015",
        "1e3",
        "9" * 5000,
    ],
)
def test_whatIsNoInstant(text: str) -> None:
    """The message quotes it, as far as one wants to read it."""
    with pytest.raises(ValueError, match="is not an instant") as caught:
        parseInstant(text)
    assert repr(text)[:20] in str(caught.value)
    assert len(str(caught.value)) < 200


def test_theMessageSaysWhatIsRight() -> None:
    with pytest.raises(ValueError, match=r"2015-10-26T09:15:35\.123Z .*UTC"):
        parseInstant("tomorrow")


@given(AWARE)
def test_whatIsWrittenIsRead(instant: datetime) -> None:
    """To the millisecond, cut off: what is written is never later than what is meant."""
    written = formatInstant(instant)
    left = instant - parseInstant(written)
    assert timedelta(0) <= left < timedelta(milliseconds=1)
    assert formatInstant(parseInstant(written)) == written
    assert (len(written), written[10], written[-1]) == (24, "T", "Z")


@given(AWARE, AWARE)
def test_theOrderOfTextIsThatOfTime(one: datetime, other: datetime) -> None:
    if one <= other:
        assert formatInstant(one) <= formatInstant(other)


def test_anInstantWithoutAZoneIsRefused() -> None:
    """Not taken for local time, which would be right on most machines, and wrong on some."""
    with pytest.raises(ValueError, match="no zone"):
        formatInstant(datetime(2015, 10, 26))


@given(ANY_TEXT | st.from_regex(r"[0-9TZ:. +-]{1,30}", fullmatch=True))
@example("2015-10-26T09:15:35.123Z")
def test_anyTextIsAnInstantOrAValueError(text: str) -> None:
    try:
        found = parseInstant(text)
    except ValueError:
        return
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("600", 600),
        (" 600 ", 600),
        ("+5", 5),
        ("007", 7),
        ("0" * 5000 + "1", 1),
        (str(LONGEST_DURATION), LONGEST_DURATION),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parseDuration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "-5",
        "-0",
        "1e3",
        "1.0",
        "1_000",
        "\uff11\uff12",
        "0x10",
        "nan",
        "inf",
        "--",
        "1 2",
        "1\0",
        str(LONGEST_DURATION + 1),
        "1" + "0" * 30,
        "9" * 5000,
    ],
)
def test_whatIsNoDuration(text: str) -> None:
    """Behaviour 61."""
    with pytest.raises(
        ValueError, match=f"whole number of seconds from 0 to {LONGEST_DURATION}"
    ) as e:
        parseDuration(text)
    assert len(str(e.value)) < 200


@given(ANY_TEXT | st.integers().map(str))
def test_anyTextIsADurationOrAValueError(text: str) -> None:
    try:
        found = parseDuration(text)
    except ValueError:
        return
    assert 0 <= found <= LONGEST_DURATION


@given(st.integers(0, LONGEST_DURATION))
def test_everyDurationIsRead(seconds: int) -> None:
    assert parseDuration(str(seconds)) == seconds


def test_theExamplesInTheModule() -> None:
    found = doctest.testmod(times)
    assert found.attempted
    assert not found.failed
