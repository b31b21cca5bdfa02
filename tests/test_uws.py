"""The facade, against a real PostgreSQL."""

from __future__ import annotations

import pytest

from twuws import parameters as p
from twuws.errors import IllegalMove, JobNotFound, ParameterError
from twuws.jobs import JobError, UWSJob
from twuws.phases import FINAL, MOVES, Phase
from twuws.uws import UWS


class Cutout(UWSJob):
    """Cut."""

    ra = p.Real(minimum=0, maximum=360, required=True)
    name = p.Text()


@pytest.fixture
def uws(database, tmp_path):
    return UWS(Cutout, database=database, directory=tmp_path / "jobs", name="cutout")


async def test_create_and_read(uws):
    jobId = await uws.getNewJobId(parameters={"RA": 10.5, "extra": "x\x00\ue000"}, runId="r")
    job = await uws.getJob(jobId)
    assert (job.jobId, job.phase, job.runId, job.ra) == (jobId, Phase.PENDING, "r", 10.5)
    assert job.parameters == {"ra": ("10.5",), "extra": ("x\x00\ue000",)}
    assert job.executionDuration == 3600
    assert job.destruction > job.creationTime
    assert uws.workDirs.forJob(jobId).path.is_dir()
    with pytest.raises(ParameterError, match="ra"):
        await uws.getNewJobId(parameters={"ra": 400})


#: A way from PENDING to each phase.
WAYS = {
    "PENDING": [],
    "QUEUED": ["QUEUED"],
    "EXECUTING": ["QUEUED", "EXECUTING"],
    "COMPLETED": ["QUEUED", "EXECUTING", "COMPLETED"],
    "ERROR": ["ERROR"],
    "ABORTED": ["ABORTED"],
    "UNKNOWN": ["QUEUED", "EXECUTING", "UNKNOWN"],
    "HELD": ["HELD"],
    "SUSPENDED": ["QUEUED", "EXECUTING", "SUSPENDED"],
    "ARCHIVED": ["ERROR", "ARCHIVED"],
}


@pytest.mark.parametrize("old", list(Phase))
async def test_moves(uws, old):
    for new in Phase:
        jobId = await uws.getNewJobId()
        for step in WAYS[old]:
            await uws.changeToPhase(jobId, step)
        before = await uws.getJob(jobId)
        queued = await uws.database.query("SELECT * FROM queue")
        if new in MOVES[old]:
            await uws.changeToPhase(jobId, new, JobError(message="m") if new == "ERROR" else None)
            after = await uws.getJob(jobId)
            assert after.phase == new
            assert (after.endTime is not None) == (new in FINAL)
        else:
            with pytest.raises(IllegalMove, match=str(new)):
                await uws.changeToPhase(jobId, new)
            assert (await uws.getJob(jobId)).record == before.record
            assert await uws.database.query("SELECT * FROM queue") == queued
        await uws.destroy(jobId)
        assert await uws.database.query("SELECT * FROM queue") == []
    await uws.directoriesRemoved()
    with pytest.raises(JobNotFound):
        await uws.getJob(jobId)
