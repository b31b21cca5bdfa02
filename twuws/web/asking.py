"""
Who asks.
"""

from __future__ import annotations

from typing import Any

#: Who is nobody in particular.
ANONYMOUS = "anonymous"


def askerOf(request: Any) -> str:
    """
    Who asks, for the record of what is done.

    That is whoever has been found out to be C{request.owner}; as nobody is authenticated
    yet, only a resource around this one can have set that.
    """
    return getattr(request, "owner", None) or ANONYMOUS
