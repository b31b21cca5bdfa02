"""Connections, transactions and LISTEN, against a PostgreSQL that misbehaves in every way."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest
from psycopg2.extensions import parse_dsn
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from tests.chaos.proxy import Network, Proxy
from tests.working import until
from twuws import schema
from twuws.database import Database, LockTimeout, Prepared, connect
from twuws.errors import DatabaseUnavailable, TransactionAborted, Unavailable, UWSError
from twuws.jobs import UWSJob
from twuws.listener import Listener
from twuws.uws import UWS


def run(coroutine):
    return Deferred.fromCoroutine(coroutine)


async def allOf(*deferreds):
    """The results of all of them, failures included, in order."""
    return [result for _, result in await DeferredList(deferreds, consumeErrors=True)]


@asynccontextmanager
async def databaseOf(dsn, **more):
    database = Database(dsn, **more)
    database.startService()
    try:
        yield database
    finally:
        await database.stopService()


@pytest.fixture
def numbers(database):
    """A table to write to, in the test's schema."""
    import pytest_twisted

    pytest_twisted.blockon(database.query("CREATE TABLE numbers (n integer)"))
    return database


async def stored(database):
    return sorted(row["n"] for row in await database.query("SELECT n FROM numbers"))


async def assertWhole(database):
    """All slots can be used at the same time, and none is in a transaction."""
    held = []
    for _ in range(database.size):
        held.append(await database.borrow())
    assert len({id(connection) for connection in held}) == database.size
    for connection in held:
        assert connection.usable()
        database.giveBack(connection)
    rows = await gatherResults([database.query("SELECT 1 AS one") for _ in range(database.size)])
    assert rows == [[{"one": 1}]] * database.size


async def test_rows_are_dictionaries(database):
    assert await database.query("SELECT 1 AS a, 'x' AS b") == [{"a": 1, "b": "x"}]
    assert type((await database.query("SELECT 1 AS a"))[0]) is not tuple
    assert await database.query("SET client_min_messages = notice") == []
    assert await database.query("SELECT %(x)s AS x", {"x": "'; --"}) == [{"x": "'; --"}]


async def test_transaction_commits_and_rolls_back(numbers):
    async with numbers.transaction() as t:
        await t.execute("INSERT INTO numbers VALUES (1)")
        assert await t.execute("SELECT n FROM numbers") == [{"n": 1}]
        assert await stored(numbers) == []
    assert await stored(numbers) == [1]
    with pytest.raises(ZeroDivisionError):
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (2)")
            raise ZeroDivisionError
    assert await stored(numbers) == [1]
    await assertWhole(numbers)


async def test_swallowed_failure_is_told(numbers):
    with pytest.raises(TransactionAborted):
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (1)")
            with pytest.raises(psycopg2.Error):
                await t.execute("SELECT 1/0")
    assert await stored(numbers) == []
    await assertWhole(numbers)


async def test_statements_take_turns(numbers):
    async with numbers.transaction() as t:
        both = [t.execute("INSERT INTO numbers VALUES (%s) RETURNING n", (n,)) for n in range(3)]
        assert await gatherResults(both) == [[{"n": 0}], [{"n": 1}], [{"n": 2}]]
    assert await stored(numbers) == [0, 1, 2]
    await assertWhole(numbers)


async def test_go_on_after_a_cancelled_statement(numbers):
    async with numbers.transaction() as t:
        slow = t.execute("SELECT pg_sleep(0.2)")
        slow.cancel()
        with pytest.raises(CancelledError):
            await slow
        await t.execute("INSERT INTO numbers VALUES (1)")
    assert await stored(numbers) == [1]
    await assertWhole(numbers)


# Cancellation


async def test_cancelled_while_waiting_for_a_slot(postgres):
    async with databaseOf(postgres, size=2) as database:
        held = [await database.borrow() for _ in range(2)]
        query = database.query("SELECT 1")
        transaction = run(database.transaction().__aenter__())
        await allCancelled(query, transaction)
        for connection in held:
            database.giveBack(connection)
        await assertWhole(database)


