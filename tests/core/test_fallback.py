"""A fallback's tries: each is a call in the journal, none is made again once it has an end."""

import asyncio
import random

import pytest

from crew import (
    Agent,
    Budget,
    Context,
    Fallback,
    OpenAIModel,
    RunFailed,
    Runtime,
    tool,
    workflow,
)
from crew.errors import BudgetExceeded, ModelError
from crew.fold import Text, folded
from crew.journal.memory import MemoryStore
from crew.message import ToolCall
from crew.testing import CrashingStore, ScriptedModel, simulate
from tests.core.counting import Counting, crashing
from tests.core.lives import SECONDS, result, stores
from tests.core.test_default_model import Saying

GONE = ModelError(message="gone", status=500)
LIMIT = 6000


def flow_of(*models, agents: int = 1, emit: bool = False, **of_agent):
    agent = Agent("agent", model=Fallback(*models), max_tokens=40, **of_agent)

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> list[str]:
        async def one(number: int) -> str:
            return (await ctx.run(agent, f"{text} {number}", emit=emit)).output

        return await asyncio.gather(*map(one, range(agents)))

    return flow


def ends(events) -> dict[str, str]:
    """Return how each call of a model ended, by its path."""
    kinds = ("model.completed", "model.failed")
    return {e.path.rpartition("/")[2]: e.kind for e in events if e.kind in kinds}


def made_again(events) -> list[str]:
    """Return the calls that were begun once their end was on record."""
    ended, again = set(), []
    for event in events:
        if event.kind == "model.started" and event.path in ended:
            again.append(event.path)
        if event.kind in ("model.completed", "model.failed"):
            ended.add(event.path)
    return again


async def test_the_next_model_answers_where_one_gave_no_usable_reply(runtime):
    strong, middle = ScriptedModel([GONE], name="strong"), ScriptedModel([OSError("?")])
    cheap = ScriptedModel(["yes"], name="cheap")
    run = await runtime.start(flow_of(strong, middle, cheap), "go")
    assert await result(run) == ["yes"]
    failed, done = "model.failed", "model.completed"
    assert ends(await run.recorded()) == {"model.0": failed, "model.0~2": failed, "model.0~3": done}


async def test_a_model_that_answers_is_the_only_one_asked(runtime):
    strong, cheap = ScriptedModel(["yes"]), ScriptedModel()
    assert await result(await runtime.start(flow_of(strong, cheap), "go")) == ["yes"]
    assert cheap.requests == []


async def test_each_turn_begins_at_the_first_model_and_stands_on_the_try_that_answered(runtime):
    @tool(effect="read")
    def look() -> str:
        """Look."""
        return "seen"

    strong = ScriptedModel([GONE, "yes"])
    cheap = ScriptedModel([ToolCall("look")])
    run = await runtime.start(flow_of(strong, cheap, tools=[look]), "go")
    assert await result(run) == ["yes"]
    second = next(e for e in await run.recorded() if e.path.endswith("model.1"))
    assert second.data["base"].endswith("model.0~2")
    assert strong.requests[1].messages[-1].text == "seen"


async def test_where_none_answers_each_is_told(runtime):
    models = [ScriptedModel([GONE], name=name) for name in ("strong", "cheap")]
    with pytest.raises(RunFailed, match="none of 2 models.*strong: gone; cheap: gone") as caught:
        await result(await runtime.start(flow_of(*models), "go"))
    assert isinstance(caught.value.__cause__, ModelError)


@pytest.mark.parametrize(
    "error",
    [
        ModelError(message="I cannot help with that", is_refusal=True),
        BudgetExceeded(needed=1, left=0),
    ],
)
async def test_a_refusal_of_the_content_and_a_spent_budget_are_no_reason_to_ask_on(runtime, error):
    strong, cheap = ScriptedModel([error]), ScriptedModel(["yes"])
    with pytest.raises(RunFailed):
        await result(await runtime.start(flow_of(strong, cheap), "go"))
    assert cheap.requests == []


