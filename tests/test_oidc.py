"""Tokens of an issuer of OpenID Connect: which are good, and which are not whatever they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from functools import partial

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import RSAAlgorithm
from pytest_twisted import blockon
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.server import NOT_DONE_YET

from tests.issuer import AUDIENCE, CURVE, CURVE_384, KEYS, Issuer, bearer, jwk
from tests.remote import Remotes, certificate
from tests.serving import serve
from tests.working import until
from twuws import config
from twuws.authenticators.oidc import LONGEST, OIDCAuthenticator, OIDCSettings
from twuws.authenticators.oidckeys import IssuerKeys
from twuws.errors import ConfigError
from twuws.proxies import Proxies
from twuws.web.access import Access, Admitted, Anonymous
from twuws.web.settings import WebSettings

PROGRAM = '[services.a]\ncommand = ["cat"]\n'


def run(coroutine):
    return blockon(Deferred.fromCoroutine(coroutine))


@pytest.fixture
def issuer():
    issuer = Issuer()
    yield issuer
    run(issuer.stop())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start(database, tmp_path, issuer, clock):
    """Starts a service that takes the issuer's tokens, with other settings if there are some."""
    started = []

    async def start(access=None, url=None, times=1, web=None, **more):
        wanted = {"issuer": issuer.url, "audience": (AUDIENCE,), **more}
        whose = OIDCSettings(**wanted)
        keys = IssuerKeys(whose.issuer, url, whose.algorithms, seconds=clock.seconds)
        rules = {"anonymous": Anonymous.CREATE, **(access or {})}
        login = OIDCAuthenticator(whose, keys)
        access = Access(authenticators=(login,) * times, **rules)
        settings = WebSettings(access=access, **(web or {}))
        serving = await serve(database, tmp_path / "jobs", settings=settings, slots=0)
        serving.keys, serving.login = keys, login
        started.append(serving)
        return serving

    yield start
    for serving in started:
        run(serving.stop())


async def ask(serving, token):
    """Who somebody with this token is; or the status, and what was said."""
    answer = await serving.get(headers=bearer(token))
    if answer.status == 200:
        return answer.headers.get("x-vo-authenticated")
    assert "x-vo-authenticated" not in answer.headers
    return answer.status, answer.text


def forged(header, claims, sign=lambda signed: b""):
    """A token, put together by hand."""
    parts = [
        base64.urlsafe_b64encode(one if isinstance(one, bytes) else json.dumps(one).encode())
        for one in (header, claims)
    ]
    signed = b".".join(part.rstrip(b"=") for part in parts)
    return (signed + b"." + base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")).decode()


def claimsOf(issuer, **more):
    return {"iss": issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 60, **more}


# What is good


async def test_right(start, issuer):
    serving = await start()
    assert await ask(serving, issuer.token()) == "alice"
    assert await ask(serving, issuer.token(CURVE, "curve", "ES256", sub="bob")) == "bob"
    assert await ask(serving, issuer.token(aud=["other", AUDIENCE])) == "alice"
    assert await ask(serving, issuer.token(iat=None)) == "alice"
    assert await ask(serving, issuer.token(headers={"typ": "at+jwt"})) == "alice"
    for scheme in ("bearer ", "BEARER  "):
        answer = await serving.get(headers={"Authorization": scheme + issuer.token()})
        assert answer.headers["x-vo-authenticated"] == "alice"
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]


async def test_job_is_its_owners(start, issuer):
    serving = await start()
    url = await serving.create(headers=bearer(issuer.token()))
    assert (await serving.get(url, headers=bearer(issuer.token()))).status == 200
    assert (await serving.get(url, headers=bearer(issuer.token(sub="bob")))).status == 403
    assert (await serving.get(url)).status == 401


async def test_other_sites_may_send_one(start, issuer):
    """No browser sends a token by itself: who has it, has been given it."""
    serving = await start()
    headers = {**bearer(issuer.token()), "Origin": "https://a.example", "Sec-Fetch-Site": "x"}
    assert (await serving.post(headers=headers)).status == 303


