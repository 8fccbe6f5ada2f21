"""What is erased is in no file any more."""

import secrets

import pytest

from crew import Runtime
from crew.journal.sqlite import SqliteStore
from tests.core.test_retention import done, echo, parent


@pytest.mark.parametrize("compress", [True, False])
async def test_no_byte_of_an_erased_conversation_is_in_any_file(compress, tmp_path):
    """Texts of every size: in rows, in packed bodies and their dictionary, in blobs and files."""
    store = SqliteStore(tmp_path / "runs.db", compress=compress)
    secret = secrets.token_hex(16)
    texts = [secret, *(f"{secret} {'word ' * n}" for n in (10, 100, 1_000, 20_000, 300_000))]
    async with Runtime(store) as runtime:
        for n in range(40):
            await done(runtime, echo, f"number {n} of the others " + "other words " * n)
            await done(runtime, echo, f"{secret} and {'other words ' * n}", thread="secret")
        for text in texts:
            await done(runtime, parent, text, thread="secret")
        last = await done(runtime, echo, "the others go on" * 20)
        assert found(tmp_path, secret)
        await runtime.erase(thread="secret")
        assert not found(tmp_path, secret)
        assert await last.result() == ("the others go on" * 20)[::-1]
        assert (await runtime.thread("secret")).messages == ()
        await done(runtime, echo, "and on" * 100)
    store.close()
    assert not found(tmp_path, secret)


def found(folder, secret: str) -> list[str]:
    """Return the files that hold the secret, in either direction."""
    forms = (secret.encode(), secret[::-1].encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]
