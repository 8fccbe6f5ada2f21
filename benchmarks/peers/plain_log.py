"""The floor of bytes: a SQLite table of the texts, a row each; plain or deflated one by one.

As durable as ours: WAL, synchronous=FULL, one commit a turn.
"""

import json
import sqlite3
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from words import said

folder, turns, deflated = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "deflated"
db = sqlite3.connect(f"{folder}/log.db", isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE log (offset INTEGER PRIMARY KEY, body BLOB)")
window = b""
seconds = []
for turn in range(turns):
    began = time.perf_counter()
    db.execute("BEGIN IMMEDIATE")
    for who in ("user", "assistant"):
        body = said(who, turn).encode()
        if deflated:
            # Against the last 32 KiB, as far back as deflate can look.
            packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=window)
            body, window = packer.compress(body) + packer.flush(), (window + body)[-32768:]
        db.execute("INSERT INTO log (body) VALUES (?)", (body,))
    db.execute("COMMIT")
    seconds.append((time.perf_counter() - began, 0))
db.close()
left = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
print(json.dumps({"bytes": left, "turns": seconds}))
