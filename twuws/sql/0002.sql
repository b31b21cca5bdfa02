-- Version 2: records of every move, limits and fairness of claims, nodes that are drained,
-- jobs that are held, requests that come twice, and quotes.

-- A service of an older version that runs goes on with a newer schema if it has at least
-- the version in works_with; one that starts wants the version that it knows.
ALTER TABLE version ADD COLUMN works_with integer NOT NULL DEFAULT 2;
UPDATE version SET version = 2;

-- Who made the last move, why, and on which node: {"who", "why", "node", "at"}.  Each of
-- them may be missing; "at" tells this move from the one before.
ALTER TABLE jobs ADD COLUMN moved jsonb;

-- Every change of phase is a row, whoever made it.  They stay as long as the job, or longer,
-- so nothing here refers to it.  A phase of null says that the job was destroyed: it is the
-- last of a job, and what its time is over is found by.
CREATE TABLE events (
    event_id bigint GENERATED ALWAYS AS IDENTITY,
    job_id   text NOT NULL,
    service  text NOT NULL,
    owner    text,
    attempt  integer NOT NULL,
    phase    text,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    node     text,
    who      text,
    why      text,
    PRIMARY KEY (job_id, event_id)
);

CREATE INDEX events_of_gone ON events (service, at) WHERE phase IS NULL;

-- What is told of a change that somebody makes by a statement of their own.
CREATE FUNCTION told_by_hand() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('who', session_user, 'why', 'It was changed in the database.')
$$;

CREATE FUNCTION jobs_record() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT  -- whoever changes a job may have another
AS $$
DECLARE
    told jsonb := NEW.moved;
BEGIN
    IF told IS NULL THEN
        told := told_by_hand();
    ELSIF TG_OP = 'UPDATE' THEN
        IF told IS NOT DISTINCT FROM OLD.moved THEN
            told := told_by_hand();
        END IF;
    END IF;
    INSERT INTO events (job_id, service, owner, attempt, phase, node, who, why)
    VALUES (NEW.job_id, NEW.service, NEW.owner, NEW.attempt, NEW.phase,
            told->>'node', told->>'who', told->>'why');
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_made AFTER INSERT ON jobs FOR EACH ROW
    EXECUTE FUNCTION jobs_record();
CREATE TRIGGER jobs_recorded AFTER UPDATE OF phase ON jobs FOR EACH ROW
    WHEN (NEW.phase <> OLD.phase)
    EXECUTE FUNCTION jobs_record();

-- The events of a job that is destroyed go with it, unless they are to be kept for a time: then
-- one more says so.  Who deletes a job says who, why and whether in the setting twuws.told,
-- for there is no new row that could; what others delete is kept, until a service forgets it.
CREATE FUNCTION jobs_forget() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
DECLARE
    told jsonb := COALESCE(NULLIF(current_setting('twuws.told', true), '')::jsonb,
                           told_by_hand());
BEGIN
    IF told->'keep' = 'false' THEN
        DELETE FROM events WHERE job_id = OLD.job_id;
    ELSE
        INSERT INTO events (job_id, service, owner, attempt, who, why)
        VALUES (OLD.job_id, OLD.service, OLD.owner, OLD.attempt, told->>'who', told->>'why');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_forgotten AFTER DELETE ON jobs FOR EACH ROW
    EXECUTE FUNCTION jobs_forget();

-- Claims are fair over owners and bounded for each; nobody in particular is ''.
UPDATE queue SET owner = '' WHERE owner IS NULL;
ALTER TABLE queue ALTER COLUMN owner SET DEFAULT '', ALTER COLUMN owner SET NOT NULL;
DROP INDEX queue_waiting;
CREATE INDEX queue_waiting ON queue (service, priority, owner, queued_at, job_id)
    WHERE claimed_at IS NULL;
CREATE INDEX queue_running ON queue (service, owner) WHERE claimed_at IS NOT NULL;

-- What is being stopped still takes its place.
ALTER TABLE stops ADD COLUMN owner text NOT NULL DEFAULT '';

-- It has got free, which others may have waited for.
CREATE FUNCTION stops_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_SCHEMA, OLD.job_id || ' stopped ' || OLD.service);
    RETURN NULL;
END $$;

CREATE TRIGGER stops_gone AFTER DELETE ON stops FOR EACH ROW
    EXECUTE FUNCTION stops_notify();

-- Processes are told apart by when they started in ticks since the host's boot, and by that
-- boot: no clock that is set can make one look like another.
ALTER TABLE nodes ALTER COLUMN started TYPE text USING started::text;
-- Whether it answers HTTP, and how it was asked to leave.
ALTER TABLE nodes ADD COLUMN serves_web boolean NOT NULL DEFAULT false;
ALTER TABLE nodes ADD COLUMN draining text;
ALTER TABLE nodes ADD CONSTRAINT nodes_draining
    CHECK (draining IN ('leave', 'finish', 'requeue', 'abort'));

-- Of a HELD job: {"priority", "queuedAt"}, for when it is queued again.
ALTER TABLE jobs ADD COLUMN held jsonb;
CREATE INDEX jobs_held ON jobs (service, job_id) WHERE phase = 'HELD';

-- How long the last jobs took says how long the next ones will.
CREATE INDEX jobs_completed ON jobs (service, end_time DESC) WHERE phase = 'COMPLETED';

-- What is not to run for now: a job, or all of a service, of an owner ('' for nobody in
-- particular), or of an owner at a service.
CREATE TABLE holds (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id  text REFERENCES jobs ON DELETE CASCADE,
    service text,
    owner   text,
    since   timestamptz NOT NULL DEFAULT clock_timestamp(),
    who     text,
    why     text,
    CONSTRAINT holds_what CHECK (
        CASE WHEN job_id IS NULL THEN service IS NOT NULL OR owner IS NOT NULL
             ELSE service IS NULL AND owner IS NULL END)
);

CREATE UNIQUE INDEX holds_once ON holds (
    COALESCE(job_id, ''), COALESCE(service, ''), (owner IS NULL), COALESCE(owner, ''));

-- Requests to make a job that name themselves, so that one that comes again gets the same job.
CREATE TABLE creations (
    service text NOT NULL,
    owner   text NOT NULL DEFAULT '',
    key     text NOT NULL,
    job_id  text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, owner, key)
);

CREATE INDEX creations_by_time ON creations (at);
