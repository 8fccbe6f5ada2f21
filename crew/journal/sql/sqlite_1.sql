-- Version 1. An event's id is its run's number * 2^32 + its offset, so that a run's events lie
-- together in the table itself, and no second index is needed.
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
    updated_at REAL NOT NULL
);
CREATE UNIQUE INDEX runs_by_key ON runs (tenant, workflow, key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX runs_by_turn ON runs (tenant, thread, turn) WHERE thread IS NOT NULL;
CREATE INDEX runs_open ON runs (number) WHERE status IN ('running', 'waiting');

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    body TEXT NOT NULL,
    crc INTEGER NOT NULL,
    at REAL NOT NULL
);

CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    at REAL NOT NULL
);
