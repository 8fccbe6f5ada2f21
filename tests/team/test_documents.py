"""A claim counts if its quotes stand in their sources when the answer is given."""

import pytest

from crew import ToolError
from crew.team import Claim, Quote, documents_folder, find, is_toy, proven, run_code
from crew.team.summariser import quoted

FACT = Quote(text="A Ray actor is one process.", source="actors.md")


@pytest.fixture
def docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "actors.md").write_text("# Actors\n\nA *Ray actor* is one\nprocess.\n")
    return str(tmp_path / "docs")


async def test_a_quote_stands_whatever_its_line_breaks(docs):
    assert await proven(docs, [quoted(FACT)]) == [quoted(FACT)]


async def test_a_claim_whose_quote_was_changed_is_dropped(docs):
    changed = FACT.model_copy(update={"text": "A Ray actor is two processes."})
    assert await proven(docs, [quoted(changed)]) == []


async def test_a_claim_without_quote_or_code_is_dropped(docs):
    assert await proven(docs, [Claim(text="Trust me.")]) == []


async def test_worked_out_numbers_come_first_and_each_claim_once(docs):
    number = Claim(text="2", code="print(1 + 1)", printed="2")
    assert await proven(docs, [quoted(FACT), number, quoted(FACT)]) == [number, quoted(FACT)]


async def test_a_missing_folder_is_named(docs):
    with pytest.raises(ToolError, match="does not exist"):
        await find(f"{docs}/nowhere", "actor")


def test_the_folder_is_the_given_one_else_that_of_the_settings_else_our_own(monkeypatch):
    monkeypatch.setenv("CREW_DOCS", "/tmp/theirs")
    assert documents_folder("/tmp/mine") == "/tmp/mine"
    assert documents_folder() == "/tmp/theirs"
    monkeypatch.delenv("CREW_DOCS")
    assert documents_folder().endswith(("docs", "corpus"))


def test_an_endpoint_in_the_settings_is_no_toy(monkeypatch):
    monkeypatch.setenv("CREW_BASE_URL", "http://localhost:1/v1")
    assert not is_toy()
    monkeypatch.delenv("CREW_BASE_URL")
    assert is_toy()


async def test_code_that_prints_a_number_counts():
    assert (await run_code("print(8 * 1000 // 47)")).printed == "170"


@pytest.mark.parametrize("code", ["print(1 / 0)", "print('no')", "print('1' * 1000)", "1 +"])
async def test_code_that_prints_no_short_number_does_not(code):
    ran = await run_code(code)
    assert ran.error
    assert not ran.printed
