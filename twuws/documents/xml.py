"""
Jobs as the XML of UWS 1.1 (2.2.2): the job, the list of jobs, parameters, results.

Clients look for the literal prefixes C{uws} and C{xlink}, and some for a declared C{xlink}
where nothing uses it, so every document element declares the same three.

Whatever a client or a job class put into a job, the document is well-formed and valid: a
parameter's value that XML 1.0 cannot carry is given by reference (2.2.2.4), and in all else
a character that it cannot carry becomes U+FFFD (A-32).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from lxml import etree

from twuws.jobs import JobError, JobRef, Result, UWSJob
from twuws.phases import ABORTED, ARCHIVED, ERROR
from twuws.times import formatInstant
from twuws.values import Value

#: What these documents are, for C{Content-Type}.
MEDIA_TYPE = "text/xml; charset=utf-8"

UWS = "http://www.ivoa.net/xml/UWS/v1.0"
XLINK = "http://www.w3.org/1999/xlink"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

#: The namespace of what is in C{jobInfo}; its prefix is declared there alone.
JOB_INFO = "urn:x-twuws:jobinfo"

_PREFIXES = {"uws": UWS, "xlink": XLINK, "xsi": XSI}
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

#: The phases in which a document may say what went wrong (A-09): where a job has an
#: C{errorSummary}, some clients take it for failed.
_FAILED = frozenset({ERROR, ABORTED, ARCHIVED})

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NEEDS_ESCAPING = re.compile("[^\t\n\x20-%'-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: What cannot be in the name of an element.  Letters beyond Latin-1 are names to the fifth
#: edition of XML 1.0 only, and Java's parsers hold to the fourth.  An C{_x} that is there
#: already is taken too, so that the name can be told from the element.
_NOT_IN_NAME = re.compile(
    "^[^A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\xff]|[^-.0-9A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\xff]"
    "|_(?=x[0-9A-F]{4,6}_)"
)


def xmlText(text: str) -> str:
    """C{text} with U+FFFD in place of every character that XML 1.0 cannot carry."""
    return _NOT_IN_XML.sub("\ufffd", text)


def jobDocument(job: UWSJob, url: str, preamble: str = "") -> bytes:
    """
    The whole of a job: C{uws:job} (2.2.2.2), every element of the schema in its place.

    @param url: the job's, absolute, without a slash at its end.
    @param preamble: XML for before the document element, such as a stylesheet instruction.
    """
    root = _root("job", version="1.1")
    _add(root, "jobId", job.jobId)
    if job.runId is not None:
        _add(root, "runId", job.runId)
    _addNillable(root, "ownerId", job.owner)
    _add(root, "phase", job.phase)
    _addNillable(root, "quote", job.quote)
    _add(root, "creationTime", formatInstant(job.creationTime))
    _addNillable(root, "startTime", job.startTime)
    _addNillable(root, "endTime", job.endTime)
    _add(root, "executionDuration", str(job.executionDuration))
    _addNillable(root, "destruction", job.destruction)
    _addParameters(_add(root, "parameters"), job, url)
    _addResults(_add(root, "results"), job, url)
    if job.error is not None and job.phase in _FAILED:
        _addError(root, job.error)
    _addJobInfo(root, job.jobInfo)
    return _document(root, preamble)


def parametersDocument(job: UWSJob, url: str, preamble: str = "") -> bytes:
    """A job's C{uws:parameters} alone; it has no version (S-007).  See L{jobDocument}."""
    root = _root("parameters")
    _addParameters(root, job, url)
    return _document(root, preamble)


def resultsDocument(job: UWSJob, url: str, preamble: str = "") -> bytes:
    """A job's C{uws:results} alone; it has no version (S-007).  See L{jobDocument}."""
    root = _root("results")
    _addResults(root, job, url)
    return _document(root, preamble)


def parameterURL(url: str, name: str) -> str:
    """Where a parameter of the job at C{url} is, by its name or that of its file."""
    return f"{url}/parameters/{_quoted(name)}"


def resultURL(url: str, result: Result) -> str:
    """Where a result of the job at C{url} is: below the job, or elsewhere."""
    return result.href if result.href is not None else f"{url}/results/{_quoted(result.id)}"


# The list of jobs, which is streamed: it may be long.


def jobListDocument(refs: Iterable[tuple[JobRef, str]], preamble: str = "") -> bytes:
    """The list of jobs: C{uws:jobs} (2.2.2.1), from jobs and their absolute URLs."""
    return b"".join([jobListStart(preamble), *(jobRef(*one) for one in refs), jobListEnd()])


def jobListStart(preamble: str = "") -> bytes:
    """What comes before the first L{jobRef}."""
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _PREFIXES.items())
    return f'{_before(preamble)}<uws:jobs {declared} version="1.1">\n'.encode()


def jobRef(ref: JobRef, url: str) -> bytes:
    """
    One job of the list, with the absolute URL that it has.

    Called for each of maybe 100,000 jobs, and so not made with lxml: 6 µs rather than 30.
    """
    runId = "" if ref.runId is None else f"<uws:runId>{_escaped(ref.runId)}</uws:runId>"
    owner = (
        '<uws:ownerId xsi:nil="true"/>'
        if not ref.owner
        else f"<uws:ownerId>{_escaped(ref.owner)}</uws:ownerId>"
    )
    return (
        f'  <uws:jobref id="{_escapedAttribute(ref.jobId)}" xlink:type="simple"'
        f' xlink:href="{_escapedAttribute(url)}">'
        f"<uws:phase>{ref.phase}</uws:phase>{runId}{owner}"
        f"<uws:creationTime>{formatInstant(ref.creationTime)}</uws:creationTime>"
        "</uws:jobref>\n"
    ).encode()


