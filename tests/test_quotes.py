"""When jobs will probably be complete: what a whole service says, and what that costs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.serving import Noted, serve, text
from tests.validation import validate
from twuws import parameters as p
from twuws import quoter as quoting
from twuws.errors import Forbidden
from twuws.family import clock
from twuws.jobs import UWSJob
from twuws.jobstable import Told
from twuws.phases import COMPLETED
from twuws.policy import Policy
from twuws.times import parseInstant


class Costly(UWSJob):
    """Takes as long as it is told to, or until it is aborted."""

    costDependsOn = ("seconds", "f", "mode")

    seconds = p.Real()
    mode = p.Choice(choices=("fast", "slow"), default="fast")
    f = p.File()

    async def run(self):
        from twisted.internet import reactor

        await deferLater(reactor, self.seconds or 0)


LONG = {"seconds": "1000", "PHASE": "RUN"}


@pytest.fixture
def start(database, tmp_path):
    """Starts services, one after the other, in the same place."""
    import pytest_twisted

    begun = []

    async def start(jobClass=Costly, slots=1, **more):
        serving = await serve(database, tmp_path / "jobs", jobClass, slots, **more)
        begun.append(serving)
        return serving

    yield start
    for serving in begun:
        if not serving.port.disconnected:
            pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))


async def complete(database, *seconds, parameters="{}", phase="COMPLETED", prefix="before"):
    """Jobs that were completed before the service started, and how long each took."""
    for n, taken in enumerate(seconds):
        await database.query(
            "INSERT INTO jobs (job_id, service, phase, start_time, end_time, execution_duration,"
            " parameters) VALUES (%s, 'noted', %s, now() - %s * interval '1 s', now(), 0, %s)",
            (f"{prefix}{n}", phase, taken, parameters),
        )


async def until(condition, within=25.0):
    """What a condition is, once it is true."""
    from twisted.internet import reactor

    giveUpAt = reactor.seconds() + within
    while not (found := await condition()):
        assert reactor.seconds() < giveUpAt
        await deferLater(reactor, 0.02)
    return found


async def isIn(serving, url, phase):
    async def there():
        return await serving.phase(url) == phase

    await until(there)


async def secondsTo(serving, url):
    """In how many seconds the job at C{url} will be complete, it says; C{None} for no quote."""
    answer = await serving.get(url + "/quote")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    if not answer.text:
        return None
    return (parseInstant(answer.text) - datetime.now(UTC)).total_seconds()


async def known(serving, url):
    """The same, once there is a quote."""

    async def quoted():
        return await secondsTo(serving, url)

    return await until(quoted)


async def agree(serving, expected):
    """Wait until jobs are to be complete in so many seconds, by and large; URLs are the keys."""
    seen = []

    async def asExpected():
        found = [await secondsTo(serving, url) for url in expected]
        seen.append(found)
        return None not in found and found == pytest.approx([*expected.values()], rel=0.1)

    try:
        await until(asExpected)
    except AssertionError:
        raise AssertionError(f"{seen[-1]} is not {[*expected.values()]}") from None


async def test_nothing_to_go_by(start):
    serving = await start()
    url = await serving.create()
    document = validate((await serving.get(url)).content)
    assert text(document, "quote") is None
    answer = await serving.get(url + "/quote")
    assert (answer.status, answer.text) == (200, "")
    assert answer.headers["content-type"].startswith("text/plain")


async def test_from_what_it_has_done(start):
    """A few jobs are enough; a service that starts anew knows as much."""
    serving = await start(Noted)
    pending = await serving.create()
    for _ in range(3):
        await serving.ended(await serving.create({"seconds": "0.3", "PHASE": "RUN"}))
    assert 0.1 < await known(serving, pending) < 2.5
    await serving.stop()
    again = await start(Noted)
    assert 0.1 < await known(again, again.url + "/" + pending.rpartition("/")[2]) < 2.5


async def test_document_and_quote_agree(start, database):
    await complete(database, 100, 110, 90, 100)
    serving = await start()
    url = await serving.create()
    await known(serving, url)
    document = validate((await serving.get(url)).content)
    assert text(document, "quote") == (await serving.get(url + "/quote")).text
    assert text(await serving.job(url), "quote") == text(document, "quote")


async def test_what_does_not_count(start, database):
    """Jobs that failed or were aborted say nothing of how long others take."""
    error = '{"message": "no", "type": "fatal"}'
    await database.query(
        "INSERT INTO jobs (job_id, service, phase, start_time, end_time, execution_duration, error)"
        " SELECT 'e' || n, 'noted', (ARRAY['ERROR', 'ABORTED'])[mod(n, 2) + 1],"
        " now() - interval '1 s', now(), 0, %s FROM generate_series(1, 50) n",
        (error,),
    )
    serving = await start()
    url = await serving.create()
    assert await secondsTo(serving, url) is None
    await serving.stop()
    await complete(database, 500)
    again = await start()
    assert 450 < await known(again, again.url + "/" + url.rpartition("/")[2]) < 550


async def test_last_jobs_count(start, database):
    """What was so a hundred jobs ago does not matter."""
    await complete(database, *[10] * 100)
    await database.query("UPDATE jobs SET end_time = now() - interval '1 d',"
                         " start_time = now() - interval '2 d'")  # fmt: skip
    await complete(database, *[100] * 100, prefix="later")
    serving = await start()
    assert 90 < await known(serving, await serving.create()) < 110


async def test_what_waits_before_it(start, database):
    """The longer the line, the later the quote; when it gets shorter, so does that."""
    await complete(database, 100, 100, 100, 100)
    serving = await start(slots=1)
    running = await serving.create(LONG)
    await isIn(serving, running, "EXECUTING")
    assert 90 < await known(serving, running) < 110
    second = await serving.create(LONG)
    third = await serving.create(LONG)
    pending = await serving.create()

    await agree(serving, {running: 100, second: 200, third: 300, pending: 400})
    for url in (running, second, third, pending):
        validate((await serving.get(url)).content)
    await serving.post(running + "/phase", {"PHASE": "ABORT"})
    await agree(serving, {second: 100, third: 200, pending: 300})


async def test_execution_duration(start, database):
    """Nothing runs for longer than it may."""
    await complete(database, 100, 100, 100)
    serving = await start(slots=1)
    short = {"EXECUTIONDURATION": "10"}
    url = await serving.create({**LONG, **short})
    await isIn(serving, url, "EXECUTING")
    assert 5 < await known(serving, url) <= 11
    assert 15 < await known(serving, await serving.create(short)) <= 22


async def test_cost(start, database):
    """Numbers, sizes of files and choices: what the job class says that it depends on."""
    for n, seconds in enumerate((10, 20, 50, 100, 200)):
        for mode, factor in (("fast", 1), ("slow", 10)):
            parameters = f'{{"seconds": ["{seconds}"], "mode": ["{mode}"], "other": ["x{n}"]}}'
            taken = seconds * factor
            await complete(database, taken, parameters=parameters, prefix=f"{mode}{n}")
    serving = await start()
    for seconds, mode in ((20, "fast"), (20, "slow"), (500, "fast"), (100, "slow")):
        url = await serving.create({"seconds": str(seconds), "mode": mode})
        expected = seconds * (10 if mode == "slow" else 1)
        assert await known(serving, url) == pytest.approx(expected, rel=0.2, abs=2), (seconds, mode)
    default = await serving.create({"seconds": "1000"})
    assert await known(serving, default) == pytest.approx(1000, rel=0.2)


async def test_cost_of_files(start, database):
    for n, size in enumerate((1000, 2000, 5000, 10000)):
        stored = f'{{"f": [{{"file": "f", "size": {size}}}]}}'
        await complete(database, size / 100, parameters=stored, prefix=f"f{n}")
    serving = await start()
    for size in (2000, 20000):
        answer = await serving.post("", None, files={"f": ("f", b"x" * size)})
        assert await known(serving, answer.location) == pytest.approx(size / 100, rel=0.2)


async def test_overrun(start, database):
    """What runs for longer than was expected will still end in the future, and not at once."""
    await complete(database, 1, 1.1, 0.9, 1)
    serving = await start(policy=Policy(executionDuration=0, longestExecutionDuration=0))
    url = await serving.create(LONG)
    await isIn(serving, url, "EXECUTING")
    await known(serving, url)
    for hours in (1, 1000):
        await database.query(
            "UPDATE jobs SET start_time = clock_timestamp() - %s * interval '1 h'"
            " WHERE phase = 'EXECUTING'",
            (hours,),
        )
        left = await secondsTo(serving, url)
        assert 0.05 * 3600 * hours < left < 3600 * hours


async def test_quote_of_its_own(start, database):
    """A quote that somebody gave stays, whatever becomes of the job."""
    await complete(database, 100, 100, 100)
    serving = await start()
    mine = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    url = await serving.create()
    async with serving.uws.changeableJob(url.rpartition("/")[2]) as job:
        job.quote = mine
    assert (await serving.get(url + "/quote")).text == "2099-01-02T03:04:05.000Z"
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    assert text(await serving.ended(url), "quote") == "2099-01-02T03:04:05.000Z"


async def test_jobs_that_have_ended(start, database):
    """They keep what was to be expected when their work began; then it changes no more."""
    await complete(database, 100, 100, 100)
    serving = await start()
    await known(serving, await serving.create())
    url = await serving.create({"PHASE": "RUN"})
    job = await serving.ended(url)
    began = parseInstant(text(job, "startTime"))
    quote = parseInstant(text(job, "quote"))
    assert quote - began == pytest.approx(timedelta(seconds=100), abs=timedelta(seconds=5))
    for _ in range(3):
        await serving.ended(await serving.create({"PHASE": "RUN"}))
    assert parseInstant(text(await serving.job(url), "quote")) == quote
    never = await serving.create()
    await serving.post(never + "/phase", {"PHASE": "ABORT"})
    assert await secondsTo(serving, never) is None
    with pytest.raises(Forbidden):  # what is quoted is to look at
        (await serving.uws.quoted(await serving.uws.getJob(url.rpartition("/")[2]))).quote = quote


async def test_nobody_knows(start, database):
    """While a job is held, or nobody is there to do it, there is no quote."""
    await complete(database, 100, 100, 100)
    serving = await start()
    url = await serving.create()
    await known(serving, url)
    await serving.uws.holdAll(who="me", why="Not now.")
    held = await serving.create({"PHASE": "RUN"})
    assert await serving.phase(held) == "HELD"
    assert await secondsTo(serving, held) is None
    await serving.stop()
    idle = await start(slots=0)
    await database.query("DELETE FROM nodes WHERE slots > 0")
    learnt = idle.uws.quoter
    await until(lambda: Deferred.fromCoroutine(_hasLearnt(learnt)))
    assert await secondsTo(idle, idle.url + "/" + url.rpartition("/")[2]) is None


async def _hasLearnt(quoter):
    return quoter.hasSomethingToGoBy("noted")


class Asked:
    """How many statements there are from now on, without those that services make each second."""

    def __init__(self, database):
        self._database = database
        self._before = self._count()
        self._since = time.monotonic()

    def _count(self):
        return next(
            sample.value
            for metric in self._database.counters.registry.collect()
            for sample in metric.samples
            if sample.name == "twuws_database_statement_seconds_count"
        )

    @property
    def statements(self):
        seconds = time.monotonic() - self._since
        return self._count() - self._before - max(0, int(seconds * 1.2) - 5)


@pytest.mark.parametrize("phase", ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"])
async def test_cost_of_a_document(start, database, phase):
    """One statement for a job document, as without quotes; now and then a look at the queue."""
    await complete(database, 100, 100, 100)
    serving = await start(slots=0 if phase == "QUEUED" else 1)
    if phase == "QUEUED":  # by a node that is somewhere else
        await database.query(
            "INSERT INTO nodes (node, host, pid, started, version, slots, services, lease_ends)"
            " VALUES ('n', 'h', 1, '', '', 1, '{noted}', now() + interval '1 hour')"
        )
    form = {} if phase == "PENDING" else {"PHASE": "RUN"} if phase == "COMPLETED" else LONG
    url = await serving.create(form)
    await isIn(serving, url, phase)
    if phase != "COMPLETED":
        await known(serving, url)
    asked = Asked(database)
    for _ in range(100):
        await serving.get(url)
    assert asked.statements <= 110


async def test_lists_ask_for_nothing(start, database):
    await complete(database, 100, 100, 100)
    serving = await start()
    for _ in range(20):
        await serving.create()
    asked = Asked(database)
    for _ in range(20):
        await serving.get("")
    assert asked.statements <= 25


async def test_who_asks_at_once_asks_once(start, database):
    """Documents that are asked for together share a look at the queue, after each move."""
    await complete(database, 100, 100, 100)
    serving = await start()
    urls = [await serving.create() for _ in range(20)]
    await known(serving, urls[0])
    looks = []
    real = serving.uws.quoter._lookOnce

    def counted():
        looks.append(1)
        return real()

    serving.uws.quoter._lookOnce = counted
    began = time.monotonic()
    for rounds in range(3):
        serving.uws.quoter.heard("0", "QUEUED", "noted")

        async def asked(rounds=rounds):
            await gatherResults([Deferred.fromCoroutine(serving.get(url)) for url in urls])
            return len(looks) > rounds

        await until(asked)
    assert len(looks) <= (time.monotonic() - began) / quoting.RESPITE + 1


async def test_quotes_are_steady(start, database, monkeypatch):
    """A quote stays as it was for as long as it is right by and large."""
    await complete(database, 100, 100, 100)
    serving = await start()
    url = await serving.create()
    await known(serving, url)
    first = (await serving.get(url + "/quote")).text
    monkeypatch.setattr(quoting, "clock", lambda: clock() + 4)
    assert (await serving.get(url + "/quote")).text == first
    monkeypatch.setattr(quoting, "STEADY", 0)
    assert (await serving.get(url + "/quote")).text > first


async def test_a_queue_that_cannot_be_looked_at(start, database):
    """The document comes without a quote, or with the last one, and soon."""
    await complete(database, 100, 100, 100)
    serving = await start()
    url = await serving.create()
    await until(lambda: Deferred.fromCoroutine(_hasLearnt(serving.uws.quoter)))
    async with database.transaction() as t:
        await t.execute("LOCK TABLE queue IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        for _ in range(4):
            assert text(await serving.job(url), "quote") is None
        assert time.monotonic() - began < 5
    assert 90 < await known(serving, url) < 110


async def test_a_mistake_costs_no_document(start, database, loggedErrors):
    """Whatever goes wrong with the quote of a job, there is its document."""

    class Wrong(Costly):
        @classmethod
        def costOf(cls, parameters):
            if parameters.get("mode") == ("slow",):
                raise ZeroDivisionError
            return super().costOf(parameters)

    await complete(database, 100, 100, 100)
    serving = await start(Wrong)
    await known(serving, await serving.create())
    wrong = await serving.create({"mode": "slow"})
    assert text(await serving.job(wrong), "quote") is None
    assert [failure.type for failure in loggedErrors] == [ZeroDivisionError]
    await serving.post(wrong + "/phase", {"PHASE": "RUN"})
    assert text(await serving.ended(wrong), "phase") == "COMPLETED"
    loggedErrors.clear()


async def test_a_long_line(start, database):
    """More than is looked at one by one: those behind wait for the average of the others."""
    await complete(database, 10, 10, 10, 10)
    await database.query(
        "INSERT INTO jobs (job_id, service, phase, execution_duration)"
        " SELECT 'q' || n, 'noted', 'QUEUED', 0 FROM generate_series(1, 3000) n"
    )
    await database.query(
        "INSERT INTO queue (job_id, service, queued_at)"
        " SELECT 'q' || n, 'noted', now() - interval '1 h' + n * interval '1 ms'"
        " FROM generate_series(1, 3000) n"
    )
    await database.query(
        "INSERT INTO nodes (node, host, pid, started, version, slots, services, lease_ends)"
        " VALUES ('n', 'h', 1, '', '', 2, '{noted}', now() + interval '1 hour')"
    )
    serving = await start(slots=0)
    assert await known(serving, serving.url + "/q500") == pytest.approx(2500, rel=0.1)
    assert await known(serving, serving.url + "/q2900") == pytest.approx(15000, rel=0.1)
    assert await known(serving, await serving.create()) == pytest.approx(15000, rel=0.1)


async def test_hand_made_ends(start, database):
    """An end that somebody outside records has a quote, too, as its start was known."""
    await complete(database, 100, 100, 100)
    serving = await start(slots=0)
    await until(lambda: Deferred.fromCoroutine(_hasLearnt(serving.uws.quoter)))
    jobId = await serving.uws.getNewJobId()
    await serving.uws.run(jobId)
    await serving.uws.changeToPhase(jobId, "EXECUTING", told=Told(who="me"))
    await serving.uws.changeToPhase(jobId, COMPLETED)
    job = await serving.uws.getJob(jobId)
    assert (job.quote - job.startTime).total_seconds() == pytest.approx(100, rel=0.1)


def test_cost_must_be_declared():
    with pytest.raises(TypeError, match="costDependsOn: there is no parameter 'y'"):

        class Undeclared(UWSJob):
            costDependsOn = ("x", "y")
            x = p.Integer()
