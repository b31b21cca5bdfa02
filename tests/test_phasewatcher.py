"""The watcher alone: who is woken, who is told."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError

from tests.working import until
from twuws.phasewatcher import PhaseWatcher


@pytest.fixture
def told(database):
    """A watcher that listens, and what it has told its observer."""
    import pytest_twisted
    from twisted.internet.defer import Deferred

    watcher, told = PhaseWatcher(database), []
    watcher.observers.add(lambda *what: told.append(what))
    watcher.startService()
    pytest_twisted.blockon(Deferred.fromCoroutine(until(lambda: told)))
    yield watcher, told
    pytest_twisted.blockon(watcher.stopService())


async def test_observers(database, told):
    _, said = told
    await database.query("SELECT pg_notify(%s, 'a QUEUED one service')", (database.schema,))
    await until(lambda: len(said) == 2)
    assert said == [(None, None, None), ("a", "QUEUED", "one service")]


async def test_payloads_of_others(database, told, loggedErrors):
    """Anybody may notify; what makes no sense disturbs nobody."""
    watcher, said = told
    waiting = watcher.changed("a")
    for payload in ("", "x", "a b", " ", "a QUEUED s"):
        await database.query("SELECT pg_notify(%s, %s)", (database.schema, payload))
    await waiting
    await until(lambda: len(said) == 2)
    assert said == [(None, None, None), ("a", "QUEUED", "s")]


async def test_waiters(database, told):
    watcher, _ = told
    first, second, other = watcher.changed("a"), watcher.changed("a"), watcher.changed("b")
    assert watcher.waiting() == 3
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    assert watcher.waiting() == 2
    await database.query("SELECT pg_notify(%s, 'a QUEUED s')", (database.schema,))
    await first
    assert not other.called
    watcher.wakeAll()
    assert other.called
    assert watcher._waiting == {}


async def test_waits_anew_while_woken(told):
    """Who is woken and waits again waits for the next change, not for this one."""
    watcher, _ = told
    again = []
    watcher.changed("a").addCallback(lambda _: again.append(watcher.changed("a")))
    watcher.wakeAll()
    assert len(again) == watcher.waiting() == 1
    assert not again[0].called


async def test_wakes_when_it_stops(database):
    watcher = PhaseWatcher(database)
    watcher.startService()
    waiting = watcher.changed("a")
    await watcher.stopService()
    assert waiting.called
