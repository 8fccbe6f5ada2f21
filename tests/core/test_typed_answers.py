"""What agents answer that is no text: with tools, of several types, checked, at the last turn."""

import contextlib
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Agent, Context, OutputInvalid, RunFailed, Runtime, tool, workflow
from crew.errors import StoreError
from crew.journal.memory import MemoryStore
from crew.llm import ModelRequest
from crew.message import Message
from crew.testing import CrashingStore, ScriptedModel, ToolCall, simulate

FINAL = "final_answer"


class Plan(BaseModel):
    steps: list[str]


class Refusal(BaseModel):
    reason: str


@dataclass
class Point:
    x: int
    y: int


class Node(BaseModel):
    name: str
    next: "Node | None" = None


@tool(effect="read")
async def search(query: str) -> str:
    """Search."""
    return f"about {query}"


LOOK = ToolCall("search", {"query": "x"})


def final(**arguments: Any) -> ToolCall:
    return ToolCall(FINAL, arguments)


async def test_while_tools_may_be_called_no_schema_is_forced():
    model = ScriptedModel([LOOK, final(steps=["a"])])
    result = await Agent("a", model=model, tools=[search], output=Plan).run("go")
    assert result.output == Plan(steps=["a"])
    assert [request.schema for request in model.requests] == [None, None]
    assert [[spec.name for spec in r.tools] for r in model.requests] == [["search", FINAL]] * 2
    model.assert_done()


async def test_without_tools_the_schema_is_forced_at_once():
    model = ScriptedModel([Plan(steps=["a"])])
    await Agent("a", model=model, output=Plan).run("go")
    (request,) = model.requests
    assert request.tools == ()
    assert request.schema is not None


async def test_json_in_words_is_an_answer_too_and_costs_no_further_call():
    model = ScriptedModel([LOOK, Plan(steps=["a"])])
    result = await Agent("a", model=model, tools=[search], output=Plan).run("go")
    assert result.output == Plan(steps=["a"])
    model.assert_done()


@pytest.mark.parametrize("retries", [0, 1])
async def test_who_answers_in_prose_is_asked_once_more_with_the_schema_and_no_tools(retries):
    model = ScriptedModel([LOOK, "It is a, then b.", Plan(steps=["a", "b"])])
    agent = Agent("a", model=model, tools=[search], output=Plan, retries=retries)
    assert (await agent.run("go")).output == Plan(steps=["a", "b"])
    assert model.requests[2].tools == ()
    assert model.requests[2].schema is not None


async def test_an_answer_in_the_history_is_words_and_no_call_without_a_result():
    model = ScriptedModel([LOOK, final(steps=["a"])])
    result = await Agent("a", model=model, tools=[search], output=Plan).run("go")
    assert result.messages[-1] == Message("assistant", '{"steps": ["a"]}')


async def test_wrong_arguments_of_the_answer_are_repaired_as_a_tools_result():
    model = ScriptedModel([final(steps=3), final(steps=[])])
    result = await Agent("a", model=model, tools=[search], output=Plan).run("go")
    assert result.output == Plan(steps=[])
    said = model.requests[1].messages[-1]
    assert (said.role, said.tool_call_id) == ("tool", "call_1_0")
    assert "must be Plan" in said.text


async def test_an_answer_beside_other_calls_waits_for_their_results():
    model = ScriptedModel([[LOOK, final(steps=["early"])], final(steps=["late"])])
    result = await Agent("a", model=model, tools=[search], output=Plan).run("go")
    assert result.output == Plan(steps=["late"])
    texts = [message.text for message in model.requests[1].messages if message.role == "tool"]
    assert texts[0] == "about x"
    assert "beside other calls" in texts[1]


@pytest.mark.parametrize(
    ("output", "given", "expected"),
    [
        (Plan | Refusal, {"answer": {"reason": "no"}}, Refusal(reason="no")),
        (Plan | Refusal, {"steps": ["a"]}, Plan(steps=["a"])),
        (list[Plan], {"answer": [{"steps": []}]}, [Plan(steps=[])]),
        (list[int], {"answer": [1, 2]}, [1, 2]),
        (int, {"answer": 3}, 3),
        (Point, {"x": 1, "y": 2}, Point(1, 2)),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Plan | None, {"answer": None}, None),
        (Plan | str, {"answer": "in words"}, "in words"),
        (Plan | str, {"answer": {"steps": []}}, Plan(steps=[])),
        (
            Node,
            {"answer": {"name": "a", "next": {"name": "b"}}},
            Node(name="a", next=Node(name="b")),
        ),
    ],
)
async def test_any_type_is_given_by_a_tool_and_by_a_forced_schema(output, given, expected):
    by_tool = ScriptedModel([ToolCall(FINAL, given)])
    in_words = ScriptedModel([json.dumps(given)])
    assert (await Agent("a", model=by_tool, tools=[search], output=output).run("?")).output == (
        expected
    )
    assert (await Agent("a", model=in_words, output=output).run("?")).output == expected
    for schema in (by_tool.requests[0].tools[-1].parameters, in_words.requests[0].schema):
        assert schema["type"] == "object"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello.", "Hello."),
        ('{"steps": ["a"]}', Plan(steps=["a"])),
        ('{"steps": 3}', '{"steps": 3}'),
        ('"quoted"', '"quoted"'),
        ("3", "3"),
    ],
)
@pytest.mark.parametrize("tools", [[], [search]])
async def test_of_a_type_or_a_text_whatever_is_not_the_type_is_the_text(text, expected, tools):
    model = ScriptedModel([text])
    result = await Agent("a", model=model, output=Plan | str, tools=tools).run("?")
    assert result.output == expected


