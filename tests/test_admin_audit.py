"""What is done with the C{twuws} command is in the audit log."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.test_admin import empty as empty
from tests.test_admin import place as place
from twuws.admin.auditing import CHANGES
from twuws.admin.options import makeParser

pytestmark = pytest.mark.slow

CONFIG = """
[auth]
audit-log = "{log}"
[auth.tokens]
[services.sleep]
command = ["sleep", "1"]
"""


@pytest.fixture
def audited(place, tmp_path):
    """A command that is given a configuration with an audit log, and what is in that."""
    (tmp_path / "log").mkdir()
    path = tmp_path / "log" / "audit.log"
    config = tmp_path / "uws.toml"
    config.write_text(CONFIG.format(log=path))

    def run(*words, status=0):
        place(*words, "--config", config, status=status)
        return [json.loads(line) for line in path.read_text().splitlines()]

    run.path, run.config, run.place = path, config, place
    return run


def test_who_asked_for_it(audited):
    """A node that is to abort its jobs among it: who asked, when, and what came of it."""
    audited.place.query(
        "INSERT INTO nodes (node, host, pid, started, version, slots, services, lease_ends)"
        " VALUES ('h-1234', 'h', 1, '1', '1', 1, '{sleep}', now() + interval '1 hour')"
    )
    job = audited.place.job(owner="anna")
    audited("abort", job)
    audited("hold", "--service", "sleep", "--why", "Repairs\n{")
    *_, missing = audited("destroy", "0" * 32, status=1)
    *_, drained = found = audited("drain", "h-1234", "--on-stop", "abort")
    assert [one["did"] for one in found] == ["abort", "hold", "destroy", "drain"]
    assert [one["to"] for one in found] == [
        {"jobs": [job]}, {"service": "sleep", "why": "Repairs\n{"}, {"jobs": ["0" * 32]},
        {"nodes": ["h-1234"], "on-stop": "abort"},
    ]  # fmt: skip
    assert (missing["status"], drained["status"]) == (1, 0)
    assert {one["by"] for one in found} == {"command"}
    assert drained["who"].startswith("admin ")
    assert drained["at"] >= found[0]["at"]


def test_tokens_are_not_in_it(audited):
    made = json.loads(
        audited.place("token", "create", "--owner", "anna", "--json", "--config", audited.config)[0]
    )
    found = audited("token", "revoke", made["id"])
    assert [one["did"] for one in found] == ["token create", "token revoke"]
    assert made["token"] not in audited.path.read_text()
    assert audited.place.url not in audited.path.read_text()


def test_looking_is_not_recorded(audited):
    audited.place("list", "--config", audited.config)
    audited.place("cleanup", "--dry-run", "--config", audited.config)
    assert not audited.path.exists()


def test_what_cannot_be_recorded_is_not_done(audited):
    audited.path.mkdir()
    job = audited.place.job()
    told = audited.place.refuses("abort", job, "--config", audited.config)
    assert "it cannot be written" in told
    assert audited.place.phases(job) == ["PENDING"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_the_service_can_go_on_writing(audited):
    """Though root was there first: the file is the directory's owner's."""
    os.chown(audited.path.parent, 1234, 1234)
    audited("cleanup")
    found = audited.path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 1234, 0o640)


def test_every_command_that_changes_is_recorded():
    """All but those that only look, or are about the database itself, or about no service."""
    looking = {"listJobs", "showJob", "showHistory", "showLimits", "listNodes", "listHolds",
               "listTokens", "upgrade", "run"}  # fmt: skip
    known = {one.__name__ for one in CHANGES}
    found = set()

    def walk(parser):
        if command := parser.get_default("command"):
            found.add(command.__name__)
        for action in parser._actions:
            for below in (getattr(action, "choices", None) or {}) if action.nargs == "A..." else ():
                walk(action.choices[below])

    walk(makeParser())
    assert found - known == looking
    assert known <= found
