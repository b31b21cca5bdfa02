"""Who asks: how it is found out over HTTP, and what is said of it."""

from __future__ import annotations

import base64
import gc
import socket
from dataclasses import replace
from io import BytesIO
from urllib.request import urlopen

import pytest
from pytest_twisted import blockon
from pyvo.auth import AuthSession
from pyvo.dal.tap import AsyncTAPJob
from pyvo.io.vosi import parse_capabilities
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Server
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from zope.interface import implementer

from tests.authenticating import USERS, accessFor, basic, bearer
from tests.serving import serve
from tests.test_http_vosi import valid
from tests.working import until
from twuws.authenticators.passwords import PasswordAuthenticator
from twuws.errors import Unavailable
from twuws.identity import Identity
from twuws.interfaces import IAuthenticator
from twuws.proxies import Proxies
from twuws.web.access import Access, Admitted, Anonymous
from twuws.web.resource import UWSResource
from twuws.web.settings import WebSettings

pytestmark = [pytest.mark.slow, pytest.mark.covered]

ELSEWHERE = "https://elsewhere.example"
BASIC = 'Basic realm="twuws", charset="UTF-8"'


@implementer(IAuthenticator)
class ByKey:
    """Whoever sends a key in a header of its own, which no browser does by itself."""

    securityMethods = ("ivo://example.org/key",)

    def __init__(self, **scopes):
        self.scopes = scopes

    def challenges(self, baseURL):
        return [f'Key at="{baseURL}/keys"']

    async def authenticate(self, request):
        name = request.getHeader("x-key")
        if name is None:
            return None
        if name == "away":
            raise Unavailable("The keys are away.")
        scopes = frozenset(self.scopes.get(name, {"read", "write", "admin"}))
        groups = frozenset({"keyed"})
        return Identity(name=name, scopes=scopes, groups=groups, isAmbient=False, method="key")


@pytest.fixture
def start(database, tmp_path):
    """Start a service with users; call it with rules, and with settings of C{web}."""
    started = []

    async def start(access=None, web=None, **more):
        settings = replace(WebSettings(access=access or accessFor(**more)), **(web or {}))
        serving = await serve(database, tmp_path / "jobs", settings=settings, slots=0)
        started.append(serving)
        return serving

    yield start
    for serving in started:
        blockon(Deferred.fromCoroutine(serving.stop()))


def challengesOf(answer):
    return answer.headers.get("www-authenticate")


# Names and passwords


async def test_right(start):
    serving = await start()
    url = await serving.create(headers=basic("alice"))
    answer = await serving.get(url + "/owner", headers=basic("alice"))
    assert (answer.status, answer.text) == (200, "alice")
    assert answer.headers["x-vo-authenticated"] == "alice"
    assert challengesOf(answer) is None


def raw(value):
    return {"Authorization": value}


def encoded(content):
    return raw("Basic " + base64.b64encode(content).decode())


@pytest.mark.parametrize(
    "headers",
    [
        basic("alice", "wrong"),
        basic("alice", ""),
        basic("nobody"),
        basic("", ""),
        basic("alice", "ecila\0"),
        encoded(b"alice"),
        encoded(b"\xff\xfe:x"),
        encoded(b""),
        raw("Basic"),
        raw("Basic "),
        raw("Basic ***"),
        raw("Basic YWxpY2U6ZWNpbGE"),  # right, but for its end
        raw("Basic YWxp Y2U6ZWNpbGE="),
        raw("basic"),
        raw("Negotiate abc"),
        raw("Bearer abc"),
        raw("Digest username=alice"),
        raw("alice"),
        raw("Basic\t" + "YWxpY2U6ZWNpbGE="),
    ],
    ids=lambda headers: headers["Authorization"],
)
async def test_wrong(start, headers):
    """Who says to be somebody, and is not, is told so, and is not nobody in particular."""
    serving = await start(anonymous=Anonymous.ALL)
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/../capabilities"), ("HEAD", "/x")):
        url = (serving.url + path).replace("async/../", "")
        answer = await serving.request(method, url, headers=headers)
        assert (answer.status, challengesOf(answer)) == (401, BASIC), (method, answer.text)
        assert "x-vo-authenticated" not in answer.headers
    assert (await serving.get("")).text.count("jobref") == 0


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
async def test_schemes_have_no_case(start, scheme):
    serving = await start()
    headers = {"Authorization": basic("alice")["Authorization"].replace("Basic", scheme)}
    answer = await serving.get(headers=headers)
    assert (answer.status, answer.headers["x-vo-authenticated"]) == (200, "alice")