async def test_challenges(start, issuer):
    serving = await start({"anonymous": Anonymous.NOTHING})
    response = await serving.client.get(serving.url)
    assert response.code == 401
    assert response.headers.getRawHeaders("www-authenticate") == [
        'Bearer realm="twuws"',
        f'ivoa_bearer standard_id="ivo://ivoa.net/sso#OAuth", access_url="{issuer.url}"',
    ]
    answer = await serving.get(serving.base + "/capabilities", headers=bearer(issuer.token()))
    assert "ivo://ivoa.net/sso#OAuth" in answer.text
    assert "ivo://ivoa.net/sso#OpenID" in answer.text


async def test_challenges_are_said_once(start, issuer):
    """Several ways to log in can have the same one."""
    serving = await start({"anonymous": Anonymous.NOTHING}, times=2)
    response = await serving.client.get(serving.url)
    assert len(response.headers.getRawHeaders("www-authenticate")) == 2


async def test_own_tokens_are_another_matter(start, issuer):
    """They are not looked at here; and nobody else knows them in this service."""
    serving = await start()
    answer = await serving.get(headers=bearer("twuws_123"))
    assert (answer.status, "not known here" in answer.text) == (401, True)
    assert issuer.asked == []


# What is not


def withHMAC(issuer, secret):
    """A token that is signed with what everybody knows."""
    return forged(
        {"alg": "HS256", "typ": "JWT", "kid": "one"},
        claimsOf(issuer),
        lambda signed: hmac.digest(secret, signed, hashlib.sha256),
    )


async def test_public_key_as_secret(start, issuer):
    serving = await start()
    public = KEYS[0].public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(serialization.Encoding.PEM, info)
    der = public.public_bytes(serialization.Encoding.DER, info)
    for secret in (pem, pem.strip(), der, json.dumps(issuer.keys[0]).encode(), b""):
        status, text = await ask(serving, withHMAC(issuer, secret))
        assert (status, "not one of RS256, ES256" in text) == (401, True)


async def test_no_algorithm(start, issuer):
    serving = await start()
    for algorithm in ("none", "None", "NONE", "", None, 0, ["RS256"], {}, "RS512"):
        header = {"alg": algorithm, "kid": "one"}
        for signature in (b"", b"x", b"\0" * 256):
            token = forged(header, claimsOf(issuer), lambda _, s=signature: s)
            assert (await ask(serving, token))[0] == 401, (algorithm, signature)


BAD = {
    "another key": (lambda i: i.token(KEYS[1]), "not signed by its issuer"),
    "another type of key": (lambda i: i.token(CURVE, "one", "ES256"), "a key that its issuer"),
    "another audience": (lambda i: i.token(aud="https://b.example"), "for another service"),
    "part of the audience": (lambda i: i.token(aud=AUDIENCE[:-1]), "for another service"),
    "no audience": (lambda i: i.token(aud=None), "does not say its aud"),
    "empty audience": (lambda i: i.token(aud=[]), "does not say its aud"),
    "another issuer": (lambda i: i.token(iss="https://b.example"), "of another issuer"),
    "almost the issuer": (lambda i: i.token(iss=i.url + "/"), "of another issuer"),
    "several issuers": (lambda i: forgedRight(i, iss=[i.url]), "of another issuer"),
    "no issuer": (lambda i: i.token(iss=None), "does not say its iss"),
    "no subject": (lambda i: i.token(sub=None), "does not say its sub"),
    "no text as subject": (lambda i: forgedRight(i, sub=7), "is malformed"),
    "empty subject": (lambda i: i.token(sub=""), "cannot name a user"),
    "lines as subject": (lambda i: i.token(sub="a\nb"), "cannot name a user"),
    "long subject": (lambda i: i.token(sub="a" * 256), "cannot name a user"),
    "no end": (lambda i: i.token(exp=None), "does not say its exp"),
    "odd end": (lambda i: forgedRight(i, exp="soon"), "is malformed"),
    "endless": (lambda i: forgedRight(i, exp=float("inf")), "is malformed"),
    "bound": (lambda i: i.token(cnf={"jkt": "x"}), "bound to a key"),
    "crit": (lambda i: i.token(headers={"crit": ["exp"], "exp": 1}), "none of OpenID|demands"),
    "crit of nothing": (lambda i: i.token(headers={"crit": []}), "none of OpenID|demands"),
    "detached": (lambda i: i.token(headers={"b64": False}), "none of OpenID|demands|malformed"),
    "logout": (lambda i: i.token(headers={"typ": "logout+jwt"}), "not of a type"),
    "odd type": (lambda i: i.token(headers={"typ": ["JWT"]}), "not of a type"),
    "garbage": (lambda i: "garbage", "none of OpenID"),
    "nothing": (lambda i: "", "none of OpenID"),
    "dots": (lambda i: "..", "none of OpenID"),
    "encrypted": (lambda i: i.token() + ".x.y", "none of OpenID"),
    "no signature": (lambda i: i.token().rpartition(".")[0] + ".", "not signed by its issuer"),
    "cut": (lambda i: i.token()[:-8], "not signed by its issuer|none of OpenID"),
    "two": (lambda i: f"{i.token()}, {i.token()}", "not signed by its issuer|none of OpenID"),
    "deep header": (lambda i: forged(b"[" * 9000, {}), "none of OpenID"),
    "odd header": (lambda i: forged([], {}), "none of OpenID"),
    "odd kid": (lambda i: forged({"alg": "RS256", "kid": 7}, {}), "none of OpenID"),
    "long": (lambda i: i.token(more="x" * LONGEST)[: LONGEST + 1], "too long"),
}  # fmt: skip


