"""
Part A: how a job is made, started, aborted and destroyed.
"""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

from twuws.conformance.documents import PHASES, TERMINAL, Document
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: What a job may be that has been started.
STARTED = tuple(phase for phase in PHASES if phase not in ("PENDING", "ABORTED", "ARCHIVED"))


@check(1, "M", "2.2.3.1", "A POST to the job list makes a job, and leads to it.")
def creation(uws: Session) -> None:
    job = uws.newJob()
    location = job.answer.location
    uws.require(urlsplit(location).scheme, f"The Location {location} is not absolute.", job.answer)
    expected = re.escape(uws.url) + r"/[^/?#]+"
    uws.require(
        re.fullmatch(expected, location), f"The Location {location} is not below the list.",
        job.answer,
    )  # fmt: skip
    uws.valid(uws.expect(job.get(), 200), "job")
    uws.valid(uws.expect(uws.get(query={"LAST": "20"}), 200), "jobs")


@check(2, "S", "2.2.1.1", "The job list and each job say that their version is 1.1.")
def version(uws: Session) -> None:
    for answer in (uws.get(query={"LAST": "1"}), uws.pending().get()):
        found = uws.expect(answer, 200).xml().get("version")
        uws.require(found == "1.1", f"The version is {found!r}.", answer)


@check(3, "S", "2.1.3", "A new job is PENDING; its document and its phase always agree.")
def pendingFirst(uws: Session) -> None:
    job = uws.newJob()
    phase = job.document().phase
    uws.require(phase == "PENDING", f"A new job is {phase}.")
    phase = job.phase()
    uws.require(phase == "PENDING", f"The phase of a new job is {phase!r}.")
    job.run()
    uws.until(
        lambda: _agreedPhase(uws, job) in TERMINAL, uws.settings.patience, "The job does not end."
    )


def _agreedPhase(uws: Session, job: Job) -> str:
    """The phase; where it has not changed meanwhile, that of the resource must be the same."""
    before, alone, after = job.document().phase, job.get("/phase"), job.document().phase
    uws.require(
        before != after or alone.text.strip() == after,
        f"The document has {after}, and the phase alone is {alone.text!r}.",
        alone,
    )
    return after


@check(4, "S", "2.2.1", "The phase is one word of plain text, with no line end.")
def barePhase(uws: Session) -> None:
    answer = uws.expect(uws.pending().get("/phase"), 200)
    uws.require(answer.body == b"PENDING", f"The phase is {answer.body!r}.", answer)
    uws.require(
        answer.mediaType == "text/plain", f"The phase is {answer.mediaType or 'of no type'}."
    )


@check(5, "S", "2.2.1", "The jobId of a job is the last element of its URL.")
def jobIdInURL(uws: Session) -> None:
    job = uws.pending()
    found = job.document().jobId
    uws.require(found == job.id, f"The jobId is {found!r}, and the URL ends with {job.id!r}.")


@check(6, "S", "2.1.2", "A job document has each property of a job, once.")
def properties(uws: Session) -> None:
    names = ("phase", "executionDuration", "destruction", "quote", "results")
    document = uws.pending().document()
    for name in names:
        count = len(document.texts(name))
        uws.require(count == 1, f"The document has {count} of {name}.")


@check(7, "M", "2.2.3.5", "PHASE=RUN starts a job and leads to it; it is never PENDING again.")
def runStarts(uws: Session) -> None:
    job = uws.newJob()
    answer = job.run()
    uws.require(answer.location == job.url, f"The Location is {answer.location}.", answer)
    seen: list[str] = []

    def hasEnded() -> bool:
        seen.append(job.document().phase)
        uws.require(seen[-1] in STARTED, f"The job was started, and is {seen[-1]}.")
        return seen[-1] in TERMINAL

    uws.until(hasEnded, uws.settings.patience, "The job does not end.")
    uws.require(hasEnded(), f"The job was {seen[-2:][0]}, and is {seen[-1]}.")


@check(8, "M", "2.2.3.6", "PHASE=ABORT makes a job that was not started ABORTED.")
def abortPending(uws: Session) -> None:
    job = uws.newJob()
    answer = job.abort()
    uws.require(answer.location == job.url, f"The Location is {answer.location}.", answer)
    _requireAborted(uws, job.document())


