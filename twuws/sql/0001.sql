-- Version 1 of the schema.
--
-- The statements are run with search_path set to the schema of the installation ("uws"
-- by default), so that nothing here names it.  PostgreSQL 13 and later.

CREATE TABLE version (
    version integer NOT NULL
);
INSERT INTO version (version) VALUES (1);

-- One row per job: written a few times in a job's life, read often.
-- Times are in milliseconds, for that is what UWS documents show: whoever asks for jobs
-- AFTER an instant that they were shown must not get the same job again.
CREATE TABLE jobs (
    job_id             text PRIMARY KEY,
    service            text NOT NULL,
    owner              text,
    run_id             text,
    phase              text NOT NULL DEFAULT 'PENDING',
    creation_time      timestamptz(3) NOT NULL DEFAULT date_trunc('milliseconds', now()),
    start_time         timestamptz(3),
    end_time           timestamptz(3),
    execution_duration integer NOT NULL,
    destruction        timestamptz(3),
    quote              timestamptz(3),
    parameters         jsonb NOT NULL DEFAULT '{}',
    results            jsonb NOT NULL DEFAULT '[]',
    error              jsonb,
    job_info           jsonb NOT NULL DEFAULT '{}',
    -- How often the work has been started; what an older attempt wants to write is refused.
    attempt            integer NOT NULL DEFAULT 0,
    -- Whether the job list has it; a job that is not there can be used all the same.
    is_listed          boolean NOT NULL DEFAULT true,

    CONSTRAINT jobs_phase CHECK (phase IN (
        'PENDING', 'QUEUED', 'EXECUTING', 'COMPLETED', 'ERROR', 'ABORTED', 'UNKNOWN',
        'HELD', 'SUSPENDED', 'ARCHIVED')),
    CONSTRAINT jobs_started CHECK (
        phase NOT IN ('EXECUTING', 'SUSPENDED', 'UNKNOWN', 'COMPLETED') OR start_time IS NOT NULL),
    CONSTRAINT jobs_ended CHECK (
        (phase IN ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED')) = (end_time IS NOT NULL)),
    CONSTRAINT jobs_in_order CHECK (end_time >= start_time),
    CONSTRAINT jobs_error CHECK (
        CASE phase WHEN 'ERROR' THEN error IS NOT NULL
                   WHEN 'ABORTED' THEN true
                   WHEN 'ARCHIVED' THEN true
                   ELSE error IS NULL END),
    CONSTRAINT jobs_execution_duration CHECK (execution_duration >= 0)
);

CREATE INDEX jobs_by_owner ON jobs (service, owner, creation_time DESC, job_id);
CREATE INDEX jobs_by_time ON jobs (service, creation_time DESC, job_id);
CREATE INDEX jobs_by_destruction ON jobs (destruction) WHERE destruction IS NOT NULL;

-- One row per job that waits for a place or holds one; always small, always hot.
CREATE TABLE queue (
    job_id     text PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    service    text NOT NULL,
    owner      text,
    priority   smallint NOT NULL DEFAULT 0,
    queued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt    integer NOT NULL DEFAULT 0,
    -- From here on null until the job is claimed.
    claimed_at timestamptz,
    deadline   timestamptz,
    node       text,
    host       text,
    -- What the backend finds the work again by.
    ref        jsonb
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE INDEX queue_waiting ON queue (priority DESC, queued_at, job_id) WHERE claimed_at IS NULL;
CREATE INDEX queue_deadline ON queue (deadline) WHERE deadline IS NOT NULL;

-- Work that is to be ended, because its job was aborted, destroyed or ran out of time.
-- Its node does that and then removes the row, and the directory where that is asked for.
CREATE TABLE stops (
    job_id           text NOT NULL,
    service          text NOT NULL,
    attempt          integer NOT NULL,
    node             text NOT NULL,
    host             text NOT NULL,
    ref              jsonb,
    remove_directory boolean NOT NULL DEFAULT false,
    since            timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job_id, attempt)
);

-- One row per process that runs jobs.
CREATE TABLE nodes (
    node       text PRIMARY KEY,
    host       text NOT NULL,
    pid        integer NOT NULL,
    -- Of the process, by its host's clock, s since 1970: a pid alone may be another's by now.
    started    double precision NOT NULL,
    version    text NOT NULL,
    slots      integer NOT NULL,
    -- Whose jobs it runs.
    services   text[] NOT NULL,
    heartbeat  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_ends timestamptz NOT NULL
);

-- A job leaves a final phase only to be archived, whoever tries.
CREATE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'job % is %: it cannot become %', OLD.job_id, OLD.phase, NEW.phase
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER jobs_guard BEFORE UPDATE OF phase ON jobs FOR EACH ROW
    WHEN (OLD.phase IN ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED')
          AND NEW.phase <> OLD.phase
          AND (NEW.phase <> 'ARCHIVED' OR OLD.phase = 'ARCHIVED'))
    EXECUTE FUNCTION jobs_guard();

-- Who waits for a job hears of each change of its phase, and of its end.  The channel is
-- named like the schema; the payload is job id, phase, service.  Creating a job notifies
-- nobody, nor does removing one that nobody can be waiting for: all commits that notify
-- wait for each other.
CREATE FUNCTION jobs_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify(TG_TABLE_SCHEMA, OLD.job_id || ' - ' || OLD.service);
    ELSE
        PERFORM pg_notify(TG_TABLE_SCHEMA, NEW.job_id || ' ' || NEW.phase || ' ' || NEW.service);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_moved AFTER UPDATE OF phase ON jobs FOR EACH ROW
    WHEN (NEW.phase <> OLD.phase)
    EXECUTE FUNCTION jobs_notify();

CREATE TRIGGER jobs_gone AFTER DELETE ON jobs FOR EACH ROW
    WHEN (OLD.phase NOT IN ('COMPLETED', 'ERROR', 'ABORTED', 'ARCHIVED'))
    EXECUTE FUNCTION jobs_notify();
