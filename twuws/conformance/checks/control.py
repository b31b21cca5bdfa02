"""
Part E: execution duration and destruction time, and what comes of them.

A service may choose other values than it is asked for, or forbid to change them; what then
cannot be seen is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urljoin

from twuws.conformance.answers import Answer
from twuws.conformance.documents import formatInstant, instant
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Failed, Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: By how much an instant may be rounded.
ROUNDED = timedelta(seconds=1)
#: More seconds than a job document can tell.
ENDLESS = "1" + "0" * 30


def setDestruction(job: Job, when: datetime | str) -> Answer:
    """Ask for a destruction time."""
    text = when if isinstance(when, str) else formatInstant(when)
    return job.post("/destruction", {"DESTRUCTION": text})


def setDuration(job: Job, seconds: int | str) -> Answer:
    """Ask for an execution duration."""
    return job.post("/executionduration", {"EXECUTIONDURATION": str(seconds)})


def accepted(uws: Session, job: Job, answer: Answer, name: str) -> Answer:
    """The answer, if it leads to the job; if the service forbids the change, skip the check."""
    if answer.status in (403, 405):
        raise Skipped(f"the service does not let clients change the {name} ({answer.status})")
    uws.expect(answer, 303)
    uws.require(answer.location == job.url, f"The Location is {answer.location}.", answer)
    return answer


def destructionOf(job: Job) -> datetime | None:
    """When a job is to be destroyed, as its document says."""
    return _instant(job.document().text("destruction"))


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return instant(text)
    except ValueError:
        raise Failed(f"{text!r} is no instant.") from None


def clock(job: Job) -> datetime:
    """What the clock of the service says now, judging by a job that was just made."""
    created = _instant(job.document().text("creationTime")) or datetime.now(UTC)
    return created + timedelta(seconds=time.monotonic() - job.answer.began)


def nearer(job: Job) -> datetime:
    """A destruction time that is nearer than the present one, and not near."""
    now = clock(job)
    present = destructionOf(job) or now + timedelta(days=2)
    return (now + (present - now) / 2).replace(microsecond=0)


def isNear(one: datetime | None, other: datetime | None) -> bool:
    """Whether two instants are the same, or nobody knows either."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= ROUNDED


@check(56, "M", "2.2.3.3", "DESTRUCTION is posted, and leads to the job, which tells the new time.")
def destructionPosted(uws: Session) -> None:
    job = uws.newJob()
    accepted(uws, job, setDestruction(job, nearer(job)), "destruction")
    there = destructionOf(job)
    answer = uws.expect(job.get("/destruction"), 200)
    alone = _instant(answer.text.strip())
    same = isNear(there, alone)
    uws.require(same, f"The job has {there}, and /destruction {alone}.", answer)


@check("E56", "S", "2.2.3.3", "A destruction time nearer than the present one is taken as it is.")
def nearerDestruction(uws: Session) -> None:
    job = uws.newJob()
    when = nearer(job)
    accepted(uws, job, setDestruction(job, when), "destruction")
    found = destructionOf(job)
    uws.require(isNear(found, when), f"The destruction was set to {when}, and is {found}.")


