"""
What a service answered, with the request that it answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from twuws.conformance.documents import parse
from twuws.conformance.outcomes import Failed

#: How much of a body is shown, characters.
SHOWN = 1500

#: Headers that are shown to nobody.
SECRET = ("authorization", "cookie", "set-cookie", "proxy-authorization")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    A request, for people to read and to repeat.

    @ivar body: what was in it, or a description of that.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    def __str__(self) -> str:
        lines = [f"{self.method} {self.url}"]
        lines += shownHeaders(self.headers)
        return "\n".join(lines + (["", shortened(self.body)] if self.body else []))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    An answer.

    @ivar headers: by lower-case names; those that came more than once joined by commas.
    @ivar seconds: how long it took until all of it was there; C{waited} until some was.
    @ivar began: when it was asked for, by C{time.monotonic}.
    """

    asked: Asked
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    began: float
    waited: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.status} {self.reason}"]
        lines += shownHeaders(self.headers)
        return "\n".join(lines + (["", shortened(self.text)] if self.body else []))

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")

    @property
    def mediaType(self) -> str:
        """The media type alone, in lower case, without parameters; empty if none is said."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def location(self) -> str:
        """
        Where it leads to, exactly as it is said.

        @raise Failed: if it leads nowhere.
        """
        try:
            return self.headers["location"]
        except KeyError:
            raise Failed("The answer has no Location.", self) from None

    def xml(self) -> etree._Element:
        """
        The document element.

        @raise Failed: if the body is not XML that can be trusted.
        """
        try:
            return parse(self.body)
        except ValueError as e:
            raise Failed(f"The answer is not a good XML document: {e}.", self) from None


def shownHeaders(headers: Mapping[str, str]) -> list[str]:
    """
    Headers as lines, without what opens doors.

    >>> shownHeaders({"Cookie": "session=7", "Accept": "text/html"})
    ['Cookie: (hidden)', 'Accept: text/html']
    """
    return [
        f"{name}: {'(hidden)' if name.lower() in SECRET else value}"
        for name, value in headers.items()
    ]


def shortened(text: str) -> str:
    """
    The beginning of a text.

    >>> shortened("a" * 2000)[-22:]
    'a... (2000 characters)'
    """
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
