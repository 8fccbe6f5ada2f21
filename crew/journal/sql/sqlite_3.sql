-- Version 3: a run's row has a checksum of its own, over all its other columns; see sqlite_rows.py.
ALTER TABLE runs ADD COLUMN row_crc INTEGER;
