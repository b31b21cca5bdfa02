"""
What a document of UWS 1.1 must look like: rules in code, for messages that help.

Each function here returns sentences about what is wrong.  The rules hold for what 1.1 must
say; what clients should find besides is for checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from lxml import etree

from twuws.conformance.documents import PHASES, UWS, XLINK, XSI, isNil, tag

_DATE_TIME = re.compile(r"-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_LINK_TYPES = ("simple", "extended", "title", "resource", "locator", "arc", "none")
_LARGEST_INT = 2**31 - 1

#: The children of a job in their order, and whether they must be there.  What 1.1 asks for in
#: its text, and its schema leaves open for 1.0, must be there.
_JOB = {
    "jobId": True, "runId": False, "ownerId": True, "phase": True, "quote": False,
    "creationTime": True, "startTime": True, "endTime": True, "executionDuration": True,
    "destruction": True, "parameters": False, "results": True, "errorSummary": False,
    "jobInfo": False,
}  # fmt: skip
_JOBREF = {"phase": True, "runId": False, "ownerId": False, "creationTime": False}
_NILLABLE = ("ownerId", "quote", "startTime", "endTime", "destruction")

_LINK = (f"{{{XLINK}}}type", f"{{{XLINK}}}href")


def problems(root: etree._Element) -> list[str]:
    """What is wrong with a document, most important first; empty if it is valid."""
    rules = {
        tag("job"): _job,
        tag("jobs"): _jobs,
        tag("parameters"): _parameters,
        tag("results"): _results,
    }
    if root.tag not in rules:
        return [f"there is no document element {root.tag} in UWS"]
    return list(dict.fromkeys(rules[root.tag](root)))


def _job(root: etree._Element) -> Iterator[str]:
    yield from _attributes(root, ("version",))
    yield from _sequence(root, _JOB)
    for child in _children(root):
        yield from _CONTENT.get(_name(child), _text)(child)


def _jobs(root: etree._Element) -> Iterator[str]:
    yield from _attributes(root, ("version",))
    yield from _only(root, "jobref")
    for ref in root.iterfind(tag("jobref")):
        yield from _attributes(ref, ("id", *_LINK), required=("id",))
        yield from _sequence(ref, _JOBREF)
        yield from _link(ref)
        for child in _children(ref):
            yield from _CONTENT.get(_name(child), _text)(child)


def _parameters(root: etree._Element) -> Iterator[str]:
    yield from _attributes(root, ())
    yield from _only(root, "parameter")
    for one in root.iterfind(tag("parameter")):
        yield from _attributes(one, ("id", "byReference", "isPost"), required=("id",))
        for name in ("byReference", "isPost"):
            yield from _boolean(one, name)
        if len(one):
            yield f"a parameter holds text, and {one.get('id')} holds elements"


def _results(root: etree._Element) -> Iterator[str]:
    yield from _attributes(root, ())
    yield from _only(root, "result")
    for one in root.iterfind(tag("result")):
        allowed = ("id", "size", "mime-type", *_LINK)
        yield from _attributes(one, allowed, required=("id",), custom="urn:uwscustom")
        yield from _link(one)
        if len(one) or one.text:
            yield f"a result is empty, and {one.get('id')} is not"
        if (size := one.get("size")) is not None and not _INTEGER.fullmatch(size.strip()):
            yield f"the size of a result is a number of bytes, and not {size!r}"
    ids = [one.get("id") for one in root.iterfind(tag("result"))]
    for name in dict.fromkeys(name for name in ids if ids.count(name) > 1):
        yield f"the id of a result is unique, and there are {ids.count(name)} called {name!r}"


# What is in the elements of a job.


def _phase(element: etree._Element) -> Iterator[str]:
    yield from _text(element)
    if element.text not in PHASES:
        yield f"{element.text!r} is no phase"


def _instant(element: etree._Element) -> Iterator[str]:
    yield from _text(element)
    text = element.text or ""
    if not isNil(element) and not _DATE_TIME.fullmatch(text.strip()):
        yield f"{_name(element)} is an instant, and not {text!r}" + (
            "; what is not known is nil" if not text and _name(element) in _NILLABLE else ""
        )


def _duration(element: etree._Element) -> Iterator[str]:
    yield from _text(element)
    text = (element.text or "").strip()
    if not _INTEGER.fullmatch(text) or not 0 <= int(text) <= _LARGEST_INT:
        yield f"executionDuration is a whole number of seconds, and not {element.text!r}"


def _errorSummary(element: etree._Element) -> Iterator[str]:
    both = ("type", "hasDetail")
    yield from _attributes(element, both, required=both)
    yield from _sequence(element, {"message": True})
    if (kind := element.get("type")) not in (None, "transient", "fatal"):
        yield f"the type of an errorSummary is transient or fatal, and not {kind!r}"
    yield from _boolean(element, "hasDetail")


def _jobInfo(element: etree._Element) -> Iterator[str]:
    yield from _attributes(element, ())
    yield from _noText(element)


def _text(element: etree._Element) -> Iterator[str]:
    """What holds a text: no elements, and nil only where that may be."""
    name = _name(element)
    nil = f"{{{XSI}}}nil"
    yield from _attributes(element, (nil,) if name in _NILLABLE else ())
    if len(element):
        yield f"{name} holds text, and there are elements in it"
    if isNil(element) and element.text:
        yield f"{name} is nil, and yet holds {element.text!r}"
    yield from _boolean(element, nil)


_CONTENT: Mapping[str, Callable[[etree._Element], Iterator[str]]] = {
    "phase": _phase,
    "quote": _instant,
    "creationTime": _instant,
    "startTime": _instant,
    "endTime": _instant,
    "destruction": _instant,
    "executionDuration": _duration,
    "parameters": _parameters,
    "results": _results,
    "errorSummary": _errorSummary,
    "jobInfo": _jobInfo,
}


# What holds for any element.


def _children(element: etree._Element) -> list[etree._Element]:
    return [child for child in element if isinstance(child.tag, str)]


def _name(element: etree._Element) -> str:
    qualified = etree.QName(element)
    return qualified.localname if qualified.namespace == UWS else str(element.tag)


def _sequence(parent: etree._Element, order: Mapping[str, bool]) -> Iterator[str]:
    """The children that there may be, each once, in this order."""
    yield from _noText(parent)
    names = [_name(child) for child in _children(parent)]
    where = _name(parent)
    for name, needed in order.items():
        if needed and name not in names:
            yield f"{where} has no {name}"
    for name in dict.fromkeys(names):
        if name not in order:
            yield f"there is no {name} in {where}"
        elif names.count(name) > 1:
            yield f"there are {names.count(name)} {name} in {where}"
    known = [name for name in names if name in order]
    if known != sorted(known, key=list(order).index):
        yield f"the elements of {where} are in the wrong order: {', '.join(known)}"


def _only(parent: etree._Element, name: str) -> Iterator[str]:
    yield from _noText(parent)
    for child in _children(parent):
        if _name(child) != name:
            yield f"there is no {_name(child)} in {_name(parent)}"


def _noText(parent: etree._Element) -> Iterator[str]:
    if any((text or "").strip() for text in (parent.text, *(child.tail for child in parent))):
        yield f"there is text between the elements of {_name(parent)}"


def _attributes(
    element: etree._Element,
    allowed: tuple[str, ...],
    *,
    required: tuple[str, ...] = (),
    custom: str = "",
) -> Iterator[str]:
    where = _name(element)
    for name in required:
        if name not in element.attrib:
            yield f"{where} has no attribute {name}"
    for name in map(str, element.attrib):
        isTheirs = custom and name.startswith(f"{{{custom}}}")
        isForValidators = name == f"{{{XSI}}}schemaLocation"
        if name not in allowed and not isTheirs and not isForValidators:
            yield f"there is no attribute {name} of {where}"


def _boolean(element: etree._Element, name: str) -> Iterator[str]:
    if (value := element.get(name)) not in (None, "true", "false", "1", "0"):
        yield f"{etree.QName(name).localname} is true or false, and not {value!r}"


def _link(element: etree._Element) -> Iterator[str]:
    if (kind := element.get(_LINK[0])) not in (None, *_LINK_TYPES):
        yield f"the type of a link is {_LINK_TYPES[0]}, and not {kind!r}"
