"""
What C{twuws hold}, C{twuws release} and C{twuws holds} do.
"""

from __future__ import annotations

from argparse import Namespace

from twuws.admin.commands import forEach
from twuws.admin.output import Columns
from twuws.admin.session import Session
from twuws.errors import UWSError
from twuws.uws import UWS


async def hold(session: Session, options: Namespace) -> None:
    """C{twuws hold}: keep jobs from running."""
    who = session.who

    async def holdJob(uws: UWS, jobId: str) -> str:
        return str(await uws.hold(jobId, who, options.why))

    if _areJobs(options):
        await forEach(session, options.jobs, holdJob)
        return
    uws, everyService = await _place(session, options)
    number = await uws.holdAll(options.owner, everyService=everyService, who=who, why=options.why)
    _tell(session, options, number, "HELD")


async def release(session: Session, options: Namespace) -> None:
    """C{twuws release}: let jobs run again."""
    who = session.who

    async def releaseJob(uws: UWS, jobId: str) -> str:
        return str(await uws.release(jobId, who))

    if _areJobs(options):
        await forEach(session, options.jobs, releaseJob)
        return
    uws, everyService = await _place(session, options)
    number = await uws.releaseAll(options.owner, everyService=everyService, who=who)
    _tell(session, options, number, "QUEUED")


async def listHolds(session: Session, options: Namespace) -> None:
    """C{twuws holds}: what is held, the oldest hold first."""
    found = await session.table.holds()
    if session.report.asJSON:
        session.report.give([one.asJSON() for one in found])
        return
    table = Columns(session.report, "service", "owner", "job", "since", "who", "why")
    table.add(
        (
            "all" if one.service is None else one.service,
            _owner(one.owner) if one.jobId is None else None,
            one.jobId,
            one.since,
            one.who,
            one.why,
        )
        for one in found
    )


def _owner(owner: str | None) -> str:
    return "all" if owner is None else owner or "''"


def _areJobs(options: Namespace) -> bool:
    """
    Whether the command is about jobs, rather than all of an owner or a service.

    @raise UWSError: if it is about both, or neither.
    """
    areAll = options.owner is not None or options.service is not None
    if bool(options.jobs) == areAll:
        raise UWSError("Give either jobs, or --owner, --service or both of these.")
    return bool(options.jobs)


async def _place(session: Session, options: Namespace) -> tuple[UWS, bool]:
    """The service that the command is about, or any one and true if it is about all."""
    names = None if options.service is None else [options.service]
    return (await session.chosen(names))[0], names is None


def _tell(session: Session, options: Namespace, number: int, phase: str) -> None:
    if session.report.asJSON:
        session.report.give({"service": options.service, "owner": options.owner, "jobs": number})
        return
    jobs = "1 job is" if number == 1 else f"{number} jobs are"
    session.report.say(f"{jobs} {phase} now")
