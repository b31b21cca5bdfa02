"""What a service need not have is skipped, and so is what the kit is not told how to do."""

from __future__ import annotations

import pytest

from tests.conformance.rightserver import RightServer
from tests.conformance.test_checks import CHECKS, USERS, outcomeOf, settingsFor
from twuws.conformance.checks.access import bitsOf
from twuws.conformance.outcomes import Status
from twuws.conformance.session import Session

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "fault", "message"),
    [
        ("66", "no changes", "parameters are not changed there (it says 403)"),
        ("68", "no changes", "parameters are not changed there"),
        ("70", "no xml", "takes no XML document, or not any (it says 415)"),
        ("71", "no param", "param: is not taken for table (the answer is 400)"),
        ("71", "no uploads", "param: is not taken for table (the answer is 415)"),
        ("73", "no uploads", "no file is taken for table"),
        ("79", "no sync", "/uws/sync answers 404; give --sync URL"),
    ],
)
def test_what_is_not_there(number, fault, message):
    outcome = outcomeOf(CHECKS[number], fault)
    assert outcome.status is Status.SKIPPED, outcome.message
    assert message in outcome.message


@pytest.mark.parametrize(
    ("number", "setting", "message"),
    [
        ("68", "text", "give --text NAME"),
        ("71", "file", "give --file NAME"),
        ("72", "limit", "give --limit BYTES"),
        ("74", "error", "give --error NAME=VALUE"),
        ("80", "other", "give --other-user"),
        ("80", "credentials", "give --user"),
        ("81", "credentials", "give --user"),
    ],
)
def test_what_is_not_known(number, setting, message):
    more = dict.fromkeys(("veryShort", "short", "long")) if setting == "text" else {}
    outcome = outcomeOf(CHECKS[number], **{setting: None}, **more)
    assert outcome.status is Status.SKIPPED, outcome.message
    assert message in outcome.message


@pytest.mark.parametrize(
    ("number", "more"),
    [
        ("68", {"text": None}),  # then the sets tell values, too
        ("69", {"text": None, "short": None, "long": None}),
        ("78", {"long": None}),
        ("79", {"short": None}),
        ("82", {"credentials": None}),
        ("85", {"credentials": None}),
    ],
)
def test_less_is_enough(number, more):
    assert outcomeOf(CHECKS[number], **more).status is Status.PASSED


@pytest.mark.parametrize("fault", ["no param", "no anonymous"])
def test_other_ways_are_as_good(fault):
    number = "73" if fault == "no param" else "82"
    outcome = outcomeOf(CHECKS[number], fault)
    assert outcome.status is Status.PASSED, outcome.message


def test_a_place_that_was_named_must_be_there():
    with RightServer() as server:
        uws = Session(settingsFor(server.url, sync=server.url + "/nonsense"))
        outcome = outcomeOf(CHECKS["79"], sync=uws.settings.sync)
    assert outcome.status is Status.FAILED


def test_adopted_jobs():
    """A synchronous job is found by its own URL, or by that of its result, and is deleted."""
    with RightServer(users=USERS) as server:
        uws = Session(settingsFor(server.url))
        job = uws.newJob(run=True)
        job.ended()
        for path in (f"sync/{job.id}", f"async/{job.id}", f"async/{job.id}/results/result"):
            job.answer.headers["location"] = f"{server.url.removesuffix('async')}{path}"
            assert uws.adopt(job.answer).url == job.url
        uws.close()
        assert (uws.made, uws.left) == (1, [])


def test_bits():
    assert bitsOf(["1001", "1002"]) < 4
    assert bitsOf(["4a", "b7"]) == 8
    assert bitsOf(["0f-1", "1e-2"]) == 12
    assert bitsOf(["zQ_0", "Za-9"]) == 24
