"""
What a row of the job list takes of memory: C{python -m bench.allocations DSN SERVICE}.

It reads one page of the list from the database and makes it XML, twice, and prints in JSON what
the second one was: how many blocks it holds for each row, and how many bytes it took at most.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.jobclasses import Five
from twuws.database import Database
from twuws.documents import jobRef
from twuws.jobstable import ListFilters
from twuws.uws import UWS

ROWS = 250


async def page(uws: UWS) -> tuple[list[Any], bytes]:
    """The newest jobs, and their XML."""
    refs = await anext(uws.pagesOfJobs(ListFilters(last=ROWS), pageSize=ROWS))
    if len(refs) != ROWS:
        raise RuntimeError(f"the list has {len(refs)} jobs only")
    return refs, b"".join(jobRef(ref, f"http://localhost/{ref.jobId}") for ref in refs)


async def measured(uws: UWS) -> dict[str, float]:
    """Blocks held, and bytes at most, for each row."""
    await page(uws)
    gc.collect()
    before = sys.getallocatedblocks()
    held = await page(uws)
    blocks = sys.getallocatedblocks() - before
    del held
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await page(uws)
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return {"blocks": blocks / ROWS, "bytes": most / ROWS}


async def main(reactor: Any, dsn: str, service: str) -> None:
    """Print it."""
    database = Database(dsn, reactor=reactor)
    database.startService()
    uws = UWS(Five, database=database, directory="unused", name=service)
    sys.stdout.write(json.dumps(await measured(uws)) + "\n")
    await database.stopService()


if __name__ == "__main__":
    arguments = sys.argv[1:3]
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *arguments)))
