"""Conversations and runs as their callers see them: threads, forks, replays, events, tenants."""

from typing import Any

from crew import Agent, Context, Message, Runtime
from crew.fold import Text, folded
from tests.capabilities.capability import act, begin, capability, echo, model, writer

friend = Agent("friend", model=model("friend"), history=True)


async def two_turns(runtime: Runtime) -> list[str]:
    first = await begin(runtime, "thread memory", "I am Eva.", thread="memory")
    said = await first.result()
    second = await begin(runtime, "thread memory", "Who am I?", thread="memory")
    return [said, await second.result()]


@capability(
    "thread memory",
    says={"friend": ["Hello, Eva.", lambda body: f"{len(body['messages'])} messages: Eva."]},
    struck="friend 1",
    outcome=["Hello, Eva.", "3 messages: Eva."],
    drive=two_turns,
)
async def thread_memory(ctx: Context, text: str) -> str:
    return (await ctx.run(friend, text)).output


async def queued(runtime: Runtime) -> list[str]:
    turns = [
        await begin(runtime, "turns in their order", each, thread="queue") for each in ("1", "2")
    ]
    said = [await turn.result() for turn in turns]
    thread = await runtime.thread("queue")
    return [*said, " ".join(message.text for message in thread.messages if message.role == "user")]


@capability(
    "turns in their order",
    calls=2,
    struck="echo 0: turns in their order: 1",
    outcome=["1!", "2!", "turns in their order: 1 turns in their order: 2"],
    acts=["turn 1", "turn 2"],
    drive=queued,
)
async def turns_in_order(ctx: Context, text: str) -> str:
    said = (await ctx.run(echo, text)).output
    await ctx.effect(act, f"turn {said[0]}")
    return said


async def opened(runtime: Runtime) -> str:
    if not (await runtime.thread("imported")).messages:
        before = [Message("user", "imported history: hi"), Message("assistant", "Hello.")]
        await runtime.open_thread("imported", before)
    run = await begin(runtime, "imported history", "go on", thread="imported")
    return await run.result()


@capability(
    "imported history",
    says={"friend": {1: "We have met."}},
    struck="friend 1: imported history: go on",
    outcome="We have met.",
    drive=opened,
)
async def imported_history(ctx: Context, text: str) -> str:
    return (await ctx.run(friend, text)).output


@capability(
    "tenant and metadata",
    calls=1,
    struck="echo 0",
    outcome="default gold!",
    options={"metadata": {"plan": "gold"}},
)
async def tenant_and_metadata(ctx: Context, text: str) -> str:
    said = f"{ctx.tenant} {ctx.metadata['plan']}"
    return (await ctx.run(echo, f"{text}: {said}")).output


async def watched(runtime: Runtime) -> list[Any]:
    run = await begin(runtime, "progress and emitted text")
    result = await run.result()
    events = [event async for event in run.events()]
    told = [event.data["text"] for event in events if event.kind == "progress.made"]
    dense = [event.offset for event in events] == list(range(1, len(events) + 1))
    return [result, "half way" in told, str(folded(events, Text())), dense]


@capability(
    "progress and emitted text",
    calls=1,
    struck="echo 0",
    outcome=["done!", True, "one two ", True],
    drive=watched,
)
async def progress(ctx: Context, text: str) -> str:
    ctx.emit("one ")
    ctx.progress("half way")
    said = (await ctx.run(echo, f"{text}: done")).output
    ctx.emit("two ")
    return said


async def replayed(runtime: Runtime) -> list[Any]:
    run = await begin(runtime, "replay")
    live = await run.result()
    return [live, await (await runtime.replay(run.id)).result()]


@capability(
    "replay",
    calls=2,
    struck="echo 0: replay: two",
    outcome=["one! two!", "one! two!"],
    acts=["acted live"],
    drive=replayed,
)
async def replay(ctx: Context, text: str) -> str:
    one = (await ctx.run(echo, f"{text}: one")).output
    await ctx.effect(act, "acted live")
    return f"{one} {(await ctx.run(echo, f'{text}: two')).output}"


async def forked(runtime: Runtime) -> list[str]:
    run = await begin(runtime, "time travel")
    done = await run.result()
    ends = [event.offset for event in await run.recorded() if event.kind == "agent.completed"]
    fork = await runtime.fork(run.id, at=ends[0], override={"writer": echo})
    return [done, await fork.result()]


@capability(
    "time travel",
    says={"writer": lambda body: "soup" if "starter" in str(body) else "cake"},
    calls=3,
    struck="writer 0: time travel: dessert",
    outcome=["soup, cake", "soup, dessert!"],
    acts=["shopped"],
    drive=forked,
)
async def time_travel(ctx: Context, text: str) -> str:
    await ctx.effect(act, "shopped")
    first = (await ctx.run(writer, f"{text}: starter")).output
    return f"{first}, {(await ctx.run(writer, f'{text}: dessert')).output}"


async def improved(runtime: Runtime) -> list[str]:
    run = await begin(runtime, "an experiment on a recorded run")
    done = await run.result()
    fork = await runtime.fork(run.id, override={"writer": echo})
    return [done, await fork.result()]


@capability(
    "an experiment on a recorded run",
    says={"writer": ["bad"]},
    calls=3,
    struck="writer 0",
    outcome=["essay! bad", "essay! grade essay!!"],
    drive=improved,
)
async def experiment(ctx: Context, text: str) -> str:
    essay = (await ctx.run(echo, f"{text}: essay")).output
    return f"{essay} {(await ctx.run(writer, f'{text}: grade {essay}')).output}"
