"""Conversations in tests: an agent with a small window, and what it was asked."""

from typing import Any

from crew import Agent, Context, History, Message, Runtime, ToolCall, workflow
from crew.llm import ModelRequest
from crew.llm.terms import Terms
from crew.testing import ScriptedModel
from tests.core.lives import result

WINDOW = 1024
FIRST_WORDS = ("[A summary of the first", "[The first")


class Chat:
    """An agent and the workflow that asks it; each question is `question n` and 200 more bytes.

    Args:
        kind: who asks it: `agent`, `map`, `twice`, `function`, `tool` (of an agent in front),
            `handoff` (of a front that has a history, and it has none) or `beside` (a tool that
            keeps something with the thread, too).
        options: of `History`; `summarise_with` True makes one of its own.
    """

    def __init__(self, kind: str = "agent", *, window: int = WINDOW, **options: Any) -> None:
        self.summariser = ScriptedModel(self.summarise, terms=Terms(context_window=window))
        if options.get("summarise_with") is True:
            options["summarise_with"] = self.summariser
        self.model = ScriptedModel(self.reply, terms=Terms(context_window=window))
        seen = History(**options)
        history: Any = False if kind == "handoff" else seen
        tools = [self.count] if kind == "beside" else []
        self.agent = Agent(
            "desk", model=self.model, instructions="Be brief.", history=history, tools=tools
        )
        front = ScriptedModel(self.front)
        self.asker = Agent(
            "front",
            model=front,
            tools=[self.agent] if kind == "tool" else [],
            handoffs=[self.agent] if kind == "handoff" else [],
            history=seen if kind == "handoff" else False,
        )
        self.kind = kind
        self.flow = workflow(name="chat")(self.chat)

    async def count(self, ctx: Context) -> str:
        """Count."""
        ctx.thread.state["count"] = ctx.thread.state.get("count", 0) + 1
        return "counted"

    async def chat(self, ctx: Context, text: str) -> str:
        async def helper() -> str:
            return (await ctx.run(self.agent, text)).output

        match self.kind:
            case "map":
                (found,) = await ctx.map(self.agent, [text])
            case "twice":
                await ctx.run(self.agent, f"again {text}")
                found = await ctx.run(self.agent, text)
            case "function":
                return await ctx.run(helper)
            case "tool" | "handoff":
                found = await ctx.run(self.asker, text)
            case _:
                found = await ctx.run(self.agent, text)
        return found.output

    def front(self, request: ModelRequest) -> Any:
        last = request.messages[-1]
        if last.role == "tool":
            return last.text
        if self.kind == "handoff":
            return ToolCall("transfer_to_desk")
        return ToolCall("desk", {"text": last.text})

    def reply(self, request: ModelRequest) -> Any:
        asked = next(each for each in reversed(request.messages) if each.role == "user")
        if self.kind == "beside" and asked is request.messages[-1]:
            return ToolCall("count")
        return f"answer to {asked.text.partition(':')[0]}"

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
