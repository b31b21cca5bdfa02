"""Our own authenticators do what every authenticator has to; and what does not is found."""

from __future__ import annotations

import bcrypt
import pytest
from zope.interface import implementer

from tests.authenticating import basic, bearer
from twuws.authenticatorcontract import AuthenticatorContract
from twuws.authenticators.passwordfile import PasswordFile
from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.authenticators.tokens import TokenAuthenticator
from twuws.errors import NotAuthenticated
from twuws.identity import Identity
from twuws.interfaces import IAuthenticator
from twuws.tokens import Tokens


class TestPasswords(AuthenticatorContract):
    name = "Zoë"

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = tmp_path / "users"
        self.path.write_bytes("Zoë:".encode() + bcrypt.hashpw(b"x", bcrypt.gensalt(4)) + b"\n")

    async def makeAuthenticator(self):
        return PasswordAuthenticator([PasswordFile(self.path)])

    def right(self):
        return basic("Zoë", "x")

    def wrong(self):
        return [basic("Zoë", "y"), basic("zoë", "x"), basic("", ""), {"Authorization": "Basic x"}]

    def others(self):
        return [*super().others(), bearer("x"), bearer("twuws_x")]


class TestTokens(AuthenticatorContract):
    name = "Zoë"

    @pytest.fixture(autouse=True)
    def _database(self, database):
        self.tokens = Tokens(database)

    async def makeAuthenticator(self):
        self.token, _ = await self.tokens.make("Zoë", {"read"}, None)
        self.other, known = await self.tokens.make("Zoë", {"read"}, None)
        await self.tokens.revoke([known.id])
        return TokenAuthenticator(self.tokens)

    def right(self):
        return bearer(self.token)

    def wrong(self):
        return [bearer(self.other), bearer("twuws_" + "x" * 43), bearer("twuws_x")]

    def others(self):
        """Tokens that others have made, too."""
        return [*super().others(), basic("Zoë", "x"), bearer("x"), bearer("a.b.c"), bearer("")]


@implementer(IAuthenticator)
class ByKey:
    """Whoever has a key; with a fault, or none."""

    securityMethods = ()

    def __init__(self, fault):
        self.fault = fault

    def challenges(self, baseURL):
        return ["Key\r\nSet-Cookie: a=b" if self.fault == "challenges" else "Key"]

    async def authenticate(self, request):
        key = request.getHeader("x-key")
        if self.fault == "garbage":
            (request.getHeader(b"authorization") or b"").decode("ascii")
        if self.fault == "body":
            request.content.read()
        if key is None and self.fault != "others":
            return None
        if key != "right":
            if self.fault == "wrong":
                return None
            raise NotAuthenticated
        return Identity(name="x" if self.fault == "right" else "anna", method="key")


class Keys(AuthenticatorContract):
    name = "anna"
    fault = None

    async def makeAuthenticator(self):
        return ByKey(self.fault)

    def right(self):
        return {"X-Key": "right"}

    def wrong(self):
        return [{"X-Key": "other"}, {"X-Key": ""}]


TESTS = [name for name in dir(AuthenticatorContract) if name.startswith("test_")]


async def failed(fault):
    """The tests that find something wrong."""
    suite = Keys()
    suite.fault = fault
    found = set()
    for name in TESTS:
        try:
            await getattr(suite, name)()
        except Exception:
            found.add(name.removeprefix("test_"))
    return found


@pytest.mark.parametrize(
    "fault", [None, "challenges", "right", "others", "wrong", "garbage", "body"]
)
async def test_faults_are_found(fault):
    found = await failed(fault)
    assert (fault in found) if fault else not found, found
