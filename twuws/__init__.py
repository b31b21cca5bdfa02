"""
twuws: a Universal Worker Service (IVOA UWS 1.1) for Twisted.

The public names are here; they are imported when they are first used, because a job
that runs in a process of its own needs none of the service, and because Klein would
install a reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twuws import parameters
    from twuws.database import Database
    from twuws.jobs import UWSJob
    from twuws.jobservices import JobServices
    from twuws.policy import Policy
    from twuws.uws import UWS
    from twuws.web.resource import UWSResource
    from twuws.web.uwsactions import JobAction, JobActions

_HOMES = {
    "Database": "twuws.database",
    "JobServices": "twuws.jobservices",
    "UWS": "twuws.uws",
    "UWSJob": "twuws.jobs",
    "Policy": "twuws.policy",
    "UWSResource": "twuws.web.resource",
    "JobAction": "twuws.web.uwsactions",
    "JobActions": "twuws.web.uwsactions",
}

__all__ = [
    "UWS",
    "Database",
    "JobAction",
    "JobActions",
    "JobServices",
    "Policy",
    "UWSJob",
    "UWSResource",
    "parameters",
]


def __getattr__(name: str) -> Any:
    """Import a public name, once."""
    value: Any
    if name == "parameters":
        value = import_module("twuws.parameters")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'twuws' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("twuws")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
