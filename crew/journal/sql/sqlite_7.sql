-- Version 7: a run's children are found by it.
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
