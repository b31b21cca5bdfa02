-- Version 4: limits for each account: an owner, or where those come from who are anonymous.

UPDATE version SET version = 4;

-- Addresses of clients are kept as what this key makes of them, so that the rows of jobs tell
-- nobody who has made them, and who knows an address can still find what is its.
CREATE TABLE client_key (
    key text NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO client_key DEFAULT VALUES;

CREATE FUNCTION client_of(address text) RETURNS text LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    RETURN (SELECT left(encode(sha256(convert_to(key || address, 'UTF8')), 'hex'), 32)
            FROM client_key);
END $$;

-- The bytes of all uploads and results of a job, each file once.
CREATE FUNCTION stored_by(parameters jsonb, results jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    total numeric := 0;
BEGIN
    IF jsonb_path_exists(parameters, '$.*[*] ? (@.size > 0)') THEN
        total := (SELECT sum(size) FROM (
            SELECT max((one->>'size')::numeric) AS size
            FROM jsonb_path_query(parameters, '$.*[*] ? (@.size > 0)') one
            GROUP BY one->>'file') files);
    END IF;
    IF results <> '[]' THEN
        total := total + (SELECT COALESCE(sum(size), 0) FROM (
            SELECT max((one->>'size')::numeric) AS size
            FROM jsonb_path_query(results, '$[*] ? (@.size > 0 && @.file != null)') one
            GROUP BY one->>'file') files);
    END IF;
    RETURN total;
END $$;

-- Where the client was that made a job which nobody owns.
ALTER TABLE jobs ADD COLUMN client text;
-- Whose the job is, as far as limits go: "=" and an owner, or "~" and a client.
ALTER TABLE jobs ADD COLUMN account text
    GENERATED ALWAYS AS (COALESCE('=' || owner, '~' || client)) STORED;
ALTER TABLE jobs ADD COLUMN stored bigint
    GENERATED ALWAYS AS (stored_by(parameters, results)) STORED;

-- All that is counted, so that no row need be looked at.
CREATE INDEX jobs_by_account ON jobs (account, creation_time) INCLUDE (stored)
    WHERE phase <> 'ARCHIVED';
CREATE INDEX jobs_queued ON jobs (account) WHERE phase = 'QUEUED';

-- Jobs of less than a minute ago that are gone: they have been made all the same.
CREATE TABLE made_lately (
    account       text NOT NULL,
    creation_time timestamptz(3) NOT NULL
);
CREATE INDEX made_lately_by_account ON made_lately (account, creation_time);
CREATE INDEX made_lately_by_time ON made_lately (creation_time);

CREATE FUNCTION jobs_made_lately() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO made_lately VALUES (OLD.account, OLD.creation_time);
    DELETE FROM made_lately
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM made_lately
                           WHERE creation_time < now() - interval '2 minutes'
                           ORDER BY creation_time LIMIT 10
                           FOR UPDATE SKIP LOCKED));
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_gone_early AFTER DELETE ON jobs FOR EACH ROW
    WHEN (OLD.account IS NOT NULL AND OLD.phase <> 'ARCHIVED'
          AND OLD.creation_time > now() - interval '1 minute')
    EXECUTE FUNCTION jobs_made_lately();
CREATE TRIGGER jobs_archived_early AFTER UPDATE OF phase ON jobs FOR EACH ROW
    WHEN (OLD.account IS NOT NULL AND NEW.phase = 'ARCHIVED' AND OLD.phase <> 'ARCHIVED'
          AND OLD.creation_time > now() - interval '1 minute')
    EXECUTE FUNCTION jobs_made_lately();

-- Where an account stands: how many jobs it has made in the last minute, how many it keeps, and
-- the bytes of these.
CREATE FUNCTION account_usage(who text, OUT made bigint, OUT kept bigint, OUT stored bigint)
    LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
DECLARE
    since CONSTANT timestamptz := now() - interval '1 minute';
BEGIN
    SELECT count(*), COALESCE(sum(stored), 0) INTO kept, stored
    FROM jobs WHERE account = who AND phase <> 'ARCHIVED';
    SELECT count(*) INTO made
    FROM jobs WHERE account = who AND phase <> 'ARCHIVED' AND creation_time > since;
    made := made + (SELECT count(*) FROM made_lately
                    WHERE account = who AND creation_time > since);
END $$;

