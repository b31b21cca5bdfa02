"""
The conformance kit against the service that the first line of README.rst starts: all three
examples, at every level, without a failure.  Then once more, for what is about users, against
one that has some.

    python3 checkexamples.py DIRECTORY TWUWS [UWS.xsd]

The directory has a copy of the sources; TWUWS is the command that has the kit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from firststart import LINE, Service, check, copiedPrograms, processesIn, say

#: By example: what the kit is told.
EXAMPLES = {
    "sleep": "--veryshort seconds=0 --short seconds=2 --long seconds=600 --error",
    "messier": "--veryshort ra=83.8 dec=-5.4 --error --file table",
    "digest": "--veryshort file=@setup.cfg --error --file file --limit 4294967296",
}
#: What loads or attacks a service is done to one of them, when the others are through.
HARD = "--veryshort seconds=0 --load --attack --only 11 20 44 45 53 99 100 101 102"
#: What is checked with none of them, and where it is.
ELSEWHERE = {
    *("70", "72"),  # no example takes XML, or has a limit that is worth sending
    *("55", "84", "L18", "L20", "L21", *(str(number) for number in range(86, 95))),
}

#: A service with users, of whom one has a password and the other a token.
USERS = """
[auth.passwords]
file = "passwords"
[auth.tokens]
[services.sleep]
command = ["sleep", "{seconds}"]
parameters = {seconds = {type = "Real"}}
"""
WITH_USERS = "--veryshort seconds=0 --long seconds=600 --only H 1 5 14 79 --user anna"


def conforms(url, twuws, arguments, directory, xsd, **secrets):
    """Run the kit; the checks that passed."""
    report = directory / f"report-{time.monotonic_ns()}.json"
    command = [twuws, "check", url, "--json", str(report), *arguments.split(), *xsd]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=900,
        env={**os.environ, **secrets},
    )  # fmt: skip
    outcomes = json.loads(report.read_text())["checks"] if report.exists() else []
    failed = [one["id"] for one in outcomes if one["status"] not in ("passed", "skipped")]
    if done.returncode or failed or not outcomes:
        raise SystemExit(f"{' '.join(command)}: {failed}\n{done.stdout}{done.stderr}")
    passed = {one["id"] for one in outcomes if one["status"] == "passed"}
    made = done.stdout.strip().splitlines()[-1]
    say(f"{url}: {len(passed)} passed after {time.monotonic() - began:.0f} s. {made}")
    return passed, {one["id"] for one in outcomes}


def withUsers(directory, port, twuws, xsd):
    """The same for a service that has users, in the same directory."""
    (directory / "users.toml").write_text(USERS)
    ours = [directory / ".venv/bin/twuws"]
    subprocess.run(
        [*ours, "passwd", "passwords", "anna"], cwd=directory, input=b"wonderland", check=True
    )
    line = ".venv/bin/twistd -n uws --config users.toml"
    service = Service(line, directory, port, patience=60, names="sleep")
    token = subprocess.run(
        [*ours, "token", "create", "--config", "users.toml", "--owner", "bob"],
        cwd=directory, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    url = f"{service.url}/sleep/async"
    known = {"UWS_PASSWORD": "wonderland", "UWS_OTHER_TOKEN": token}
    report = conforms(url, twuws, WITH_USERS, directory, xsd, **known)
    check("checks of users that did not pass", sorted({"80", "81", "82", "85"} - report[0]), [])
    service.interrupt()
    return report


def main(directory, twuws, xsd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    service = Service(LINE, directory, port, patience=300)
    database = os.path.realpath(directory / "uws-data/postgres")
    copied = copiedPrograms(database)
    try:

        def run(one):
            name, arguments = one
            return conforms(f"{service.url}/{name}/async", twuws, arguments, directory, xsd)

        with ThreadPoolExecutor() as pool:  # they wait most of the time
            reports = list(pool.map(run, EXAMPLES.items()))
        reports.append(run(("sleep", HARD)))
        service.interrupt()
        reports.append(withUsers(directory, port, twuws, xsd))
        seen = set().union(*(passed for passed, _ in reports))
        known = set().union(*(all for _, all in reports))
        check("checks that no example passed", sorted(known - seen - ELSEWHERE), [])
        check("processes left", processesIn(directory, database), {})
    finally:
        for number in processesIn(directory, database):
            os.kill(number, signal.SIGKILL)
        if not Path(database).is_relative_to(os.path.realpath(directory)):
            shutil.rmtree(database, ignore_errors=True)
        if copied:
            shutil.rmtree(copied, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2], ["--xsd", sys.argv[3]] if sys.argv[3:] else [])
