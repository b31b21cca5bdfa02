"""
Part C: the job list, and what filters it.

Others may make jobs while the checks are made, so nothing here counts on being alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from urllib.parse import urljoin

from twuws.conformance.answers import Answer
from twuws.conformance.checks.control import expired
from twuws.conformance.documents import PHASES, JobRef, instant, jobRefs
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Failed, Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

Query = Sequence[tuple[str, str]]

#: How many of a list that may be long are read; younger than these are jobs of the kit.
MANY = "100"


def series(uws: Session) -> list[Job]:
    """Three jobs, the oldest first, created at different times: PENDING, ABORTED, PENDING."""

    def make() -> list[Job]:
        first = uws.newJob()
        second = _laterThan(uws, first)
        third = _laterThan(uws, second)
        second.abort()
        return [first, second, third]

    return uws.share("series", make)


def _laterThan(uws: Session, earlier: Job) -> Job:
    """A job that was created later, as far as can be seen: some services count seconds."""
    until = time.monotonic() + 2 * uws.settings.delay
    job = uws.newJob()
    while creation(uws, job) == creation(uws, earlier) and time.monotonic() < until:
        job.delete()
        uws.sleep(uws.settings.delay / 4)
        job = uws.newJob()
    return job


def creation(uws: Session, job: Job) -> str:
    """When a job was created, as its document has it."""
    text = job.document().text("creationTime")
    uws.require(text, "The job has no creationTime.")
    return text or ""


def ask(uws: Session, *query: tuple[str, str]) -> Answer:
    """A valid list; of the newest at most, unless the query has a LAST."""
    isLimited = any(name.upper() == "LAST" for name, _ in query)
    answer = uws.get(query=query if isLimited else [*query, ("LAST", MANY)])
    uws.valid(uws.expect(answer, 200), "jobs")
    return answer


def listed(uws: Session, *query: tuple[str, str]) -> list[JobRef]:
    """The entries of such a list."""
    return jobRefs(ask(uws, *query).xml())


def requireListed(uws: Session, query: Query, here: Iterable[Job], notHere: Iterable[Job]) -> None:
    """Fail unless these jobs are listed, and those are not."""
    answer = ask(uws, *query)
    ids = {ref.id for ref in jobRefs(answer.xml())}
    said = "&".join(f"{name}={value}" for name, value in query) or "The list without a query"
    for job in here:
        if job.id not in ids:
            raise Failed(f"{said} does not have {_told(job)}.", answer)
    for job in notHere:
        if job.id in ids:
            raise Failed(f"{said} has {_told(job)}.", answer)


def _told(job: Job) -> str:
    document = job.document()
    return f"{job.id}, which is {document.phase}, created {document.text('creationTime')}"


@check(32, "S", "2.2.2.1", "The list has an id and the phase of each job, and none is ARCHIVED.")
def listEntries(uws: Session) -> None:
    jobs = [*series(uws), uws.completed()]
    refs = listed(uws)
    for ref in refs:
        uws.require(ref.id, "There is an entry without an id.")
        known = ref.phase in PHASES and ref.phase != "ARCHIVED"
        uws.require(known, f"The phase of {ref.id} is {ref.phase!r}.")
    phases = {ref.id: ref.phase for ref in refs}
    for job in jobs[:3]:
        uws.require(job.id in phases, f"A job that is there is not listed: {job.url}.")
        phase = job.phase()
        found = phases[job.id]
        uws.require(found == phase, f"The job is {phase}, and in the list {found}.")


@check(33, "S", "2.2.2.1", "An entry of the list links to its job, and tells what that has.")
def entriesTell(uws: Session) -> None:
    job = uws.newJob(controls={"RUNID": "listed"})
    refs = [ref for ref in listed(uws) if ref.id == job.id]
    uws.require(refs, "A job that was just made is not listed.")
    ref = refs[0]
    uws.require(ref.href, "The entry has no href.")
    document = job.document()
    linked = job.read(uws.get(urljoin(uws.url, ref.href or "")))
    uws.require(linked.jobId == job.id, f"{ref.href} is job {linked.jobId}, not {job.id}.")
    for name, found in (("runId", ref.runId), ("ownerId", ref.ownerId)):
        there = document.text(name)
        uws.require(found == there, f"The {name} is {there!r}, and in the list {found!r}.")
    uws.require(ref.creationTime, "The entry has no creationTime.")
    difference = instant(ref.creationTime or "") - instant(document.text("creationTime") or "")
    same = abs(difference) < timedelta(seconds=1)
    uws.require(same, f"The creationTime in the list differs by {difference}.")


@check(34, "M", "2.2.2.1", "PHASE lists the jobs of a phase, all of them, and no others.")
def phaseFilter(uws: Session) -> None:
    first, aborted, last = series(uws)
    there = {"PENDING": [first, last], "ABORTED": [aborted], "COMPLETED": [uws.completed()]}
    for phase in PHASES:
        refs = listed(uws, ("PHASE", phase))
        for ref in refs:
            uws.require(ref.phase == phase, f"PHASE={phase} lists {ref.id}, which is {ref.phase}.")
        if len(refs) < int(MANY):
            requireListed(uws, [("PHASE", phase)], there.get(phase, []), [])


@check(35, "M", "2.2.2.1", "Several PHASE list the jobs that are in any of these phases.")
def severalPhases(uws: Session) -> None:
    first, aborted, last = series(uws)
    for phases, here, notHere in (
        (("PENDING", "ABORTED"), [first, aborted, last], []),
        (("ABORTED", "PENDING"), [first, aborted, last], []),
        (("EXECUTING", "PENDING"), [first, last], [aborted]),
        (("QUEUED", "ABORTED", "HELD"), [aborted], [first, last]),
    ):
        requireListed(uws, [("PHASE", phase) for phase in phases], here, notHere)


@check(36, "S", "2.2.2.1", "A PHASE that is no phase is refused.")
def noPhase(uws: Session) -> None:
    for text in ("pendinggg", "1345"):
        uws.expectRefusal(uws.get(query={"PHASE": text, "LAST": "1"}))


@check(37, "M", "2.2.2.1", "ARCHIVED jobs are listed only where PHASE=ARCHIVED asks for them.")
def archivedApart(uws: Session) -> None:
    for query in ([], [("PHASE", "PENDING")], [("PHASE", "COMPLETED"), ("PHASE", "ABORTED")]):
        for ref in listed(uws, *query):
            uws.require(ref.phase != "ARCHIVED", f"{ref.id} is listed, which is ARCHIVED.")
    try:
        job = expired(uws).jobs[0]
    except (Skipped, Failed):
        return  # there is none to be had; others say why
    answer = job.get()
    if answer.status != 200 or job.read(answer).phase != "ARCHIVED":
        return  # it destroys jobs altogether
    for query in ([], [("PHASE", "PENDING"), ("PHASE", "COMPLETED")]):
        requireListed(uws, query, [], [job])
    requireListed(uws, [("PHASE", "ARCHIVED")], [job], [])
    requireListed(uws, [("PHASE", "PENDING"), ("PHASE", "ARCHIVED")], [job], [])


def requireNewest(uws: Session, query: Query, most: int, jobs: Sequence[Job]) -> None:
    """
    Fail unless C{query} and a LAST list the newest, the newest first.

    @param jobs: some that the query is about, which are there; the newest first.
    """
    query = [*query, ("LAST", str(most))]
    said = "&".join(f"{name}={value}" for name, value in query)
    answer = ask(uws, *query)
    refs = jobRefs(answer.xml())
    uws.require(len(refs) <= most, f"{said} lists {len(refs)} jobs.")
    least = min(most, len(jobs))
    uws.require(len(refs) >= least, f"{said} lists {len(refs)} jobs, and there are {len(jobs)}.")
    times = [_created(uws, ref) for ref in refs]
    for newer, older in pairwise(times):
        uws.require(newer >= older, f"{said} lists one of {newer} before one of {older}.")
    ids = {ref.id for ref in refs}
    for job in jobs:
        if job.id not in ids and instant(creation(uws, job)) > times[-1]:
            raise Failed(f"{said} does not have {_told(job)}, but older jobs.", answer)


def _created(uws: Session, ref: JobRef) -> datetime:
    """When a job of the list was created; not all lists say that."""
    if ref.creationTime:
        return instant(ref.creationTime)
    document = uws.completed().read(uws.get(f"/{ref.id}"))
    uws.require(document.text("creationTime"), f"Job {ref.id} has no creationTime.")
    return instant(document.text("creationTime") or "")


@check(38, "M", "2.2.2.1", "LAST=n lists the n newest jobs at most, the newest first.")
def newest(uws: Session) -> None:
    jobs = series(uws)[::-1]
    for most in (1, 2, 3):
        requireNewest(uws, [], most, jobs)


@check(39, "S", "2.2.2.1", "A LAST that is not a number of jobs, from 1, is refused.")
def badLast(uws: Session) -> None:
    for text in ("-1", "-254", "text", "0"):
        uws.expectRefusal(uws.get(query={"LAST": text}))


#: Ways to write an instant, which all who know ISO 8601 know, or most.
USUAL = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.123Z", "%Y-%m-%d")
SHORT = ("%Y", "%Y%m%d", "%Y-%m-%d %H:%M")


@check(40, "M", "2.2.2.1", "AFTER lists the jobs that were created later than that.")
def afterFilter(uws: Session) -> None:
    first, second, third = series(uws)
    text = creation(uws, second)
    for form in (text, text.removesuffix("Z")):
        requireListed(uws, [("AFTER", form)], [third], [first, second])
    _requireForms(uws, USUAL, timedelta(days=1))


def _requireForms(uws: Session, forms: Iterable[str], apart: timedelta) -> None:
    """Fail unless an instant long ago is before all jobs, and one to come before none."""
    jobs = series(uws)
    past = instant(creation(uws, jobs[0])) - apart
    future = instant(creation(uws, jobs[-1])) + apart
    for form in forms:
        requireListed(uws, [("AFTER", past.strftime(form))], jobs, [])
        requireListed(uws, [("AFTER", future.strftime(form))], [], jobs)


@check("C40", "S", "2.2.2.1", "AFTER takes shorter forms, too, and refuses what is no instant.")
def formsOfAfter(uws: Session) -> None:
    _requireForms(uws, SHORT, timedelta(days=366))
    text = creation(uws, series(uws)[0]).removesuffix("Z")
    for wrong in ("2015-26-10", "sometext", text + "+01:00"):
        uws.expectRefusal(uws.get(query={"AFTER": wrong, "LAST": "1"}))


@check(41, "M", "2.2.2.1", "Filters are joined by AND, and LAST is applied after the others.")
def filtersTogether(uws: Session) -> None:
    first, aborted, third = series(uws)
    after = ("AFTER", creation(uws, first))
    requireListed(uws, [("PHASE", "PENDING"), after], [third], [first, aborted])
    requireListed(uws, [("PHASE", "ABORTED"), after], [aborted], [first, third])
    requireNewest(uws, [("PHASE", "PENDING")], 2, [third, first])
    requireNewest(uws, [("PHASE", "ABORTED"), after], 1, [aborted])


@check(42, "R", "2.2.2.1", "The case of the names of filters does not matter.")
def namesOfFilters(uws: Session) -> None:
    first, second, third = series(uws)
    requireListed(uws, [("phase", "ABORTED")], [second], [first, third])
    requireListed(uws, [("after", creation(uws, second))], [third], [first, second])
    for name in ("last", "Last"):
        refs = listed(uws, (name, "1"))
        uws.require(len(refs) == 1, f"{name}=1 lists {len(refs)} jobs.")


@check(43, "R", "2.2.2.1", "Of several LAST the smallest counts, of several AFTER the latest.")
def repeatedFilters(uws: Session) -> None:
    first, second, third = series(uws)
    for texts in (("3", "1"), ("1", "3")):
        refs = listed(uws, *[("LAST", text) for text in texts])
        uws.require(len(refs) == 1, f"LAST={texts[0]}&LAST={texts[1]} lists {len(refs)} jobs.")
    earlier, later = creation(uws, first), creation(uws, second)
    for query in ((("AFTER", earlier), ("AFTER", later)), (("AFTER", later), ("AFTER", earlier))):
        requireListed(uws, query, [third], [first, second])


@check(44, "R", "2.2.2.1", "Of jobs made at one moment, none is listed twice, and none is lost.")
def sameMoment(uws: Session) -> None:
    jobs = uws.parallel([uws.newJob] * uws.many(1000, 8))
    ours = {job.id for job in jobs}
    every = _idsOf(uws, len(jobs) + int(MANY), ours)
    lost = ours - set(every)
    uws.require(not lost, f"Of {len(jobs)} jobs {len(lost)} are not listed.")
    step = max(1, len(jobs) // 20)
    for most in range(1, len(jobs) + 1, step):
        some = _idsOf(uws, most, ours)
        same = some == every[: len(some)]
        uws.require(same, f"LAST={most} lists others than the first {most} of a longer list.")


def _idsOf(uws: Session, most: int, ours: set[str]) -> list[str]:
    """Which of the jobs are among the newest; fails if there are fewer, or one is there twice."""
    ids = [ref.id or "" for ref in listed(uws, ("LAST", str(most)))]
    least = min(most, len(ours))
    uws.require(len(ids) >= least, f"LAST={most} lists {len(ids)} jobs, and there are {least}.")
    uws.require(len(ids) == len(set(ids)), f"LAST={most} lists a job twice.")
    return [one for one in ids if one in ours]


@check(45, "R", "2.2.2.1", "The list is whole while jobs are made and destroyed.")
def listWhileChanging(uws: Session) -> None:
    turns = range(uws.many(50, 6))
    isOver: list[bool] = []

    def change() -> None:
        try:
            for _ in turns:
                uws.expect(uws.newJob().delete(), 303)
        finally:
            isOver.append(True)

    def read() -> None:
        while len(isOver) < 2:
            listed(uws, ("LAST", "20"))

    changes: list[Callable[[], None]] = [change] * 2
    uws.parallel([*changes, *[read] * 2])
