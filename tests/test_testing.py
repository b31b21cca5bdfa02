"""C{twuws.testing}: whole services in processes of their own, started, broken and stopped."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from lxml import etree

from tests.test_admin import sleepers, submit, urlOf
from tests.working import isAlive, waitUntil
from twuws.embedded import runningDSN
from twuws.postgresdirectory import postmaster
from twuws.testing import NotStarted, running, uwsConfig, uwsService

pytestmark = pytest.mark.slow

__all__ = ["uwsConfig", "uwsService"]  # fixtures

UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"


@pytest.fixture(scope="module")
def shared():
    """A directory that PostgreSQL can reach, whoever it runs as."""
    path = Path(tempfile.mkdtemp(prefix="twuws-testing-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def get(url, **form):
    """GET or POST, and the document at the end of all redirections, with its URL."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return answer.url, answer.read()


def phaseOf(url):
    return get(f"{url}/phase")[1].decode().strip()


def jobsOf(service, name):
    root = etree.fromstring(get(service.jobList(name))[1])
    return [ref.get("id") for ref in root.iter(f"{UWS}jobref")]


def refusal(*args, **kwargs):
    """The one line with which a service ends that cannot start."""
    with pytest.raises(NotStarted) as caught, running(*args, **kwargs):
        pass
    log = caught.value.log
    assert "Traceback" not in log
    assert "ended with exit status 1;" in str(caught.value)
    (line,) = [line for line in log.splitlines() if "cannot start" in line]
    assert line in str(caught.value)
    return line


def test_wholeJob(uwsService):
    assert uwsService.jobList("messier") == f"{uwsService.url}messier/async"
    url, document = get(uwsService.jobList("sleep"), SECONDS="0.01", PHASE="RUN", RUNID="mine")
    url, document = get(f"{url}?WAIT=30&PHASE=QUEUED")
    url, document = get(f"{url.partition('?')[0]}?WAIT=30&PHASE=EXECUTING")
    job = etree.fromstring(document)
    assert job.findtext(f"{UWS}phase") == "COMPLETED"
    assert job.findtext(f"{UWS}runId") == "mine"
    assert job.findtext(f"{UWS}jobId") in jobsOf(uwsService, "sleep")


def test_itsOwn(uwsService):
    """It has a directory, a PostgreSQL and a log of its own, and one service for all tests."""
    assert uwsService.process.poll() is None
    assert uwsService.url in uwsService.log()
    assert runningDSN(uwsService.dataDir / "postgres") is not None
    assert len(jobsOf(uwsService, "sleep")) <= 1
    assert uwsService.dataDir.is_dir()


def test_restart(shared):
    """A service that comes again has its jobs, and the work that went on without it."""
    with running(dataDir=shared / "restart", slots=3) as service:
        url = service.url
        submit(service, 401.25)
        (pid,) = sleepers(401.25)
        service.restart()
        (one,) = jobsOf(service, "sleep")
        assert service.url == url
        assert isAlive(pid)
        service.kill()
        assert service.process.returncode == -signal.SIGKILL
        service.restart()
        assert (service.url, jobsOf(service, "sleep")) == (url, [one])
        assert phaseOf(f"{service.jobList('sleep')}/{one}") == "EXECUTING"
        get(f"{service.jobList('sleep')}/{one}/phase", PHASE="ABORT")
        waitUntil(lambda: not isAlive(pid), 20)
        assert service.log().count("twuws serves") == 3
    assert (shared / "restart").is_dir()