class BreaksOff(ScriptedModel):
    """Says the beginning of something else."""

    async def complete(self, request, *, on_text=None):
        on_text("half a sen")
        raise GONE


async def test_what_the_first_model_said_is_taken_back_before_the_next_speaks(runtime):
    run = await runtime.start(flow_of(BreaksOff(), ScriptedModel(["yes"]), emit=True), "go")
    await result(run)
    assert str(folded(await run.recorded(), Text())) == "yes"


async def test_a_call_of_an_agent_outside_any_run_falls_back_too():
    agent = Agent("agent", model=Fallback(ScriptedModel([GONE]), ScriptedModel(["yes"])))
    assert (await agent.run("go")).output == "yes"


async def lived(store, flow, budget: Budget | None, after: int) -> tuple[str, bool]:
    """Start a run in a process that dies after so many events; return its id, and if it died."""
    down = CrashingStore(store, after=after)
    async with Runtime(down) as runtime:
        run = await runtime.start(flow, "go", budget=budget)
        async with asyncio.timeout(SECONDS):
            while not down.is_down and await run.status() == "running":
                await asyncio.sleep(0.001)
        return run.id, down.is_down


def fails(number: int) -> ModelError | None:
    """Fail, in one of three ways: nothing is known, all is, nothing was computed."""
    if number % 3 == 0:
        return ModelError(message="gone", status=500)
    if number % 3 == 1:
        return ModelError(message="cut", input_tokens=400, output_tokens=40)
    return ModelError(message="busy", status=503)


def under_way(events) -> set[str]:
    """Return the tries that have begun and have no end."""
    begun = {e.path.rpartition("/")[2] for e in events if e.kind == "model.started"}
    return begun - set(ends(events))


async def killed_at(store, after: int, agents: int) -> tuple[bool, set[str]]:
    """Kill a run after so many events and go on; return whether it was, and what was under way."""
    chance = random.Random(after)
    strong = Counting(rate=1.0, fails=fails, chance=chance)
    cheap = Counting(rate=1.0, chance=chance)
    flow = flow_of(strong, cheap, agents=agents)
    run_id, died = await lived(store, flow, Budget(tokens=LIMIT, strict=True), after)
    if isinstance(store, MemoryStore):
        store.forget_owners()
    async with Runtime(store, workflows=[flow]) as runtime:
        run = await runtime.get(run_id)
        open_then = under_way((await run.recorded())[:after])
        assert len(await result(run)) == agents
        events = await run.recorded()
        assert made_again(events) == []
        begun = [event for event in events if event.kind == "model.started"]
        assert len(strong.requests) + len(cheap.requests) <= len(begun)
        usage = await run.usage()
    computed = strong.tokens + cheap.tokens
    spent = sum(usage.get(f"{kind}_tokens", 0) for kind in ("input", "output", "unanswered"))
    assert computed <= spent + free(strong) <= LIMIT + free(strong)
    return died, open_then


def free(model: Counting) -> int:
    """Return what the model counts for requests of which it says that nothing was computed."""
    refused = [r for n, r in enumerate(model.requests, 1) if n % 3 == 2]
    return sum(model.reading(each) + 40 for each in refused)


@pytest.mark.parametrize("agents", [1, 3])
async def test_no_try_is_made_again_wherever_the_process_is_killed(agents):
    open_once = set[str]()
    for after in range(2, 100):
        died, open_then = await killed_at(MemoryStore(), after, agents)
        open_once |= open_then
        if not died:
            break
    assert not died
    assert open_once == {"model.0", "model.0~2"}


