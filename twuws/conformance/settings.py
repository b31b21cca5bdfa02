"""
What the kit is told: where the service is, how to make jobs there, and what to leave out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from twuws.conformance.outcomes import Unusable


@dataclass(frozen=True, kw_only=True)
class ParameterSet:
    """
    The parameters of a job.

    @ivar pairs: names and values.
    @ivar files: names, file names and contents; where there are any, the form is multipart.
    """

    pairs: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str, bytes], ...] = ()

    @classmethod
    def fromWords(cls, words: Iterable[str]) -> ParameterSet:
        """
        Read C{NAME=VALUE} and C{NAME=@FILE}.

        >>> ParameterSet.fromWords(["seconds=2", "label=a=b"]).pairs
        (('seconds', '2'), ('label', 'a=b'))

        @raise Unusable: if a word is neither, or a file cannot be read.
        """
        pairs: list[tuple[str, str]] = []
        files: list[tuple[str, str, bytes]] = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or not name or "://" in name:
                raise Unusable(f"{word!r} is not NAME=VALUE, nor NAME=@FILE")
            if value.startswith("@"):
                path = Path(value[1:])
                try:
                    files.append((name, path.name, path.read_bytes()))
                except OSError as e:
                    raise Unusable(f"{path} cannot be read: {e.strerror}") from None
            else:
                pairs.append((name, value))
        return cls(pairs=tuple(pairs), files=tuple(files))


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who the kit is, for the service: a user with a password, or the bearer of a token."""

    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return "<Credentials>"

    @property
    def header(self) -> str:
        """The value of C{Authorization}."""
        if self.token:
            return f"Bearer {self.token}"
        return f"Basic {self._pair}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be shown to nobody."""
        if self.token:
            return (self.token,)
        return tuple(filter(None, (self._pair, self.password)))

    @property
    def _pair(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    All that the kit is told.

    @ivar url: the job list.
    @ivar veryShort, short, long, error: what makes a job that ends at once; one that takes some
        seconds; one that takes longer than the checks; one that ends in C{ERROR}.  C{None}:
        not known, and the checks that need it are skipped.
    @ivar text: the name of a parameter that takes any text.
    @ivar file: the name of a parameter that takes a file.
    @ivar limit: the largest request that the service takes, bytes.
    @ivar sync: where jobs run synchronously; C{None} for C{sync} beside the job list, if there
        is something.
    @ivar credentials: who the kit is; C{other} somebody else.
    @ivar only: numbers of checks, letters of parts, or levels, to do nothing else; empty: all.
    @ivar skip: likewise, not to do.
    @ivar load: whether to do what loads the service.
    @ivar attack: whether to do what may hurt it.
    @ivar patience: how long a very short job may take in all, s; and a short one beyond its time.
    @ivar delay: how long after the last moment a service may act, s.
    @ivar poll: how long the kit sleeps between two looks, s.
    @ivar wait: the C{WAIT} of checks that have to sit one out, s.
    @ivar timeout: how long an answer may take, beyond any C{WAIT}, s.
    @ivar xsd: the published schema.
    @ivar verify: whether certificates must be good; C{ca} those who may sign them.
    """

    url: str
    veryShort: ParameterSet | None = None
    short: ParameterSet | None = None
    long: ParameterSet | None = None
    error: ParameterSet | None = None
    text: str | None = None
    file: str | None = None
    limit: int | None = None
    sync: str | None = None
    credentials: Credentials | None = None
    other: Credentials | None = None
    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    load: bool = False
    attack: bool = False
    patience: float = 60.0
    delay: float = 2.0
    poll: float = 0.5
    wait: int = 10
    timeout: float = 30.0
    xsd: Path | None = None
    verify: bool = True
    ca: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unusable("the URL of the job list begins with http:// or https://")
        if "@" in parts.netloc:
            raise Unusable("the URL must not hold a user; there are --user and --password")
        if parts.query or parts.fragment:
            raise Unusable("the URL is that of the job list alone, without a query")

    @property
    def listURL(self) -> str:
        """The job list, without a slash at its end."""
        return self.url.rstrip("/")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be shown to nobody."""
        known = (self.credentials, self.other)
        return tuple(secret for one in known if one is not None for secret in one.secrets)