CREATE FUNCTION account_queued(who text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM jobs WHERE account = who AND phase = 'QUEUED'
$$;

-- When the account will have made fewer than so many jobs in a minute, s from now.
CREATE FUNCTION account_pause(who text, most bigint) RETURNS double precision
    LANGUAGE sql STABLE
AS $$
    SELECT extract(epoch FROM at + interval '1 minute' - clock_timestamp())
    FROM (SELECT creation_time AS at FROM jobs
          WHERE account = who AND phase <> 'ARCHIVED'
            AND creation_time > now() - interval '1 minute'
          UNION ALL
          SELECT creation_time FROM made_lately
          WHERE account = who AND creation_time > now() - interval '1 minute'
          ORDER BY at DESC OFFSET most - 1 LIMIT 1) last
$$;

-- The locks by which limits are exact.  Who counts for an account that is far from its limits
-- shares a lock until its transaction ends, so that many can commit at once.  As there are no
-- more of them than connections, those who find that so many would fit cannot go beyond it
-- together.  Who finds that they would not takes the lock alone, and counts again: then all
-- others have committed, and are counted.  A lock is given back with the block that failed.
-- Locks come in this order: a job's row, the making of jobs, the holds, the queue.
CREATE FUNCTION account_lock(who text, what text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hashtextextended(current_schema() || ' ' || what || ' ' || who, 0)
$$;

-- Why an account can have no more jobs: {"limit", "most", "found", "pause"}, or null.
-- Limits are {"made", "kept", "stored"}, each of which may be missing.
CREATE FUNCTION refusal_to_make(id text, who text, limits jsonb, size bigint) RETURNS jsonb
    LANGUAGE plpgsql
AS $$
DECLARE
    room CONSTANT integer := current_setting('max_connections');
    place CONSTANT bigint := account_lock(who, 'jobs');
    made_most CONSTANT bigint := limits->>'made';
    kept_most CONSTANT bigint := limits->>'kept';
    stored_most CONSTANT bigint := limits->>'stored';
    found record;
    refusal jsonb;
BEGIN
    IF who IS NULL THEN
        RETURN NULL;
    END IF;
    IF size = 0 OR stored_most IS NULL THEN
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(place);
            SELECT * INTO found FROM account_usage(who);
            IF (found.made + room <= made_most) IS NOT FALSE
                AND (found.kept + room <= kept_most) IS NOT FALSE
                AND (found.stored < stored_most) IS NOT FALSE
            THEN
                RETURN NULL;
            END IF;
            RAISE SQLSTATE 'UW001';
        EXCEPTION WHEN SQLSTATE 'UW001' THEN
            NULL;
        END;
    END IF;
    PERFORM pg_advisory_xact_lock(place);
    SELECT * INTO found FROM account_usage(who);
    IF found.made >= made_most THEN
        refusal := jsonb_build_object('limit', 'made', 'most', made_most, 'found', found.made,
                                      'pause', account_pause(who, made_most));
    ELSIF found.kept >= kept_most THEN
        refusal := jsonb_build_object('limit', 'kept', 'most', kept_most, 'found', found.kept);
    ELSIF found.stored >= stored_most OR found.stored + size > stored_most THEN
        refusal := jsonb_build_object('limit', 'stored', 'most', stored_most,
                                      'found', found.stored, 'size', size);
    END IF;
    IF refusal IS NOT NULL AND EXISTS (SELECT FROM jobs WHERE job_id = id) THEN
        RETURN NULL;  -- it was made by a try whose answer was lost
    END IF;
    RETURN refusal;
END $$;

-- Why an account can have no more bytes, in the same words.
CREATE FUNCTION refusal_to_store(who text, most bigint, size bigint) RETURNS jsonb
    LANGUAGE plpgsql
AS $$
DECLARE
    found record;
BEGIN
    IF who IS NULL OR most IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(account_lock(who, 'jobs'));
    SELECT * INTO found FROM account_usage(who);
    IF found.stored + size > most THEN
        RETURN jsonb_build_object('limit', 'stored', 'most', most, 'found', found.stored,
                                  'size', size);
    END IF;
    RETURN NULL;
END $$;

-- Why a job of an account cannot be in the queue, where it is by now; in the same words.
CREATE FUNCTION refusal_to_queue(who text, most bigint) RETURNS jsonb
    LANGUAGE plpgsql
AS $$
DECLARE
    room CONSTANT integer := current_setting('max_connections');
    place CONSTANT bigint := account_lock(who, 'queue');
    found bigint;
BEGIN
    IF who IS NULL OR most IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(place);
        found := account_queued(who);
        IF found + room <= most THEN
            RETURN NULL;
        END IF;
        RAISE SQLSTATE 'UW001';
    EXCEPTION WHEN SQLSTATE 'UW001' THEN
        NULL;
    END;
    PERFORM pg_advisory_xact_lock(place);
    found := account_queued(who);
    IF found > most THEN
        RETURN jsonb_build_object('limit', 'queued', 'most', most, 'found', found - 1);
    END IF;
    RETURN NULL;
END $$;
