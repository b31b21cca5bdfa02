"""
docs/operation.rst does what it says: its units, its files and its commands are taken from the
page and used, with other paths, another database and other ports.

There is no systemd here: units are started and stopped as it does that.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
import venv
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import ClassVar

import psutil
import psycopg2
import psycopg2.extras
import pytest

import twuws
from tests.pages import ROOT, documented, section
from tests.test_admin import urlOf
from tests.test_readme import freePort
from tests.working import isAlive, waitUntil
from twuws.backends.family import MARK
from twuws.embedded import runningDSN
from twuws.postgresdirectory import postmaster
from twuws.schema import VERSION

PAGE = "docs/operation.rst"
UNITS = ("uws.service", "uws@.service")
EXTRA = """
[services.lasting]
command = ["sh", "-c", 'echo "$1" > said; sleep "$2"', "sh", "{word}", "{seconds}"]

[services.lasting.parameters.word]
type = "Text"
required = true

[services.lasting.parameters.seconds]
type = "Real"
default = 0

[services.lasting.results.said]
type = "text/plain"
"""
_numbers = count(1)


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


class Unit:
    """
    A unit file of docs/, as systemd reads it.

    @ivar settings: of its section [Service].
    """

    def __init__(self, name, instance=""):
        self.text = (ROOT / "docs" / name).read_text()
        service = self.text.partition("[Service]\n")[2].partition("\n[")[0]
        lines = [line for line in service.splitlines() if line and line[0] not in "#;"]
        self.settings = dict(line.split("=", 1) for line in lines)
        assert len(self.settings) == len(lines)
        self.instance = instance

    def command(self):
        return self.settings["ExecStart"].replace("%i", self.instance)


class Started:
    """What systemd has of a unit that it has started: its main process, and a control group."""

    def __init__(self, unit, host):
        self.unit = unit
        self.log = host.path / f"journal-{next(_numbers)}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                shlex.split(host.here(unit.command())),
                cwd=host.here(unit.settings["WorkingDirectory"]),
                env=host.environment,
                stdin=subprocess.DEVNULL,
                stdout=host.output or log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def waitUntilUp(self):
        def isUp():
            assert self.process.poll() is None, self.log.read_text()
            return "twuws serves" in self.log.read_text()

        waitUntil(isUp, 60)

    def stop(self, killMode=None):
        """As C{systemctl stop}, with the unit's KillMode or another."""
        killMode = killMode or self.unit.settings["KillMode"]
        group = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        if killMode == "control-group":
            for process in group:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
        else:
            assert killMode == "process"
        self.process.wait(60)
        # What systemd takes for a clean end, after which it does not start it again.
        assert self.process.returncode in (0, -signal.SIGTERM), self.log.read_text()


