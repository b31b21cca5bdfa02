"""What a client says that it takes."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twuws.web.accept import acceptable, takesGzip, wantsHTML

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
JAVA = "text/html, image/gif, image/jpeg, */*; q=0.2"
OLD_JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"


def test_browsers_want_html():
    assert wantsHTML(FIREFOX)
    for accept in (None, "", "*/*", "text/html", JAVA, OLD_JAVA, "text/html;q=0," + FIREFOX[10:]):
        assert not wantsHTML(accept)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text/xml"),
        ("", "text/xml"),
        ("*/*", "text/xml"),
        (JAVA, "text/xml"),
        (OLD_JAVA, "text/xml"),
        ("Application/JSON", "application/json"),
        ("application/json, text/xml", "text/xml"),
        ("application/json, text/xml;q=0.9", "application/json"),
        ("application/*;q=.5, text/*;q=0.4", "application/json"),
        ("*/*, text/xml;q=0", "application/json"),
        ("text/*;q=0, */*;q=0.1", "application/json"),
        ('application/json;x="a,b;q=0";q=1.000, text/xml;q=0.5', "application/json"),
        ("application/json;charset=utf-8,,", "application/json"),
        ("image/png", None),
        ("image/png, text/xml;q=0", None),
        ("nonsense", "text/xml"),
        ("application/json; q=high", "text/xml"),
        ("application/json; q=1.5", "text/xml"),
        ('application/json;x="', "text/xml"),
    ],
)
def test_acceptable(accept, expected):
    assert acceptable(accept, ("text/xml", "application/json")) == expected


def test_a_long_accept_takes_no_long_time():
    started = perf_counter()
    for hostile in ("a/b;c=" + " " * 16_000, "a/b" + ";a=" * 5_000, 'a/b;c="' + "\\" * 15_999):
        assert acceptable(hostile + '"', ("text/xml",)) == "text/xml"
    assert perf_counter() - started < 1


@given(st.text(max_size=40), st.lists(st.sampled_from(["a/b", "c/d"]), max_size=2))
def test_accept_never_fails(accept, offered):
    assert acceptable(accept, tuple(offered)) in [*offered, None]


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0, identity", False),
        ("br", False),
        ("x-gzip", True),
    ],
)
def test_takesGzip(header, takes):
    assert takesGzip(header) is takes
