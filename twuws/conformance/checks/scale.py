"""
Part K: many jobs.

They are made only where loading the service was asked for, and deleted again.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from twuws.conformance.answers import Answer
from twuws.conformance.documents import jobRefs
from twuws.conformance.outcomes import Failed
from twuws.conformance.registry import check
from twuws.conformance.session import Session

#: How many jobs are made in a burst.  Services that list a thousand, or two, are not rare.
BURST = 2050
#: How long the newest may take, and the beginning of a list of all, beyond any answer, s.
NEWEST = 0.2
BEGINNING = 1.0


@check(
    100, "R", "2.2.2.1", "With thousands of jobs, the newest come in 0.2 s, and a list in 1 s.",
    load=True,
)  # fmt: skip
def longList(uws: Session) -> None:
    _burst(uws, BURST)
    job = uws.pending()
    usual = min(job.get("/phase").seconds for _ in range(5))
    newest = min((uws.get(query={"LAST": "50"}) for _ in range(3)), key=lambda one: one.seconds)
    uws.expect(newest, 200)
    took = newest.seconds - usual
    uws.require(took <= NEWEST, f"LAST=50 takes {took:.2f} s longer than a phase.", newest)
    every = uws.expect(uws.get(timeout=uws.settings.patience), 200)
    took = every.waited - usual
    uws.require(took <= BEGINNING, f"The list begins {took:.1f} s later than a phase.", every)


@check(
    101, "R", "2.2.2.1", "Of some thousand jobs that are made at once, each is listed once.",
    load=True,
)  # fmt: skip
def burst(uws: Session) -> None:
    made = Counter(_burst(uws, BURST))
    answer = uws.expect(uws.get(timeout=uws.settings.patience), 200)
    listed = Counter(ref.id for ref in jobRefs(answer.xml()))
    missing = [one for one in made if not listed[one]]
    uws.require(not missing, f"{len(missing)} of {len(made)} jobs are not in the list.", answer)
    twice = [one for one in made if listed[one] > 1]
    uws.require(not twice, f"{len(twice)} of {len(made)} jobs are in the list repeatedly.", answer)


def _burst(uws: Session, number: int) -> list[str]:
    """
    Make jobs, as many at a time as connections are; the identifiers of those that are made.

    A service may refuse some, because there are too many.
    """
    chosen = uws.veryShort
    create = partial(uws.post, "", chosen.pairs, files=chosen.files)
    answers = uws.parallel([create] * number)
    ids = [uws.jobFrom(answer).id for answer in answers if answer.status == 303]
    for answer in answers:
        if answer.status not in (303, 403, 429, 503):
            raise Failed(f"One of {number} creations is answered {answer.status}.", answer)
    uws.require(ids, f"None of {number} creations was accepted.", answers[0])
    return ids


@check(102, "R", "2.2.3.1", "Jobs that are made at the same time are different jobs.")
def distinct(uws: Session) -> None:
    names = [f"kit-{number}" for number in range(uws.many(500, 10))]
    answers = uws.parallel([partial(_create, uws, name) for name in names])
    jobs = [uws.jobFrom(answer) for answer in answers]
    urls = Counter(job.url for job in jobs)
    twice = [url for url, count in urls.items() if count > 1]
    uws.require(not twice, f"{len(twice)} URLs were given to several jobs.", answers[0])
    for name, job in list(zip(names, jobs, strict=True))[:10]:
        found = job.document().text("runId")
        uws.require(found in (name, None), f"The job {name} says that it is {found}.")


def _create(uws: Session, name: str) -> Answer:
    chosen = uws.veryShort
    return uws.post("", [*chosen.pairs, ("RUNID", name)], files=chosen.files)
