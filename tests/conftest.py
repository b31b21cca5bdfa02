"""
A PostgreSQL of the tests' own, and a reactor that no test leaves dirty.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

TIMEOUT = float(os.environ.get("TEST_TIMEOUT", "30"))

# Tests interrupt what they start; where a shell has put all of this into the background, it
# would ignore that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "twuws",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("twuws")


def _limited(f):
    @functools.wraps(f)
    def run(*args, **kwargs):
        from twisted.internet import reactor

        return Deferred.fromCoroutine(f(*args, **kwargs)).addTimeout(TIMEOUT, reactor)

    return run


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Give each coroutine test the reactor, and a time limit."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _limited(item.obj)


_known = 0  # modules


def _collectGarbage():
    """Modules stay: collecting garbage again need not look at them and all that they have."""
    global _known
    gc.collect()
    if len(sys.modules) > _known:
        _known = len(sys.modules)
        gc.freeze()


def pytest_collection_finish():
    _collectGarbage()


@pytest.fixture(autouse=True)
def loggedErrors():
    """
    Fail a test that leaves an error in the Twisted log; one that means to clears the list.
    """
    errors = []

    def observe(event):
        if "log_failure" in event and event.get("log_level") is LogLevel.critical:
            errors.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    yield errors
    _collectGarbage()  # errors that no Deferred handles are reported when it is collected
    globalLogPublisher.removeObserver(observe)
    assert not errors, "errors in the Twisted log: " + ", ".join(map(repr, errors))


@pytest.fixture(autouse=True)
def cleanReactor():
    """Fail a test that leaves a delayed call behind."""
    from twisted.internet import reactor

    before = set(reactor.getDelayedCalls())
    yield
    left = [c for c in reactor.getDelayedCalls() if c not in before and c.active()]
    for call in left:
        call.cancel()
    assert not left, f"delayed calls left: {left}"


@pytest.fixture(scope="session")
def postgres():
    """
    The DSN of a PostgreSQL for the whole run.

    C{TWUWS_TEST_POSTGRES} chooses another one: a URL, or the directory of PostgreSQL's
    programs.
    """
    chosen = os.environ.get("TWUWS_TEST_POSTGRES", "")
    if "://" in chosen or "=" in chosen:
        yield chosen
        return
    from twuws.embedded import EmbeddedPostgres

    directory = Path(tempfile.mkdtemp(prefix="twuws-tests-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory / "postgres", binaries=chosen or None, durable=False)
    pytest_twisted.blockon(Deferred.fromCoroutine(server.start()))
    yield server.dsn
    pytest_twisted.blockon(Deferred.fromCoroutine(server.stop()))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def schemas(postgres):
    """See L{tests.schemas.Schemas}."""
    from tests.schemas import Schemas

    schemas = Schemas(postgres)
    yield schemas
    schemas.close()


@pytest.fixture
def database(postgres, schemas):
    """A started Database, in an empty schema of its own."""
    from twisted.internet.threads import deferToThread

    from twuws import schema
    from twuws.database import Database

    name = schemas.take()
    database = Database(postgres, schema=name)
    database.startService()
    pytest_twisted.blockon(Deferred.fromCoroutine(schema.prepare(database)))
    yield database
    pytest_twisted.blockon(Deferred.fromCoroutine(database.stopService()))
    # Not here, for calls that are due must be made, as long as it takes.
    pytest_twisted.blockon(deferToThread(schemas.giveBack, name))


@pytest.fixture
def serving(database, tmp_path):
    """A whole service of L{tests.serving.Noted} jobs; see there."""
    from tests.serving import serve

    serving = pytest_twisted.blockon(Deferred.fromCoroutine(serve(database, tmp_path / "jobs")))
    yield serving
    pytest_twisted.blockon(Deferred.fromCoroutine(serving.stop()))