class Host:
    """
    A host with twuws as the page has it, in a directory.

    @ivar url: of the database; C{None} for one of twuws's own.
    """

    def __init__(self, path, url):
        self.path = path
        self.url = url
        self.port = freePort()
        self.paths = {
            "/opt/uws": path / "opt/uws",
            "/etc/uws": path / "etc",
            "/var/lib/uws": path / "lib",
            "/var/log/uws": path / "log",
            "/var/backups/uws": path / "backups",
        }
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.output = None
        self.units = []
        for directory in self.paths.values():
            directory.parent.mkdir(mode=0o755, exist_ok=True)
            if directory.name != "uws":
                directory.mkdir(mode=0o755)
        self.environmentFor("0.1.0")
        (path / "opt/uws").symlink_to(path / "opt/uws-0.1.0")
        self.configure()

    def environmentFor(self, version):
        """A virtual environment with this twuws in it; where its packages go."""
        target = self.path / f"opt/uws-{version}"
        venv.create(target, with_pip=False, symlinks=True)
        (site,) = target.glob("lib/python*/site-packages")
        (site / "all.pth").write_text("\n".join(filter(None, map(os.path.abspath, sys.path))))
        metadata = site / f"twuws-{version}.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: twuws\nVersion: {version}\n")
        for name, call in {
            "twistd": "from twisted.scripts.twistd import run; run()",
            "twuws": "from twuws.admin import main; raise SystemExit(main())",
        }.items():
            script = target / "bin" / name
            script.write_text(f"#!{target}/bin/python\n{call}\n")
            script.chmod(0o755)
        return site

    def configure(self, extra=""):
        (toml,) = [block for block in documented(PAGE) if block.fileName == "uws.toml"]
        text = self.here(toml.text)
        if self.url is None:
            text = re.sub("^database = .*\n", "", text, flags=re.MULTILINE)
        # The template names the port, a single node's configuration does.
        listen = f'listen = "tcp:{self.port}:interface=127.0.0.1"\n'
        text = listen + text.replace("public-url", "# public-url") + EXTRA
        (self.path / "etc/uws.toml").write_text(extra + text)

    def here(self, text):
        """Text of the page for this host."""
        for there, here in self.paths.items():
            text = re.sub(rf"(?<![\w.]){there}\b", str(here), text)
        if self.url is not None:
            name = re.search(r"dbname=(\w+)", self.url)[1]
            text = text.replace("postgresql://uws@db.example.org/uws", self.url)
            admin = self.url.replace(f"dbname={name}", "dbname=postgres")
            text = text.replace("postgresql://uws@db.example.org/postgres", admin)
            text = re.sub(r"(?m)^(createdb .*) uws$", rf"\1 {name}", text)
        return text

    def start(self, name="uws.service", instance=""):
        unit = Started(Unit(name, instance), self)
        self.units.append(unit)
        if self.output is None:
            unit.waitUntilUp()
        return unit

    def paste(self, text):
        """What a shell prints for commands of the page."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", self.here(text)],
            env=self.environment,
            cwd=self.path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.here(text)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def server(self):
        return postmaster(Path(os.path.realpath(self.path / "lib/postgres")) / "cluster")

    def work(self):
        """The processes of all work on this host."""
        jobs = {path.name for path in (self.path / "lib/jobs").glob("??/*")}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK, "").rpartition(".")[0] in jobs:
                    yield process

    def crash(self):
        """All processes end at once, as when the power goes."""
        server = None if self.url else self.server()
        for unit in self.units:
            unit.process.kill()
            unit.process.wait()
        for process in [*self.work(), *([*server.children(), server] if server else ())]:
            with suppress(psutil.Error):
                process.kill()
                process.wait(10)

    def rows(self, sql, *args):
        dsn = self.url or runningDSN(self.path / "lib/postgres")
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SET search_path = uws")
            cursor.execute(sql, args)
            return cursor.fetchall()


@pytest.fixture
def programs(postgres, monkeypatch):
    """PostgreSQL's programs for clients, of the version of the tests' server."""
    with closing(psycopg2.connect(postgres)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        cluster = Path(cursor.fetchone()[0])
    server = psutil.Process(int((cluster / "postmaster.pid").read_text().split()[0]))
    monkeypatch.setenv("PATH", f"{Path(server.exe()).parent}:{os.environ['PATH']}")


@pytest.fixture
def makeHost(postgres):
    """Make hosts, with a database of the tests' server or one of their own."""
    with closing(psycopg2.connect(postgres)) as connection, ExitStack() as all:
        connection.autocommit = True

        def make(own=False, create=True):
            path = Path(tempfile.mkdtemp(prefix="uws-"))
            path.chmod(0o755)
            all.callback(shutil.rmtree, path, ignore_errors=True)
            name = f"operation_{os.getpid()}_{next(_numbers)}"
            if not own:
                with connection.cursor() as cursor:
                    if create:
                        cursor.execute(f"CREATE DATABASE {name}")
                all.callback(drop, name)
            host = Host(path, None if own else urlOf(postgres, name))
            all.callback(host.crash)
            return host

        def drop(name):
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

        yield make


