"""A recorded run replays without one call, or names the first difference."""

import asyncio

import pytest

from crew import Agent, Context, Diverged, Graph, InputInvalid, RunFailed, Runtime, tool, workflow
from crew.testing import ScriptedModel, ToolCall
from tests.core.flows import Answer, Finding, Question, Search, research


def counted():
    """A workflow of every kind of call, and the list of what really ran."""
    ran = []

    @tool(effect="read")
    async def look(word: str) -> str:
        """Look a word up."""
        ran.append("tool")
        return word.upper()

    async def act(idempotency_key: str) -> str:
        ran.append("effect")
        return "acted"

    async def plain(text: str) -> str:
        ran.append("function")
        return text

    model = ScriptedModel([ToolCall("look", {"word": "x"}), "found"])
    agent = Agent("finder", model=model, tools=[look])

    @workflow(name="all")
    async def every(ctx: Context, text: str) -> str:
        found = (await ctx.run(agent, text)).output
        acted = await ctx.effect(act, key="act")
        words = await ctx.map(plain, ["a", "b"])
        await ctx.sleep(0.01)
        ctx.emit("part")
        return f"{found} {acted} {words} {await ctx.random()}"

    return every, ran, model


async def test_a_replay_calls_nothing_and_comes_to_the_same(runtime):
    every, ran, model = counted()
    run = await runtime.start(every, "go", thread="t")
    output = await run.result()
    before = list(ran)
    same = await runtime.replay(run.id)
    assert await same.result() == output
    assert (ran, len(model.requests)) == (before, 2)
    assert [item.id for item in await runtime.runs()] == [run.id]


async def test_a_graph_replays(runtime):
    run = await runtime.start(research(), Question(text="c"))
    output = await run.result()
    assert await (await runtime.replay(run.id)).result() == output


async def test_a_replay_is_read_from_its_last_event_on(runtime):
    run = await runtime.start(research(), Question(text="c"))
    await run.result()
    for ended in (run, await runtime.replay(run.id)):
        *_, last = await ended.recorded()
        async with asyncio.timeout(5):
            assert [event async for event in ended.events(after=last.offset)] == []


async def test_a_turn_replays_on_the_conversation_that_it_had(runtime):
    @workflow
    async def reply(ctx: Context, text: str) -> str:
        return f"{len(ctx.thread.messages)} before {text}"

    for text, answer in (("a", "0 before a"), ("b", "2 before b"), ("c", "4 before c")):
        run = await runtime.start(reply, text, thread="t")
        assert await run.result() == answer
    for run, answer in zip(await runtime.runs(), ("4 before c", "2 before b"), strict=False):
        assert await (await runtime.replay(run.id)).result() == answer


async def test_a_failed_run_replays_to_its_failure(runtime):
    @workflow
    async def fails(ctx: Context) -> str:
        raise ValueError("broken")

    run = await runtime.start(fails)
    with pytest.raises(RunFailed):
        await run.result()
    with pytest.raises(RunFailed, match="ValueError: broken"):
        await (await runtime.replay(run.id)).result()


async def test_a_run_that_went_on_without_an_answer_replays(runtime):
    @workflow
    async def impatient(ctx: Context, text: str) -> str:
        asking = asyncio.ensure_future(ctx.ask(bool, "May I?", key="may"))
        said = await ctx.run(same, text)
        asking.cancel()
        return said

    run = await runtime.start(impatient, "a")
    assert await run.result() == "a"
    assert await (await runtime.replay(run.id)).result() == "a"


async def same(text: str) -> str:
    return text


def flow_of(*texts: str, end: str = ""):
    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        return "".join([await ctx.run(same, text) for text in texts]) + end

    return flow


def flow_that_asks(callee):
    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        await ctx.run(same, "a")
        await ctx.run(callee, "b")
        return "a"

    return flow


@workflow
async def child(ctx: Context, text: str) -> str:
    return text


def flow_of_tasks(end: str):
    @workflow(name="flow")
    async def flow(ctx: Context) -> str:
        async with asyncio.TaskGroup() as group:
            said = group.create_task(ctx.run(same, end))
        return said.result()

    return flow


async def test_a_call_that_diverges_in_a_task_of_a_group_diverges(url):
    async with Runtime(url) as runtime:
        run = await runtime.start(flow_of_tasks("a"))
        await run.result()
    async with Runtime(url, workflows=[flow_of_tasks("b")]) as runtime:
        with pytest.raises(Diverged, match=r"at flow\[0\]/run:0/same: the journal holds function"):
            await runtime.replay(run.id)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (flow_of("b"), r"at flow\[0\]/same: the journal holds function same:.* asks for function"),
        (flow_of("a", "b"), r"at flow\[0\]/same.1: the journal holds no result of a call"),
        (flow_that_asks(child), r"at flow\[0\]/child: .* no result of a call, .* asks for child"),
        (
            flow_that_asks(Agent("finder", model=ScriptedModel())),
            r"at flow\[0\]/finder: .* no result of a call, .* asks for agent finder",
        ),
        (flow_of("a", end="!"), "at the end: the journal holds run.completed with 'a', .*'a!'"),
    ],
)
async def test_changed_code_diverges_at_the_first_difference(url, changed, message):
    async with Runtime(url) as runtime:
        run = await runtime.start(flow_of("a"))
        await run.result()
    async with Runtime(url, workflows=[changed], worker=False) as runtime:
        with pytest.raises(Diverged, match=message):
            await runtime.replay(run.id)


async def test_a_run_that_has_not_ended_is_not_replayed(runtime):
    @workflow
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(60)

    run = await runtime.start(slow)
    with pytest.raises(InputInvalid, match="only one that ended is replayed"):
        await runtime.replay(run.id)


async def test_two_steps_that_diverge_at_once_are_told_once(runtime):
    asks_more = False

    async def more() -> str:
        return "more"

    graph = Graph("both", input=int, output=Answer)

    @graph.node
    async def plan(n: int) -> list[Search]:
        return [Search(query=str(item)) for item in range(n)]

    @graph.node
    async def look_up(ctx: Context, task: Search) -> Finding:
        return Finding(text=await ctx.run(more) if asks_more else task.query)

    @graph.node
    async def gather(findings: list[Finding]) -> Answer:
        return Answer(text="".join(finding.text for finding in findings))

    run = await runtime.start(graph, 2)
    await run.result()
    asks_more = True
    with pytest.raises(Diverged, match="no result of a call"):
        await runtime.replay(run.id)
