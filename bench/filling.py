"""
Many jobs at once, put into the tables by SQL as if they had been made and done one by one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.databases import Database

#: As if they had been made one after the other, the last of them a moment ago.
_FILL = """
SET session_replication_role = replica;  -- no triggers: what they would write is written below
INSERT INTO jobs (job_id, service, phase, creation_time, start_time, end_time,
                  execution_duration, destruction, parameters, results, attempt, moved)
SELECT md5(%(mark)s || n), %(service)s, %(phase)s, at, CASE WHEN done THEN at END,
       CASE WHEN done THEN at + interval '20 ms' END,
       3600, at + %(lifetime)s * interval '1 s',
       '{"image": ["m31.fits"], "ra": ["10.68"], "dec": ["41.27"], "size": ["0.2"],
         "mode": ["fast"]}',
       CASE WHEN done THEN '[{"id": "cutout.txt", "file": "cutout.txt", "href": null, "size": 19,
                              "mediaType": "text/plain"}]'::jsonb ELSE '[]' END,
       CASE WHEN done THEN 1 ELSE 0 END, jsonb_build_object('who', null, 'at', at)
FROM (SELECT n, %(phase)s = 'COMPLETED' AS done,
             date_trunc('milliseconds', clock_timestamp()) - %(age)s * interval '1 s'
             - (%(number)s - n) * interval '10 ms' AS at
      FROM generate_series(1, %(number)s) n) made;
INSERT INTO events (job_id, service, attempt, phase, at)
SELECT md5(%(mark)s || n), %(service)s, 0, phase, clock_timestamp()
FROM generate_series(1, %(number)s) n,
     unnest(CASE WHEN %(phase)s = 'COMPLETED'
            THEN ARRAY['PENDING', 'QUEUED', 'EXECUTING', 'COMPLETED'] ELSE ARRAY['PENDING'] END)
     AS phase;
RESET session_replication_role;
"""
#: All that are no constraints.
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'uws' AND tablename = 'jobs' AND indexname NOT LIKE '%pkey'"""


def fill(
    database: Database,
    number: int,
    *,
    service: str = "five",
    phase: str = "COMPLETED",
    mark: str = "job",
    age: float = 0,
    lifetime: float = 7 * 86400,
) -> None:
    """
    Make so many jobs, PENDING or COMPLETED.

    @param age: of the newest, s.
    @param lifetime: from its creation to a job's destruction, s.
    """
    given = {"number": number, "service": service, "phase": phase, "mark": mark, "age": age,
             "lifetime": lifetime}  # fmt: skip
    indexes = database.run(_INDEXES) if number >= 100_000 else []
    for name, _ in indexes:  # to make them at once takes less time than row by row
        database.run(f"DROP INDEX {name}")
    database.run(_FILL, given)
    for _, definition in indexes:
        database.run(definition)
    database.run("VACUUM ANALYZE jobs")
    database.run("VACUUM ANALYZE events")
    database.run("CHECKPOINT")


def idOf(number: int, mark: str = "job") -> str:
    """The id of one of them, from 1 on."""
    return hashlib.md5(f"{mark}{number}".encode(), usedforsecurity=False).hexdigest()


def makeDirectories(jobs: Path, ids: list[str], result: bytes | None = None) -> None:
    """Make the directories of jobs, as a service does, with the file of a result if need be."""
    for one in ids:
        results = jobs / one[:2] / one / "results"
        results.mkdir(parents=True)
        (results.parent / "parameters").mkdir()
        if result is not None:
            (results / "cutout.txt").write_bytes(result)