async def test_a_reader_gets_one_answer_wherever_the_process_is_killed():
    flow = flow_of(BreaksOff(), ScriptedModel(lambda request: "yes, and that is it"), emit=True)
    for after in range(2, 40):
        memory = MemoryStore()
        run_id, died = await lived(memory, flow, None, after)
        memory.forget_owners()
        async with Runtime(memory, workflows=[flow]) as runtime:
            run = await runtime.get(run_id)
            assert await result(run) == ["yes, and that is it"]
            assert str(folded(await run.recorded(), Text())) == "yes, and that is it"
        if not died:
            return
    raise AssertionError("no run came to its end undisturbed")


@stores
@pytest.mark.parametrize("after", range(3, 11))
async def test_a_store_on_disk_keeps_each_try_as_well(url, after):
    strong, cheap = Counting(fails=lambda number: GONE), Counting()
    flow = flow_of(strong, cheap)
    with crashing(url, after) as down:
        async with Runtime(down) as runtime:
            run = await runtime.start(flow, "go", budget=Budget(tokens=LIMIT))
            async with asyncio.timeout(SECONDS):
                while not down.is_down and await run.status() == "running":
                    await asyncio.sleep(0.001)
    async with Runtime(url, workflows=[flow]) as runtime:
        found = await runtime.get(run.id)
        await result(found)
        events = await found.recorded()
    assert made_again(events) == []
    begun = sum(event.kind == "model.started" for event in events)
    assert len(strong.requests) + len(cheap.requests) <= begun


def test_a_fallback_survives_every_schedule():
    def sometimes(request):
        return GONE if len(request.messages[-1].text) % 2 else "strong"

    models = ScriptedModel(sometimes), ScriptedModel(lambda request: "cheap")
    agent = Agent("agent", model=Fallback(*models))

    @workflow
    async def flow(ctx: Context, text: str) -> list[str]:
        return [each.output for each in await ctx.map(agent, ["a", "bb", "c"])]

    assert simulate(flow, "go", seeds=40).output == ["cheap", "strong", "cheap"]


class Refusing(Saying):
    """Refuses the big model in one of the ways of providers."""

    def __init__(self, status: int, answer: dict) -> None:
        super().__init__(delay=0.0)
        self.refusal = status, answer

    def complete(self, body):
        return self.refusal if body["model"] == "big" else super().complete(body)


def said(content: str | None, reason: str = "stop", **message) -> dict:
    choice = {"message": {"content": content, **message}, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion", "choices": [{"index": 0, **choice}]}


OF_CONTENT = [
    (200, said(None, refusal="I cannot help with that.")),
    (200, said("Well, ", "content_filter")),
    (400, {"error": {"message": "The prompt was filtered", "code": "content_filter"}}),
    (400, {"error": {"message": "Content Exists Risk", "code": "invalid_request_error"}}),
]
NO_ANSWER = [
    (200, said(None, "length")),
    (200, {"odd": True}),
    (400, {"error": {"message": "no such parameter", "code": "unknown_parameter"}}),
    (401, {"error": {"message": "no such key"}}),
    (404, {"error": {"message": "no such model"}}),
]


async def asked_of(status: int, answer: dict) -> tuple[str, int]:
    """Return what an agent says, or the error's type, and how many requests that took."""
    with Refusing(status, answer) as endpoint:
        models = [OpenAIModel(name, base_url=endpoint.url) for name in ("big", "small")]
        agent = Agent("agent", model=Fallback(*models))
        try:
            return (await agent.run("go")).output, len(endpoint.requests)
        except ModelError as error:
            return f"refusal: {error.is_refusal}", len(endpoint.requests)


@pytest.mark.parametrize(("status", "answer"), OF_CONTENT)
async def test_no_other_model_is_asked_for_what_was_refused_for_its_content(status, answer):
    assert await asked_of(status, answer) == ("refusal: True", 1)


@pytest.mark.parametrize(("status", "answer"), NO_ANSWER)
async def test_another_model_is_asked_where_an_endpoint_gave_no_answer(status, answer):
    assert await asked_of(status, answer) == ("small says yes", 2)
