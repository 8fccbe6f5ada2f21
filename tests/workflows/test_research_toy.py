"""The embedded toy answers, and is held to what stands and what was worked out."""

import pytest

from crew import Runtime
from crew.llm.weights import default_weights_path
from workflows.research import Question, research

pytest.importorskip("xllamacpp")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(default_weights_path() is None, reason="run `crew models pull` first"),
]

PAGE = """# Ray actors

A Ray actor is one process of about 47 MB. Starting one takes about 0.6 s of CPU.

## Restarts

Ray restarts an actor up to `max_restarts` times, and its fields are lost.
"""


async def test_the_toy_works_a_number_out_and_remembers_the_question(tmp_path, monkeypatch):
    monkeypatch.delenv("CREW_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "actors.md").write_text(PAGE)
    texts = []
    async with Runtime(":memory:") as runtime:
        for text in ("How many Ray actors fit in 8 GB of memory?", "and in twice that memory?"):
            question = Question(text=text, docs=str(tmp_path))
            run = await runtime.start(research, question, thread="t1")
            asked = {e.path.split("/")[1] async for e in run.events() if e.kind == "model.started"}
            assert asked == {"planner", "searcher", "coder", "summariser"}
            texts.append((await run.result()).text)
    assert "170" in texts[0]
    assert "340" in texts[1]
    assert all("> A Ray actor is one process of about 47 MB." in text for text in texts)
    assert all("CREW_BASE_URL" in text for text in texts)
