"""
What a service can do, and whether it can now, as the XML of VOSI 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from lxml import etree

from twuws.documents.xml import XSI, xmlText
from twuws.parameters import (
    Boolean,
    Choice,
    Format,
    Instant,
    Integer,
    Interval,
    Parameter,
    Real,
    Text,
)
from twuws.times import formatInstant

CAPABILITIES = "http://www.ivoa.net/xml/VOSICapabilities/v1.0"
AVAILABILITY = "http://www.ivoa.net/xml/VOSIAvailability/v1.0"
_VR = "http://www.ivoa.net/xml/VOResource/v1.0"
_VS = "http://www.ivoa.net/xml/VODataService/v1.1"

_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'

#: How VOTable calls the values of a parameter, with what else it says of them.  Nothing is
#: said of files, which are no values in a query.
_DATA_TYPES: dict[type[Parameter[Any]], tuple[str, dict[str, str]]] = {
    Integer: ("long", {}),
    Real: ("double", {}),
    Boolean: ("boolean", {}),
    Text: ("char", {"arraysize": "*"}),
    Choice: ("char", {"arraysize": "*"}),
    Format: ("char", {"arraysize": "*"}),
    Instant: ("char", {"arraysize": "*", "extendedType": "timestamp"}),
    Interval: ("double", {"arraysize": "2", "extendedType": "interval"}),
}


def capabilitiesDocument(
    base: str,
    title: str,
    declarations: Mapping[str, Parameter[Any]],
    securityMethods: Iterable[str | None] = (),
) -> bytes:
    """
    What a service offers, and where (VOSI 3.1, 4).

    UWS and VOSI name their resources in the registry.  DALI does that for its examples alone,
    and leaves C{sync} to those who build on it; so its entry has no C{standardID}.  There are
    the parameters, which are the same for C{async} (D-017).

    @param base: the service's absolute URL, without a slash at its end.
    @param declarations: the parameters of a job, by name.
    @param securityMethods: the IVOA's names of the ways to log in (SSO 2.4); C{None} among them
        says that one need not.
    """
    methods = list(securityMethods)
    root = etree.Element(
        f"{{{CAPABILITIES}}}capabilities",
        nsmap={"vosi": CAPABILITIES, "vr": _VR, "vs": _VS, "xsi": XSI},
    )
    for name in ("capabilities", "availability"):
        capability = _add(root, "capability", standardID=f"ivo://ivoa.net/std/VOSI#{name}")
        _addInterface(capability, f"{base}/{name}", role="std")
    jobs = _add(root, "capability", standardID="ivo://ivoa.net/std/UWS#rest-1.1")
    _add(jobs, "description", title)
    _addMethods(_addInterface(jobs, f"{base}/async", role="std"), methods)
    if methods:  # of a full URL clients take this for that one alone, and not for the jobs below
        _addMethods(_addInterface(jobs, f"{base}/async", "base"), methods)
    sync = _add(root, "capability")
    _add(sync, "description", "The same, in one request that waits for the result.")
    interface = _addInterface(sync, f"{base}/sync")
    _addMethods(interface, methods)
    _addParameters(interface, declarations)
    return _document(root)


def availabilityDocument(available: bool, upSince: datetime, notes: Iterable[str] = ()) -> bytes:
    """Whether a service can be used now, since when it is there, and why not (VOSI 3.2)."""
    root = etree.Element(f"{{{AVAILABILITY}}}availability", nsmap={"vosi": AVAILABILITY})

    def add(name: str, text: str) -> None:
        etree.SubElement(root, f"{{{AVAILABILITY}}}{name}").text = xmlText(text)

    add("available", "true" if available else "false")
    add("upSince", formatInstant(upSince))
    for note in notes:
        add("note", note)
    return _document(root)


def _addInterface(
    capability: etree._Element, url: str, use: str = "full", **attributes: str
) -> etree._Element:
    interface = _add(capability, "interface", **attributes)
    interface.set(f"{{{XSI}}}type", "vs:ParamHTTP")
    _add(interface, "accessURL", url, use=use)
    return interface


def _addMethods(interface: etree._Element, methods: Iterable[str | None]) -> None:
    for method in methods:
        _add(interface, "securityMethod", **({} if method is None else {"standardID": method}))


def _addParameters(interface: etree._Element, declarations: Mapping[str, Parameter[Any]]) -> None:
    """Describe the parameters as they are declared, in the order of VODataService."""
    for name, declared in declarations.items():
        isRequired = declared.required and declared.default is None
        param = _add(interface, "param", use="required" if isRequired else "optional", std="false")
        _add(param, "name", name)
        wanted = declared.wanted()
        words = f"{declared.description} ({wanted})" if declared.description else wanted
        _add(param, "description", words)
        if declared.unit:
            _add(param, "unit", declared.unit)
        if declared.ucd:
            _add(param, "ucd", declared.ucd)
        known = next((kind for kind in _DATA_TYPES if isinstance(declared, kind)), None)
        if known is not None:
            dataType, more = _DATA_TYPES[known]
            _add(param, "dataType", dataType, **more).set(f"{{{XSI}}}type", "vs:VOTableType")


def _add(
    parent: etree._Element, name: str, text: str | None = None, **attributes: str
) -> etree._Element:
    """Add an element; in these documents only the outermost has a namespace."""
    one = etree.SubElement(parent, name, attributes)
    if text is not None:
        one.text = xmlText(text)
    return one


def _document(root: etree._Element) -> bytes:
    return _DECLARATION + etree.tostring(root, encoding="UTF-8", pretty_print=True)