async def test_without_authentication_headers_mean_nothing(start):
    """As for a service behind something that does it itself."""
    serving = await start(Access())
    answer = await serving.get(headers=basic("alice"))
    assert (answer.status, challengesOf(answer)) == (200, None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Zoë", "Zo\\xeb"),
        ("李", "\\u674e"),
        ("a b", "a b"),
        ('"x"', '"x"'),
    ],
)
async def test_names_in_headers(start, name, told):
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(name.encode(), b"x")
    serving = await start(Access(authenticators=(PasswordAuthenticator([checker]),)))
    answer = await serving.get(headers=basic(name, "x"))
    assert (answer.status, answer.headers["x-vo-authenticated"]) == (200, told)
    job = await serving.create(headers=basic(name, "x"))
    assert (await serving.get(job + "/owner", headers=basic(name, "x"))).text == name


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x=y", "a\nb", "a\0b", " a", "a\x7f", "\u2028"])
async def test_what_is_no_name(start, name):
    """Whatever a checker thinks of it: nobody can be called so, least of all in a header."""
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(name.encode(), b"x")
    serving = await start(Access(authenticators=(PasswordAuthenticator([checker]),)))
    answer = await serving.get(headers=basic(name, "x"))
    assert answer.status == 401
    assert not {"set-cookie", "x-vo-authenticated"} & set(answer.headers)


async def test_names_of_sites_in_headers(start):
    """Of others than us, whose names nobody has checked."""
    serving = await start(Access(authenticators=(ByKey(),)))
    serving.port.factory.resource = _Naming(serving, "a\r\nSet-Cookie: x=y\x7f")
    answer = await serving.get()
    assert (answer.status, answer.headers["x-vo-authenticated"]) == (200, "a??Set-Cookie: x=y?")
    assert "set-cookie" not in answer.headers


async def test_guessing(start):
    """Then even the right one is not taken, from there, for a while."""
    serving = await start()
    for _ in range(10):
        assert (await serving.get(headers=basic("alice", "wrong"))).status == 401
    for password in ("wrong", "ecila"):
        answer = await serving.get(headers=basic("alice", password))
        assert answer.status == 429
        assert 50 < int(answer.headers["retry-after"]) <= 60
    assert (await serving.get(headers=basic("bob"))).status == 200
    assert (await serving.get()).status == 200


async def test_guessing_through_a_proxy(start):
    """It is the address of the client that counts, as the proxy tells it, and no other."""
    serving = await start(web={"proxies": Proxies(["127.0.0.1", "10.0.0.0/8"])})
    secure = {"X-Forwarded-Proto": "https"}

    async def ask(chain, password="wrong"):
        headers = {**basic("alice", password), **secure, "X-Forwarded-For": chain}
        return (await serving.get(headers=headers)).status

    for n in range(10):
        assert await ask(f"192.0.2.{n}, 198.51.100.1, 10.0.0.1") == 401
    assert await ask("192.0.2.1, 198.51.100.1", "ecila") == 429
    assert await ask("198.51.100.2", "ecila") == 200
    assert await ask("198.51.100.1, 198.51.100.2", "ecila") == 200


