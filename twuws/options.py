"""
The options of the command line, which are keys of the configuration file, too.
"""

from __future__ import annotations

from typing import Any

from twuws.tables import Kind

#: The keys that are options of the command line, too: what they are, and what they mean.
OPTIONS: dict[str, tuple[Kind, Any, str]] = {
    "listen": (
        Kind.TEXT,
        "tcp:8080:interface=127.0.0.1",
        "where to listen, as a Twisted endpoint",
    ),
    "database": (
        Kind.TEXT,
        None,
        "the PostgreSQL to use, as postgresql://user@host/name; without it, one of its own is"
        " run in the data directory",
    ),
    "data-dir": (Kind.TEXT, "uws-data", "the directory for job directories and the database"),
    "public-url": (
        Kind.TEXT,
        None,
        "the URL that clients know this service by, if it is not what they ask for",
    ),
    "slots": (Kind.COUNT, 2, "how many jobs this process runs at a time"),
    "on-stop": (
        Kind.TEXT,
        "leave",
        "what becomes of jobs that run when the service stops: leave (they go on for the next"
        " process), finish (it waits for them), requeue or abort",
    ),
    "metrics": (
        Kind.TEXT,
        None,
        "where to answer what Prometheus asks, at /metrics, as a Twisted endpoint; nowhere if"
        " not given",
    ),
    "default-duration": (Kind.COUNT, 3600, "execution duration of jobs that ask for none, s"),
    "longest-duration": (Kind.COUNT, 86400, "longest execution duration, s; 0 for no limit"),
    "default-lifetime": (Kind.POSITIVE, 7 * 86400, "lifetime of jobs that ask for none, s"),
    "longest-lifetime": (Kind.POSITIVE, 31 * 86400, "longest lifetime of a job, s"),
}
