"""
All the SQL, every statement by its name.

Statements are literal, and run with C{search_path} set to the schema.  The order of locks
is always the job's row first, then its row in the queue: whoever holds the first may write
the second.
"""

from __future__ import annotations

from twuws.holdstatements import HOLD_STATEMENTS

STATEMENTS: dict[str, str] = {
    **HOLD_STATEMENTS,
    # Makes a PENDING job, unless its destruction would be in the past: then no row comes back.
    # Ids are random: one that is there is from a try whose answer was lost.
    "createJob": """
        INSERT INTO jobs (job_id, service, owner, run_id, execution_duration, destruction,
                          quote, parameters, job_info, is_listed, moved)
        SELECT %(jobId)s, %(service)s, %(owner)s, %(runId)s, %(executionDuration)s,
               LEAST(COALESCE(%(destruction)s::timestamptz,
                              date_trunc('milliseconds', now()) + %(lifetime)s * interval '1 s'),
                     date_trunc('milliseconds', now()) + %(longestLifetime)s * interval '1 s'),
               %(quote)s, %(parameters)s, %(jobInfo)s, %(isListed)s,
               jsonb_build_object('who', %(who)s::text, 'at', clock_timestamp())
        WHERE %(destruction)s::timestamptz IS NULL OR %(destruction)s::timestamptz > now()
        ON CONFLICT (job_id) DO UPDATE SET service = EXCLUDED.service
        RETURNING *""",
    # Makes a key that is free, or was used long ago, stand for a new job.  No row comes back if
    # it stands for another, which then is there; whoever is about to use it is waited for.
    "useKey": """
        INSERT INTO creations (service, owner, key, job_id)
        VALUES (%(service)s, %(owner)s, %(key)s, %(jobId)s)
        ON CONFLICT (service, owner, key) DO UPDATE
        SET job_id = EXCLUDED.job_id, at = EXCLUDED.at
        WHERE creations.at < now() - interval '24 hours'
        RETURNING job_id""",
    "jobOfKey": """
        SELECT job_id FROM creations
        WHERE service = %(service)s AND owner = %(owner)s AND key = %(key)s
          AND at >= now() - interval '24 hours'""",
    # Those that somebody else is about to use, or to forget, are left alone.
    "forgetKeys": """
        DELETE FROM creations
        WHERE ctid = ANY(ARRAY(SELECT ctid FROM creations
                               WHERE at < now() - interval '24 hours'
                               ORDER BY at LIMIT %(limit)s
                               FOR UPDATE SKIP LOCKED))
        RETURNING key""",
    "getJob": """
        SELECT * FROM jobs WHERE job_id = %(jobId)s AND service = %(service)s""",
    # For changes; "now" is what the rules about times go by.
    "lockJob": """
        SELECT *, date_trunc('milliseconds', clock_timestamp()) AS now
        FROM jobs WHERE job_id = %(jobId)s AND service = %(service)s FOR UPDATE""",
    # One page of the job list, newest first; goes on after (beforeTime, beforeId).
    "listJobs": """
        SELECT job_id, phase, run_id, owner, creation_time
        FROM jobs
        WHERE service = %(service)s
          AND (%(anyOwner)s OR owner = %(owner)s OR (%(owner)s IS NULL AND owner IS NULL))
          AND phase = ANY(%(phases)s)
          AND (is_listed OR NOT %(listedOnly)s)
          AND creation_time > %(after)s
          AND creation_time <= %(beforeTime)s
          AND (creation_time < %(beforeTime)s OR job_id > %(beforeId)s)
        ORDER BY creation_time DESC, job_id
        LIMIT %(limit)s""",
    # Writes the columns that are keys of "changes", and leaves the others as they are.
    "changeJob": """
        UPDATE jobs j
        SET (owner, run_id, execution_duration, destruction, quote, parameters, results,
             error, job_info)
          = (SELECT n.owner, n.run_id, n.execution_duration, n.destruction, n.quote,
                    n.parameters, n.results, n.error, n.job_info
             FROM jsonb_populate_record(j, %(changes)s::jsonb) n)
        WHERE job_id = %(jobId)s
        RETURNING j.*""",
    # A job whose execution duration changes while it runs has another deadline.
    "moveDeadline": """
        UPDATE queue q
        SET deadline = CASE WHEN j.execution_duration > 0
                            THEN j.start_time + j.execution_duration * interval '1 s' END
        FROM jobs j
        WHERE j.job_id = %(jobId)s AND q.job_id = j.job_id AND q.claimed_at IS NOT NULL""",
    # The table of moves has been looked at, and the row is locked.
    "moveJob": """
        UPDATE jobs
        SET phase = %(phase)s,
            start_time = CASE
                WHEN %(phase)s IN ('EXECUTING', 'SUSPENDED', 'UNKNOWN', 'COMPLETED', 'ERROR')
                THEN COALESCE(start_time, date_trunc('milliseconds', clock_timestamp()))
                WHEN %(phase)s IN ('QUEUED', 'HELD') THEN NULL
                ELSE start_time END,
            end_time = CASE
                WHEN %(phase)s IN ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED')
                THEN COALESCE(end_time, GREATEST(
                    start_time, date_trunc('milliseconds', clock_timestamp()))) END,
            results = CASE WHEN %(phase)s IN ('QUEUED', 'HELD') THEN '[]' ELSE results END,
            job_info = CASE WHEN %(because)s::text IS NULL THEN job_info - 'heldBecause'
                ELSE job_info || jsonb_build_object('heldBecause', %(because)s::text) END,
            held = CASE WHEN %(phase)s = 'HELD' THEN (
                    SELECT jsonb_build_object(
                        'priority', COALESCE(max(q.priority), %(priority)s::integer),
                        'queuedAt', COALESCE(max(q.queued_at), clock_timestamp()))
                    FROM queue q WHERE q.job_id = %(jobId)s)
                WHEN %(phase)s = 'QUEUED' AND phase = 'HELD' THEN held END,
            moved = jsonb_build_object('who', %(who)s::text, 'why', %(why)s::text,
                                       'node', %(node)s::text, 'at', clock_timestamp()),
            error = CASE WHEN %(phase)s = 'ARCHIVED' THEN error ELSE %(error)s::jsonb END
        WHERE job_id = %(jobId)s
        RETURNING *""",
    # What was HELD has the priority and the place that it would have had.
    "enqueue": """
        INSERT INTO queue (job_id, service, owner, priority, queued_at, attempt)
        SELECT job_id, service, COALESCE(owner, ''),
               COALESCE(%(priority)s, (held->>'priority')::smallint, %(usual)s),
               COALESCE((held->>'queuedAt')::timestamptz, clock_timestamp()), attempt
        FROM jobs WHERE job_id = %(jobId)s
        ON CONFLICT (job_id) DO UPDATE
        SET queued_at = clock_timestamp(), claimed_at = NULL, deadline = NULL, node = NULL,
            host = NULL, ref = NULL""",
    # A job that was moved to EXECUTING by hand: somebody outside does its work.
    "occupy": """
        INSERT INTO queue (job_id, service, owner, attempt, claimed_at)
        SELECT job_id, service, COALESCE(owner, ''), attempt, clock_timestamp()
        FROM jobs WHERE job_id = %(jobId)s
        ON CONFLICT (job_id) DO UPDATE SET claimed_at = clock_timestamp()""",
    # Takes a job off the queue.  If its work is still there, that is to be ended.
    "dequeue": """
        WITH gone AS (DELETE FROM queue WHERE job_id = %(jobId)s RETURNING *)
        INSERT INTO stops (job_id, service, owner, attempt, node, host, ref, remove_directory)
        SELECT job_id, service, owner, attempt, node, host, ref, %(removeDirectory)s
        FROM gone WHERE node IS NOT NULL AND NOT %(ended)s
        ON CONFLICT (job_id, attempt) DO NOTHING
        RETURNING job_id""",
    # Work of a job that is destroyed, and was to be ended already.
    "removeWithWork": """
        UPDATE stops SET remove_directory = true WHERE job_id = %(jobId)s RETURNING job_id""",
    # The trigger on it reads what is told; the setting lasts as long as the transaction.
    "deleteJob": """
        DELETE FROM jobs
        WHERE job_id = %(jobId)s
          AND set_config('twuws.told', COALESCE(%(told)s, ''), true) IS NOT NULL
        RETURNING job_id""",
    # Records
    "history": """
        SELECT at, phase, attempt, node, who, why FROM events
        WHERE job_id = %(jobId)s AND service = %(service)s ORDER BY event_id""",
    # Forgets jobs that were destroyed long ago, some at a time; what others forget just now is
    # left to them.
    "forgetHistory": """
        WITH gone AS MATERIALIZED (
            SELECT job_id FROM events
            WHERE phase IS NULL AND service = %(service)s
              AND at < clock_timestamp() - %(keepHistory)s * interval '1 s'
            ORDER BY at LIMIT %(limit)s
            FOR UPDATE SKIP LOCKED)
        DELETE FROM events e USING gone g WHERE e.job_id = g.job_id
        RETURNING e.job_id, e.phase""",
    # Claims of an installation are made one after the other: so its limits hold at every instant.
    "claimInTurn": """
        SELECT pg_advisory_xact_lock(hashtext('claims of ' || current_schema()))""",
    # The next job for a node: by priority, then of the owner with the fewest that run, then by
    # time.  What waits is looked at by kinds (service, priority, owner), a look at the index for
    # each, so that a long queue of one owner costs no more than a short one.  A second and a
    # third job of each are there for when the first is locked by somebody who changes it.
    #
    # What is to be ended takes its place until its node's lease is over: it has ended then, also
    # where nobody comes back to say so.
    #
    # There is always one row: the job, if one could be claimed, and how many kinds wait, and
    # how many jobs could have been claimed if nobody held them.
    "claim": """
        WITH RECURSIVE running AS MATERIALIZED (
            SELECT service, owner FROM queue WHERE claimed_at IS NOT NULL
            UNION ALL
            SELECT s.service, s.owner FROM stops s JOIN nodes n ON n.node = s.node
            WHERE n.lease_ends > clock_timestamp()),
        waiting AS (
            (SELECT service, priority, owner FROM queue WHERE claimed_at IS NULL
             ORDER BY service, priority, owner LIMIT 1)
            UNION ALL
            SELECT n.service, n.priority, n.owner
            FROM waiting w CROSS JOIN LATERAL (
                SELECT q.service, q.priority, q.owner FROM queue q
                WHERE q.claimed_at IS NULL
                  AND (q.service, q.priority, q.owner) > (w.service, w.priority, w.owner)
                ORDER BY q.service, q.priority, q.owner LIMIT 1) n),
        mine AS (
            SELECT w.service, w.priority, w.owner, l.most
            FROM waiting w JOIN unnest(%(services)s::text[], %(limits)s::integer[])
                 AS l (service, most) ON l.service = w.service
            WHERE EXISTS (SELECT FROM nodes
                          WHERE node = %(node)s AND draining IS NULL
                            AND lease_ends > clock_timestamp())),
        possible AS (
            SELECT m.*, (SELECT count(*) FROM running r WHERE r.owner = m.owner) AS running
            FROM mine m
            WHERE NOT EXISTS (SELECT FROM holds h
                              WHERE h.job_id IS NULL
                                AND COALESCE(h.service, m.service) = m.service
                                AND COALESCE(h.owner, m.owner) = m.owner)
              AND (m.most IS NULL
                   OR (SELECT count(*) FROM running r WHERE r.service = m.service) < m.most)
              AND (%(inAll)s::integer IS NULL OR (SELECT count(*) FROM running) < %(inAll)s)
              AND (%(perOwner)s::integer IS NULL
                   OR (SELECT count(*) FROM running r WHERE r.owner = m.owner) < %(perOwner)s)),
        candidates AS (
            SELECT first.job_id, p.priority, p.running, first.queued_at
            FROM possible p CROSS JOIN LATERAL (
                SELECT q.job_id, q.queued_at FROM queue q
                WHERE q.claimed_at IS NULL AND q.service = p.service
                  AND q.priority = p.priority AND q.owner = p.owner
                ORDER BY q.queued_at, q.job_id LIMIT 3) first),
        candidate AS (
            SELECT j.job_id
            FROM candidates c JOIN jobs j ON j.job_id = c.job_id
            WHERE j.phase = 'QUEUED'
            ORDER BY c.priority DESC, c.running, c.queued_at, c.job_id
            LIMIT 1
            FOR UPDATE OF j SKIP LOCKED),
        claimed AS (
            UPDATE jobs j
            SET phase = 'EXECUTING', attempt = j.attempt + 1,
                start_time = date_trunc('milliseconds', clock_timestamp()),
                moved = jsonb_build_object('node', %(node)s::text, 'at', clock_timestamp())
            FROM candidate c WHERE j.job_id = c.job_id
            RETURNING j.*),
        taken AS (
            UPDATE queue q
            SET claimed_at = clock_timestamp(), node = %(node)s, host = %(host)s, ref = NULL,
                attempt = c.attempt,
                deadline = CASE WHEN c.execution_duration > 0
                                THEN c.start_time + c.execution_duration * interval '1 s' END
            FROM claimed c WHERE q.job_id = c.job_id
            RETURNING q.job_id)
        SELECT c.*, found.waiting, found.possible
        FROM (SELECT (SELECT count(*) FROM mine) AS waiting,
                     (SELECT count(*) FROM candidates) AS possible) found
        LEFT JOIN (claimed c JOIN taken t ON t.job_id = c.job_id) ON true""",
    # Stores how the work is found again; no row comes back if the attempt is not the row's.
    "rememberWork": """
        UPDATE queue SET ref = %(ref)s
        WHERE job_id = %(jobId)s AND attempt = %(attempt)s AND node = %(node)s
          AND EXISTS (SELECT FROM nodes n
                      WHERE n.node = %(node)s AND n.lease_ends > clock_timestamp())
        RETURNING job_id""",
    # What was loaded before the work begins; nobody else writes parameters of such a job.  No
    # row comes back if the attempt is not the row's.
    "reportFetched": """
        UPDATE jobs SET parameters = %(parameters)s, job_info = job_info || %(jobInfo)s
        WHERE job_id = %(jobId)s AND attempt = %(attempt)s AND phase = 'EXECUTING'
        RETURNING job_id""",
    # What the work tells while it goes on; no row comes back if the attempt is not the row's.
    "reportWork": """
        UPDATE jobs SET results = %(results)s, job_info = job_info || %(jobInfo)s
        WHERE job_id = %(jobId)s AND attempt = %(attempt)s AND phase = 'EXECUTING'
        RETURNING job_id""",
    "overdueJobs": """
        SELECT job_id, service FROM queue
        WHERE service = ANY(%(services)s) AND deadline < now()
        ORDER BY deadline LIMIT 100""",
    # What a node is to end: its own, and what was left on its host by nodes that are gone.
    "stopsForNode": """
        SELECT s.* FROM stops s LEFT JOIN nodes n ON n.node = s.node
        WHERE s.service = ANY(%(services)s)
          AND (s.node = %(node)s
               OR (s.host = %(host)s
                   AND (n.node IS NULL OR n.lease_ends < clock_timestamp()
                        OR s.node = ANY(%(goneNodes)s))))""",
    "stopped": """
        DELETE FROM stops WHERE job_id = %(jobId)s AND attempt = %(attempt)s
        RETURNING remove_directory""",
    # Jobs to remove: the expired ones, and what else was asked for.
    "jobsToClean": """
        SELECT job_id, phase, destruction FROM jobs
        WHERE service = %(service)s AND job_id > %(afterId)s
          AND (%(includeAll)s
               OR destruction < now()
               OR (%(includeFailed)s AND phase IN ('ERROR', 'ABORTED'))
               OR (%(includeCompleted)s AND phase = 'COMPLETED')
               OR (%(includeForgotten)s AND phase = 'PENDING'
                   AND creation_time < now() - %(forgottenAfter)s * interval '1 s'))
        ORDER BY job_id LIMIT %(limit)s""",
    # The same for the every-day case, by the index on destruction.
    "expiredJobs": """
        SELECT job_id, phase, destruction FROM jobs
        WHERE destruction < now() AND service = %(service)s
          AND destruction >= %(afterTime)s
          AND (destruction > %(afterTime)s OR job_id > %(afterId)s)
        ORDER BY destruction, job_id LIMIT %(limit)s""",
    "jobsKnown": """
        SELECT job_id FROM jobs WHERE job_id = ANY(%(jobIds)s)
        UNION SELECT job_id FROM stops WHERE job_id = ANY(%(jobIds)s)""",
    # For the command line, which knows neither the service of a job nor all of its id.
    "jobsByPrefix": """
        SELECT job_id, service, phase FROM jobs
        WHERE job_id ^@ %(prefix)s
        ORDER BY job_id LIMIT %(limit)s""",
    # The same, and jobs that were destroyed, as far as their records are kept.
    "jobsEverByPrefix": """
        (SELECT job_id, service, phase FROM jobs
         WHERE job_id ^@ %(prefix)s ORDER BY job_id LIMIT %(limit)s)
        UNION ALL
        (SELECT job_id, service, 'destroyed' FROM events
         WHERE job_id ^@ %(prefix)s AND phase IS NULL ORDER BY job_id LIMIT %(limit)s)
        ORDER BY job_id LIMIT %(limit)s""",
    "getJobs": """
        SELECT * FROM jobs WHERE job_id = ANY(%(jobIds)s)""",
    # The services that have jobs, by one look at the index for each, or work to be ended.
    "servicesKnown": """
        WITH RECURSIVE known AS (
            (SELECT service FROM jobs ORDER BY service LIMIT 1)
            UNION ALL
            SELECT (SELECT j.service FROM jobs j WHERE j.service > k.service
                    ORDER BY j.service LIMIT 1)
            FROM known k WHERE k.service IS NOT NULL)
        SELECT service FROM known WHERE service IS NOT NULL
        UNION SELECT service FROM stops""",
    "schemaThere": """
        SELECT to_regclass('version') IS NOT NULL AS there""",
    # Nodes
    # The row says whether the node has been asked to leave.
    "beat": """
        INSERT INTO nodes (node, host, pid, started, version, slots, services, serves_web,
                           lease_ends)
        VALUES (%(node)s, %(host)s, %(pid)s, %(started)s, %(version)s, %(slots)s, %(services)s,
                %(servesWeb)s, clock_timestamp() + %(lease)s * interval '1 s')
        ON CONFLICT (node) DO UPDATE
        SET pid = EXCLUDED.pid, started = EXCLUDED.started, serves_web = EXCLUDED.serves_web,
            heartbeat = clock_timestamp(), lease_ends = EXCLUDED.lease_ends
        RETURNING draining""",
    # A node that has left is no process any more, even if the process goes on; so it can come
    # back, asked or not.  Others hear of it at once, and may take its work over.
    "leave": """
        WITH gone AS (
            UPDATE nodes
            SET pid = 0, draining = NULL,
                lease_ends = clock_timestamp() + %(lease)s * interval '1 s'
            WHERE node = %(node)s
            RETURNING node)
        SELECT node, pg_notify(current_schema(), node || ' left -') FROM gone""",
    # Asks a node to take nothing new and to leave; it hears of it at once.
    "drain": """
        WITH asked AS (
            UPDATE nodes SET draining = %(how)s WHERE node = %(node)s AND pid <> 0 RETURNING node)
        SELECT node, pg_notify(current_schema(), node || ' draining -') FROM asked""",
    # Whether anybody takes a service's jobs off the queue: nodes that have left have no process
    # any more, and some that are silent for a quarter of their lease will not be heard again.
    "nodesTakingJobs": """
        SELECT node FROM nodes
        WHERE slots > 0 AND pid <> 0 AND draining IS NULL AND %(service)s = ANY(services)
          AND lease_ends > clock_timestamp()
          AND clock_timestamp() < heartbeat + (lease_ends - heartbeat) / 4
        LIMIT 1""",
    "otherNodes": """
        SELECT node, host, pid, started FROM nodes WHERE node <> %(node)s""",
    # For the command line.  A node is silent when a quarter of its lease has gone by, as above.
    "nodes": """
        SELECT n.node, n.host, n.version, n.serves_web, n.slots, n.services, n.heartbeat,
               EXTRACT(EPOCH FROM clock_timestamp() - n.heartbeat)::float AS age,
               COALESCE(q.running, 0) AS running, n.draining,
               CASE WHEN n.pid = 0 THEN 'left'
                    WHEN n.lease_ends <= clock_timestamp() THEN 'lost'
                    WHEN n.heartbeat + (n.lease_ends - n.heartbeat) / 4 <= clock_timestamp()
                    THEN 'silent'
                    WHEN n.draining IS NOT NULL THEN 'draining'
                    ELSE 'up' END AS state
        FROM nodes n LEFT JOIN (SELECT node, count(*) AS running FROM queue
                                WHERE node IS NOT NULL GROUP BY node) q ON q.node = n.node
        ORDER BY n.node""",
    # Work whose node is gone: named as such, without a row, or with a lease that has run out;
    # and what this node has claimed without starting it, for it may never have heard that
    # its claim succeeded.
    "lostWork": """
        SELECT q.job_id, q.service, q.attempt, q.node, q.host, q.ref
        FROM queue q LEFT JOIN nodes n ON n.node = q.node
        WHERE q.service = ANY(%(services)s) AND q.node IS NOT NULL
          AND CASE WHEN q.node = %(node)s
              THEN q.ref IS NULL AND q.claimed_at < clock_timestamp() - interval '30 s'
              ELSE n.node IS NULL OR n.lease_ends < clock_timestamp()
                   OR q.node = ANY(%(goneNodes)s) END""",
    "takeOver": """
        UPDATE queue q SET node = %(node)s, host = %(host)s
        WHERE q.job_id = %(jobId)s AND q.attempt = %(attempt)s AND q.node = %(oldNode)s
          AND (q.node = %(node)s OR q.node = ANY(%(goneNodes)s)
               OR NOT EXISTS (SELECT FROM nodes n
                              WHERE n.node = q.node AND n.lease_ends > clock_timestamp()))
        RETURNING q.job_id""",
    # Whether work of a node that seemed to be gone is still that node's, and that still gone.
    # While the row is locked the node cannot remember to have begun it.
    "stillLost": """
        SELECT q.job_id FROM queue q
        WHERE q.job_id = %(jobId)s AND q.attempt = %(attempt)s AND q.node = %(oldNode)s
          AND NOT EXISTS (SELECT FROM nodes n
                          WHERE n.node = q.node AND n.lease_ends > clock_timestamp())
        FOR UPDATE""",
    # What hosts were to end that never came back.
    "forgetStops": """
        DELETE FROM stops s USING nodes n
        WHERE n.node = s.node AND n.lease_ends < clock_timestamp() - interval '1 day'""",
    # Nodes that are gone and have left nothing behind.
    "forgetNodes": """
        DELETE FROM nodes n
        WHERE n.node <> %(node)s
          AND (n.lease_ends < clock_timestamp() - interval '1 day'
               OR n.node = ANY(%(goneNodes)s))
          AND NOT EXISTS (SELECT FROM queue q WHERE q.node = n.node)
          AND NOT EXISTS (SELECT FROM stops s WHERE s.node = n.node)
        RETURNING node""",
    # Metrics
    # What waits and what holds a place, exactly: that table is small.  The other is looked into
    # row by row, lest all of it be read.
    "queueNow": """
        SELECT service, 'QUEUED' AS phase, count(*) AS n,
               EXTRACT(EPOCH FROM clock_timestamp() - min(queued_at))::float AS age
        FROM queue WHERE claimed_at IS NULL AND service = ANY(%(services)s)
        GROUP BY service
        UNION ALL
        SELECT service, phase, count(*), NULL
        FROM (SELECT q.service,
                     (SELECT j.phase FROM jobs j WHERE j.job_id = q.job_id) AS phase
              FROM queue q
              WHERE q.claimed_at IS NOT NULL AND q.service = ANY(%(services)s)) claimed
        WHERE phase IS NOT NULL
        GROUP BY service, phase""",
    # For how long the job that is to be destroyed first should be gone already, s.
    "reaperLag": """
        SELECT EXTRACT(EPOCH FROM clock_timestamp() - destruction)::float AS lag
        FROM jobs WHERE destruction < now() AND service = ANY(%(services)s)
        ORDER BY destruction LIMIT 1""",
    "limitTime": """
        SET LOCAL statement_timeout = '30s'""",
    # All others.  This reads the whole table: an index would cost each move more than this
    # costs now and then.
    "jobsByPhase": """
        SELECT service, phase, count(*) AS n FROM jobs
        WHERE phase NOT IN ('QUEUED', 'EXECUTING', 'SUSPENDED', 'UNKNOWN')
          AND service = ANY(%(services)s)
        GROUP BY service, phase""",
}
