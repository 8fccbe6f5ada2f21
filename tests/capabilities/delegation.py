"""Agents that work together: as tools, by handoffs, in the patterns that other frameworks name."""

import asyncio
from typing import Literal

from pydantic import BaseModel

from crew import Agent, Context, Message, ToolCall
from tests.capabilities.capability import Body, capability, echo, model, writer
from tests.capabilities.tools import assistant

boss = Agent(
    "boss",
    model=model("boss"),
    tools=[
        writer,
        writer.as_tool("researcher", "Finds facts."),
        writer.as_tool("mathematician", "Does sums."),
        assistant,
    ],
)


@capability(
    "agents as tools",
    says={
        "boss": [ToolCall("mathematician", {"text": "agents as tools: 6 * 7"}), "It is 42."],
        "writer": ["42"],
    },
    struck="writer 0",
    outcome=["42", "It is 42."],
)
async def agents_as_tools(ctx: Context, text: str) -> list[str]:
    answer = await ctx.run(boss, text)
    return [answer.messages[-2].text, answer.output]


@capability(
    "parallel agents as tools",
    says={
        "boss": [
            [
                ToolCall("writer", {"text": "parallel agents as tools: sun"}),
                ToolCall("researcher", {"text": "parallel agents as tools: moon"}),
            ],
            lambda body: " ".join(message["content"] for message in body["messages"][-2:]),
        ],
        "writer": lambda body: f"O {body['messages'][-1]['content'].rpartition(' ')[2]}",
    },
    calls=4,
    struck="writer 0: parallel agents as tools: moon",
    outcome="O sun O moon",
)
async def parallel_agents(ctx: Context, text: str) -> str:
    return (await ctx.run(boss, text)).output


director = Agent("director", model=model("director"), tools=[boss])


@capability(
    "a hierarchy of agents",
    says={
        "director": [ToolCall("boss", {"text": "a hierarchy of agents: a room"}), "All is well."],
        "boss": [
            ToolCall("assistant", {"text": "a hierarchy of agents: in Cork"}),
            "There is a room.",
        ],
        "assistant": [ToolCall("book", {"city": "Cork"}), "Cork is booked."],
    },
    struck="assistant 1",
    outcome="All is well.",
    acts=["booked Cork"],
)
async def hierarchy(ctx: Context, text: str) -> str:
    return (await ctx.run(director, text)).output


@capability(
    "supervisor",
    says={
        "boss": [
            ToolCall("researcher", {"text": "supervisor: find facts"}),
            ToolCall("writer", {"text": "supervisor: write them down"}),
            "The report is written.",
        ],
        "writer": lambda body: "facts" if "find" in str(body) else "a report",
    },
    calls=5,
    struck="writer 0: supervisor: write",
    outcome="The report is written.",
)
async def supervisor(ctx: Context, text: str) -> str:
    return (await ctx.run(boss, text)).output


desk = Agent("desk", model=model("desk"), handoffs=[assistant, writer])


@capability(
    "handoffs",
    says={
        "desk": [ToolCall("transfer_to_assistant")],
        "assistant": {1: ToolCall("book", {"city": "Nice"}), 2: "Nice is booked."},
    },
    struck="assistant 2",
    outcome=["assistant", "Nice is booked."],
    acts=["booked Nice"],
)
async def handoffs(ctx: Context, text: str) -> list[str]:
    answer = await ctx.run(desk, text)
    return [answer.agent, answer.output]


entrance = Agent("entrance", model=model("entrance"), handoffs=[desk])


@capability(
    "swarm",
    says={
        "entrance": [ToolCall("transfer_to_desk")],
        "desk": {1: ToolCall("transfer_to_writer")},
        "writer": {2: "Here I am.", 3: "Still here."},
    },
    struck="writer 2",
    outcome=["writer", 3, "Still here."],
)
async def swarm(ctx: Context, text: str) -> list[object]:
    answer = await ctx.run(entrance, text)
    again = await ctx.run(writer, "And now?", messages=answer.messages)
    return [answer.agent, answer.usage.calls, again.output]