def ask(url, **form):
    """The URL at which the answer is in the end, and its text."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return answer.url, answer.read().decode()


def create(port, service, **form):
    return ask(f"http://127.0.0.1:{port}/{service}/async", **form)[0]


def phaseOf(url):
    return ask(f"{url}/phase")[1]


def idOf(url):
    return url.rpartition("/")[2]


# What is in the page


def test_unitsAreInThePage():
    page = (ROOT / PAGE).read_text()
    for name in (*UNITS, "logrotate.conf"):
        assert f".. include:: {name}\n   :literal:\n" in page


def test_settingsAreExplained():
    """Nothing is in the units by the way, and both are alike."""
    one, several = (Unit(name).settings for name in UNITS)
    assert {k: v for k, v in one.items() if k != "ExecStart"} == {
        k: v for k, v in several.items() if k != "ExecStart"
    }
    page = (ROOT / PAGE).read_text()
    for name in ("KillMode", "TasksMax", "LimitNOFILE", "OOMPolicy", "TimeoutStopSec", "Type"):
        assert name in one
        assert f"``{name}" in page
    from twuws.node import NodeSettings

    assert int(one["TimeoutStopSec"]) > NodeSettings().stopTimeout + 10


@pytest.mark.slow
@needs("systemd-analyze")
@pytest.mark.parametrize(("name", "instance"), [(UNITS[0], ""), (UNITS[1], "8081")])
def test_systemdKnowsIt(makeHost, name, instance, tmp_path):
    host = makeHost()
    text = Unit(name).text
    text = re.sub("(?m)^(User|Group)=.*", r"\1=daemon", text)
    text = re.sub("(?m)^(ExecStart)=(.*)", lambda m: f"{m[1]}={host.here(m[2])}", text)
    (tmp_path / name).write_text(text)
    named = name.replace("@.", f"@{instance}.")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / named)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "uws" in line]
    assert (done.returncode, ours) == (0, [])


def test_mountOptions():
    """Each is said to be for something, and what was not tried is said, too."""
    text = (ROOT / PAGE).read_text().split("\nNFS\n---\n")[1].split("\nClocks\n")[0]
    options = re.search(r" nfs4  (\S+)  0 0\n", text)[1].split(",")
    assert sorted(options) == sorted(re.findall(r"^``(\S+)``$", text, re.MULTILINE))
    assert {"hard", "lookupcache=positive"} < set(options)
    assert "None of this has been tried on a real NFS server" in text


# Stopping


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_workOutlivesTheService(makeHost, name):
    """With KillMode as it is in the unit, a restart does not touch the work."""
    host = makeHost()
    service = host.start(name, str(host.port))
    url = create(host.port, "lasting", word="here", seconds="3", PHASE="RUN")
    waitUntil(lambda: phaseOf(url) == "EXECUTING" and len(list(host.work())) > 2)
    work = {process.pid for process in host.work()}
    service.stop()
    assert all(map(isAlive, work))
    host.start(name, str(host.port))
    assert phaseOf(url) == "EXECUTING"
    waitUntil(lambda: phaseOf(url) == "COMPLETED")
    assert ask(f"{url}/results/said")[1] == "here\n"
    assert host.rows("SELECT attempt FROM jobs") == [(1,)]


@pytest.mark.slow
def test_whyKillModeIsProcess(makeHost):
    """With the one that systemd has by itself the work ends with the service."""
    host = makeHost()
    service = host.start()
    url = create(host.port, "lasting", word="here", seconds="600", PHASE="RUN")
    waitUntil(lambda: phaseOf(url) == "EXECUTING" and len(list(host.work())) > 2)
    work = list(host.work())
    service.stop("control-group")
    psutil.wait_procs(work, 20)
    assert not any(process.is_running() for process in work)
    host.start()
    waitUntil(lambda: phaseOf(url) == "ERROR")


@pytest.mark.slow
def test_finishingBeforeAReboot(makeHost):
    """With C{on-stop = "finish"} a stop waits for what runs, and takes nothing new."""
    host = makeHost()
    host.configure('on-stop = "finish"\n')
    service = host.start()
    url = create(host.port, "lasting", word="last", seconds="2", PHASE="RUN")
    waitUntil(lambda: phaseOf(url) == "EXECUTING")
    service.stop()
    assert list(host.work()) == []
    assert host.rows("SELECT phase FROM jobs") == [("COMPLETED",)]


# At work


@pytest.mark.slow
def test_atWork(makeHost):
    """The commands of the page, in its order, do what it says."""
    host = makeHost()
    service = host.start()
    setting, *blocks = (block.text for block in section(PAGE, "At work"))
    assert all(line.startswith("twuws ") for text in blocks for line in text.splitlines())
    nodes, job, holds, room = (text.splitlines() for text in blocks)
    ended = create(host.port, "lasting", word="ended", PHASE="RUN")
    waitUntil(lambda: phaseOf(ended) == "COMPLETED")

    def told(line, **named):
        for name, value in named.items():
            line = re.sub(rf"\b{name}\b", value, line)
        return host.paste(setting + line)

    shown, history = (told(line, JOB=idOf(ended)) for line in job)
    assert f"directory      {host.path}/lib/jobs/" in shown
    assert [line.split()[1] for line in history.splitlines()[1:]] == [
        *("PENDING", "QUEUED", "EXECUTING", "COMPLETED"),
    ]
    hold, held, release = holds
    told(hold)
    waiting = create(host.port, "sleep", seconds="0", PHASE="RUN")
    assert phaseOf(waiting) == "HELD"
    assert "The catalogue is being updated." in ask(waiting)[1]
    assert "The catalogue is being updated." in told(held)
    assert told(release) == "1 job is QUEUED now\n"
    waitUntil(lambda: phaseOf(waiting) == "COMPLETED")
    assert " admin " in told(job[1], JOB=idOf(waiting))
    told("twuws abort JOB", JOB=idOf(failed := create(host.port, "lasting", word="no")))
    look, clean = room
    assert clean == look.replace("--dry-run ", "")
    assert told(look) == f"{idOf(failed)} lasting\n1 job would be destroyed\n"
    assert phaseOf(failed) == "ABORTED"
    assert told(clean) == f"{idOf(failed)} lasting\n1 job destroyed\n"
    look, drain = nodes
    (node,) = (line.split()[0] for line in told(look).splitlines()[1:])
    assert told(drain, NODE=node).endswith(f"{node} has left\n")
    assert service.process.wait(10) == 0


# Logs


@pytest.mark.slow
@needs("logrotate")
def test_logrotate(makeHost, tmp_path):
    """The log goes on in the file of that name, and all of it is there."""
    host = makeHost()
    (conf,) = [block for block in documented(PAGE) if block.fileName == "log.conf"]
    kind, name = re.search("StandardOutput=(.*)", host.here(conf.text))[1].split(":")
    assert kind == "append"
    log = Path(name)
    with log.open("ab") as host.output:
        service = host.start()
    waitUntil(lambda: "twuws serves" in log.read_text(), 60)
    create(host.port, "sleep", seconds="0")
    waitUntil(lambda: "POST /sleep/async" in log.read_text())
    before = log.read_text()
    rules = tmp_path / "rules"
    rules.write_text(host.here((ROOT / "docs/logrotate.conf").read_text()))
    rotate = ["logrotate", "--force", "--state", str(tmp_path / "state"), str(rules)]
    subprocess.run(rotate, check=True, timeout=60)
    create(host.port, "messier", ra="1", dec="2")
    waitUntil(lambda: "POST /messier/async" in log.read_text())
    old = [path for path in log.parent.iterdir() if path != log]
    assert [path.read_text() for path in old] == [before]
    assert log.read_text().startswith("20")  # no hole where the old lines were
    assert "/sleep/" not in log.read_text()
    service.stop()
    assert "Server Shut Down" in log.read_text()


@pytest.mark.slow
def test_twistdsOwnLogFile(makeHost):
    """What the page says of it: why it is not for logrotate."""
    host = makeHost()
    log = host.path / "log/own.log"
    unit = Unit("uws.service")
    unit.settings["ExecStart"] = unit.settings["ExecStart"].replace(
        "--nodaemon", f"--nodaemon --logfile={log}"
    )
    host.output = subprocess.DEVNULL
    service = Started(unit, host)
    host.units.append(service)
    waitUntil(lambda: log.exists() and "twuws serves" in log.read_text(), 60)
    renamed = log.rename(log.with_name("renamed"))
    service.process.send_signal(signal.SIGUSR1)
    create(host.port, "sleep", seconds="0")
    waitUntil(lambda: "POST /sleep/async" in renamed.read_text())
    assert not log.exists()
    renamed.rename(log)
    service.process.send_signal(signal.SIGUSR1)
    waitUntil(lambda: (log.parent / "own.log.1").exists() and log.exists())
    create(host.port, "messier", ra="1", dec="2")
    waitUntil(lambda: "POST /messier/async" in log.read_text())


# Backup and restore


class Crowd:
    """
    Clients that make jobs until they are told to stop.

    @ivar acknowledged: by job id, whether it was to be run, and what it is to result in; in the
        order in which that was heard.
    """

    def __init__(self, ports, clients=3):
        self.ports = ports
        self.acknowledged = {}
        self.refused = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go, args=(n,)) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _go(self, number):
        for turn in count():
            if self._over.is_set():
                return
            word = f"client {number}, turn {turn}"
            form = {"word": word, "seconds": "0.3"}
            if turn % 5:
                form["PHASE"] = "RUN"
            try:
                url = self._post(number + turn, form)
            except Exception as e:
                self.refused.append(f"{word}: {e!r}")
                continue
            self.acknowledged[idOf(url)] = ("PHASE" in form, word + "\n")
            self._over.wait(0.05)

    def _post(self, turn, form):
        """
        As a load balancer sends it: to another node where one cannot be connected to.

        It goes nowhere from there, for a node that has answered may have left since.
        """
        body = urllib.parse.urlencode(form)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        for attempt in range(20):
            port = self.ports[(turn + attempt) % len(self.ports)]
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    continue
                connection.request("POST", "/lasting/async", body, headers)
                answer = connection.getresponse()
                if answer.status != 303:
                    raise ValueError(f"{answer.status}: {answer.read().decode()}")
                return answer.headers["Location"]
        raise ConnectionRefusedError("by all nodes")


def expectRestored(host, known):
    """All jobs are there, in phases that can be, with their results; nothing is without work."""
    settled = ("PENDING", "COMPLETED", "ERROR")
    waitUntil(
        lambda: {p for (p,) in host.rows("SELECT DISTINCT phase FROM jobs")} <= {*settled}, 60
    )
    phases = dict(host.rows("SELECT job_id, phase FROM jobs"))
    assert set(known) <= set(phases)
    for jobId, (wasRun, said) in known.items():
        url = f"http://127.0.0.1:{host.port}/lasting/async/{jobId}"
        if not wasRun:
            assert phases[jobId] == "PENDING"
        elif phases[jobId] == "COMPLETED":
            assert ask(f"{url}/results/said")[1] == said
        else:
            assert 'errorSummary type="transient"' in ask(url)[1]
    assert host.rows("SELECT count(*) FROM queue") == [(0,)]
    ended = [jobId for jobId in known if phases[jobId] == "COMPLETED"]
    lost = [jobId for jobId in known if phases[jobId] == "ERROR"]
    return ended, lost


def hasBegun(host, url):
    """Whether the work of a job is known to be there."""
    return host.rows(f"SELECT FROM queue WHERE job_id = '{idOf(url)}' AND ref IS NOT NULL")


def backedUp(host, commands):
    """Take a backup while jobs run and come; what had been acknowledged before."""
    long = create(host.port, "lasting", word="long", seconds="600", PHASE="RUN")
    completed = "SELECT job_id FROM jobs WHERE phase = 'COMPLETED'"
    with Crowd([host.port]) as crowd:
        waitUntil(lambda: len(crowd.acknowledged) > 25 and hasBegun(host, long))
        known = dict(crowd.acknowledged)
        ended = waitUntil(lambda: {job for (job,) in host.rows(completed)} & set(known), 60)
        host.paste(commands)
        after = len(crowd.acknowledged)
        waitUntil(lambda: len(crowd.acknowledged) > after + 5)
    assert crowd.refused == []
    return {**known, idOf(long): (True, "long\n")}, ended


@pytest.mark.slow
@needs("rsync")
def test_backup(makeHost, programs):
    """Taken under load, and restored to a new database and new directories."""
    backup = section(PAGE, "Backup")[0].text
    restore = section(PAGE, "Restore")[0].text
    host = makeHost()
    host.start()
    known, ended = backedUp(host, backup)
    host.crash()
    fresh = makeHost(create=False)
    shutil.copytree(
        host.path / "backups", fresh.path / "backups", dirs_exist_ok=True, symlinks=True
    )
    fresh.paste(restore)
    # Some have come after the dump: nobody knows their directories.
    fresh.start()
    completed, lost = expectRestored(fresh, known)
    assert ended <= set(completed)
    assert len(lost) < len(known) / 2
    new = create(fresh.port, "lasting", word="new", PHASE="RUN")
    waitUntil(lambda: phaseOf(new) == "COMPLETED")


@pytest.mark.slow
@needs("rsync")
def test_backupOfItsOwnDatabase(makeHost):
    host = makeHost(own=True)
    host.start()
    known, ended = backedUp(host, section(PAGE, "Backup")[1].text)
    host.crash()
    fresh = makeHost(own=True)
    shutil.copytree(
        host.path / "backups", fresh.path / "backups", dirs_exist_ok=True, symlinks=True
    )
    fresh.paste(section(PAGE, "Restore")[1].text)
    fresh.start()
    completed, _ = expectRestored(fresh, known)
    assert ended <= set(completed)


@pytest.mark.slow
@needs("rsync")
def test_anotherHost(makeHost, programs):
    """What ran is lost there once its node's lease is over; what had ended is as it was."""
    host = makeHost()
    host.configure("lease = 12\n")
    host.start()
    ended = create(host.port, "lasting", word="ended", PHASE="RUN")
    waitUntil(lambda: phaseOf(ended) == "COMPLETED")
    lost = create(host.port, "lasting", word="lost", seconds="600", PHASE="RUN")
    # What was not begun yet would be begun there.
    waitUntil(lambda: hasBegun(host, lost))
    host.paste(section(PAGE, "Backup")[0].text)
    host.crash()
    other = makeHost(create=False)
    other.configure('lease = 12\nhost = "another"\n')
    shutil.copytree(
        host.path / "backups", other.path / "backups", dirs_exist_ok=True, symlinks=True
    )
    other.paste(section(PAGE, "Restore")[0].text)
    other.start()
    known = {idOf(ended): (True, "ended\n"), idOf(lost): (True, "lost\n")}
    assert expectRestored(other, known) == ([idOf(ended)], [idOf(lost)])


