-- Version 4: the events of a commit lie in one row; see sqlite_segments.py.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    before INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body TEXT NOT NULL
);
