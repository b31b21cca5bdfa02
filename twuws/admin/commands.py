"""
What the subcommands of C{twuws} do, once there is a database.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from twuws import schema
from twuws.admin.output import Columns, describe
from twuws.admin.session import Session
from twuws.admin.sweep import sayLeft, sweep
from twuws.errors import DatabaseUnavailable, UWSError
from twuws.jobs import JobRef
from twuws.jobstable import ListFilters, Told, fromRow
from twuws.phases import ERROR
from twuws.uws import UWS

#: How many jobs are read and written at a time.
PIECE = 500


# Looking


async def listJobs(session: Session, options: Namespace) -> None:
    """C{twuws list}: the jobs of all services, newest first."""
    filters = ListFilters(phases=tuple(options.phase or ()), after=options.after, last=options.last)
    services = await session.chosen(options.service)
    refs = _newestFirst(services, filters, options.owner)
    pieces = _pieces(refs, options.last)
    if session.report.asJSON:
        await _listForPrograms(session, pieces)
        return
    table = Columns(session.report, "service", "id", "phase", "owner", "runId", "created")
    async for piece in pieces:
        table.add(
            (name, ref.jobId, ref.phase, ref.owner, ref.runId, ref.creationTime)
            for name, ref in piece
        )


async def _listForPrograms(
    session: Session, pieces: AsyncIterator[list[tuple[str, JobRef]]]
) -> None:
    """Write one array, in pieces; what is destroyed meanwhile is not in it."""
    records: list[Any] = []
    async for piece in pieces:
        ids = [ref.jobId for _, ref in piece]
        found = {row["job_id"]: row for row in await session.table.run("getJobs", {"jobIds": ids})}
        records += [fromRow(found[jobId]).asJSON() for jobId in ids if jobId in found]
    session.report.give(records)


async def _newestFirst(
    services: Iterable[UWS], filters: ListFilters, owner: str | None
) -> AsyncIterator[tuple[str, JobRef]]:
    """The job lists of several services as one."""
    lists = {uws.name: _refs(uws, filters, owner) for uws in services}
    heads = {name: await anext(refs, None) for name, refs in lists.items()}
    while True:
        left = [(ref.creationTime, name) for name, ref in heads.items() if ref is not None]
        if not left:
            return
        newest = max(left)[1]
        ref = heads[newest]
        assert ref is not None
        yield newest, ref
        heads[newest] = await anext(lists[newest], None)


async def _refs(uws: UWS, filters: ListFilters, owner: str | None) -> AsyncIterator[JobRef]:
    async for page in uws.pagesOfJobs(filters, owner or None, anyOwner=owner is None):
        for ref in page:
            yield ref


async def _pieces(
    refs: AsyncIterator[tuple[str, JobRef]], last: int | None
) -> AsyncIterator[list[tuple[str, JobRef]]]:
    """Lists of at most L{PIECE}, and of at most C{last} together; at least one list."""
    piece: list[tuple[str, JobRef]] = []
    number = 0
    async for one in refs:
        if last is not None and number >= last:
            break
        number += 1
        piece.append(one)
        if len(piece) == PIECE:
            yield piece
            piece = []
    if piece or number == 0:
        yield piece


async def showJob(session: Session, options: Namespace) -> None:
    """C{twuws show}: all that is known of a job."""
    try:
        uws, jobId = await session.find(options.job)
        record = (await uws.getJob(jobId)).record
    except DatabaseUnavailable:
        raise
    except UWSError as e:
        session.report.failure(str(e))
        return
    directory = str(uws.workDirs.forJob(jobId).path)
    if session.report.asJSON:
        session.report.give({"job": record.asJSON(), "directory": directory})
        return
    for line in describe(record, directory):
        session.report.say(line)


# Changing


async def runJobs(session: Session, options: Namespace) -> None:
    """C{twuws run}: queue jobs."""

    async def run(uws: UWS, jobId: str) -> str:
        if uws.name not in session.configured:
            raise UWSError(
                f"Job {jobId} is of the service {uws.name}, which the configuration does not name:"
                " give the one that does with --config."
            )
        await uws.run(jobId, session.who)
        job = await uws.getJob(jobId)
        if job.phase is ERROR and job.attempt == 0 and job.error is not None:
            raise UWSError(f"Job {jobId} is ERROR now: {job.error.message}")
        return str(job.phase)

    await forEach(session, options.jobs, run)


async def abortJobs(session: Session, options: Namespace) -> None:
    """C{twuws abort}: abort jobs, and end their work if nobody else will."""

    async def abort(uws: UWS, jobId: str) -> str:
        await uws.abort(jobId, told=Told(who=session.who))
        return "ABORTED"

    await forEach(session, options.jobs, abort, session.endLeftWork)


async def destroyJobs(session: Session, options: Namespace) -> None:
    """C{twuws destroy}: destroy jobs, with their work and their directories."""

    async def destroy(uws: UWS, jobId: str) -> None:
        await uws.destroy(jobId, session.who)

    session.checkDirectories()
    await forEach(session, options.jobs, destroy, session.endLeftWork)


async def forEach(
    session: Session,
    jobs: Iterable[str],
    action: Callable[[UWS, str], Awaitable[str | None]],
    after: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Do something to each job, whatever becomes of the others, and tell what was done."""
    done: list[dict[str, str | None]] = []
    failed: list[dict[str, str]] = []
    for given in dict.fromkeys(jobs):
        try:
            uws, jobId = await session.find(given)
            phase = await action(uws, jobId)
        except DatabaseUnavailable:
            raise
        except Exception as e:  # a job class may raise anything
            message = str(e) if isinstance(e, UWSError) else f"{given}: {type(e).__name__}: {e}"
            failed.append({"job": given, "message": message})
            session.report.failure(" ".join(message.split()))
        else:
            done.append({"service": uws.name, "jobId": jobId, "phase": phase})
    if after is not None and done:
        await after()
    if session.report.asJSON:
        session.report.give({"done": done, "failed": failed})
        return
    for one in done:
        session.report.say(f"{one['jobId']} {one['phase'] or 'destroyed'}")


