"""
What holds for all of the code: how XML is parsed, and where what nobody may guess comes from.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import twuws

SOURCES = sorted(Path(twuws.__file__).parent.rglob("*.py"))

#: What every parser of XML is told, though some of it is what lxml does anyway.
TOLD = {"resolve_entities": False, "no_network": True, "load_dtd": False}

#: What parses XML in other ways.
OTHERS = {"xml", "defusedxml", "xmltodict", "html5lib"}


def calls(tree):
    """All calls in a module: what is called, by its last name, and the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield name, ast.unparse(node.func), node


@pytest.fixture(scope="module")
def modules():
    return {path: ast.parse(path.read_text()) for path in SOURCES}


def test_everyParserOfXMLReachesNothing(modules):
    found = 0
    for path, tree in modules.items():
        for name, whole, call in calls(tree):
            if name in ("XMLParser", "iterparse", "HTMLParser", "XMLPullParser"):
                given = {word.arg: word.value for word in call.keywords}
                found += 1
                assert name == "XMLParser", path
                for option, value in TOLD.items():
                    assert isinstance(given.get(option), ast.Constant), (path, option)
                    assert given[option].value is value, (path, option)
            elif whole in ("etree.parse", "etree.fromstring", "etree.XML"):
                assert len(call.args) == 2, (path, "no parser is given")
    assert found >= 2


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def test_nothingIsRandomButSecrets(modules):
    """C{random} can be foretold; and there is one way to read XML."""
    every = {name for tree in modules.values() for name in imported(tree)}
    assert "secrets" in every
    assert not every & {"random", *OTHERS}


def test_digestsAreNotComparedByEquals(modules):
    """Whoever looks at a digest or a signature compares it in constant time."""
    looking = ("hexdigest", "digest", "signature")
    for path, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = [node.left, *node.comparators]
                named = [getattr(one, "id", getattr(one, "attr", "")) for one in sides]
                assert not set(named) & set(looking), (path, node.lineno)
