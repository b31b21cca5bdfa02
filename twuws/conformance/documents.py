"""
Reading the documents of a UWS.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

UWS = "http://www.ivoa.net/xml/UWS/v1.0"
XLINK = "http://www.w3.org/1999/xlink"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

PHASES = (
    "PENDING",
    "QUEUED",
    "EXECUTING",
    "COMPLETED",
    "ERROR",
    "ABORTED",
    "UNKNOWN",
    "HELD",
    "SUSPENDED",
    "ARCHIVED",
)
#: In these a job waits, or works.
ACTIVE = ("PENDING", "QUEUED", "EXECUTING")
#: A job in one of these does not change by itself any more.
TERMINAL = ("COMPLETED", "ERROR", "ABORTED", "ARCHIVED")


def tag(name: str) -> str:
    """The name of an element of UWS, as lxml has it."""
    return f"{{{UWS}}}{name}"


def parse(data: bytes) -> etree._Element:
    """
    The document element; nothing else is read, and no entity is replaced.

    @raise ValueError: if it is not well-formed, or has a document type.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as e:
        raise ValueError(str(e)) from None
    if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]
        raise ValueError("it has a document type, and the documents of a UWS have none")
    return root


@dataclass(frozen=True, kw_only=True)
class Result:
    """A result, as a job document or a list of results has it."""

    id: str
    href: str
    size: str | None
    mediaType: str | None


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter likewise; C{value} is a URL if it is by reference."""

    id: str
    value: str
    byReference: bool


class Document:
    """
    A document of a UWS: a job, or a list of results or of parameters.

    @ivar root: the document element.
    """

    def __init__(self, root: etree._Element) -> None:
        self.root = root

    def __str__(self) -> str:
        return etree.tostring(self.root, encoding="unicode")

    def texts(self, name: str) -> list[str | None]:
        """The content of each child of a name; C{None} for those that are nil."""
        found = self.root.findall(tag(name))
        return [None if isNil(element) else (element.text or "") for element in found]

    def text(self, name: str) -> str | None:
        """The content of the first child of a name; C{None} if it is nil, or is not there."""
        return next(iter(self.texts(name)), None)

    @property
    def phase(self) -> str:
        """The phase; empty if there is none."""
        return self.text("phase") or ""

    @property
    def jobId(self) -> str:
        """The job's identifier; empty if there is none."""
        return self.text("jobId") or ""

    @property
    def results(self) -> list[Result]:
        """The results, wherever in the document they are."""
        return [
            Result(
                id=element.get("id", ""),
                href=element.get(f"{{{XLINK}}}href", ""),
                size=element.get("size"),
                mediaType=element.get("mime-type"),
            )
            for element in self.root.iter(tag("result"))
        ]

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters, wherever in the document they are."""
        return [
            Parameter(
                id=element.get("id", ""),
                value="".join(map(str, element.itertext())),
                byReference=element.get("byReference") in ("true", "1"),
            )
            for element in self.root.iter(tag("parameter"))
        ]

    @property
    def message(self) -> str | None:
        """The message of the C{errorSummary}; C{None} if there is none of either."""
        found = self.root.find(f"{tag('errorSummary')}/{tag('message')}")
        return None if found is None else (found.text or "")


@dataclass(frozen=True, kw_only=True)
class JobRef:
    """An entry of the job list; what it does not have is C{None}."""

    id: str | None
    href: str | None
    phase: str | None
    runId: str | None
    ownerId: str | None
    creationTime: str | None


def jobRefs(root: etree._Element) -> list[JobRef]:
    """The entries of a job list, in its order."""
    return [
        JobRef(
            id=element.get("id"),
            href=element.get(f"{{{XLINK}}}href"),
            **{
                name: Document(element).text(name)
                for name in ("phase", "runId", "ownerId", "creationTime")
            },
        )
        for element in root.findall(tag("jobref"))
    ]


def isNil(element: etree._Element) -> bool:
    """Whether an element says that there is no value."""
    return element.get(f"{{{XSI}}}nil") in ("true", "1")


def instant(text: str) -> datetime:
    """
    An instant as a UWS writes it; without a zone it is in UTC.

    >>> instant("2026-01-02T03:04:05.6Z").isoformat()
    '2026-01-02T03:04:05.600000+00:00'

    @raise ValueError: if it is none.
    """
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def formatInstant(when: datetime) -> str:
    """An instant as it is sent to a UWS."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
