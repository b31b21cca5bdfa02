"""Reading the configuration: all that is right, and all mistakes at once."""

from __future__ import annotations

import pytest

from twuws import config
from twuws.errors import ConfigError
from twuws.examples.messier import Messier
from twuws.parameters import Document, File, Real
from twuws.policy import Policy

GOOD = """
listen = "tcp:8081:interface=127.0.0.1"
database = "postgresql://me@db/uws"
data-dir = "/data/uws"
public-url = "https://example.org/uws"
slots = 7
default-duration = 60
longest-duration = 600
default-lifetime = 3600
longest-lifetime = 7200
cleanup-interval = 5.5
longest-wait = 7
maximum-body = 1000000

[services.one]
class = "twuws.examples.messier.Messier"
limits = {memory = "2 GiB", cpu = 60, file-size = "1.5 MB", output = 1000, grace = 0.5}
environment = {HOME = "/x"}

[services.two]
title = "Cut"
command = ["cat", ["--from", "{low}"], "{image}"]
stdin = "{image}"
restartable = true
check-at-run = true
cost-depends-on = ["image", "low"]
[services.two.parameters]
image = {type = "File", required = true, description = "the image"}
how-to = {type = "Document"}
low = {type = "Real", minimum = 0, maximum = 10, default = 1, unit = "deg", ucd = "pos"}
how = {type = "Choice", choices = ["a", "b"], multiple = true, default = "b"}
when = {type = "Instant", minimum = 2015-01-01T00:00:00Z}
yes = {type = "Boolean", default = true}
[services.two.results."out.txt"]
type = "text/plain"
stream = "stdout"
[services.two.results.extra]
file = "extra.fits"
optional = true
"""


PROGRAM = '[services.a]\ncommand = ["cat"]\n'


@pytest.fixture
def load(tmp_path):
    def load(text, **given):
        path = tmp_path / "uws.toml"
        path.write_text(text)
        return config.load(str(path), given)

    return load


def test_everything(load):
    c = load(GOOD)
    assert (c.listen, c.database) == ("tcp:8081:interface=127.0.0.1", "postgresql://me@db/uws")
    assert (str(c.dataDir), c.web.publicURL, c.slots) == ("/data/uws", "https://example.org/uws", 7)
    assert c.longestWait == 7
    assert (c.cleanupInterval, c.web.maximumBody) == (5.5, 1000000)
    assert c.policy == Policy(
        executionDuration=60, longestExecutionDuration=600, lifetime=3600, longestLifetime=7200
    )
    one, two = c.services
    assert (one.name, one.jobClass, one.environment) == ("one", Messier, {"HOME": "/x"})
    assert (one.limits.memory, one.limits.cpu, one.limits.fileSize) == (2 << 30, 60, 1_500_000)
    assert (one.limits.output, one.limits.grace) == (1000, 0.5)
    cut = two.jobClass
    assert (cut.title, cut.restartable, cut.stdin) == ("Cut", True, "{image}")
    assert cut.command == ("cat", ("--from", "{low}"), "{image}")
    assert cut.valuesAreCheckedAtRun is True
    assert cut.costDependsOn == ("image", "low")
    assert isinstance(cut.image, File)
    assert isinstance(cut.declarations["how-to"], Document)
    assert isinstance(cut.low, Real)
    assert (cut.low.default, cut.low.unit, cut.low.ucd) == (1.0, "deg", "pos")
    assert (cut.how.choices, cut.how.multiple, cut.how.default) == (("a", "b"), True, "b")
    assert cut.yes.default is True
    assert [r["id"] for r in cut.programResults] == ["out.txt", "extra"]


ANYTHING = 'command = ["true"]\n'


def test_times_of_a_service_and_of_who_is_anonymous(load):
    """The nearest to the service and the caller counts, and nobody anonymous has more."""
    c = load(
        "default-duration = 50\nlongest-duration = 100\nlongest-lifetime = 9000\n"
        "[anonymous]\nlongest-duration = 30\ndefault-lifetime = 60\n"
        f"[services.a]\n{ANYTHING}"
        f"[services.b]\nlongest-duration = 20\ndefault-lifetime = 70\n{ANYTHING}"
        f"[services.c]\nlongest-duration = 0\n{ANYTHING}"
        "[services.c.anonymous]\nlongest-duration = 0\nlongest-lifetime = 10000\n"
        "default-duration = 7\n"
    )
    assert c.policy.lifetime == 9000
    found = {}
    for one in c.services:
        for who, policy in (("anna", one.policy.of("anna")), (None, one.policy.of(None))):
            found[one.name, who] = (
                policy.duration(None), policy.duration(0), policy.lifetime, policy.longestLifetime,
            )  # fmt: skip
    assert found == {
        ("a", "anna"): (50, 100, 9000, 9000),
        ("a", None): (30, 30, 60, 9000),
        ("b", "anna"): (20, 20, 70, 9000),
        ("b", None): (20, 20, 60, 9000),
        ("c", "anna"): (50, 0, 9000, 9000),
        ("c", None): (7, 0, 60, 9000),
    }


