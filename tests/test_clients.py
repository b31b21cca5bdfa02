"""
The service as clients that exist use it, from another process: PyVO, astroquery, vo-models.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests.validation import validate

pytest.importorskip("pyvo")  # what takes so long to import is not there everywhere

from astropy.table import Table
from pyvo.dal import DALQueryError, DALServiceError, TAPService
from pyvo.dal.tap import AsyncTAPJob
from pyvo.io.uws import parse_job, parse_job_list
from vo_models.uws import Jobs, JobSummary, Parameter, Parameters
from vo_models.uws.types import ExecutionPhase

from twuws.testing import running

pytestmark = pytest.mark.filterwarnings(
    "ignore::astropy.utils.exceptions.AstropyWarning", "ignore::DeprecationWarning"
)

ORION = {"ra": 83.82, "dec": -5.39}


class Given(Parameters):
    """The parameters of a job, as vo-models wants them declared."""

    ra: Parameter = Parameter(id="ra")
    dec: Parameter = Parameter(id="dec")


STARS = Table({"ra": [83.82, 56.75], "dec": [-5.39, 24.12]})


@pytest.fixture(scope="module")
def service():
    with running() as service:
        yield service


@pytest.fixture
def messier(service):
    return f"{service.url}messier"


@pytest.fixture
def sleep(service):
    return f"{service.url}sleep"


class TestPyVO:
    """Its TAP client, which is a UWS client."""

    def test_aJobFromBeginToEnd(self, messier):
        job = AsyncTAPJob.create(messier, "SELECT 1", **ORION)
        assert job.phase == "PENDING"
        assert job.owner is None
        job.execution_duration = 100
        assert job.execution_duration.to_value("sec") == 100
        later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
        job.destruction = later
        assert job.destruction.datetime.replace(tzinfo=UTC) == later
        job.query = "SELECT 2"
        job.run().wait(timeout=60)
        assert job.phase == "COMPLETED"
        job.raise_if_error()
        table = job.fetch_result().to_table()
        assert list(table["messier_name"]) == ["M42", "M43"]
        assert requests.get(job.result_uris[1], timeout=20).text.count("\n") == 3
        parameters = {p.id_: p.content for p in parse_job(job.url).parameters}
        assert parameters["QUERY"] == "SELECT 2"
        assert float(parameters["ra"]) == ORION["ra"]
        url = job.url
        job.delete()
        assert requests.get(url, timeout=20).status_code == 404

    @pytest.mark.parametrize("when", ["at once", "later"])
    def test_upload(self, messier, when):
        uploads = {"table": STARS}
        job = AsyncTAPJob.create(messier, "x", uploads=uploads if when == "at once" else None)
        if when == "later":
            job.upload(**uploads)
        job.run().wait(timeout=60)
        assert {"M42", "M45"} <= set(job.fetch_result().to_table()["messier_name"])
        job.delete()

    def test_error(self, messier):
        job = AsyncTAPJob.create(messier, "x")
        job.run().wait(timeout=60)
        assert job.phase == "ERROR"
        with pytest.raises(DALQueryError, match="There is nothing to match; give a table"):
            job.fetch_result()
        job.delete()

    def test_refused(self, messier):
        with pytest.raises(DALServiceError, match="Parameter dec: '91' is not a number from -90"):
            AsyncTAPJob.create(messier, "x", ra=1, dec=91)

    def test_abort(self, sleep):
        job = AsyncTAPJob.create(sleep, "x", seconds=600)
        job.run()
        while job.phase == "QUEUED":
            pass
        assert job.phase == "EXECUTING"
        job.abort()
        assert job.phase == "ABORTED"
        job.delete()

    def test_lists(self, sleep):
        service = TAPService(sleep)
        jobs = [AsyncTAPJob.create(sleep, "x", seconds=0, runid=f"r{n}") for n in range(3)]
        jobs[1].abort()
        ids = [job.job_id for job in reversed(jobs)]
        assert [job.jobid for job in service.get_job_list(last=2)] == ids[:2]
        aborted = service.get_job_list(phases=["ABORTED"], after=datetime(2020, 1, 1))
        assert [(job.jobid, job.runid) for job in aborted] == [(ids[1], "r1")]
        assert {job.jobid for job in service.get_job_list()} >= set(ids)
        assert service.get_job_list(after=datetime.now() + timedelta(days=1)) == []
        for job in jobs:
            job.delete()

    def test_sync(self, messier):
        table = TAPService(messier).run_sync("x", **ORION).to_table()
        assert list(table["messier_name"]) == ["M42", "M43"]
        with pytest.raises(DALServiceError, match="There is nothing to match; give a table"):
            TAPService(messier).run_sync("x")

    def test_capabilities(self, messier):
        standards = {one.standardid for one in TAPService(messier).capabilities}
        assert "ivo://ivoa.net/std/UWS#rest-1.1" in standards
        assert TAPService(messier).available


class TestVOModels:
    """Its models of UWS, which take what the standard says and no more."""

    def test_documents(self, messier):
        form = {**ORION, "PHASE": "RUN", "RUNID": "mine"}
        url = requests.post(f"{messier}/async", form, timeout=20, allow_redirects=False).headers[
            "location"
        ]
        content = requests.get(url, params={"WAIT": "20", "PHASE": "QUEUED"}, timeout=30).content
        content = requests.get(url, params={"WAIT": "20"}, timeout=30).content
        validate(content)
        job = JobSummary[Given].from_xml(content)
        assert (job.job_id, job.run_id) == (url.rpartition("/")[2], "mine")
        assert job.phase == ExecutionPhase.COMPLETED
        assert float(job.parameters.ra.value) == ORION["ra"]
        assert [result.id for result in job.results.results] == ["result", "result.csv"]
        jobs = Jobs.from_xml(requests.get(f"{messier}/async", timeout=20).content)
        assert job.job_id in [ref.job_id for ref in jobs.jobref]
        assert job.job_id in [ref.jobid for ref in parse_job_list(f"{messier}/async")]
        requests.delete(url, timeout=20)


def test_astroquery(messier, tmp_path):
    """Its TAP client, pointed at a service that is none: it sends what TAP wants beside."""
    tap = pytest.importorskip("astroquery.utils.tap.core").TapPlus(url=messier)
    STARS.write(tmp_path / "stars.vot", format="votable")
    upload = {"upload_resource": str(tmp_path / "stars.vot"), "upload_table_name": "table"}
    job = tap.launch_job_async("select 1", **upload)
    assert job.get_phase() == "COMPLETED"
    assert {"M42", "M45"} <= set(job.get_results()["messier_name"])
    again = tap.load_async_job(jobid=job.jobid)
    assert len(again.get_results()) == len(job.get_results())
    assert job.jobid in [one.jobid for one in tap.list_async_jobs()]
    failed = tap.launch_job_async("select 1", background=True)
    failed.wait_for_job_end()
    with pytest.raises(requests.HTTPError, match="There is nothing to match; give a table"):
        failed.get_results()
    requests.delete(f"{messier}/async/{job.jobid}", timeout=20)


class TestAstroqueryJobs:
    """Its job classes, as far as they take the answers of the standard."""

    def test_startedLater(self, messier):
        """What C{Job} has beside: C{abort} and C{send_parameter} want 200, which is no UWS."""
        tap = pytest.importorskip("astroquery.utils.tap.core").TapPlus(url=messier)
        job = tap.launch_job_async("select 1", autorun=False)
        url = f"{messier}/async/{job.jobid}"
        assert job.get_phase(update=True) == "PENDING"
        assert not job.is_finished()
        requests.post(f"{url}/parameters", ORION, timeout=20)
        job.start()
        job.wait_for_job_end()
        assert job.get_phase(update=True) == "COMPLETED"
        assert list(job.get_results()["messier_name"]) == ["M42", "M43"]
        requests.delete(url, timeout=20)

    def test_casda(self, messier):
        """It makes a job with parameters in the query, adds some, runs it, and looks at it."""
        casda = pytest.importorskip("astroquery.casda").Casda
        url = casda._create_soda_job(["a"], soda_url=f"{messier}/async")
        assert requests.get(f"{url}/phase", timeout=20).text == "PENDING"
        casda._add_cutout_params(url, False, {"ra": "83.82", "DEC": "-5.39"})
        assert casda._run_job(url, False, poll_interval=0.1) == "COMPLETED"
        given = [(p.id_, p.content) for p in parse_job(url).parameters]
        assert {("ID", "a"), ("ra", "83.82"), ("dec", "-5.39")} <= set(given)
        casda.POLL_INTERVAL = 0.1
        ran = casda._create_soda_job([], soda_url=f"{messier}/async?ra=83.82&dec=-5.39")
        files = casda._complete_job(ran, False)
        assert files == [f"{ran}/results/result", f"{ran}/results/result.csv"]
        assert b"M42" in requests.get(files[1], timeout=20).content
        failed = casda._create_soda_job([], soda_url=f"{messier}/async")
        with pytest.raises(ValueError, match="Status was ERROR"):
            casda._complete_job(failed, False)
        for one in (url, ran, failed):
            requests.delete(one, timeout=20)
