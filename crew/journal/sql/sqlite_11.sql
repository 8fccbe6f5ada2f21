-- What runs are found by besides their rows; see `NewRun.tags`.
CREATE TABLE tags (
    tag TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (tag, number)
) WITHOUT ROWID;
CREATE INDEX tags_of_run ON tags (number);
