"""The research workflow answers with quotes that stand and numbers that were worked out."""

import pytest

from crew import Runtime, team
from crew.llm.scripted import ScriptedModel
from crew.team.summariser import Statement
from workflows.research import Question, research

FIRST = "How many Ray actors fit in 8 GB of memory?"
ACTOR = "A Ray actor is one process of about 47 MB."
DIES = "When its node dies, Ray runs the task again on another node."


@pytest.fixture
def docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the index is kept in the working directory
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "actors.md").write_text(f"# Ray actors\n\n{ACTOR} Its memory is its own.\n")
    (folder / "tasks.md").write_text(f"# Ray tasks\n\nA Ray task is a function. {DIES}\n")
    return folder


@pytest.fixture
def script(monkeypatch):
    """Give each of the team a scripted model: `script(planner=[…], searcher=[…])`."""

    def give(**replies):
        models = {}
        for name in ("planner", "searcher", "coder", "summariser"):
            models[name] = ScriptedModel(replies.get(name, []), name=name)
            monkeypatch.setattr(getattr(team, name), "model", models[name])
        return models

    return give


def plan(question, calculation=""):
    return team.Plan(question=question, searches=[question], calculation=calculation)


def draft(*statements):
    return team.Draft(claims=[Statement(quote=number, text=text) for number, text in statements])


def pick(*numbers):
    return team.Selection(sentences=list(numbers))


async def ask(docs, text, *, thread=None, store=":memory:"):
    async with Runtime(store) as runtime:
        run = await runtime.start(research, Question(text=text, docs=str(docs)), thread=thread)
        emitted = [e.data["text"] async for e in run.events() if e.kind == "text.emitted"]
        answer = await run.result()
    assert "".join(emitted) == answer.text
    return answer


async def test_a_claim_is_told_in_other_words_beside_its_quote(docs, script):
    question = "What happens to a task when its node dies?"
    words = "Ray runs the task again on another node."
    script(planner=[plan(question)], searcher=[pick(1)], summariser=[draft((1, words))])
    answer = await ask(docs, question)
    assert answer.text.startswith(f"{words}\n> {DIES}\n> (tasks.md: Ray tasks)")
    assert answer.sources == ["tasks.md"]


async def test_a_claim_without_a_quote_is_dropped(docs, script):
    question = "What happens to a task when its node dies?"
    statements = draft((3, "Everything is lost."), (1, DIES))
    script(planner=[plan(question)], searcher=[pick(1)], summariser=[statements])
    answer = await ask(docs, question)
    assert "Everything is lost" not in answer.text
    assert [claim.text for claim in answer.claims] == [DIES]


async def test_a_number_comes_from_code_that_ran_and_is_shown_with_it(docs, script):
    script(
        planner=[plan(FIRST, FIRST)],
        searcher=[pick(1)],
        coder=[team.Code(code="print(8 * 1000 // 47)", unit="Ray actors")],
        summariser=[draft((1, "170 Ray actors fit in 8 GB."))],
    )
    answer = await ask(docs, FIRST)
    assert answer.text.startswith("170 Ray actors fit in 8 GB.\n```python\nprint(8 * 1000 // 47)")
    assert answer.claims[0].quotes[0].source == "actors.md"


async def test_code_with_a_figure_that_stands_nowhere_is_not_run(docs, script):
    made_up = team.Code(code="print(64 * 1000 // 50)", unit="Ray actors")
    script(
        planner=[plan(FIRST, FIRST)],
        searcher=[pick(1)],
        coder=[made_up],
        summariser=[draft((1, "1280 Ray actors fit in 8 GB."))],
    )
    answer = await ask(docs, FIRST)
    assert "1280" not in answer.text
    assert answer.claims[0].code == "print(8 * 1000 // 47)"


async def test_nothing_found_is_said_plainly_and_the_summariser_not_asked(docs, script):
    question = "What is the capital of France?"
    script(planner=[plan(question)])
    answer = await ask(docs, question)
    assert answer.text.startswith("Nothing was found in the documents that answers this.")
    assert answer.claims == answer.sources == []


async def test_nothing_chosen_is_nothing_found(docs, script):
    question = "Does a Ray task dream?"
    script(planner=[plan(question)], searcher=[pick(0)])
    answer = await ask(docs, question)
    assert answer.text.startswith("Nothing was found")
    assert "The closest sentence" in answer.text


async def test_replies_of_no_use_leave_the_best_sentence(docs, script):
    question = "What happens to a task when its node dies?"
    useless = ["no JSON", "still none"]
    script(planner=useless, searcher=useless, summariser=useless)
    answer = await ask(docs, question)
    assert DIES in answer.claims[0].text


async def test_the_planner_of_a_second_turn_sees_the_first(docs, script, tmp_path):
    store = f"sqlite:///{tmp_path}/runs.db"
    rest = {"searcher": [pick(1)], "summariser": [draft((1, ACTOR))]}
    code = team.Code(code="print(8 * 1000 // 47)", unit="Ray actors")
    script(planner=[plan(FIRST, FIRST)], coder=[code], **rest)
    await ask(docs, FIRST, thread="t1", store=store)
    code = team.Code(code="print(2 * 8 * 1000 // 47)", unit="Ray actors")
    models = script(planner=[plan(FIRST, FIRST)], coder=[code], **rest)
    answer = await ask(docs, "and in twice that memory?", thread="t1", store=store)
    assert [message.text for message in models["planner"].requests[0].messages][1] == FIRST
    assert answer.text.startswith("340 Ray actors")


async def test_several_searches_answer_side_by_side(docs, script):
    question = "How much memory has a Ray actor, and what is a Ray task?"
    drafted = team.Plan(
        question=question, searches=["memory of a Ray actor", "what is a Ray task"], calculation=""
    )
    script(planner=[drafted], searcher=[pick(1), pick(1)], summariser=[draft((2, "x"), (1, "x"))])
    answer = await ask(docs, question)
    assert answer.sources == ["tasks.md", "actors.md"]


def test_the_graph_draws_its_fan_out_and_its_join():
    drawing = research.mermaid()
    assert all(name in drawing for name in ("plan", "look_up", "compute", "summarise"))
