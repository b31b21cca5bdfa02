"""Things that are done together while they come faster than they can be done one by one."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, gatherResults
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


async def test_alone_at_once(slow):
    done = Grouped(slow.do).do(1)
    assert slow.groups == [[1]]
    assert not done.called
    slow.over.callback(None)
    assert await done == 2


async def test_together_meanwhile(slow):
    """What comes while others are done is done together, each with its own result."""
    grouped = Grouped(slow.do, most=3)
    waiting = [grouped.do(n) for n in range(1, 7)]
    for _ in range(3):
        slow.over.callback(None)
    assert slow.groups == [[1], [2, 3, 4], [5, 6]]
    assert await gatherResults(waiting) == [2, 4, 6, 8, 10, 12]


async def test_failure(slow):
    """A group fails together, and the next one does not."""
    grouped = Grouped(slow.do)
    first, *failing = [grouped.do(n) for n in (1, 2, -3)]
    slow.over.callback(None)
    assert await first == 2
    later = grouped.do(4)
    slow.over.callback(None)
    for one in failing:
        with pytest.raises(ValueError, match="-3"):
            await one
    slow.over.callback(None)
    assert await later == 8


async def test_too_few_results(slow):
    """A mistake of the action is not what others wait for without end."""

    async def doLess(items):
        return []

    grouped = Grouped(doLess)
    for _ in range(2):
        with pytest.raises(ValueError, match="zip"):
            await grouped.do(1)


async def test_beginsAnew(slow):
    """Who hears of a result may ask for the next one at once."""
    grouped = Grouped(slow.do)
    results = []
    grouped.do(1).addCallback(results.append).addCallback(
        lambda _: grouped.do(5).addCallback(results.append)
    )
    slow.over.callback(None)
    slow.over.callback(None)
    assert results == [2, 10]
    assert slow.groups == [[1], [5]]


async def test_togetherInOneTurn(slow):
    """With a reactor, the first is no group alone: all of one turn are one, others the next."""
    clock = Clock()
    grouped = Grouped(slow.do, atOnce=2, reactor=clock)
    waiting = [grouped.do(n) for n in (1, 2, 3)]
    assert slow.groups == []
    clock.advance(0)
    assert slow.groups == [[1, 2, 3]]
    slow.over, before = Deferred(), slow.over
    waiting.append(grouped.do(4))
    clock.advance(0)
    assert slow.groups == [[1, 2, 3], [4]]  # it does not wait for the others
    before.callback(None)
    slow.over.callback(None)
    assert await gatherResults(waiting) == [2, 4, 6, 8]
    last = grouped.do(5)
    clock.advance(0)
    assert slow.groups[2:] == [[5]]
    slow.over.callback(None)
    assert await last == 10
