"""
Part V: what DALI and VOSI add.  A plain UWS need not have it; where it is there, it is right.
"""

from __future__ import annotations

from urllib.parse import urljoin

from lxml import etree

from twuws.conformance.answers import Answer
from twuws.conformance.documents import instant
from twuws.conformance.outcomes import Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

CAPABILITIES = "{http://www.ivoa.net/xml/VOSICapabilities/v1.0}"
AVAILABILITY = "{http://www.ivoa.net/xml/VOSIAvailability/v1.0}"
_STANDARD = "ivo://ivoa.net/std/uws#rest-1.1"
#: What is there beside the service's own capability, and says nothing about jobs.
_BESIDE = ("ivo://ivoa.net/std/vosi", "ivo://ivoa.net/std/dali", "ivo://ivoa.net/sso")


def _beside(uws: Session, name: str) -> Answer:
    """What is beside the job list, for anybody; the check is skipped if nothing is."""
    url = urljoin(uws.url, name)
    answer = uws.anonymous.get(url)
    if answer.status == 401:  # where nobody may do anything without saying who one is
        answer = uws.get(url)
    if answer.status == 404:
        raise Skipped(f"there is no {url}, and a plain UWS needs none")
    return uws.expect(answer, 200)


def _capabilities(uws: Session) -> list[etree._Element]:
    return _beside(uws, "capabilities").xml().findall("capability")


def _isOf(capability: etree._Element, standard: str) -> bool:
    """Whether a capability is that of a standard; identifiers have no case."""
    return capability.get("standardID", "").strip().lower() == standard


def _urls(capability: etree._Element) -> list[str]:
    return [(url.text or "").strip() for url in capability.iterfind("interface/accessURL")]


@check(
    "V1", "M", "VOSI 3.1", "The capabilities are beside the job list, and anybody can read them."
)
def capabilities(uws: Session) -> None:
    answer = _beside(uws, "capabilities")
    root = answer.xml()
    uws.require(root.tag == f"{CAPABILITIES}capabilities", f"The root is {root.tag}.", answer)
    wrong = [one.tag for one in root.iterchildren(etree.Element) if one.tag != "capability"]
    uws.require(not wrong, f"In it is {wrong[:1]}, and not capability.", answer)
    uws.require(len(root), "There is no capability in it.", answer)


@check("V2", "M", "2.2.1.1", "The capability of jobs has the standardID of UWS 1.1.")
def standardID(uws: Session) -> None:
    known = [(one.get("standardID") or "").lower() for one in _capabilities(uws)]
    ofUWS = [one for one in known if one.startswith("ivo://ivoa.net/std/uws")]
    others = [one for one in known if one and not one.startswith((*_BESIDE, *ofUWS))]
    if others and not ofUWS:
        raise Skipped(f"jobs are part of {others[0]} there")
    uws.require(_STANDARD in ofUWS, f"There is {', '.join(filter(None, known)) or 'none'}.")


@check("V3", "S", "2.2.1", "The accessURL of that capability is the job list's URL.")
def accessURL(uws: Session) -> None:
    jobs = [one for one in _capabilities(uws) if _isOf(one, _STANDARD)]
    if not jobs:
        raise Skipped("no capability is that of UWS 1.1")
    urls = [url for one in jobs for url in _urls(one)]
    same = uws.url in [url.rstrip("/") for url in urls]
    uws.require(same, f"It is {' and '.join(urls) or 'not there'}, not {uws.url}.")


@check("V4", "M", "VOSI 3.2", "The availability says whether the service can be used.")
def availability(uws: Session) -> None:
    answer = _beside(uws, "availability")
    root = answer.xml()
    uws.require(root.tag == f"{AVAILABILITY}availability", f"The root is {root.tag}.", answer)
    found = [one.tag for one in root.iterchildren(etree.Element)]
    names = ("available", "upSince", "downAt", "backAt", "note")
    right = [AVAILABILITY + name for name in names]
    wrong = [one for one in found if one not in right]
    uws.require(not wrong, f"There is {wrong[:1]} in it.", answer)
    uws.require(found == sorted(found, key=right.index), "The order is wrong.", answer)
    for name, tag in zip(names, right, strict=True):
        texts = [(one.text or "").strip() for one in root.findall(tag)]
        uws.require(len(texts) <= 1 or name == "note", f"There are {len(texts)} {name}.", answer)
        if name == "available":
            said = texts and texts[0] in ("true", "false", "1", "0")
            uws.require(said, f"available is {texts[0] if texts else ''!r}.", answer)
        elif name != "note" and texts:
            uws.require(_isInstant(texts[0]), f"{name} is {texts[0]!r}, no instant.", answer)


def _isInstant(text: str) -> bool:
    try:
        instant(text)
    except ValueError:
        return False
    return "T" in text


@check("V5", "S", "VOSI 2", "Capabilities and availability are for reading: POST is answered 405.")
def readingOnly(uws: Session) -> None:
    for name in ("capabilities", "availability"):
        try:
            url = _beside(uws, name).asked.url
        except Skipped:
            if name == "capabilities":
                raise
            continue
        uws.expect(uws.post(url), 405)
        uws.expect(uws.anonymous.get(url), 200, 401)
