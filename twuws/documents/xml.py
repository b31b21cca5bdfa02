"""
Jobs as the XML of UWS 1.1 (2.2.2): the job, the list of jobs, parameters, results.

Clients look for the literal prefixes C{uws} and C{xlink}, and some for a declared C{xlink}
where nothing uses it, so every document element declares the same three.

They are put together as text, which takes half of the time that lxml takes: clients poll
documents, and lists are long.

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
_DECLARED = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in _PREFIXES.items())
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
    parts = [
        _element("jobId", job.jobId),
        "" if job.runId is None else _element("runId", job.runId),
        _nillable("ownerId", job.owner),
        _element("phase", job.phase),
        _nillable("quote", job.quote),
        _element("creationTime", formatInstant(job.creationTime)),
        _nillable("startTime", job.startTime),
        _nillable("endTime", job.endTime),
        _element("executionDuration", str(job.executionDuration)),
        _nillable("destruction", job.destruction),
        _group("uws:parameters", _parameters(job, url, "    "), "  "),
        _group("uws:results", _results(job, url, "    "), "  "),
    ]
    if job.error is not None and job.phase in _FAILED:
        parts.append(_error(job.error))
    parts.append(_jobInfo(job.jobInfo))
    return _document("job", "".join(parts), preamble, ' version="1.1"')


def parametersDocument(job: UWSJob, url: str, preamble: str = "") -> bytes:
    """A job's C{uws:parameters} alone; it has no version (S-007).  See L{jobDocument}."""
    return _document("parameters", _parameters(job, url, "  "), preamble)


def resultsDocument(job: UWSJob, url: str, preamble: str = "") -> bytes:
    """A job's C{uws:results} alone; it has no version (S-007).  See L{jobDocument}."""
    return _document("results", _results(job, url, "  "), preamble)


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
    return f'{_before(preamble)}<uws:jobs{_DECLARED} version="1.1">\n'.encode()


def jobRef(ref: JobRef, url: str) -> bytes:
    """
    One job of the list, with the absolute URL that it has.
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


def _parameters(job: UWSJob, url: str, indent: str) -> str:
    # In the order of their declarations, for the database keeps none.
    names = [name for name in job.declarations if name in job.parameters]
    names += [name for name in job.parameters if name not in job.declarations]
    parts = []
    for name in names:
        values = job.parameters[name]
        for value in values:
            content, byReference = _parameterContent(name, value, url, len(values) > 1)
            attributes = f' id="{_escapedAttribute(name)}"'
            if byReference:
                attributes += ' byReference="true"'
            parts.append(_element("parameter", content, indent, attributes))
    return "".join(parts)


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


def _results(job: UWSJob, url: str, indent: str) -> str:
    parts = []
    for result in job.results:
        size = "" if result.size is None else f' size="{result.size}"'
        mediaType = _escapedAttribute(result.mediaType)
        parts.append(
            f'{indent}<uws:result id="{_escapedAttribute(result.id)}" xlink:type="simple"'
            f' xlink:href="{_escapedAttribute(resultURL(url, result))}"{size}'
            + (f' mime-type="{mediaType}"/>\n' if mediaType else "/>\n")
        )
    return "".join(parts)


def _error(error: JobError) -> str:
    """The C{errorSummary}; it promises detail only where there is more (A-10)."""
    kind = "transient" if error.type == "transient" else "fatal"
    detail = "true" if error.detail else "false"
    attributes = f' type="{kind}" hasDetail="{detail}"'
    return _group("uws:errorSummary", _element("message", error.message, "    "), "  ", attributes)


def _jobInfo(info: Mapping[str, Any]) -> str:
    """
    The C{jobInfo}, unless it would be empty: an element for each name, never bare text.

    A list repeats its element, C{None} is nil, and mappings are nested elements.
    """
    parts = "".join(_info(name, value, "    ") for name, value in _informative(info))
    return parts and _group("uws:jobInfo", parts, "  ", f' xmlns:info="{JOB_INFO}"')


def _informative(info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names with each of the values that they have."""
    for name, value in info.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            yield name, one


def _info(name: str, value: Any, indent: str) -> str:
    tag = f"info:{_elementName(name)}"
    if value is None:
        return f'{indent}<{tag} xsi:nil="true"/>\n'
    if isinstance(value, Mapping | list | tuple):
        inner = _informative(value if isinstance(value, Mapping) else {"item": value})
        parts = (_info(key, one, indent + "  ") for key, one in inner)
        return _group(tag, "".join(parts), indent)
    if isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = formatInstant(value) if isinstance(value, datetime) else str(value)
    return f"{indent}<{tag}>{_escaped(text)}</{tag}>\n"


def _elementName(name: str) -> str:
    """
    C{name} as the name of an element, with C{_x0020_} for a blank, and so on.

    >>> _elementName("seeing in arcsec"), _elementName("2mass")
    ('seeing_x0020_in_x0020_arcsec', '_x0032_mass')
    """
    return _NOT_IN_NAME.sub(lambda found: f"_x{ord(found[0]):04X}_", str(name)) or "_"


# Elements.


def _element(name: str, text: str, indent: str = "  ", attributes: str = "") -> str:
    return f"{indent}<uws:{name}{attributes}>{_escaped(text)}</uws:{name}>\n"


def _nillable(name: str, value: str | datetime | None) -> str:
    """An element that is nil where there is nothing to say, never empty (S-003, S-004)."""
    if not value:
        return f'  <uws:{name} xsi:nil="true"/>\n'
    return _element(name, formatInstant(value) if isinstance(value, datetime) else value)


def _group(tag: str, parts: str, indent: str, attributes: str = "") -> str:
    """An element of other elements, each of which ends its line."""
    if not parts:
        return f"{indent}<{tag}{attributes}/>\n"
    return f"{indent}<{tag}{attributes}>\n{parts}{indent}</{tag}>\n"


def _document(name: str, parts: str, preamble: str, attributes: str = "") -> bytes:
    root = _group(f"uws:{name}", parts, "", _DECLARED + attributes)
    return (_before(preamble) + root).encode()


def _before(preamble: str) -> str:
    return _DECLARATION + (preamble and preamble.rstrip("\n") + "\n")


def _quoted(name: str) -> str:
    """C{name} as one element of a path; what UTF-8 cannot write is quoted as if it could."""
    return quote(name, safe="", errors="surrogatepass")
