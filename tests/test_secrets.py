"""
The database's password, and what callers show of themselves, are in no log, no answer, no list of
processes, and no job's environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.parse
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import bcrypt
import psutil
import psycopg2
import pytest
import requests

from tests.test_admin import command, urlOf
from tests.working import waitUntil
from twuws import config
from twuws.connection import partsOf
from twuws.errors import ConfigError, UWSError
from twuws.testing import NotStarted, running
from twuws.visible import warnings

CANARY = "c4n4ry-of-the-mine"
SHELL = """
[services.shell]
command = ["sh", "-c", "{script}"]
[services.shell.parameters.script]
type = "Text"
[services.shell.results.out]
type = "text/plain"
stream = "stdout"
[services.python]
class = "tests.jobclasses.Environment"
"""


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{}@x@host/db",
        "postgresql://u:{}/x@host/db",
        "postgresql://u:{}%zz@host/db",
        "postgresql://u:{}@[::1x/db",
        "postgresql://u:{}@[::1]x/db",
        'postgresql://u:x"{}@[::1]x/db',
        "postgresql://u@h/db?password={}%zz",
        "postgresql://u@h/db?{}%zz=1",
        "postgresql://u:p@h:{}/db",
    ],
)
def test_urlsThatAreNone(url):
    """Mistakes that are easily made in a URL with a password do not tell it."""
    with pytest.raises(UWSError) as caught:
        partsOf(url.format(CANARY))
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_whatIsWrongIsToldAllTheSame():
    with pytest.raises(UWSError, match='"nothing"'):
        partsOf("postgresql://h/db?nothing=1")
    with pytest.raises(UWSError, match="write @ as %40"):
        partsOf("postgresql://u:p@ss@h/db")


@pytest.mark.parametrize("url", [f"mysql://u:{CANARY}@h/db", f"host=h password={CANARY}"])
def test_mistakesOfTheConfiguration(tmp_path, url):
    path = tmp_path / "uws.toml"
    path.write_text(f'database = "{url}"\n[services.a]\ncommand = ["true"]\n')
    with pytest.raises(ConfigError) as caught:
        config.load(str(path))
    assert "expected a URL such as" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "onLine", "mode", "words"),
    [
        ("postgresql://u:p@h/db", True, 0o600, "on the command line"),
        ("postgresql:///db?user=u&password=p", True, 0o600, "on the command line"),
        ("postgresql://u:p@h/db", False, 0o644, "all users of this host can read it"),
        ("postgresql://u:p@h/db", False, 0o640, None),
        ("postgresql://u@h/db", True, 0o644, None),
        (None, False, 0o644, None),
    ],
)
def test_warnings(tmp_path, url, onLine, mode, words):
    path = tmp_path / "uws.toml"
    path.touch()
    path.chmod(mode)
    found = warnings(url, onLine, str(path))
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


@pytest.mark.parametrize(
    ("top", "ways", "words"),
    [
        ('listen = "tcp:8080"', "[auth.tokens]", "cannot log in"),
        ('listen = "tcp6:8080:interface=\\\\:\\\\:"', "[auth.tokens]", "cannot log in"),
        (
            'listen = "tcp:8080:interface=192.0.2.1"',
            "[auth.tokens]\ncleartext = true",
            "(cleartext)",
        ),
        ('listen = "tcp:8080"', '[auth.passwords]\ncheckers = ["memory:a:b"]', "cannot log in"),
        ('listen = "tcp:8080"', "", None),
        ('listen = "tcp:8080"\n[http]\nproxies = ["192.0.2.7"]', "[auth.tokens]", None),
        ('listen = "tcp:8080"\npublic-url = "https://x.org"', "[auth.tokens]", None),
        ('listen = "tcp:8080:interface=127.0.0.1"', "[auth.tokens]", None),
        ('listen = "tcp6:8080:interface=\\\\:\\\\:1"', "[auth.tokens]\ncleartext = true", None),
        ('listen = "unix:/tmp/x"', "[auth.tokens]", None),
        ("", "[auth.tokens]", None),
    ],
)
def test_warningsAboutTheWay(tmp_path, top, ways, words):
    """Who starts a service is told if clients would send secrets where others can read them."""
    path = tmp_path / "uws.toml"
    path.write_text(f'{top}\n{ways}\n[services.a]\ncommand = ["true"]\n')
    found = config.load(str(path), runs=True).warnings
    assert len(found) == (words is not None), found
    assert words is None or words in found[0]
    assert config.load(str(path)).warnings == ()


# A whole service


@pytest.fixture(scope="module")
def url(postgres):
    """Of a new database, with a password that the server does not ask for."""
    name = f"secrets{os.getpid()}"
    connection = psycopg2.connect(postgres)
    connection.autocommit = True
    connection.cursor().execute(f'CREATE DATABASE "{name}"')
    yield urlOf(postgres, name) + f"&password={CANARY}"
    connection.cursor().execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    connection.close()


@pytest.mark.slow
def test_service(tmp_path, monkeypatch, url):
    path = tmp_path / "uws.toml"
    path.write_text(f'database = "{url}"\n' + SHELL)
    path.chmod(0o644)
    for name in ("PGPASSWORD", "DATABASE_URL", "PGSERVICEFILE", "API_TOKEN", "UWS_SECRET"):
        monkeypatch.setenv(name, CANARY)
    answers = []
    with running(path) as service:

        def ask(method, url, **more):
            answer = requests.request(method, url, timeout=30, allow_redirects=False, **more)
            answers.append(f"{answer.headers} {answer.text}")
            return answer

        script = "env; tr '\\0' '\\n' </proc/$PPID/environ; cat ../job.json; touch up; sleep 600"
        made = ask("POST", service.jobList("shell"), data={"script": script, "PHASE": "RUN"})
        job = made.headers["location"]
        directory = service.dataDir / "jobs" / job.rpartition("/")[2][:2] / job.rpartition("/")[2]
        waitUntil((directory / "results" / "up").exists)
        assert CANARY not in (directory / "results" / "out").read_text()
        seen = processesBut(service.process.pid, job.rpartition("/")[2])
        assert len(seen) >= 2
        assert not [one for one in seen if CANARY in one]
        python = ask("POST", service.jobList("python"), data={"PHASE": "RUN"}).headers["location"]
        waitUntil(lambda: "COMPLETED" in ask("GET", python + "/phase").text)
        assert "UWS_JOB_ID" in ask("GET", python + "/results/environment").text
        secrets = {
            "Authorization": f"Bearer {CANARY}",
            "Cookie": f"session={CANARY}",
            "X-Auth-Token": CANARY,
            "Referer": f"http://x/{CANARY}",
        }
        for method in ("GET", "POST", "DELETE", "BREW"):
            ask(method, job + "/nothing?access_token=" + CANARY, headers=secrets)
        withoutDatabase(url, lambda: ask("GET", job))
        ask("POST", job + "/phase", data={"PHASE": "ABORT"})
        ask("GET", job)
        admin = command(
            "--config", path, "--data-dir", service.dataDir, "show", job.rpartition("/")[2]
        )
        log = service.log()
    assert "can read it" in log
    for text in (*answers, *admin, log):
        assert CANARY not in text


@pytest.mark.slow
def test_whatUsersShow(tmp_path, url):
    """
    Neither passwords, tokens of users, URLs that share, nor the keys behind these are in what
    any process shows: of the job's program, its runner, the service, and all that belongs to
    it; nor in the job's directory, or the logs.
    """
    (tmp_path / "users").write_bytes(b"anna:" + bcrypt.hashpw(b"w0nderland", bcrypt.gensalt(4)))
    (tmp_path / "users").chmod(0o600)
    path = tmp_path / "uws.toml"
    path.write_text(
        f'database = "{url}"\n{SHELL}\n[auth]\naudit-log = "{tmp_path}/audit.log"\n'
        f'[auth.passwords]\nfile = "{tmp_path}/users"\n[auth.tokens]\n'
    )
    path.chmod(0o600)
    with running(path) as service:
        base = service.jobList("shell").removesuffix("/async")
        login = {"username": "anna", "password": "w0nderland"}
        token = requests.post(base + "/login", data=login, timeout=30).text.strip()
        made = {}
        for how, headers in (
            ("token", {"Authorization": f"Bearer {token}"}),
            ("password", {"Authorization": "Basic " + b64encode(b"anna:w0nderland").decode()}),
        ):
            script = {"script": "touch up; exec sleep 600", "PHASE": "RUN"}
            answer = requests.post(
                base + "/async", data=script, headers=headers, timeout=30, allow_redirects=False
            )
            made[how] = answer.headers["location"]
        headers = {"Authorization": f"Bearer {token}"}
        shared = requests.post(
            made["token"] + "/share", headers=headers, timeout=30, allow_redirects=False
        ).headers["location"]
        assert requests.get(shared, timeout=30).ok
        with closing(psycopg2.connect(url, options="-c search_path=uws")) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT value FROM secrets UNION SELECT key FROM client_key")
            keys = [key for (key,) in cursor.fetchall()]
        assert len(keys) == 2
        secrets = [
            CANARY, "w0nderland", b64encode(b"anna:w0nderland").decode(), token,
            shared.rpartition("/")[2], *keys,
        ]  # fmt: skip
        shown = {"service": shownBy(service.process.pid)}
        for child in psutil.Process(service.process.pid).children(recursive=True):
            shown[f"child {child.pid}"] = shownBy(child.pid)
        for how, job in made.items():
            jobId = job.rpartition("/")[2]
            directory = service.dataDir / "jobs" / jobId[:2] / jobId
            waitUntil((directory / "results" / "up").exists)
            seen = processesBut(service.process.pid, jobId)
            assert any("sleep" in one for one in seen)
            assert any("runner" in one for one in seen)
            shown[how] = "".join(seen)
            files = [one for one in directory.rglob("*") if one.is_file()]
            assert "job.json" in {one.name for one in files}
            shown[f"files of {how}"] = "".join(one.read_text("latin-1") for one in files)
        for job in made.values():
            requests.post(job + "/phase", data={"PHASE": "ABORT"}, headers=headers, timeout=30)
        shown["log"] = service.log()
        shown["audit log"] = (tmp_path / "audit.log").read_text()
    found = [(where, one[:9]) for where, text in shown.items() for one in secrets if one in text]
    assert found == []


def shownBy(pid):
    """What a process shows of itself to its user, and to root."""
    try:
        place = Path(f"/proc/{pid}")
        parts = [(place / name).read_bytes() for name in ("environ", "cmdline")]
    except OSError:
        return ""
    return b"".join(parts).decode(errors="replace")


def processesBut(pid, jobId):
    """What anybody can see of all processes of a job: command lines and environments."""
    found = []
    for process in psutil.process_iter():
        if process.pid == pid:
            continue
        try:
            text = Path(f"/proc/{process.pid}/environ").read_bytes()
            text += Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        if jobId.encode() in text:
            found.append(text.decode(errors="replace"))
    return found


def withoutDatabase(url, action):
    """Do it while nobody is let into the database."""
    name = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["dbname"][0]
    other = url.replace(f"dbname={name}", "dbname=postgres")
    connection = psycopg2.connect(other)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
    )
    action()
    cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "database",
    [
        f"postgresql://u:{CANARY}@127.0.0.1:1/db",
        f"postgresql://u:{CANARY}@no-such-host.invalid/db",
        f"postgresql://u:{CANARY}@x@127.0.0.1/db",
        f"postgresql://u:{CANARY}%zz@127.0.0.1/db",
    ],
)
def test_thatDoesNotStart(tmp_path, database):
    path = tmp_path / "uws.toml"
    path.write_text(SHELL)
    with pytest.raises(NotStarted) as caught, running(path, database=database):
        pass
    assert "twuws cannot start" in str(caught.value)
    assert "is on the command line" in str(caught.value)
    assert CANARY not in str(caught.value)
    for words in ("list", "nodes"):
        said = command("--database", database, words, status=2)
        assert CANARY not in "".join(said)
        debug = [sys.executable, "-m", "twuws.admin", "--debug", "--database", database, words]
        done = subprocess.run(debug, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" in done.stderr
        assert CANARY not in done.stdout + done.stderr
