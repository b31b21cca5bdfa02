"""
Part B: how jobs and their properties are written.
"""

from __future__ import annotations

import re

from twuws.conformance.answers import Answer
from twuws.conformance.documents import Document, isNil, tag
from twuws.conformance.job import Job
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: The job list, which may be long, in short.
FEW = "?LAST=5"

XML = ("text/xml", "application/xml")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
_TIMES = ("quote", "creationTime", "startTime", "endTime", "destruction")


@check(23, "S", "2.2.2", "Single values are plain text, and what holds others is XML.")
def mediaTypes(uws: Session) -> None:
    job = uws.pending()
    for path in ("/phase", "/quote", "/executionduration", "/destruction", "/owner"):
        answer = uws.expect(job.get(path), 200)
        uws.require(answer.mediaType == "text/plain", f"{path} is {answer.mediaType!r}.", answer)
    listed = uws.get(query={"LAST": "1"})
    for answer, name in (
        (listed, "jobs"),
        (job.get(), "job"),
        (job.get("/results"), "results"),
        (job.get("/parameters"), "parameters"),
    ):
        uws.expect(answer, 200)
        uws.require(answer.mediaType in XML, f"A {name} is {answer.mediaType!r}.", answer)
        uws.valid(answer, name)


@check(24, "S", "2.2.1", "Duration and destruction alone are those of the document.")
def valuesAgree(uws: Session) -> None:
    job = uws.pending()
    document = job.document()
    for path, name in (
        ("/executionduration", "executionDuration"),
        ("/destruction", "destruction"),
    ):
        alone = uws.expect(job.get(path), 200)
        there = document.text(name) or ""
        uws.require(alone.text == there, f"{name} is {alone.text!r} alone, and {there!r}.", alone)
    duration = document.text("executionDuration") or ""
    uws.require(re.fullmatch(r"\d+", duration), f"The executionDuration is {duration!r}.")


@check(25, "S", "2.2.1", "Instants are in UTC with a T and a Z, in documents and alone.")
def instants(uws: Session) -> None:
    for job in (uws.pending(), uws.completed()):
        document = job.document()
        for name in _TIMES:
            for text in document.texts(name):
                _requireInstant(uws, text, name)
        for path in ("/destruction", "/quote"):
            _requireInstant(uws, uws.expect(job.get(path), 200).text or None, path)
    for ref in uws.jobs({"LAST": "5"}):
        _requireInstant(uws, ref.creationTime, "creationTime in the list")


def _requireInstant(uws: Session, text: str | None, name: str) -> None:
    uws.require(text is None or _INSTANT.fullmatch(text), f"The {name} is {text!r}.")


@check(26, "S", "2.1.6", "What is not known is nil in the document, and empty alone.")
def unknownValues(uws: Session) -> None:
    job = uws.pending()
    document = job.document()
    for path, name in (("/quote", "quote"), ("/destruction", "destruction"), ("/owner", "ownerId")):
        element = document.root.find(tag(name))
        alone = uws.expect(job.get(path), 200)
        known = element is not None and not isNil(element)
        if known and element is not None:
            uws.require(element.text, f"The {name} is empty, and not nil.")
            same = alone.text == element.text
            if name == "quote":  # it may have moved since
                same = bool(alone.text)
            uws.require(same, f"{path} is {alone.text!r}, and {name} {element.text!r}.", alone)
        else:
            uws.require(not alone.body, f"There is no {name}, and {path} is {alone.text!r}.", alone)


@check(27, "R", "2.2.2.4", "Any text that XML can carry comes back; any other does no harm.")
def anyText(uws: Session) -> None:
    for value in ("a & b < c > d", "]]> <!-- '\"", "grüße 日本 😀", "a+b%20c"):
        job, document = _jobWithText(uws, value)
        found = _textOf(uws, document)
        uws.require(found == value, f"The value {value!r} came back as {found!r}.")
        job.delete()
    for value in ("bell \x07", "null \0", "escape \x1b[31m"):
        answer = _postText(uws, value)
        if answer.status != 303:
            uws.expectRefusal(answer)
            continue
        job = uws.jobFrom(answer)
        uws.valid(uws.expect(job.get(), 200), "job")
        uws.expect(uws.get(query={"LAST": "5"}), 200).xml()
        job.delete()


