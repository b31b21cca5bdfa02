-- Version 5: secrets, with which jobs are shared.

-- What all nodes of an installation know and nobody else may: made once, by whichever needs it
-- first.  Services of the version before have no need of it.
CREATE TABLE secrets (
    name  text PRIMARY KEY,
    value text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

UPDATE version SET version = 5;
