-- Version 11, the first that is read. A run's row has a checksum of its own, over all its other
-- columns; see sqlite_rows.py.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    key TEXT,
    input_hash TEXT NOT NULL,
    thread TEXT,
    turn INTEGER,
    parent TEXT,
    status TEXT NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    base INTEGER,
    base_offset INTEGER NOT NULL,
    due REAL,
    row_crc INTEGER
);
CREATE UNIQUE INDEX runs_by_key ON runs (tenant, workflow, key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX runs_by_turn ON runs (tenant, thread, turn) WHERE turn IS NOT NULL;
CREATE INDEX runs_by_base ON runs (base) WHERE base IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
CREATE INDEX runs_running ON runs (number) WHERE status = 'running';
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL;

-- The events of a commit lie in one row; see sqlite_segments.py. A body here and below is JSON
-- text, or where that is smaller a BLOB: the number of a dictionary in one byte (0: none), then the
-- text deflated with it.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    before INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE dictionaries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    body BLOB NOT NULL
);

CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY,
    last_offset INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    version TEXT NOT NULL,
    body BLOB NOT NULL,
    body_crc INTEGER NOT NULL
);

-- A letter without a body was turned into an event; it stays to refuse a second answer. A key is an
-- answer's idempotency key, which is found for as long as its run is kept; `seen` is the offset up
-- to which its sender had read the run.
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT,
    at REAL NOT NULL,
    key TEXT,
    seen INTEGER NOT NULL
);
CREATE INDEX letters_of_run ON letters (number);
CREATE INDEX letters_new ON letters (number) WHERE body IS NOT NULL;
CREATE INDEX letters_by_key ON letters (key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX letters_by_name ON letters (number, name) WHERE kind = 'answer';

-- A blob without a body lies in a file of the folder beside the database.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    body BLOB
);
CREATE TABLE blob_uses (
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (number, digest)
) WITHOUT ROWID;
CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

-- What is kept of a thread beside its runs; see sqlite_threads.py. A branch stands on the thread
-- `base` as it was after its turn `base_turn`.
CREATE TABLE threads (
    tenant TEXT NOT NULL,
    thread TEXT NOT NULL,
    metadata TEXT NOT NULL,
    opening TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    base TEXT,
    base_turn INTEGER NOT NULL,
    row_crc INTEGER NOT NULL,
    PRIMARY KEY (tenant, thread)
);
CREATE INDEX threads_by_base ON threads (tenant, base) WHERE base IS NOT NULL;

-- What is drawn of the budgets that runs share, by a run's own calls and by all beneath it, too;
-- see sqlite_accounts.py. `above` is JSON: the ids of the accounts that its calls draw on besides.
-- Money is in billionths.
CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    above TEXT NOT NULL,
    own_tokens INTEGER NOT NULL,
    own_calls INTEGER NOT NULL,
    own_open INTEGER NOT NULL,
    own_money INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    open INTEGER NOT NULL,
    money INTEGER NOT NULL,
    is_closed INTEGER NOT NULL,
    row_crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX accounts_of_run ON accounts (number);

-- Notes, and the index of their words; see sqlite_notes.py. The words of a note are those that
-- notes.py gives, with blanks in between; `place` is one for all notes of a scope of a tenant.
CREATE TABLE notes (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    scope TEXT NOT NULL,
    text TEXT NOT NULL,
    run TEXT NOT NULL,
    thread TEXT,
    at REAL NOT NULL,
    row_crc INTEGER NOT NULL
);
CREATE INDEX notes_by_scope ON notes (tenant, scope, at);
CREATE INDEX notes_of_run ON notes (run);
CREATE VIRTUAL TABLE note_words USING fts5(place, words, tokenize = 'ascii', detail = 'column');

-- What runs are found by besides their rows; see `NewRun.tags`.
CREATE TABLE tags (
    tag TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (tag, number)
) WITHOUT ROWID;
CREATE INDEX tags_of_run ON tags (number);
