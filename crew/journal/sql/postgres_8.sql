-- What runs are found by besides their rows; see `NewRun.tags`.
CREATE TABLE tags (
    tag text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (tag, number)
);
CREATE INDEX tags_of_run ON tags (number);
