"""
Part G: results and errors, and jobs that are run synchronously.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urljoin, urlsplit

from twuws.conformance.answers import Answer
from twuws.conformance.client import MOST
from twuws.conformance.documents import Document, Result, tag
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Failed, Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session
from twuws.conformance.settings import ParameterSet

#: A name that no result has.
UNKNOWN = "no-such-result"
#: How something says that it is not there, or not for those who just try it.
NOT_THERE = (401, 403, 404, 405, 410, 501)


@check(74, "S", "2.2.2.5", "A job that fails is in ERROR, and says when and why.")
def errorIsTold(uws: Session) -> None:
    job = uws.newJob(uws.error, run=True)
    document = job.ended()
    uws.require(document.phase == "ERROR", f"The job should fail, and is {document.phase}.")
    summaries = document.root.findall(tag("errorSummary"))
    uws.require(len(summaries) == 1, f"There are {len(summaries)} of errorSummary in the job.")
    messages = summaries[0].findall(tag("message"))
    uws.require(len(messages) == 1, f"There are {len(messages)} messages in the errorSummary.")
    uws.require((messages[0].text or "").strip(), "The message of the errorSummary is empty.")
    kind = summaries[0].get("type")
    uws.require(kind in ("transient", "fatal"), f"The type of the errorSummary is {kind!r}.")
    for name in ("startTime", "endTime"):
        uws.require(document.text(name), f"A job in ERROR has no {name}.")
    uws.valid(job.get(), "job")


@check(75, "S", "2.2.1", "The error of a job is what its summary promises; without one, 404.")
def errorDetail(uws: Session) -> None:
    for job in (uws.pending(), uws.completed()):
        uws.expect(job.get("/error"), 404)
    job = uws.newJob(uws.error, run=True)
    summary = job.ended().root.find(tag("errorSummary"))
    promised = summary is not None and summary.get("hasDetail") in ("true", "1")
    answer = uws.expect(uws.follow(f"{job.url}/error"), 200, *([] if promised else [404]))
    uws.require(answer.body.strip(), "There is nothing in the error.", answer)


@check(76, "S", "2.2.2.3", "Results are where the job says, of the type and size that it says.")
def resultsAreThere(uws: Session) -> None:
    job = uws.completed()
    results = job.document().results
    for result in results:
        scheme = urlsplit(result.href).scheme
        uws.require(scheme, f"The URL of {result.id} is not absolute: {result.href!r}.")
        if scheme in ("http", "https"):
            _requireAsSaid(uws, result, uws.expect(uws.follow(result.href), 200))
    alone = uws.valid(uws.expect(job.get("/results"), 200), "results").results
    uws.require(results == alone, f"The job has {results}, and its results are {alone}.")
    uws.expect(job.get(f"/results/{UNKNOWN}"), 404)


def _requireAsSaid(uws: Session, result: Result, answer: Answer) -> None:
    """Fail unless a result has the type and the size of the document, where these are said."""
    said = (result.mediaType or "").partition(";")[0].strip().lower()
    uws.require(
        not said or answer.mediaType == said,
        f"{result.id} is {said} in the job, and {answer.mediaType!r} when it is read.", answer,
    )  # fmt: skip
    # A body that is compressed on the way has another size.
    if result.size and "content-encoding" not in answer.headers and int(result.size) < MOST:
        uws.require(
            int(result.size) == len(answer.body),
            f"{result.id} has {result.size} bytes in the job, and {len(answer.body)} when read.",
            answer,
        )


@check(77, "S", "2.1.10", "A job that has not run lists no result that can be read already.")
def resultsToCome(uws: Session) -> None:
    job = uws.pending()
    document = uws.valid(uws.expect(job.get("/results"), 200), "results")
    # What is to be expected may be listed.
    urls = [result.href for result in document.results]
    urls += [f"{job.url}/results/{UNKNOWN}"]
    done = uws.completed()
    for result in done.document().results:
        if result.href.startswith(f"{done.url}/results/"):
            urls.append(job.url + result.href.removeprefix(done.url))
    for url in urls:
        uws.expect(uws.get(url), 404)


@check(78, "R", "2.1.5", "Results outlive an abort, and go with their job.")
def resultsEnd(uws: Session) -> None:
    seen = 0
    if uws.settings.long is not None:
        job = uws.newJob(uws.long, run=True)
        job.waitUntil("EXECUTING")
        uws.sleep(uws.settings.delay / 4)  # for results that are made early
        before = _readable(uws, job.document())
        job.abort()
        job.waitUntil("ABORTED", seconds=uws.settings.delay)
        for result in before:
            uws.expect(uws.follow(result.href), 200)
        seen += len(before)
    job = uws.newJob(run=True)
    results = _readable(uws, job.ended())
    uws.expect(job.delete(), 303)
    for result in results:
        uws.until(
            lambda url=result.href: uws.get(url).status in _gone(uws, url),  # type: ignore[misc]
            uws.settings.delay, f"The job is gone, and {result.href} is not: 404 or 410 is due.",
        )  # fmt: skip
    if not seen + len(results):
        raise Skipped("the very short job has no results")


def _gone(uws: Session, url: str) -> tuple[int, ...]:
    """How a result says that it is gone; stores elsewhere may not tell what they have had."""
    isHome = urlsplit(url).netloc == urlsplit(uws.url).netloc
    return (404, 410) if isHome else (401, 403, 404, 410)


def _readable(uws: Session, document: Document) -> list[Result]:
    """The results that can be read over HTTP."""
    results = [one for one in document.results if urlsplit(one.href).scheme in ("http", "https")]
    return [one for one in results if uws.follow(one.href).status == 200]


@check(79, "S", "5", "What is run synchronously gives its result; to hang up breaks no job.")
def synchronous(uws: Session) -> None:
    answer = _postSync(uws, uws.veryShort)
    if answer.status == 200:
        return  # at once, as DALI lets it; no job is to be seen
    job = uws.adopt(answer)
    result = uws.follow(urljoin(answer.asked.url, answer.location))
    if uws.completed().document().results:
        uws.expect(result, 200)
    else:
        uws.require(result.status < 500, f"The answer in the end is {result.status}.", result)
    if not job.isGone():  # else its jobs are not those of the job list
        phase = job.document().phase
        uws.require(phase == "COMPLETED", f"The job was answered for, and is {phase}.")
    if uws.settings.short is not None:
        _hangUp(uws, uws.short)


def _hangUp(uws: Session, parameters: ParameterSet) -> None:
    """Leave while the job is at work; it must end well, or be aborted."""
    answer = _postSync(uws, parameters)
    job = uws.adopt(answer)
    url = urljoin(answer.asked.url, answer.location)
    with suppress(Failed):  # for no answer comes
        uws.get(url, timeout=uws.settings.delay / 4 - uws.settings.timeout)
    if job.isGone():
        status = uws.follow(url).status
        uws.require(status < 500, f"After a client has hung up, {url} answers {status}.")
        return
    phase = _ended(uws, job)
    uws.require(
        phase in ("COMPLETED", "ABORTED"), f"After a client has hung up, the job is {phase}."
    )


def _ended(uws: Session, job: Job) -> str:
    document = job.ended(uws.settings.patience)
    return document.phase


def _postSync(uws: Session, parameters: ParameterSet) -> Answer:
    """The answer at the place for synchronous jobs; the check is skipped if there is none."""
    url = uws.settings.sync or uws.url.rpartition("/")[0] + "/sync"
    answer = uws.post(url, parameters.pairs, files=parameters.files, timeout=uws.settings.patience)
    if uws.settings.sync is None and answer.status in NOT_THERE:
        raise Skipped(f"{url} answers {answer.status}; give --sync URL if there is another")
    return uws.expect(answer, 200, 302, 303)