@pytest.mark.slow
def test_directoriesOfOtherDatabases(makeHost):
    """Directories that the database does not know are kept if it knows none at all."""
    host = makeHost()
    old = host.path / "lib/jobs/00" / ("0" * 32)
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    service = host.start()
    waitUntil(lambda: "is it the right one?" in service.log.read_text())
    assert old.exists()
    url = create(host.port, "lasting", word="known", PHASE="RUN")
    waitUntil(lambda: phaseOf(url) == "COMPLETED")
    known = host.path / "lib/jobs" / idOf(url)[:2] / idOf(url)
    os.utime(known, (0, 0))
    service.stop()
    host.start()
    waitUntil(lambda: not old.exists())
    assert ask(f"{url}/results/said")[1] == "known\n"


# Upgrade


def makeNewer(site, works=2):
    """
    A later version of twuws in a virtual environment: with a schema of its own, which nodes that
    know version C{works} can use, too.
    """
    package = site / "twuws"
    shutil.copytree(Path(twuws.__file__).parent, package, ignore=shutil.ignore_patterns("*.pyc"))
    edit(package / "schema.py", rf"\nVERSION = {VERSION}\n", f"\nVERSION = {VERSION + 1}\n")
    (package / f"sql/{VERSION + 1:04}.sql").write_text(
        "ALTER TABLE jobs ADD COLUMN novelty text DEFAULT 'new';\n"
        "ALTER TABLE nodes ADD COLUMN novelty text DEFAULT 'new';\n"
        f"UPDATE version SET version = {VERSION + 1}, works_with = {works};\n"
    )


