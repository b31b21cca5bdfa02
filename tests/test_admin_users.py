"""C{twuws passwd} and C{twuws token}, run as people run them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import bcrypt
import pytest

from tests import warm
from tests.authenticating import bearer
from tests.test_admin import command, linesOf
from tests.test_admin import empty as empty
from tests.test_admin import place as place
from tests.test_admin_holds import ME
from twuws.admin.options import makeParser
from twuws.authenticators.passwordfile import readPasswords
from twuws.testing import running

pytestmark = pytest.mark.slow

PROGRAM = '\n[services.sleep]\ncommand = ["sleep", "{s}"]\nparameters = {s = {type = "Real"}}\n'


@pytest.fixture
def config(tmp_path):
    """A configuration with users and tokens."""
    path = tmp_path / "uws.toml"
    users = json.dumps(str(tmp_path / "users"))
    path.write_text(f"[auth.passwords]\nfile = {users}\n[auth.tokens]\nlifetime = 3600" + PROGRAM)
    return path


def passwd(*words, said="", status=0):
    """What the command writes, with some input that is no terminal."""
    done = warm.run("passwd", *map(str, words), said=said)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert len(said) < 5 or said.strip() not in done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def isRight(path, name, password):
    return bcrypt.checkpw(password.encode(), readPasswords(path)[name])


# Passwords


def test_passwd(tmp_path):
    path = tmp_path / "users"
    assert passwd(path, "anna", said="wörd\n") == "anna was added\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert passwd(path, "Zoë", said="other\r\nmore\n") == "Zoë was added\n"
    assert passwd(path, "anna", said="no end of line") == "anna was changed\n"
    assert isRight(path, "anna", "no end of line")
    assert isRight(path, "Zoë", "other")
    path.chmod(0o640)
    assert passwd("--list", path) == "Zoë\nanna\n"
    assert json.loads(passwd("--list", path, "--json")) == ["Zoë", "anna"]
    assert json.loads(passwd(path, "anna", "--delete", "--json")) == {
        "file": str(path), "name": "anna", "did": "removed"
    }  # fmt: skip
    assert list(readPasswords(path)) == ["Zoë"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_passwd_of_a_configuration(config, tmp_path):
    """Which may be wrong otherwise, as it is until the file is there."""
    assert passwd("--config", config, "anna", said="x") == "anna was added\n"
    assert passwd("anna", "-c", config, said="y") == "anna was changed\n"
    assert isRight(tmp_path / "users", "anna", "y")
    assert passwd("-c", config, "--list") == "anna\n"
    config.write_text("frobnicate = 1")
    assert "uws.toml: [auth.passwords] file: expected" in passwd("-c", config, "a", status=2)


@pytest.mark.parametrize(
    ("words", "said", "expected"),
    [
        (["FILE", "anna"], "", "1 to 72 bytes"),
        (["FILE", "anna"], "\nx", "1 to 72 bytes"),
        (["FILE", "anna"], "x" * 73, "1 to 72 bytes"),
        (["FILE", "a:b"], "x", "cannot name a user"),
        (["FILE", ""], "x", "cannot name a user"),
        (["FILE"], "x", "Give a file of passwords"),
        ([], "x", "Give a file of passwords"),
        (["FILE", "a", "b"], "x", "Give a file of passwords"),
        (["FILE", "a", "--list"], "", "Give a file of passwords"),
        (["FILE", "nobody", "--delete"], "", "there is nobody called 'nobody'"),
        (["NONE/x", "anna"], "x", "No such file or directory"),
        (["NONE", "--list"], "", "cannot be read"),
    ],
)
def test_passwd_refuses(tmp_path, words, said, expected):
    path = tmp_path / "users"
    path.write_bytes(b"someone:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)) + b"\n")
    before = path.read_bytes()
    places = {"FILE": str(path), "NONE": str(tmp_path / "none")}
    words = [re.sub("FILE|NONE", lambda found: places[found[0]], word) for word in words]
    error = passwd(*words, said=said, status=2)
    assert error.startswith("twuws: ")
    assert expected in error
    assert path.read_bytes() == before


def test_passwd_leaves_what_it_cannot_read(tmp_path):
    path = tmp_path / "users"
    path.write_text("bob:plain\n")
    assert "line 1: expected name:hash" in passwd(path, "anna", said="x", status=2)
    assert path.read_text() == "bob:plain\n"


def atTerminal(*words, answers):
    """What is on the screen, and the exit status, of who answers each question."""
    words = [sys.executable, "-m", "twuws.admin", *map(str, words)]
    code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    outer, inner = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdin=inner, stdout=inner)
    os.close(inner)
    screen = ""
    try:
        for question, answer in answers:
            deadline = time.monotonic() + 60
            while question not in screen:
                assert time.monotonic() < deadline, screen
                screen += os.read(outer, 1000).decode()
            os.write(outer, answer.encode() + b"\r")
        while True:
            try:
                more = os.read(outer, 1000).decode()
            except OSError:  # all have left
                break
            screen += more
    finally:
        os.close(outer)
    return screen, process.wait(60)


def test_passwd_at_a_terminal(tmp_path):
    """It is asked for twice, and cannot be seen."""
    path = tmp_path / "users"
    for second, status, said in (("geheim", 0, "anna was added"), ("other", 2, "two different")):
        answers = [("Password of anna: ", "geheim"), ("Once more: ", second)]
        screen, found = atTerminal("passwd", path, "anna", answers=answers)
        assert found == status, screen
        assert said in screen
        assert "geheim" not in screen
    assert isRight(path, "anna", "geheim")


def test_no_password_among_the_arguments():
    shown, _ = command("passwd", "--help")
    assert not re.search(r"--p(assword)?\b", shown)


# Tokens


def test_tokens(place, config, tmp_path):
    (tmp_path / "users").write_text("")
    shared = ("--config", config)
    token = place("token", "create", "--owner", "anna", *shared)[0].strip()
    assert re.fullmatch("twuws_[A-Za-z0-9_-]{43}", token)
    told = place.json(
        "token", "create", "--owner", "bob", "--scope", "admin", "--expires", "never",
        "--label", "for x\x1b", *shared,
    )  # fmt: skip
    assert set(told) == {"token", "id", "owner", "scopes", "label", "made", "madeBy", "expires"}
    assert (told["owner"], told["scopes"], told["expires"]) == ("bob", ["read", "admin"], None)
    assert told["madeBy"] == ME
    out, _ = place("token", "list")
    header, anna, bob = linesOf(out)
    assert header == ["id", "owner", "scopes", "made", "expires", "made", "by", "label"]
    assert anna[1:4] == ["anna", "read", "write"]
    assert bob[0:4] == [told["id"], "bob", "read", "admin"]
    assert "for x?" in out
    assert not {token[6:], told["token"]} & set(out.split())
    del told["token"]
    assert place.json("token", "list", "--owner", "bob") == [told]
    assert place.json("token", "list", "--owner", "zoe") == []
    times = "EXTRACT(EPOCH FROM expires - made)::int"
    assert place.query(f"SELECT {times} FROM tokens WHERE owner = 'anna'") == [[3600]]
    place("token", "create", "--owner", "c", "--expires", "7d", *shared)
    assert place.query(f"SELECT {times} FROM tokens WHERE owner = 'c'") == [[7 * 86_400]]
    assert place("token", "revoke", told["id"])[0] == f"{told['id']} revoked\n"
    assert "no token" in place.refuses("token", "revoke", told["id"], status=1)
    assert place.json("token", "revoke", "nothing", status=1)["missing"] == ["nothing"]
    assert place.json("token", "revoke", "--owner", "anna")["revoked"] == [anna[0]]
    assert [one["owner"] for one in place.json("token", "list")] == ["c"]


def test_token_refuses(place, config):
    (config.parent / "users").write_text("")
    shared = ("--config", config)
    for words, expected in (
        (["create", "--owner", "a"], r"no \[auth.tokens\].*--config"),
        (["create", "--owner", "a:b", *shared], "cannot name a user"),
        (["create", "--owner", "", *shared], "cannot name a user"),
        (["revoke"], "ids of tokens, or --owner"),
        (["revoke", "x", "--owner", "a"], "ids of tokens, or --owner"),
    ):
        assert re.search(expected, place.refuses("token", *words)), words
    assert place.query("SELECT * FROM tokens") == []


@pytest.mark.parametrize("time", ["", "0d", "-1d", "30", "30x", "d", "99999999d", "1.5d", "٣d"])
def test_times(capsys, time):
    with pytest.raises(SystemExit):
        makeParser().parse_args(["token", "create", "--owner", "a", f"--expires={time}"])
    assert "is no time such as 90s, 12h, 30d or never" in capsys.readouterr().err


def ask(url, headers, data=None):
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, ""


def test_with_a_service(config, tmp_path):
    """What the commands do counts for a service that runs."""
    passwd("-c", config, "anna", said="x")
    with running(config) as service:
        shared = ("--config", config, "--data-dir", service.dataDir)
        url = service.jobList("sleep")
        token = command("token", "create", "--owner", "anna", *shared)[0].strip()
        status, headers, _ = ask(url, bearer(token))
        assert (status, headers["x-vo-authenticated"]) == (200, "anna")
        passwd("-c", config, "anna", said="new")
        for password, expected in (("x", 401), ("new", 200)):
            form = f"username=anna&password={password}".encode()
            status, _, given = ask(service.url + "sleep/login", {}, form)
            assert status == expected
        assert ask(url, bearer(given))[0] == 200
        assert command("token", "revoke", "--owner", "anna", *shared)[0].count("revoked") == 2
        deadline = time.monotonic() + 30
        while ask(url, bearer(token))[0] != 401:
            assert time.monotonic() < deadline
        assert Path(tmp_path / "users").stat().st_mode & 0o777 == 0o600
