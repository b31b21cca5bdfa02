"""Tokens of the service's own: what they are good for and for how long, and logging in for one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from psycopg2.errors import CheckViolation
from pytest_twisted import blockon
from twisted.internet.defer import Deferred

from tests.authenticating import accessFor, basic, bearer, withTokens
from tests.serving import serve
from twuws.authenticators.tokens import MEMORY, REMEMBERED, TokenAuthenticator
from twuws.chores import KeyForgetter
from twuws.database import Database
from twuws.jobstable import JobsTable
from twuws.proxies import Proxies
from twuws.tokens import TokenRules, Tokens
from twuws.web.access import Access, Admitted, Anonymous
from twuws.web.settings import WebSettings

pytestmark = [pytest.mark.slow, pytest.mark.covered]

FOREVER = None
LOGIN = 'ivoa_bearer standard_id="ivo://ivoa.net/sso#tls-with-password", access_url="{}/login"'


@pytest.fixture
def tokens(database):
    return Tokens(database)


@pytest.fixture
def start(database, tmp_path):
    """Start a service where one can log in, unless it is given other rules."""
    started = []

    async def start(access=None, web=None, **more):
        settings = WebSettings(access=access or withTokens(database, **more), **(web or {}))
        serving = await serve(database, tmp_path / "jobs", settings=settings, slots=0)
        started.append(serving)
        return serving

    yield start
    for serving in started:
        blockon(Deferred.fromCoroutine(serving.stop()))


async def make(tokens, owner="alice", scopes=("write",), seconds=60, **more):
    return (await tokens.make(owner, scopes, seconds, **more))[0]


def wait(database, seconds):
    """Let time go by for those who remember."""
    database.reactor.now += seconds


class Later:
    """A reactor whose time can be changed."""

    def __init__(self, reactor):
        self._reactor = reactor
        self.now = 0.0

    def seconds(self):
        return self._reactor.seconds() + self.now

    def __getattr__(self, name):
        return getattr(self._reactor, name)


# What is kept


async def test_what_is_kept(tokens, database):
    token, known = await tokens.make("Zoë", {"write"}, 60, label="mine\0", madeBy="me")
    assert re.fullmatch(r"twuws_[A-Za-z0-9_-]{43}", token)
    assert (known.owner, known.scopes, known.madeBy) == ("Zoë", {"read", "write"}, "me")
    assert (known.expires - known.made).total_seconds() == pytest.approx(60, abs=0.1)
    rows = await database.query("SELECT *, tokens::text AS shown FROM tokens")
    assert token[6:] not in rows[0]["shown"]
    assert len(bytes(rows[0]["hash"])) == 32
    assert await tokens.all() == await tokens.all("Zoë") == [known]
    assert await tokens.all("zoë") == []


async def test_all_are_different(tokens):
    made = [await tokens.make("a", {"read"}, FOREVER) for _ in range(20)]
    assert len({token for token, _ in made}) == len({known.id for _, known in made}) == 20


async def test_found(tokens):
    owner, scopes, seconds = await tokens.find(await make(tokens, "bob", {"admin"}, 60))
    assert (owner, scopes) == ("bob", {"read", "admin"})
    assert 59 < seconds <= 60
    assert (await tokens.find(await make(tokens, seconds=FOREVER)))[2] is None
    for wrong in ("", "twuws_", "twuws_" + "x" * 43, "twuws_" + "x" * 44, "x" * 49, "twuws_\0"):
        assert await tokens.find(wrong) is None


async def test_end(tokens):
    token = await make(tokens, seconds=0.2)
    assert await tokens.find(token) is not None
    while await tokens.find(token) is not None:
        pass
    assert await tokens.all() == []


async def test_revoked(tokens):
    made = {name: await tokens.make(name, {"read"}, FOREVER) for name in ("a", "b", "c")}
    ids = {name: known.id for name, (_, known) in made.items()}
    assert await tokens.revoke([ids["a"], "nothing"]) == [ids["a"]]
    assert await tokens.revoke([ids["a"]]) == []
    assert await tokens.revoke(owner="b") == [ids["b"]]
    assert await tokens.revoke() == []
    assert [name for name, (token, _) in made.items() if await tokens.find(token)] == ["c"]


async def test_scopes_are_known_ones(tokens, database):
    await make(tokens)
    with pytest.raises(CheckViolation):
        await database.query("UPDATE tokens SET scopes = ARRAY['all']")


async def test_old_ones_go(tokens, database):
    await database.query(
        "INSERT INTO tokens (token_id, hash, owner, scopes, expires)"
        " SELECT n, n::text::bytea, 'a', '{}', now() - n * interval '1 s'"
        " FROM generate_series(1, 250) n"
    )
    kept = [await make(tokens), await make(tokens, seconds=FOREVER)]
    chore = KeyForgetter(JobsTable(database))
    chore.batch = 100
    await chore.runOnce()
    assert await database.query("SELECT count(*) AS n FROM tokens") == [{"n": 2}]
    assert all([await tokens.find(token) for token in kept])


# What they are good for


async def test_owner(start, tokens):
    serving = await start()
    job = await serving.create(headers=bearer(await make(tokens)))
    answer = await serving.get(job + "/owner", headers=basic("alice"))
    assert (answer.status, answer.text) == (200, "alice")
    answer = await serving.get(job, headers=bearer(await make(tokens, "bob")))
    assert (answer.status, answer.headers["x-vo-authenticated"]) == (403, "bob")
    lower = {"authorization": f"bearer {await make(tokens)}"}
    assert (await serving.get(job, headers=lower)).status == 200


async def test_scopes(start, tokens):
    """A token is good for what it says, and for no more than its owner may."""
    serving = await start()
    job = await serving.create(headers=basic("alice"))
    for owner, scopes, see, change in (
        ("alice", {"read"}, 200, 403),
        ("alice", {"admin"}, 200, 403),
        ("root", {"write"}, 403, 403),
        ("root", {"admin"}, 200, 403),
        ("bob", {"write", "admin"}, 403, 403),
        ("root", {"write", "admin"}, 200, 303),
    ):
        headers = bearer(await make(tokens, owner, scopes))
        assert (await serving.get(job, headers=headers)).status == see, (owner, scopes)
        answer = await serving.post(job, {"PHASE": "ABORT"}, headers=headers)
        assert answer.status == change, (owner, scopes)


async def test_scopes_of_sync(start, tokens):
    """A GET makes a job there, but to look at what came of one is to look."""
    serving = await start()
    job = await serving.create(headers=basic("alice"))
    await serving.post(job + "/phase", {"PHASE": "ABORT"}, headers=basic("alice"))
    headers = bearer(await make(tokens, "alice", {"read"}))
    assert (await serving.get(serving.base + "/sync?x=1", headers=headers)).status == 403
    answer = await serving.get(f"{serving.base}/sync/{job.rpartition('/')[2]}", headers=headers)
    assert answer.status != 403


async def test_groups(start, tokens, database):
    """They are looked for when the token is used."""
    access = withTokens(
        database,
        groupsOf={"alice": frozenset({"staff"})},
        admitted=Admitted(groups=frozenset({"staff"})),
    )
    serving = await start(access)
    assert (await serving.get(headers=bearer(await make(tokens)))).status == 200
    assert (await serving.get(headers=bearer(await make(tokens, "bob")))).status == 403


async def test_other_sites(start, tokens):
    """No browser sends a token by itself."""
    serving = await start()
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    token = bearer(await make(tokens))
    assert (await serving.post(headers={**headers, **token})).status == 303
    assert (await serving.post(headers={**headers, **basic("alice")})).status == 403


@pytest.mark.parametrize(
    "value",
    [
        "Bearer twuws_" + "x" * 43,
        "Bearer twuws_",
        "Bearer twuws_\xff" + "x" * 42,
        "Bearer twuws_" + "x" * 10_000,
        "Bearer other",
        "Bearer",
        "Bearer ",
        "twuws_" + "x" * 43,
    ],
)
async def test_wrong(start, value):
    serving = await start()
    headers = {"Authorization": value.encode("latin-1")}
    response = await serving.client.get(serving.url, headers=headers)
    assert response.code == 401
    told = response.headers.getRawHeaders("www-authenticate")
    error = ', error="invalid_token"' if value.startswith("Bearer") else ""
    assert told == [
        'Basic realm="twuws", charset="UTF-8"',
        f'Bearer realm="twuws"{error}',
        LOGIN.format(serving.base),
    ]


async def test_too_narrow(start, tokens):
    """Who could with another token is told so (RFC 6750, 3.1); others are not."""
    serving = await start()
    reading = bearer(await make(tokens, "root", ("read",)))
    job = await serving.create(headers=basic("alice"))
    wanting = 'Bearer realm="twuws", error="insufficient_scope"'
    writing = bearer(await make(tokens, "root"))
    for method, url, word, headers in (
        ("POST", serving.url, "(write)", reading),
        ("GET", job, "(admin)", reading),
        ("POST", (await serving.create()) + "/hold", "(admin)", writing),
    ):
        answer = await serving.request(method, url, headers=headers)
        assert (answer.status, word in answer.text) == (403, True)
        assert answer.headers["www-authenticate"] == wanting
    answer = await serving.get(job, headers=bearer(await make(tokens, "bob")))
    assert (answer.status, "www-authenticate" in answer.headers) == (403, False)


async def test_read_on_the_way(start, tokens):
    """A token that came by http from elsewhere is not taken (RFC 6750, 5.3), unless it may be."""
    token = bearer(await make(tokens))
    elsewhere = {**token, "X-Forwarded-For": "192.0.2.1"}
    web = {"proxies": Proxies(["127.0.0.1"])}
    serving = await start(web=web)
    answer = await serving.get(headers=elsewhere)
    assert answer.status == 403
    assert "Tokens are taken by https only" in answer.text
    assert "set public-url" in answer.text
    assert (await serving.get(headers={**elsewhere, "X-Forwarded-Proto": "https"})).status == 200
    assert (await serving.get(headers=token)).status == 200
    await serving.stop()
    lenient = await start(web=web, rules=TokenRules(cleartext=True))
    assert (await lenient.get(headers=elsewhere)).status == 200


async def test_revoked_in_use(start, tokens, database):
    """It is taken for some seconds more, as the pages say."""
    database.reactor = Later(database.reactor)
    serving = await start()
    token, known = await tokens.make("alice", {"write"}, FOREVER)
    assert (await serving.get(headers=bearer(token))).status == 200
    await tokens.revoke([known.id])
    assert (await serving.get(headers=bearer(token))).status == 200
    wait(database, MEMORY)
    assert (await serving.get(headers=bearer(token))).status == 401
    wait(database, MEMORY)
    assert (await serving.get(headers=bearer(token))).status == 401


async def test_end_in_use(start, tokens, database):
    """Nothing is remembered for longer than it is good."""
    database.reactor = Later(database.reactor)
    serving = await start()
    token = await make(tokens, seconds=1)
    assert (await serving.get(headers=bearer(token))).status == 200
    await database.query("UPDATE tokens SET expires = now() + interval '2 s'")
    wait(database, 1)
    assert (await serving.get(headers=bearer(token))).status == 200
    await database.query("UPDATE tokens SET expires = now()")
    wait(database, 2)
    assert (await serving.get(headers=bearer(token))).status == 401


class Asked:
    """A request with a token."""

    isConfidential = True

    def __init__(self, token):
        self.token = token

    def getHeader(self, name):
        return b"Bearer " + self.token.encode()


async def test_memory(tokens, database):
    """One look at the database for all requests of some seconds; few are remembered."""
    authenticator = TokenAuthenticator(tokens)
    token = await make(tokens)
    first = await authenticator.authenticate(Asked(token))
    await database.query("DELETE FROM tokens")
    assert await authenticator.authenticate(Asked(token)) is first
    for _ in range(REMEMBERED + 5):
        authenticator._remember(str(_), 1e12, first)
    assert len(authenticator._known) == REMEMBERED


async def test_no_database(start):
    """Nobody is let in, nor told that they are wrong."""
    away = Database("postgresql:///x?host=/nowhere")
    serving = await start(Access(authenticators=(TokenAuthenticator(Tokens(away)),)))
    answer = await serving.get(headers=bearer("twuws_" + "x" * 43))
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert "www-authenticate" not in answer.headers
    assert (await serving.get()).status == 200
    await away.stopService()


# Logging in


async def login(serving, name="alice", password=None, **more):
    data = {"username": name, "password": name[::-1] if password is None else password}
    return await serving.post(serving.base + "/login", data, **more)


async def test_login(start, tokens):
    serving = await start()
    answer = await login(serving)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    token = answer.headers["x-vo-bearer"]
    assert answer.text == token
    assert answer.headers["x-vo-authenticated"] == "alice"
    assert answer.headers["cache-control"] == "no-store"
    job = await serving.create(headers=bearer(token))
    assert (await serving.get(job + "/owner", headers=bearer(token))).text == "alice"
    (known,) = await tokens.all()
    assert (known.label, known.madeBy) == ("login", "login from 127.0.0.1")
    assert (known.expires - known.made).total_seconds() == pytest.approx(86_400, abs=1)


async def test_login_is_as_good_as_the_password(start):
    serving = await start()
    job = await serving.create(headers=basic("alice"))
    token = (await login(serving, "root")).text
    assert (await serving.request("DELETE", job, headers=bearer(token))).status == 303


async def test_lifetime(start, tokens):
    serving = await start(rules=TokenRules(loginLifetime=60))
    await login(serving)
    (known,) = await tokens.all()
    assert (known.expires - known.made).total_seconds() == pytest.approx(60, abs=1)


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", "wrong"), ("alice", ""), ("nobody", None), ("", ""), ("a\nb", None), ("ä", "ä")],
)
async def test_wrong_login(start, tokens, name, password):
    serving = await start()
    answer = await login(serving, name, password)
    assert (answer.status, "x-vo-bearer" in answer.headers) == (401, False)
    assert "www-authenticate" in answer.headers
    assert await tokens.all() == []


@pytest.mark.parametrize(
    "data",
    [
        [],
        [("username", "alice")],
        [("password", "ecila")],
        [("username", "alice"), ("username", "bob"), ("password", "ecila")],
    ],
)
async def test_no_login(start, data):
    serving = await start()
    answer = await serving.post(serving.base + "/login", data)
    assert (answer.status, "expected once" in answer.text) == (400, True)


async def test_login_is_a_post(start):
    """With nothing in the URL, which others can read for long."""
    serving = await start()
    query = "?username=alice&password=ecila"
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await serving.request(method, serving.base + "/login" + query)
        assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
    answer = await serving.post(serving.base + "/login" + query)
    assert (answer.status, "body" in answer.text) == (400, True)
    assert (await serving.post(serving.base + "/login/x")).status == 404


async def test_multipart(start):
    """As CADC's clients, and browsers' forms, may send it."""
    serving = await start()
    response = await serving.client.post(
        serving.base + "/login", files={"username": b"alice", "password": b"ecila"}
    )
    assert (response.code, (await response.text())[:6]) == (200, "twuws_")


async def test_large_login(start):
    serving = await start()
    assert (await login(serving, password="x" * 20_000)).status == 413


async def test_login_where_one_must(start, database):
    """To log in one need not be logged in, nor be one of those who may use the service."""
    serving = await start(withTokens(database, anonymous=Anonymous.NOTHING))
    assert (await login(serving)).status == 200
    serving = await start(withTokens(database, admitted=Admitted(users=frozenset({"bob"}))))
    token = (await login(serving)).text
    assert (await serving.get(headers=bearer(token))).status == 403


async def test_guessing_at_the_login(start):
    """It is one limit for both ways."""
    serving = await start()
    for _ in range(5):
        assert (await login(serving, password="wrong")).status == 401
        assert (await serving.get(headers=basic("alice", "wrong"))).status == 401
    answer = await login(serving)
    assert (answer.status, "retry-after" in answer.headers) == (429, True)
    assert (await serving.get(headers=basic("alice"))).status == 429


async def test_cleartext(start):
    serving = await start(web={"proxies": Proxies(["127.0.0.1"])})
    headers = {"X-Forwarded-For": "192.0.2.1"}
    answer = await login(serving, headers=headers)
    assert (answer.status, "https" in answer.text) == (403, True)
    answer = await login(serving, headers={**headers, "X-Forwarded-Proto": "https"})
    assert answer.status == 200


async def test_no_login_without_tokens(start):
    serving = await start(accessFor())
    answer = await login(serving)
    assert (answer.status, "login" in answer.text) == (404, True)
    assert (
        "login" not in (await serving.get(headers=basic("alice", "x"))).headers["www-authenticate"]
    )


async def test_capabilities(start):
    """Each way to log in is named, and where it is said where."""
    serving = await start()
    response = await serving.client.get(serving.base + "/capabilities")
    challenges = response.headers.getRawHeaders("www-authenticate")
    assert challenges == [
        'Basic realm="twuws", charset="UTF-8"', 'Bearer realm="twuws"', LOGIN.format(serving.base)
    ]  # fmt: skip
    methods = re.findall(r"<securityMethod ?(.*?)/>", await response.text())
    assert methods == 3 * [
        "",
        'standardID="ivo://ivoa.net/sso#BasicAA"',
        'standardID="ivo://ivoa.net/sso#tls-with-password"',
    ]


async def test_tokens_alone(start, tokens):
    """The IVOA has no name for them, and there is nowhere to log in."""
    serving = await start(Access(authenticators=(TokenAuthenticator(tokens),)))
    answer = await serving.get(headers=bearer("twuws_"))
    assert (answer.status, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="twuws", error="invalid_token"',
    )
    assert (await login(serving)).status == 404
    token = await make(tokens)
    assert (await serving.get(headers=bearer(token))).headers["x-vo-authenticated"] == "alice"


def test_rules_below(database):
    """Each of several services has the login."""
    access = withTokens(database)
    assert replace(access, services={}).below("a").login == access.login
