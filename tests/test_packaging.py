"""
What is in the wheel and in the source distribution, and what importing twuws does.

The wheel is built from C{TWUWS_SOURCE}, or else from the tree that these tests lie in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

import twuws

SOURCE = Path(os.environ.get("TWUWS_SOURCE", Path(__file__).parent.parent))
#: What is no module, and easily forgotten.
NEEDED = {
    "twisted/plugins/uws_endpoints.py",
    "twisted/plugins/uws_plugin.py",
    "twuws/examples/examples.toml",
    "twuws/examples/messier.csv",
    "twuws/py.typed",
    "twuws/sql/0001.sql",
    "twuws/sql/0002.sql",
    "twuws/sql/0003.sql",
    "twuws/sql/0004.sql",
    "twuws/sql/0005.sql",
    "twuws/sql/0006.sql",
}
OPTIONS = [
    "config",
    "data-dir",
    "database",
    "default-duration",
    "default-lifetime",
    "listen",
    "longest-duration",
    "longest-lifetime",
    "metrics",
    "on-stop",
    "public-url",
    "slots",
]


def run(*command, **more):
    """What a command prints; it must succeed, and not see the directory of the sources."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [str(word) for word in command],
            **{"cwd": elsewhere, "env": environment, "capture_output": True, "text": True, **more},
        )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def python(code):
    return run(sys.executable, "-c", code)


def script(name):
    return Path(sys.executable).with_name(name)


@pytest.fixture(scope="module")
def source():
    """A copy of the sources, in which building leaves its traces."""
    directory = Path(tempfile.mkdtemp(prefix="twuws-packaging-"))
    kept = ("twuws", "twisted", "tests", "docs")
    for name in kept:
        shutil.copytree(
            SOURCE / name, directory / name,
            ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"),
        )  # fmt: skip
    for path in SOURCE.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, directory)
    yield directory
    shutil.rmtree(directory)


def modules(directory):
    """The Python files of the packages, as the wheel should have them."""
    return {
        str(path.relative_to(directory))
        for package in ("twuws", "twisted")
        for path in (directory / package).rglob("*.py")
    }


@pytest.mark.slow
def test_wheel(source, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
        "-w", tmp_path, source)  # fmt: skip
    (wheel,) = tmp_path.glob("twuws-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == modules(source) | NEEDED
    assert "twisted/__init__.py" not in names
    assert "twisted/plugins/__init__.py" not in names


@pytest.mark.slow
def test_sdist(source, tmp_path):
    """All that README.rst speaks of is in it, the tests too."""
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", tmp_path, source)
    (archive,) = tmp_path.glob("twuws-*.tar.gz")
    with tarfile.open(archive) as members:
        names = {name.partition("/")[2] for name in members.getnames()}
    tests = {f"tests/{path.name}" for path in (source / "tests").glob("*.py")}
    documents = {"README.rst", "NEWS.rst", *(f"docs/{p.name}" for p in (source / "docs").iterdir())}
    assert modules(source) | NEEDED | tests | documents | {"pyproject.toml"} <= names
    assert not {"twisted/__init__.py", "twisted/plugins/__init__.py"} & names
    assert not [name for name in names if "uws-data" in name or name.endswith(".pyc")]


def test_plugin_is_found():
    listed = [line.split() for line in run(script("twistd"), "--help").splitlines()]
    assert ["uws", "A", "Universal", "Worker", "Service", "(IVOA", "UWS", "1.1)."] in listed


def test_endpoint_is_found():
    """It is known to whoever makes endpoints of strings, and needs no reactor to be."""
    code = """
import sys
from twisted.internet.interfaces import IStreamServerEndpointStringParser as Parser
from twisted.plugin import getPlugins
prefixes = [one.prefix for one in getPlugins(Parser)]
print("mtls" in prefixes, "twisted.internet.reactor" in sys.modules)
"""
    assert python(code).split() == ["True", "False"]


def test_help_names_every_option():
    shown = run(script("twistd"), "uws", "--help")
    named = {word[2:].rstrip("=") for word in shown.split() if word.startswith("--")}
    assert named >= {*OPTIONS, "help", "version"}
    for option in OPTIONS:
        (line,) = [line for line in shown.splitlines() if f"--{option}=" in line]
        assert line.split("=", 1)[1].strip(), f"{option} is not explained"


def test_version_is_its_own():
    assert run(script("twistd"), "uws", "--version").strip() == f"twuws {twuws.__version__}"
    assert run(script("twuws"), "--version").strip() == f"twuws {twuws.__version__}"


@pytest.mark.parametrize("statement", ["import twuws", "import twuws.service"])
def test_import_is_light(statement):
    """Neither Klein nor a reactor: who embeds twuws chooses the reactor later."""
    code = f"import sys; {statement}; print(*sys.modules)"
    loaded = python(code).split()
    assert "twuws" in loaded
    assert not {"klein", "twisted.internet.reactor"} & set(loaded)


def test_job_classes_need_no_service():
    """A job that runs in a process of its own loads neither Twisted nor the database."""
    loaded = python("import sys, twuws.runner; print(*sys.modules)").split()
    assert not {"twisted", "psycopg2", "klein", "lxml"} & set(loaded)


def test_public_names():
    code = "import twuws\nfor name in twuws.__all__: print(name, getattr(twuws, name).__name__)"
    lines = python(code).splitlines()
    assert "UWSJob UWSJob" in lines
    assert "UWSResource UWSResource" in lines
    assert python("import twuws; print(twuws.__version__)")[0].isdigit()
