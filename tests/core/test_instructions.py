"""Instructions may be a function of the context, which writes them once for each call."""

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest

from crew import Agent, Context, Retry, RunFailed, Runtime, ToolCall, tool, workflow
from crew.errors import GraphError, StoreError
from crew.journal.opening import open_store
from crew.testing import CrashingStore, ScriptedModel, simulate
from tests.core.lives import SECONDS, result, stores

THREAD = "t"


def first_words(request: Any) -> str:
    """Say what the prompt begins with."""
    return f"{request.messages[0].role}: {request.messages[0].text}"


def asked_by(agent: Agent[Any]) -> Any:
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        ctx.thread.state["name"] = text
        return (await ctx.run(agent, text)).output

    return flow


async def test_it_reads_the_context_of_its_run(runtime):
    def written(ctx: Context) -> str:
        return f"Help {ctx.thread.state['name']} of {ctx.tenant}."

    flow = asked_by(Agent("helper", instructions=written, model=ScriptedModel(first_words)))
    run = await runtime.start(flow, "eva", thread=THREAD)
    assert await result(run) == "system: Help eva of default."


async def test_an_async_one_may_call(runtime):
    async def written(ctx: Context) -> str:
        return f"The name has {await ctx.run(len, 'eva')} letters, and it is {await ctx.now() > 0}."

    flow = asked_by(Agent("helper", instructions=written, model=ScriptedModel(first_words)))
    run = await runtime.start(flow, "eva", thread=THREAD)
    assert await result(run) == "system: The name has 3 letters, and it is True."
    paths = [event.path for event in await run.recorded() if event.kind == "function.completed"]
    assert paths == ["flow[0]/helper/:instructions/len", "flow[0]/helper/:instructions"]