def test_times_are_the_same_for_all_if_nothing_is_said(load):
    c = load(f"[services.a]\n{ANYTHING}", **{"longest-duration": 7})
    assert c.services[0].policy == c.policy
    assert c.policy.of(None) is c.policy
    assert c.policy.longestExecutionDuration == 7


def test_mistakes_in_times(load):
    with pytest.raises(ConfigError) as e:
        load(
            "[anonymous]\nlongest-duration = -1\nlongest-lifetime = 0\narchive = 7\n"
            f"[services.a]\nlongest-duration = 99999999999\n{ANYTHING}"
            "[services.a.anonymous]\ndefault-lifetime = 99999999999\nrunning = 7\n"
        )
    told = [one.partition(": ")[2].partition(": ")[0] for one in e.value.mistakes]
    assert sorted(told) == [
        "[anonymous] archive", "[anonymous] longest-duration", "[anonymous] longest-lifetime",
        "[services.a.anonymous] default-lifetime", "[services.a.anonymous] running",
        "[services.a] longest-duration",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ['["low", "hihg"]', '"low"', "[1]"])
def test_cost_depends_on_parameters(load, value):
    """Names that no parameter has are mistakes, told with those that there are."""
    wanted = r"names of parameters \(high, low\), found 'hihg'" if "hihg" in value else "a list"
    with pytest.raises(ConfigError, match=f"cost-depends-on: expected {wanted}"):
        load(PROGRAM + f"cost-depends-on = {value}\n"
             "[services.a.parameters]\nlow = {type = 'Real'}\nhigh = {type = 'Real'}")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ('"10 GB"', 10**10), ('"1.5 MiB"', 3 * 2**19)]
)
def test_size_of_bodies(load, text, size):
    assert load(f"maximum-body = {text}\n{PROGRAM}").web.maximumBody == size
    with pytest.raises(ConfigError, match="maximum-body: expected a number of bytes"):
        load(f"maximum-body = 0\n{PROGRAM}")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("archive = 99999999999999", "archive"),
        ("longest-lifetime = 99999999999999", "longest-lifetime"),
        ("cleanup-interval = nan", "cleanup-interval"),
        ('public-url = "http://"', "public-url"),
        ('public-url = "https://a b"', "public-url"),
        ('public-url = "https://a.example/x?y=1"', "public-url"),
        ('metrics = "9100"', "metrics"),
        ('on-stop = "stay"', "on-stop"),
        ("lease = 2", "lease"),
        ("[fetch]\ntimeout = inf", "timeout"),
        ("[http]\nsync-timeout = 1e18", "sync-timeout"),
        ('[http]\nproxies = ["10.0.0.1/8"]', "proxies"),
        *[
            (f'[http]\norigins = ["{origin}"]', "origins")
            for origin in (
                "https://Example.org", "https://a.example:443", "http://a.example:80", "a.example",
                "https://*.a.example", "https://u@a.example", "https://a.example/",
            )
        ],
    ],
)  # fmt: skip
def test_valuesThatWouldDoHarm(load, text, key):
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        load(f"{text}\n{PROGRAM}")


def test_http(load):
    text = '[http]\norigins = ["https://a.example", "http://b:8080"]\nproxies = ["10.0.0.0/8"]\n'
    web = load(text + PROGRAM).web
    assert web.origins == {"https://a.example", "http://b:8080"}
    assert web.proxies.trusts("10.1.1.1")


def test_command_line_wins(load):
    c = load(GOOD, slots="3", listen="tcp:1", database=None)
    assert (c.slots, c.listen, c.database) == (3, "tcp:1", "postgresql://me@db/uws")


