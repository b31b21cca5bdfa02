"""
The front page: which services there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from twisted.web.resource import Resource

import twuws
from twuws.errors import NotAllowed, NotFound
from twuws.uws import UWS
from twuws.web import answers, headers
from twuws.web.beforehand import nothingMuch
from twuws.web.origin import resourceURL
from twuws.web.resource import UWSResource
from twuws.web.settings import WebSettings
from twuws.web.uwsactions import choose, methodOf

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>twuws</title></head>
<body><h1>twuws {version}</h1>
<p>This is a Universal Worker Service
(<a href="https://www.ivoa.net/documents/UWS/">IVOA UWS 1.1</a>).
POST to a job list makes a job.</p>
<dl>
{services}</dl></body></html>
"""

_ENTRY = """<dt><a href="{url}">{url}</a></dt><dd>{title}</dd>
"""


class RootResource(Resource):
    """
    The services of one process below one URL, each at its name, and a page that lists them.
    """

    beforeBody = staticmethod(nothingMuch)

    def __init__(self, services: Iterable[UWS], settings: WebSettings | None = None) -> None:
        super().__init__()
        self._services = list(services)
        self._settings = settings or WebSettings()
        for uws in self._services:
            self.putChild(uws.name.encode(), UWSResource(uws, self._settings.below(uws.name)))

    def getChild(self, path: bytes, request: Any) -> Resource:
        return self if path == b"" else _Nothing(self._services, self._settings)

    def render(self, request: Any) -> bytes:
        headers.begin(request, self._settings)
        if headers.isPreflight(request):
            return headers.answerPreflight(request)
        try:
            handler: Any = choose({"GET": self.render_GET}, methodOf(request))
        except NotAllowed as e:
            return answers.failure(request, e)
        return bytes(handler(request))

    def render_GET(self, request: Any) -> bytes:
        base = resourceURL(request, self._settings)
        entries = "".join(
            _ENTRY.format(url=escape(f"{base}/{uws.name}/async"), title=escape(uws.jobClass.title))
            for uws in self._services
        )
        page = _PAGE.format(version=escape(twuws.__version__), services=entries)
        request.setHeader("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
        return answers.text(request, page, "text/html; charset=utf-8")


class _Nothing(Resource):
    """Where there is no service."""

    isLeaf = True
    beforeBody = staticmethod(nothingMuch)

    def __init__(self, services: list[UWS], settings: WebSettings) -> None:
        super().__init__()
        self._settings = settings
        self._names = ", ".join(uws.name for uws in services)

    def render(self, request: Any) -> bytes:
        headers.begin(request, self._settings)
        error = NotFound(f"There is no service of this name; there are {self._names}.")
        return answers.failure(request, error)
