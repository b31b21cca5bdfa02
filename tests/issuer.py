"""
An issuer of OpenID Connect on the loopback, with keys of its own.
"""

from __future__ import annotations

import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import Site

AUDIENCE = "https://uws.example.org"
#: What a token says unless a test has it say otherwise.
CLAIMS = {"aud": AUDIENCE, "sub": "alice"}

RSA = jwt.algorithms.RSAAlgorithm
EC = jwt.algorithms.ECAlgorithm
#: Made once: RSA's take long.
KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
CURVE = ec.generate_private_key(ec.SECP256R1())
CURVE_384 = ec.generate_private_key(ec.SECP384R1())


def jwk(key, kid, **more):
    """The public half of a key, as an issuer shows it."""
    kind = RSA if isinstance(key, rsa.RSAPrivateKey) else EC
    found = json.loads(kind.to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return {**found, "use": "sig", **({} if kid is None else {"kid": kid}), **more}


class Issuer(Resource):
    """
    @ivar url: who it is.
    @ivar keys: what it shows, as JWKs.
    @ivar asked: the paths that it was asked for.
    @ivar documents: bytes to answer with instead, by path.
    """

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.keys = [jwk(KEYS[0], "one"), jwk(CURVE, "curve")]
        self.asked = []
        self.documents = {}
        self.port = None
        self.number = 0
        self.start()
        self.url = f"http://127.0.0.1:{self.number}/realm"

    def start(self):
        from twisted.internet import reactor

        site = Site(self)
        site.noisy = False
        self.port = reactor.listenTCP(self.number, site, interface="127.0.0.1")
        self.number = self.port.getHost().port

    async def stop(self):
        port, self.port = self.port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    def render_GET(self, request):
        path = request.path.decode()
        self.asked.append(path)
        request.setHeader("content-type", "application/json")
        if path in self.documents:
            return self.documents[path]
        if path == "/realm/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        if path == "/realm/keys":
            return json.dumps({"keys": self.keys}).encode()
        request.setResponseCode(404)
        return b""

    def token(self, key=KEYS[0], kid="one", algorithm="RS256", headers=None, **claims):
        """A token of somebody's, good for a minute; C{None} takes a claim away."""
        now = time.time()
        said = {"iss": self.url, "iat": now, "exp": now + 60, **CLAIMS, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        headers = {"kid": kid, **(headers or {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        return jwt.encode(said, key, algorithm=algorithm, headers=headers)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}