def jobListEnd() -> bytes:
    """What comes after the last L{jobRef}."""
    return b"</uws:jobs>\n"


def _escaped(text: str) -> str:
    """C{text} as the content of an element, as lxml would write it."""
    if not _NEEDS_ESCAPING.search(text):
        return text
    text = xmlText(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")


def _escapedAttribute(text: str) -> str:
    """C{text} as the value of an attribute, as lxml would write it."""
    text = _escaped(text).replace('"', "&quot;")
    return text.replace("\t", "&#9;").replace("\n", "&#10;")


# The parts of a job.


def _addParameters(parent: etree._Element, job: UWSJob, url: str) -> None:
    # In the order of their declarations, for the database keeps none.
    declared = {name: place for place, name in enumerate(job.declarations)}
    for name in sorted(job.parameters, key=lambda name: declared.get(name, len(declared))):
        values = job.parameters[name]
        for value in values:
            content, byReference = _parameterContent(name, value, url, len(values) > 1)
            one = _add(parent, "parameter", content, id=name)
            if byReference:
                one.set("byReference", "true")


def _parameterContent(name: str, value: Value, url: str, several: bool) -> tuple[str, bool]:
    """What is in a parameter's element, and whether that is a reference to the value."""
    if isinstance(value, str):
        if _NOT_IN_XML.search(value):
            return parameterURL(url, name), True
        return value, False
    if value.label is not None:
        # An upload of DALI's: the label and the URL together are the value.
        return f"{value.label},{parameterURL(url, value.file)}", False
    # Of several files, the parameter's name would not say which.
    return parameterURL(url, value.file if several else name), True


def _addResults(parent: etree._Element, job: UWSJob, url: str) -> None:
    for result in job.results:
        one = _add(parent, "result", id=result.id)
        one.set(f"{{{XLINK}}}type", "simple")
        one.set(f"{{{XLINK}}}href", xmlText(resultURL(url, result)))
        if result.size is not None:
            one.set("size", str(result.size))
        if result.mediaType:
            one.set("mime-type", xmlText(result.mediaType))


def _addError(parent: etree._Element, error: JobError) -> None:
    """Add the C{errorSummary}; it promises detail only where there is more (A-10)."""
    kind = "transient" if error.type == "transient" else "fatal"
    detail = "true" if error.detail else "false"
    _add(_add(parent, "errorSummary", type=kind, hasDetail=detail), "message", error.message)


def _addJobInfo(parent: etree._Element, info: Mapping[str, Any]) -> None:
    """
    Add the C{jobInfo}, unless it would be empty: an element for each name, never bare text.

    A list repeats its element, C{None} is nil, and mappings are nested elements.
    """
    if any(_informative(info)):
        place = etree.SubElement(parent, f"{{{UWS}}}jobInfo", nsmap={"info": JOB_INFO})
        for name, value in _informative(info):
            _addInfo(place, name, value)


def _informative(info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names with each of the values that they have."""
    for name, value in info.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            yield name, one


def _addInfo(parent: etree._Element, name: str, value: Any) -> None:
    one = etree.SubElement(parent, f"{{{JOB_INFO}}}{_elementName(name)}")
    if value is None:
        one.set(f"{{{XSI}}}nil", "true")
    elif isinstance(value, Mapping):
        for key, inner in _informative(value):
            _addInfo(one, key, inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _addInfo(one, "item", inner)
    elif isinstance(value, bool):
        one.text = "true" if value else "false"
    elif isinstance(value, datetime):
        one.text = formatInstant(value)
    else:
        one.text = xmlText(str(value))


def _elementName(name: str) -> str:
    """
    C{name} as the name of an element, with C{_x0020_} for a blank, and so on.

    >>> _elementName("seeing in arcsec"), _elementName("2mass")
    ('seeing_x0020_in_x0020_arcsec', '_x0032_mass')
    """
    return _NOT_IN_NAME.sub(lambda found: f"_x{ord(found[0]):04X}_", str(name)) or "_"


# Elements.


def _root(name: str, **attributes: str) -> etree._Element:
    return etree.Element(f"{{{UWS}}}{name}", attributes, nsmap=_PREFIXES)


def _add(
    parent: etree._Element, name: str, text: str | None = None, **attributes: str
) -> etree._Element:
    one = etree.SubElement(parent, f"{{{UWS}}}{name}")
    for key, value in attributes.items():
        one.set(key, xmlText(value))
    if text is not None:
        one.text = xmlText(text)
    return one


def _addNillable(parent: etree._Element, name: str, value: str | datetime | None) -> None:
    """Add an element that is nil where there is nothing to say, never empty (S-003, S-004)."""
    one = _add(parent, name, formatInstant(value) if isinstance(value, datetime) else value)
    if not value:
        one.set(f"{{{XSI}}}nil", "true")


def _document(root: etree._Element, preamble: str) -> bytes:
    return _before(preamble).encode() + etree.tostring(root, encoding="UTF-8", pretty_print=True)


def _before(preamble: str) -> str:
    return _DECLARATION + (preamble and preamble.rstrip("\n") + "\n")


def _quoted(name: str) -> str:
    """C{name} as one element of a path; what UTF-8 cannot write is quoted as if it could."""
    return quote(name, safe="", errors="surrogatepass")