@check(57, "M", "2.2.3.4", "EXECUTIONDURATION is posted, and leads to the job, which tells it.")
def durationPosted(uws: Session) -> None:
    job = uws.newJob()
    present = _duration(uws, job)
    answer = setDuration(job, present // 2 if present > 1 else 600)
    accepted(uws, job, answer, "execution duration")
    there = _duration(uws, job)
    answer = uws.expect(job.get("/executionduration"), 200)
    same = answer.text.strip() == str(there)
    uws.require(same, f"The job has {there}, and /executionduration {answer.text!r}.", answer)


def _duration(uws: Session, job: Job) -> int:
    text = job.document().text("executionDuration") or ""
    uws.require(text.isdecimal(), f"The executionDuration is {text!r}.")
    return int(text)


@check(58, "R", "2.1.5", "A destruction time in the past is not taken, and changes nothing.")
def pastDestruction(uws: Session) -> None:
    job = uws.newJob()
    before = destructionOf(job)
    for when in (clock(job) - timedelta(days=1), datetime(2001, 1, 1, tzinfo=UTC)):
        _requireRefused(uws, setDestruction(job, when), 303)  # it may choose another
        found = destructionOf(job)
        uws.require(isNear(found, before), f"It was {before}, and is {found}.")


def _requireRefused(uws: Session, answer: Answer, *others: int) -> None:
    if answer.status not in others:
        uws.expectRefusal(answer)


@check(59, "R", "2.1.5", "The destruction time can be changed after the job has ended.")
def destructionOfEnded(uws: Session) -> None:
    job = uws.newJob(run=True)
    job.ended()
    if _takesDestruction(uws, job):
        return
    answer = uws.client.last
    if not _takesDestruction(uws, uws.newJob()):
        raise Skipped("the service does not take the destruction time of any job")
    raise Failed("That of a PENDING job is changed, that of a COMPLETED one is not.", answer)


def _takesDestruction(uws: Session, job: Job) -> bool:
    when = nearer(job)
    answer = setDestruction(job, when)
    _requireRefused(uws, answer, 303)
    return answer.status == 303 and isNear(destructionOf(job), when)


@check(60, "R", "2.1.4", "EXECUTIONDURATION=0 is no limit, or the longest; no job dies of it.")
def unlimited(uws: Session) -> None:
    job = uws.newJob(uws.short)
    accepted(uws, job, setDuration(job, 0), "execution duration")
    job.run()
    document = job.ended()
    said = f"The short job was given 0 s, and is {document.phase}: {document.message}."
    uws.require(document.phase == "COMPLETED", said)


@check(61, "R", "2.2.3.4", "What is no duration, or no instant, is refused, and changes nothing.")
def nonsense(uws: Session) -> None:
    job = uws.newJob()
    before = job.document()

    def requireUnchanged(name: str, text: str) -> None:
        found, was = job.document().text(name), before.text(name)
        uws.require(found == was, f"After {text!r} the {name} is {found}; it was {was}.")

    for text in ("abc", "-5", "1e3"):
        uws.expectRefusal(setDuration(job, text))
        requireUnchanged("executionDuration", text)
    for text in ("garbage", "2015-26-10"):
        uws.expectRefusal(setDestruction(job, text))
        requireUnchanged("destruction", text)
    answer = setDuration(job, ENDLESS)
    if answer.status == 303:  # it may choose another
        uws.valid(uws.expect(job.get(), 200), "job")
    else:
        uws.expectRefusal(answer)
        requireUnchanged("executionDuration", ENDLESS)


@check(
    62, "M", "2.1.4", "A job that executes longer than it may is ABORTED, and keeps its results."
)
def overrun(uws: Session) -> None:
    job = uws.newJob(uws.long)
    accepted(uws, job, setDuration(job, 1), "execution duration")
    seconds = _duration(uws, job)
    if not 0 < seconds <= max(5, uws.settings.delay):
        raise Skipped(f"it was asked to let the job execute for 1 s, and chose {seconds} s")
    job.run()
    results = {result.id for result in job.waitUntil("EXECUTING", "ABORTED").results}
    document = job.ended(seconds + uws.settings.delay * 5)
    told = f"The job executed for more than {seconds} s, and is {document.phase}."
    uws.require(document.phase == "ABORTED", told)
    uws.require(document.text("endTime"), "A job that was aborted has no endTime.")
    lost = results - {result.id for result in document.results}
    uws.require(not lost, f"These results are lost: {', '.join(sorted(lost))}.")


@dataclass(frozen=True, kw_only=True)
class Expired:
    """
    Jobs whose destruction time is over, the same for all.

    @ivar jobs: the first was COMPLETED, the others were never run.
    @ivar results: where the results of the first were.
    """

    jobs: list[Job]
    results: list[str]


def expired(uws: Session) -> Expired:
    """
    Jobs that should be destroyed by now; if they are not, they had as long as others may take.

    The check is skipped if the service chooses another time.
    """
    return uws.share("expired", partial(_expire, uws))


def _expire(uws: Session) -> Expired:
    jobs = [uws.newJob(run=True)]
    results = [urljoin(jobs[0].url, result.href) for result in jobs[0].ended().results]
    jobs += uws.parallel([uws.newJob] * 5)
    ahead = uws.settings.delay + 10 * jobs[-1].answer.seconds
    when = clock(jobs[-1]) + timedelta(seconds=ahead)
    calls: list[Callable[[], Answer]] = [partial(setDestruction, job, when) for job in jobs]
    for job, answer in zip(jobs, uws.parallel(calls), strict=True):
        accepted(uws, job, answer, "destruction")
    for job in (jobs[0], jobs[-1]):
        answer = job.get()
        found = when if answer.status == 404 else _instant(job.read(answer).text("destruction"))
        if not isNear(found, when):
            raise Skipped(f"it was asked to destroy a job at {when}, and chose {found}")
    end = time.monotonic() + ahead + uws.settings.patience + uws.settings.delay
    uws.sleep(ahead)
    while time.monotonic() < end and not all(isOver(job) for job in jobs):
        uws.sleep(uws.settings.poll)
    return Expired(jobs=jobs, results=results)


def isOver(job: Job) -> bool:
    """Whether a job is destroyed, or is ARCHIVED."""
    answer = job.get()
    return answer.status in (404, 410) or job.read(answer).phase == "ARCHIVED"


@check(63, "M", "2.1.5", "When its time has come, a job is gone or ARCHIVED; its results are gone.")
def destroyedInTime(uws: Session) -> None:
    past = expired(uws)
    given = f"{uws.settings.patience:g} s after its destruction time"
    uws.require(isOver(past.jobs[0]), f"The job is there {given}; --patience gives it longer.")
    for href in past.results:
        uws.expectRefusal(uws.get(href))


@check(64, "R", "2.1.5", "Jobs that are to be destroyed at the same instant are all destroyed.")
def destroyedTogether(uws: Session) -> None:
    jobs = expired(uws).jobs
    left = sum(not isOver(job) for job in jobs)
    uws.require(not left, f"Of {len(jobs)} jobs with the same destruction time {left} are there.")


@check(65, "R", "2.1.3", "A destruction time that is set while a job starts does not stop it.")
def destructionWhileStarting(uws: Session) -> None:
    for _ in range(uws.many(50, 4)):
        job = uws.newJob()
        change = partial(setDestruction, job, nearer(job))
        first, run, second = uws.parallel([change, partial(_run, job), change])
        uws.expect(run, 303)
        for answer in (first, second):
            _requireRefused(uws, answer, 303)
        phase = job.phase()
        uws.require(phase != "PENDING", "The job was started, and is PENDING again.")
        phase = job.ended().phase
        uws.require(phase == "COMPLETED", f"The very short job is {phase}, not COMPLETED.")
        job.delete()


def _run(job: Job) -> Answer:
    return job.post("/phase", {"PHASE": "RUN"})
