-- Of which workflows an owner takes runs, as JSON: a list of names and versions; and when it last
-- said that it lives.
ALTER TABLE owners ADD COLUMN serves text NOT NULL DEFAULT '[]';
ALTER TABLE owners ADD COLUMN seen timestamptz NOT NULL DEFAULT now();
