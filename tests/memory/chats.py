"""Conversations in tests: an agent with a small window, and what it was asked."""

from typing import Any

from crew import Agent, Context, History, Message, Runtime, workflow
from crew.llm import ModelRequest
from crew.llm.terms import Terms
from crew.testing import ScriptedModel
from tests.core.lives import result

WINDOW = 1024
FIRST_WORDS = ("[A summary of the first", "[The first")


class Chat:
    """An agent and the workflow that asks it; each question is `question n` and 200 more bytes.

    Args:
        kind: `agent`, `tool` (of an agent in front), `map`, `function` or `twice`: who asks it.
        options: of `History`; `summarise_with` True makes one of its own.
    """

    def __init__(self, kind: str = "agent", *, window: int = WINDOW, **options: Any) -> None:
        self.summariser = ScriptedModel(self.summarise, terms=Terms(context_window=window))
        if options.get("summarise_with") is True:
            options["summarise_with"] = self.summariser
        self.model = ScriptedModel(self.reply, terms=Terms(context_window=window))
        self.agent = Agent(
            "desk", model=self.model, instructions="Be brief.", history=History(**options)
        )
        self.kind = kind
        self.flow = workflow(name="chat")(self.chat)

    async def chat(self, ctx: Context, text: str) -> str:
        match self.kind:
            case "map":
                (found,) = await ctx.map(self.agent, [text])
            case "twice":
                await ctx.run(self.agent, f"again {text}")
                found = await ctx.run(self.agent, text)
            case _:
                found = await ctx.run(self.agent, text)
        return found.output

    def reply(self, request: ModelRequest) -> str:
        return f"answer to {request.messages[-1].text.partition(':')[0]}"

    def summarise(self, request: ModelRequest) -> str:
        return f"they spoke of {request.messages[-1].text.count('question')} questions"

    async def turn(self, runtime: Runtime, number: int, thread: str = "t") -> str:
        run = await runtime.start(self.flow, question(number), thread=thread)
        return await result(run)

    @property
    def asked(self) -> list[tuple[Message, ...]]:
        """The messages of each request."""
        return [request.messages for request in self.model.requests]


def question(number: int) -> str:
    return f"question {number}: {'words ' * 33}"


def stands_for(messages: tuple[Message, ...]) -> Message | None:
    """Return what stands for older turns in a prompt."""
    return next((each for each in messages if each.text.startswith(FIRST_WORDS)), None)
