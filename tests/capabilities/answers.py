"""What agents are asked, and what they answer: types, checks, images, streams, bounds."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from crew import (
    Agent,
    Budget,
    BudgetExceeded,
    Context,
    File,
    Image,
    OutputInvalid,
    Runtime,
    ToolCall,
    tool,
)
from crew.fold import Text, folded
from tests.capabilities.capability import act, begin, capability, echo, model, writer
from tests.capabilities.tools import assistant


class City(BaseModel):
    name: str
    people: int


class Question(BaseModel):
    ask: str


@tool
def look_up(city: str) -> int:
    """Count the people of a city."""
    act(f"looked up {city}")
    return 126000


geographer = Agent("geographer", model=model("geographer"), output=City)


@capability(
    "typed output",
    says={"geographer": [City(name="Ulm", people=126000)]},
    struck="geographer 0",
    outcome=["Ulm", 126001],
)
async def typed_output(ctx: Context, text: str) -> list[Any]:
    city = (await ctx.run(geographer, text)).output
    return [city.name, city.people + 1]


census = Agent("census", model=model("census"), output=City, tools=[look_up])


@capability(
    "typed output with tools",
    says={
        "census": [
            ToolCall("look_up", {"city": "Ulm"}),
            ToolCall("final_answer", {"name": "Ulm", "people": 126000}),
        ]
    },
    struck="census 1: 126000",
    outcome=126000,
    acts=["looked up Ulm"],
)
async def typed_output_with_tools(ctx: Context, text: str) -> int:
    return (await ctx.run(census, text)).output.people


guide = Agent("guide", model=model("guide"), output=City | Question)


@capability(
    "union output",
    says={"guide": [{"answer": {"ask": "Which one?"}}, {"answer": {"name": "Ulm", "people": 1}}]},
    struck="guide 1",
    outcome=["Question", "City"],
)
async def union_output(ctx: Context, text: str) -> list[str]:
    first = await ctx.run(guide, text)
    then = await ctx.run(guide, "That on the Danube.", messages=first.messages)
    return [type(each.output).__name__ for each in (first, then)]


chatty = Agent("chatty", model=model("chatty"), output=City | str, tools=[look_up])


@capability(
    "text or typed output",
    says={"chatty": [ToolCall("look_up", {"city": "Bonn"}), "I would rather not say."]},
    struck="chatty 1",
    outcome="I would rather not say.",
    acts=["looked up Bonn"],
)
async def text_or_typed(ctx: Context, text: str) -> str:
    return (await ctx.run(chatty, text)).output


@dataclass
class Point:
    x: int
    y: int


surveyor = Agent("surveyor", model=model("surveyor"), output=list[Point])


@capability(
    "list output",
    says={"surveyor": [{"answer": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]},
    struck="surveyor 0",
    outcome=[3, 7],
)
async def list_output(ctx: Context, text: str) -> list[int]:
    points = (await ctx.run(surveyor, text)).output
    return [point.x + point.y for point in points]


def is_big(city: City) -> str | None:
    return None if city.people > 1000 else f"{city.name} is too small"


chooser = Agent("chooser", model=model("chooser"), output=City, check=is_big)


@capability(
    "output validators",
    says={"chooser": [City(name="Hum", people=30), City(name="Ulm", people=126000)]},
    struck="chooser 1",
    outcome="Ulm",
)
async def output_validators(ctx: Context, text: str) -> str:
    return (await ctx.run(chooser, text)).output.name


sloppy = Agent("sloppy", model=model("sloppy"), output=City, retries=2)


@capability(
    "output retries",
    says={"sloppy": ["Ulm, I think", {"name": "Ulm"}, City(name="Ulm", people=5)]},
    struck="sloppy 2",
    outcome=5,
)
async def output_retries(ctx: Context, text: str) -> int:
    return (await ctx.run(sloppy, text)).output.people


@capability(
    "an output that stays invalid",
    says={"geographer": ["Ulm", "Ulm!"]},
    struck="geographer 1",
    outcome="no answer",
)
async def invalid_output(ctx: Context, text: str) -> str:
    try:
        return (await ctx.run(geographer, text)).output.name
    except OutputInvalid:
        return "no answer"


tireless = Agent("tireless", model=model("tireless"), tools=[look_up], max_turns=3)


@capability(
    "a limit of turns",
    says={
        "tireless": [
            ToolCall("look_up", {"city": "Linz"}),
            ToolCall("look_up", {"city": "Graz"}),
            lambda body: "tools" if body.get("tools") else "Enough of it.",
        ]
    },
    struck="tireless 2",
    outcome="Enough of it.",
    acts=["looked up Linz", "looked up Graz"],
)
async def limit_of_turns(ctx: Context, text: str) -> str:
    return (await ctx.run(tireless, text)).output


async def streamed(runtime: Runtime) -> list[str]:
    run = await begin(runtime, "streaming text")
    answer = await run.result()
    return [answer, str(folded(await run.recorded(), Text()))]


@capability(
    "streaming text",
    says={"assistant": [ToolCall("book", {"city": "Trier"}), "Trier is old and has a gate."]},
    struck="assistant 1",
    outcome=["Trier is old and has a gate.", "Trier is old and has a gate."],
    acts=["booked Trier"],
    drive=streamed,
)
async def streaming_text(ctx: Context, text: str) -> str:
    return (await ctx.run(assistant, text, emit=True)).output


PNG = Image(bytes.fromhex("89504e470d0a1a0a"), "image/png")


def what_is_seen(body: Any) -> str:
    return ", ".join(part["type"] for part in body["messages"][0]["content"])


@capability(
    "multimodal input",
    says={"writer": {0: what_is_seen, 1: "A gate."}},
    struck="writer 1",
    outcome=["text, image_url", "A gate.", True],
)
async def multimodal_input(ctx: Context, text: str) -> list[Any]:
    first = await ctx.run(writer, [text, PNG])
    then = await ctx.run(writer, "What is it?", messages=first.messages)
    return [first.output, then.output, then.messages[0].text == "What is it?"]


@capability(
    "file input",
    says={"writer": [what_is_seen]},
    struck="writer 0",
    outcome="text, file, text",
)
async def file_input(ctx: Context, text: str) -> str:
    contract, note = File("contract.pdf", b"%PDF-1.7"), File("note.txt", b"Sign here.")
    return (await ctx.run(writer, [text, contract, note])).output


@capability(
    "usage of tokens",
    says={"assistant": [ToolCall("book", {"city": "Kiel"}), "It has a port."]},
    struck="assistant 1",
    outcome=[2, 20, 10],
    acts=["booked Kiel"],
)
async def usage(ctx: Context, text: str) -> list[int]:
    spent = (await ctx.run(assistant, text)).usage
    return [spent.calls, spent.input_tokens, spent.output_tokens]


@capability(
    "usage limits",
    calls=1,
    struck="echo 0",
    outcome="5 tokens are too few!",
)
async def usage_limits(ctx: Context, text: str) -> str:
    try:
        said = (await ctx.run(assistant, text, budget=Budget(tokens=5, strict=True))).output
    except BudgetExceeded:
        said = "5 tokens are too few"
    return (await ctx.run(echo, f"{text}: {said}", budget=Budget(calls=9))).output
