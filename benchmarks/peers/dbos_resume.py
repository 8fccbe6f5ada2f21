"""DBOS: a workflow that is killed when `steps` are finished, and recovered in a fresh process.

    dbos_resume.py FOLDER STEPS write|resume

As durable as ours: SQLite with its rollback journal and synchronous=FULL; `launch` recovers.
"""

import json
import os
import sys
import time

from dbos import DBOS

folder, steps, phase = sys.argv[1], int(sys.argv[2]), sys.argv[3]


@DBOS.step()
def count(n: int) -> int:
    if n == steps:
        if phase == "resume":
            print(json.dumps({"ms": 1e3 * (time.perf_counter() - began)}), flush=True)
            os._exit(0)
        print("ready", flush=True)
        time.sleep(60)
    return n + 1


@DBOS.workflow()
def loop(n: int) -> int:
    while n <= steps:
        n = count(n)
    return n


began = time.perf_counter()
DBOS(
    config={
        "name": "bench",
        "system_database_url": f"sqlite:///{folder}/dbos.db",
        "application_version": "1",
        "console_log_level": "ERROR",
        "run_admin_server": False,
    }
)
DBOS.launch()
if phase == "write":
    loop(0)
time.sleep(600)
