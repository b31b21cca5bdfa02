"""Things that are done together while they come faster than they can be done one by one."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock

from twuws.grouped import Grouped


class Slow:
    """Does what it is told to once that is over; fails for what is negative."""

    def __init__(self):
        self.groups = []

    async def do(self, items):
        self.groups.append(list(items))
        self.over = Deferred()
        await self.over
        if min(items) < 0:
            raise ValueError(items)
        return [item * 2 for item in items]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def clock():
    return Clock()


async def test_alone(slow, clock):
    done = Grouped(slow.do, clock).do(1)
    assert slow.groups == []
    clock.advance(0)
    assert slow.groups == [[1]]
    assert not done.called
    slow.over.callback(None)
    assert await done == 2
    assert not clock.getDelayedCalls()


async def test_together(slow, clock):
    """All of one turn, and then all that came meanwhile, each with its own result."""
    grouped = Grouped(slow.do, clock, most=3)
    waiting = [grouped.do(n) for n in (1, 2)]
    clock.advance(0)
    waiting += [grouped.do(n) for n in range(3, 8)]
    for _ in range(3):
        clock.advance(0)
        slow.over.callback(None)
    assert slow.groups == [[1, 2], [3, 4, 5], [6, 7]]
    assert await gatherResults(waiting) == [2, 4, 6, 8, 10, 12, 14]
    assert not clock.getDelayedCalls()


async def test_failure(slow, clock):
    """A group fails together, and the next one does not."""
    grouped = Grouped(slow.do, clock)
    failing = [grouped.do(n) for n in (2, -3)]
    clock.advance(0)
    later = grouped.do(4)
    slow.over.callback(None)
    for one in failing:
        with pytest.raises(ValueError, match="-3"):
            await one
    clock.advance(0)
    slow.over.callback(None)
    assert await later == 8


async def test_too_few_results(clock):
    """A mistake of the action is not what others wait for without end."""

    async def doLess(items):
        return []

    grouped = Grouped(doLess, clock)
    for _ in range(2):
        done = grouped.do(1)
        clock.advance(0)
        with pytest.raises(ValueError, match="0 results for 1"):
            await done


async def test_begins_anew(slow, clock):
    """Who hears of a result may ask for the next one at once."""
    grouped = Grouped(slow.do, clock)
    results = []
    grouped.do(1).addCallback(results.append).addCallback(
        lambda _: grouped.do(5).addCallback(results.append)
    )
    for _ in range(2):
        clock.advance(0)
        slow.over.callback(None)
    assert results == [2, 10]
    assert slow.groups == [[1], [5]]


async def test_what_takes_long_keeps_nobody(slow, clock):
    """Others begin beside it, however many groups take long, and one of them at a time."""
    grouped = Grouped(slow.do, clock, most=2, patience=3)
    waiting, over = [grouped.do(n) for n in range(1, 8)], []
    for wait in (0, 2, 1, 0, 3, 0):
        clock.advance(wait)
        if slow.groups and len(over) < len(slow.groups):
            over.append(slow.over)
    assert slow.groups == [[1, 2], [3, 4], [5, 6]]
    over[0].callback(None)  # the place that it had is another's by now
    clock.advance(0)
    assert len(slow.groups) == 3
    over[2].callback(None)
    clock.advance(0)
    assert slow.groups[3:] == [[7]]
    slow.over.callback(None)
    over[1].callback(None)
    assert await gatherResults(waiting) == [2 * n for n in range(1, 8)]
    assert not clock.getDelayedCalls()


async def test_who_gives_up(slow, clock):
    """That is nobody else's trouble."""
    grouped = Grouped(slow.do, clock)
    one, other = grouped.do(1), grouped.do(2)
    one.addErrback(lambda failure: failure.trap(CancelledError))
    one.cancel()
    clock.advance(0)
    slow.over.callback(None)
    assert await other == 4
