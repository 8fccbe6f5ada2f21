-- What is drawn of budgets of money, in billionths: by a run's own calls, and by all beneath it, too.
ALTER TABLE accounts ADD COLUMN own_money bigint NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN money bigint NOT NULL DEFAULT 0;