async def allCancelled(*deferreds):
    for d in deferreds:
        d.cancel()
    for failure in await allOf(*deferreds):
        assert failure.check(CancelledError), failure


async def test_cancelled_while_connecting(postgres):
    async with databaseOf(postgres, size=3) as database:
        await allCancelled(
            database.query("SELECT 1"), run(database.transaction().__aenter__()), database.borrow()
        )
        await assertWhole(database)


async def test_cancelled_at_every_step(numbers):
    """At each turn of the reactor: in BEGIN, in the statement, in COMMIT, and between them."""
    from twisted.internet import reactor

    reached = []

    async def insert(n):
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (%s)", (n,))
            reached.append(n)
        reached.append(-n)

    await assertWhole(numbers)
    outcomes = set()
    for turns in range(30):
        for n in range(turns * 100 + 1, turns * 100 + 4):
            work = run(insert(n))
            for _ in range(turns):
                await deferLater(reactor, 0)
            work.cancel()
            (result,) = await allOf(work)
            outcomes.add("done" if result is None else result.type.__name__)
            assert result is None or result.check(CancelledError), result
            if result is None:
                assert -n in reached
    await assertWhole(numbers)
    there = await stored(numbers)
    assert len(set(there)) == len(there)
    # What was committed had reached the end of its block.
    assert set(there) <= set(reached)
    assert {-n for n in reached if n < 0} <= set(there)
    assert outcomes == {"done", "CancelledError"}


async def test_cancelled_in_a_statement(numbers):
    async def slowly():
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (1)")
            await t.execute("SELECT pg_sleep(0.3)")

    work = [run(slowly()) for _ in range(numbers.size - 1)]
    async with databaseOf(numbers.dsn, size=1) as other:
        asked = (
            "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(0.3%%'"
        )
        while (await other.query(asked + " AND %s", (True,)))[0]["n"] < len(work):
            pass
    await allCancelled(*work)
    await assertWhole(numbers)
    assert await stored(numbers) == []