# On the way


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # from this host
        ({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}, 200),
        ({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http"}, 403),
        ({"X-Forwarded-For": "192.0.2.1"}, 403),
        ({"X-Forwarded-For": "127.0.0.1, 192.0.2.1"}, 403),
        ({"Forwarded": "for=192.0.2.1;proto=https"}, 200),
        ({"Forwarded": 'for="[2001:db8::1]:4711";proto=http'}, 403),
        ({"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "192.0.2.1"}, 403),
        ({"X-Forwarded-For": "127.0.0.1"}, 200),
    ],
)
async def test_cleartext(start, headers, status):
    """Passwords that others may have read are not taken."""
    serving = await start(web={"proxies": Proxies(["127.0.0.1"])})
    answer = await serving.get(headers={**basic("alice"), **headers})
    assert answer.status == status
    if status == 403:
        assert "https" in answer.text
    assert (await serving.get(headers=headers)).status == 200


async def test_public_url_says_that_it_is_https(start):
    web = {"proxies": Proxies(["127.0.0.1"]), "publicURL": "https://uws.example"}
    serving = await start(web=web)
    headers = {**basic("alice"), "X-Forwarded-For": "192.0.2.1"}
    assert (await serving.get(headers=headers)).status == 200


# Several ways


async def test_ways_in_their_order(start):
    serving = await start(
        Access(authenticators=(accessFor().authenticators[0], ByKey(reader={"read"})))
    )
    answer = await serving.get(headers={**basic("alice"), "X-Key": "bob"})
    assert answer.headers["x-vo-authenticated"] == "alice"
    assert (await serving.get(headers={"X-Key": "bob"})).headers["x-vo-authenticated"] == "bob"
    response = await serving.client.get(serving.url, headers=basic("alice", "wrong"))
    assert response.headers.getRawHeaders("www-authenticate") == [
        BASIC,
        f'Key at="{serving.base}/keys"',
    ]
    await response.text()


async def test_away(start):
    serving = await start(Access(authenticators=(ByKey(),)))
    answer = await serving.get(headers={"X-Key": "away"})
    assert (answer.status, "retry-after" in answer.headers) == (503, True)


async def test_scopes(start):
    """Credentials for looking are good for nothing else, whoever has them."""
    scopes = {"reader": {"read"}, "root": {"read", "write"}, "chief": {"read", "admin"}}
    access = Access(authenticators=(ByKey(**scopes),), admins=frozenset({"root", "chief"}))
    serving = await start(access)
    job = await serving.create(headers={"X-Key": "alice"})
    for method, url in (("POST", ""), ("GET", serving.base + "/sync"), ("DELETE", job)):
        answer = await serving.request(method, url, headers={"X-Key": "reader"})
        assert (answer.status, "looking only" in answer.text) == (403, True)
    assert (await serving.get(headers={"X-Key": "reader"})).status == 200
    assert (await serving.get(job, headers={"X-Key": "root"})).status == 403
    assert (await serving.get(job, headers={"X-Key": "chief"})).status == 200
    assert (await serving.request("DELETE", job, headers={"X-Key": "chief"})).status == 403
    assert (await serving.get(job, headers={"X-Key": "alice"})).status == 200


async def test_groups(start):
    """Those that the rules know of, and those that come with the credentials."""
    for groups, expected in (({"staff"}, (200, 403)), ({"keyed"}, (200, 200)), (set(), (403, 403))):
        access = Access(
            authenticators=(ByKey(),),
            admitted=Admitted(groups=frozenset(groups)),
            groupsOf={"alice": frozenset({"staff"})},
        )
        serving = await start(access)
        found = [(await serving.get(headers={"X-Key": name})).status for name in ("alice", "bob")]
        assert tuple(found) == expected, groups
        assert (await serving.get()).status == 401


async def test_admitted(start):
    serving = await start(admitted=Admitted(users=frozenset({"alice"})))
    statuses = {name: (await serving.get(headers=basic(name))).status for name in USERS}
    assert statuses == {"alice": 200, "bob": 403, "root": 200}  # who sees all may see it
    assert (await serving.get()).status == 401


async def test_admin_groups(start):
    access = {"admins": frozenset(), "adminGroups": frozenset({"chiefs"})}
    serving = await start(groupsOf={"root": frozenset({"chiefs"})}, **access)
    job = await serving.create(headers=basic("alice"))
    assert (await serving.get(job, headers=basic("root"))).status == 200
    assert (await serving.get(job, headers=basic("bob"))).status == 403


# A surrounding site


class _Naming(Resource):
    """What finds out itself who asks, around a service."""

    isLeaf = True

    def __init__(self, serving, owner):
        super().__init__()
        self.inner = UWSResource(serving.uws, WebSettings(access=Access(authenticators=(ByKey(),))))
        self.owner = owner

    def render(self, request):
        request.owner = self.owner
        request.prepath, request.postpath = [b"noted"], request.path.split(b"/")[2:]
        return self.inner.render(request)


async def test_sites_say_who_asks(start):
    """They are believed, before any credentials."""
    serving = await start()
    serving.port.factory.resource = _Naming(serving, "zoe")
    job = await serving.create(headers=basic("alice"))
    answer = await serving.get(job + "/owner")
    assert (answer.text, answer.headers["x-vo-authenticated"]) == ("zoe", "zoe")
    serving.port.factory.resource.owner = "bob"
    assert (await serving.get(job)).status == 403
    serving.port.factory.resource.owner = None
    assert (await serving.get(job)).status == 401
    assert (await serving.get(job, headers={"X-Key": "zoe"})).status == 200


# What the service says of it


async def methods(serving, **more):
    answer = await serving.get(serving.base + "/capabilities", **more)
    assert answer.status == 200, answer.text
    found = {}
    for capability in valid(answer.content):
        first, *others = capability.iterfind("interface")
        (url,) = first.iterfind("accessURL")
        path = url.text.removeprefix(serving.base)
        ways = [one.get("standardID") for one in first.iterfind("securityMethod")]
        assert (url.get("use"), len(others)) == ("full", path == "/async" and bool(ways))
        for one in others:  # the same for all below it
            assert [u.get("use") for u in one.iterfind("accessURL")] == ["base"]
            assert [m.get("standardID") for m in one.iterfind("securityMethod")] == ways
            assert one.findtext("accessURL") == url.text
        found[path] = ways
    return found, challengesOf(answer)


async def test_capabilities_without_users(start):
    found, challenge = await methods(await start(Access()))
    assert (found["/async"], found["/sync"], challenge) == ([], [], None)


async def test_capabilities_with_some(start):
    """One may log in, or not (X-002)."""
    serving = await start()
    found, challenge = await methods(serving)
    expected = [None, "ivo://ivoa.net/sso#BasicAA"]
    assert found == {
        "/capabilities": [], "/availability": [], "/async": expected, "/sync": expected
    }  # fmt: skip
    assert challenge == BASIC
    found, challenge = await methods(serving, headers=basic("alice"))
    assert (found["/async"], challenge) == (expected, None)


@pytest.mark.parametrize(
    "rules",
    [{"anonymous": Anonymous.NOTHING}, {"admitted": Admitted(users=frozenset({"alice"}))}],
    ids=["nothing", "admitted"],
)
async def test_capabilities_for_users_only(start, rules):
    serving = await start(**rules)
    for method in ("GET", "HEAD"):
        answer = await serving.request(method, serving.base + "/capabilities")
        assert (answer.status, challengesOf(answer)) == (401, BASIC)
    found, _ = await methods(serving, headers=basic("alice"))
    assert found["/async"] == found["/sync"] == ["ivo://ivoa.net/sso#BasicAA"]


@pytest.mark.filterwarnings("ignore::pyvo.utils.xml.exceptions.XMLWarning")
async def test_pyvo_reads_them(start):
    """And finds how to log in where."""
    serving = await start()
    answer = await serving.get(serving.base + "/capabilities")
    session = AuthSession()
    session.update_from_capabilities(parse_capabilities(BytesIO(answer.content)))
    session.credentials.set_password("alice", "ecila")
    job = await serving.create({"label": "x"}, headers=basic("alice"))
    for url in (serving.url, job, job + "/owner", job + "/phase"):
        response = await deferToThread(session.get, url)
        assert (response.status_code, response.headers["x-vo-authenticated"]) == (200, "alice")
    response = await deferToThread(session.post, job + "/phase", data={"PHASE": "ABORT"})
    assert response.status_code == 200
    assert "ABORTED" in response.text


@pytest.mark.filterwarnings("ignore::pyvo.utils.xml.exceptions.XMLWarning")
async def test_pyvo_runs_a_job(start):
    """A whole one, with its own class for jobs, told nothing but who somebody is."""
    serving = await start()

    def run():
        session = AuthSession()
        session.credentials.set_password("alice", "ecila")
        with urlopen(serving.base + "/capabilities", timeout=20) as answer:
            found = BytesIO(answer.read())
        session.update_from_capabilities(parse_capabilities(found))
        made = session.post(serving.url, data={"label": "x"}, allow_redirects=False)
        job = AsyncTAPJob(made.headers["location"], session=session)
        found = [job.owner, job.phase]
        job.abort()
        found.append(job.phase)
        job.delete()
        return found

    assert await deferToThread(run) == ["alice", "PENDING", "ABORTED"]
    gc.collect()  # what pyvo leaves open until then
    await until(
        lambda: not [one for one in serving.reactor.getReaders() if isinstance(one, Server)]
    )


# What other sites have browsers do


async def outcomes(serving, headers):
    """What becomes of each change, and of looking."""
    job = await serving.create(headers=basic("alice"))
    changes = [
        ("POST", serving.url),
        ("GET", serving.base + "/sync"),
        ("POST", serving.base + "/sync"),
        ("PUT", job + "/parameters/label"),
        ("POST", job + "/phase?PHASE=ABORT"),
        ("DELETE", job),
    ]
    found = {(await serving.request(*one, headers=headers)).status for one in changes}
    assert (await serving.get(job, headers=basic("alice"))).status == (
        404 if found == {303} else 200
    )
    assert (await serving.get(headers=headers)).status == 200
    assert (await serving.request("OPTIONS", serving.url, headers=headers)).status == 204
    return found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "OWN"}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": ELSEWHERE}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://other.127.0.0.1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "OWN"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Origin": "OWN"}, 303),
        ({"Origin": ELSEWHERE}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),  # another port
        ({"Origin": "https://127.0.0.1:PORT"}, 403),
    ],
)
async def test_other_sites(start, headers, status):
    serving = await start()
    own = serving.base.removesuffix("/noted")
    headers = {
        k: v.replace("OWN", own).replace("PORT", own.rpartition(":")[2]) for k, v in headers.items()
    }
    assert await outcomes(serving, {**basic("alice"), **headers}) == {status}


