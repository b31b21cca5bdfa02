"""
Part H: whose jobs are whose.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from twuws.conformance.answers import Answer
from twuws.conformance.client import Client
from twuws.conformance.documents import Document, formatInstant, jobRefs
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: What can be read of each job.
READABLE = (
    "", "/phase", "/executionduration", "/destruction", "/quote", "/owner", "/error",
    "/results", "/parameters",
)  # fmt: skip
#: How a service may say that something is for others, or that there is no such thing.
CLOSED = (403, 404, 405)
#: Likewise to those of whom it knows nothing.
CLOSED_TO_UNKNOWN = (401, *CLOSED)
#: Sets of characters that identifiers are made of, the smallest first.
ALPHABETS = (
    string.digits,
    string.digits + "abcdef",
    string.digits + "ABCDEF",
    string.digits + string.ascii_lowercase,
    string.digits + string.ascii_uppercase,
    string.digits + string.ascii_letters + "-_",
)
#: From where the kit pretends to come.
ELSEWHERE = {"Origin": "https://elsewhere.invalid", "Sec-Fetch-Site": "cross-site"}


@check(80, "S", "3", "Another user can neither see, nor read, nor change, nor end one's job.")
def closedToOthers(uws: Session) -> None:
    _requireUser(uws)
    _requireClosed(uws, uws.other, CLOSED)


@check(81, "R", "3", "Who says no name can do nothing with the job of a user, nor see it.")
def closedToAnonymous(uws: Session) -> None:
    _requireUser(uws)
    _requireClosed(uws, uws.anonymous, CLOSED_TO_UNKNOWN)


def _requireUser(uws: Session) -> None:
    if uws.settings.credentials is None:
        raise Skipped("no user is known; give --user or --token")


def _requireClosed(uws: Session, who: Client, statuses: Sequence[int]) -> None:
    """Fail if somebody else gets at a job of ours, in whatever way."""
    job, done = uws.newJob(), uws.completed()
    before = _state(job.document())
    urls = [job.url + path for path in READABLE]
    urls += [result.href for result in done.document().results if _isBelow(uws, result.href)]
    urls += [f"{done.url}/results", done.url]
    for url in urls:
        for answer in (who.get(url), who.head(url)):
            _requireRefused(uws, answer, statuses)
    for query in ({"LAST": "20"}, {"LAST": "20", "PHASE": "PENDING"}):
        _requireUnlisted(uws, who, job, query)
    for ask in _changes(uws, who, job):
        _requireRefused(uws, ask(), statuses)
        answer = job.get()
        uws.require(answer.status == 200, f"It was refused, and the job is {answer.status}.")
        uws.require(
            before == _state(Document(answer.xml())), "It was refused, and changed the job."
        )


def _state(document: Document) -> list[object]:
    """What clients can change of a job."""
    names = ("phase", "executionDuration", "destruction", "runId")
    parameters = sorted((one.id, one.value) for one in document.parameters)
    return [*(document.text(name) for name in names), *parameters]


def _requireRefused(uws: Session, answer: Answer, statuses: Sequence[int]) -> None:
    asked = f"{answer.asked.method} {answer.asked.url.removeprefix(uws.url)}"
    uws.require(
        answer.status in statuses,
        f"{asked} by somebody else is answered {answer.status}; 403 is due.", answer,
    )  # fmt: skip


def _isBelow(uws: Session, url: str) -> bool:
    return url.startswith(uws.url + "/")


def _requireUnlisted(uws: Session, who: Client, job: Job, query: dict[str, str]) -> None:
    answer = who.get(query=query)
    if answer.status in (401, 403):
        return
    listed = [ref.id for ref in jobRefs(uws.expect(answer, 200).xml())]
    uws.require(job.id not in listed, "The job is in the list of somebody else.", answer)


def _changes(uws: Session, who: Client, job: Job) -> Iterator[Callable[[], Answer]]:
    """All ways to change a job, the most harmful last."""
    text = uws.settings.text or "RUNID"
    later = formatInstant(datetime.now(UTC) + timedelta(hours=1))
    for path, form in (
        ("/destruction", {"DESTRUCTION": later}),
        ("/executionduration", {"EXECUTIONDURATION": "17"}),
        ("/parameters", {text: "stolen"}),
        ("", {text: "stolen"}),
        ("/phase", {"PHASE": "RUN"}),
        ("/phase", {"PHASE": "ABORT"}),
        ("", {"PHASE": "RUN"}),
    ):
        yield lambda path=path, form=form: who.post(job.url + path, form)  # type: ignore[misc]
    yield lambda: who.put(f"{job.url}/parameters/{text}", b"stolen", mediaType="text/plain")
    yield lambda: who.post(job.url, {"ACTION": "DELETE"})
    yield lambda: who.delete(job.url)


@check(82, "R", "3", "Who says no name sees no user's jobs in the list, and can use own ones.")
def anonymousList(uws: Session) -> None:
    hasUser = uws.settings.credentials is not None
    theirs = uws.newJob() if hasUser else None
    mine = _anonymousJobs(uws)
    answer = uws.anonymous.get(query={"LAST": "50"})
    if hasUser and answer.status in (401, 403):
        return  # a list for users only
    refs = jobRefs(uws.expect(answer, 200).xml())
    ids = [ref.id for ref in refs]
    owners = sorted({ref.ownerId for ref in refs if ref.ownerId and hasUser})
    uws.require(not owners, f"There are jobs of {', '.join(owners)} in it.", answer)
    uws.require(theirs is None or theirs.id not in ids, "The job of a user is in it.", answer)
    # All that are nobody's, or none.
    missing = [job.id for job in mine if job.id not in ids]
    uws.require(not ids or not missing, f"{', '.join(missing)} is not in it, but others.", answer)


def _anonymousJobs(uws: Session) -> list[Job]:
    """Two jobs of nobody, if there can be such; they can be reached."""
    jobs: list[Job] = []
    for _ in range(2):
        answer = uws.anonymous.post("", uws.veryShort.pairs, files=uws.veryShort.files)
        if answer.status not in (401, 403):
            jobs.append(uws.jobFrom(answer, uws.anonymous))
            uws.expect(jobs[-1].get(), 200)
    return jobs


@check(83, "R", "2.2.1", "The identifiers of jobs cannot be guessed, and have no order.")
def unguessable(uws: Session) -> None:
    ids = [uws.newJob().id for _ in range(uws.many(1000, 16))]
    uws.require(len(set(ids)) == len(ids), f"Two jobs have the same identifier: {ids}.")
    byLength = sorted(ids, key=lambda one: (len(one), one))
    some = ", ".join(ids[:4])
    uws.require(ids not in (byLength, byLength[::-1]), f"The identifiers have an order: {some}.")
    bits = bitsOf(ids)
    uws.require(
        bits >= 64, f"The identifiers differ in about {bits:.0f} bits; 64 is little: {some}."
    )


def bitsOf(ids: Sequence[str]) -> float:
    """
    How many bits of identifiers differ, at most.

    A place where all have the same is known; any other may hold what it holds elsewhere.

    >>> round(bitsOf(["1001", "1002", "1003"]), 1)
    3.3
    >>> round(bitsOf(["0a77c3", "f10b2e"]))
    24
    """
    places = list(zip(*ids, strict=False))
    bits = 0.0
    for place in places:
        if len(set(place)) > 1:
            bits += math.log2(len(_alphabet(set().union(*ids))))
    return bits


def _alphabet(used: set[str]) -> str:
    """The characters that identifiers are made of."""
    for alphabet in ALPHABETS:
        if used - {"-"} <= set(alphabet):
            return alphabet
    return ALPHABETS[-1]


@check(85, "R", "2.2.3", "No GET changes a job, nor does a form of another site.")
def otherSites(uws: Session) -> None:
    job = uws.newJob()
    for path, query in (
        ("/phase", {"PHASE": "ABORT"}),
        ("/phase", {"PHASE": "RUN"}),
        ("", {"PHASE": "NONSENSE", "ACTION": "DELETE"}),
    ):
        answer = job.get(path, query=query)
        uws.require(answer.status < 500, f"GET is answered {answer.status}.", answer)
        _requirePending(uws, job, f"GET with {query}", answer)
    _requireCookieUseless(uws, job)
    answer = uws.post(f"{job.url}/phase", query={"PHASE": "ABORT"})
    phase = job.phase()
    uws.require(
        (answer.status, phase) == (303, "ABORTED")
        or (400 <= answer.status < 500 and phase == "PENDING"),
        f"POST with PHASE=ABORT in the query is answered {answer.status}, and the job {phase}.",
        answer,
    )


def _requirePending(uws: Session, job: Job, what: str, shown: Answer) -> None:
    answer = job.get("/phase")
    found = answer.text.strip() if answer.status == 200 else answer.status
    uws.require(found == "PENDING", f"After {what} the job is {found}, not PENDING.", shown)


def _requireCookieUseless(uws: Session, job: Job) -> None:
    """Fail if a cookie that the service has set is enough for a form of another site."""
    cookie = job.get().headers.get("set-cookie", "").partition(";")[0]
    if not cookie or uws.settings.credentials is None:
        return
    for path, form in (("/phase", {"PHASE": "ABORT"}), ("", {"ACTION": "DELETE"})):
        answer = uws.anonymous.post(job.url + path, form, headers={"Cookie": cookie, **ELSEWHERE})
        _requirePending(uws, job, f"a POST from another site, with a cookie, of {form}", answer)
        uws.expectRefusal(answer)