def edit(path, pattern, replacement):
    text, changes = re.subn(pattern, replacement, path.read_text())
    assert changes == 1, path
    path.write_text(text)


class Systemctl:
    """Does what the page has systemctl do, with nodes that are called by their ports."""

    def __init__(self, host, ports):
        self.host = host
        self.ports = ports  # by those in the page
        self.nodes = {there: host.start("uws@.service", str(here)) for there, here in ports.items()}

    def paste(self, text):
        for line in text.splitlines():
            if restarted := re.fullmatch(r"systemctl restart uws@(\d+)\.service", line):
                self.nodes[restarted[1]].stop()
                node = Started(Unit("uws@.service", str(self.ports[restarted[1]])), self.host)
                self.nodes[restarted[1]] = node
                self.host.units.append(node)
            else:
                for there, here in self.ports.items():
                    line = line.replace(f":{there}/", f":{here}/")
                self.host.paste(line)


@pytest.fixture
def pair(makeHost):
    """Two nodes of one host, and an installation of a later version beside theirs."""
    host = makeHost()
    nodes = Systemctl(host, {"8081": freePort(), "8082": freePort()})
    makeNewer(host.environmentFor("0.2.0"))
    return host, nodes


def versions(host):
    return {v for (v,) in host.rows("SELECT version FROM nodes WHERE pid <> 0")}


