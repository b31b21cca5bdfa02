"""What a service says of itself: C{capabilities} and C{availability} (VOSI 1.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
import pytest_twisted
from lxml import etree
from pyvo.io.vosi import parse_availability, parse_capabilities
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.web.http import stringToDatetime
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.serving import Noted, Serving, serve, within
from twuws import parameters as p
from twuws.chore import Chore
from twuws.database import Database
from twuws.dispatcher import Dispatcher
from twuws.jobs import UWSJob
from twuws.proxies import Proxies
from twuws.times import parseInstant
from twuws.uws import UWS
from twuws.web.settings import WebSettings
from twuws.web.vosi import VOSI

PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "xsd"
CAPABILITIES = "{http://www.ivoa.net/xml/VOSICapabilities/v1.0}"
AVAILABILITY = "{http://www.ivoa.net/xml/VOSIAvailability/v1.0}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
STD = "ivo://ivoa.net/std/"

_ALL = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:import namespace="http://www.ivoa.net/xml/VOSICapabilities/v1.0"
           schemaLocation="{0}/VOSICapabilities.xsd"/>
<xs:import namespace="http://www.ivoa.net/xml/VODataService/v1.1"
           schemaLocation="{0}/VODataService.xsd"/>
<xs:import namespace="http://www.ivoa.net/xml/VOSIAvailability/v1.0"
           schemaLocation="{0}/VOSIAvailability.xsd"/></xs:schema>"""


class Everything(UWSJob):
    """A parameter of each type."""

    size = p.Real(
        required=True, unit="deg", ucd="pos.angDistance", minimum=0, description="so <far>"
    )
    number = p.Integer(required=True, default=3)
    word = p.Text()
    colour = p.Choice(choices=["red", "blue"], multiple=True)
    quick = p.Boolean()
    when = p.Instant()
    band = p.Interval(unit="m")
    image = p.File(required=True, description="an image")

    async def run(self):
        pass


@cache
def _schema():
    if not PUBLISHED.is_dir():
        return None
    return etree.XMLSchema(etree.fromstring(_ALL.format(PUBLISHED.as_uri())))


def valid(data):
    """Fail unless it is a document that the published schemas allow; its document element."""
    assert data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>'), data[:60]
    root = etree.fromstring(data)
    if _schema() is not None:
        assert _schema().validate(root), f"{_schema().error_log}\n{data.decode()}"
    return root


@pytest.fixture
def start(database, tmp_path):
    """Start a service: its job class, its slots, its settings."""
    begun = []

    async def begin(jobClass=Noted, slots=2, **settings):
        begun.append(await serve(database, tmp_path, jobClass, slots, WebSettings(**settings)))
        return begun[-1]

    yield begin
    for one in begun:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


# Capabilities


async def capabilities(serving, **more):
    answer = await serving.get(serving.base + "/capabilities", **more)
    assert answer.status == 200, answer.text
    root = valid(answer.content)
    assert root.tag == CAPABILITIES + "capabilities"
    return root


async def test_capabilities(serving):
    root = await capabilities(serving)
    found = {}
    for one in root:
        assert one.tag == "capability"  # unqualified
        (interface,) = one.iterfind("interface")
        assert interface.get(XSI + "type") == "vs:ParamHTTP"
        assert root.nsmap["vs"] == "http://www.ivoa.net/xml/VODataService/v1.1"
        (url,) = interface.iterfind("accessURL")
        assert url.get("use") == "full"
        assert interface.get("role") == ("std" if one.get("standardID") else None)
        found[one.get("standardID")] = url.text
    assert found == {
        STD + "VOSI#capabilities": serving.base + "/capabilities",
        STD + "VOSI#availability": serving.base + "/availability",
        STD + "UWS#rest-1.1": serving.url,
        None: serving.base + "/sync",
    }
    for standard, url in found.items():
        assert (await serving.get(url)).status == (200 if standard else 303)


async def test_parameters(start):
    serving = await start(Everything)
    root = await capabilities(serving)
    described = {
        one.get("standardID"): [
            (
                param.get("use"),
                *(param.findtext(name) for name in ("name", "unit", "ucd", "dataType")),
            )
            for param in one.iterfind("interface/param")
        ]
        for one in root
    }
    assert described[None] == [
        ("required", "size", "deg", "pos.angDistance", "double"),
        ("optional", "number", None, None, "long"),
        ("optional", "word", None, None, "char"),
        ("optional", "colour", None, None, "char"),
        ("optional", "quick", None, None, "boolean"),
        ("optional", "when", None, None, "char"),
        ("optional", "band", "m", None, "double"),
        ("required", "image", None, None, None),
    ]
    del described[None]
    assert not any(described.values())
    (size,) = root.xpath("capability[not(@standardID)]//param[name = 'size']")
    assert size.get("std") == "false"
    assert size.findtext("description") == "so <far> (a number of at least 0 deg)"
    (when,) = root.xpath("capability[not(@standardID)]//param[name = 'when']/dataType")
    assert (when.get("arraysize"), when.get("extendedType")) == ("*", "timestamp")


