"""A run in a notebook's cell is drawn while it goes on, by a real kernel."""

import nbformat
import pytest
from nbclient import NotebookClient

BEGUN = """
import asyncio
from crew import Context, Runtime, workflow

runtime = await Runtime(":memory:").open()


@workflow
async def asks(ctx: Context, number: int) -> str:
    await ctx.ask(bool, "Go on?", key="go")
    return "the end"


run = await runtime.start(asks, 1)
run
"""
ENDED = """
while not await run.questions():
    await asyncio.sleep(0.01)
await run.answer("go", True)
await run.result()
while any(task.get_coro().__name__ == "keep_drawn" for task in asyncio.all_tasks()):
    await asyncio.sleep(0.01)
"""
MANY = """
batch = runtime.start_many(asks, range(3), at_once=1)
batch
"""
ALL = """
while batch.under_way < 3:
    await asyncio.sleep(0.01)
for waiting in await runtime.runs(status=("running", "waiting")):
    while not await waiting.questions():
        await asyncio.sleep(0.01)
    await waiting.answer("go", True)
await batch.results()
while any(task.get_coro().__name__ == "keep_drawn" for task in asyncio.all_tasks()):
    await asyncio.sleep(0.01)
await runtime.close()
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_cells_follow_what_they_show_to_its_end(tmp_path):
    cells = [nbformat.v4.new_code_cell(text) for text in (BEGUN, ENDED, MANY, ALL)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, resources=place).execute()
    run, batch = (notebook.cells[index].outputs[-1]["data"]["text/html"] for index in (0, 2))
    assert "completed" in run
    assert "the end" in run
    assert "3 completed" in batch