async def test_cancelled_in_commit(numbers):
    """A COMMIT that has been sent is not taken back, and its slot is."""
    await numbers.query(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'"
    )
    await numbers.query(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON numbers DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    ended = []

    async def insert():
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (1)")
            ended.append(True)

    work = run(insert())
    await until(lambda: ended)
    await allCancelled(work)
    assert await stored(numbers) == []
    await assertWhole(numbers)  # only once the COMMIT has ended
    assert await stored(numbers) == [1]


# What is planned once

ADD = Prepared(
    "add", "SELECT 1; INSERT INTO numbers VALUES (%(n)s), (%(n)s + %(more)s) RETURNING n"
)


async def preparedOn(database):
    """What the server has planned for the only connection of a database."""
    return await database.query(
        "SELECT name, generic_plans + custom_plans AS runs, custom_plans"
        " FROM pg_prepared_statements"
    )


async def test_prepared(numbers):
    """Each connection prepares a statement once, and plans it for whatever arguments."""
    async with databaseOf(numbers.dsn, size=1, schema=numbers.schema) as database:
        for n in range(7):
            rows = await database.query(ADD, {"more": 100, "n": n})
            assert rows == [{"n": n}, {"n": n + 100}]
        assert await preparedOn(database) == [{"name": "add", "runs": 7, "custom_plans": 0}]
    assert len(await stored(numbers)) == 14


async def test_prepared_failing(numbers):
    """
    A statement that has failed can be run again: also where the server has not come to prepare
    it, or where what it returns has changed since.
    """
    everything = Prepared("everything", "SELECT * FROM numbers WHERE n <> %(not)s")
    async with databaseOf(numbers.dsn, size=1, schema=numbers.schema) as database:
        await numbers.query("ALTER TABLE numbers RENAME TO others")
        with pytest.raises(psycopg2.errors.UndefinedTable):
            await database.query(ADD, {"more": 1, "n": 1})
        await numbers.query("ALTER TABLE others RENAME TO numbers")
        assert await database.query(ADD, {"more": 1, "n": 1}) == [{"n": 1}, {"n": 2}]
        assert await database.query(everything, {"not": 1}) == [{"n": 2}]
        await numbers.query("ALTER TABLE numbers ADD COLUMN m integer")
        with pytest.raises(psycopg2.errors.FeatureNotSupported):
            await database.query(everything, {"not": 1})
        assert await database.query(everything, {"not": 1}) == [{"n": 2, "m": None}]


async def test_prepared_anew(numbers, monkeypatch):
    """Plans are made anew now and then, for tables grow without being analysed."""
    scan = Prepared("scan", "SELECT n FROM numbers WHERE n = %(n)s")
    explain = Prepared("explain", "EXPLAIN EXECUTE scan (%(n)s)")
    explain.prepare, explain.execute = "SELECT 1", "EXPLAIN EXECUTE scan (%(n)s)"
    await numbers.query("ALTER TABLE numbers SET (autovacuum_enabled = off)")
    await numbers.query("CREATE INDEX ON numbers (n)")
    await numbers.query("INSERT INTO numbers VALUES (1); ANALYZE numbers")
    async with databaseOf(numbers.dsn, size=1, schema=numbers.schema) as database:
        await database.query(scan, {"n": 1})
        await numbers.query("INSERT INTO numbers SELECT generate_series(1, 20000)")
        (first, *_) = await database.query(explain, {"n": 1})
        assert first["QUERY PLAN"].startswith("Seq Scan")
        monkeypatch.setattr("twuws.connection.KEPT", 0)
        (first, *_) = await database.query(explain, {"n": 1})
        assert "Seq Scan" not in first["QUERY PLAN"]


# What goes wrong


async def test_idle_connection_terminated(postgres):
    async with databaseOf(postgres, size=2) as database, databaseOf(postgres, size=1) as other:
        pids = [
            row[0]["pid"]
            for row in await gatherResults(
                [database.query("SELECT pg_backend_pid() AS pid, pg_sleep(0.05)") for _ in "ab"]
            )
        ]
        idle = list(database._slots.pending)
        await other.query("SELECT pg_terminate_backend(pid) FROM unnest(%s) pid", (pids,))
        await until(lambda: not any(connection.usable() for connection in idle))
        await assertWhole(database)


async def test_connection_terminated_in_a_statement(numbers):
    async def slowly():
        async with numbers.transaction() as t:
            pid.append((await t.execute("SELECT pg_backend_pid() AS pid"))[0]["pid"])
            await t.execute("INSERT INTO numbers VALUES (1)")
            await t.execute("SELECT pg_sleep(20)")

    pid = []
    work = run(slowly())
    alone = numbers.query("SELECT pg_sleep(20), 'alone'")
    async with databaseOf(numbers.dsn, size=1) as other:
        while len(
            await other.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active'"
                " AND query LIKE 'SELECT pg_sleep(20)%' AND pid <> pg_backend_pid()"
            )
        ) < 2 and not (work.called and alone.called):
            pass
    for failure in await allOf(work, alone):
        assert failure.check(DatabaseUnavailable), failure
    assert await stored(numbers) == []
    await assertWhole(numbers)


async def test_swallowed_loss_is_told(numbers):
    with pytest.raises(DatabaseUnavailable):
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (1)")
            with pytest.raises(DatabaseUnavailable):
                await t.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await stored(numbers) == []
    await assertWhole(numbers)