def forgedRight(issuer, **claims):
    """A token that says what no library would, and is signed by the issuer all the same."""
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
    header = {"alg": "RS256", "kid": "one"}
    return forged(header, claimsOf(issuer, **claims), lambda it: algorithm.sign(it, KEYS[0]))


async def test_by_hand_is_right_too(start, issuer):
    """So what is refused below is not refused because of how it was made."""
    assert await ask(await start(), forgedRight(issuer)) == "alice"


async def test_bad(start, issuer):
    serving = await start()
    for what, (make, why) in BAD.items():
        found = await ask(serving, make(issuer))
        assert isinstance(found, tuple), what
        assert (found[0], bool(re.search(why, found[1]))) == (401, True), (what, found)
    assert await ask(serving, issuer.token()) == "alice"


async def test_changed(start, issuer):
    """What a token says cannot be changed by who has it."""
    serving = await start()
    head, body, signature = issuer.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "root"}).encode())
    token = ".".join([head, changed.decode().rstrip("="), signature])
    assert (await ask(serving, token))[0] == 401


@pytest.mark.parametrize("leeway", [60, 0])
async def test_clocks_that_differ(start, issuer, leeway):
    serving = await start(leeway=leeway)
    for claim, within, beyond, why in (
        ("exp", 15 - leeway, -15 - leeway, "has expired"),
        ("nbf", leeway - 15, leeway + 15, "is not valid yet"),
        ("iat", leeway - 15, leeway + 15, "is not valid yet"),
    ):
        now = time.time()
        assert await ask(serving, issuer.token(**{claim: now + within})) == "alice", claim
        status, text = await ask(serving, issuer.token(**{claim: now + beyond}))
        assert (status, why in text) == (401, True), claim


async def test_keys_that_a_token_brings(start, issuer):
    """Nobody is asked for a key but the issuer, and no key is taken from a token."""
    serving = await start()
    other = Issuer()
    mine = jwk(KEYS[1], "one")
    other.keys = [mine]
    chain = certificate("localhost").original
    der = base64.b64encode(chain.to_cryptography().public_bytes(serialization.Encoding.DER))
    brought = [
        {"jku": f"{other.url}/keys"},
        {"x5u": f"{other.url}/keys"},
        {"jwk": mine},
        {"x5c": [der.decode()]},
    ]
    try:
        for header in brought:
            assert (await ask(serving, issuer.token(KEYS[1], headers=header)))[0] == 401
            assert await ask(serving, issuer.token(headers=header)) == "alice"
        assert other.asked == []
    finally:
        await other.stop()


# Names, groups and scopes


async def test_name(start, issuer):
    serving = await start(nameClaim="preferred_username")
    assert await ask(serving, issuer.token(preferred_username="Ada L.")) == "Ada L."
    for claims in ({}, {"preferred_username": 7}, {"preferred_username": " a"}):
        assert (await ask(serving, issuer.token(**claims)))[0] == 401


