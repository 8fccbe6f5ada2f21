-- Version 2: an answer's idempotency key, which is found for as long as its run is kept, and the
-- offset up to which its sender had read the run.
ALTER TABLE letters ADD COLUMN key text;
ALTER TABLE letters ADD COLUMN seen bigint NOT NULL DEFAULT 0;
CREATE INDEX letters_by_key ON letters (key) WHERE key IS NOT NULL;