@pytest.fixture
def silent():
    """The DSN of something that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://u:p@127.0.0.1:{server.getsockname()[1]}/d"


async def test_silent_server(silent):
    from twisted.internet import reactor

    began = reactor.seconds()
    with pytest.raises(DatabaseUnavailable, match="0.3 s"):
        await connect(silent, reactor, timeout=0.3)
    assert 0.25 < reactor.seconds() - began < 2


async def test_slow_name_server_counts(monkeypatch):
    """Looking for the host's address is part of the time limit, and nothing is left after it."""
    import threading

    from twisted.internet import reactor

    asked, answer = threading.Event(), threading.Event()

    def slow(*ignored):
        asked.set()
        answer.wait(10)
        return [(0, 0, 0, "", ("127.0.0.1", 1))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(DatabaseUnavailable, match="0.2 s"):
        await connect("postgresql://u@nowhere.example/d", reactor, timeout=0.2)
    assert asked.is_set()
    answer.set()


async def test_refused_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for dsn in (f"postgresql://u@127.0.0.1:{port}/d", "host=/nonexistent dbname=d"):
        async with databaseOf(dsn, size=1, patience=0.5) as database:
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
                    await database.query("SELECT 1")


def test_wrong_url():
    for url in ("postgresql//nowhere", "no such thing", "http://example.org/"):
        with pytest.raises(UWSError, match="no PostgreSQL URL"):
            Database(url)


def test_schema_names():
    """A name goes into search_path, where anything else would name another schema."""
    for name in ("Uws", "a-b", "a b", "", "a,b", 'a"', "x" * 64):
        with pytest.raises(UWSError, match="schema"):
            Database("postgresql://u@127.0.0.1/d", schema=name)


async def test_wrong_user(postgres):
    async with databaseOf(postgres + " user=nobody_known", size=1) as database:
        with pytest.raises(DatabaseUnavailable, match="nobody_known"):
            await database.query("SELECT 1")


async def test_all_connections_busy(postgres):
    async with databaseOf(postgres, size=2, patience=0.2) as database:
        held = [await database.borrow() for _ in range(2)]
        with pytest.raises(DatabaseUnavailable, match="busy"):
            await database.query("SELECT 1")
        waiting = database.query("SELECT 2 AS two")
        database.giveBack(held.pop())
        assert await waiting == [{"two": 2}]
        database.giveBack(held.pop())
        await assertWhole(database)


async def test_statement_timeout(numbers):
    with pytest.raises(DatabaseUnavailable, match="too long"):
        async with numbers.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (1)")
            await t.execute("SET LOCAL statement_timeout = '50ms'")
            await t.execute("SELECT pg_sleep(20)")
    assert await stored(numbers) == []
    await assertWhole(numbers)


async def test_lock_timeout(numbers):
    async with numbers.transaction() as t:
        await t.execute("LOCK TABLE numbers")
        with pytest.raises(LockTimeout):
            async with numbers.transaction(lockTimeout=0.05) as other:
                await other.execute("INSERT INTO numbers VALUES (1)")
    async with numbers.transaction(lockTimeout=0.05) as t:
        await t.execute("INSERT INTO numbers VALUES (2)")
    assert await stored(numbers) == [2]
    assert (await numbers.query("SHOW lock_timeout"))[0] == {"lock_timeout": "0"}
    await assertWhole(numbers)


# Ends


async def test_stop_waits_for_what_is_under_way(numbers):
    other = Database(numbers.dsn, size=2, schema=numbers.schema)
    other.startService()
    inside, goOn = Deferred(), Deferred()

    async def slowly():
        async with other.transaction() as t:
            await t.execute("INSERT INTO numbers VALUES (1)")
            inside.callback(None)
            await goOn
            await t.execute("INSERT INTO numbers VALUES (2)")

    work = run(slowly())
    await inside
    stopped = run(other.stopService())
    await numbers.query("SELECT 1")
    assert not stopped.called
    goOn.callback(None)
    await work
    await stopped
    assert await stored(numbers) == [1, 2]


async def test_stopped_is_stopped(postgres):
    database = Database(postgres, size=1)
    database.startService()
    await database.query("SELECT 1")
    await database.stopService()
    await database.stopService()
    with pytest.raises(DatabaseUnavailable, match="stopped"):
        await database.query("SELECT 1")
    database.startService()
    assert await database.query("SELECT 1 AS one") == [{"one": 1}]
    await database.stopService()


# LISTEN


class Heard:
    """A Listener's two callbacks, to wait for."""

    def __init__(self, database, channel="somewhere"):
        self.payloads, self.connections = [], 0
        self.listener = Listener(database, channel, self.payloads.append, self._connected)

    def _connected(self):
        self.connections += 1


TERMINATE_LISTENERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN \"%'"
)