async def test_email_must_be_verified(start, issuer):
    serving = await start(nameClaim="email")
    a = "a@a.example"
    assert await ask(serving, issuer.token(email=a, email_verified=True)) == a
    for verified in (False, None, "true", 1):
        assert (await ask(serving, issuer.token(email=a, email_verified=verified)))[0] == 401


async def test_groups(start, issuer):
    access = {"admitted": Admitted(groups=frozenset({"astro"}))}
    serving = await start(access, groupsClaim="groups")
    for groups in (["a", "astro"], "astro"):
        assert await ask(serving, issuer.token(groups=groups)) == "alice"
    for groups in (None, [], ["a"], "a", "a astro"):
        answer = await serving.get(headers=bearer(issuer.token(groups=groups)))
        assert answer.status == 403
    for groups in (7, {"astro": 1}, ["astro", 7]):
        assert (await ask(serving, issuer.token(groups=groups)))[0] == 401


async def test_required_scope(start, issuer):
    serving = await start(requiredScope="uws")
    for claims in ({"scope": "openid uws"}, {"scp": ["openid", "uws"]}, {"scp": "uws"}):
        assert await ask(serving, issuer.token(**claims)) == "alice"
    for claims in ({}, {"scope": "uwsx openid"}, {"scp": []}):
        answer = await serving.get(headers=bearer(issuer.token(**claims)))
        assert (answer.status, "scope has no uws" in answer.text) == (403, True)
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_read_on_the_way(start, issuer):
    """A token that came by http from elsewhere is not taken (RFC 6750, 5.3), unless it may be."""
    headers = {**bearer(issuer.token()), "X-Forwarded-For": "192.0.2.1"}
    web = {"proxies": Proxies(["127.0.0.1"])}
    serving = await start(web=web)
    answer = await serving.get(headers=headers)
    assert (answer.status, "Tokens are taken by https only" in answer.text) == (403, True)
    assert issuer.asked == []
    assert (await serving.get(headers={**headers, "X-Forwarded-Proto": "https"})).status == 200
    lenient = await start(web=web, cleartext=True)
    assert (await lenient.get(headers=headers)).status == 200


async def test_what_is_wrong_with_it_is_told(start, issuer):
    """To programs, too (RFC 6750, 3.1)."""
    serving = await start()
    headers = bearer(issuer.token(exp=1))
    response = await serving.client.get(serving.url, headers=headers)
    told = response.headers.getRawHeaders("www-authenticate")
    assert (response.code, told[0]) == (401, 'Bearer realm="twuws", error="invalid_token"')
    assert "error" not in told[1]


async def test_scopes(start, issuer):
    access = {"admins": frozenset({"alice"})}
    names = {"read": "uws.read", "write": "uws.write", "admin": "uws.admin"}
    serving = await start(access, scopes=names)
    theirs = await serving.create(headers=bearer(issuer.token(sub="bob", scope="uws.write")))
    for scope, expected in {
        "uws.read": (200, 403, 403),
        "uws.write": (200, 303, 403),
        "uws.admin": (200, 403, 200),
        "openid": (403, 403, 403),
    }.items():
        headers = bearer(issuer.token(scope=scope))
        found = (
            (await serving.get(headers=headers)).status,
            (await serving.post(headers=headers)).status,
            (await serving.get(theirs, headers=headers)).status,
        )
        assert found == expected, scope
    assert serving.login._scopesOf({"scope": "uws.write"}) == {"read", "write"}


# Keys


KEYS_AT = "/realm/keys"


def loads(issuer):
    return issuer.asked.count(KEYS_AT)


async def test_rotation(start, issuer, clock):
    serving = await start()
    assert await ask(serving, issuer.token()) == "alice"
    clock.advance(61)
    issuer.keys = [jwk(KEYS[1], "two")]
    assert await ask(serving, issuer.token(KEYS[1], "two")) == "alice"
    assert (await ask(serving, issuer.token()))[0] == 401  # with what is no key any more
    assert loads(issuer) == 2


async def test_unknown_keys_are_not_asked_for_all_the_time(start, issuer, clock):
    serving = await start()
    for n in range(10):
        assert (await ask(serving, issuer.token(KEYS[1], f"no{n}")))[0] == 401
    assert loads(issuer) == 1
    clock.advance(59)
    assert (await ask(serving, issuer.token(KEYS[1], "no")))[0] == 401
    assert loads(issuer) == 1
    clock.advance(2)
    assert (await ask(serving, issuer.token(KEYS[1], "no")))[0] == 401
    assert loads(issuer) == 2


