"""
Logging in: a token for a name and a password (SSO 7, X-004).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twuws.errors import BadRequest, NotFound
from twuws.identity import Identity
from twuws.web import answers
from twuws.web.identifying import tellWho
from twuws.web.limits import LITTLE_BODY
from twuws.web.requests import readArguments
from twuws.web.uwsactions import choose, methodOf
from twuws.workdir import WorkDirs


class Login:
    """
    What is at C{login} of a service.

    @param login: see L{twuws.authenticators.tokens.TokenAuthenticator.login}.
    """

    def __init__(
        self,
        login: Callable[[bytes, bytes, Any], Awaitable[tuple[str, Identity]]],
        uploads: WorkDirs,
    ) -> None:
        self._login = login
        self._uploads = uploads

    async def answer(self, request: Any, *segments: str) -> bytes:
        """The token, in C{X-VO-Bearer} and as the text."""
        if segments:
            raise NotFound
        choose({"POST": self.answer}, methodOf(request))
        if b"?" in request.uri:  # which is in logs, and in histories
            raise BadRequest("username and password are sent in the body, and nothing in the URL.")
        await readArguments(request, uploads=self._uploads, maximumBody=LITTLE_BODY)
        name, password = (_one(request, key).encode() for key in ("username", "password"))
        token, who = await self._login(name, password, request)
        tellWho(request, who)
        request.setHeader("cache-control", "no-store")
        request.setHeader("x-vo-bearer", token)
        return answers.text(request, token)


def _one(request: Any, key: str) -> str:
    values = request.args.get(key, [])
    if len(values) != 1:
        raise BadRequest(f"{key}: expected once, in a form")
    return str(values[0])
