-- Version 6: jobs are made by a function, some at a time.

-- Makes PENDING jobs, each unless its account can have no more ("refusal", which says why) or its
-- destruction would be in the past ("made" is null then).  Ids are random: one that is there is
-- from a try whose answer was lost.
--
-- It is a function, for PostgreSQL keeps the plans of these; to plan all that there is for a job
-- takes as long as to make it.
--
-- Accounts have their turns in order, lest two of these wait for each other.  For the same reason
-- one that makes several jobs has its lock alone from the beginning: who shares it cannot get it.
CREATE FUNCTION make_jobs(asked jsonb) RETURNS TABLE (id text, refusal jsonb, made jobs)
    LANGUAGE plpgsql
AS $$
DECLARE
    one record;
    account text;
    present CONSTANT timestamptz := date_trunc('milliseconds', now());
BEGIN
    FOR one IN
        SELECT a.*, count(*) OVER (PARTITION BY a.owner, a.maker) AS together
        FROM (SELECT w.*, CASE WHEN w.owner IS NULL THEN client_of(w.client) END AS maker
              FROM jsonb_to_recordset(asked) AS w (
                  job_id text, service text, owner text, client text, run_id text,
                  execution_duration integer, destruction timestamptz, lifetime double precision,
                  longest_lifetime double precision, quote timestamptz, parameters jsonb,
                  job_info jsonb, is_listed boolean, who text, limits jsonb, size bigint)) a
        ORDER BY a.owner COLLATE "C", a.maker COLLATE "C", a.job_id COLLATE "C"
    LOOP
        account := COALESCE('=' || one.owner, '~' || one.maker);
        id := one.job_id;
        refusal := NULL;
        made := NULL;
        IF one.limits IS NOT NULL AND account IS NOT NULL THEN
            IF one.together > 1 THEN
                PERFORM pg_advisory_xact_lock(account_lock(account, 'jobs'));
            END IF;
            refusal := refusal_to_make(one.job_id, account, one.limits, one.size);
        END IF;
        IF refusal IS NULL AND (one.destruction > now()) IS NOT FALSE THEN
            INSERT INTO jobs AS j (job_id, service, owner, run_id, execution_duration, destruction,
                                   quote, parameters, job_info, is_listed, client, moved)
            VALUES (one.job_id, one.service, one.owner, one.run_id, one.execution_duration,
                    LEAST(COALESCE(one.destruction, present + one.lifetime * interval '1 s'),
                          present + one.longest_lifetime * interval '1 s'),
                    one.quote, one.parameters, one.job_info, one.is_listed, one.maker,
                    jsonb_build_object('who', one.who, 'at', clock_timestamp()))
            ON CONFLICT (job_id) DO UPDATE SET service = EXCLUDED.service
            RETURNING j.* INTO made;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

UPDATE version SET version = 6;
