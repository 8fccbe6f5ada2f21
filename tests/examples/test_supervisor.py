import pytest

from crew import ToolCall
from tests.examples.folder import kill
from tests.examples.models import last

QUESTION = "How do we heat an old house?"
REPORT = {"title": "Heating", "text": "Insulate, then pump.", "sources": ["heating.md"]}
ASKED = {
    "How much does insulation save?": "Insulation of the roof saves a quarter. heating.md",
    "Do heat pumps work there?": "They do, at low flow temperatures. heating.md",
}


def supervisor(body):
    said = [m for m in body["messages"] if m["role"] == "assistant"]
    if not said:
        return [ToolCall("researcher", {"text": question}) for question in ASKED]
    if len(said) == 1:
        return ToolCall("sceptic", {"text": "Insulate, then pump."})
    return ToolCall("final_answer", REPORT)


def researcher(body):
    if body["messages"][-1]["role"] == "tool":
        return ASKED[body["messages"][1]["content"]]
    return ToolCall("search", {"query": last(body)})


SAYS = {
    "You supervise": supervisor,
    "You research": researcher,
    "You doubt": lambda body: "sound",
    "You write": lambda body: "Insulate first.",
}


@pytest.fixture
def told(scene):
    folder, models = scene(SAYS)
    return folder, models


def test_the_specialists_are_asked_and_the_report_has_their_sources(told):
    folder, models = told
    text = folder.output(folder.python("supervisor.py", QUESTION))
    assert text.startswith("# Heating\n\nInsulate, then pump.\n\n- heating.md\n")
    assert sorted(models.asked) == ["You doubt"] + ["You research"] * 4 + ["You supervise"] * 3
    passages = [last(body) for body in models.bodies if body["messages"][-1]["role"] == "tool"]
    assert any("quarter" in passage for passage in passages)


def test_killed_in_the_middle_it_goes_on_and_makes_that_call_alone_again(told):
    folder, models = told
    models.hold(6)
    command = folder.python("supervisor.py", QUESTION)
    models.wait_until_held()
    kill(command)
    models.let_go()
    text = folder.output(folder.python("supervisor.py", QUESTION))
    assert text.startswith("# Heating")
    assert (len(models.calls), models.repeated) == (8, [2])


def test_what_is_too_expensive_is_answered_in_short(told):
    folder, models = told
    toml = (folder.path / "crew.toml").read_text()
    (folder.path / "crew.toml").write_text(toml.replace("price_out = 2.4", "price_out = 11500.0"))
    text = folder.output(folder.python("supervisor.py", QUESTION))
    assert text.startswith(f"# {QUESTION} (in short)\n\nInsulate first.\n")
    assert models.asked.count("You supervise") < 3
    assert models.asked[-1] == "You write"