async def test_listener(database):
    heard = Heard(database)
    heard.listener.startService()
    await until(lambda: heard.connections == 1)
    await database.query("SELECT pg_notify('somewhere', 'one')")
    await until(lambda: heard.payloads == ["one"])
    assert await database.query(TERMINATE_LISTENERS)
    await until(lambda: heard.connections == 2)
    await database.query("SELECT pg_notify('elsewhere', 'x'), pg_notify('somewhere', 'two')")
    await until(lambda: heard.payloads == ["one", "two"])
    await heard.listener.stopService()
    await database.query("SELECT pg_notify('somewhere', 'three')")
    assert heard.payloads == ["one", "two"]


async def test_listener_survives_its_callbacks(database, loggedErrors):
    heard = Heard(database)

    def fail(*ignored):
        raise ZeroDivisionError

    heard.listener.connected, heard.listener.notified = fail, fail
    heard.listener.startService()
    await until(lambda: len(loggedErrors) == 1)
    await database.query("SELECT pg_notify('somewhere', 'one')")
    await until(lambda: len(loggedErrors) == 2)
    heard.listener.notified = heard.payloads.append
    await database.query("SELECT pg_notify('somewhere', 'two')")
    await until(lambda: heard.payloads == ["two"])
    await heard.listener.stopService()
    assert [failure.type for failure in loggedErrors] == [ZeroDivisionError] * 2
    loggedErrors.clear()


async def test_listener_stops_at_any_time(database, silent):
    from twisted.internet import reactor

    for turns in range(8):
        heard = Heard(database)
        heard.listener.startService()
        for _ in range(turns):
            await deferLater(reactor, 0)
        await heard.listener.stopService()
    for dsn in (silent, "host=/nonexistent"):
        heard = Heard(Database(dsn))
        heard.listener.startService()
        await deferLater(reactor, 0)
        await heard.listener.stopService()
        assert heard.connections == 0


async def test_listener_tries_until_there_is_a_server(postgres):
    database = Database("host=/nonexistent")
    heard = Heard(database)
    heard.listener.retry = lambda attempt: 0.01
    heard.listener.startService()
    database.dsn = Database(postgres).dsn
    await until(lambda: heard.connections == 1)
    await heard.listener.stopService()


@pytest.fixture
def proxy(postgres):
    """What is between a database and its server, and can be cut."""
    host = parse_dsn(postgres)["host"]
    if not host.startswith("/"):
        pytest.skip("the proxy leads to Unix sockets only")
    network = Network()
    proxy = Proxy(network, Path(host) / ".s.PGSQL.5432")
    yield proxy
    proxy.close()
    network.close()


@pytest.mark.slow
async def test_cut_connections_leave_the_reactor_whole(postgres, proxy):
    """
    What is cut, at whatever moment, is no descriptor of the reactor any more: else a socket
    that gets its number would never be looked at.
    """
    from twisted.internet import reactor

    before = set(reactor.getReaders())
    chosen = random.Random(1)
    dsn = f"postgresql://{parse_dsn(postgres)['user']}@127.0.0.1:{proxy.port}/postgres"
    over, others = [], []
    async with databaseOf(dsn) as database:

        async def client():
            while not over:
                try:
                    async with database.transaction() as t:
                        await t.execute("SELECT pg_sleep(0.01)")
                    await database.query("SELECT 1")
                except DatabaseUnavailable:
                    await deferLater(reactor, 0.01)
                except Exception as e:
                    others.append(e)

        clients = [run(client()) for _ in range(12)]
        for _ in range(150):
            await deferLater(reactor, chosen.uniform(0, 0.04))
            if chosen.random() < 0.3:
                proxy.refuse()
                await deferLater(reactor, chosen.uniform(0, 0.05))
                proxy.goOn()
            else:
                proxy.cut()
        over.append(True)
        await allOf(*clients)
        await assertWhole(database)
    assert not others
    assert set(reactor.getReaders()) == before
    assert not [one for one in reactor.getWriters() if hasattr(one, "pollable")]


