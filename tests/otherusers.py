"""
What tests need in which work is done by another user than root: one, and a place and a Python
that it can reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import twuws
from twuws.hostusers import HostUser

#: Users that any Debian has, and that own nothing.
NAME, OTHER = "daemon", "bin"

needsRoot = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def account(name=NAME):
    found = HostUser.find(name)
    if found is None:
        pytest.skip(f"there is no user {name}")
    return found


def reachablePython():
    """A Python of this version that the user can start, with this package; else it is skipped."""
    user = account()
    if not user.reaches(Path(twuws.__file__).parent):
        pytest.skip(f"{user.name} does not come to the package twuws")
    ours = "{}.{}".format(*sys.version_info)
    ask = ["-c", "import sys; print('{}.{}'.format(*sys.version_info))"]
    for path in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if path and user.reaches(Path(path)):
            said = subprocess.run([path, *ask], capture_output=True, text=True, check=False)
            if said.stdout.strip() == ours:
                return path
    pytest.skip(f"{user.name} comes to no Python {ours}")


@contextmanager
def asPython(path):
    """Meanwhile, what is started as this Python is another one, with the same packages."""
    before = sys.executable, sys.path[:]
    standard = os.path.dirname(os.__file__)
    isStandard = {standard, f"{standard}/lib-dynload", f"{standard.replace('.', '')}.zip"}
    sys.executable = path
    sys.path[:] = [one for one in sys.path if one not in isStandard and "lib-dynload" not in one]
    try:
        yield
    finally:
        sys.executable, sys.path[:] = before[0], before[1]


@contextmanager
def reachablePlace():
    """A directory that anybody can pass."""
    path = Path(tempfile.mkdtemp(prefix="twuws-users-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        subprocess.run(["rm", "-rf", str(path)], check=False)