def test_examples():
    c = config.load(None)
    assert [s.name for s in c.services] == ["messier", "digest", "sleep"]
    assert not any(s.jobClass.valuesAreCheckedAtRun for s in c.services)
    assert c.web.maximumBody == 4 * 2**30
    assert (c.listen, c.database, c.slots) == ("tcp:8080:interface=127.0.0.1", None, 2)


def test_class_beside_the_file(load, tmp_path):
    (tmp_path / "besides.py").write_text(
        "from twuws import UWSJob\nclass J(UWSJob):\n    def run(self): pass\n"
        "class NoRun(UWSJob): pass\n"
    )
    c = load('[services.j]\nclass = "besides.J"\n')
    assert c.services[0].jobClass.__name__ == "J"
    with pytest.raises(ConfigError, match=r"run\(\)"):
        load('[services.j]\nclass = "besides.NoRun"\n')


def test_all_mistakes_at_once(load):
    with pytest.raises(ConfigError) as caught:
        load(
            """
slots = -1
frobnicate = 1
listen = "foo"
database = "mysql://x"
public-url = "example.org"
default-duration = "long"
[services.Bad_Name]
command = []
[services.both]
class = "a.b"
command = ["x"]
[services.neither]
[services.imports]
class = "nosuch.Class"
[services.wrong]
class = "pathlib.Path"
[services.program]
command = ["no-such-program", "{unknown}", "{bad", 3]
typo = 1
[services.program.parameters.a]
type = "Integr"
[services.program.parameters.b]
type = "Integer"
minimun = 3
default = "x"
[services.program.parameters.PHASE]
type = "Text"
[services.program.parameters.jobId]
type = "Text"
[services.program.parameters.C]
type = "Text"
[services.program.parameters.c]
type = "Text"
[services.program.parameters.d]
type = "Real"
minimum = 5
maximum = 3
[services.program.results."../x"]
stream = "stdin"
[services.program.limits]
memory = "much"
""",
            slots="x",
        )
    text = str(caught.value)
    for expected in (
        "uws.toml: slots: expected a whole number, 0 or more, found -1",
        "command line: --slots: expected a whole number, 0 or more, found 'x'",
        "uws.toml: frobnicate:",
        "uws.toml: listen: expected a Twisted endpoint",
        "uws.toml: database: expected a URL",
        "uws.toml: public-url: expected a URL",
        "uws.toml: default-duration: expected a whole number",
        "[services.Bad_Name]",
        "[services.both] command: expected either class or command",
        "[services.neither] class:",
        "[services.imports] class: expected a class to import, found 'nosuch.Class'",
        "[services.wrong] class: expected a subclass of twuws.UWSJob",
        "[services.program] command: expected texts",
        "[services.program] typo:",
        "[services.program.parameters.a] type: expected one of Integer,",
        "[services.program.parameters.b] minimun: this key means nothing here; did you mean",
        "[services.program.parameters.b] default:",
        "[services.program.parameters.PHASE] UWS gives this name another meaning",
        "[services.program.parameters.jobId] this name is one of UWSJob itself",
        "[services.program.parameters.c] expected names that differ in more than case, found C, c",
        "[services.program.parameters.d] maximum: expected at least the minimum, 5, found 3",
        "[services.program.results.../x] file: expected a file name",
        "[services.program.results.../x] stream: expected stdout or stderr",
        "[services.program.limits] memory: expected a number of bytes",
    ):
        assert expected in text, expected
    assert all(
        "uws.toml: " in line or line.startswith("command line: ") for line in text.split("\n")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "services: expected at least one table"),
        ("services = 3", "expected a table"),
        ("a = ", "it is not TOML"),
        ('listen = "ssl:1:privateKey=/none.pem"', "found 'ssl:1:privateKey=/none.pem' (No such"),
        ('[services.a]\ncommand = ["sh", "{}"]', "command:"),
        ('[services.a]\ncommand = ["no-such-program"]', "expected a program that is there"),
        ('[services.a]\ncommand = ["sh", "{x}"]', "found 'x'"),
        ('[services.a]\ncommand = ["sh"]\nparameters = {phase = {type = "Text"}}', "phase"),
        ('[services.a]\ncommand = ["sh"]\nparameters = {x = {type = "Choice"}}', "choices"),
        ('[services.a]\ncommand = ["sh"]\nstdin = "{y}"', "stdin:"),
    ],
)
def test_single_mistakes(load, text, expected):
    with pytest.raises(ConfigError, match=r"(?s).*") as caught:
        load(text)
    assert expected in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(str(tmp_path / "binary.toml"))
