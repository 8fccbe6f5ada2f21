-- A branch stands on the thread `base` as it was after its turn `base_turn`.
ALTER TABLE threads ADD COLUMN base TEXT;
ALTER TABLE threads ADD COLUMN base_turn INTEGER NOT NULL DEFAULT 0;
CREATE INDEX threads_by_base ON threads (tenant, base) WHERE base IS NOT NULL;
