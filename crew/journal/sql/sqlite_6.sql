-- Version 6: what is kept of a thread beside its runs; see sqlite_threads.py.
CREATE TABLE threads (
    tenant TEXT NOT NULL,
    thread TEXT NOT NULL,
    metadata TEXT NOT NULL,
    opening TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    row_crc INTEGER NOT NULL,
    PRIMARY KEY (tenant, thread)
);
