"""Limits as clients meet them, over HTTP, and as operators set them and look at them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from tests.authenticating import accessFor, basic
from tests.serving import serve
from tests.test_admin import empty as empty
from tests.test_admin import place as place
from tests.working import until
from twuws import config
from twuws.accounts import AccountLimits
from twuws.errors import ConfigError
from twuws.node import NodeSettings
from twuws.policy import Policy, RunLimits
from twuws.proxies import Proxies
from twuws.times import parseInstant
from twuws.web.limits import RequestLimits, Waits
from twuws.web.settings import WebSettings

PROXY = Proxies(["127.0.0.1"])


@pytest.fixture
def begin(database, tmp_path):
    """Begins a service behind a proxy, so that its clients come from anywhere."""
    made = []

    async def begin(name="jobs", spared=(), waits=None, limits=None, more=None, **account):
        settings = WebSettings(
            proxies=PROXY,
            access=accessFor(cleartext=True),
            spared=Proxies(spared),
            waits=Waits(waits),
            limits=RequestLimits(**(limits or {})),
        )
        made.append(
            await serve(
                database,
                tmp_path / name,
                settings=settings,
                accountLimits=AccountLimits(**account),
                **(more or {}),
            )
        )
        return made[-1]

    yield begin
    for serving in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))


def at(address):
    """The headers of what comes from an address, as the proxy tells."""
    return {"X-Forwarded-For": address}


async def statuses(requests):
    found = await DeferredList([Deferred.fromCoroutine(one) for one in requests])
    return [answer.status for _, answer in found]


async def test_each_address_is_an_account(begin):
    """An IPv6 address counts for its network, and one that looks like IPv4 for that."""
    serving = await begin(kept=1)
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"):
        await serving.create(headers=at(address))
    for address in ("192.0.2.1", "::ffff:192.0.2.2", "2001:db8:0:1:ffff::2", "2001:DB8:0:2::"):
        answer = await serving.post(headers=at(address))
        assert answer.status == 403
        assert answer.text == (
            "You have 1 jobs here, and 1 are the most (limits.kept): destroy those that you do"
            " not need any more.\n"
        )
    assert len(list(serving.uws.workDirs.known())) == 4


async def test_an_owner_is_one_account(begin):
    serving = await begin(kept=2)
    alice = basic("alice")
    for address in ("192.0.2.1", "192.0.2.2"):
        await serving.create(headers=at(address) | alice)
    assert (await serving.post(headers=at("192.0.2.3") | alice)).status == 403
    await serving.create(headers=at("192.0.2.1") | basic("bob"))
    await serving.create(headers=at("192.0.2.1"))


async def test_spared(begin):
    """Addresses can have no limits; owners there have."""
    serving = await begin(spared=["192.0.2.0/24"], kept=1, waits=1)
    for _ in range(3):
        await serving.create(headers=at("192.0.2.1"))
    await serving.create(headers=at("192.0.2.1") | basic("alice"))
    assert (await serving.post(headers=at("192.0.2.1") | basic("alice"))).status == 403


async def test_made(begin):
    """At once, by two services on one database: never one more, and when to come again."""
    nodes = [await begin(made=7), await begin("other", made=7)]
    requests = [one.post(headers=at("192.0.2.1")) for one in nodes * 8]
    found = await statuses(requests)
    assert sorted(found) == [303] * 7 + [429] * 9
    answer = await nodes[0].post(headers=at("192.0.2.1"))
    assert re.fullmatch(
        r"You have made 7 jobs in the last minute, and 7 are the most \(limits.made\): go on in"
        r" \d+ s\.\n",
        answer.text,
    )
    assert 50 <= int(answer.headers["retry-after"]) <= 60
    await nodes[0].create(headers=at("192.0.2.2"))


async def test_queued(begin):
    """What cannot be queued is not made, or stays as it was."""
    serving = await begin(queued=1)
    await serving.jobServices.dispatcher.stopService()
    pending = await serving.create(headers=at("192.0.2.1"))
    await serving.create({"PHASE": "RUN"}, headers=at("192.0.2.1"))
    for url, data in (("", {"PHASE": "RUN"}), (pending + "/phase", {"PHASE": "RUN"})):
        answer = await serving.post(url, data, headers=at("192.0.2.1"))
        assert answer.status == 429
        assert "1 jobs in the queue, and 1 are the most (limits.queued)" in answer.text
        assert int(answer.headers["retry-after"]) > 0
    answer = await serving.get(serving.base + "/sync", params={"x": "1"}, headers=at("192.0.2.1"))
    assert answer.status == 429
    assert await serving.phase(pending) == "PENDING"
    assert len(list(serving.uws.workDirs.known())) == 2


async def test_running_per_owner(begin):
    """Those who are anonymous are told apart by their addresses, by all nodes alike."""
    node = NodeSettings(limits=RunLimits(perOwner=1))
    serving = await begin(more={"slots": 4, "node": node})
    jobs = {}
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
        data = {"seconds": "600", "PHASE": "RUN"}
        jobs[await serving.create(data, headers=at(address))] = address

    async def executing():
        phases = {url: await serving.phase(url) for url in jobs}
        return sorted(jobs[url][:9] for url, phase in phases.items() if phase == "EXECUTING")

    while len(found := await executing()) < 3:
        pass
    await until(lambda: serving.jobServices.node.isLimited)
    assert await executing() == found == ["192.0.2.1", "192.0.2.2", "2001:db8:"]
    for url in jobs:
        await serving.post(url + "/phase", {"PHASE": "ABORT"})


async def test_times(begin):
    """Jobs of who is anonymous run and live for shorter, also if they ask for more later."""
    anonymous = Policy(executionDuration=5, longestExecutionDuration=10, longestLifetime=60)
    serving = await begin(more={"policy": Policy(anonymous=anonymous)})
    for headers, durations, lifetime in (
        (at("192.0.2.1"), ("5", "10"), 60),
        (at("192.0.2.1") | basic("alice"), ("3600", "86400"), 31 * 86400),
    ):
        url = await serving.create(headers=headers)
        duration, destruction = f"{url}/executionduration", f"{url}/destruction"
        found = [(await serving.get(duration, headers=headers)).text]
        await serving.post(duration, {"EXECUTIONDURATION": "0"}, headers=headers)
        found.append((await serving.get(duration, headers=headers)).text)
        assert tuple(found) == durations
        late = {"DESTRUCTION": "2999-01-01T00:00:00Z"}
        other = await serving.create(late | {"EXECUTIONDURATION": "99999999"}, headers=headers)
        assert (await serving.get(f"{other}/executionduration", headers=headers)).text == found[1]
        await serving.post(destruction, late, headers=headers)
        for one in (destruction, f"{other}/destruction"):
            told = parseInstant((await serving.get(one, headers=headers)).text)
            assert abs((told - datetime.now(UTC)).total_seconds() - lifetime) < 30


async def test_stored(begin):
    serving = await begin(stored=1000)

    def upload(size):
        return {"files": {"f": ("f", "text/plain", b"x" * size)}, "headers": at("192.0.2.1")}

    first = await serving.create(**upload(600))
    answer = await serving.post(**upload(1001))
    assert (answer.status, "1000 (limits.stored)" in answer.text) == (413, True)
    for url in ("", first + "/parameters"):
        answer = await serving.post(url, **upload(500 if not url else 1100))
        assert answer.status in (403, 413)
        assert "limits.stored" in answer.text
    await serving.post(first + "/parameters", **upload(1000))  # in place of the 600
    answer = await serving.get(first + "/parameters/f")
    assert answer.status == 200
    uploads = serving.uws.workDirs.root / ".uploads"
    await until(lambda: not list(uploads.glob("*")))
    assert len(list(serving.uws.workDirs.known())) == 1


async def test_waits(begin):
    """At most so many wait, with WAIT or at sync; the others are not waited for."""
    serving = await begin(waits=2)
    url = await serving.create(headers=at("192.0.2.1"))
    jobId = url.rpartition("/")[2]
    asked = [
        serving.get(url, params={"WAIT": "20"}, headers=at("192.0.2.1")),
        serving.get(f"{serving.base}/sync/{jobId}", headers=at("192.0.2.1")),
    ]
    waiting = [Deferred.fromCoroutine(one) for one in asked]
    await until(lambda: serving.uws.watcher.waiting() == 2)
    for path in (url + "?WAIT=20", f"{serving.base}/sync/{jobId}"):
        answer = await serving.get(path, headers=at("192.0.2.1"))
        assert answer.status == 429
        assert "2 requests" in answer.text
        assert "limits.waits" in answer.text
        assert answer.headers["retry-after"] == "5"
    assert (await serving.get(url, headers=at("192.0.2.1"))).status == 200
    other = Deferred.fromCoroutine(serving.get(url + "?WAIT=20", headers=at("192.0.2.2")))
    await until(lambda: serving.uws.watcher.waiting() == 3)
    await serving.post(url + "/phase", {"PHASE": "ABORT"}, headers=at("192.0.2.1"))
    assert [(await one).status for one in (*waiting, other)] == [200, 409, 200]
    answer = await serving.get(url + "?WAIT=20", headers=at("192.0.2.1"))
    assert answer.status == 200


@pytest.mark.parametrize("json", [False, True])
async def test_requests(begin, json):
    serving = await begin(
        limits={"parameters": 5, "nameLength": 10, "valueSize": 20, "textSize": 1000}
    )

    async def post(pairs):
        if json:
            return await serving.request("POST", "", json=pairs)
        return await serving.post("", pairs)

    assert (await post({f"a{i}": "x" * 20 for i in range(5)})).status == 303
    for pairs, status, says in (
        ({f"a{i}": "x" for i in range(50)}, 413, "5 values (limits.parameters)"),
        ({"n" * 11: "x"}, 400, "10 characters (limits.name-length)"),
        ({"a": "x" * 21}, 413, "20 (limits.value-size)"),
        ({"a": "x" * 1100}, 413, "(limits.text-size)"),
    ):
        answer = await post(pairs)
        assert (answer.status, says in answer.text) == (status, True), answer.text


async def test_parts(begin):
    serving = await begin(limits={"parameters": 5})
    for number, status in ((5, 303), (6, 413), (60, 413)):
        pairs = {f"a{i}": "x" for i in range(number - 1)}
        answer = await serving.post("", pairs, files={"f": ("f", "text/plain", b"x")})
        assert answer.status == status, answer.text
        assert status == 303 or "limits.parameters" in answer.text


# For operators


def load(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_text(text + '\n[services.a]\ncommand = ["cat"]\n')
    return config.load(str(path)).limits


def test_defaults(tmp_path):
    """They are for a small public service; the examples have the same."""
    limits = load(tmp_path, "")
    assert limits.account == config.load(None).limits.account
    assert None not in vars(limits.account).values()
    assert limits.spared.trusts("127.0.0.1")
    assert limits.spared.trusts(None)
    assert not limits.spared.trusts("192.0.2.1")


def test_what_is_said(tmp_path):
    limits = load(
        tmp_path,
        "[limits]\nmade = 1\nkept = 0\nqueued = 3\nstored = '1 kB'\nwaits = 0\nspared = []\n"
        "parameters = 7\nheader-time = 0\nbody-rate = 0\nsend-time = 0\nconnections = 0\n"
        "connections-per-address = 4",
    )
    assert limits.account == AccountLimits(made=1, kept=None, queued=3, stored=1000)
    assert (limits.waits, limits.request.parameters) == (None, 7)
    assert not limits.spared.trusts("127.0.0.1")
    assert limits.connection.headerTime is limits.connection.bodyRate is None
    assert limits.connection.sendTime is limits.connection.inAll is None
    assert limits.connection.perAddress == 4


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError) as e:
        load(
            tmp_path,
            "[limits]\nmade = -1\nstored = 'much'\nspared = ['x']\nheaders = 0\nidle-time = 0\n"
            "body-rate = false",
        )
    assert len(e.value.mistakes) == 6
    for key in ("made", "stored", "spared", "headers", "idle-time", "body-rate"):
        assert f"[limits] {key}:" in str(e.value)


@pytest.mark.slow
def test_command(place):
    for service in ("sleep", "sleep", "digest"):
        results = [{"id": "a", "file": "a", "size": 1024}]
        place.job(service, owner="anna", results=results)
    place.job("sleep", phase="QUEUED", owner="anna")
    place.job("sleep", phase="ARCHIVED", owner="anna")
    place.query("INSERT INTO made_lately VALUES ('=anna', now())")
    out = place("limits", "anna")[0]
    lines = [re.split("  +", line) for line in out.splitlines()]
    assert lines == [
        ["limit", "now", "most", "services"],
        ["made", "1", "600", "-"],
        ["kept", "4", "5000", "digest 1, sleep 3"],
        ["queued", "1", "1000", "digest 0, sleep 1"],
        ["stored", "3 KiB", "100 GiB", "digest 1 KiB, sleep 2 KiB"],
        ["running-per-owner", "0", "any", "digest 0, sleep 0"],
    ]
    found = place.json("limits", "anna")
    assert found["limits"][1] == {
        "limit": "kept", "now": 4, "most": 5000, "services": {"digest": 1, "sleep": 3},
    }  # fmt: skip


@pytest.mark.slow
def test_command_for_an_address(place):
    (row,) = place.query("SELECT client_of('192.0.2.1') AS one")
    (other,) = place.query("SELECT client_of('2001:db8::/64') AS one")
    place.job(client=row["one"])
    place.job(client=other["one"])
    for address, account in (("192.0.2.1", "192.0.2.1"), ("2001:db8::7", "2001:db8::/64")):
        found = place.json("limits", "--address", address)
        assert (found["owner"], found["address"]) == (None, account)
        kept = next(one for one in found["limits"] if one["limit"] == "kept")
        assert (kept["now"], kept["most"]) == (1, 5000)
        assert found["limits"][-1]["limit"] == "running-per-owner"
    spared = place.json("limits", "--address", "127.0.0.1")
    assert {one["most"] for one in spared["limits"]} == {None}
    assert "no address" in place.refuses("limits", "--address", "here")
    assert "either" in place.refuses("limits")
    assert "either" in place.refuses("limits", "anna", "--address", "192.0.2.1")
