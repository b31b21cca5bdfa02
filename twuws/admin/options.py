"""
The command line of C{twuws}.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from math import inf
from typing import Any

import twuws
from twuws.admin import commands, history, holding, nodes, passwords, standing, tokens
from twuws.conformance import command as conformance
from twuws.conformance import options as conformanceOptions
from twuws.node import ON_STOP
from twuws.options import OPTIONS
from twuws.phases import Phase
from twuws.times import LONGEST_DURATION, parseInstant

#: Units of time, s.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: The options that C{twistd uws} has, too, with the same meaning.
SHARED = ("database", "data-dir")


def _phase(text: str) -> Phase:
    try:
        return Phase(text.upper())
    except ValueError:
        known = ", ".join(Phase)
        raise argparse.ArgumentTypeError(f"{text!r} is no phase; there are {known}") from None


def _instant(text: str) -> datetime:
    try:
        return parseInstant(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if 0 <= (seconds := float(text)) < inf:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")


def _period(text: str) -> float:
    """A time in seconds; infinity for C{never}."""
    if text == "never":
        return inf
    found = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text, re.ASCII)
    if found is None or (seconds := int(found[1]) * _UNITS[found[2]]) > LONGEST_DURATION:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 12h, 30d or never")
    return seconds


def makeParser() -> argparse.ArgumentParser:
    """What reads it; C{command} of what it makes is a function of L{twuws.admin.commands}."""
    parser = argparse.ArgumentParser(
        prog="twuws",
        description="Look at the jobs of a twuws service, and change them. The service may run"
        " or not; this command works on its database. Only check is by HTTP, for any UWS.",
        epilog="A JOB is an id, or enough of its beginning (6 characters or more)."
        " A NODE is a name, or enough of its beginning."
        " Exit status: 0 all was done; 1 something could not be done; 2 wrong options, or no"
        " database.",
        allow_abbrev=False,
    )
    parser.set_defaults(config=None, database=None, data_dir=None, json=False, debug=False)
    parser.add_argument("--version", action="version", version=f"twuws {twuws.__version__}")
    _addShared(parser)
    _addCommands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))
    return parser


def _addShared(parser: argparse.ArgumentParser) -> None:
    """The options that may stand before the command and after it."""
    unset: Any = argparse.SUPPRESS  # lest a default after the command undo what is before it
    shared = parser.add_argument_group("options of all commands")
    shared.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=unset,
        help="the TOML file that declares the services, as for twistd uws",
    )
    for name, metavar in zip(SHARED, ("URL", "DIR"), strict=True):
        _, default, text = OPTIONS[name]
        said = text if default is None else f"{text} [default: {default}]"
        shared.add_argument(f"--{name}", metavar=metavar, default=unset, help=said)
    shared.add_argument("--json", action="store_true", default=unset, help="write JSON")
    shared.add_argument(
        "--debug", action="store_true", default=unset, help="show the log, and tracebacks"
    )


def _add(
    parsers: Any, before: str, name: str, command: Callable[..., Any], text: str, example: str
) -> Any:
    parser = parsers.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"Example: twuws {before}{name} {example}",
        allow_abbrev=False,
    )
    parser.set_defaults(command=command)
    _addShared(parser)
    return parser


def _addCommands(parsers: Any) -> None:
    add = partial(_add, parsers, "")
    one = add(
        "list",
        commands.listJobs,
        "list jobs, newest first",
        "--service sleep --phase EXECUTING QUEUED --last 20",
    )
    _addServices(one)
    one.add_argument(
        "--phase", metavar="PHASE", nargs="+", action="extend", type=_phase,
        help="only jobs in one of these; all but ARCHIVED if not given",
    )  # fmt: skip
    one.add_argument("--owner", help="only this owner's jobs; '' for those that have none")
    one.add_argument("--last", metavar="N", type=_count, help="only so many, the newest")
    one.add_argument(
        "--after", metavar="TIME", type=_instant, help="only jobs created later, in UTC"
    )
    one = add("show", commands.showJob, "show all of a job", "0c5f5e")
    one.add_argument("job", metavar="JOB")
    one = add(
        "history",
        history.showHistory,
        "show every change of a job's phase: when, where, who asked for it, and why",
        "0c5f5e",
    )
    one.add_argument("job", metavar="JOB")
    for name, command, text in (
        ("run", commands.runJobs, "queue jobs that are PENDING or HELD"),
        ("abort", commands.abortJobs, "abort jobs, and end their work"),
        ("destroy", commands.destroyJobs, "destroy jobs, with all that belongs to them"),
    ):
        one = add(name, command, text, "0c5f5e 77ab01")
        one.add_argument("jobs", metavar="JOB", nargs="+")
    _addHolds(add)
    one = add(
        "limits",
        standing.showLimits,
        "show where an owner stands, or who is anonymous at an address, and what the limits are",
        "anna",
    )
    one.add_argument("owner", metavar="OWNER", nargs="?", help="the owner")
    one.add_argument("--address", metavar="ADDRESS", help="where jobs come from that nobody owns")
    one = add(
        "cleanup",
        commands.cleanup,
        "destroy the jobs whose time is over, and remove directories that have no job",
        "--include-failed --dry-run",
    )
    _addServices(one)
    for name, text in (
        ("include-failed", "also those in ERROR and ABORTED"),
        ("include-completed", "also those in COMPLETED"),
        ("include-forgotten", "also those that have been PENDING for a day"),
        ("include-all", "also all others"),
        ("dry-run", "destroy nothing, and list what would be destroyed"),
    ):
        one.add_argument(f"--{name}", action="store_true", help=text)
    add("nodes", nodes.listNodes, "list the processes that share the database", "--json")
    _addDrain(add)
    _addUsers(add, parsers)
    add(
        "upgrade",
        commands.upgrade,
        "bring the database to this version of twuws, or prepare a new one; stop its services"
        " before",
        "--database postgresql://uws@db.example.org/uws",
    )
    one = parsers.add_parser(
        "check",
        help="check whether a service, of whatever make, does what UWS 1.1 says",
        description=conformanceOptions.DESCRIPTION,
        epilog=conformanceOptions.EPILOG,
        allow_abbrev=False,
    )
    one.set_defaults(command=conformance.run)
    conformanceOptions.addOptions(one)


def _addDrain(add: Callable[..., Any]) -> None:
    one = add(
        "drain",
        nodes.drainNodes,
        "ask processes to take no more jobs, and to leave",
        "host-0c5f5e77 --on-stop finish --wait 600",
    )
    one.add_argument("nodes", metavar="NODE", nargs="+")
    one.add_argument(
        "--on-stop", choices=ON_STOP, help="what becomes of the jobs that they run, as for"
        " twistd uws; as the configuration says if not given",
    )  # fmt: skip
    one.add_argument(
        "--wait", metavar="SECONDS", nargs="?", type=_seconds, const=inf,
        help="wait until they have left, for so long at most",
    )  # fmt: skip


def _addHolds(add: Callable[..., Any]) -> None:
    for name, command, text in (
        ("hold", holding.hold, "keep jobs from running, until they are released"),
        ("release", holding.release, "let jobs run again that are held"),
    ):
        one = add(name, command, text, "--service sleep --owner anna")
        one.add_argument("jobs", metavar="JOB", nargs="*", help="these jobs")
        one.add_argument("--service", metavar="NAME", help="all jobs of this service")
        one.add_argument(
            "--owner",
            help="all jobs of this owner, of all services or of that one; '' for those that have"
            " none",
        )
        if name == "hold":
            one.add_argument("--why", metavar="TEXT", help="the reason, for whoever looks at a job")
    add("holds", holding.listHolds, "list what is held, since when, by whom and why", "--json")


def _addUsers(add: Callable[..., Any], parsers: Any) -> None:
    one = add(
        "passwd",
        passwords.run,
        "give a user a password: it is asked for, or the first line of stdin",
        "--config uws.toml anna",
    )
    one.add_argument(
        "words", metavar="FILE NAME", nargs="*",
        help="the file of passwords, unless the configuration names it, and who it is",
    )  # fmt: skip
    either = one.add_mutually_exclusive_group()
    either.add_argument("--delete", action="store_true", help="remove the user instead")
    either.add_argument("--list", action="store_true", help="list the users instead")
    token = parsers.add_parser(
        "token",
        help="make, list and revoke the tokens with which programs act for users",
        description="Make, list and revoke the tokens with which programs act for users.",
        allow_abbrev=False,
    )
    below = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    addToken = partial(_add, below, "token ")
    one = addToken(
        "create", tokens.createToken, "make a token, and show it once", "--owner anna --expires 7d"
    )
    one.add_argument("--owner", required=True, metavar="NAME", help="for whom it stands")
    one.add_argument(
        "--scope", nargs="+", action="extend", choices=("read", "write", "admin"),
        help="what it is good for, as far as its owner may do that; to look is always among it"
        " [default: read write]",
    )  # fmt: skip
    one.add_argument(
        "--expires", metavar="TIME", type=_period,
        help="for how long it is good: such as 12h, 30d or never; as the configuration says if"
        " not given",
    )  # fmt: skip
    one.add_argument("--label", metavar="TEXT", help="what it is for, for people")
    one = addToken("list", tokens.listTokens, "list tokens that are good", "--owner anna")
    one.add_argument("--owner", metavar="NAME", help="only those of this owner")
    one = addToken(
        "revoke", tokens.revokeTokens, "end tokens; services know within seconds", "0c5f5e77ab01"
    )
    one.add_argument("tokens", metavar="ID", nargs="*", help="these")
    one.add_argument("--owner", metavar="NAME", help="all of this owner")


def _addServices(parser: Any) -> None:
    parser.add_argument(
        "--service", metavar="NAME", nargs="+", action="extend", help="only jobs of these"
    )
