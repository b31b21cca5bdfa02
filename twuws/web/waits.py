"""
Requests that wait.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from twuws.web.identifying import identityOf
from twuws.web.origin import clientOf
from twuws.web.settings import WebSettings


def held(request: Any, settings: WebSettings) -> AbstractContextManager[None]:
    """
    What a request does while it waits is done in this.

    @raise TooMany: if who has sent it waits for enough already.
    """
    name = identityOf(request).name
    client = clientOf(request, settings) if name is None else None
    account = f"={name}" if name is not None else client and f"~{client}"
    return settings.waits.held(account)
