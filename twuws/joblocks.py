"""
A lock per job, inside this process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import DeferredLock, TimeoutError

from twuws.errors import JobLocked


class JobLocks:
    """
    One L{DeferredLock} for each job that somebody here is changing.

    It is taken before the row's lock, so that those who wait do not use up connections.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._locks: dict[str, tuple[DeferredLock, int]] = {}

    @asynccontextmanager
    async def held(self, jobId: str, timeout: float) -> AsyncIterator[None]:
        """
        Hold the job's lock; raise L{JobLocked} if it can't be had within C{timeout} seconds.
        """
        lock, users = self._locks.get(jobId, (DeferredLock(), 0))
        self._locks[jobId] = (lock, users + 1)
        try:
            try:
                await lock.acquire().addTimeout(timeout, self.reactor)
            except TimeoutError:
                raise JobLocked(jobId) from None
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[jobId]
            if users > 1:
                self._locks[jobId] = (lock, users - 1)
            else:
                del self._locks[jobId]
