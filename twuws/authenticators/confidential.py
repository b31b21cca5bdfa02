"""
Secrets that are taken only if nobody can have read them on their way.
"""

from __future__ import annotations

from typing import Any

from twuws.errors import Forbidden


def checkConfidential(request: Any, what: str) -> None:
    """
    See that a request came by https, or from this host (RFC 6750, 5.3; RFC 7617, 4).

    @param what: is in it.
    @raise Forbidden: if it did not, saying what to do about it.
    """
    if not request.isConfidential:
        raise Forbidden(
            f"{what} are taken by https only. (If that is what this was: the operator has to trust"
            " the proxy, or to set public-url. If it was not, others may know by now what you have"
            " sent.)"
        )
