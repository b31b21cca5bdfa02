"""
What every authenticator has to do, as tests: L{twuws.interfaces.IAuthenticator}, sentence by
sentence.

For those who write authenticators, with pytest and pytest-twisted::

    from twuws.authenticatorcontract import AuthenticatorContract

    class TestMyAuthenticator(AuthenticatorContract):
        name = "anna"

        async def makeAuthenticator(self):
            return MyAuthenticator({"anna": "secret"})

        def right(self):
            return {"X-My-Key": "secret"}

        def wrong(self):
            return [{"X-My-Key": "other"}]
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from twuws.errors import NotAuthenticated
from twuws.identity import SCOPES, Identity
from twuws.interfaces import IAuthenticator

#: How long a test may take, s.
PATIENCE = 30.0
#: The service, as its clients know it.
BASE = "https://uws.example:8443/service"
#: What nobody should stumble over.
GARBAGE = (
    b"",
    b" ",
    b"Basic",
    b"Basic ",
    b"Basic \xff\xfe",
    b"Basic ====",
    b"Basic OjovLw",
    b"Basic " + b"A" * 12_000,
    b"Bearer",
    b"Bearer ",
    b"Bearer \xff\xfe",
    b"Bearer a.b.c",
    b"Bearer eyJhbGciOiJub25lIn0.e30.",
    b"Bearer " + b"A" * 12_000,
    b"Bearer twuws_",
    b"Digest username=a, username=a",
    b"\xff\xfe",
    b"B\xe4sic abc",
)
_CHALLENGE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+( [ -~]+)?")


def _inReactor(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """
    Make a test of a coroutine function, whatever the suite's C{conftest.py} does:
    pytest-twisted waits for the Deferred that a test returns.
    """

    @functools.wraps(test)
    def run(self: AuthenticatorContract) -> Any:
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(test(self)).addTimeout(PATIENCE, reactor)

    del run.__dict__["__wrapped__"]  # pytest would take it for the coroutine function
    return run


class AuthenticatorContract:
    """
    Derive from it, call the class C{Test…}, and define what raises C{NotImplementedError}.

    @cvar name: whose credentials L{right} is.
    """

    name: str = ""

    async def makeAuthenticator(self) -> Any:
        """An authenticator that is ready for use, as a service would make it."""
        raise NotImplementedError

    def right(self) -> Mapping[str, str]:
        """The headers of somebody who is known; asked for after there is an authenticator."""
        raise NotImplementedError

    def wrong(self) -> Sequence[Mapping[str, str]]:
        """Headers that are for this authenticator, each of which is not right."""
        raise NotImplementedError

    def others(self) -> Sequence[Mapping[str, str]]:
        """Headers that are for somebody else, if for anybody."""
        return [{}, {"Authorization": "Negotiate abc"}, {"Cookie": "a=b"}, {"X-Other": "x"}]

    def makeRequest(self, headers: Mapping[str, str | bytes], body: bytes = b"") -> Any:
        """
        A request of Twisted's with these headers, as L{IAuthenticator.authenticate} gets it; to
        be overridden by those who look at the connection.
        """
        from twisted.internet.task import Clock
        from twisted.internet.testing import StringTransport
        from twisted.web.resource import Resource
        from twisted.web.server import NOT_DONE_YET, Site

        received = []

        class Receiving(Resource):
            isLeaf = True

            def render(self, request: Any) -> int:
                received.append(request)
                return NOT_DONE_YET

        channel: Any = Site(Receiving(), reactor=Clock()).buildProtocol(None)
        channel.makeConnection(StringTransport())
        lines = [b"POST / HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body)]
        for name, value in headers.items():
            encoded = value if isinstance(value, bytes) else value.encode("utf-8")
            lines.append(name.encode() + b": " + encoded)
        channel.dataReceived(b"\r\n".join([*lines, b"", body]))
        (request,) = received
        request.cameFrom, request.isConfidential = "192.0.2.1", True
        return request

    @_inReactor
    async def test_provides(self) -> None:
        """It is an L{IAuthenticator}, and names its ways as the IVOA does, if it has names."""
        authenticator = await self.makeAuthenticator()
        assert IAuthenticator.providedBy(authenticator)
        for method in authenticator.securityMethods:
            assert re.fullmatch(r"ivo://\S+", method), method

    @_inReactor
    async def test_challenges(self) -> None:
        """There is at least one, and each can be a header."""
        challenges = (await self.makeAuthenticator()).challenges(BASE)
        assert challenges
        for one in challenges:
            assert _CHALLENGE.fullmatch(one), one

    @_inReactor
    async def test_right(self) -> None:
        """Who is known is who they are, and how that was found out is said."""
        authenticator = await self.makeAuthenticator()
        for _ in range(2):
            who = await authenticator.authenticate(self.makeRequest(self.right()))
            assert isinstance(who, Identity)
            assert who.name == self.name
            assert who.scopes <= SCOPES
            assert who.method not in ("", "none", "site")

    @_inReactor
    async def test_others(self) -> None:
        """What is for somebody else is left to them."""
        authenticator = await self.makeAuthenticator()
        for headers in self.others():
            assert await authenticator.authenticate(self.makeRequest(headers)) is None, headers

    @_inReactor
    async def test_wrong(self) -> None:
        """What is for it and not right is said to be so: it makes nobody nobody in particular."""
        authenticator = await self.makeAuthenticator()
        assert self.wrong()
        for headers in self.wrong():
            assert await self._isRefused(authenticator, headers), headers

    @_inReactor
    async def test_one_after_the_other(self) -> None:
        """What was right does not make right what is wrong, nor the other way round."""
        authenticator = await self.makeAuthenticator()
        for headers in self.wrong()[:3]:
            assert await self._isRefused(authenticator, headers), headers
            who = await authenticator.authenticate(self.makeRequest(self.right()))
            assert who.name == self.name
            assert await self._isRefused(authenticator, headers), headers

    async def _isRefused(self, authenticator: Any, headers: Mapping[str, str | bytes]) -> bool:
        try:
            found = await authenticator.authenticate(self.makeRequest(headers))
        except NotAuthenticated as e:
            return str(e) != ""  # it says why
        assert found is None, f"{headers} is {found}"
        return False

    @_inReactor
    async def test_garbage(self) -> None:
        """What is nonsense is refused, or left to others, and breaks nothing."""
        authenticator = await self.makeAuthenticator()
        for value in GARBAGE:
            await self._isRefused(authenticator, {"Authorization": value})
        who = await authenticator.authenticate(self.makeRequest(self.right()))
        assert who.name == self.name

    @_inReactor
    async def test_many_at_once(self) -> None:
        """Everybody gets their own answer."""
        from twisted.internet.defer import Deferred, DeferredList

        authenticator = await self.makeAuthenticator()
        sent = [self.right(), {}, self.wrong()[0]] * 3 + [self.right()] * 10
        asked = [
            Deferred.fromCoroutine(authenticator.authenticate(self.makeRequest(headers)))
            for headers in sent
        ]
        outcomes = await DeferredList(asked, consumeErrors=True)
        for headers, (isAnswered, found) in zip(sent, outcomes, strict=True):
            if headers == self.wrong()[0]:
                assert not isAnswered
                assert found.check(NotAuthenticated), found
            else:
                assert isAnswered, found
                assert (found and found.name) == (self.name if headers else None)

    @_inReactor
    async def test_body(self) -> None:
        """It is not read: it may be large, and is for others."""
        authenticator = await self.makeAuthenticator()
        request = self.makeRequest(self.right(), b"x" * 10_000)
        await authenticator.authenticate(request)
        assert request.content.tell() == 0
        assert request.content.read() == b"x" * 10_000