def expectUpgraded(host, crowd, long):
    """Nobody was refused, nothing was lost, and it is the later version that runs."""
    assert crowd.refused == []
    assert len(crowd.acknowledged) > 30
    run = {jobId: said for jobId, (wasRun, said) in crowd.acknowledged.items() if wasRun}
    phases = "SELECT job_id, phase, attempt FROM jobs WHERE job_id = ANY(%s)"
    ended = [(jobId, "COMPLETED", 1) for jobId in sorted(run)]
    waitUntil(lambda: sorted(host.rows(phases, list(run))) == ended, 90)
    assert host.rows("SELECT count(*) FROM jobs") == [(len(crowd.acknowledged) + 1,)]
    (port, *_) = crowd.ports
    for jobId, said in run.items():
        assert ask(f"http://127.0.0.1:{port}/lasting/async/{jobId}/results/said")[1] == said
    assert host.rows(phases, [long]) == [(long, "EXECUTING", 1)]  # by the version of before
    assert versions(host) == {"0.2.0"}


@pytest.mark.slow
def test_upgrade(pair):
    """Two nodes, one after the other, with a change of the schema, and clients all the time."""
    host, nodes = pair
    ports = list(nodes.ports.values())
    blocks = [block.text for block in section(PAGE, "Upgrade") if block.language == "bash"]
    long = create(ports[0], "lasting", word="long", seconds="600", PHASE="RUN")
    waitUntil(lambda: phaseOf(long) == "EXECUTING")
    assert versions(host) == {"0.1.0"}
    with Crowd(ports) as crowd:
        waitUntil(lambda: len(crowd.acknowledged) > 5)
        for text in blocks:
            nodes.paste(text)
            seen = len(crowd.acknowledged)
            waitUntil(lambda seen=seen: len(crowd.acknowledged) > seen + 5)
    expectUpgraded(host, crowd, idOf(long))
    assert host.rows("SELECT version FROM version") == [(VERSION + 1,)]


