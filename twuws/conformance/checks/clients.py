"""
Part L: what programs that people use need to find, beyond what the standard says.

The numbers are those of rules that were found by reading such programs, and running them.
Of the rules that are not here, 6 is what 4 checks, and 12 what 18 does; what clients send,
and a service must take, is in L{twuws.conformance.checks.clientforms}.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from lxml import etree

from twuws.conformance.answers import Answer
from twuws.conformance.documents import UWS, XLINK
from twuws.conformance.job import Job
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: Rules that need no check of their own, and the behaviours that they are.
SAME = {6: 4, 12: 18}

XML = ("text/xml", "application/xml")
FEW = "?LAST=5"


@check("L2", "S", "2.2.3", "Whatever changes a job is answered 303, and nothing else like it.")
def alwaysSeeOther(uws: Session) -> None:
    # STILTS, TOPCAT, Aladin, tapquery and astroquery take no other.
    job, other = uws.newJob(), uws.newJob()
    document = job.document()
    optional = {
        "/executionduration": {"EXECUTIONDURATION": document.text("executionDuration") or "60"},
        "/destruction": {"DESTRUCTION": document.text("destruction") or "2038-01-01T00:00:00Z"},
        "/parameters": {uws.settings.text or "RUNID": "x"},
    }
    for path, form in optional.items():
        answer = job.post(path, form)
        if not 400 <= answer.status < 500:  # a service need not allow it
            uws.expect(answer, 303)
    for word in ("RUN", "ABORT"):
        answer = job.post("/phase", {"PHASE": word})
        if word == "RUN" or not 400 <= answer.status < 500:  # it may have ended by itself
            uws.expect(answer, 303)
    uws.expect(job.post("", {"ACTION": "DELETE"}), 303)
    uws.expect(other.delete(), 303)


@check(
    "L3", "S", "2.2.3.1", "A Location is the job's URL alone: no query, and no slash at the end."
)
def bareLocations(uws: Session) -> None:
    chosen = uws.veryShort
    for url, query in (("", ()), ("", {"RUNID": "kit"}), (f"{uws.url}/", ())):
        answer = uws.post(url, chosen.pairs, files=chosen.files, query=query)
        if url and answer.status != 303:
            continue  # the list need not be there with a slash
        job = uws.jobFrom(answer)
        _requireBare(uws, answer, job.document().jobId)
        started = job.post("/phase", {"PHASE": "RUN"}, query=query)
        _requireBare(uws, uws.expect(started, 303), job.id)


def _requireBare(uws: Session, answer: Answer, jobId: str) -> None:
    expected = f"{uws.url}/{jobId}"
    uws.require(
        answer.location == expected, f"The Location is {answer.location}, not {expected}.", answer
    )


@check("L4", "S", "2.2.1", "No job's identifier begins with h, t, p or s, which uws-client strips.")
def identifiers(uws: Session) -> None:
    for _ in range(uws.many(50, 5)):
        job = uws.newJob()
        uws.require(job.id[:1] not in "htps:/", f"An identifier is {job.id}.", job.answer)
        job.delete()


_JAVA = (
    "text/html, image/gif, image/jpeg, */*; q=0.2",
    "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
)
_BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@check("L5", "S", "2.2.2", "Java's Accept, which begins with text/html, gets XML.")
def javaAccept(uws: Session) -> None:
    # That is what STILTS, TOPCAT and Aladin send.
    for url in (FEW, uws.pending().url):
        for accept in _JAVA:
            answer = uws.expect(uws.get(url, accept=accept), 200)
            uws.require(answer.mediaType in XML, f"It is {answer.mediaType!r}.", answer)
        page = uws.get(url, accept=_BROWSER)
        varies = page.headers.get("vary", "").lower()
        told = page.mediaType in XML or "accept" in re.split(r"[, ]+", varies) or "*" in varies
        uws.require(told, "Browsers get something else, and no Vary says so to caches.", page)


@check("L7", "S", "2.2.2", "Documents call the namespaces uws and xlink, and declare both.")
def prefixes(uws: Session) -> None:
    # astroquery, OPUS, PyVO, STILTS and Firefly look for prefixes, not for namespaces.
    job = uws.completed()
    for url in (FEW, job.url, f"{job.url}/results", f"{job.url}/parameters"):
        answer = uws.expect(uws.get(url), 200)
        root = answer.xml()
        for name, namespace in (("uws", UWS), ("xlink", XLINK)):
            found = root.nsmap.get(name)
            uws.require(found == namespace, f"The prefix {name} is {found!r}.", answer)
        for element in root.iter(f"{{{UWS}}}*"):
            name = etree.QName(element).localname
            uws.require(element.prefix == "uws", f"{name} is without the prefix uws.", answer)
        uws.require(answer.mediaType in XML, f"It is {answer.mediaType!r}.", answer)


@check("L9", "S", "2.2.2.2", "A job document has all elements, those without a value as nil.")
def allElements(uws: Session) -> None:
    answer = uws.post("", ())
    bare = [uws.jobFrom(answer)] if answer.status == 303 else []  # without parameters
    for job in (*bare, uws.pending(), uws.completed()):
        found = job.get()
        document = job.read(found)
        for name in (
            "ownerId", "startTime", "endTime", "executionDuration", "destruction", "parameters",
            "results",
        ):  # fmt: skip
            uws.require(document.texts(name), f"The document has no {name}.", found)


@check("L14", "S", "2.2.3.5", "A job is not PENDING any more when its start is answered.")
def startedWhenAnswered(uws: Session) -> None:
    # PyVO, STILTS, astroquery and cadcutils take PENDING for a job that nobody started.
    chosen = uws.veryShort
    for _ in range(uws.many(50, 3)):
        job = uws.newJob(run=True)
        _requireStarted(uws, job)
        started = uws.post("", [*chosen.pairs, ("PHASE", "RUN")], files=chosen.files)
        _requireStarted(uws, uws.jobFrom(started))


def _requireStarted(uws: Session, job: Job) -> None:
    alone, whole = uws.parallel([lambda: job.get("/phase"), job.get])
    phase = uws.expect(alone, 200).text.strip()
    uws.require(phase != "PENDING", "The job was started, and its phase is PENDING.", alone)
    found = job.read(whole).phase
    uws.require(found != "PENDING", "The job was started, and its document says PENDING.", whole)


@check("L15", "S", "2.2.1.2", "WAIT=-1 is taken, with a PHASE and without, and gets the job.")
def waitForEver(uws: Session) -> None:
    ended, running = uws.completed(), uws.newJob(run=True)
    for query in ({"WAIT": "-1"}, {"WAIT": "-1", "PHASE": "COMPLETED"}):
        uws.valid(uws.expect(ended.get(query=query), 200), "job")
    phase, answers = "QUEUED", 0
    while phase in ("QUEUED", "EXECUTING") and answers < 20:
        query = {"WAIT": "-1", "PHASE": phase} if answers % 2 else {"WAIT": "-1"}
        phase = running.document(query=query, timeout=uws.settings.patience).phase
        answers += 1


@check("L16", "S", "2.2.3.2", "Where a DELETE leads to, there is the job list, as XML.")
def afterDelete(uws: Session) -> None:
    # uws-client and OPUS follow, whoever they are.
    answer = uws.expect(uws.newJob().delete(), 303)
    listed = uws.expect(uws.get(answer.location, timeout=uws.settings.patience), 200)
    uws.require(listed.mediaType in XML, f"It is {listed.mediaType!r}.", listed)
    name = etree.QName(listed.xml()).localname
    uws.require(name == "jobs", f"It is a {name}, and no job list.", listed)


@check("L17", "S", "2.2", "What belonged to a job that is gone is answered 404, not 410.")
def goneIsNotFound(uws: Session) -> None:
    for remove in (Job.delete, lambda job: job.post("", {"ACTION": "DELETE"})):
        job = uws.newJob()
        uws.expect(remove(job), 303)
        for path in ("", "/phase", "/results", "/parameters", "/destruction"):
            uws.expect(job.get(path), 404)
        uws.expect(job.post("/phase", {"PHASE": "RUN"}), 404)


@check("L19", "R", "2.2.1", "A job can be read again and again without a pause, as Aladin does.")
def readAgain(uws: Session) -> None:
    job = uws.pending()
    took = 0.0
    for number in range(1, uws.many(136, 30) + 1):
        took += uws.expect(job.get(), 200).seconds
        soon = number < 3 or took / number < uws.settings.delay
        uws.require(soon, f"{number} of them took {took:.1f} s.")


@check("L23", "S", "2.2.1", "URLs lead nowhere else for want of a slash, or because of one.")
def slashes(uws: Session) -> None:
    # A redirect other than 303 is the end for STILTS, astroquery and tapquery.
    job = uws.newJob()
    for path in ("", "/", FEW):
        _requireHere(uws, uws.get(uws.url + path))
    for path in ("", "/", "/phase", "/phase/", "/results", "/results/", "/parameters/"):
        _requireHere(uws, job.get(path))
    chosen = uws.veryShort
    _requireHere(uws, uws.post(f"{uws.url}/", chosen.pairs, files=chosen.files))
    _requireHere(uws, job.post("/phase/", {"PHASE": "ABORT"}))
    _requireHere(uws, job.client.delete(f"{job.url}/"))


def _requireHere(uws: Session, answer: Answer) -> None:
    path = urlsplit(answer.asked.url).path
    moved = answer.status in (301, 302, 307, 308)
    uws.require(not moved, f"{answer.asked.method} of {path} is answered {answer.status}.", answer)


@check("L24", "R", "-", "Answers name the software in Server.")
def serverNamed(uws: Session) -> None:
    for answer in (uws.get(FEW), uws.pending().get()):
        found = answer.headers.get("server", "")
        named = re.match(r"[\w!#$%&'*+.^`|~-]+", found)
        uws.require(named, f"Server is {found!r}." if found else "There is no Server.", answer)