@pytest.mark.parametrize("isFirst", [True, False])
async def test_many_at_once(start, issuer, clock, isFirst):
    """They wait for the same keys; one that hangs up takes nobody with it."""
    serving = await start()
    token = partial(issuer.token, KEYS[1], "two")
    if not isFirst:
        assert await ask(serving, issuer.token()) == "alice"
        clock.advance(61)
    issuer.keys.append(jwk(KEYS[1], "two"))
    before, answer = loads(issuer), issuer.render_GET
    waiting = []

    def hold(request):
        waiting.append(request)
        return NOT_DONE_YET

    issuer.render_GET = hold
    leaving = Deferred.fromCoroutine(serving.get(headers=bearer(token())))
    await until(lambda: waiting)
    leaving.addErrback(lambda _: None)
    leaving.cancel()
    asking = [Deferred.fromCoroutine(ask(serving, token(sub=f"u{n}"))) for n in range(5)]
    assert (await serving.get()).status == 200  # by now it is known who has gone
    issuer.render_GET = answer
    waiting[0].write(answer(waiting[0]))
    waiting[0].finish()
    assert [await one for one in asking] == [f"u{n}" for n in range(5)]
    assert loads(issuer) == before + 1


async def test_issuer_away_at_first(start, issuer, clock):
    await issuer.stop()
    serving = await start()
    answer = await serving.get(headers=bearer(issuer.token()))
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    issuer.start()
    assert (await ask(serving, issuer.token()))[0] == 503  # it is not asked all the time
    assert loads(issuer) == 0
    clock.advance(10)
    assert await ask(serving, issuer.token()) == "alice"


async def test_issuer_away_later(start, issuer, clock):
    """Known keys are good, however old; whether others are nobody can say."""
    serving = await start()
    assert await ask(serving, issuer.token()) == "alice"
    await issuer.stop()
    for later in (61, 4 * 3600, 24 * 3600):
        clock.advance(later)
        assert await ask(serving, issuer.token()) == "alice"
        answer = await serving.get(headers=bearer(issuer.token(KEYS[1], "two")))
        assert (answer.status, int(answer.headers["retry-after"]) <= 10) == (503, True)
        assert (await ask(serving, issuer.token(aud="other")))[0] == 401
    issuer.keys = [jwk(KEYS[1], "two")]
    issuer.start()
    clock.advance(61)
    assert await ask(serving, issuer.token(KEYS[1], "two")) == "alice"


async def test_keys_are_renewed_meanwhile(start, issuer, clock):
    serving = await start()
    assert await ask(serving, issuer.token()) == "alice"
    clock.advance(IssuerKeys.renewAfter + 1)
    issuer.keys = [jwk(KEYS[1], "two")]
    assert await ask(serving, issuer.token()) == "alice"  # nobody waits for it
    await until(lambda: loads(issuer) == 2 and serving.keys._loading.called)
    assert (await ask(serving, issuer.token()))[0] == 401


async def test_old_keys_are_looked_at_before(start, issuer, clock):
    serving = await start()
    assert await ask(serving, issuer.token()) == "alice"
    clock.advance(IssuerKeys.oldest + 1)
    issuer.keys = [jwk(KEYS[1], "two")]
    assert (await ask(serving, issuer.token()))[0] == 401
    assert await ask(serving, issuer.token(KEYS[1], "two")) == "alice"


async def test_keys_without_names(start, issuer, clock):
    """There must be no doubt which it is."""
    serving = await start()
    issuer.keys = [jwk(KEYS[0], None), jwk(CURVE, "curve")]
    assert await ask(serving, issuer.token(kid=None)) == "alice"
    assert (await ask(serving, issuer.token(KEYS[1], None)))[0] == 401
    clock.advance(IssuerKeys.oldest + 1)
    issuer.keys = [jwk(KEYS[0], "one"), jwk(KEYS[1], "two")]
    assert (await ask(serving, issuer.token(kid=None)))[0] == 401


WEAK = rsa.generate_private_key(65537, 1024)


