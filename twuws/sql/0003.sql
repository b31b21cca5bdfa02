-- Version 3: tokens, with which programs act for somebody.  Services of version 2 do without.

UPDATE version SET version = 3;

-- Of a token itself there is the SHA-256 only.  It has 256 random bits: nobody can try them all,
-- however fast, so no slow hash is needed as there is for passwords.
CREATE TABLE tokens (
    token_id text PRIMARY KEY,
    hash     bytea NOT NULL UNIQUE,
    owner    text NOT NULL,
    scopes   text[] NOT NULL,
    label    text,
    made     timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by  text,
    expires  timestamptz,  -- null: never
    CONSTRAINT tokens_scopes CHECK (scopes <@ ARRAY['read', 'write', 'admin'])
);

CREATE INDEX tokens_by_owner ON tokens (owner, made);
CREATE INDEX tokens_by_end ON tokens (expires);
