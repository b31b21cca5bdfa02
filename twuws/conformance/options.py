"""
The options of C{twuws check}, which are also those of pytest.

Nothing that a bare installation lacks is imported here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twuws.conformance.outcomes import Unusable
from twuws.conformance.settings import Credentials, ParameterSet, Settings

#: Sets of parameters, and what they are for.
SETS = {
    "veryshort": "a job that ends at once",
    "short": "a job that takes some seconds",
    "long": "a job that takes longer than all checks, say an hour",
    "error": "a job that ends in ERROR",
}
#: Options with a value; what they mean; and what makes the value of the text.
VALUES: Mapping[str, tuple[str, str, Any]] = {
    "text": ("NAME", "a parameter that takes any text; RUNID is used if there is none", str),
    "file": ("NAME", "a parameter that takes a file", str),
    "limit": ("BYTES", "the largest request that the service takes", int),
    "sync": ("URL", "where jobs run synchronously; guessed if not given", str),
    "user": ("NAME", "who to be, by HTTP Basic", str),
    "password": ("WORD", "the password; better in UWS_PASSWORD in the environment", str),
    "token": ("WORD", "a bearer token instead; better in UWS_TOKEN", str),
    "other-user": ("NAME", "another user, who must not see the jobs of the first", str),
    "other-password": ("WORD", "the other's password; better in UWS_OTHER_PASSWORD", str),
    "other-token": ("WORD", "a token instead; better in UWS_OTHER_TOKEN", str),
    "patience": ("SECONDS", "how long a very short job may take, with queueing", float),
    "delay": ("SECONDS", "how long the service may take to act", float),
    "poll": ("SECONDS", "how long to sleep between two looks", float),
    "wait": ("SECONDS", "the WAIT of checks that sit one out", int),
    "timeout": ("SECONDS", "how long an answer may take", float),
    "xsd": ("FILE", "the published UWS.xsd, to validate against it, too", Path),
    "ca": ("FILE", "certificates of those who may sign the service's", Path),
}
CHOICES = {
    "only": "do these alone: numbers of checks, letters of parts, or levels M, S, R",
    "skip": "leave these out, likewise",
}
FLAGS = {
    "load": "also do what loads the service: many clients, many jobs",
    "attack": "also do what may hurt the service",
    "insecure": "take any certificate",
}

DESCRIPTION = (
    "Check whether a service does what UWS 1.1 says. URL is its job list. Only HTTP is used; a"
    " few jobs are made, and deleted. What needs a kind of job that is not known is skipped."
    " Without any set of parameters, the very short job is one without parameters."
)
EPILOG = (
    "Levels: M is what a service must do, S what it should do, R what makes it robust."
    " Exit status: 0 all M that could be checked hold; 1 some do not, or the kit broke;"
    " 2 wrong options, or nothing answers; 130 after an interrupt."
    " Example: twuws check https://example.org/uws/async --veryshort seconds=0"
    " --short seconds=3 --long seconds=3600 --skip K"
)


def addOptions(parser: argparse.ArgumentParser) -> None:
    """Add all there is to the parser of a command."""
    parser.add_argument("url", metavar="URL", help="the job list")
    jobs = parser.add_argument_group("how to make jobs")
    for name, text in SETS.items():
        jobs.add_argument(
            f"--{name}", nargs="*", action="extend", metavar="NAME=VALUE",
            help=f"parameters of {text}; NAME=@FILE uploads a file",
        )  # fmt: skip
    for name, (metavar, text, kind) in VALUES.items():
        default = getattr(Settings, name, None)
        shown = f" [default: {default:g}]" if isinstance(default, int | float) else ""
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, help=text + shown)
    for name, text in CHOICES.items():
        parser.add_argument(f"--{name}", metavar="N", nargs="+", action="extend", help=text)
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    for name, text in (("junit", "JUnit XML"), ("json", "JSON")):
        parser.add_argument(
            f"--{name}", metavar="FILE", type=Path, dest=f"{name}File", help=f"write {text}, too"
        )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say beside each why it was skipped"
    )


def settingsFrom(given: Mapping[str, Any]) -> Settings:
    """
    What options say.

    @param given: by their names, with underscores; C{None} for those that were not given.
    @raise Unusable: if something is wrong with them.
    """
    sets = {name: given.get(name) for name in SETS}
    values = {name: given[name] for name in VALUES if given.get(name) is not None}
    return Settings(
        url=given["url"],
        veryShort=_set(sets["veryshort"]),
        short=_set(sets["short"]),
        long=_set(sets["long"]),
        error=_set(sets["error"]),
        credentials=_credentials(given, ""),
        other=_credentials(given, "other_"),
        only=_chosen(given.get("only")),
        skip=_chosen(given.get("skip")),
        load=bool(given.get("load")),
        attack=bool(given.get("attack")),
        verify=not given.get("insecure"),
        **{name: value for name, value in values.items() if name in Settings.__annotations__},
    )


def _set(words: list[str] | None) -> ParameterSet | None:
    return None if words is None else ParameterSet.fromWords(words)


def _chosen(words: Iterable[str] | None) -> frozenset[str]:
    """
    What C{--only} and C{--skip} name; commas are as good as blanks.

    >>> sorted(_chosen(["13,i", "S"]))
    ['13', 'I', 'S']
    """
    return frozenset(one.upper() for word in words or () for one in word.split(",") if one)


def _credentials(given: Mapping[str, Any], prefix: str) -> Credentials | None:
    def find(name: str) -> str | None:
        return given.get(prefix + name) or os.environ.get(f"UWS_{prefix}{name}".upper())

    user, password, token = given.get(prefix + "user"), find("password"), find("token")
    option = f"--{prefix}user".replace("_", "-")
    if user and given.get(prefix + "token"):
        raise Unusable(f"there is {option} or a token, not both")
    if user:
        if password is None:
            raise Unusable(f"{option} needs a password")
        return Credentials(user=user, password=password)
    if given.get(prefix + "password"):
        raise Unusable(f"a password needs {option}")
    return Credentials(token=token) if token else None
