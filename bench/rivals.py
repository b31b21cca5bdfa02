"""
Others that run jobs from a queue in PostgreSQL: C{python -m bench.rivals NAME DSN NUMBER}.

It puts so many jobs that do nothing into a queue, says C{queued}, and waits for a line of stdin.
Then it says when it begins, by the monotonic clock, and works, 8 at a time.
"""

from __future__ import annotations

import asyncio
import sys
import time

#: How to see, in one row, whether all is done.
DONE = {
    "procrastinate": "SELECT NOT EXISTS (SELECT FROM procrastinate_jobs"
    " WHERE status IN ('todo', 'doing')), (SELECT count(*) FROM procrastinate_jobs"
    " WHERE status = 'succeeded')",
    "pgqueuer": "SELECT NOT EXISTS (SELECT FROM pgqueuer), (SELECT count(*) FROM pgqueuer_log"
    " WHERE status = 'successful')",
}


def begin() -> None:
    """Wait until this is to begin, and say that it does."""
    sys.stdout.write("queued\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(f"{time.monotonic()}\n")
    sys.stdout.flush()


async def procrastinate(dsn: str, number: int) -> None:
    """procrastinate, with psycopg, as it comes."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=dsn))

    @app.task(name="noop")
    async def noop() -> None:
        pass

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await noop.batch_defer_async(*[{} for _ in range(number)])
        begin()
        await app.run_worker_async(concurrency=8, wait=False, install_signal_handlers=False)


async def pgqueuer(dsn: str, number: int) -> None:
    """pgqueuer, with asyncpg, as it comes; of its batches two are to be under way at a time."""
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.models import Job
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    connection = await asyncpg.connect(dsn)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    await queries.install()
    await queries.enqueue(["noop"] * number, [None] * number, [0] * number)
    worker = PgQueuer(driver)

    @worker.entrypoint("noop")
    async def noop(job: Job) -> None:
        pass

    begin()
    await worker.run(batch_size=4, max_concurrent_tasks=8, mode=QueueExecutionMode.drain)


if __name__ == "__main__":
    name, dsn, number = sys.argv[1:]
    asyncio.run({"procrastinate": procrastinate, "pgqueuer": pgqueuer}[name](dsn, int(number)))
