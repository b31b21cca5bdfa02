"""
Command lines from templates: every value is one argument, whatever it contains.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.working import makeRecord
from twuws import UWSJob, parameters
from twuws.backends.commandline import expand, expandStdin, names, namesIn
from twuws.errors import ParameterError
from twuws.values import FileValue


class Everything(UWSJob):
    """All kinds of parameters."""

    text = parameters.Text()
    texts = parameters.Text(multiple=True)
    others = parameters.Text(multiple=True)
    size = parameters.Real(default=0.5)
    count = parameters.Integer()
    quiet = parameters.Boolean()
    image = parameters.File()
    several = parameters.Integer(multiple=True, default=7)


FILE = FileValue(file="image.fits", fileName="../../etc/passwd")


def expanded(*command, **values):
    return expand(command, Everything(makeRecord(**values)))


def test_literalsAndBraces():
    assert expanded("p", "a b", "{{}}", "{{x}}", "") == ["p", "a b", "{}", "{x}", ""]


def test_values():
    assert expanded("p", "{text}", "--c={count}!", text="x y", count="3") == ["p", "x y", "--c=3!"]


def test_valuesAreInTheSpellingOfTheirDeclaration():
    found = expanded("p", "{count}", "{size}", "{quiet}", count=" +3 ", size="1e1", quiet="TRUE")
    assert found == ["p", "3", "10.0", "true"]


def test_severalInOneArgument():
    assert expanded("p", "{count}:{text}:{{{count}}}", count="1", text="b") == ["p", "1:b:{1}"]


def test_defaults():
    assert expanded("p", "{size}", "{several}") == ["p", "0.5", "7"]


def test_anArgumentWithoutAValueIsLeftOut():
    assert expanded("p", "{text}", "a{count}{text}", "end", count="1") == ["p", "end"]


def test_anEmptyValueIsOne():
    assert expanded("p", "{text}", "-x{text}", text="") == ["p", "", "-x"]


def test_groups():
    group = ("--size", "{count}", "-v")
    assert expanded("p", group, "end") == ["p", "end"]
    assert expanded("p", group, "end", count="2") == ["p", "--size", "2", "-v", "end"]
    assert expanded("p", ("a", "b")) == ["p", "a", "b"]
    assert expanded("p", ("{count}", "{text}"), count="2") == ["p"]


def test_multipleParametersRepeat():
    texts = ["a", "b"]
    assert expanded("p", "{texts}", texts=texts) == ["p", "a", "b"]
    assert expanded("p", ("-t", "{texts}"), texts=texts) == ["p", "-t", "a", "-t", "b"]
    assert expanded("p", "{texts}", texts=[]) == ["p"]
    product = expanded("p", "{texts}{others}", texts=texts, others=["1", "2"])
    assert sorted(product) == ["a1", "a2", "b1", "b2", "p"]


def test_filesArePathsFromTheWorksDirectory():
    assert expanded("p", "-i={image}", image=FILE) == ["p", "-i=../parameters/image.fits"]


@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_anyValueIsOneArgument(value):
    found = expanded("p", "{text}", ("-t", "{text}"), "<{text}>", text=value)
    assert found == ["p", value, "-t", value, f"<{value}>"]


@given(values=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_anyValuesAreAnArgumentEach(values):
    assert expanded("p", "{texts}", texts=values) == ["p", *values]


@given(template=st.text("{}ab_1\n ", max_size=12))
def test_anyTemplateIsRefusedOrKeepsItsLiterals(template):
    """What is accepted, and has no parameters, is literal text with braces halved."""
    try:
        used = namesIn(template)
    except ValueError:
        assert "{" in template or "}" in template
        return
    if not used:
        expected = template.replace("{{", "{").replace("}}", "}")
        assert expanded("p", template) == ["p", expected]


@pytest.mark.parametrize("bad", ["a\0b", "\0", "\ud800"])
def test_valuesThatNoArgumentCanHold(bad):
    with pytest.raises(ParameterError, match="Parameter text: ") as caught:
        expanded("p", "{text}", text=bad)
    assert caught.value.name == "text"


def test_names():
    assert names(("p", "{a}", ("{b}", "x{c}{a}"), "{{d}}")) == {"a", "b", "c"}
    assert names(("p",)) == set()


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ((), "starts with the name of a program"),
        (("",), "starts with the name of a program"),
        ((("sh", "-c"),), "starts with the name of a program"),
        (("{text}",), "the program itself cannot depend"),
        (("p", "{"), "'{' is neither part of"),
        (("p", "a}b"), "'}' is neither part of"),
        (("p", "{a b}"), "neither part of"),
        (("p", "{}"), "neither part of"),
        (("p", "{text!r}"), "neither part of"),
        (("p", "{text.x}"), "neither part of"),
        (("p", ()), "a group one or more"),
        (("p", ("a", ("b",))), "a group one or more"),
        (("p", 3), "an argument is text"),
    ],
)
def test_badTemplates(command, complaint):
    with pytest.raises(ValueError, match=complaint):
        names(command)
    with pytest.raises(ValueError, match=complaint):
        expanded(*command, text="x")


def test_undeclaredParameters():
    with pytest.raises(ValueError, match=r"\{nope\} in the command is no parameter of the job"):
        expanded("p", "{nope}", nope="undeclared ones are kept, but never used")


def test_stdin():
    job = Everything(makeRecord(image=FILE, text="/etc/passwd"))
    assert expandStdin("{image}", job) == "../parameters/image.fits"
    assert expandStdin(None, job) is None
    assert expandStdin("{image}", Everything(makeRecord())) is None
    with pytest.raises(ValueError, match="type File only"):
        expandStdin("{text}", job)
    with pytest.raises(ValueError, match="this is 2"):
        expandStdin("{image}", Everything(makeRecord(image=[FILE, FILE])))