@check(9, "M", "2.1.4", "PHASE=ABORT ends a job that executes; what results it has are kept.")
def abortExecuting(uws: Session) -> None:
    job = _executing(uws)
    before = {result.id for result in job.document().results}
    job.abort()
    document = job.waitUntil("ABORTED", seconds=uws.settings.delay)
    _requireAborted(uws, document)
    lost = before - {result.id for result in document.results}
    uws.require(not lost, f"These results are lost: {', '.join(sorted(lost))}.")
    for result in document.results:
        uws.expect(uws.get(result.href), 200, 303)


def _executing(uws: Session) -> Job:
    """A long job at work, which has had a moment to make results if it makes them early."""
    job = uws.newJob(uws.long, run=True)
    job.waitUntil("EXECUTING")
    uws.sleep(uws.settings.delay / 4)
    return job


def _requireAborted(uws: Session, document: Document) -> None:
    uws.require(document.phase == "ABORTED", f"The job was aborted, and is {document.phase}.")
    uws.require(document.text("endTime"), "A job that was aborted has no endTime.")


@check(10, "R", "2.1.3", "A job that is aborted while it is QUEUED is not executed later.")
def abortQueued(uws: Session) -> None:
    jobs: list[Job] = []
    for _ in range(uws.many(100, 6)):
        jobs.append(uws.newJob(uws.long, run=True))
        if _staysQueued(uws, jobs[-1]):
            break
    else:
        raise Skipped(f"{len(jobs)} jobs run at once, and none is QUEUED; --load makes more")
    queued = jobs.pop()
    queued.abort()
    _requireAborted(uws, queued.document())
    for job in jobs:  # so that there is room for it
        job.abort()
    uws.sleep(uws.settings.delay)
    document = queued.document()
    _requireAborted(uws, document)
    uws.require(not document.text("startTime"), "The job was aborted, and has a startTime.")


def _staysQueued(uws: Session, job: Job) -> bool:
    job.waitUntil("QUEUED", "EXECUTING")
    uws.sleep(uws.settings.delay / 4)
    return job.document().phase == "QUEUED"


@check(11, "R", "2.2.3.5", "Of many requests to run a job at once, one makes it run.")
def runTwice(uws: Session) -> None:
    job = uws.newJob()
    calls = [lambda: job.post("/phase", {"PHASE": "RUN"})] * uws.many(20, 3)
    answers = uws.parallel(calls)
    for answer in answers:
        refused = 400 <= answer.status < 500
        uws.require(answer.status == 303 or refused, f"One is answered {answer.status}.", answer)
    uws.require(any(a.status == 303 for a in answers), "None of them was accepted.", answers[0])
    first = job.ended()
    uws.sleep(uws.settings.delay / 2)
    _requireSame(uws, first, job.document(), "startTime", "endTime", "phase")
    ids = [result.id for result in job.document().results]
    uws.require(len(ids) == len(set(ids)), f"There are results of two runs: {', '.join(ids)}.")


def _requireSame(uws: Session, before: Document, after: Document, *names: str) -> None:
    for name in names:
        was, now = before.text(name), after.text(name)
        uws.require(was == now, f"The {name} was {was}, and is {now}.")


@check(12, "R", "2.1.3", "A job that has ended stays as it is, whatever is asked of it.")
def endIsFinal(uws: Session) -> None:
    aborted, ended = uws.newJob(), uws.newJob(run=True)
    aborted.abort()
    ended.ended()
    for job in (aborted, ended):
        before = job.document()
        for word in ("RUN", "ABORT"):
            answer = job.post("/phase", {"PHASE": word})
            uws.require(answer.status < 500, f"PHASE={word} is answered {answer.status}.", answer)
            _requireSame(uws, before, job.document(), "phase", "endTime")
        uws.sleep(uws.settings.delay / 4)
        _requireSame(uws, before, job.document(), "phase", "endTime")


@check(13, "R", "2.1.3", "A job that is aborted as it ends is either, and stays so.")
def abortAtTheEnd(uws: Session) -> None:
    job = uws.newJob(run=True)
    began = time.monotonic()
    job.ended()
    took = time.monotonic() - began
    turns = uws.many(200, 4)
    for turn in range(turns):
        job = uws.newJob(run=True)
        uws.sleep(took * 1.5 * turn / turns)
        answer = job.post("/phase", {"PHASE": "ABORT"})
        uws.require(answer.status < 500, f"PHASE=ABORT is answered {answer.status}.", answer)
        before = job.waitUntil(*TERMINAL, seconds=uws.settings.delay)
        uws.sleep(uws.settings.delay / 10)
        _requireSame(uws, before, job.document(), "phase", "endTime")
        job.delete()


