"""
Jobs of others: in lists, by their ids, by what they are shared with, and for administrators.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from tests.authenticating import basic
from tests.hostile.attack import attack
from tests.hostile.service import Service
from tests.hostile.wire import Client

WORK = "/work/async"
#: How many ids are looked at.
IDS = 500


@attack("lists, and what is in them of others")
def lists(service: Service) -> str:
    client = Client(service.port)
    alice, bob = basic("alice"), basic("bob")
    secret = client.make(body=b"text=mine", headers=alice)
    anonymous = client.make()
    ids = [one.rpartition("/")[2] for one in (secret, anonymous)]
    assert ids[0] in client.get(WORK, alice).text
    number = 0
    for who in (bob, dict[str, str]()):
        for query in ("", "?PHASE=PENDING", "?LAST=100", "?AFTER=2000", "?OWNER=alice",
                      "?owner=alice", "?PHASE=PENDING&PHASE=ARCHIVED", "?RUNID=a",
                      "?JOBID=" + ids[0], "?OWNERID=alice&ALL=true",
                      "?LAST=2147483647&AFTER=1970-01-01", "?RESPONSEFORMAT=json"):  # fmt: skip
            for accept in ("*/*", "application/json", "text/html"):
                answer = client.get(WORK + query, {**who, "Accept": accept})
                assert answer.status in (200, 400, 406), (query, answer.status, answer.text)
                for one in ids:
                    assert one not in answer.text or one in query, (who, query, answer.text)
                number += 1
    for one in ("%", "_", "%25", ids[0][:16] + "%25", ids[0].upper(), ids[0] + "%00", ids[0][:-1]):
        assert client.get(f"{WORK}/{one}", bob).status in (400, 404), one
        number += 1
    client.end(secret, alice)
    client.end(anonymous)
    return f"{number} answers"


def _from(service: Service, number: int) -> Client:
    """Somebody of many: each address can make so many jobs in a minute."""
    return Client(service.port, f"127.0.5.{number % 20 + 1}")


@attack("ids of jobs, guessed")
def ids(service: Service) -> str:
    """They have at least 96 bits, and say nothing of when they were made."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: _from(service, n).make(), range(IDS)))
    found = [one.rpartition("/")[2] for one in made]
    assert len(set(found)) == IDS
    assert all(re.fullmatch("[0-9a-f]{24,}", one) for one in found), found[:3]
    for place in range(len(found[0])):
        most = max(sum(one[place] == digit for one in found) for digit in "0123456789abcdef")
        assert most < IDS / 16 * 2.5, f"digit {place} is the same {most} times"
    rises = sum(one < other for one, other in pairwise(found))
    assert abs(rises - IDS / 2) < IDS / 8, f"{rises} of {IDS} ids are larger than those before"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: _from(service, n).end(made[n]), range(IDS)))
    return f"{IDS} ids of {len(found[0])} digits"


def _audit(service: Service) -> list[dict[str, Any]]:
    lines = (service.directory / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@attack("administrators who would be somebody else")
def admins(service: Service) -> str:
    """They see, abort and destroy; they make nothing in another's name, and it is written down."""
    client = Client(service.port)
    alice, root = basic("alice"), basic("root")
    job = client.make(body=b"text=mine", headers=alice)
    jobId = job.rpartition("/")[2]
    for headers, body in (
        (root, b"OWNER=alice&OWNERID=alice&owner=alice"), ({**root, "X-Remote-User": "alice"}, b""),
        ({**root, "X-Forwarded-User": "alice", "On-Behalf-Of": "alice"}, b""),
    ):  # fmt: skip
        answer = client.post(WORK, body, headers=headers)
        assert answer.status in (303, 400), (headers, answer.status, answer.text)
        if answer.status == 303:
            made = "/" + answer.headers["location"].split("/", 3)[3]
            assert client.get(made + "/owner", root).text == "root"
            client.end(made, root)
    assert client.post(job + "/parameters", b"text=evil", headers=root).status == 403
    assert client.post(job + "/phase", b"PHASE=RUN", headers=root).status == 403
    assert "mine" in client.get(job, root).text
    assert client.post(job + "/phase", b"PHASE=ABORT", headers=root).status == 303
    client.end(job, root)
    told = [one for one in _audit(service) if jobId in one["to"] and one.get("of") == "alice"]
    done = [(one["who"], one["did"], one["status"]) for one in told]
    for one in (("root", "GET", 200), ("root", "POST", 303), ("root", "DELETE", 303)):
        assert one in done, (one, done)
    return f"{len(done)} lines in the audit log"


@attack("phases by GET, and in the query")
def phasesByQuery(service: Service) -> str:
    client = Client(service.port)
    job = client.make()
    for path in ("/phase?PHASE=ABORT", "/phase?PHASE=RUN", "?PHASE=ABORT", "?ACTION=DELETE",
                 "/parameters?text=evil", "/destruction?DESTRUCTION=2000-01-01T00:00:00Z",
                 "/executionduration?EXECUTIONDURATION=1"):  # fmt: skip
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = client.ask(method, job + path)
            assert answer.status < 500, (method, path, answer.status)
    assert client.get(job + "/phase").text == "PENDING"
    assert "evil" not in client.get(job).text
    answer = client.post(job + "/phase?PHASE=ABORT")
    assert answer.status in (303, 400), (answer.status, answer.text)
    found = client.get(job + "/phase").text
    assert found == ("ABORTED" if answer.status == 303 else "PENDING"), found
    client.end(job)
    return f"by POST {answer.status}"


@attack("shared URLs that are made up, or of another job")
def sharedURLs(service: Service) -> str:
    client, alice = Client(service.port), basic("alice")
    job, other = (client.make(body=b"text=mine", headers=alice) for _ in range(2))
    text = client.post(job + "/share", b"LIFETIME=600", headers=alice).text.strip()
    base, _, token = ("/" + text.split("/", 3)[3]).rpartition("/")
    jobId, expires, signed = token.split(".")
    otherId = other.rpartition("/")[2]
    assert "mine" in client.get(f"{base}/{token}").text
    for forged in (
        f"{otherId}.{expires}.{signed}", f"{jobId}.{int(expires) + 1}.{signed}", jobId, "..",
        f"{jobId}.{expires}.{'A' * len(signed)}", f"{jobId}.99999999999999.{signed}",
        f"{jobId}.{expires}.{signed[:-1]}", f"{jobId.upper()}.{expires}.{signed}", ".",
        f"{jobId}.nan.{signed}", f"{jobId}.{expires}.{signed}%00", f"%2e%2e/{jobId}",
        f"{jobId}.0.{signed}", f"{jobId}.{expires}.",
    ):  # fmt: skip
        for child in ("", "/parameters/text", "/phase"):
            answer = client.get(f"{base}/{forged}{child}")
            assert answer.status in (401, 403, 404), (forged, answer.status, answer.text)
            assert "mine" not in answer.text, forged
    assert client.get(f"{base.replace('/work/', '/read/')}/{token}").status == 404
    for method in ("POST", "PUT", "DELETE"):
        for child in ("", "/phase", "/parameters", "/share", "/parameters/text"):
            answer = client.ask(method, f"{base}/{token}{child}", body=b"")
            assert answer.status in (403, 404, 405), (method, child, answer.status, answer.text)
    assert client.post(job + "/share", headers=basic("bob")).status == 403
    assert client.post(job + "/share").status == 401
    for one in (job, other):
        client.end(one, alice)
    assert client.get(f"{base}/{token}").status == 404
    return "none leads anywhere"
