-- Version 8, the first that is read, of the same shape as the schema for SQLite. Bodies are text, not
-- jsonb, so that what is read is byte for byte what was written; PostgreSQL compresses the long ones
-- itself.
CREATE TABLE runs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    tenant text NOT NULL,
    workflow text NOT NULL,
    version text NOT NULL,
    key text,
    input_hash text NOT NULL,
    thread text,
    turn bigint,
    parent text,
    status text NOT NULL,
    owner text,
    epoch bigint NOT NULL,
    last_offset bigint NOT NULL,
    crc bigint NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    base bigint,
    base_offset bigint NOT NULL,
    due double precision
) WITH (fillfactor = 80);  -- room for a row's next version on its own page
CREATE UNIQUE INDEX runs_by_key ON runs (tenant, workflow, key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX runs_by_turn ON runs (tenant, thread, turn) WHERE turn IS NOT NULL;
CREATE INDEX runs_open_turns ON runs (tenant, thread, turn)
    WHERE turn IS NOT NULL AND status IN ('running', 'waiting');
CREATE INDEX runs_by_base ON runs (base) WHERE base IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_unowned ON runs (number) WHERE status = 'running' AND owner IS NULL;
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL;

CREATE TABLE events (
    number bigint NOT NULL,
    "offset" bigint NOT NULL,
    kind text NOT NULL,
    path text NOT NULL,
    body text NOT NULL,
    crc bigint NOT NULL,
    at double precision NOT NULL,
    PRIMARY KEY (number, "offset")
);

CREATE TABLE snapshots (
    number bigint PRIMARY KEY,
    last_offset bigint NOT NULL,
    crc bigint NOT NULL,
    version text NOT NULL,
    body text NOT NULL,
    body_crc bigint NOT NULL
);

-- A letter without a body was turned into an event; it stays to refuse a second answer. A key is an
-- answer's idempotency key, which is found for as long as its run is kept; `seen` is the offset up
-- to which its sender had read the run.
CREATE TABLE letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number bigint NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    body text,
    at double precision NOT NULL,
    key text,
    seen bigint NOT NULL
);
CREATE INDEX letters_by_key ON letters (key) WHERE key IS NOT NULL;
CREATE INDEX letters_of_run ON letters (number);
CREATE INDEX letters_new ON letters (number) WHERE body IS NOT NULL;
CREATE UNIQUE INDEX letters_by_name ON letters (number, name) WHERE kind = 'answer';

CREATE TABLE blobs (
    digest text PRIMARY KEY,
    body bytea NOT NULL
);
CREATE TABLE blob_uses (
    number bigint NOT NULL,
    digest text NOT NULL,
    PRIMARY KEY (number, digest)
);
CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

-- What is kept of a thread beside its runs. A branch stands on the thread `base` as it was after its
-- turn `base_turn`.
CREATE TABLE threads (
    tenant text NOT NULL,
    thread text NOT NULL,
    metadata text NOT NULL,
    opening text NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    base text,
    base_turn bigint NOT NULL,
    PRIMARY KEY (tenant, thread)
);
CREATE INDEX threads_by_base ON threads (tenant, base) WHERE base IS NOT NULL;

-- What is drawn of the budgets that runs share, by a run's own calls and by all beneath it, too.
-- `above` is JSON: the ids of the accounts that its calls draw on besides. Money is in billionths.
CREATE TABLE accounts (
    id text PRIMARY KEY,
    number bigint NOT NULL,
    above text NOT NULL,
    own_tokens bigint NOT NULL,
    own_calls bigint NOT NULL,
    own_open bigint NOT NULL,
    own_money bigint NOT NULL,
    tokens bigint NOT NULL,
    calls bigint NOT NULL,
    open bigint NOT NULL,
    money bigint NOT NULL,
    is_closed boolean NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX accounts_of_run ON accounts (number);

-- Notes; `words` are those that notes.py gives.
CREATE TABLE notes (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    scope text NOT NULL,
    text text NOT NULL,
    run text NOT NULL,
    thread text,
    at double precision NOT NULL,
    words tsvector NOT NULL
);
CREATE INDEX notes_by_words ON notes USING gin (words);
CREATE INDEX notes_by_scope ON notes (tenant, scope, at);
CREATE INDEX notes_of_run ON notes (run);

-- What runs are found by besides their rows; see `NewRun.tags`.
CREATE TABLE tags (
    tag text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (tag, number)
);
CREATE INDEX tags_of_run ON tags (number);

-- `serves` is JSON, a list of the names and versions of the workflows of which an owner takes runs;
-- `seen` is when it last said that it lives.
CREATE TABLE owners (
    owner text PRIMARY KEY,
    beat bigint NOT NULL,
    place text NOT NULL,
    pid bigint NOT NULL,
    began text NOT NULL,
    serves text NOT NULL DEFAULT '[]',
    seen timestamptz NOT NULL DEFAULT now()
);

-- Each writer counts its commits, in the transaction of each: what it asks when an answer was lost,
-- and what others look at to see that something changed.
CREATE TABLE writers (
    name text PRIMARY KEY,
    commits bigint NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 20);
