"""
Part L, too: what programs that people use send, and a service must take.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from twuws.conformance.answers import Answer
from twuws.conformance.client import FORM
from twuws.conformance.documents import instant
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: The Content-Type of forms: STILTS's and TOPCAT's, then astroquery's, then tapquery's.
_TOPCAT = "<<<--------------MULTIPART-BOUNDARY------->>>"
_OTHERS = (
    ("multipart/form-data; boundary====1795453847868===", "===1795453847868==="),
    ('multipart/form-data; boundary="========== next part"', "========== next part"),
)
_TYPED = {"Content-Type": "text/plain; charset=UTF-8"}


def _name(uws: Session) -> str:
    """A parameter that takes any text."""
    return uws.settings.text or "RUNID"


def _others(uws: Session) -> list[tuple[str, str]]:
    """What else a very short job has, without its files."""
    return [one for one in uws.veryShort.pairs if one[0] not in (_name(uws), uws.settings.file)]


def _value(uws: Session, job: Job) -> str | None:
    """What became of it."""
    document = job.document()
    if uws.settings.text is None:
        return document.text("runId")
    known = {one.id.lower(): one.value for one in document.parameters}
    return known.get(uws.settings.text.lower())


def _requireArrived(uws: Session, answer: Answer, value: str, how: str) -> None:
    """Fail unless an answer to a creation leads to a job with a value."""
    uws.require(answer.status == 303, f"A form {how} is answered {answer.status}.", answer)
    found = _value(uws, uws.jobFrom(answer))
    name = _name(uws)
    uws.require(found == value, f"Of a form {how}, {name} is {found!r}, not {value!r}.", answer)


@check("L1", "S", "2.2.3.1", "The multipart forms of TOPCAT, astroquery and tapquery are read.")
def multipartForms(uws: Session) -> None:
    files = uws.veryShort.files or [("kit", "kit.txt", b"kit")]
    answer = uws.post("", [*_others(uws), (_name(uws), "plain")], files=files)
    if answer.status == 415:
        raise Skipped("the service takes no multipart forms")
    for number, piece in enumerate((1 << 20, 7)):
        value = f"Großes {number}"
        body = b"\r\n" + _multipart(uws, _TOPCAT, value, _TYPED)
        pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
        kind = f'multipart/form-data; boundary="{_TOPCAT}"'
        _requireArrived(uws, uws.post("", body=pieces, mediaType=kind), value, "as of TOPCAT")
    for kind, boundary in _OTHERS:
        body = _multipart(uws, boundary, "other", {})
        answer = uws.post("", body=body, mediaType=kind)
        _requireArrived(uws, answer, "other", f"with the boundary {boundary!r}")


def _multipart(uws: Session, boundary: str, value: str, headers: dict[str, str]) -> bytes:
    """A form with the parameters of a very short job, a text, and a file if one is known."""
    files, name = list(uws.veryShort.files), _name(uws)
    known = {one[0] for one in files}
    if uws.settings.file is not None and uws.settings.file not in known:
        files.append((uws.settings.file, "kit.csv", b"a,b\n1,2\n"))
    pairs = [*_others(uws), (name, value)]
    parts = [(f'name="{key}"', headers, text.encode()) for key, text in pairs]
    for key, fileName, content in files:
        kind = {"Content-Type": "application/octet-stream"}
        parts.append((f'name="{key}"; filename="{fileName}"', kind, content))
    return b"".join(_parts(boundary, parts)) + f"--{boundary}--\r\n".encode()


def _parts(boundary: str, parts: list[tuple[str, dict[str, str], bytes]]) -> Iterator[bytes]:
    for disposition, headers, content in parts:
        head = {"Content-Disposition": f"form-data; {disposition}", **headers}
        lines = [f"--{boundary}", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        yield "\r\n".join(lines).encode() + content + b"\r\n"


@check("L8", "S", "2.2.3.3", "An instant is taken with a fraction or without, with Z or without.")
def instantForms(uws: Session) -> None:
    job = uws.newJob()
    when = (datetime.now(UTC) + timedelta(hours=5)).replace(microsecond=0)
    bare = when.strftime("%Y-%m-%dT%H:%M:%S")
    if job.post("/destruction", {"DESTRUCTION": f"{bare}Z"}).status != 303:
        raise Skipped("the service does not let clients change the destruction")
    first = _destruction(job)
    for text in (bare, f"{bare}.000", f"{bare}.000Z", f"{bare}.000000Z"):
        answer = job.post("/destruction", {"DESTRUCTION": text})
        uws.require(answer.status == 303, f"{text} is answered {answer.status}.", answer)
        found = _destruction(job)
        same = abs(found - first) < timedelta(seconds=60)
        uws.require(same, f"{text} became {found:%Y-%m-%dT%H:%M:%SZ}, and not {first:%H:%M:%SZ}.")


def _destruction(job: Job) -> datetime:
    return instant(job.document().text("destruction") or "9999-12-31")


@check("L10", "S", "2.2.3", "Upper and lower case are the same in names that are the standard's.")
def namesInAnyCase(uws: Session) -> None:
    job = uws.newJob(controls={"runId": "kit"})
    found = job.document().text("runId")
    uws.require(found == "kit", f"After runId=kit at the creation, it is {found!r}.")
    for path, upper, lower in (
        ("/destruction", "DESTRUCTION", "destruction"),
        ("/executionduration", "EXECUTIONDURATION", "executionDuration"),
    ):
        now = uws.expect(job.get(path), 200).text.strip()
        if now and job.post(path, {upper: now}).status == 303:
            _requireTaken(uws, job.post(path, {lower: now}), f"{lower}={now}")
    _requireTaken(uws, job.post("/phase", {"phase": "ABORT"}), "phase=ABORT")
    phase = job.phase()
    uws.require(phase == "ABORTED", f"After phase=ABORT the job is {phase}.")
    _requireTaken(uws, job.post("", {"action": "DELETE"}), "action=DELETE")
    uws.expect(job.get(), 404)
    _requireWait(uws, uws.pending())


def _requireTaken(uws: Session, answer: Answer, what: str) -> None:
    uws.require(answer.status == 303, f"{what} is answered {answer.status}.", answer)


def _requireWait(uws: Session, job: Job) -> None:
    """Fail if C{wait} does not wait where C{WAIT} does."""
    upper, lower = uws.parallel(
        [lambda: job.get(query={"WAIT": "1"}), lambda: job.get(query={"wait": "1"})]
    )
    waits = upper.seconds < 0.2 or lower.seconds > upper.seconds / 2  # it may wait for less
    uws.require(waits, f"WAIT=1 took {upper.seconds:.1f} s, wait=1 {lower.seconds:.1f} s.", lower)


@check("L11", "S", "2.2.3.1", "Parameters count in the query of a POST, too, and may come twice.")
def inTheQuery(uws: Session) -> None:
    name = _name(uws)
    pair = (name, "kit")

    def create(pairs: list[tuple[str, str]], **more: object) -> Answer:
        return uws.post("", [*_others(uws), *pairs], files=uws.veryShort.files, **more)

    _requireArrived(uws, create([], query=[pair]), "kit", "with parameters in the query")
    _requireArrived(uws, create([pair], query=[pair]), "kit", "with the same in the query")
    answer = create([pair, (_otherCase(name), "kit")])
    uws.require(
        answer.status == 303,
        f"A form with {name} and {_otherCase(name)} is answered {answer.status}.", answer,
    )  # fmt: skip


def _otherCase(name: str) -> str:
    return name.lower() if name.lower() != name else name.upper()


@check("L13", "S", "2.2.3.5", "PHASE is taken by the job itself, as uws-client has it.")
def phaseAtTheJob(uws: Session) -> None:
    started, aborted = uws.newJob(), uws.newJob()
    for job, word in ((started, "RUN"), (aborted, "ABORT")):
        answer = job.post("", {"PHASE": word})
        _requireTaken(uws, answer, f"PHASE={word}")
        uws.require(answer.location == job.url, f"The Location is {answer.location}.", answer)
    phase = started.phase()
    uws.require(phase != "PENDING", "After PHASE=RUN the job is PENDING.")
    phase = aborted.phase()
    uws.require(phase == "ABORTED", f"After PHASE=ABORT the job is {phase}.")


@check("L22", "S", "2.2.3.1", "Bodies may come in chunks, and may wait to be asked for.")
def chunksAndExpectations(uws: Session) -> None:
    # Uploads of TOPCAT come so; and those of curl, if they are large.
    if uws.veryShort.files:
        raise Skipped("the very short job needs a file; L1 sends one in chunks")
    body = urlencode([*_others(uws), (_name(uws), "kit")]).encode()
    pieces = [body[at : at + 5] for at in range(0, len(body), 5)]
    _requireArrived(uws, uws.post("", body=pieces, mediaType=FORM), "kit", "in chunks")
    headers = {"Content-Type": FORM, "Content-Length": str(len(body)), "Expect": "100-continue"}
    with uws.wire() as wire:
        wire.send(wire.head("POST", headers))
        asked = wire.says(uws.settings.delay)
        wire.send(body)
        answer = wire.answer()
    uws.require(answer, "The service hung up on Expect: 100-continue.")
    if answer is not None:
        _requireArrived(uws, answer, "kit", "after Expect: 100-continue")
        uws.require(asked, "The body was not asked for, as HTTP says, with 100.", answer)
