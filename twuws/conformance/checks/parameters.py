"""
Part F: the parameters of jobs, and what is uploaded with them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from urllib.parse import quote

from twuws.conformance.answers import Answer
from twuws.conformance.documents import Document
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session
from twuws.conformance.settings import ParameterSet
from twuws.conformance.uploads import UploadForm, isRefused, tooMuch

#: A text that is easily spoiled between a form and a document.
SPACES = "two  words + 100% & more=less; a/b?"
#: How a service says that it has no such way to change a parameter.
NO_WAY = (403, 404, 405, 501)
#: What is small enough to be sent in full, so as to see that it is too much, bytes.
MOST_SENT = 100_000_000

PARTS = (("", "job"), ("/parameters", "parameters"))


@check(66, "S", "2.1.11", "A parameter can be posted to a job's parameters, and has that value.")
def parametersPosted(uws: Session) -> None:
    name, first, second = _known(uws)
    job = _with(uws, name, first)
    for value in (second, first):
        answer = _post(uws, job, name, value)
        uws.require(answer.location == job.url, f"The Location is {answer.location}.", answer)
        for path, element in PARTS:
            found = _values(uws, _read(uws, job, path, element), name)
            uws.require(
                value in found, f"{name} was set to {value!r}, and the {element} has {found}."
            )
    _requireName(uws, job)


def _requireName(uws: Session, job: Job) -> None:
    """A name with a blank may be refused, or ignored; it may not become another name."""
    before = {one.id for one in job.document().parameters}
    answer = job.post("/parameters", {"two words": "1 2"})
    if answer.status != 303:
        uws.expectRefusal(answer)
        return
    new = {one.id for one in job.document().parameters} - before
    for name in new:
        uws.require(name.lower() == "two words", f"'two words' was sent, and {name!r} is there.")


@check(67, "S", "2.1.11", "A parameter posted to its job, or put, has that value, or is refused.")
def otherWays(uws: Session) -> None:
    name, first, second = _known(uws)
    job = _with(uws, name, first)
    posted = _takes(uws, job, name, second, lambda: job.post("", {name: second}), 303)
    put = _takes(uws, job, name, first, lambda: _put(uws, job, name, first), 200, 201, 204, 303)
    if not posted and not put:
        raise Skipped("the service takes parameters in neither of these ways, and need not")


def _takes(
    uws: Session, job: Job, name: str, value: str, send: Callable[[], Answer], *statuses: int
) -> bool:
    """Whether a parameter was set; if not, it must be refused, and be as it was."""
    before = _all(job)
    answer = send()
    if isRefused(answer):
        after = _all(job)
        uws.require(before == after, f"{answer.status} is the answer, and {after} there.", answer)
        return False
    uws.expect(answer, *statuses)
    for path, element in PARTS:
        found = _values(uws, _read(uws, job, path, element), name)
        uws.require(found == [value], f"{name} was set to {value!r}, and is {found}.", answer)
    return True


@check(68, "M", "2.1.11", "A parameter that is set again is there once, with the new value.")
def noDuplicates(uws: Session) -> None:
    name, first, second = _known(uws)
    job = _with(uws, name, first)
    for value in (second, first):
        _post(uws, job, name, value)
        for path, element in PARTS:
            found = _values(uws, _read(uws, job, path, element), name)
            uws.require(found == [value], f"{name} was set to {value!r}, and is {found}.")


@check(69, "S", "2.2", "Once a job was started, its parameters are not changed any more.")
def fixedByStart(uws: Session) -> None:
    name, first, second = _known(uws)
    job = uws.newJob(run=True)
    before = _all(job)
    for _ in range(2):  # at once, and when it has ended
        for value, send in (
            (first, lambda: job.post("/parameters", {name: first})),
            (second, lambda: job.post("", {name: second})),
            (first, lambda: _put(uws, job, name, first)),
        ):
            answer = send()
            uws.require(
                isRefused(answer), f"{name}={value} is answered {answer.status}, not 4xx.", answer
            )
            after = _all(job)
            uws.require(before == after, f"The parameters were {before}, and are {after}.", answer)
        job.ended()


@check(70, "S", "2.2.3.1", "An XML document makes a job that holds it; what is none is refused.")
def documents(uws: Session) -> None:
    word = f"kit-{secrets.token_hex(8)}"
    document = f'<?xml version="1.0"?>\n<k:kit xmlns:k="urn:kit">{word}</k:kit>\n'
    answer = uws.post("", body=document.encode(), mediaType="application/xml")
    if isRefused(answer):
        raise Skipped(f"the service takes no XML document, or not any (it says {answer.status})")
    job = uws.jobFrom(answer)
    found = uws.valid(uws.expect(job.get(), 200), "job")
    uws.require(
        word in str(found) or any(word in value for value in _values(uws, found)),
        "An XML document was taken, and is neither a parameter nor in jobInfo; who takes none"
        " answers 415.",
    )
    uws.expectRefusal(uws.post("", body=b"<k:kit><open", mediaType="application/xml"))
    if uws.settings.limit is not None:
        uws.expect(tooMuch(uws, b"<kit>", "application/xml", uws.settings.limit), 413)


@check(71, "S", "2.2.3.1.1", "A part that a parameter names by param: is the parameter's file.")
def filesByName(uws: Session) -> None:
    form = UploadForm(uws)
    content = b"a,b\n1,\xff\0\n"
    answer = form.send(b"kit.csv", content, "text/csv", byName=True)
    if isRefused(answer):
        raise Skipped(f"param: is not taken for {form.name} (the answer is {answer.status})")
    job = uws.jobFrom(answer)
    document = uws.valid(uws.expect(job.get(), 200), "job")
    entries = [one for one in document.parameters if one.id.lower() == form.name.lower()]
    uws.require(entries, f"There is no {form.name} in the job.")
    uws.require(
        entries[0].byReference, f"{form.name} is {entries[0].value!r}, and not by reference."
    )
    held = uws.expect(uws.follow(entries[0].value), 200)
    uws.require(held.body == content, f"The file is {held.body[:80]!r}, not {content!r}.", held)
    uws.require(held.mediaType == "text/csv", f"It is {held.mediaType!r}, not text/csv.", held)
    below = [uws.follow(f"{job.url}/parameters/{one}") for one in (form.name, form.part)]
    uws.require(
        any(one.status == 200 and one.body == content for one in below),
        f"The file is not below the parameters of its job, as {form.name} or {form.part}.",
    )


@check(72, "R", "2.2.3.1.1", "An upload that is too large is refused with 413, before its end.")
def tooLarge(uws: Session) -> None:
    limit = uws.settings.limit
    if limit is None:
        raise Skipped("not known what is too large; give --limit BYTES")
    form = UploadForm(uws)
    uws.expect(tooMuch(uws, form.beginning, form.mediaType, limit), 413)
    if limit <= MOST_SENT:  # without its length being said; STILTS uploads so
        uws.expect(tooMuch(uws, form.beginning, form.mediaType, limit, inChunks=True), 413)


#: Names of files that have done harm.
FILENAMES = {
    "that leads upwards": b"../../../../kit.txt",
    "that is a path": b"/kit/kit.txt",
    "with backslashes": b"..\\..\\kit.txt",
    "with a NUL": b"kit\0.txt",
    "of 4096 bytes": b"k" * 4092 + b".txt",
    "that is not UTF-8": b"kit\xff\xfe.txt",
}


@check(73, "R", "2.2.3.1.1", "A file with a strange name is stored as any other, or refused.")
def strangeNames(uws: Session) -> None:
    form = UploadForm(uws)
    byName = form.prefersName()
    for told, filename in FILENAMES.items():
        # Two of a name, for the second must not replace the first.
        sent: list[tuple[Job, str]] = []
        for content in ("first\n", "second\n"):
            answer = form.send(filename, content.encode(), "text/plain", byName=byName)
            uws.require(
                answer.status == 303 or isRefused(answer),
                f"A file with a name {told} is answered {answer.status}.", answer,
            )  # fmt: skip
            if answer.status == 303:
                sent.append((uws.jobFrom(answer), content))
        for job, content in sent:
            document = uws.valid(uws.expect(job.get(), 200), "job")
            found = _values(uws, document, form.name)
            uws.require(
                content in found, f"A file with a name {told} was {content!r}, and is {found}."
            )
            job.delete()


# Parameters and their values.


def _known(uws: Session) -> tuple[str, str, str]:
    """A parameter, and two values that it takes; twice the same one if no other is known."""
    if uws.settings.text is not None:
        return uws.settings.text, "one", SPACES
    values: dict[str, list[str]] = {}
    for known in (uws.settings.veryShort, uws.settings.short, uws.settings.long):
        for name, value in known.pairs if known else ():
            if value not in values.setdefault(name, []):
                values[name].append(value)
    if not values:
        raise Skipped("no parameter is known that can be changed; give --text NAME")
    name, found = max(values.items(), key=lambda item: len(item[1]))
    return name, found[0], found[-1]


def _with(uws: Session, name: str, value: str) -> Job:
    """A very short job, but with this value of a parameter."""
    chosen = uws.veryShort
    pairs = [pair for pair in chosen.pairs if pair[0].lower() != name.lower()]
    return uws.newJob(ParameterSet(pairs=(*pairs, (name, value)), files=chosen.files))


def _post(uws: Session, job: Job, name: str, value: str) -> Answer:
    """The answer to a parameter; the check is skipped if it can be set at creation alone."""
    answer = job.post("/parameters", {name: value})
    if answer.status in NO_WAY:
        raise Skipped(f"parameters are not changed there (it says {answer.status}), and need not")
    return uws.expect(answer, 303)


def _put(uws: Session, job: Job, name: str, value: str) -> Answer:
    url = f"{job.url}/parameters/{quote(name, safe='')}"
    return uws.put(url, value.encode(), mediaType="text/plain; charset=utf-8")


def _read(uws: Session, job: Job, path: str, element: str) -> Document:
    return uws.valid(uws.expect(job.get(path), 200), element)


def _all(job: Job) -> list[tuple[str, str]]:
    """All parameters, in any order."""
    return sorted((one.id, one.value) for one in job.document().parameters)


def _values(uws: Session, document: Document, name: str | None = None) -> list[str]:
    """The values of all parameters, or of those of a name, wherever they are."""
    return [
        uws.expect(uws.follow(one.value), 200).text if one.byReference else one.value
        for one in document.parameters
        if name is None or one.id.lower() == name.lower()
    ]
