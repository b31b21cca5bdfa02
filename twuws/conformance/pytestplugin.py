"""
The checks as tests: C{pytest --pyargs twuws.conformance --uws-url URL}.

pytest reads its options before it knows what C{--pyargs} names, and so would find them in no
C{conftest.py}: this is a plugin, which an installation of twuws announces to pytest.  It does
nothing else unless the checks are collected.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from twuws.conformance.options import CHOICES, FLAGS, SETS, VALUES, settingsFrom
from twuws.conformance.outcomes import Unusable

if TYPE_CHECKING:
    from twuws.conformance.session import Session

_PREFIX = "--uws-"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of C{twuws check}, each as C{--uws-...}."""
    group = parser.getgroup("uws", "conformance of a UWS (pytest --pyargs twuws.conformance)")
    group.addoption(f"{_PREFIX}url", metavar="URL", help="the job list of the service to check")
    for name, text in SETS.items():
        # Each once for each word: a list of words would swallow the names of tests.
        group.addoption(
            _PREFIX + name, action="append", metavar="NAME=VALUE", type=_word,
            help=f"a parameter of {text}, or nothing for none; may be repeated",
        )  # fmt: skip
    for name, (metavar, text, kind) in VALUES.items():
        group.addoption(_PREFIX + name, metavar=metavar, help=text, type=kind)
    for name, text in CHOICES.items():
        group.addoption(_PREFIX + name, metavar="N", action="append", help=text)
    for name, text in FLAGS.items():
        group.addoption(_PREFIX + name, action="store_true", help=text)


def _word(text: str) -> str:
    if text and "=" not in text:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE, nor NAME=@FILE")
    return text


def pytest_configure(config: pytest.Config) -> None:
    """Check early what was given."""
    if config.getoption("uws_url", None):
        _orUsage(lambda: settingsFrom(given(config)))


def given(config: pytest.Config) -> dict[str, Any]:
    """The options as L{settingsFrom} takes them."""
    names = ["url", *SETS, *VALUES, *CHOICES, *FLAGS]
    found = {
        name.replace("-", "_"): config.getoption(f"uws_{name}".replace("-", "_")) for name in names
    }
    for name in SETS:
        if found[name] is not None:
            found[name] = [word for word in found[name] if word]
    return found


def _orUsage(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Unusable as e:
        raise pytest.UsageError(f"uws: {e}") from None


@pytest.fixture(scope="session")
def uwsUnderTest(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The service at C{--uws-url}; what jobs were made there are deleted at the end."""
    from twuws.conformance.session import Session

    uws = _orUsage(lambda: Session(settingsFrom(given(request.config))))
    try:
        uws.greet()
    except Unusable as e:
        pytest.exit(f"uws: {e}", returncode=pytest.ExitCode.USAGE_ERROR)
    try:
        yield uws
    finally:
        uws.close()
        if uws.left:
            raise AssertionError("These jobs could not be deleted: " + ", ".join(uws.left))