class Plan(BaseModel):
    steps: list[str]


planner = Agent("planner", model=model("planner"), output=Plan)


@capability(
    "plan and execute",
    says={"planner": [Plan(steps=["dig", "plant", "water"])]},
    calls=4,
    struck="echo 0: plan and execute: water",
    outcome=["dig!", "plant!", "water!"],
)
async def plan_and_execute(ctx: Context, text: str) -> list[str]:
    plan = (await ctx.run(planner, text)).output
    return [(await ctx.run(echo, f"{text}: {step}")).output for step in plan.steps]


class Verdict(BaseModel):
    good: bool


critic = Agent("critic", model=model("critic"), output=Verdict)


@capability(
    "reflection",
    says={
        "writer": ["A bad draft.", "A good draft."],
        "critic": lambda body: Verdict(good="good" in body["messages"][-1]["content"]),
    },
    calls=4,
    struck="critic 0: reflection: A good",
    outcome="A good draft.",
)
async def reflection(ctx: Context, text: str) -> str:
    draft = await ctx.run(writer, text)
    messages = list(draft.messages)
    while not (await ctx.run(critic, f"{text}: {draft.output}")).output.good:
        draft = await ctx.run(writer, "Again, please.", messages=messages)
        messages += draft.messages
    return draft.output


def speech(body: Body) -> str:
    return f"{len(body['messages'])} messages"


@capability(
    "debate",
    says={"writer": speech},
    calls=4,
    struck="writer 1: 3 messages",
    outcome=["1 messages", "1 messages", "3 messages", "3 messages"],
)
async def debate(ctx: Context, text: str) -> list[str]:
    said = list[str]()
    heard: dict[str, tuple[Message, ...]] = {"optimist": (), "pessimist": ()}
    for speaker in ("optimist", "pessimist", "optimist", "pessimist"):
        told = said[-1] if heard[speaker] else f"{text}: {speaker}"
        answer = await ctx.run(writer, told, messages=heard[speaker])
        heard[speaker] += answer.messages
        said.append(answer.output)
    return said


class Route(BaseModel):
    to: Literal["refund", "repair"]


router = Agent("router", model=model("router"), output=Route)


@capability(
    "routing",
    says={"router": [Route(to="repair")]},
    calls=2,
    struck="echo 0: routing: repair",
    outcome="repair!",
)
async def routing(ctx: Context, text: str) -> str:
    route = (await ctx.run(router, text)).output
    return (await ctx.run(echo, f"{text}: {route.to}")).output


@capability(
    "prompt chaining",
    calls=3,
    struck="echo 0: prompt chaining: draft!!",
    outcome="draft!!!",
)
async def prompt_chaining(ctx: Context, text: str) -> str:
    said = "draft"
    for _ in range(3):
        said = (await ctx.run(echo, f"{text}: {said}")).output
    return said


@capability(
    "voting",
    calls=4,
    struck="echo 0: voting: judge",
    outcome="judge a!b!c!!",
)
async def voting(ctx: Context, text: str) -> str:
    votes = await asyncio.gather(*(ctx.run(echo, f"{text}: {each}") for each in "abc"))
    every = "".join(vote.output for vote in votes)
    return (await ctx.run(echo, f"{text}: judge {every}")).output


@capability(
    "message history",
    says={"writer": speech},
    calls=3,
    struck="writer 2",
    outcome=["1 messages", "3 messages", "5 messages"],
)
async def message_history(ctx: Context, text: str) -> list[str]:
    one = await ctx.run(writer, text)
    two = await ctx.run(writer, "And then?", messages=one.messages)
    three = await ctx.run(writer, "And then?", messages=[*one.messages, *two.messages])
    return [one.output, two.output, three.output]