def _postText(uws: Session, value: str) -> Answer:
    chosen = uws.veryShort
    pairs = [*chosen.pairs, (uws.settings.text or "RUNID", value)]
    return uws.post("", pairs, files=chosen.files)


def _jobWithText(uws: Session, value: str) -> tuple[Job, Document]:
    job = uws.jobFrom(_postText(uws, value))
    return job, uws.valid(uws.expect(job.get(), 200), "job")


def _textOf(uws: Session, document: Document) -> str | None:
    """The value as it came back, if need be from where the document points to."""
    if uws.settings.text is None:
        return document.text("runId")
    name = uws.settings.text.lower()
    for one in document.parameters:
        if one.id.lower() == name:
            return uws.expect(uws.get(one.value), 200).text if one.byReference else one.value
    return None


@check(28, "R", "2.2", "HEAD tells what GET would tell, for lists, jobs, values and results.")
def heads(uws: Session) -> None:
    job = uws.completed()
    urls = [FEW, job.url, f"{job.url}/phase"]
    urls += [result.href for result in job.document().results[:1]]
    for url in urls:
        head, get = uws.head(url), uws.get(url)
        uws.require(head.status == get.status, f"HEAD is {head.status}, GET {get.status}.", head)
        same = head.mediaType == get.mediaType
        uws.require(same, f"HEAD says {head.mediaType!r}, and GET {get.mediaType!r}.", head)
        uws.require(not head.body, "There is a body in the answer to HEAD.", head)


@check(29, "R", "2.2.2", "Who asks for XML, or for nothing special, gets it; others no lies.")
def negotiation(uws: Session) -> None:
    for url in (FEW, uws.pending().url):
        for accept in (None, "*/*", "application/xml", "text/xml", "application/xml, text/plain"):
            answer = uws.expect(uws.get(url, accept=accept), 200)
            _requireTruth(uws, answer)
            uws.require(answer.mediaType in XML, f"It is {answer.mediaType!r}.", answer)
        for accept in ("text/html", "application/json", "image/png", "nonsense", ";q=/"):
            answer = uws.get(url, accept=accept)
            uws.require(answer.status in (200, 400, 406), f"It is {answer.status}.", answer)
            if answer.status == 200:
                _requireTruth(uws, answer)


def _requireTruth(uws: Session, answer: Answer) -> None:
    """Fail unless the body is what its type says."""
    beginning = answer.body.lstrip()[:200].lower()
    isHTML = b"<html" in beginning or beginning.startswith(b"<!doctype html")
    isJSON = beginning[:1] in (b"{", b"[")
    kind = answer.mediaType
    truth = {
        "text/html": isHTML,
        "application/xhtml+xml": isHTML,
        "application/json": isJSON,
        **dict.fromkeys(XML, not isHTML and not isJSON and bool(beginning)),
    }
    uws.require(truth.get(kind, False), f"What is in it is not {kind or 'of no type'}.", answer)
    if kind in XML:
        answer.xml()


@check(30, "M", "2.2.2.3", "No two results of a job have the same id.")
def resultIds(uws: Session) -> None:
    job = uws.completed()
    for path in ("", "/results"):
        document = Document(uws.expect(job.get(path), 200).xml())
        ids = [result.id for result in document.results]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        uws.require(not twice, f"Several results are called {', '.join(twice)}.")
        uws.require(all(ids), "A result has no id.")


@check(31, "R", "2.2.2.5", "There is no errorSummary in jobs that went well, or were aborted.")
def errorsOfFailures(uws: Session) -> None:
    aborted = uws.newJob()
    aborted.abort()
    for job in (uws.pending(), aborted, uws.completed()):
        document = job.document()
        found = document.root.find(tag("errorSummary"))
        uws.require(found is None, f"There is an errorSummary in {document.phase}.")
