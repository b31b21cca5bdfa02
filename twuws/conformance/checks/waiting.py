"""
Part D: C{WAIT}, by which clients wait for a job to change.

A service may have a maximum, and answer sooner than is asked for; but not at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from statistics import median

from twuws.conformance.answers import Answer
from twuws.conformance.client import Pairs
from twuws.conformance.documents import ACTIVE, PHASES, TERMINAL
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Failed, Skipped
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: How long connections live on which nothing is sent, in most networks, s.
LIVES = 300.0
#: How many wait at once; systems let a process have 1024 connections, or fewer.
CROWD = 950
#: How much longer an answer may take because others wait, s.
PROMPT = 0.2


def askToWait(uws: Session, job: Job, query: Pairs, atMost: float) -> Answer:
    """The answer to a WAIT; it has to come C{atMost} seconds later, and what it takes to act."""
    return job.get(query=query, timeout=atMost + uws.settings.delay - uws.settings.timeout)


def atOnce(uws: Session, job: Job, query: Pairs) -> None:
    """Fail unless a WAIT is answered without waiting."""
    answer = uws.expect(askToWait(uws, job, query, uws.settings.wait), 200)
    took = answer.seconds
    uws.require(took < uws.settings.delay, f"It was answered after {took:.1f} s.", answer)


def meanwhile(
    uws: Session, job: Job, query: Pairs, after: float, act: Callable[[], object]
) -> tuple[Answer, float | None]:
    """
    The answer to a WAIT, and by how much it came later than the end of C{act}.

    @param after: when to act, s; if the answer comes sooner, nothing is done, nor returned.
    """
    isAnswered = threading.Event()
    answers: list[Answer] = []
    acted: list[float] = []

    def wait() -> None:
        try:
            answers.append(askToWait(uws, job, query, after + uws.settings.wait))
        finally:
            isAnswered.set()

    def interfere() -> None:
        if not isAnswered.wait(after):
            act()
            acted.append(time.monotonic())

    uws.parallel([wait, interfere])
    (answer,) = answers
    return answer, answer.began + answer.seconds - acted[0] if acted else None


def requireWaited(uws: Session, answer: Answer, seconds: float) -> None:
    """Fail if a WAIT of C{seconds} was answered at once, though nothing had changed."""
    least = min(seconds, uws.settings.delay) - 0.05  # clocks differ
    took = answer.seconds
    uws.require(took >= least, f"Nothing had changed, and it waited {took:.2f} s.", answer)


@check(46, "M", "2.2.1.2", "WAIT is answered at once where a job cannot change any more.")
def inactive(uws: Session) -> None:
    aborted = uws.newJob()
    aborted.abort()
    for job in (uws.completed(), aborted):
        atOnce(uws, job, {"WAIT": "100"})


@check(47, "M", "2.2.1.2", "WAIT=n is answered after n seconds if nothing changes.")
def sitOut(uws: Session) -> None:
    seconds = uws.settings.wait
    answer = askToWait(uws, uws.pending(), {"WAIT": str(seconds)}, seconds)
    phase = uws.valid(uws.expect(answer, 200), "job").phase
    uws.require(phase == "PENDING", f"The job was not started, and is {phase}.", answer)
    requireWaited(uws, answer, seconds)
    late = answer.seconds - seconds
    uws.require(late < uws.settings.delay, f"It was answered {late:.1f} s late.", answer)


@check(48, "M", "2.2.1.2", "WAIT with a PHASE that the job is not in is answered at once.")
def otherPhase(uws: Session) -> None:
    for phase in PHASES:
        if phase != "PENDING":
            atOnce(uws, uws.pending(), {"WAIT": str(uws.settings.wait), "PHASE": phase})


@check(49, "M", "2.2.1.2", "Who follows a job by WAIT and PHASE learns of its end in time.")
def followed(uws: Session) -> None:
    job = uws.newJob(uws.short, run=True)
    answers: list[Answer] = []
    ends: list[float] = []

    def watch() -> None:
        uws.until(lambda: job.phase() in TERMINAL, uws.settings.patience, "The job does not end.")
        ends.append(time.monotonic())

    uws.parallel([lambda: answers.append(_follow(uws, job)), watch])
    (answer,), (end,) = answers, ends
    phase = job.read(answer).phase
    uws.require(phase == "COMPLETED", f"The short job is {phase}, not COMPLETED.", answer)
    late = answer.began + answer.seconds - end
    uws.require(late < uws.settings.delay, f"It was told {late:.1f} s after the end.", answer)


def _follow(uws: Session, job: Job) -> Answer:
    """The answer by which the end is known, as clients find out."""
    phase = "QUEUED"
    until = time.monotonic() + uws.settings.patience
    vain = 0
    while time.monotonic() < until:
        most = min(120 if phase == "QUEUED" else 30, int(uws.settings.patience) or 1)
        answer = askToWait(uws, job, {"WAIT": str(most), "PHASE": phase}, most)
        found = job.read(answer).phase
        if found in TERMINAL:
            return answer
        if found not in ACTIVE:
            uws.sleep(uws.settings.poll)  # in these nobody waits
        elif found == phase and answer.seconds < uws.settings.delay / 4:
            vain += 1  # something else may have changed, but not again and again
            uws.require(vain < 4, f"The job is {phase}, and it does not wait.", answer)
        phase = found
    raise Failed("The job does not end.")


@check(50, "M", "2.2.1.2", "WAIT=-1 waits for a change, though not longer than connections live.")
def asLongAsItTakes(uws: Session) -> None:
    job = uws.newJob()
    sitsOut = uws.settings.load
    after = LIVES if sitsOut else uws.settings.delay * 1.2
    answer, late = meanwhile(uws, job, {"WAIT": "-1"}, after, job.abort)
    phase = uws.valid(uws.expect(answer, 200), "job").phase
    if late is None:  # it has a maximum
        requireWaited(uws, answer, uws.settings.delay)
        uws.require(phase == "PENDING", f"The job was not started, and is {phase}.", answer)
        return
    uws.require(not sitsOut, f"It was not answered within {after:g} s.", answer)
    uws.require(phase == "ABORTED", f"The job was aborted, and is {phase}.", answer)
    uws.require(late < uws.settings.delay, f"It was told {late:.1f} s after that.", answer)


@check(51, "S", "2.2.1.2", "WAIT=0 does not wait, what is no WAIT is refused, the smallest counts.")
def valuesOfWait(uws: Session) -> None:
    job, seconds = uws.pending(), str(uws.settings.wait)
    atOnce(uws, job, {"WAIT": "0"})
    for first, second in ((seconds, "0"), ("0", seconds), ("-1", "0")):
        atOnce(uws, job, [("WAIT", first), ("WAIT", second)])
    for wrong in ("text", "1.5", "-2"):
        uws.expectRefusal(askToWait(uws, job, {"WAIT": wrong}, uws.settings.wait))


@check(52, "R", "2.2.1.2", "Clients that leave while they wait do not keep others from waiting.")
def leaving(uws: Session) -> None:
    job, seconds = uws.newJob(), int(uws.settings.delay) + 1
    leavers = uws.many(200, 8)
    uws.parallel([partial(_leave, uws, job, seconds)] * leavers)
    answer = uws.expect(job.get("/phase"), 200)
    took = answer.seconds
    uws.require(took < uws.settings.delay, f"Then an answer took {took:.1f} s.", answer)
    if not _waits(uws, seconds):
        uws.sleep(seconds)  # those who have left may count until their time is up
        said = f"After {leavers} clients have left, WAIT={seconds} does not wait."
        uws.require(_waits(uws, seconds), said)


def _leave(uws: Session, job: Job, seconds: int) -> None:
    with suppress(Failed):  # it is not answered in time, and the connection is closed
        askToWait(uws, job, {"WAIT": str(seconds)}, -uws.settings.delay * 3 / 4)


def _waits(uws: Session, seconds: int) -> bool:
    answer = askToWait(uws, uws.pending(), {"WAIT": str(seconds)}, seconds)
    return answer.status == 200 and answer.seconds > min(seconds, uws.settings.delay) - 0.05


@check(53, "R", "2.2.1.2", "While many clients wait, others are answered as soon as ever.")
def crowd(uws: Session) -> None:
    job, other = uws.newJob(), uws.pending()
    calm = _took(uws, other)
    many = uws.many(CROWD, 20)
    begun: list[int] = []
    crowded: list[float] = []

    def wait() -> None:
        begun.append(1)
        answer = askToWait(uws, job, {"WAIT": str(uws.settings.wait)}, uws.settings.patience)
        uws.expect(answer, 200, 429, 503)  # it may not let so many wait

    def measure() -> None:
        allWait = f"Within {uws.settings.patience:g} s {many} could not begin to wait."
        uws.until(lambda: len(begun) == many, uws.settings.patience, allWait)
        uws.sleep(uws.settings.delay)  # until all are there
        crowded.append(_took(uws, other))
        job.abort()  # nobody has to wait any longer

    uws.parallel([*[wait] * many, measure], atOnce=many + 1)
    took = crowded[0]
    said = f"While {many} wait, an answer takes {took:.2f} s, otherwise {calm:.3f} s."
    uws.require(took < calm * 2 + PROMPT, said)


def _took(uws: Session, job: Job) -> float:
    """How long an answer takes, s."""
    return median(uws.expect(job.get("/phase"), 200).seconds for _ in range(5))


@check(54, "R", "2.2.1.2", "Who waits for a job that is deleted learns that it is gone.")
def deletedMeanwhile(uws: Session) -> None:
    job = uws.newJob()
    query = {"WAIT": str(uws.settings.wait)}
    answer, late = meanwhile(uws, job, query, uws.settings.delay / 4, job.delete)
    if late is None:
        raise Skipped("the service answered before the job was deleted, as if nobody waited")
    uws.expect(answer, 404)
    uws.require(late < uws.settings.delay, f"It was told {late:.1f} s after that.", answer)
