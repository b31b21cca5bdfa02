"""
The SQL about holds: what is not to run for now.

Whoever looks at the holds to decide about a phase has first said C{holdsStay}, and whoever
puts a hold on many jobs, or takes one away, C{holdsChange}: so nobody decides by what has
just changed.  The order of locks is a job's row first, then these; who changes holds of many
jobs locks no job meanwhile.
"""

from __future__ import annotations

HOLD_STATEMENTS: dict[str, str] = {
    # Until the transaction ends; for any number at a time.
    "holdsStay": """
        SELECT pg_advisory_xact_lock_shared(hashtext('holds of ' || current_schema()))""",
    # Until the transaction ends; for one alone.
    "holdsChange": """
        SELECT pg_advisory_xact_lock(hashtext('holds of ' || current_schema()))""",
    # A hold that is there already is told anew by whom and why.
    "putHold": """
        INSERT INTO holds (job_id, service, owner, who, why)
        VALUES (%(jobId)s, %(service)s, %(owner)s, %(who)s, %(why)s)
        ON CONFLICT (COALESCE(job_id, ''), COALESCE(service, ''), (owner IS NULL),
                     COALESCE(owner, ''))
        DO UPDATE SET who = EXCLUDED.who, why = EXCLUDED.why""",
    # Nodes look for jobs then, even if the phase of none changes.
    "takeHold": """
        WITH gone AS (
            DELETE FROM holds
            WHERE job_id IS NOT DISTINCT FROM %(jobId)s::text
              AND service IS NOT DISTINCT FROM %(service)s::text
              AND owner IS NOT DISTINCT FROM %(owner)s::text
            RETURNING hold_id)
        SELECT hold_id, pg_notify(current_schema(), '- released -') FROM gone""",
    # The hold that keeps a job, one with a reason if there is any; says C{holdsStay} first.  These
    # are two statements in one round trip: the second sees what was there once the first had
    # waited, which one statement would not.
    "holdOnJob": """
        SELECT pg_advisory_xact_lock_shared(hashtext('holds of ' || current_schema()));
        SELECT h.* FROM holds h JOIN jobs j ON j.job_id = %(jobId)s
        WHERE h.job_id = j.job_id
           OR (h.job_id IS NULL AND COALESCE(h.service, j.service) = j.service
               AND COALESCE(h.owner, j.owner, '') = COALESCE(j.owner, ''))
        ORDER BY h.why IS NULL, h.hold_id LIMIT 1""",
    # Holds that keep anything; what is over needs none.
    "listHolds": """
        SELECT h.job_id AS "jobId", COALESCE(h.service, j.service) AS service, h.owner, h.since,
               h.who, h.why
        FROM holds h LEFT JOIN jobs j ON j.job_id = h.job_id
        WHERE (h.job_id IS NULL OR j.phase NOT IN ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED'))
          AND (%(service)s::text IS NULL OR COALESCE(h.service, j.service, %(service)s)
                                            = %(service)s)
        ORDER BY h.since, h.hold_id""",
    # Makes QUEUED jobs HELD that a hold keeps, and HELD ones QUEUED that none keeps, with the
    # priority and the place in the queue that they had; and has HELD ones say why they are.
    # At most so many at a time, the first first.  What is locked is passed over; there is
    # always one row, which says how many there were to change, and how many were changed.
    "settleHolds": """
        WITH candidates AS MATERIALIZED (
            SELECT c.job_id, h.hold_id, h.why
            FROM (SELECT job_id, phase, service, COALESCE(owner, '') AS owner,
                         (held->>'queuedAt')::timestamptz AS queued_at,
                         job_info->>'heldBecause' AS because
                  FROM jobs WHERE phase = 'HELD'
                  UNION ALL
                  SELECT job_id, 'QUEUED', service, owner, queued_at, NULL
                  FROM queue WHERE claimed_at IS NULL) c
            LEFT JOIN LATERAL (
                SELECT h.hold_id, h.why FROM holds h
                WHERE h.job_id = c.job_id
                   OR (h.job_id IS NULL AND COALESCE(h.service, c.service) = c.service
                       AND COALESCE(h.owner, c.owner) = c.owner)
                ORDER BY h.why IS NULL, h.hold_id LIMIT 1) h ON true
            WHERE (%(jobId)s::text IS NULL OR c.job_id = %(jobId)s)
              AND (%(service)s::text IS NULL OR c.service = %(service)s)
              AND (%(owner)s::text IS NULL OR c.owner = %(owner)s)
              AND CASE WHEN h.hold_id IS NULL THEN c.phase = 'HELD'
                       ELSE c.phase = 'QUEUED' OR c.because IS DISTINCT FROM h.why END
            ORDER BY c.queued_at, c.job_id LIMIT %(limit)s),
        locked AS (
            SELECT c.*, j.phase AS was
            FROM candidates c JOIN jobs j ON j.job_id = c.job_id
            WHERE j.phase IN ('QUEUED', 'HELD')
            FOR UPDATE OF j SKIP LOCKED),
        settled AS (
            UPDATE jobs j
            SET phase = CASE WHEN l.hold_id IS NULL THEN 'QUEUED' ELSE 'HELD' END,
                job_info = CASE WHEN l.why IS NULL THEN j.job_info - 'heldBecause'
                    ELSE j.job_info || jsonb_build_object('heldBecause', l.why) END,
                held = CASE WHEN l.was = 'HELD' THEN j.held
                    ELSE (SELECT jsonb_build_object('priority', q.priority,
                                                    'queuedAt', q.queued_at)
                          FROM queue q WHERE q.job_id = j.job_id) END,
                moved = CASE WHEN (l.was = 'HELD') = (l.hold_id IS NOT NULL) THEN j.moved
                    ELSE jsonb_build_object('who', %(who)s::text, 'why',
                                            CASE WHEN l.hold_id IS NULL THEN %(why)s ELSE l.why END,
                                            'at', clock_timestamp()) END
            FROM locked l WHERE j.job_id = l.job_id
            RETURNING j.*, l.was),
        gone AS (
            DELETE FROM queue q USING settled s WHERE q.job_id = s.job_id AND s.phase = 'HELD'),
        back AS (
            INSERT INTO queue (job_id, service, owner, priority, queued_at, attempt)
            SELECT job_id, service, COALESCE(owner, ''),
                   COALESCE((held->>'priority')::smallint, 0),
                   COALESCE((held->>'queuedAt')::timestamptz, clock_timestamp()), attempt
            FROM settled WHERE phase = 'QUEUED'
            ON CONFLICT (job_id) DO NOTHING)
        SELECT (SELECT count(*) FROM candidates) AS possible,
               (SELECT count(*) FROM settled) AS settled,
               (SELECT count(*) FROM settled WHERE was <> phase) AS moved""",
}
