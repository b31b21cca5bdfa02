"""
Asking a service: HTTP without redirects, without repetition, and without telling secrets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.filepost import encode_multipart_formdata

from twuws.conformance.answers import Answer, Asked
from twuws.conformance.outcomes import Failed, Unusable
from twuws.conformance.settings import Credentials, Settings

#: What is read of an answer, bytes; more is left unread.
MOST = 50_000_000

FORM = "application/x-www-form-urlencoded"

Pairs = Mapping[str, str] | Iterable[tuple[str, str]]
Files = Iterable[tuple[str, str, bytes] | tuple[str, str, bytes, str]]


def makePool(settings: Settings) -> urllib3.PoolManager:
    """
    Connections for all who ask.

    @raise Unusable: if a file of certificates cannot be used.
    """
    if settings.ca is not None and not settings.ca.is_file():
        raise Unusable(f"there is no file of certificates {settings.ca}")
    if not settings.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return urllib3.PoolManager(
        maxsize=50,
        retries=False,
        cert_reqs="CERT_REQUIRED" if settings.verify else "CERT_NONE",
        ca_certs=None if settings.ca is None else str(settings.ca),
    )


class Client:
    """
    Somebody who asks.

    Credentials are sent to where the job list is and to nowhere else, though results may be
    anywhere.

    @ivar last: the last answer that the calling thread has got.
    @param created: called with this client and the C{Location} of each job that it makes.
    """

    def __init__(
        self,
        settings: Settings,
        pool: urllib3.PoolManager,
        credentials: Credentials | None,
        created: Callable[[Client, str], None],
    ) -> None:
        self.settings = settings
        self._pool = pool
        self._credentials = credentials
        self._created = created
        self._local = threading.local()

    @property
    def last(self) -> Answer | None:
        return getattr(self._local, "last", None)

    def get(self, url: str = "", **more: object) -> Answer:
        """See L{request}."""
        return self.request("GET", url, **more)  # type: ignore[arg-type]

    def head(self, url: str = "", **more: object) -> Answer:
        """See L{request}."""
        return self.request("HEAD", url, **more)  # type: ignore[arg-type]

    def delete(self, url: str, **more: object) -> Answer:
        """See L{request}."""
        return self.request("DELETE", url, **more)  # type: ignore[arg-type]

    def put(self, url: str, body: bytes, **more: object) -> Answer:
        """See L{request}."""
        return self.request("PUT", url, body=body, **more)  # type: ignore[arg-type]

    def post(self, url: str = "", form: Pairs = (), **more: object) -> Answer:
        """See L{request}."""
        return self.request("POST", url, form=form, **more)  # type: ignore[arg-type]

    def request(
        self,
        method: str,
        url: str = "",
        *,
        query: Pairs = (),
        form: Pairs | None = None,
        files: Files = (),
        body: bytes | Iterable[bytes] | None = None,
        mediaType: str | None = None,
        accept: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """
        Ask, and follow no redirect.

        @param url: absolute, or below the job list: C{""} is the list.
        @param form: what to send; as multipart if there are C{files} (names, file names,
            contents and perhaps media types).  Not with C{body}, which is sent as it is, and
            in chunks if it comes in pieces.
        @param timeout: how long the answer may take beyond what the settings say, s; less than
            nothing for less.
        @raise Failed: if no answer comes.
        """
        url = self.absolute(url)
        if query:
            url += ("&" if "?" in url else "?") + urlencode(_pairs(query))
        body, mediaType, told = _content(form, list(files), body, mediaType)
        sent = {"Accept": accept, "Content-Type": mediaType, **(headers or {})}
        shown = {name: value for name, value in sent.items() if value is not None}
        asked = Asked(method=method, url=url, headers=shown, body=told)
        answer = self._ask(asked, body, timeout or 0.0)
        self._local.last = answer
        if method == "POST" and self._isList(url) and "location" in answer.headers:
            self._created(self, answer.headers["location"])
        return answer

    def absolute(self, url: str) -> str:
        """A URL in full; what does not begin with a scheme is below the job list."""
        if urlsplit(url).scheme:
            return url
        return self.settings.listURL + url

    def _isList(self, url: str) -> bool:
        return url.partition("?")[0].rstrip("/") == self.settings.listURL

    def _ask(self, asked: Asked, body: bytes | Iterable[bytes] | None, more: float) -> Answer:
        headers = {"User-Agent": "twuws-check", **asked.headers}
        if self._credentials is not None and self._isHome(asked.url):
            headers["Authorization"] = self._credentials.header
        timeout = urllib3.Timeout(connect=10.0, read=self.settings.timeout + more)
        began = time.monotonic()
        try:
            response = self._response(asked, body, headers, timeout)
            waited = time.monotonic() - began
            connection = response.connection
            content = response.read(MOST)
            response.release_conn()
            if connection is not None and asked.headers.get("Connection") == "close":
                connection.close()  # whatever the service says: a body may not have been sent
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise Failed(f"There is no answer to {asked.method} {asked.url}: {e}.") from None
        return Answer(
            asked=asked,
            status=response.status,
            reason=response.reason or "",
            headers={name.lower(): value for name, value in response.headers.items()},
            body=content,
            seconds=time.monotonic() - began,
            began=began,
            waited=waited,
        )

    def _response(
        self,
        asked: Asked,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
        timeout: urllib3.Timeout,
    ) -> urllib3.BaseHTTPResponse:
        """
        What a service answers; asked again if it closes the connection instead, and that is safe.

        It may close one that has had nothing to do for long, just as somebody asks (RFC 9112,
        9.3.1).
        """

        def ask() -> urllib3.BaseHTTPResponse:
            return self._pool.request(
                asked.method,
                asked.url,
                body=body,
                headers=headers,
                redirect=False,
                preload_content=False,
                timeout=timeout,
            )

        try:
            return ask()
        except urllib3.exceptions.ProtocolError as e:
            isClosed = isinstance(e.args[-1], ConnectionError)
            if not isClosed or asked.method not in ("GET", "HEAD"):
                raise
        return ask()

    def _isHome(self, url: str) -> bool:
        there, home = urlsplit(url), urlsplit(self.settings.url)
        return (there.scheme, there.hostname, there.port) == (
            home.scheme, home.hostname, home.port,
        )  # fmt: skip


def below(listURL: str, location: str) -> str:
    """
    The job that a C{Location} speaks of, as a URL below the job list.

    >>> below("http://a/async", "http://behind/else/async/7")
    'http://a/async/7'
    """
    path = urlsplit(urljoin(listURL, location)).path
    return f"{listURL}/{path.rstrip('/').rpartition('/')[2]}"


def _pairs(values: Pairs) -> list[tuple[str, str]]:
    return list(values.items()) if isinstance(values, Mapping) else list(values)


def _content(
    form: Pairs | None,
    files: list[tuple[str, str, bytes] | tuple[str, str, bytes, str]],
    body: bytes | Iterable[bytes] | None,
    mediaType: str | None,
) -> tuple[bytes | Iterable[bytes] | None, str | None, str]:
    """The body to send, its type, and what to tell people of it."""
    if form is not None and body is None:
        pairs = _pairs(form)
        if not files:
            text = urlencode(pairs, errors="surrogateescape")
            return text.encode(), mediaType or FORM, text
        fields: list[tuple[str, object]] = [*pairs, *((one[0], tuple(one[1:])) for one in files)]
        encoded, itsType = encode_multipart_formdata(fields)  # type: ignore[arg-type]
        names = [f"{one[0]}: a file {one[1]!r} of {len(one[2])} bytes" for one in files]
        told = "\n".join([*(f"{name}={value}" for name, value in pairs), *names])
        return encoded, itsType, told
    if isinstance(body, bytes):
        return body, mediaType, body.decode("utf-8", "replace")
    return body, mediaType, "" if body is None else "(in chunks)"