@pytest.mark.slow
def test_whatRunsKeepsItsEnvironment(pair):
    """A node, and what it starts, knows the environment by its own name and not by the link."""
    host, nodes = pair
    port = nodes.ports["8081"]
    host.paste(next(b.text for b in section(PAGE, "Upgrade") if b.language == "bash"))
    assert os.readlink(host.path / "opt/uws") == str(host.path / "opt/uws-0.2.0")
    create(port, "lasting", word="after", seconds="600", PHASE="RUN")
    waitUntil(lambda: len(list(host.work())) > 2)
    for process in host.work():
        if "twuws.runner" in process.cmdline():
            assert process.cmdline()[0].startswith(str(host.path / "opt/uws-0.1.0/"))
            assert "0.2.0" not in process.environ()["PYTHONPATH"]
            break
    else:
        raise AssertionError("there is no runner")


@contextmanager
def nginx(host, ports):
    """
    The one of the page, in front of nodes at other ports; the port where it listens.

    @param ports: by those in the page.
    """
    port = freePort()
    (conf,) = [block for block in documented(PAGE) if block.fileName == "nodes.conf"]
    text = conf.text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    for there, here in ports.items():
        text = text.replace(f":{there} ", f":{here} ")
    path = host.path / "nginx.conf"
    places = "".join(
        f"{kind}_temp_path {host.path}/nginx-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path.write_text(
        f"daemon off;\nuser root;\npid {host.path}/nginx.pid;\nerror_log {host.path}/nginx.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{text}}}\n"
    )
    process = subprocess.Popen(["nginx", "-e", f"{host.path}/nginx.log", "-c", str(path)])
    try:
        waitUntil(lambda: answers(f"http://127.0.0.1:{port}/lasting/async"))
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.slow
@needs("nginx")
def test_upgradeBehindNginx(pair):
    """The same with clients that know one address only: nginx's, configured as in the page."""
    host, nodes = pair
    with nginx(host, nodes.ports) as port:
        long = create(port, "lasting", word="long", seconds="600", PHASE="RUN")
        waitUntil(lambda: phaseOf(long) == "EXECUTING")
        with Crowd([port]) as crowd:
            for block in section(PAGE, "Upgrade"):
                if block.language == "bash":
                    nodes.paste(block.text)
            seen = len(crowd.acknowledged)
            waitUntil(lambda: len(crowd.acknowledged) > seen + 20)
        assert crowd.refused == [], (host.path / "nginx.log").read_text()
        expectUpgraded(host, crowd, idOf(long))