async def test_sites_that_may(start):
    serving = await start(web={"origins": frozenset({ELSEWHERE})})
    fromThere = {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
    assert await outcomes(serving, {**basic("alice"), **fromThere}) == {303}
    fromThere["Origin"] += ".other"
    assert await outcomes(serving, {**basic("alice"), **fromThere}) == {403}


async def test_all_sites_may_not(start):
    """That scripts of all sites may use a service does not lend them its users' passwords."""
    serving = await start(web={"origins": frozenset({"*"})})
    fromThere = {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
    assert await outcomes(serving, {**basic("alice"), **fromThere}) == {403}


async def test_behind_a_proxy_own_is_what_browsers_know(start):
    serving = await start(web={"proxies": Proxies(["127.0.0.1"])})
    proxied = {
        **basic("alice"), "X-Forwarded-Proto": "https", "X-Forwarded-Host": "uws.example",
        "X-Forwarded-For": "192.0.2.1",
    }  # fmt: skip
    for origin, status in (("https://uws.example", 303), ("http://uws.example", 403)):
        answer = await serving.post(headers={**proxied, "Origin": origin})
        assert answer.status == status


async def test_what_no_browser_sends_by_itself(start):
    """Nor does it matter where those come from who are nobody in particular."""
    serving = await start(Access(authenticators=(ByKey(),)))
    fromThere = {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
    for headers in ({"X-Key": "alice", **fromThere}, fromThere):
        assert (await serving.post(headers=headers)).status == 303


async def test_unknown_bearers(start):
    """There is nobody here who knows any."""
    serving = await start()
    answer = await serving.get(headers=bearer("twuws_" + "x" * 43))
    assert (answer.status, challengesOf(answer)) == (401, BASIC)


async def test_headers_twice(start):
    """The last counts for all, or none does."""
    serving = await start()
    good, bad = (basic("alice", word)["Authorization"] for word in ("ecila", "wrong"))

    def ask(first, second):
        with socket.create_connection(("127.0.0.1", serving.port.getHost().port)) as s:
            lines = f"Authorization: {first}\r\nAuthorization: {second}\r\n"
            s.sendall(f"GET /noted/async HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            return int(s.recv(100).split()[1])

    assert await deferToThread(ask, good, bad) == 401
    assert await deferToThread(ask, bad, good) == 200
