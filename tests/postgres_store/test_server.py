"""The server that tests start goes with them, however they end."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
from tests.postgres import Server
server = Server()
server.start()
print(server.socket.parent, flush=True)
input()
"""


def test_a_server_whose_tests_were_killed_is_ended_with_its_folder():
    killed = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    folder = Path(killed.stdout.readline().strip())
    server = int((folder / "data" / "postmaster.pid").read_text().split("\n")[0])
    killed.kill()
    killed.communicate()
    deadline = time.monotonic() + 20
    while folder.exists() or Path(f"/proc/{server}/exe").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
