"""Programs declared without Python, run as whole jobs over HTTP."""

from __future__ import annotations

import hashlib
import io
import os

from tests.serving import HREF, serve, text
from twuws import config
from twuws.interfaces import WorkLimits


def declared(tmp_path, toml):
    """The one service that a configuration declares."""
    path = tmp_path / "uws.toml"
    path.write_text("[services.noted]\n" + toml)
    (service,) = config.load(str(path)).services
    return service


async def run(database, tmp_path, toml, data=(), files=None):
    """Run one job; what is left of it, and the service, which is stopped."""
    service = declared(tmp_path, toml)
    serving = await serve(
        database,
        tmp_path / "jobs",
        jobClass=service.jobClass,
        limits=service.limits,
        environment=service.environment,
    )
    try:
        url = await serving.create([("PHASE", "RUN"), *data], files=files)
        job = await serving.ended(url)
        results = {
            one.get("id"): (await serving.get(one.get(HREF))).content
            for one in job.find("{*}results")
        }
        return job, results
    finally:
        await serving.stop()


async def test_output_and_files_are_results(database, tmp_path):
    content = os.urandom(100_000)
    job, results = await run(
        database,
        tmp_path,
        """
command = ["sh", "-c", "sha256sum < $1; cp $1 copy.bin; echo $GREETING >&2", "x", "{file}"]
environment = {GREETING = "hello there"}
parameters.file = {type = "File", required = true}
results."digest.txt" = {type = "text/plain", stream = "stdout"}
results.copy = {file = "copy.bin", type = "application/x-copy"}
results.none = {optional = true}
results.said = {stream = "stderr", type = "text/plain"}
""",
        files={"file": ("a", "application/x-a", io.BytesIO(content))},
    )
    assert text(job, "phase") == "COMPLETED"
    assert results == {
        "digest.txt": hashlib.sha256(content).hexdigest().encode() + b"  -\n",
        "copy": content,
        "said": b"hello there\n",
    }
    types = {one.get("id"): one.get("mime-type") for one in job.find("{*}results")}
    assert types["copy"] == "application/x-copy"


async def test_values_are_arguments(database, tmp_path):
    """Whatever they contain, and never a shell's; what has no value is left out."""
    nasty = "$(touch /tmp/x); `id` \"quoted' * \\ {x}\n-rf"
    job, results = await run(
        database,
        tmp_path,
        """
command = ["printf", "<%s>", "{text}", ["--low", "{low}"], "--n={n}", ["-m", "{many}"]]
parameters.text = {type = "Text"}
parameters.low = {type = "Real"}
parameters.n = {type = "Integer", default = 3}
parameters.many = {type = "Choice", choices = ["a", "b"], multiple = true}
results.out = {stream = "stdout", type = "text/plain"}
""",
        data=[("text", nasty), ("many", "a"), ("many", "b")],
    )
    assert text(job, "phase") == "COMPLETED"
    assert results["out"].decode() == f"<{nasty}><--n=3><-m><a><-m><b>"


async def test_values_that_cannot_be_arguments(database, tmp_path, loggedErrors):
    """What a client sends can fill no log with tracebacks."""
    toml = 'command = ["echo", "{text}"]\nparameters.text = {type = "Text"}\n'
    job, _ = await run(database, tmp_path, toml, data=[("text", "a\0b")])
    assert text(job, "phase") == "ERROR"
    assert "NUL" in text(job, "errorSummary/message")
    assert not loggedErrors


async def test_missing_result(database, tmp_path):
    job, _ = await run(database, tmp_path, 'command = ["true"]\nresults.out = {}\n')
    assert text(job, "phase") == "ERROR"
    assert "out" in text(job, "errorSummary/message")


async def test_limits(database, tmp_path):
    for limits, script, expected in (
        ('file-size = "10 kB"', "head -c 100000 /dev/zero > x", "File size"),
        ("cpu = 1", "while :; do :; done", "CPU"),
        ('memory = "64 MiB"', "exec python3 -c 'bytearray(1 << 30)'", "MemoryError"),
        ("output = 100", "head -c 1000 /dev/zero | tr '\\\\0' x; exit 3", "status 3"),
    ):
        toml = f'command = ["sh", "-c", "{script}"]\nlimits = {{{limits}}}\n'
        job, _ = await run(database, tmp_path, toml)
        assert text(job, "phase") == "ERROR", limits
        assert expected in text(job, "errorSummary/message"), limits


def test_limits_of_the_configuration(tmp_path):
    service = declared(tmp_path, 'command = ["true"]\nlimits = {memory = "1 GB", grace = 3}\n')
    assert service.limits == WorkLimits(memory=10**9, grace=3)


async def test_messier_by_upload(database, tmp_path):
    """The example as a whole job: a table in, a table with its neighbours out."""
    toml = 'class = "twuws.examples.messier.Messier"\n'
    table = b"name,ra,dec\ncrab,83.63,22.01\nnothing,10,-60\nandromeda,10.68,41.27\n"
    files = {"table": ("t.csv", "text/csv", io.BytesIO(table))}
    job, results = await run(database, tmp_path, toml, [("radius", "0.1")], files)
    assert text(job, "phase") == "COMPLETED"
    assert set(results) == {"result", "result.csv"}
    lines = results["result.csv"].decode().splitlines()
    assert lines[0].startswith("name,ra,dec,messier_name")
    assert [line.split(",")[0:1] + line.split(",")[3:4] for line in lines[1:]] == [
        ["crab", "M1"], ["andromeda", "M31"],
    ]  # fmt: skip
    assert b'version="1.4"' in results["result"]
