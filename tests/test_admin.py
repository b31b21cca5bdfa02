"""The C{twuws} command, run as people run it, with and without a service."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import psutil
import psycopg2
import psycopg2.extras
import pytest
from psycopg2.extensions import parse_dsn

from tests import warm
from tests.working import isAlive, waitUntil
from twuws.admin.options import makeParser
from twuws.embedded import runningDSN
from twuws.jobs import JobError, JobRecord, Result
from twuws.phases import Phase
from twuws.schema import VERSION
from twuws.testing import running
from twuws.values import FileValue

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
_numbers = count(1)


def urlOf(dsn, name):
    """The URL of a database of the server that a DSN leads to."""
    options = {**parse_dsn(dsn), "dbname": name}
    return "postgresql:///?" + urllib.parse.urlencode(options)


def command(*words, status=0, program=None, cwd=None):
    """Run the command, or a program, and return what it writes to stdout and to stderr."""
    words = [str(word) for word in words]
    if program is None:
        done = warm.run(*words, cwd=cwd)
    else:
        done = subprocess.run(
            [*program, *words], capture_output=True, text=True, timeout=60, cwd=cwd
        )
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def refusal(*words, status=2, **more):
    """The one line that the command says when it does nothing."""
    out, errors = command(*words, status=status, **more)
    assert out == ""
    assert errors.startswith("twuws: ")
    assert errors.count("\n") == 1
    return errors


class Place:
    """A database and a data directory, and the command on them."""

    def __init__(self, url, dataDir):
        self.url = url
        self.dataDir = dataDir
        self.options = ("--database", url, "--data-dir", dataDir)

    def __call__(self, *words, status=0):
        return command(*words, *self.options, status=status)

    def refuses(self, *words, status=2):
        return refusal(*words, *self.options, status=status)

    def json(self, *words, status=0):
        return json.loads(self(*words, "--json", status=status)[0])

    def query(self, sql, *args):
        with closing(psycopg2.connect(self.url, options="-c search_path=uws")) as connection:
            connection.autocommit = True
            with connection.cursor(cursor_factory=psycopg2.extras.DictCursor) as cursor:
                cursor.execute(sql, args)
                return cursor.fetchall() if cursor.description else []

    def job(self, service="sleep", phase="PENDING", **columns):
        """Put a job into the database, each a second newer than the one before."""
        number = next(_numbers)
        created = NOW - timedelta(days=100) + timedelta(seconds=number)
        columns = {
            "job_id": f"{number:06x}" + os.urandom(13).hex(),
            "service": service,
            "phase": phase,
            "creation_time": created,
            "execution_duration": 60,
            "destruction": NOW + timedelta(days=1),
            **columns,
        }
        if phase in ("COMPLETED", "ERROR", "ABORTED", "ARCHIVED"):
            columns.update(start_time=created, end_time=created)
        if phase == "ERROR":
            columns.setdefault("error", {"message": "no", "detail": None, "type": "fatal"})
        values = [
            psycopg2.extras.Json(v) if isinstance(v, dict | list) else v for v in columns.values()
        ]
        marks = ", ".join(["%s"] * len(values))
        self.query(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})", *values)
        self.directory(columns["job_id"]).mkdir(parents=True)
        return columns["job_id"]

    def directory(self, jobId):
        return self.dataDir / "jobs" / jobId[:2] / jobId

    def phases(self, *jobIds):
        rows = self.query("SELECT job_id, phase FROM jobs WHERE job_id = ANY(%s)", list(jobIds))
        found = dict(rows)
        return [found.get(jobId) for jobId in jobIds]


@pytest.fixture
def empty(postgres, tmp_path):
    """A database that nobody has used."""
    name = f"admin_{os.getpid()}_{next(_numbers)}"
    with closing(psycopg2.connect(postgres)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
            dataDir = tmp_path / "data"
            (dataDir / "jobs").mkdir(parents=True)
            yield Place(urlOf(postgres, name), dataDir)
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def place(empty):
    """A database with the schema."""
    empty("upgrade")
    return empty


def linesOf(table):
    return [line.split() for line in table.splitlines()]


def test_list(place):
    a = place.job("sleep", owner="ann")
    b = place.job("gone", "COMPLETED", run_id="evil\x1b[31m")
    c = place.job("sleep", "ERROR", owner="bob")
    d = place.job("gone", "ARCHIVED")
    out, _ = place("list")
    header, *rows = linesOf(out)
    assert header == ["service", "id", "phase", "owner", "runId", "created"]
    assert [row[:5] for row in rows] == [
        ["sleep", c, "ERROR", "bob", "-"],
        ["gone", b, "COMPLETED", "-", "evil?[31m"],
        ["sleep", a, "PENDING", "ann", "-"],
    ]
    assert (
        len({line.index(row[5]) for line, row in zip(out.splitlines()[1:], rows, strict=True)}) == 1
    )
    for options, expected in (
        (["--service", "gone"], [b]),
        (["--phase", "archived", "PENDING"], [d, a]),
        (["--last", "2"], [c, b]),
        (["--owner", "ann"], [a]),
        (["--owner", ""], [b]),
        (["--after", (NOW - timedelta(days=200)).date().isoformat()], [c, b, a]),
        (["--after", "2100-01-01"], []),
    ):
        assert [row[1] for row in linesOf(place("list", *options)[0])[1:]] == expected, options


def test_listForPrograms(place):
    assert place.json("list") == []
    ids = [place.job(owner=f"o{i}") for i in range(3)]
    found = [JobRecord.fromJSON(one) for one in place.json("list")]
    assert [one.jobId for one in found] == ids[::-1]
    assert found[0].owner == "o2"
    assert found[0].destruction == NOW + timedelta(days=1)
    assert "sleep" in place.refuses("list", "--service", "slep")


def test_show(place):
    jobId = place.job(
        "gone",
        "ERROR",
        owner="ann",
        run_id="r1",
        parameters={
            "seconds": ["5", "6"],
            "image": [{"file": "m31", "mediaType": "image/fits", "size": 7, "label": "x"}],
        },
        results=[{"id": "out", "file": "o.csv", "href": None, "mediaType": "text/csv", "size": 3}],
        error={"message": "It rains", "detail": "first\n\x1b]0;line", "type": "transient"},
        job_info={"progress": 0.5},
        attempt=2,
    )
    shown = place.json("show", jobId)
    assert shown["directory"] == str(place.directory(jobId))
    record = JobRecord.fromJSON(shown["job"])
    assert (record.service, record.jobId, record.phase) == ("gone", jobId, Phase.ERROR)
    assert record.parameters["seconds"] == ("5", "6")
    assert isinstance(record.parameters["image"][0], FileValue)
    assert record.results == (Result(id="out", file="o.csv", mediaType="text/csv", size=3),)
    assert record.error == JobError(
        message="It rains", detail="first\n\x1b]0;line", type="transient"
    )
    assert record.jobInfo == {"progress": 0.5}
    out, _ = place("show", jobId[:6])
    for words in (
        *("service gone", f"id {jobId}", "phase ERROR", "owner ann", "runId r1", "duration 60 s"),
        *("attempt 2", f"directory {shown['directory']}", "seconds 5, 6"),
        *("image x: parameters/m31 (image/fits, 7 bytes)", "out results/o.csv (text/csv, 3 bytes)"),
        *("transient It rains", "first", "?]0;line", "progress 0.5"),
    ):
        assert words.split() in linesOf(out), words


def test_whichJob(place):
    a, b = (place.job(job_id=f"abcdef{n}0") for n in (1, 2))
    c = place.job(job_id="abcdef")  # as long as it is, it is this one
    out, errors = place("abort", "abcdef1", "abcde", "dddddddd", "abcdef", "../etc/x", status=1)
    assert out.splitlines() == [f"{a} ABORTED", f"{c} ABORTED"]
    short, unknown, unsafe = errors.splitlines()
    assert "abcde" in short
    assert "6 characters" in short
    assert "no job 'dddddddd'" in unknown
    assert "../etc/x" in unsafe
    place("destroy", c)
    ambiguous = place.refuses("show", "abcdef", status=1)
    assert f"{a} (sleep, ABORTED)" in ambiguous
    assert f"{b} (sleep, PENDING)" in ambiguous
    assert place.phases(a, b, c) == ["ABORTED", "PENDING", None]


def test_run(place):
    ready = place.job(parameters={"seconds": ["5"]})
    lacking, unknown, over = place.job(), place.job("gone"), place.job(phase="COMPLETED")
    done = place.json("run", ready, lacking, unknown, over, ready[:8], status=1)
    assert {"service": "sleep", "jobId": ready, "phase": "QUEUED"} in done["done"]
    assert [one["job"] for one in done["failed"]] == [lacking, unknown, over, ready[:8]]
    for one, words in zip(done["failed"], ("seconds", "gone", "COMPLETED", "QUEUED"), strict=True):
        assert words in one["message"]
    assert place.phases(ready, lacking, unknown) == ["QUEUED", "ERROR", "PENDING"]
    assert place.query("SELECT job_id FROM queue") == [[ready]]


def test_abortAndDestroy(place):
    jobs = [place.job(), place.job("gone"), place.job(phase="COMPLETED")]
    done = place.json("abort", *jobs, status=1)
    assert done["done"] == [
        {"service": "sleep", "jobId": jobs[0], "phase": "ABORTED"},
        {"service": "gone", "jobId": jobs[1], "phase": "ABORTED"},
    ]
    assert [one["job"] for one in done["failed"]] == [jobs[2]]
    assert "COMPLETED" in done["failed"][0]["message"]
    done = place.json("destroy", *jobs)
    assert done["done"][1] == {"service": "gone", "jobId": jobs[1], "phase": None}
    assert place.phases(*jobs) == [None] * 3
    assert not any(place.directory(job).exists() for job in jobs)
    assert place("destroy", jobs[0], status=1)[0] == ""


def test_destroyElsewhere(place, tmp_path):
    """Directories would be left behind if the data directory is another one."""
    job = place.job()
    for words in (("destroy", job), ("cleanup", "--include-all")):
        said = refusal(*words, "--database", place.url, "--data-dir", tmp_path / "other")
        assert "--data-dir" in said
    assert place.phases(job) == ["PENDING"]
    assert not (tmp_path / "other").exists()


@pytest.fixture
def busy():
    """Make a directory one that cannot be removed, not even by root."""
    mounted = []

    def keep(path):
        if os.geteuid() != 0:
            path.chmod(0o500)
            (path.parent).chmod(0o500)
            return
        done = subprocess.run(["mount", "-t", "tmpfs", "none", path], capture_output=True)
        if done.returncode != 0:
            pytest.skip("root may mount nothing here")
        mounted.append(path)

    yield keep
    for path in mounted:
        subprocess.run(["umount", path], check=True)


def test_directoryThatStays(place, busy):
    """What goes wrong in the background is told."""
    job = place.job()
    busy(place.directory(job))
    _, errors = place("destroy", job, status=1)
    assert job in errors
    assert errors.count("\n") == 1


def test_cleanup(place):
    expired = place.job("gone", destruction=NOW - timedelta(days=1))
    failed, aborted = place.job(phase="ERROR"), place.job(phase="ABORTED")
    completed = place.job("gone", "COMPLETED")
    old, new = place.job(), place.job(creation_time=NOW)
    everything = [expired, failed, aborted, completed, old, new]

    def cleaned(*options):
        return {one["jobId"] for one in place.json("cleanup", *options)["jobs"]}

    assert place.json("cleanup", "--dry-run") == {
        "dryRun": True,
        "jobs": [{"service": "gone", "jobId": expired}],
        "leftovers": [],
    }
    assert cleaned("--dry-run", "--service", "sleep") == set()
    assert cleaned("--dry-run", "--include-all") == set(everything)
    assert None not in place.phases(*everything)
    assert cleaned("--include-failed") == {expired, failed, aborted}
    assert cleaned("--include-completed", "--service", "sleep") == set()
    assert cleaned("--include-completed") == {completed}
    assert cleaned("--include-forgotten") == {old}
    assert place("cleanup", "--include-all")[0] == f"{new} sleep\n1 job destroyed\n"
    assert place.phases(*everything) == [None] * 6


def test_upgrade(empty):
    assert "twuws upgrade" in empty.refuses("list")
    assert empty.query("SELECT 1 FROM pg_namespace WHERE nspname = 'uws'") == []
    assert empty.json("upgrade") == {"schema": "uws", "from": 0, "to": VERSION}
    assert empty("upgrade")[0] == f"The schema 'uws' has version {VERSION} already.\n"
    assert empty.json("list") == []
    later = f"from twuws import admin, schema; schema.VERSION = {VERSION + 1}; admin.main()"
    said = refusal("list", *empty.options, program=(sys.executable, "-c", later))
    assert f"version {VERSION} " in said
    assert "twuws upgrade" in said
    empty.query("UPDATE version SET version = 999, works_with = 999")
    assert "999" in empty.refuses("list")
    assert "999" in empty.refuses("upgrade")


def test_noDatabase(tmp_path):
    program = [shutil.which("twuws", path=os.path.dirname(sys.executable))]
    said = refusal("list", program=program, cwd=tmp_path)
    assert f"no data directory {tmp_path}/uws-data" in said
    assert "--data-dir" in said
    said = refusal("upgrade", "--data-dir", tmp_path)
    assert f"no database in the data directory {tmp_path}" in said
    assert list(tmp_path.iterdir()) == []
    refused = "postgresql://uws@127.0.0.1:1/uws"
    assert "refused" in refusal("--database", refused, "list")
    assert "postgresql://" in refusal("list", "--database", "mysql://x")
    assert "is no PostgreSQL URL" in refusal("list", "--database", "postgresql://a?nothing=1")


@pytest.mark.parametrize("words", [["list"], ["--help"], ["passwd", "-"], ["list", "--nothing"]])
def test_likeAnyProgram(words, tmp_path, monkeypatch):
    """What tests fork instead of starting it says the same as the command, and ends alike."""
    monkeypatch.setenv("COLUMNS", "70")
    program = [sys.executable, "-m", "twuws.admin", *words]
    started = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    forked = warm.run(*words, cwd=tmp_path)
    for one in ("returncode", "stdout", "stderr"):
        assert getattr(forked, one) == getattr(started, one)


def test_unknownDatabase(postgres):
    assert "nowhere" in refusal("list", "--database", urlOf(postgres, "nowhere"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["list", "--phase", "DONE"], "EXECUTING"),
        (["list", "--after", "yesterday"], "2015-10-26"),
        (["list", "--last", "-1"], "0 or more"),
        (["show"], "JOB"),
        (["destroy"], "JOB"),
    ],
)
def test_wrongOptions(words, said):
    out, errors = command(*words, status=2)
    assert out == ""
    assert said in errors


def test_wrongConfiguration(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('colour = "red"\n[services.x]\nclass = "nowhere.Job"\n')
    _, errors = command("list", "--config", config, status=2)
    assert [line for line in errors.splitlines() if not line.startswith(f"twuws: {config}: ")] == []
    assert "colour" in errors
    assert "nowhere.Job" in errors


def test_help(capsys):
    assert "COMMAND" in command("--help")[0]
    for name in ("list", "show", "run", "abort", "destroy", "cleanup", "upgrade"):
        with pytest.raises(SystemExit):
            makeParser().parse_args([name, "--help"])
        assert f"Example: twuws {name} " in capsys.readouterr().out


def test_lightImport():
    """Neither Klein nor a reactor come with it."""
    heavy = "{'klein', 'twisted.internet.reactor'}"
    check = f"import sys, twuws.admin; sys.exit(bool({heavy} & sys.modules.keys()))"
    command(program=(sys.executable, "-c", check))


def test_readerWhoHasSeenEnough(place):
    place.job()
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "twuws.admin", "list", *map(str, place.options)]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


# Beside a service


def submit(service, seconds=300):
    """Run a job that sleeps; its id, and the process that does its work."""
    before = sleepers(seconds)
    form = urllib.parse.urlencode({"PHASE": "RUN", "SECONDS": str(seconds)}).encode()
    with urllib.request.urlopen(service.jobList("sleep"), form) as answer:
        jobId = answer.url.rstrip("/").rpartition("/")[2]
    (pid,) = waitUntil(lambda: sleepers(seconds) - before, 20)
    return jobId, pid


def sleepers(seconds):
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["sleep", str(seconds)]
    }


def test_workOfRunningService(place):
    with running(database=place.url, dataDir=place.dataDir) as service:
        jobs = [submit(service, seconds) for seconds in (301.25, 302.25)]
        place("abort", jobs[0][0])
        place("destroy", jobs[1][0])
        waitUntil(lambda: not any(isAlive(pid) for _, pid in jobs), 20)
        waitUntil(lambda: not place.directory(jobs[1][0]).exists(), 20)
        assert place.phases(*(job for job, _ in jobs)) == ["ABORTED", None]
        waitUntil(lambda: not place.query("SELECT * FROM stops"), 20)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_workOfServiceThatIsGone(place, end):
    with running(database=place.url, dataDir=place.dataDir, slots=3) as service:
        jobs = [submit(service, seconds) for seconds in (303.25, 304.25, 305.25)]
        getattr(service, end)()
        assert all(isAlive(pid) for _, pid in jobs)
        place("abort", jobs[0][0][:12])
        assert [isAlive(pid) for _, pid in jobs] == [False, True, True]
        assert place.directory(jobs[0][0]).exists()
        place("destroy", jobs[1][0])
        assert [isAlive(pid) for _, pid in jobs] == [False, False, True]
        assert not place.directory(jobs[1][0]).exists()
        assert place.query("SELECT * FROM stops") == []
        assert place.phases(*(job for job, _ in jobs)) == ["ABORTED", None, "EXECUTING"]
    assert not isAlive(jobs[2][1])


@pytest.fixture
def reachable():
    """A directory that PostgreSQL can reach, whoever it runs as."""
    path = Path(tempfile.mkdtemp(prefix="twuws-admin-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_embeddedDatabase(reachable):
    """It uses the server that runs, or starts one for as long as it takes."""
    with running(dataDir=reachable / "data") as service:
        options = ("--data-dir", service.dataDir)
        job, pid = submit(service, 306.25)
        assert json.loads(command("list", "--json", *options)[0])[0]["jobId"] == job
        service.stop()
        assert runningDSN(service.dataDir / "postgres") is None
        assert command("abort", job, *options)[0] == f"{job} ABORTED\n"
        assert not isAlive(pid)
        assert runningDSN(service.dataDir / "postgres") is None
        service.restart()
        service.kill()
        assert job in command("list", *options)[0]
        assert runningDSN(service.dataDir / "postgres") is not None


def test_interrupt(reachable):
    """Ctrl-C leaves no PostgreSQL behind."""
    with running(dataDir=reachable / "data") as service:
        service.stop()
        cluster = service.dataDir / "postgres" / "cluster"
        words = [sys.executable, "-m", "twuws.admin", "list", "--data-dir", str(service.dataDir)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        waitUntil(lambda: (cluster / "postmaster.pid").exists() or process.poll() is not None, 30)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
        assert (process.returncode, out, errors) == (130, b"", b"")
        assert not (cluster / "postmaster.pid").exists()