@pytest.mark.parametrize(("text", "is_answer"), [('{"answer": "half a sen', False), ("so", True)])
async def test_half_of_an_object_is_no_text(text, is_answer):
    class CutOff(ScriptedModel):
        async def complete(self, request: ModelRequest, *, on_text: Any = None) -> Any:
            return replace(await super().complete(request), finish_reason="length")

    agent = Agent("a", model=CutOff([text]), output=Plan | str)
    if is_answer:
        assert (await agent.run("?")).output == text
        return
    with pytest.raises(OutputInvalid, match="must answer in JSON"):
        await agent.run("?")


async def test_words_that_were_cut_off_are_followed_by_a_call_with_the_schema():
    class Rambling(ScriptedModel):
        async def complete(self, request: ModelRequest, *, on_text: Any = None) -> Any:
            reply = await super().complete(request)
            return reply if request.schema else replace(reply, finish_reason="length")

    model = Rambling(["Once upon", Plan(steps=[])])
    agent = Agent("a", model=model, tools=[search], output=Plan, retries=0)
    assert (await agent.run("?")).output == Plan(steps=[])


async def test_the_last_call_is_made_without_tools_and_must_answer():
    model = ScriptedModel([LOOK, LOOK, "as far as I know"])
    result = await Agent("a", model=model, tools=[search], max_turns=3).run("?")
    assert result.output == "as far as I know"
    assert [bool(request.tools) for request in model.requests] == [True, True, False]


async def test_the_last_call_of_a_typed_agent_has_its_schema():
    model = ScriptedModel([LOOK, Plan(steps=[])])
    result = await Agent("a", model=model, tools=[search], max_turns=2, output=Plan).run("?")
    assert result.output == Plan(steps=[])
    assert model.requests[1].schema is not None


async def test_a_model_that_calls_tools_to_the_end_has_no_answer_and_calls_none_then():
    calls = 0

    @tool(effect="read")
    async def count() -> int:
        """Count."""
        nonlocal calls
        calls += 1
        return calls

    model = ScriptedModel([ToolCall("count", {})] * 3)
    with pytest.raises(OutputInvalid, match="within max_turns=3"):
        await Agent("a", model=model, tools=[count], max_turns=3).run("?")
    assert calls == 2


def has_steps(plan: Plan) -> str | None:
    return None if plan.steps else "There must be a step."


def has_steps_or_raises(plan: Plan) -> None:
    if not plan.steps:
        raise ValueError("There must be a step.")


async def has_steps_in_time(plan: Plan) -> str:
    return "" if plan.steps else "There must be a step."


@pytest.mark.parametrize("check", [has_steps, has_steps_or_raises, has_steps_in_time])
@pytest.mark.parametrize("tools", [[], [search]])
async def test_a_check_talks_back(check, tools):
    replies = [Plan(steps=[]), Plan(steps=["a"])]
    if tools:
        replies = [final(steps=[]), final(steps=["a"])]
    model = ScriptedModel(replies)
    agent = Agent("a", model=model, output=Plan, check=check, tools=tools)
    assert (await agent.run("?")).output == Plan(steps=["a"])
    assert "There must be a step." in model.requests[1].messages[-1].text


async def test_a_check_may_be_a_plain_yes_or_no():
    def is_short(text: str) -> bool:
        return len(text) < 5

    model = ScriptedModel(["far too long", "ok"])
    assert (await Agent("a", model=model, check=is_short).run("?")).output == "ok"
    assert "is_short refused it" in model.requests[1].messages[-1].text


@pytest.mark.parametrize("retries", [0, 2])
async def test_an_answer_is_repaired_as_often_as_the_agent_says(retries):
    model = ScriptedModel([Plan(steps=[])] * (retries + 1))
    with pytest.raises(OutputInvalid, match="There must be a step"):
        await Agent("a", model=model, output=Plan, check=has_steps, retries=retries).run("?")
    model.assert_done()