def sign384(signed):
    """As ES256 does it, but with a key that is for ES384."""
    r, s = decode_dss_signature(CURVE_384.sign(signed, ECDSA(SHA256())))
    return r.to_bytes(48) + s.to_bytes(48)


#: What is no key to check tokens with, and a token that it would be for.
NO_KEYS = {
    "for encryption": lambda i: (jwk(KEYS[0], "k", use="enc"), i.token(kid="k")),
    "for another algorithm": lambda i: (jwk(KEYS[0], "k", alg="RS512"), i.token(kid="k")),
    "of another curve": lambda i: (
        jwk(CURVE_384, "k"), forged({"alg": "ES256", "kid": "k"}, claimsOf(i), sign384)),
    "shared": lambda i: ({"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, withHMAC(i, b"secret")),
    "shared, for RS256": lambda i: (
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "RS256"}, i.token(kid="k")),
    "weak": lambda i: (jwk(WEAK, "k"), i.token(WEAK, "k")),
    "broken": lambda i: ({"kty": "RSA", "n": 7, "e": "AQAB", "kid": "k"}, i.token(kid="k")),
    "half": lambda i: ({"kty": "RSA", "n": "AQAB", "kid": "k"}, i.token(kid="k")),
    "even": lambda i: ({**jwk(KEYS[0], "k"), "e": "AA"}, i.token(kid="k")),
    "no object": lambda i: ("k", i.token(kid="k")),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The RSA key is")
@pytest.mark.parametrize("what", NO_KEYS)
async def test_no_keys(start, issuer, what):
    """They are passed over, and the others are good."""
    key, token = NO_KEYS[what](issuer)
    issuer.keys.append(key)
    serving = await start()
    assert (await ask(serving, token))[0] == 401
    assert await ask(serving, issuer.token()) == "alice"


async def test_other_algorithms(start, issuer):
    serving = await start(algorithms=("PS512", "ES384"))
    issuer.keys.append(jwk(CURVE_384, "384"))
    assert await ask(serving, issuer.token(algorithm="PS512")) == "alice"
    assert await ask(serving, issuer.token(CURVE_384, "384", "ES384")) == "alice"
    assert (await ask(serving, issuer.token()))[0] == 401


#: What an issuer can say of itself, or of its keys, that is not believed.
LIES = {
    "not JSON": b"<html>",
    "deep": b"[" * 100_000,
    "large": b'{"x": "' + b"x" * 300_000 + b'"}',
    "a list": b"[]",
    "another issuer": b'{"issuer": "https://b.example", "jwks_uri": "URL/keys"}',
    "a file": b'{"issuer": "URL", "jwks_uri": "file:///etc/passwd"}',
    "by http": b'{"issuer": "URL", "jwks_uri": "http://127.1:PORT/realm/keys"}',
    "nowhere": b'{"issuer": "URL"}',
    "odd place": b'{"issuer": "URL", "jwks_uri": ["a"]}',
}


@pytest.mark.parametrize("what", LIES)
async def test_lies(start, issuer, what):
    document = LIES[what].replace(b"URL", issuer.url.encode())
    document = document.replace(b"PORT", b"%d" % issuer.number)
    issuer.documents["/realm/.well-known/openid-configuration"] = document
    serving = await start()
    assert (await ask(serving, issuer.token()))[0] == 503


@pytest.mark.parametrize("document", [b'{"keys": {}}', b"{}", b'"keys"'])
async def test_no_list_of_keys(start, issuer, clock, document):
    issuer.documents[KEYS_AT] = document
    serving = await start()
    assert (await ask(serving, issuer.token()))[0] == 503
    issuer.documents.clear()
    clock.advance(10)
    assert await ask(serving, issuer.token()) == "alice"


async def test_all_keys_taken_back(start, issuer, clock):
    serving = await start()
    assert await ask(serving, issuer.token()) == "alice"
    issuer.keys = []
    clock.advance(IssuerKeys.oldest + 1)
    assert (await ask(serving, issuer.token()))[0] == 401


async def test_keys_elsewhere(start, issuer):
    """With a URL of theirs the issuer need not say where they are."""
    serving = await start(url=issuer.url + "/keys", issuer="https://id.example.org")
    assert await ask(serving, issuer.token(iss="https://id.example.org")) == "alice"
    assert issuer.asked == [KEYS_AT]


async def test_only_who_proves_it_is_the_issuer(start, issuer):
    """Who has a certificate that nobody trusts is not asked for keys."""
    remotes = Remotes()
    url, pages = remotes.pages(certificate("localhost"), host="localhost")
    try:
        serving = await start(issuer=url)
        assert (await ask(serving, issuer.token(iss=url)))[0] == 503
        assert pages.asked == []
    finally:
        await remotes.close()


# Configuration


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "uws.toml"
        path.write_text(text + "\n" + PROGRAM)
        return config.load(str(path)).web.access

    return load


async def test_configuration(load, issuer):
    access = load(
        f'[auth.oidc]\nissuer = "{issuer.url}"\naudience = "{AUDIENCE}"\nleeway = 5\n'
        'algorithms = ["ES256"]\nname-claim = "n"\ngroups-claim = "g"\nrequired-scope = "s"\n'
        "cleartext = true\n"
        f'jwks-url = "{issuer.url}/keys"\nscopes = {{read = "r", write = "w", admin = "a"}}'
    )
    (authenticator,) = access.authenticators
    assert authenticator._settings == OIDCSettings(
        issuer=issuer.url,
        audience=(AUDIENCE,),
        algorithms=("ES256",),
        leeway=5,
        nameClaim="n",
        groupsClaim="g",
        requiredScope="s",
        scopes={"read": "r", "write": "w", "admin": "a"},
        cleartext=True,
    )
    assert access.anonymous is Anonymous.CREATE
    assert await authenticator._keys.find("curve", "ES256") is not None
    assert issuer.asked == [KEYS_AT]


def test_defaults(load):
    access = load('[auth.oidc]\nissuer = "https://id.example.org/r"\naudience = ["a", "b"]')
    (authenticator,) = access.authenticators
    usual = OIDCSettings(issuer="https://id.example.org/r", audience=("a", "b"))
    assert authenticator._settings == usual
    assert usual.algorithms == ("RS256", "ES256")


@pytest.mark.parametrize(("text", "mistake"), [
    ("", "issuer: expected the URL of who issues tokens, found None"),
    ("", "audience: expected what tokens for this service have as aud"),
    ('issuer = "http://id.example.org"', "issuer: expected an https URL"),
    ('issuer = "https://id.example.org?a"', "issuer: expected the URL"),
    ('issuer = "https://id.example.org#a"', "issuer: expected an https URL"),
    ('issuer = "id.example.org"', "issuer: expected an https URL"),
    ("issuer = 7", "issuer: expected a text"),
    ("audience = []", "audience: expected what tokens"),
    ('audience = [""]', "audience: expected what tokens"),
    ('jwks-url = "http://id.example.org"', "jwks-url: expected an https URL"),
    ('algorithms = ["none"]', "algorithms: expected some of RS256"),
    ('algorithms = ["RS256", "HS256"]', "algorithms: expected some of RS256"),
    ("algorithms = []", "algorithms: expected some of RS256"),
    ("leeway = -1", "leeway: expected 0 to 3600 s, found -1"),
    ('name-claim = ""', "name-claim: expected a text without spaces"),
    ('groups-claim = "a b"', "groups-claim: expected a text without spaces"),
    ('required-scope = "a b"', "required-scope: expected a text without spaces"),
    ('isuer = "a"', "isuer: this key means nothing here; did you mean issuer?"),
    ('scopes = {admin = ""}', "[auth.oidc.scopes] admin: expected a text without spaces"),
    ('scopes = {all = "a"}', "[auth.oidc.scopes] all: this key means nothing here"),
])  # fmt: skip
def test_mistakes(load, text, mistake):
    with pytest.raises(ConfigError) as caught:
        load(f"[auth.oidc]\n{text}")
    where = "" if mistake.startswith("[") else "[auth.oidc] "
    assert f"uws.toml: {where}{mistake}" in str(caught.value)


def test_without_the_library(load, monkeypatch):
    import sys

    for name in ("twuws.authenticators.oidc", "twuws.authenticators.oidckeys"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigError) as caught:
        load('[auth.oidc]\nissuer = "https://a"')
    (line,) = str(caught.value).splitlines()
    assert "[auth.oidc] this needs PyJWT: pip install 'twuws[oidc]'" in line