# A server that restarts


@pytest.fixture
def ownServer():
    """A PostgreSQL that a test may stop as it likes."""
    import pytest_twisted

    from twuws.embedded import EmbeddedPostgres

    directory = Path(tempfile.mkdtemp(prefix="twuws-restarts-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory / "postgres", durable=False)
    pytest_twisted.blockon(run(server.start()))
    yield server
    pytest_twisted.blockon(run(server.stop()))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.slow
async def test_silence(ownServer, monkeypatch):
    """Who waits for a database that says nothing more is told soon, and others at once."""
    from twisted.internet import reactor

    monkeypatch.setattr("twuws.database.RECONSIDER", 0.5)
    async with databaseOf(ownServer.dsn, size=2, patience=0.4) as database:
        monkeypatch.setattr(database, "statementLimit", 0.6)
        await gatherResults([database.query("SELECT pg_sleep(0.1)") for _ in range(2)])
        server = psutil.Process(ownServer._child.transport.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.suspend()
        began = reactor.seconds()
        asked = [database.query("SELECT 1") for _ in range(5)]
        for failure in await allOf(*asked):
            assert failure.check(DatabaseUnavailable), failure
        assert reactor.seconds() - began < 2
        began = reactor.seconds()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await database.query("SELECT 1")
        assert reactor.seconds() - began < 0.2
        for process in processes:
            process.resume()

        async def answered():
            try:
                return bool(await database.query("SELECT 1"))
            except DatabaseUnavailable:
                return False

        while not await answered():
            await deferLater(reactor, 0.05)
        await assertWhole(database)


@pytest.mark.slow
async def test_restarts_under_load(ownServer, tmp_path):
    """Nothing that was acknowledged is lost, and all goes on by itself."""
    from twisted.internet import reactor

    # Without fsync it survives what is killed, but not without the first of these.
    safe = ownServer.dsn + " options='-c synchronous_commit=on'"
    async with databaseOf(safe) as database:
        await schema.prepare(database)
        uws = UWS(UWSJob, database=database, directory=tmp_path, name="load")
        uws.watcher.startService()
        acknowledged, refused, over = {}, [], []

        async def client(number):
            while not over:
                try:
                    jobId = await uws.getNewJobId(runId=str(number), timeout=1)
                    acknowledged[jobId] = str(number)
                    async with uws.changeableJob(jobId) as job:
                        job.runId = "changed"
                    acknowledged[jobId] = "changed"
                    await uws.abort(jobId)
                except Unavailable as e:
                    refused.append(str(e))
                    await deferLater(reactor, 0.05)

        clients = [run(client(n)) for n in range(20)]
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT):
            before = len(acknowledged)
            await until(lambda before=before: len(acknowledged) > before + 100, 20)
            lost = ownServer.lost
            ownServer._child.transport.signalProcess(int(number))
            await lost
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 100, 20)
        over.append(True)
        for result in await allOf(*clients):
            assert result is None, result.getTraceback()
        assert refused
        rows = await database.query("SELECT job_id, run_id FROM jobs")
        there = {row["job_id"]: row["run_id"] for row in rows}
        assert set(acknowledged) <= set(there)
        assert {there[j] for j, is_ in acknowledged.items() if is_ == "changed"} == {"changed"}
        # A row without a directory would be a job that cannot run.
        assert {j for j in there if not uws.workDirs.forJob(j).path.is_dir()} == set()
        await assertWhole(database)
        await uws.watcher.stopService()
