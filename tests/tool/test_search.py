"""The index of a folder finds what stands in it."""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crew import ToolError
from crew.tool.passage import split
from crew.tool.search import Index, document_search
from crew.value.words import query_terms, stem

ACTORS = """# Actors

A Ray actor is one process.

## Memory

An idle actor uses about 47 MB of memory. Restarted actors lose their fields.
"""
CHINESE = "# 光线\n\n每个演员都是一个操作系统进程。它使用大约四十七兆内存。\n"
JAPANESE = "# アクター\n\nアクターは一つのプロセスです。再起動すると状態を失います。\n"


@pytest.fixture
def folder(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "actors.md").write_text(ACTORS)
    (docs / "zh.md").write_text(CHINESE, encoding="utf-8")
    (docs / "ja.md").write_text(JAPANESE, encoding="utf-8")
    (docs / "tool.py").write_text("def restart_everything():\n    return 'now'\n")
    return docs


@pytest.fixture
def index(folder, tmp_path):
    return Index(folder, data=tmp_path / "index")


async def sources(index, query):
    return [passage.source for passage in await index.search(query)]


async def test_a_passage_keeps_its_headings_and_its_very_text(index):
    (found, *_) = await index.search("How much memory does an idle actor use?")
    assert (found.source, found.heading) == ("actors.md", "Actors > Memory")
    assert found.text in await index.read("actors.md")


@pytest.mark.parametrize("query", ["内存", "进程", "操作系统"])
async def test_chinese_words_of_two_characters_are_found(index, query):
    assert await sources(index, query) == ["zh.md"]


@pytest.mark.parametrize("query", ["状態", "再起動", "プロセス"])
async def test_japanese_words_are_found(index, query):
    assert await sources(index, query) == ["ja.md"]


async def test_a_single_character_is_found(index):
    assert await sources(index, "兆") == ["zh.md"]


async def test_forms_of_a_word_find_each_other(index):
    assert "actors.md" in await sources(index, "restarting an actor")
    assert "tool.py" in await sources(index, "restarts")


async def test_a_passage_with_all_words_comes_before_others(index):
    assert (await sources(index, "idle actor fields"))[0] == "actors.md"


@pytest.mark.parametrize("query", ['"', "a AND* (", "NEAR(x y)", "x:y", "-", "'; DROP TABLE", ""])
async def test_what_a_user_types_is_never_syntax(index, query):
    assert isinstance(await index.search(query), list)


async def test_changed_files_are_read_again_and_deleted_ones_drop_out(index, folder):
    assert (await index.refresh()).added == 4
    assert (await index.refresh()).added == 0
    (folder / "zh.md").unlink()
    (folder / "new.md").write_text("Kittens sleep.")
    done = await index.refresh()
    assert (done.added, done.removed, done.files) == (1, 1, 4)
    assert await sources(index, "kittens") == ["new.md"]
    assert await sources(index, "内存") == []


async def test_a_touched_file_is_not_indexed_again(index, folder):
    await index.refresh()
    os.utime(folder / "actors.md", (1, 1))
    assert (await index.refresh()).added == 0


async def test_binary_hidden_and_foreign_files_are_left_out(index, folder):
    (folder / "image.png").write_bytes(b"\x89PNG\0\0")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.md").write_text("secret")
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "b.md").write_text("secret")
    done = await index.refresh()
    assert (done.files, done.skipped) == (4, 1)
    assert await index.search("secret") == []


async def test_two_processes_use_one_index(index, folder, tmp_path):
    other = Index(folder, data=tmp_path / "index")
    await index.refresh()
    assert (await other.refresh()).added == 0
    assert await sources(other, "内存") == ["zh.md"]


async def test_a_missing_folder_is_named_with_the_way_on(tmp_path):
    with pytest.raises(ToolError, match="nothing does not exist; give the folder .*--docs FOLDER"):
        await Index(tmp_path / "nothing", data=tmp_path).refresh()


async def test_a_file_is_no_folder(folder, tmp_path):
    with pytest.raises(ToolError, match="actors.md is a file"):
        await Index(folder / "actors.md", data=tmp_path).search("x")


async def test_an_empty_folder_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ToolError, match="holds no text to read"):
        await Index(tmp_path / "empty", data=tmp_path / "i").refresh()


async def test_a_file_outside_cannot_be_read(index):
    with pytest.raises(ToolError, match="has no file"):
        await index.read("../../etc/passwd")


async def test_a_damaged_index_says_to_delete_it(index):
    index.file.parent.mkdir(parents=True)
    index.file.write_bytes(b"no database" * 1000)
    with pytest.raises(ToolError, match="delete it; it is made again"):
        await index.search("x")


async def test_the_tool_returns_passages(folder, tmp_path):
    search = document_search(folder, data=tmp_path / "i")
    (found,) = await search.invoke({"query": "idle memory", "limit": 1})
    assert found["source"] == "actors.md"


def test_long_sections_are_cut_at_paragraphs():
    paragraph = "word " * 50
    content = "# T\n\n" + "\n\n".join([paragraph.strip()] * 5)
    passages = split("a.md", content)
    assert [len(passage.text.split()) for passage in passages] == [100, 100, 50]
    assert all(passage.text in content for passage in passages)


def test_headings_in_code_are_no_headings():
    (passage,) = split("a.md", "# T\n\n```\n# not a heading\n```\n")
    assert passage.heading == "T"


@given(st.text())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_text_gives_terms(text):
    assert all(isinstance(term, str) and term for term in query_terms(text))


@pytest.mark.parametrize(
    ("word", "root"), [("restarts", "restart"), ("restarted", "restart"), ("class", "class")]
)
def test_stems(word, root):
    assert stem(word) == root


async def test_many_may_make_an_index_at_the_same_moment(folder, tmp_path):
    for round_ in range(60):
        indexes = [Index(folder, data=tmp_path / f"i{round_}") for _ in range(4)]
        found = await asyncio.gather(*[index.search("内存") for index in indexes])
        assert [len(passages) for passages in found] == [1] * 4