@pytest.mark.filterwarnings("ignore::pyvo.utils.xml.exceptions.UnknownElementWarning")
async def test_pyvo_reads_them(start):
    """Of parameters it knows nothing, and warns."""
    serving = await start(Everything)
    answer = await serving.get(serving.base + "/capabilities")
    found = {one.standardid: one for one in parse_capabilities(BytesIO(answer.content))}
    (interface,) = found[STD + "UWS#rest-1.1"].interfaces
    assert interface.accessurls[0].content == serving.url
    (interface,) = found[None].interfaces
    assert interface.accessurls[0].content == serving.base + "/sync"
    await serving.jobServices.node.beat()
    answer = await serving.get(serving.base + "/availability")
    assert parse_availability(BytesIO(answer.content)).available


async def test_behind_a_proxy(start):
    serving = await start(proxies=Proxies(["127.0.0.1"]))
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "x.org", "X-Forwarded-Prefix": "/u"}
    urls = (await capabilities(serving, headers=told)).iterfind(".//accessURL")
    assert {url.text.rpartition("/")[0] for url in urls} == {"https://x.org/u/noted"}


async def test_when_they_were_modified(serving):
    where = serving.base + "/capabilities"
    answers = [await serving.request(method, where) for method in ("GET", "HEAD")]
    (modified,) = {one.headers["last-modified"] for one in answers}
    began = stringToDatetime(modified.encode())
    assert 0 <= datetime.now(UTC).timestamp() - began < 60
    assert answers[1].content == b""
    assert answers[1].headers["content-length"] == str(len(answers[0].content))

    async def status(**conditions):
        headers = {name.replace("_", "-"): value for name, value in conditions.items()}
        return (await serving.get(where, headers=headers)).status

    assert await status(if_modified_since=modified) == 304
    assert await status(if_modified_since="Mon, 01 Jan 2001 00:00:00 GMT") == 200
    for none in (";", "yesterday", "a;b", "Sun, 06-Nov", "Sun, 06 Sun 1994 08:49:37 GMT", "\xff"):
        assert await status(if_modified_since=none) == 200, none
    assert await status(if_none_match=answers[0].headers["etag"]) == 304
    assert await status(if_none_match='"other"', if_modified_since=modified) == 200


# Availability


async def availability(serving):
    """Whether it is, and the notes."""
    answer = await within(8, Deferred.fromCoroutine(serving.get(serving.base + "/availability")))
    assert answer.status == 200, answer.text
    assert "no-cache" in answer.headers["cache-control"]
    root = valid(answer.content)
    assert root.tag == AVAILABILITY + "availability"
    assert [one.tag for one in root][:2] == [AVAILABILITY + "available", AVAILABILITY + "upSince"]
    since = parseInstant(root.findtext(AVAILABILITY + "upSince"))
    assert timedelta(0) <= datetime.now(UTC) - since < timedelta(minutes=1)
    notes = [note.text for note in root.iterfind(AVAILABILITY + "note")]
    return root.findtext(AVAILABILITY + "available"), notes


NO_NODE = ("false", ["No node runs jobs now: they wait."])
NO_DATABASE = ("false", ["The database cannot be reached."])


async def quieten(serving):
    """End all that writes to the table of nodes, or reads it."""
    for chore in serving.jobServices:
        if isinstance(chore, Chore | Dispatcher):
            await chore.stopService()


async def test_available(serving):
    await serving.jobServices.node.beat()  # the first one may still be on its way
    assert await availability(serving) == ("true", [])


async def test_no_slots(start):
    assert await availability(await start(slots=0)) == NO_NODE


@pytest.mark.parametrize(
    "what",
    [
        "DELETE FROM nodes",
        "UPDATE nodes SET pid = 0",
        "UPDATE nodes SET services = '{other}'",
        "UPDATE nodes SET heartbeat = now() - interval '1 min'",
        "UPDATE nodes SET lease_ends = now() - interval '1 s'",
    ],
)
async def test_no_node(serving, what):
    """Nobody is there, or has left, or says nothing any more."""
    await quieten(serving)
    await serving.uws.database.query(what)
    assert await availability(serving) == NO_NODE
    await serving.jobServices.node.beat()
    await serving.uws.database.query("UPDATE nodes SET heartbeat = now(), services = '{noted}'")
    assert await availability(serving) == ("true", [])


async def test_another_node(start):
    """It need not be this process that runs the jobs."""
    serving = await start(slots=0)
    await (await start()).jobServices.node.beat()
    assert await availability(serving) == ("true", [])


async def test_stopping(serving):
    await serving.jobServices.stopService()
    available, notes = await availability(serving)
    assert available == "false"
    assert notes[0] == "The service is starting or stopping."


