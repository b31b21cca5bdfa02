"""
The SQL of nodes: what they claim, and how they are known to be there.  See
L{twuws.statements}.
"""

from __future__ import annotations

NODE_STATEMENTS: dict[str, str] = {
    # The next jobs for a node: by priority, then of the owner with the fewest that run, then by
    # time.  What waits is looked at by kinds (service, priority, owner), a look at the index for
    # each, so that a long queue of one owner costs no more than a short one.  Two more jobs of each
    # are there for when the first are locked by somebody who changes them.
    #
    # Claims of an installation are made one after the other: so its limits hold at every instant.
    # These are two statements in one round trip and one transaction: the second sees what was
    # there once the first had waited.
    #
    # Several at a time are those that would be taken one after the other, as long as there are no
    # limits: each that an owner gets counts as one that runs.  Where other nodes take jobs, too,
    # it is one at a time, so that all nodes get their share.
    #
    # What is to be ended takes its place until its node's lease is over: it has ended then, also
    # where nobody comes back to say so.
    #
    # Who is anonymous is one owner with all others, but bounded alone, by the client that made the
    # job: those that run all that they may are "full", and their jobs are passed over.
    #
    # There is always a row: the job, if one could be claimed, and how many kinds wait that could
    # not, for limits or a hold, and how many jobs could have been claimed if nobody held them.
    "claim": """
        SELECT pg_advisory_xact_lock(hashtext('claims of ' || current_schema()));
        WITH RECURSIVE running AS MATERIALIZED (
            SELECT service, owner, job_id, NULL AS client
            FROM queue WHERE claimed_at IS NOT NULL
            UNION ALL
            SELECT s.service, CASE WHEN left(s.owner, 1) = ' ' THEN '' ELSE s.owner END,
                   NULL, substr(s.owner, 2)
            FROM stops s JOIN nodes n ON n.node = s.node
            WHERE n.lease_ends > clock_timestamp()),
        full_clients AS MATERIALIZED (
            SELECT client
            FROM (SELECT COALESCE(r.client, (SELECT COALESCE(j.client, '') FROM jobs j
                                             WHERE j.job_id = r.job_id), '') AS client
                  FROM running r
                  WHERE r.owner = ''
                    AND (SELECT count(*) FROM running WHERE owner = '')
                        >= %(perOwner)s::integer) anonymous
            GROUP BY client HAVING count(*) >= %(perOwner)s::integer),
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
              AND (%(perOwner)s::integer IS NULL OR m.owner = ''
                   OR (SELECT count(*) FROM running r WHERE r.owner = m.owner) < %(perOwner)s)),
        candidates AS (
            SELECT p.service, p.priority, p.owner, first.job_id, first.queued_at,
                   p.running + row_number() OVER (
                       PARTITION BY p.owner
                       ORDER BY p.priority DESC, first.queued_at, first.job_id) AS turn
            FROM possible p CROSS JOIN LATERAL (
                SELECT q.job_id, q.queued_at FROM queue q
                WHERE q.claimed_at IS NULL AND q.service = p.service
                  AND q.priority = p.priority AND q.owner = p.owner
                  AND (p.owner <> '' OR NOT EXISTS (SELECT FROM full_clients)
                       OR (SELECT COALESCE(j.client, '') FROM jobs j WHERE j.job_id = q.job_id)
                          NOT IN (SELECT client FROM full_clients))
                ORDER BY q.queued_at, q.job_id LIMIT %(places)s + 2) first),
        candidate AS (
            SELECT j.job_id
            FROM candidates c JOIN jobs j ON j.job_id = c.job_id
            WHERE j.job_id = ANY(ARRAY(SELECT job_id FROM candidates)) AND j.phase = 'QUEUED'
            ORDER BY c.priority DESC, c.turn, c.queued_at, c.job_id
            LIMIT CASE WHEN EXISTS (
                    SELECT FROM nodes n
                    WHERE n.node <> %(node)s AND n.slots > 0 AND n.pid <> 0 AND n.draining IS NULL
                      AND n.lease_ends > clock_timestamp() AND n.services && %(services)s::text[])
                THEN 1 ELSE %(places)s END
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
        SELECT c.service, c.job_id, c.phase, c.owner, c.run_id, c.creation_time, c.start_time,
               c.end_time, c.execution_duration, c.destruction, c.quote, c.parameters, c.results,
               c.error, c.job_info, c.attempt, c.is_listed, found.passed, found.possible
        FROM (SELECT (SELECT count(*) FROM mine)
                     - (SELECT count(DISTINCT (service, priority, owner)) FROM candidates)
                     AS passed,
                     (SELECT count(*) FROM candidates) AS possible) found
        LEFT JOIN (claimed c JOIN taken t ON t.job_id = c.job_id) ON true""",
    # Stores how the work of some attempts is found again; no row comes back of an attempt that is
    # not the row's.
    "rememberWork": """
        UPDATE queue q SET ref = r.ref
        FROM jsonb_to_recordset(%(refs)s) AS r (job_id text, attempt integer, ref jsonb)
        WHERE q.job_id = ANY(%(jobIds)s) AND q.job_id = r.job_id AND q.attempt = r.attempt
          AND q.node = %(node)s
          AND EXISTS (SELECT FROM nodes n
                      WHERE n.node = %(node)s AND n.lease_ends > clock_timestamp())
        RETURNING q.job_id, q.attempt""",
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