async def test_what_else_a_check_raises_fails_the_agent_as_it_is():
    def checks(text: str) -> None:
        raise KeyError("row")

    with pytest.raises(KeyError, match="row"):
        await Agent("a", model=ScriptedModel(["x"]), check=checks).run("?")


async def test_a_check_that_says_neither_yes_nor_no_is_named():
    agent = Agent("a", model=ScriptedModel([Plan(steps=[])]), output=Plan, check=lambda plan: plan)
    with pytest.raises(Exception, match="returned a Plan; it returns None or True"):
        await agent.run("?")


def flow_of(agent: Agent[Any], *, emit: bool = False) -> Any:
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return str((await ctx.run(agent, text, emit=emit)).output)

    return flow


async def test_what_a_check_said_is_on_record_and_is_not_asked_again():
    """Killed after each event: a check that changes its mind changes nothing that went on."""

    class Moody:
        refusals = 0

        def __call__(self, text: str) -> str | None:
            if text == "first" and not self.refusals:
                self.refusals += 1
                return "again"
            return None

    for after in range(2, 14):
        check, model, kept = Moody(), ScriptedModel(_second_if_refused), MemoryStore()
        flow = flow_of(Agent("a", model=model, check=check))
        store = CrashingStore(kept, after=after)
        async with Runtime(store) as runtime:
            run = await runtime.start(flow, "go")
            with contextlib.suppress(StoreError):
                await run.result()
        kept.forget_owners()
        async with Runtime(kept, workflows=[flow]) as runtime:
            run = await runtime.get(run.id)
            output = await run.result()
            asked = [e for e in await run.recorded() if e.kind == "model.completed"]
            checked = [e for e in await run.recorded() if e.kind == "function.completed"]
            assert len(asked) == len(checked) == (1 if output == "first" else 2)


def _second_if_refused(request: ModelRequest) -> str:
    return "second" if len(request.messages) > 1 else "first"


def test_a_typed_agent_with_tools_survives_crashes_at_every_place():
    def reply(request: ModelRequest) -> Any:
        results = [message.text for message in request.messages if message.role == "tool"]
        if not results:
            return [LOOK, LOOK]
        return final(steps=[]) if len(results) == 2 else final(steps=results[:2])

    agent = Agent(
        "a", model=ScriptedModel(reply), tools=[search], output=Plan | Refusal, check=_full
    )
    done = simulate(flow_of(agent), "go", seeds=40)
    assert done.output == "steps=['about x', 'about x']"
    assert done.crashes >= 40


def _full(plan: Plan | Refusal) -> bool:
    return isinstance(plan, Plan) and bool(plan.steps)


async def _streamed(agent: Agent[Any]) -> list[Any]:
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow_of(agent, emit=True), "go")
        await run.result()
        return [event async for event in run.events() if event.kind.startswith("text.")]


async def test_what_is_said_before_tools_are_called_is_no_part_of_the_answer():
    class Talker(ScriptedModel):
        async def complete(self, request: ModelRequest, *, on_text: Any = None) -> Any:
            reply = await super().complete(request, on_text=on_text)
            if reply.tool_calls and on_text is not None:
                on_text("Let me look. ")
                return replace(reply, text="Let me look. ")
            return reply

    model = Talker([LOOK, "Found."])
    events = await _streamed(Agent("a", model=model, tools=[search]))
    assert [event.kind for event in events] == ["text.emitted", "text.discarded", "text.emitted"]
    assert events[-1].data["text"] == "Found."


@pytest.mark.parametrize(
    ("output", "given", "shown"),
    [
        (Plan, {"steps": ["a"]}, '{"steps": ["a"]}'),
        (Plan | str, {"answer": "in words"}, "in words"),
        (list[int], {"answer": [1, 2]}, "[1, 2]"),
    ],
)
async def test_a_typed_agent_shows_its_answer_and_never_a_repr(output, given, shown):
    model = ScriptedModel([ToolCall(FINAL, given)])
    events = await _streamed(Agent("a", model=model, tools=[search], output=output))
    assert [event.data["text"] for event in events] == [shown]


async def test_an_answer_that_was_refused_is_taken_back_from_whoever_reads_it():
    model = ScriptedModel(["wrong", "right"])
    events = await _streamed(Agent("a", model=model, check=lambda text: text == "right"))
    assert [event.data.get("text") for event in events] == ["wrong", None, "right"]


async def test_an_agent_without_an_answer_fails_its_run_with_what_came():
    model = ScriptedModel(["prose", "more prose", "and more"])
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow_of(Agent("a", model=model, output=Plan)), "go")
        with pytest.raises(RunFailed, match="must answer in JSON, got 'more prose'"):
            await run.result()
