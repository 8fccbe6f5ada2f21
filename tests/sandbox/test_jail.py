"""Attacks on the jail; each is shown to succeed without it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crew import SandboxUnavailable
from crew.sandbox import inside, open_sandbox
from crew.sandbox.jail import Jail


@pytest.fixture
def host(tmp_path):
    """What an attack is after: a secret file, a file to spoil, a listener, a victim process."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "spoil").write_text("whole")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield {"dir": str(tmp_path), "port": str(listener.getsockname()[1])}


READS = {
    "a secret file": "print(open('{dir}/secret').read())",
    "through a symlink": "import os; os.symlink('{dir}/secret', 'l'); print(open('l').read())",
    "the password file": "print('hunter2' if 'root:' in open('/etc/passwd').read() else '')",
    "a listing": "import os; print('hunter2' if 'secret' in os.listdir('{dir}') else '')",
    "its parent's environment": (
        "import os; print('hunter2' if open(f'/proc/{{os.getppid()}}/environ').read() else '')"
    ),
    "the network": (
        "import socket; socket.create_connection(('127.0.0.1', {port})); print('hunter2')"
    ),
    "datagrams": (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.sendto(b'x', ('127.0.0.1', {port})); print('hunter2')"
    ),
    "local sockets": "import socket; socket.socketpair(); print('hunter2')",
    "a shell": (
        "import subprocess; print(subprocess.run(['/bin/echo', 'hunter2'],"
        " capture_output=True, text=True).stdout)"
    ),
    "a fork": "import os; pid = os.fork(); os._exit(0) if not pid else print('hunter2')",
    "a signal": "import os; os.kill(os.getppid(), 0); print('hunter2')",
    "another user": "import os; os.setuid(os.getuid()); print('hunter2')",
    "changed rights": "import os; os.chmod('{dir}/spoil', 0o600); print('hunter2')",
    "changed times": "import os; os.utime('{dir}/spoil', (1, 1)); print('hunter2')",
    "a file outside": "open('{dir}/new', 'w').write('x'); print('hunter2')",
    "a deleted file": "import os; os.unlink('{dir}/spoil'); print('hunter2')",
    "code in memory": "import os; os.memfd_create('x'); print('hunter2')",
    "a hard link": "import os; os.link('{dir}/secret', 'h'); print(open('h').read())",
}


@pytest.mark.parametrize("attack", READS)
async def test_an_attack_is_stopped_that_succeeds_outside(attack, host, tmp_path):
    code = READS[attack].format(**host)
    outside = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "hunter2" in outside.stdout, outside.stderr

    jailed = await open_sandbox().run(code.replace(host["dir"], host["dir"]), seconds=5)
    assert "hunter2" not in jailed.stdout
    assert jailed.error


async def test_secrets_in_the_environment_are_not_there(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2")
    done = await open_sandbox().run("import os; print(dict(os.environ))")
    assert "hunter2" not in done.stdout
    assert "HOME" in done.stdout


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("while True: pass", "stopped after 0.7 s"),
        ("x = 'a' * 10**10", "out of memory"),
        ("while True: print('x' * 10000)", "printed more than 1 MiB"),
        ("open('f', 'wb').truncate(1 << 40)", "File too large"),
        ("import time; time.sleep(60)", "stopped after 0.7 s"),
        ("raise SystemExit(3)", "ended with status 1"),
        ("1 +", "SyntaxError"),
    ],
)
async def test_limits_are_told(code, why):
    done = await open_sandbox().run(code, seconds=0.7)
    assert why in done.error
    assert len(done.stdout) <= 1 << 20


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("24 * 1024 // 47", "522\n"),
        ("x = 1\nx", "1\n"),
        ("None", ""),
        ("print('a'); 'b'", "a\nb\n"),
        (
            "import threading as t; h = t.Thread(target=print, args=('x',)); h.start(); h.join()",
            "x\n",
        ),
        ("open('f', 'w').write('y'); print(open('f').read())", "y\n"),
        ("import decimal, statistics, json, re, math; math.floor(2.5)", "2\n"),
        ("import numpy; int(numpy.arange(5).sum())", "10\n"),
    ],
)
async def test_ordinary_code_runs(code, printed):
    done = await open_sandbox().run(code)
    assert (done.stdout, done.error) == (printed, "")
    assert done.isolation.startswith("jail (Landlock ")


async def test_a_cancel_ends_the_code():
    task = asyncio.create_task(open_sandbox().run("while True: pass", seconds=60))
    await asyncio.sleep(0.3)
    mine = _children()
    assert mine
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not mine & _children()


async def test_the_scratch_folder_is_removed():
    done = await open_sandbox().run("import os; os.getcwd()")
    assert not Path(done.stdout.strip()).exists()


async def test_the_loop_goes_on_meanwhile():
    task = asyncio.create_task(open_sandbox().run("while True: pass", seconds=0.5))
    began = time.monotonic()
    await asyncio.sleep(0.05)
    assert time.monotonic() - began < 0.3
    await task


def test_another_processor_is_refused(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        open_sandbox()


def test_a_kernel_without_landlock_is_refused(monkeypatch):
    monkeypatch.setattr(inside, "landlock_abi", lambda: 0)
    with pytest.raises(SandboxUnavailable, match="no Landlock"):
        open_sandbox()


async def test_code_does_not_run_where_the_jail_cannot_be_closed(monkeypatch, tmp_path):
    jail = Jail()
    monkeypatch.setattr("crew.sandbox.jail.refused", lambda machine: [1 << 40])
    with pytest.raises(SandboxUnavailable, match="could not be closed"):
        await jail.run(f"open('{tmp_path}/ran', 'w')")
    assert not (tmp_path / "ran").exists()


def _children() -> set[int]:
    out = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "inside.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {int(line) for line in out.stdout.split()}