class Breaking(BaseHTTPRequestHandler):
    """
    What is between nginx and a node that does all that it is asked to, and is gone before it can
    say so.

    @cvar port: of the node.
    @cvar broken: the paths of the requests of which that was true.
    """

    port = 0
    broken: ClassVar[list[str]] = []

    def do_GET(self):
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        if self.command == "POST":
            self.broken.append(self.path)
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *ignored):
        pass


@pytest.fixture
def breaking(makeHost):
    """nginx in front of one node, which it sometimes reaches by way of what breaks; its port."""
    host = makeHost()
    host.start()
    handler = type("ToNode", (Breaking,), {"port": host.port, "broken": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with nginx(host, {"8081": server.server_address[1], "8082": host.port}) as port:
            yield host, port, handler.broken
    finally:
        server.shutdown()
        server.server_close()


def sent(port, path, headers=(), **form):
    """What a POST is answered with: the status, and the place."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urllib.parse.urlencode(form), {**kind, **dict(headers)})
        answer = connection.getresponse()
        return answer.status, answer.headers["Location"]


@pytest.mark.slow
@needs("nginx")
def test_whatNginxRepeatsIsOneJob(breaking):
    """It is told of the job that was made, and its own key is not in the way of a client's."""
    host, port, broken = breaking
    urls = []
    for number in range(8):
        status, url = sent(port, "/lasting/async", word=str(number), PHASE="RUN")
        assert status == 303
        urls.append(url)
    assert len(broken) >= 3
    jobs = {job for (job,) in host.rows("SELECT job_id FROM jobs")}
    assert {idOf(url) for url in urls} == jobs
    assert len(jobs) == 8
    key = {"Idempotency-Key": "mine"}
    made = {sent(port, "/lasting/async/", key, word="x") for _ in range(4)}
    made |= {sent(port, "/lasting/async", word="x", **key) for _ in range(4)}
    ((status, _),) = made
    assert status == 303
    assert host.rows("SELECT count(*) FROM jobs") == [(9,)]


@pytest.mark.slow
@needs("nginx")
def test_whatNginxDoesNotRepeat(breaking):
    """A POST that changes a job is not sent twice: who sent it is told, and can look."""
    host, port, broken = breaking
    answers = []
    while "502" not in map(str, answers):
        url = create(host.port, "lasting", word="once")
        path = urllib.parse.urlsplit(url).path
        answers.append(sent(port, f"{path}/phase", PHASE="RUN")[0])
        assert answers[-1] in (303, 502)
        assert len(answers) < 20
    assert broken[-1] == f"{path}/phase"
    told = host.rows("SELECT count(*) FROM events WHERE phase = 'QUEUED'")
    assert told == [(len(answers),)]


def answers(url):
    try:
        return ask(url)
    except OSError:
        return False