async def cleanup(session: Session, options: Namespace) -> None:
    """C{twuws cleanup}: destroy the expired jobs, others as asked, and what has no job."""
    if not options.dry_run:
        session.checkDirectories()
    jobs: list[dict[str, str]] = []
    for uws in await session.chosen(options.service):
        ids = await uws.cleanupJobsTable(
            includeFailed=options.include_failed,
            includeCompleted=options.include_completed,
            includeAll=options.include_all,
            includeForgotten=options.include_forgotten,
            dryRun=options.dry_run,
            who=session.who,
        )
        jobs += [{"service": uws.name, "jobId": jobId} for jobId in ids]
    if jobs and not options.dry_run:
        await session.endLeftWork()
    # What has no job is of no service in particular.
    left = [] if options.service else await sweep(session, options.dry_run)
    if session.report.asJSON:
        paths = [str(path) for path in left]
        session.report.give({"dryRun": options.dry_run, "jobs": jobs, "leftovers": paths})
        return
    for job in jobs:
        session.report.say(f"{job['jobId']} {job['service']}")
    count = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    session.report.say(f"{count} {'would be destroyed' if options.dry_run else 'destroyed'}")
    sayLeft(session, left, options.dry_run)


async def upgrade(session: Session, options: Namespace) -> None:
    """C{twuws upgrade}: bring the schema to this twuws's version."""
    old, new = await schema.upgrade(session.database)
    name = session.database.schema
    if session.report.asJSON:
        session.report.give({"schema": name, "from": old, "to": new})
    elif old == new:
        session.report.say(f"The schema {name!r} has version {new} already.")
    elif old == 0:
        session.report.say(f"The schema {name!r} was made, in version {new}.")
    else:
        session.report.say(f"The schema {name!r} was upgraded from version {old} to {new}.")
