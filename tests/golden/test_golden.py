"""Journals that earlier code wrote are read, replayed and gone on with by this one."""

import shutil
from pathlib import Path

import pytest

from crew import RunFailed, Runtime
from crew.journal.reading import JournalReader
from tests.golden.flows import ALL

JOURNALS = sorted(Path(__file__).parent.glob("*.db"))


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda path: path.stem)
async def test_an_old_journal_is_replayed_to_equal_results(journal, tmp_path):
    shutil.copy(journal, tmp_path / "runs.db")
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", workflows=ALL) as runtime:
        runs = await runtime.runs()
        assert sorted(run.workflow for run in runs) == sorted(flow.name for flow in ALL)
        for run in runs:
            row = runtime.store.run(run.id)
            assert len(JournalReader(runtime.store, row).every(upto=row.offset)) == row.offset
            again = await runtime.replay(run.id)
            if run.workflow == "golden_failing":
                with pytest.raises(RunFailed, match="found nothing"):
                    await again.result()
            else:
                assert await again.result() == await run.result()


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda path: path.stem)
async def test_an_old_journal_is_forked_without_a_call(journal, tmp_path):
    shutil.copy(journal, tmp_path / "runs.db")
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", workflows=ALL) as runtime:
        (run,) = [run for run in await runtime.runs() if run.workflow == "golden_research"]
        fork = await runtime.fork(run.id, at=(await run.recorded())[-1].offset)
        assert await fork.result() == await run.result()


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda path: path.stem)
async def test_branches_and_metadata_of_an_old_journal_are_read(journal, tmp_path):
    shutil.copy(journal, tmp_path / "runs.db")
    async with Runtime(f"sqlite:///{tmp_path}/runs.db", workflows=ALL) as runtime:
        base, branch = await runtime.thread("t"), await runtime.thread("b")
        assert branch.messages[:2] == base.messages
        assert [message.text for message in branch.messages[2:]] == ["race", "no race 7 found race"]
        (run,) = await runtime.runs(metadata={"of": "b"})
        assert run.thread == "b"
