"""
All the SQL, every statement by its name.

Statements are literal, and run with C{search_path} set to the schema.  The order of locks
is always the job's row first, then its row in the queue: whoever holds the first may write
the second.
"""

from __future__ import annotations

from twuws.holdstatements import HOLD_STATEMENTS
from twuws.nodestatements import NODE_STATEMENTS
from twuws.prepared import Prepared
from twuws.tokenstatements import TOKEN_STATEMENTS

STATEMENTS: dict[str, str] = {
    **HOLD_STATEMENTS,
    **NODE_STATEMENTS,
    **TOKEN_STATEMENTS,
    # Make jobs, each of which may be refused, or come too late: see sql/0006.sql.
    "makeJob": """
        SELECT refusal, (made).* FROM make_jobs(%(asked)s)""",
    "makeJobs": """
        SELECT id, refusal, (made).job_id IS NOT NULL AS is_made FROM make_jobs(%(asked)s)""",
    "makeJobsSoon": """
        SET LOCAL lock_timeout = '250ms';
        SELECT id, refusal, (made).job_id IS NOT NULL AS is_made FROM make_jobs(%(asked)s)""",
    # Where an account stands, in all and at each service: of an owner, or of a client.
    "accountUsage": """
        WITH asked AS (
            SELECT COALESCE('=' || %(owner)s::text, '~' || client_of(%(client)s)) AS account)
        SELECT j.service, count(*) AS kept, COALESCE(sum(j.stored), 0)::bigint AS stored,
               count(*) FILTER (WHERE j.phase = 'QUEUED') AS queued,
               count(*) FILTER (WHERE j.phase = 'EXECUTING') AS running
        FROM asked a JOIN jobs j ON j.account = a.account AND j.phase <> 'ARCHIVED'
        GROUP BY j.service ORDER BY j.service""",
    "accountMade": """
        SELECT u.made FROM (
            SELECT COALESCE('=' || %(owner)s::text, '~' || client_of(%(client)s)) AS account) a,
            LATERAL account_usage(a.account) u""",
    # Whether an account can have one more job, and where it stands.  What is made meanwhile is
    # looked at again by whoever makes it.
    "roomOfAccount": """
        SET LOCAL lock_timeout = '250ms';
        SELECT a.account, refusal_to_make('', a.account, %(limits)s::jsonb, 0) AS refusal,
               u.stored, account_queued(a.account) AS queued
        FROM (SELECT COALESCE('=' || %(owner)s::text,
                              '~' || client_of(%(client)s)) AS account) a,
            LATERAL account_usage(a.account) u""",
    "storedBeside": """
        SELECT u.stored - j.stored AS stored
        FROM jobs j, LATERAL account_usage(j.account) u
        WHERE j.job_id = %(jobId)s AND j.account IS NOT NULL""",
    # Why an account can have no more bytes; null if it can.
    "refusalToStore": """
        SELECT refusal_to_store(account, %(most)s, %(size)s) AS refusal
        FROM jobs WHERE job_id = %(jobId)s""",
    # Makes a key that is free, or was used long ago, stand for a new job.  No row comes back if
    # it stands for another, which then is there; whoever is about to use it is waited for.
    "useKey": """
        INSERT INTO creations (service, owner, key, job_id)
        VALUES (%(service)s, COALESCE(%(owner)s, ' ' || client_of(%(client)s), ''), %(key)s,
                %(jobId)s)
        ON CONFLICT (service, owner, key) DO UPDATE
        SET job_id = EXCLUDED.job_id, at = EXCLUDED.at
        WHERE creations.at < now() - interval '24 hours'
        RETURNING job_id""",
    "jobOfKey": """
        SELECT job_id FROM creations
        WHERE service = %(service)s
          AND owner = COALESCE(%(owner)s, ' ' || client_of(%(client)s), '') AND key = %(key)s
          AND at >= now() - interval '24 hours'""",
    # Those that somebody else is about to use, or to forget, are left alone.
    "forgetKeys": """
        DELETE FROM creations
        WHERE ctid = ANY(ARRAY(SELECT ctid FROM creations
                               WHERE at < now() - interval '24 hours'
                               ORDER BY at LIMIT %(limit)s
                               FOR UPDATE SKIP LOCKED))
        RETURNING key""",
    # A secret by its name: this one, unless there is one already.
    "makeSecret": """
        INSERT INTO secrets (name, value) VALUES (%(name)s, %(value)s)
        ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name
        RETURNING value""",
    # Nothing but what the record of a job has: each column more takes its time.
    "getJob": """
        SELECT service, job_id, phase, owner, run_id, creation_time, start_time, end_time,
               execution_duration, destruction, quote, parameters, results, error, job_info,
               attempt, is_listed
        FROM jobs WHERE job_id = %(jobId)s AND service = %(service)s""",
    # The same of some jobs, but for those that have much, which others should not wait for.
    "getSmallJobs": """
        SELECT service, job_id, phase, owner, run_id, creation_time, start_time, end_time,
               execution_duration, destruction, quote, parameters, results, error, job_info,
               attempt, is_listed
        FROM jobs
        WHERE job_id = ANY(%(jobIds)s) AND service = %(service)s
          AND pg_column_size(parameters) + pg_column_size(results) + pg_column_size(job_info)
              + COALESCE(pg_column_size(error), 0) < 8192""",
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
    # The table of moves has been looked at, and the row is locked.  What is QUEUED then is put
    # into the queue: what was HELD with the priority and the place that it would have had.  The
    # row says why the account can have no more there, if that is so: then all is to be undone.
    "moveJob": """
        WITH moved AS (
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
                            'priority',
                            COALESCE(max(q.priority), %(priority)s::integer, %(usual)s::integer),
                            'queuedAt', COALESCE(max(q.queued_at), clock_timestamp()))
                        FROM queue q WHERE q.job_id = %(jobId)s)
                    WHEN %(phase)s = 'QUEUED' AND phase = 'HELD' THEN held END,
                moved = jsonb_build_object('who', %(who)s::text, 'why', %(why)s::text,
                                           'node', %(node)s::text, 'at', clock_timestamp()),
                error = CASE WHEN %(phase)s = 'ARCHIVED' THEN error ELSE %(error)s::jsonb END,
                quote = COALESCE(quote, date_trunc('milliseconds', %(quote)s::timestamptz))
            WHERE job_id = %(jobId)s
            RETURNING *)
        INSERT INTO queue (job_id, service, owner, priority, queued_at, attempt)
        SELECT job_id, service, COALESCE(owner, ''),
               COALESCE(%(priority)s, (held->>'priority')::smallint, %(usual)s),
               COALESCE((held->>'queuedAt')::timestamptz, clock_timestamp()), attempt
        FROM moved WHERE phase = 'QUEUED'
        ON CONFLICT (job_id) DO UPDATE
        SET queued_at = clock_timestamp(), claimed_at = NULL, deadline = NULL, node = NULL,
            host = NULL, ref = NULL;
        SELECT refusal_to_queue(account, %(most)s) AS refusal FROM jobs WHERE job_id = %(jobId)s""",
    # The usual end of some attempts, as "moveJob" and "dequeue" write it: work that ran, and has
    # ended by itself.  No row comes back of an attempt that is not the row's, of a job in another
    # phase, nor of one that somebody else has locked.
    "endJobs": """
        WITH told AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(%(ends)s) AS t (
                job_id text, attempt integer, phase text, error jsonb, results jsonb,
                job_info jsonb, quote timestamptz, why text, node text)),
        mine AS MATERIALIZED (
            SELECT j.job_id
            FROM jobs j
            WHERE j.job_id = ANY(%(jobIds)s) AND j.service = %(service)s AND j.phase = 'EXECUTING'
              AND EXISTS (SELECT FROM told t
                          WHERE t.job_id = j.job_id AND t.attempt = j.attempt)
            FOR UPDATE OF j SKIP LOCKED),
        ended AS (
            UPDATE jobs j
            SET phase = t.phase,
                end_time = GREATEST(j.start_time, date_trunc('milliseconds', clock_timestamp())),
                results = t.results, job_info = (j.job_info || t.job_info) - 'heldBecause',
                held = NULL, error = t.error,
                quote = COALESCE(j.quote, date_trunc('milliseconds', t.quote)),
                moved = jsonb_build_object('who', NULL, 'why', t.why, 'node', t.node,
                                           'at', clock_timestamp())
            FROM told t JOIN mine m ON m.job_id = t.job_id
            WHERE j.job_id = m.job_id
            RETURNING j.job_id, j.attempt),
        gone AS (
            DELETE FROM queue q USING ended e WHERE q.job_id = e.job_id)
        SELECT job_id, attempt FROM ended""",
    # A job that was moved to EXECUTING by hand: somebody outside does its work.
    "occupy": """
        INSERT INTO queue (job_id, service, owner, attempt, claimed_at)
        SELECT job_id, service, COALESCE(owner, ''), attempt, clock_timestamp()
        FROM jobs WHERE job_id = %(jobId)s
        ON CONFLICT (job_id) DO UPDATE SET claimed_at = clock_timestamp()""",
    # Takes a job off the queue.  If its work is still there, that is to be ended; until then it
    # counts for whoever made it, who is known by a space and the client if that is nobody.
    "dequeue": """
        WITH gone AS (DELETE FROM queue WHERE job_id = %(jobId)s RETURNING *)
        INSERT INTO stops (job_id, service, owner, attempt, node, host, ref, remove_directory)
        SELECT job_id, service,
               CASE WHEN owner <> '' THEN owner ELSE COALESCE(
                   (SELECT ' ' || j.client FROM jobs j WHERE j.job_id = gone.job_id), '') END,
               attempt, node, host, ref, %(removeDirectory)s
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
    # Quotes
    # How long the jobs took that were completed last, and what that may depend on: those of a
    # service's parameters that are in "names".
    "runTimes": """
        SELECT s.service, j.*, clock_timestamp() AS now
        FROM unnest(%(services)s::text[], %(after)s::timestamptz[]) AS s (service, after)
        CROSS JOIN LATERAL (
            SELECT job_id, end_time,
                   EXTRACT(EPOCH FROM end_time - start_time)::float AS seconds,
                   (SELECT jsonb_object_agg(name, parameters->name)
                    FROM jsonb_array_elements_text(%(names)s::jsonb->s.service) AS n (name)
                    WHERE parameters ? name) AS parameters
            FROM jobs
            WHERE service = s.service AND phase = 'COMPLETED' AND end_time >= s.after
            ORDER BY end_time DESC LIMIT %(limit)s) j""",
    # All that holds a place or waits for one, and who takes jobs off the queue, in one row.  Of
    # what waits only so many: the first of each kind that claims tell apart, then the second,
    # and so on.  Jobs are looked up one by one, lest all of them be read.
    "lineNow": """
        WITH waiting AS (
            SELECT *, row_number() OVER (PARTITION BY service, priority, owner
                                         ORDER BY queued_at, job_id) AS place
            FROM queue WHERE claimed_at IS NULL),
        line AS (
            SELECT job_id, service, owner, priority, queued_at, claimed_at, node
            FROM queue WHERE claimed_at IS NOT NULL
            UNION ALL
            (SELECT job_id, service, owner, priority, queued_at, claimed_at, node
             FROM waiting ORDER BY priority DESC, place, queued_at LIMIT %(limit)s)),
        jobs_of_line AS (
            SELECT q.job_id, q.service, q.owner, q.priority, q.node,
                   EXTRACT(EPOCH FROM q.queued_at)::float AS queued,
                   EXTRACT(EPOCH FROM clock_timestamp() - q.claimed_at)::float AS ran,
                   j.*
            FROM line q CROSS JOIN LATERAL (
                SELECT execution_duration AS duration,
                       (SELECT jsonb_object_agg(name, parameters->name)
                        FROM jsonb_array_elements_text(%(names)s::jsonb->q.service) AS n (name)
                        WHERE parameters ? name) AS parameters
                FROM jobs WHERE job_id = q.job_id LIMIT 1) j)
        SELECT clock_timestamp() AS now,
               (SELECT count(*) FROM queue WHERE claimed_at IS NULL) AS waiting,
               (SELECT json_agg(l) FROM jobs_of_line l) AS jobs,
               (SELECT json_agg(n)
                FROM (SELECT node, slots, services FROM nodes
                      WHERE slots > 0 AND pid <> 0 AND draining IS NULL
                        AND lease_ends > clock_timestamp()) n) AS nodes""",
    "overdueJobs": """
        SELECT job_id, service FROM queue
        WHERE service = ANY(%(services)s) AND deadline < now()
        ORDER BY deadline LIMIT 100""",
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
}

#: Those that are run for each job, or for some, and take long to be planned.  They name all the
#: columns that they return, for these must stay the same while a newer schema adds some.
PREPARED = {
    name: Prepared(name, STATEMENTS[name])
    for name in ("claim", "rememberWork", "endJobs", "getSmallJobs")
}