class Talk:
    """An agent that writes its instructions anew each time, asks a tool, and hands on."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.begun: list[str] = []

        async def written(ctx: Context) -> str:
            self.written["first"] += 1
            return f"Number {self.written['first']}, {await ctx.run(str.upper, 'a')}."

        def of_next(ctx: Context) -> str:
            self.written["next"] += 1
            return f"Next {self.written['next']}."

        @tool(effect="idempotent")
        def look() -> str:
            """Look."""
            return "seen"

        def reply(request: Any) -> Any:
            self.begun.append(request.messages[0].text)
            called = {call.name for m in request.messages for call in m.tool_calls}
            if "look" not in called:
                return ToolCall("look")
            return ToolCall("transfer_to_next")

        def of_handed(request: Any) -> str:
            self.begun.append(request.messages[0].text)
            return "done"

        after = Agent("next", instructions=of_next, model=ScriptedModel(of_handed))
        agent = Agent(
            "first",
            instructions=written,
            model=ScriptedModel(reply),
            tools=[look],
            handoffs=[after],
        )

        @workflow(name="talk")
        async def talk(ctx: Context, text: str) -> str:
            return (await ctx.run(agent, text)).output

        self.flow = talk


async def crashed(url: str, after: int) -> None:
    talk = Talk()
    kept = open_store(url)
    try:
        store = CrashingStore(kept, after=after)
        async with Runtime(store, workflows=[talk.flow]) as runtime:
            run = await runtime.start(talk.flow, "x", key="one")
            async with asyncio.timeout(SECONDS):
                while not store.is_down and await run.status() == "running":
                    await asyncio.sleep(0.002)
        async with Runtime(kept, workflows=[talk.flow]) as runtime:
            run = await runtime.start(talk.flow, "x", key="one")
            assert await result(run) == "done"
            before = talk.written.copy()
            assert await result(await runtime.replay(run.id)) == "done"
            assert talk.written == before
            prompts = _prompts(await run.recorded())
    finally:
        with contextlib.suppress(StoreError):
            kept.close()
    assert len(prompts["first"]) == len(prompts["next"]) == 1
    # Once it is on record it is not written again; what a crash lost may be.
    assert sum(talk.written.values()) <= 3


def _prompts(events: list[Any]) -> dict[str, set[str]]:
    """Return what the prompts of each agent began with, by the requests that were made."""
    found: dict[str, set[str]] = {"first": set(), "next": set()}
    for event in events:
        if event.kind == "model.started":
            who = event.path.split("/")[-2]
            begin = [m["text"] for m in event.data["messages"] if m["role"] == "system"]
            found[who].update(begin)
    return found


@pytest.mark.parametrize("after", range(2, 20))
async def test_a_crash_anywhere_sends_the_same_text(tmp_path, after):
    await crashed(f"sqlite:///{tmp_path}/runs.db", after)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize("after", [5, 10])
async def test_so_does_one_on_postgresql(url, after):
    await crashed(url, after)


def test_it_survives_a_simulation():
    talk = Talk()
    assert simulate(talk.flow, "x", seeds=15).output == "done"


@stores
async def test_an_agent_that_waits_goes_on_with_what_was_written_for_it(url):
    numbers = iter(range(1, 10))

    def written(ctx: Context) -> str:
        return f"Number {next(numbers)}."

    @tool
    async def wait(ctx: Context) -> str:
        """Wait for a person."""
        return str(await ctx.ask(bool, "go?", key="go"))

    begun: list[str] = []

    def reply(request: Any) -> Any:
        begun.append(request.messages[0].text)
        return "done" if request.messages[-1].role == "tool" else ToolCall("wait")

    agent = Agent("agent", instructions=written, tools=[wait], model=ScriptedModel(reply))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "x")
        async with asyncio.timeout(SECONDS):
            while not await run.questions():
                await asyncio.sleep(0.01)
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.get(run.id)
        await run.answer("go", True)
        assert await result(run) == "done"
    assert begun == ["Number 1.", "Number 1."]


async def test_each_call_and_each_attempt_has_its_own(memory):
    numbers = iter(range(1, 10))

    def written(ctx: Context) -> str:
        if (number := next(numbers)) == 2:
            raise OSError("for a moment")
        return f"Number {number}."

    agent = Agent("agent", instructions=written, model=ScriptedModel(first_words))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> list[str]:
        first = await ctx.run(agent, text)
        second = await ctx.run(agent, text, retry=Retry(attempts=2, first_delay=0.001))
        return [first.output, second.output]

    run = await memory.start(flow, "x")
    assert await result(run) == ["system: Number 1.", "system: Number 3."]
    assert await result(await memory.replay(run.id)) == ["system: Number 1.", "system: Number 3."]


async def test_what_it_raises_fails_the_call(memory):
    def written(ctx: Context) -> str:
        raise LookupError("nobody of that name")

    agent = Agent("agent", instructions=written, model=ScriptedModel(first_words))

    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        try:
            return (await ctx.run(agent, text)).output
        except LookupError as error:
            return f"caught: {error}"

    run = await memory.start(flow, "x")
    assert await result(run) == "caught: nobody of that name"
    assert await result(await memory.replay(run.id)) == "caught: nobody of that name"


async def test_what_is_no_text_fails_the_call(memory):
    agent = Agent("agent", instructions=lambda ctx: 5, model=ScriptedModel(first_words))
    with pytest.raises(RunFailed, match="its instructions= gave 5, not a text"):
        await result(await memory.start(asked_by(agent), "x", thread=THREAD))


async def test_a_fork_with_another_agent_asks_that_ones_function(memory):
    def one(ctx: Context) -> str:
        return "One."

    def other(ctx: Context) -> str:
        return "Other."

    run = await memory.start(
        asked_by(Agent("agent", instructions=one, model=ScriptedModel(first_words))),
        "x",
        thread=THREAD,
    )
    assert await result(run) == "system: One."
    better = Agent("agent", instructions=other, model=ScriptedModel(first_words))
    fork = await memory.fork(run.id, override={"agent": better})
    assert await result(fork) == "system: Other."


async def test_a_fork_asks_a_changed_function_of_the_same_name(memory):
    def agent(words: str) -> Agent:
        return Agent("agent", instructions=lambda ctx: words, model=ScriptedModel(first_words))

    run = await memory.start(asked_by(agent("One.")), "x", thread=THREAD)
    assert await result(run) == "system: One."
    fork = await memory.fork(run.id, override={"agent": agent("Two.")})
    assert await result(fork) == "system: Two."
    assert await result(await memory.fork(run.id)) == "system: One."


async def test_outside_a_run_it_gets_what_there_is():
    agent = Agent(
        "agent",
        instructions=lambda ctx: f"In run {ctx.run_id!r}.",
        model=ScriptedModel(first_words),
    )
    assert (await agent.run("x")).output == "system: In run ''."

    def needs_a_thread(ctx: Context) -> str:
        return ctx.thread.id

    agent = Agent("agent", instructions=needs_a_thread, model=ScriptedModel(first_words))
    with pytest.raises(GraphError, match="ctx.thread needs a run"):
        await agent.run("x")


def test_another_agent_is_not_told_what_only_a_run_writes():
    def written(ctx: Context) -> str:
        """Write the instructions."""
        return "Secret."

    asked = Agent("asked", instructions=written).as_tool()
    assert asked.description == "Ask the agent asked."


def of_two(ctx: Context, agent: Any) -> str:
    return ""


def of_none() -> str:
    return ""


def of_a_name(*, ctx: Context) -> str:
    return ""


def of_a_number(ctx: Context) -> int:
    return 1


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [
        (of_two, "function of the context alone"),
        (of_none, "function of the context alone"),
        (of_a_name, "function of the context alone"),
        (of_a_number, "returns a text"),
        (Talk, "a text, or a function"),
        (5, "a text, or a function"),
        (None, "a text, or a function"),
    ],
)
def test_what_cannot_write_is_refused_when_the_agent_is_made(instructions, reason):
    with pytest.raises(GraphError, match=reason):
        Agent("agent", instructions=instructions)
