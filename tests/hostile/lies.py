"""
Requests that say they are from somebody else, or from somewhere else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization

from tests.authenticating import basic
from tests.hostile.attack import attack
from tests.hostile.service import PROXY, Service
from tests.hostile.watcher import MB
from tests.hostile.wire import HERE, Client
from tests.issuer import AUDIENCE, KEYS, bearer

WORK = "/work/async"


# Forged headers


@attack("headers that only a proxy may set")
def forgedProxy(service: Service) -> str:
    """They change no URL, no name and no address, unless the proxy sends them."""
    client, proxy = Client(service.port), Client(service.port, PROXY)
    number = 0
    for headers in (
        {"Forwarded": "for=127.0.0.1;host=evil.example;proto=https"},
        {"Forwarded": "host=evil.example", "X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"X-Forwarded-Prefix": "/evil.example", "X-Forwarded-Port": "666"},
        {"X-Forwarded-For": PROXY, "X-Forwarded-Host": "evil.example"},
        {"X-Real-IP": PROXY, "X-Original-URL": "/evil.example", "X-Rewrite-URL": "/evil.example"},
        {"X-Host": "evil.example", "X-HTTP-Method-Override": "DELETE"},
    ):
        for path in (WORK, "/", "/work/capabilities"):
            answer = client.get(path, headers)
            assert answer.status == 200, (headers, path, answer.status)
            assert "evil.example" not in answer.text, (headers, path)
        answer = client.post(WORK, headers=headers)
        location = answer.headers["location"]
        assert location.startswith("http://uws.example/work/async/"), (headers, location)
        client.end("/" + location.split("/", 3)[3])
        number += 1
    for name in ("alice", "root", "", "a\tb", "bob, root"):
        for header in ("X-Remote-User", "x-remote-user"):
            answer = client.get(WORK, {header: name, "X-Forwarded-For": PROXY})
            assert answer.status == 401, (name, answer.status)
            number += 1
    for header in ("X_Remote_User", "Remote-User", "X-Remote-User ", "X-Forwarded-User"):
        answer = client.ask("GET", WORK, [(header, "root")])
        assert "x-vo-authenticated" not in answer.headers, (header, answer.status)
    twice = proxy.ask("GET", WORK, [("X-Remote-User", "bob"), ("X-Remote-User", "root")])
    assert twice.status == 401, twice.status
    assert proxy.get(WORK, {"X-Remote-User": "bob"}).headers["x-vo-authenticated"] == "bob"
    return f"{number} kinds"


# Tokens


def _forged(header: Any, claims: Any, key: bytes = b"", algorithm: Any = None) -> str:
    """A token that is put together by hand, and signed by HMAC if there is an algorithm."""
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()) for one in (header, claims)]
    signed = b".".join(part.rstrip(b"=") for part in parts)
    signature = hmac.digest(key, signed, algorithm) if algorithm else b""
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _tokens(service: Service) -> dict[str, str]:
    """Tokens that are not good, by what is wrong."""
    now = time.time()
    claims = {
        "iss": service.issuer.url,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": now + 60,
        "iat": now,
    }

    def signed(key: Any = KEYS[0], headers: Any = None, **changed: Any) -> str:
        said = {name: one for name, one in {**claims, **changed}.items() if one is not None}
        return jwt.encode(said, key, algorithm="RS256", headers={"kid": "one", **(headers or {})})

    assert Client(service.port).get(WORK, bearer(signed())).status == 200
    public = (
        KEYS[0]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    evil = f"{service.issuer.url}/evil"
    own = {"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[1].public_key()))}
    return {
        "alg none": _forged({"alg": "none", "kid": "one"}, claims),
        "alg None": _forged({"alg": "None", "kid": "one"}, claims),
        "alg nOnE, no kid": _forged({"alg": "nOnE"}, claims),
        "no alg": _forged({"kid": "one"}, claims),
        "HMAC by the public key": _forged(
            {"alg": "HS256", "kid": "one"}, claims, public, hashlib.sha256
        ),
        "HMAC by nothing": _forged({"alg": "HS256", "kid": ""}, claims, b"", hashlib.sha256),
        "wrong key": signed(KEYS[1]),
        "its own key": signed(KEYS[1], {"jwk": own["jwk"]}),
        "a key from elsewhere": signed(KEYS[1], {"jku": evil, "x5u": evil}),
        "a key as a path": signed(KEYS[1], {"kid": "../../../../dev/null"}),
        "a key as SQL": signed(KEYS[1], {"kid": "' OR 1=1 --"}),
        "wrong audience": signed(aud="https://other.example"),
        "for another service": signed(aud=[AUDIENCE + ".example", "work"]),
        "no audience": signed(aud=None),
        "wrong issuer": signed(iss="https://other.example"),
        "expired": signed(exp=now - 3600),
        "never expires": signed(exp=None),
        "not yet": signed(nbf=now + 3600, iat=now + 3600),
        "no signature": signed().rpartition(".")[0] + ".",
        "cut": signed()[:-4],
        "another's body": signed().split(".")[0] + "." + signed(sub="bob").split(".")[1] + "."
        + signed().split(".")[2],
        "own, made up": "twuws_" + "A" * 43,
        "own, wild": "twuws_%' OR '1'='1",
    }  # fmt: skip


@attack("tokens that are forged, old, or for somebody else")
def forgedTokens(service: Service) -> str:
    client = Client(service.port)
    tokens = _tokens(service)
    for what, token in tokens.items():
        for method, path in (("GET", WORK), ("POST", WORK), ("GET", "/closed/async")):
            answer = client.ask(method, path, bearer(token))
            assert answer.status == 401, (what, answer.status, answer.text)
            assert "x-vo-authenticated" not in answer.headers, what
    return f"{len(tokens)} kinds"


@attack("tokens that are replayed where they are not good, or not any more")
def replayedTokens(service: Service) -> str:
    client, token = Client(service.port), service.token()
    answer = client.get("/closed/async", bearer(token))
    assert answer.headers["x-vo-authenticated"] == "alice", answer.text
    for headers in (
        {"Authorization": f"Basic {token}"}, {"Authorization": token},
        {"Cookie": f"Authorization=Bearer {token}"}, {"X-VO-Bearer": token},
    ):  # fmt: skip
        answer = client.get("/closed/async", headers)
        assert answer.status == 401, (headers, answer.status)
    for path in (f"/closed/async?access_token={token}", f"/closed/async?token={token}"):
        assert client.get(path).status == 401, path
    service.admin("token", "revoke", "--owner", "alice")
    until = time.monotonic() + 20
    while client.get("/closed/async", bearer(token)).status != 401:
        assert time.monotonic() < until, "a token is good that was revoked"
        time.sleep(0.2)
    assert token.encode() not in service.log.read_bytes(), "a token is in the log"
    return "a token in five wrong places, and one that was revoked"


@attack("wrong passwords, from 100 addresses at a time", memory=48 * MB)
def wrongPasswords(service: Service) -> str:
    def guess(number: int) -> int:
        client = Client(service.port, f"127.0.3.{number % 100 + 1}")
        name = ("alice", "root", f"nobody{number}")[number % 3]
        return client.ask("GET", WORK, basic(name, f"guess{number}"), timeout=120).status

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(guess, range(150)))
    assert set(found) <= {401, 429}, set(found)
    assert Client(service.port).get(WORK, basic("alice")).status == 200
    many = [guess(0) for _ in range(30)]  # of alice, from one address
    assert many[-1] == 429, many
    return f"{found.count(401)} x 401, {found.count(429)} x 429"


# Other sites


@attack("changes that another site has a browser make")
def crossSite(service: Service) -> str:
    """With a password or a proxy's login, which browsers send by themselves."""
    number = 0
    for client, who in (
        (Client(service.port), basic("alice")),
        (Client(service.port, PROXY), {"X-Remote-User": "alice"}),
    ):
        job = client.make(headers=who)
        before = client.get(job, who).body
        for told in (
            {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""},
            {"Origin": "http://uws.example.evil.example"}, {"Origin": "http://evil.example#uws.example"},
            {"Origin": "https://uws.example"}, {"Origin": "http://uws.example:81"},
            {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://uws.example"},
            {"Sec-Fetch-Site": "same-origin, cross-site"}, {"Sec-Fetch-Site": ""},
        ):  # fmt: skip
            headers = {**who, **told}
            for method, path, body in (
                ("POST", WORK, b"PHASE=RUN"), ("POST", job, b"ACTION=DELETE"),
                ("POST", job + "/phase", b"PHASE=RUN"), ("POST", job + "/parameters", b"text=evil"),
                ("PUT", job + "/parameters/text", b"evil"), ("DELETE", job, b""),
                ("GET", "/work/sync?text=evil", None), ("POST", "/work/sync", b"text=evil"),
            ):  # fmt: skip
                kind = {"Content-Type": "text/plain" if method == "PUT" else _FORM}
                answer = client.ask(method, path, {**kind, **headers}, body)
                assert answer.status == 403, (told, method, path, answer.status, answer.text)
                assert "access-control-allow-origin" not in answer.headers
                number += 1
        assert client.get(job, who).body == before
        client.end(job, who)
    return f"{number} refused"


_FORM = "application/x-www-form-urlencoded"


@attack("jobs of others, by every method")
def othersJobs(service: Service) -> str:
    client = Client(service.port)
    alice, bob = basic("alice"), basic("bob")
    job = client.make(body=b"text=mine", headers=alice)
    before = client.get(job, alice).body
    number = 0
    for who, status in ((bob, 403), ({}, 401)):
        for child in ("", "/phase", "/parameters", "/parameters/text", "/results", "/results/out",
                      "/error", "/owner", "/quote", "/destruction", "/executionduration", "/stdout",
                      "/stderr", "?WAIT=1"):  # fmt: skip
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
                answer = client.ask(method, job + child, who)
                assert answer.status in (status, 405), (method, child, answer.status, answer.text)
                assert "mine" not in answer.text, (method, child)
                number += 1
    sync = client.get(f"/work/sync/{job.rpartition('/')[2]}", bob)
    assert sync.status == 403, sync.status
    assert client.get(job.replace("/work/", "/read/"), alice).status == 404
    assert client.get(job, alice).body == before
    client.end(job, alice)
    return f"{number} refused from {HERE}"