@check(14, "M", "2.2.3.2", "DELETE of a job leads to the job list, and the job is gone.")
def deleteDestroys(uws: Session) -> None:
    job = uws.newJob()
    answer = uws.expect(job.delete(), 303)
    uws.require(answer.location == uws.url, f"The Location is {answer.location}.", answer)
    uws.expect(job.get(), 404)


@check(15, "M", "2.2.3.2", "ACTION=DELETE, posted to a job, is as good as DELETE.")
def actionDestroys(uws: Session) -> None:
    job = uws.newJob()
    answer = uws.expect(job.post("", {"ACTION": "DELETE"}), 303)
    uws.require(answer.location == uws.url, f"The Location is {answer.location}.", answer)
    uws.expect(job.get(), 404)


@check(16, "R", "2.1.5", "DELETE of a job that executes makes it go at once, and for good.")
def deleteExecuting(uws: Session) -> None:
    job = _executing(uws)
    uws.expect(job.delete(), 303)
    uws.expect(job.get(), 404)
    uws.sleep(uws.settings.delay / 2)
    uws.expect(job.get(), 404)
    uws.require(job.id not in [ref.id for ref in uws.jobs({"LAST": "20"})], "It is listed.")


@check(17, "R", "2.2", "DELETE of a job that is gone is answered 404.")
def deleteTwice(uws: Session) -> None:
    job = uws.newJob()
    uws.expect(job.delete(), 303)
    uws.expect(job.delete(), 404)


@check(18, "S", "2.2.3.1", "PHASE=RUN with the creation starts the job, in form or query.")
def runAtCreation(uws: Session) -> None:
    chosen = uws.veryShort
    inForm = uws.post("", [*chosen.pairs, ("PHASE", "RUN")], files=chosen.files)
    inQuery = uws.post("", chosen.pairs, files=chosen.files, query={"PHASE": "RUN"})
    for where, answer in (("form", inForm), ("query", inQuery)):
        phase = uws.jobFrom(answer).document().phase
        uws.require(phase in STARTED, f"PHASE=RUN was in the {where}, and the job is {phase}.")


@check(19, "R", "2.2.3.5", "A PHASE that is neither RUN nor ABORT is refused, and says why.")
def nonsensePhase(uws: Session) -> None:
    job = uws.newJob()
    for word in ("nonsense", "SHUTDOWN", "COMPLETED", ""):
        answer = uws.expectRefusal(job.post("/phase", {"PHASE": word}))
        uws.require(answer.body.strip(), "The refusal says nothing.", answer)
        phase = job.phase()
        uws.require(phase == "PENDING", f"After PHASE={word} the job is {phase}.")


@check(20, "R", "2.2.3.1", "A job is there for everybody as soon as its URL is told.")
def thereAtOnce(uws: Session) -> None:
    for _ in range(uws.many(500, 5)):
        job = uws.newJob()
        for answer in uws.parallel([job.get, job.get]):  # by connections of their own
            uws.expect(answer, 200)
        job.delete()


@check(21, "S", "2.1.9", "The RUNID of the creation is the runId of job and list, verbatim.")
def runIdKept(uws: Session) -> None:
    name = "Kit <1> & 2; ünï"
    job = uws.newJob(controls={"RUNID": name})
    found = job.document().text("runId")
    uws.require(found == name, f"The runId of the job is {found!r}, not {name!r}.")
    refs = [ref for ref in uws.jobs({"LAST": "20"}) if ref.id == job.id]
    uws.require(refs, "The job is not among the 20 newest.")
    uws.require(refs[0].runId == name, f"The runId in the list is {refs[0].runId!r}.")


@check(22, "R", "2.2", "What does not exist below a job is answered 404.")
def nothingThere(uws: Session) -> None:
    job = uws.pending()
    for path in ("/nonsense", "/phase/nonsense", "/results/nonsense", "/nonsense/nonsense"):
        uws.expect(job.get(path), 404)
    uws.expect(uws.get("/no-such-job"), 404)
    uws.expect(uws.get("/no-such-job/phase"), 404)