def processesOf(directory):
    """All that has the directory's path in its command line."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory) in word for word in process.info["cmdline"] or ())
        and process.pid != os.getpid()
    ]


@pytest.mark.parametrize("end", ["stop", "kill", "interrupt", "hang up"])
def test_nothingIsLeft(end):
    """Neither service nor PostgreSQL nor work, however it ends."""
    with running() as service:
        _, pid = submit(service, 402.25)
        server = postmaster((service.dataDir / "postgres").resolve() / "cluster")
        assert server is not None
        if end in ("interrupt", "hang up"):  # its terminal is closed
            service.process.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGHUP)
            status = -signal.SIGINT if end == "interrupt" else 0  # as twistd tells its shell
            assert service.process.wait(30) == status
            assert not server.is_running()
            assert isAlive(pid)  # for the next service to take over
        else:
            getattr(service, end)()
            assert server.is_running() == (end == "kill")
    assert not server.is_running()
    assert not isAlive(pid)
    assert processesOf(service.dataDir) == []
    assert not service.dataDir.parent.exists()


def test_exceptionInTheBlock():
    with pytest.raises(ZeroDivisionError), running() as service:
        1 / 0
    assert service.process.returncode == -signal.SIGINT
    assert not service.dataDir.parent.exists()


def test_allFileDescriptorsThatAreAllowed():
    """Many can wait at a time, whatever the usual limit is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with running() as service:
            assert psutil.Process(service.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_configuration(shared):
    """A configuration of one's own, with a class beside it, and a public URL."""
    (shared / "mine.py").write_text(
        "from twuws import UWSJob\n"
        "class Mine(UWSJob):\n"
        "    def run(self):\n"
        "        with self.openResult('r', 'text/plain') as out:\n"
        "            out.write(b'42')\n"
    )
    config = shared / "c.toml"
    config.write_text(
        'public-url = "https://example.org/uws"\n[services.mine]\nclass = "mine.Mine"\n'
    )
    with running(config, dataDir=shared / "configuration") as service:
        assert service.url.startswith("http://127.0.0.1:")
        root = etree.fromstring(get(service.jobList("mine"))[1])
        assert root.tag == f"{UWS}jobs"
    config.write_text("[services.mine]\nclass = 'mine.Yours'\n")
    with pytest.raises(NotStarted, match=r"mine\.Yours") as caught, running(config):
        pass
    assert "Traceback" not in caught.value.log


def test_tooSlow():
    with pytest.raises(NotStarted, match=r"did not come up within 0\.01 s"), running(timeout=0.01):
        pass


# What cannot be


def test_secondService(shared):
    with running(dataDir=shared / "second") as service:
        line = refusal(dataDir=shared / "second")
        assert str(shared / "second") in line
        assert str(service.process.pid) in line
        assert jobsOf(service, "sleep") == []  # the first is none the worse


def test_portInUse(shared):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        listen = f"tcp:{port}:interface=127.0.0.1"
        line = refusal(listen=listen, dataDir=shared / "port")
    assert str(port) in line
    assert "--listen" in line
    assert runningDSN(shared / "port" / "postgres") is None


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("tcp:80800:interface=127.0.0.1", "port must be 0-65535"),
        ("unix:/no/such/directory/socket", "No such file or directory"),
        ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
    ],
)
def test_whereNobodyCanListen(shared, listen, said):
    line = refusal(listen=listen, dataDir=shared / "port")
    assert said in line
    assert "--listen" in line


def test_wrongDatabase(postgres):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    assert "refused" in refusal(database=f"postgresql://uws@127.0.0.1:{port}/uws")
    assert "nowhere" in refusal(database=urlOf(postgres, "nowhere"))


def test_otherVersion(shared):
    data = shared / "version"
    with running(dataDir=data):
        pass
    version = (data / "postgres").resolve() / "cluster" / "PG_VERSION"
    version.write_text("9\n")
    line = refusal(dataDir=data)
    assert "PostgreSQL 9" in line
    assert "--data-dir" in line


# With pytest


def test_fixtureAlone(tmp_path):
    """C{uwsService} may be imported alone, and then C{uwsConfig} defined."""
    (tmp_path / "test_one.py").write_text(
        "from twuws.testing import uwsService\n"
        "def test(uwsService):\n"
        "    assert uwsService.url in uwsService.log()\n"
        "    assert 'messier' in uwsService.log()\n"
    )
    (tmp_path / "test_two.py").write_text(
        "import pytest\n"
        "from twuws.testing import uwsService\n"
        "@pytest.fixture(scope='module')\n"
        "def uwsConfig(tmp_path_factory):\n"
        "    path = tmp_path_factory.mktemp('c') / 'c.toml'\n"
        "    path.write_text('[services.other]\\ncommand = [\"true\"]\\n')\n"
        "    return path\n"
        "def test(uwsService):\n"
        "    assert 'serves other at' in uwsService.log()\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    done = subprocess.run([*words, tmp_path], capture_output=True, text=True, cwd=tmp_path)
    assert "2 passed" in done.stdout, done.stdout


def test_lightImport():
    """Neither Klein nor a reactor come with it, nor with the suites."""
    check = (
        "import sys, json\n"
        "import twuws.authenticatorcontract, twuws.backendcontract, twuws.testing\n"
        "print(json.dumps([m for m in ('klein', 'twisted.internet.reactor') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