async def test_no_tables(serving, loggedErrors):
    """What the log has in full is told without a word of SQL."""
    await quieten(serving)
    await serving.uws.database.query("ALTER TABLE nodes RENAME TO others")
    assert await availability(serving) == ("false", ["The database cannot be read."])
    await serving.uws.database.query("ALTER TABLE others RENAME TO nodes")
    assert "nodes" in str(loggedErrors.pop().value)


class Silent(Protocol):
    """Takes connections, and says nothing."""

    def connectionMade(self):
        self.factory.taken.append(self.transport)


@pytest.fixture(params=["silent", "refused"])
def withoutDatabase(request, tmp_path):
    """A service that cannot reach its database, in one way or another."""
    from twisted.internet import reactor

    from twuws.web.resource import UWSResource

    factory = Factory.forProtocol(Silent)
    factory.taken = []
    server = reactor.listenTCP(0, factory, interface="127.0.0.1")
    number = server.getHost().port
    if request.param == "refused":
        pytest_twisted.blockon(server.stopListening())
    database = Database(f"postgresql://nobody@127.0.0.1:{number}/nothing", size=2)
    uws = UWS(Noted, database=database, directory=tmp_path)
    uws.watcher.startService()
    root = Resource()
    root.putChild(b"noted", UWSResource(uws))
    site = Site(root, parsePOSTFormSubmission=False)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    yield Serving(uws, None, port)
    pytest_twisted.blockon(port.stopListening())
    pytest_twisted.blockon(maybeDeferred(server.stopListening))
    for transport in factory.taken:
        transport.abortConnection()
    pytest_twisted.blockon(uws.watcher.stopService())
    pytest_twisted.blockon(Deferred.fromCoroutine(database.stopService()))


async def test_no_database(withoutDatabase, monkeypatch):
    """That is told soon, whatever the database does."""
    monkeypatch.setattr(VOSI, "patience", 0.5)
    assert await availability(withoutDatabase) == NO_DATABASE


@pytest.mark.parametrize("withoutDatabase", ["refused"], indirect=True)
async def test_nothing_else_without_database(withoutDatabase):
    """All that needs it says when to try again, and neither where it is nor what was asked."""
    url, jobId = withoutDatabase.url, "0" * 32
    asked = [
        ("GET", url, {}),
        ("GET", url + "?LAST=1", {}),
        ("HEAD", url, {}),
        ("POST", url, {"data": {"x": "1"}}),
        ("POST", url, {"files": {"f": ("f", BytesIO(b"content"))}}),
        ("POST", f"{withoutDatabase.base}/sync", {"data": {"x": "1"}}),
        ("GET", f"{withoutDatabase.base}/sync/{jobId}", {}),
        ("GET", f"{url}/{jobId}", {}),
        ("GET", f"{url}/{jobId}?WAIT=30", {}),
        ("DELETE", f"{url}/{jobId}", {}),
        ("POST", f"{url}/{jobId}/phase", {"data": {"PHASE": "ABORT"}}),
        ("PUT", f"{url}/{jobId}/parameters/x", {"data": b"1"}),
        *(("GET", f"{url}/{jobId}/{name}", {}) for name in ("phase", "results", "results/r")),
    ]
    asking = [
        Deferred.fromCoroutine(withoutDatabase.request(method, where, **more))
        for method, where, more in asked
    ]
    for (method, where, _), one in zip(asked, asking, strict=True):
        answer = await within(20, one)
        assert (answer.status, where) == (503, where)
        assert int(answer.headers["retry-after"]) > 0
        if method != "HEAD":
            assert answer.text.startswith("The database cannot be reached")
        assert not [word for word in ("postgresql", "SELECT", "nobody") if word in answer.text]


async def test_more_than_it_can(serving):
    """Who comes when all connections are taken is told that, and no untruth of the database."""
    database = serving.uws.database
    database.patience = 0.2
    held = [await database.borrow() for _ in range(database.size)]
    try:
        answer = await serving.request("GET", serving.url)
    finally:
        for connection in held:
            database.giveBack(connection)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.text.startswith("The service is asked for more at the moment than it can do")


def test_patience():
    assert 1 <= VOSI.patience <= 5


# Both


@pytest.mark.parametrize("name", ["capabilities", "availability"])
async def test_methods(serving, name):
    where = f"{serving.base}/{name}"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await serving.request(method, where)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await serving.request("OPTIONS", where)).status == 204
    head = await serving.request("HEAD", where)
    assert (head.status, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/xml; charset=utf-8"
    assert (await serving.get(where + "/")).status == 200
    assert (await serving.get(where + "/more")).status == 404


@pytest.mark.parametrize("name", ["capabilities", "availability"])
async def test_media_types(serving, name):
    where = f"{serving.base}/{name}"
    answer = await serving.get(where, headers={"Accept": "application/xml"})
    assert answer.headers["content-type"] == "application/xml; charset=utf-8"
    assert (await serving.get(where, headers={"Accept": "image/png"})).status == 406
