"""DBOS: one workflow that calls a no-op step in a loop, its system database in SQLite.

As durable as ours: it sets no journal mode and no synchronous, so each step commits to a rollback
journal with synchronous=FULL before the next one.
"""

import json
import sys
import time

from dbos import DBOS

folder, steps = sys.argv[1], int(sys.argv[2])
DBOS(
    config={
        "name": "bench",
        "system_database_url": f"sqlite:///{folder}/dbos.db",
        "console_log_level": "ERROR",
        "run_admin_server": False,
    }
)


@DBOS.step()
def count(n: int) -> int:
    return n + 1


@DBOS.workflow()
def loop(steps: int) -> int:
    n = 0
    while n < steps:
        n = count(n)
    return n


DBOS.launch()
loop(3)
began, cpu = time.perf_counter(), time.process_time()
loop(steps)
wall, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"wall": 1e6 * wall / steps, "cpu": 1e6 * cpu / steps}), flush=True)
DBOS.destroy()
