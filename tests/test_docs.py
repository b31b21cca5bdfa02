"""
docs/configuration.rst and README.rst name all keys and options, and none that is not there.

The keys are asked of twuws itself: a key that means nothing is answered with those that do.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from docutils.core import publish_string

from twuws import config
from twuws.errors import ConfigError
from twuws.options import OPTIONS
from twuws.parameters import TYPES
from twuws.tokens import TokenRules

ROOT = Path(__file__).parent.parent
NO_KEY = "qqqqqqqqqqqq"
PROGRAM = '[services.a]\ncommand = ["cat"]\n'


def documented(title, number=0, page="docs/configuration.rst"):
    """The keys in the first column of a section's table: the first one, or a later one."""
    text = (ROOT / page).read_text()
    section = re.search(rf"\n{title}\n-+\n(.*?)(?=\n\S[^\n]*\n---|\Z)", text, re.DOTALL)
    tables = re.findall(r"^=+ =[= ]*\nkey .*?\n=[= ]+\n(.*?)\n=[= ]+$", section[1], re.M | re.S)
    return re.findall(r"^``([^`]+)``", tables[number], re.MULTILINE)


def known(tmp_path, text, table=""):
    """The keys that twuws knows in the table that the text ends with."""
    path = tmp_path / "a.toml"
    path.write_text(text.replace("NO_KEY", f"{NO_KEY} = 1"))
    with pytest.raises(ConfigError) as e:
        config.load(str(path))
    where = rf" \[{re.escape(table)}\]" if table else ""
    listed = re.search(rf":{where} {NO_KEY}: this key means nothing here; (.*)", str(e.value))
    assert listed, e.value
    return set(listed[1].split(", "))


@pytest.mark.parametrize("path", [*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst")], ids=str)
def test_well_formed(path):
    """What a page looks like is what its author meant."""
    settings = {"report_level": 2, "halt_level": 2, "input_encoding": "utf-8"}
    publish_string(path.read_bytes(), str(path), writer="null", settings_overrides=settings)


def test_process(tmp_path):
    assert known(tmp_path, "NO_KEY\n" + PROGRAM) == {
        *documented("The process"),
        *("services", "http", "fetch", "auth", "limits"),
    }


def test_http(tmp_path):
    assert known(tmp_path, PROGRAM + "[http]\nNO_KEY", "http") == set(documented("HTTP"))


@pytest.mark.parametrize(
    ("table", "number"), [("auth", 0), ("auth.passwords", 1), ("auth.tokens", 2)]
)
def test_users(tmp_path, table, number):
    found = known(tmp_path, PROGRAM + f"[{table}]\nNO_KEY", table)
    assert found == set(documented("Users", number))


def test_lifetimes():
    text = (ROOT / "docs/configuration.rst").read_text()
    rules = TokenRules()
    for name, value in (("lifetime", rules.lifetime), ("login-lifetime", rules.loginLifetime)):
        assert re.search(rf"^``{name}`` +{value} ", text, re.MULTILINE)


def test_fetch(tmp_path):
    title = "Uploads from URLs"
    assert known(tmp_path, PROGRAM + "[fetch]\nNO_KEY", "fetch") == set(documented(title))


@pytest.mark.parametrize(
    ("table", "title"),
    [
        ("oidc", "Tokens of OpenID Connect"),
        ("proxy", "A header that a proxy sets"),
        ("certificates", "Certificates"),
    ],
)
def test_logins(tmp_path, table, title):
    text = PROGRAM + f"[auth.{table}]\nNO_KEY"
    expected = documented(title, page="docs/logins.rst")
    assert known(tmp_path, text, f"auth.{table}") == set(expected)


def test_client_limits(tmp_path):
    title = "What clients can have"
    assert known(tmp_path, PROGRAM + "[limits]\nNO_KEY", "limits") == set(documented(title))


def test_options_come_first():
    assert set(documented("The process")[: len(OPTIONS)]) == set(OPTIONS)


def test_defaults():
    """What the page says of a default is what it is."""
    text = (ROOT / "docs/configuration.rst").read_text()
    for name, (_, default, _) in OPTIONS.items():
        row = re.search(rf"^``{name}`` +(.*?)  ", text, re.MULTILINE)[1].strip('"')
        if default is None:
            assert row in ("one of its own", "what a request says", "nowhere")
        else:
            assert str(default).startswith(row.removesuffix("..."))


def test_service(tmp_path):
    either, forPrograms = documented("A service"), documented("A service", 1)
    text = '[services.a]\nclass = "twuws.examples.messier.Messier"\nNO_KEY'
    assert known(tmp_path, text, "services.a") - set(forPrograms) == set(either)
    both = set(either) | set(forPrograms)
    assert known(tmp_path, PROGRAM + "NO_KEY", "services.a") == both


def test_limits(tmp_path):
    text = PROGRAM + "[services.a.limits]\nNO_KEY"
    assert known(tmp_path, text, "services.a.limits") == set(documented("Limits"))


@pytest.mark.parametrize("kind", TYPES)
def test_parameters(tmp_path, kind):
    table = "services.a.parameters.x"
    found = known(tmp_path, PROGRAM + f'[{table}]\ntype = "{kind}"\nNO_KEY', table)
    every, some = set(documented("Parameters")), set(documented("Parameters", 1))
    assert found - some == every
    text = (ROOT / "docs/configuration.rst").read_text()
    for key in some:
        row = re.search(rf"^``{key}`` (.*(?:\n  .*)*)", text, re.MULTILINE)[1]
        assert (key in found) == (f"``{kind}``" in row), key
    readme = re.search(rf"^``{kind}`` .*", (ROOT / "README.rst").read_text(), re.MULTILINE)[0]
    assert set(re.findall("``(m[a-zA-Z]+|pattern|choices|formats)``", readme)) == found & some


def test_results(tmp_path):
    table = "services.a.results.x"
    assert known(tmp_path, PROGRAM + f"[{table}]\nNO_KEY", table) == set(documented("Results"))


def test_options_in_readme():
    text = (ROOT / "README.rst").read_text()
    section = text.split("Options of ``twistd uws``")[1].split("Where things are")[0]
    rows = re.findall(r"^(?:``-c``, )?``--([a-z-]+)=``", section, re.MULTILINE)
    assert set(rows) == {"config", *OPTIONS}


def test_public_names_are_documented():
    """What can be imported from twuws is in the pages for those who do."""
    import twuws

    text = "".join((ROOT / name).read_text() for name in ("README.rst", "docs/embedding.rst"))
    assert [name for name in twuws.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_commands_in_readme():
    """The table of the twuws command has all that the command has."""
    shown = subprocess.run(
        [sys.executable, "-m", "twuws.admin", "--help"], capture_output=True, text=True, check=True
    ).stdout
    listed = re.findall(r"^    (\w+) +\S", shown.split("  COMMAND\n")[1], re.MULTILINE)
    section = (ROOT / "README.rst").read_text().split("The ``twuws`` command\n")[1]
    table = section.split("=====\n", 1)[1].split("\n=====")[0]
    assert re.findall(r"^``(\w+)`` ", table, re.MULTILINE) == listed
