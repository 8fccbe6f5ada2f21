from pathlib import Path

import pytest

from crew.journal.memory import MemoryStore
from crew.journal.postgres import PostgresStore
from crew.journal.sqlite import SqliteStore
from crew.testing import StoreSuite


class TestMemory(StoreSuite):
    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.store = MemoryStore()

    def open(self):
        return self.store


class TestSqlite(StoreSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "runs.db"

    def open(self):
        return SqliteStore(self.path)


class TestSqliteUncompressed(TestSqlite):
    def open(self):
        return SqliteStore(self.path, compress=False)


class TestPostgres(StoreSuite):
    @pytest.fixture(autouse=True)
    def place(self, postgres_url: str) -> None:
        self.url = postgres_url

    def open(self):
        return PostgresStore(self.url)
