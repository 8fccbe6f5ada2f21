-- Version 2: forks, runs that wait outside any process, snapshots, blobs and packed bodies. A body
-- is JSON text, or where that is smaller a BLOB: the number of a dictionary in one byte (0: none),
-- then the text deflated with it.
ALTER TABLE runs ADD COLUMN base INTEGER;
ALTER TABLE runs ADD COLUMN base_offset INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN due REAL;
DROP INDEX runs_open;
DROP INDEX runs_by_turn;
CREATE UNIQUE INDEX runs_by_turn ON runs (tenant, thread, turn) WHERE turn IS NOT NULL;
CREATE INDEX runs_by_base ON runs (base) WHERE base IS NOT NULL;
CREATE INDEX runs_running ON runs (number) WHERE status = 'running';
CREATE INDEX runs_due ON runs (due) WHERE due IS NOT NULL;
CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL;
-- What waits is to be driven once more, to say until when.
UPDATE runs SET status = 'running'
    WHERE status = 'waiting' AND (owner IS NULL OR owner != 'parked');

CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY,
    last_offset INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    version TEXT NOT NULL,
    body BLOB NOT NULL,
    body_crc INTEGER NOT NULL
);

-- A letter without a body was turned into an event; it stays to refuse a second answer.
ALTER TABLE letters RENAME TO letters_1;
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT,
    at REAL NOT NULL
);
INSERT INTO letters SELECT min(id), number, kind, name, body, at FROM letters_1
    GROUP BY number, kind, name;
DROP TABLE letters_1;
CREATE INDEX letters_of_run ON letters (number);
CREATE INDEX letters_new ON letters (number) WHERE body IS NOT NULL;
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

CREATE TABLE dictionaries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    body BLOB NOT NULL
);
