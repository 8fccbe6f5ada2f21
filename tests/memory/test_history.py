"""What an agent sees of the turns before, in a window that does not hold them all."""

import itertools
import json

import pytest

from crew import (
    Agent,
    Budget,
    Context,
    GraphError,
    History,
    Message,
    ModelError,
    RunFailed,
    Runtime,
    workflow,
)
from crew.llm.cost import bound_by_bytes
from crew.llm.window import DEFAULT_WINDOW, listed_window, served_window, window_of
from crew.testing import ScriptedModel, ToolCall
from tests.core.lives import result, stores
from tests.memory.chats import WINDOW, Chat, question, stands_for


@pytest.mark.parametrize("kind", ["agent", "map", "twice"])
@pytest.mark.parametrize("options", [{}, {"summarise_with": True}, {"last": 4}])
async def test_every_prompt_fits_the_window_and_holds_whole_turns(memory, kind, options):
    chat = Chat(kind, **options)
    for number in range(12):
        assert await chat.turn(memory, number) == f"answer to question {number}"
    for request in chat.model.requests:
        assert bound_by_bytes(request) <= 2.5 * WINDOW  # as they are estimated
        roles = [message.role for message in request.messages[1:]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert stands_for(chat.asked[-1])


async def test_consecutive_prompts_begin_alike_but_at_compactions(memory):
    chat = Chat(summarise_with=True)
    for number in range(30):
        await chat.turn(memory, number)
    asked = chat.asked
    changes = sum(later[: len(earlier)] != earlier for earlier, later in itertools.pairwise(asked))
    assert changes == len(chat.summariser.requests)
    assert 3 <= changes <= 10


@pytest.mark.parametrize("kind", ["agent", "function", "tool", "handoff", "beside", "map"])
async def test_whoever_asks_the_agent_what_was_compacted_is_kept(runtime, kind):
    options = {} if kind == "handoff" else {"summarise_with": True}
    chat = Chat(kind, **options)
    for number in range(20):
        assert await chat.turn(runtime, number) == f"answer to question {number}"
        if stands_for(chat.asked[-1]):
            break
    made, before = len(chat.summariser.requests), chat.asked[-1]
    await chat.turn(runtime, number + 1)
    prompts = [asked for asked in chat.asked if asked[-1].role == "user"]
    assert stands_for(prompts[-1]) == stands_for(before)
    assert len(chat.summariser.requests) == made
    if kind == "beside":
        assert (await runtime.thread("t")).state["count"] == number + 2


async def test_the_summary_is_of_all_that_is_left_out_and_of_the_one_before(memory):
    chat = Chat(summarise_with=True)
    for number in range(30):
        await chat.turn(memory, number)
    first, second = (request.messages[-1].text for request in chat.summariser.requests[:2])
    assert first.startswith("User: question 0")
    assert "they spoke of" in second
    kept = stands_for(chat.asked[-1])
    assert kept is not None
    turns = int(kept.text.partition("first ")[2].partition(" ")[0])
    after = chat.asked[-1][chat.asked[-1].index(kept) + 2]
    assert after.text == question(turns)  # what follows it is the first turn that it does not hold


async def test_without_a_summariser_the_prompt_says_how_many_turns_are_left_out(memory):
    chat = Chat()
    for number in range(12):
        await chat.turn(memory, number)
    kept = stands_for(chat.asked[-1])
    assert kept is not None
    assert kept.text.startswith("[The first ")
    assert kept.text.endswith(" turns of this conversation are left out here.]")
    assert chat.summariser.requests == []


async def test_the_thread_keeps_all_that_was_said(runtime):
    chat = Chat(summarise_with=True)
    for number in range(14):
        await chat.turn(runtime, number)
    assert chat.summariser.requests
    thread = await runtime.thread("t")
    assert [message.text for message in thread.messages] == [
        text for n in range(14) for text in (question(n), f"answer to question {n}")
    ]
    assert dict(thread.state) == {}


async def test_last_bounds_the_turns_in_steps_of_half(memory):
    chat = Chat(last=4, window=100_000)
    for number in range(11):
        await chat.turn(memory, number)
    seen = [sum(message.text.startswith("question") for message in asked) for asked in chat.asked]
    assert seen == [1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5]


async def test_a_long_conversation_from_elsewhere_is_taken_in_pieces(memory):
    said = [Message(role, question(n)) for n in range(60) for role in ("user", "assistant")]
    await memory.open_thread("t", said)
    chat = Chat(summarise_with=True)
    assert await chat.turn(memory, 60) == "answer to question 60"
    assert len(chat.summariser.requests) > 3
    for request in chat.summariser.requests:
        assert bound_by_bytes(request) <= 2.5 * WINDOW
    await chat.turn(memory, 61)
    assert len(chat.model.requests) == 2


async def test_a_turn_that_fits_no_window_is_summarised_without_its_middle(memory):
    chat = Chat(summarise_with=True)
    long = "begin " + "x" * 20_000 + " end"
    await memory.open_thread("t", [Message("user", long), Message("assistant", "well")])
    await chat.turn(memory, 1)
    (request,) = chat.summariser.requests
    text = request.messages[-1].text
    assert "begin" in text
    assert "[…]" in text
    assert text.endswith("Assistant: well")


@pytest.mark.parametrize("failure", [ModelError(message="down"), "", "  "])
async def test_a_summary_that_cannot_be_had_fails_no_turn_and_is_asked_for_again(memory, failure):
    chat = Chat(summarise_with=True)
    summarise = chat.summarise
    chat.summariser._always = lambda request: failure
    for number in range(9):
        assert await chat.turn(memory, number) == f"answer to question {number}"
    assert stands_for(chat.asked[-1]).text.startswith("[The first")
    tried = len(chat.summariser.requests)
    chat.summariser._always = summarise
    await chat.turn(memory, 9)
    assert len(chat.summariser.requests) > tried > 1
    assert "they spoke of" in stands_for(chat.asked[-1]).text


async def test_tools_are_seen_where_that_is_asked_for(runtime):
    async def look(word: str) -> str:
        """Look a word up."""
        return f"{word} is a word"

    def reply(request):
        last = request.messages[-1]
        return ToolCall("look", {"word": last.text}) if last.role == "user" else "I looked"

    def flow_of(tools):
        model = ScriptedModel(reply)
        agent = Agent("desk", model=model, tools=[look], history=History(tools=tools))

        @workflow(name=f"chat {tools}")
        async def chat(ctx: Context, text: str) -> str:
            return (await ctx.run(agent, text)).output

        return chat, model

    for tools, expected in (
        (False, ["user", "assistant", "user"]),
        (True, ["user", "assistant", "tool", "assistant", "user"]),
    ):
        flow, model = flow_of(tools)
        for word in ("fish", "bird"):
            await result(await runtime.start(flow, word, thread=f"{tools}"))
        seen = model.requests[2].messages
        assert [message.role for message in seen] == expected
        if tools:
            assert seen[1].tool_calls[0].arguments == {"word": "fish"}
            assert seen[2].text == "fish is a word"


async def test_each_agent_has_a_compaction_of_its_own(memory):
    small, big = Chat(), Chat(window=100_000)
    big.agent.name = "other"

    @workflow(name="both")
    async def both(ctx: Context, text: str) -> str:
        await ctx.run(small.agent, text)
        return (await ctx.run(big.agent, text)).output

    for number in range(10):
        await result(await memory.start(both, question(number), thread="t"))
    assert stands_for(small.asked[-1])
    assert not stands_for(big.asked[-1])
    assert len(big.asked[-1]) == 2 + 2 * 9


async def test_messages_that_are_given_are_left_as_they_are(memory):
    chat = Chat()
    given = [Message("user", question(n)) for n in range(20)]

    @workflow(name="given")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(chat.agent, text, messages=given)).output

    await result(await memory.start(flow, "x", thread="t"))
    assert len(chat.asked[0]) == 22


async def test_a_fork_of_an_earlier_turn_sees_no_later_compaction(runtime):
    chat = Chat(summarise_with=True)
    runs = []
    for number in range(12):
        runs.append(await runtime.start(chat.flow, question(number), thread="t"))
        await result(runs[-1])
    first = next(n for n, asked in enumerate(chat.asked) if stands_for(asked))
    assert first > 2
    again = Chat(summarise_with=True)
    fork = await runtime.fork(runs[first - 1].id, at=1, override={"desk": again.agent})
    await result(fork)
    assert again.asked[0] == chat.asked[first - 1]
    fork = await runtime.fork(runs[-1].id, at=1, override={"desk": again.agent})
    await result(fork)
    assert again.asked[-1] == chat.asked[-1]


async def test_a_compaction_that_reaches_beyond_the_conversation_is_of_another_branch(memory):
    chat = Chat()
    await chat.turn(memory, 0)

    @workflow(name="chat 2")
    async def flow(ctx: Context, text: str) -> str:
        ctx._driver.thread_view().values[":history:desk"] = {"turns": 2, "text": "of another"}
        return (await ctx.run(chat.agent, text)).output

    await result(await memory.start(flow, "y", thread="t"))
    assert [message.text for message in chat.asked[-1][1:]] == [
        question(0),
        "answer to question 0",
        "y",
    ]


async def test_what_a_summary_costs_is_of_the_task(memory):
    chat = Chat(summarise_with=True)
    used = []

    @workflow(name="chat 3")
    async def flow(ctx: Context, text: str) -> str:
        used.append((await ctx.run(chat.agent, text)).usage.calls)
        return "done"

    for number in range(10):
        run = await memory.start(flow, question(number), thread="t")
        await result(run)
        assert (await run.usage())["calls"] == used[-1]
    assert max(used) == 2


async def test_a_budget_is_drawn_on_by_a_summary_and_may_refuse_it(memory):
    chat = Chat(summarise_with=True)
    await memory.open_thread("t", [Message(r, question(0)) for r in ("user", "assistant")] * 20)
    run = await memory.start(chat.flow, question(1), thread="t", budget=Budget(tokens=40_000))
    assert await result(run) == "answer to question 1"
    started = [e.data async for e in run.events() if e.kind == "model.started"]
    assert all(data["reserve"] for data in started)
    assert started[0]["history"] > 2
    assert question(0) not in json.dumps(started)  # it lies in a journal of its own
    chat = Chat(summarise_with=True)
    run = await memory.start(chat.flow, question(1), thread="t2", budget=Budget(tokens=700))
    await result(run)
    await memory.open_thread("t3", [Message(r, question(0)) for r in ("user", "assistant")] * 20)
    run = await memory.start(chat.flow, question(1), thread="t3", budget=Budget(tokens=700))
    with pytest.raises(RunFailed, match="tokens needed"):
        await result(run)


async def test_a_summary_is_no_part_of_the_answer_that_is_streamed(memory):
    chat = Chat(summarise_with=True)
    await memory.open_thread("t", [Message(r, question(0)) for r in ("user", "assistant")] * 20)

    @workflow(name="streamed")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(chat.agent, text, emit=True)).output

    run = await memory.start(flow, question(1), thread="t")
    await result(run)
    assert chat.summariser.requests
    emitted = [e.data["text"] async for e in run.events() if e.kind == "text.emitted"]
    assert "".join(emitted) == "answer to question 1"


async def test_what_opens_a_thread_may_begin_with_the_assistant(memory):
    said = [Message("assistant", question(0)), *[Message("user", question(n)) for n in range(9)]]
    await memory.open_thread("t", said)
    chat = Chat()
    await chat.turn(memory, 9)
    await chat.turn(memory, 10)
    assert chat.asked[1][: len(chat.asked[0])] == chat.asked[0]


async def test_a_replay_of_a_compaction_asks_no_model(runtime):
    chat = Chat(summarise_with=True)
    runs = []
    for number in range(8):
        runs.append(await runtime.start(chat.flow, question(number), thread="t"))
        await result(runs[-1])
    asked = len(chat.model.requests), len(chat.summariser.requests)
    for run in runs:
        assert await result(await runtime.replay(run.id)) == await run.result()
    assert (len(chat.model.requests), len(chat.summariser.requests)) == asked


@stores
async def test_another_process_goes_on_with_what_was_compacted(url):
    chat = Chat(summarise_with=True)
    async with Runtime(url) as runtime:
        while not chat.summariser.requests:
            await chat.turn(runtime, len(chat.asked))
    async with Runtime(url) as runtime:
        await chat.turn(runtime, len(chat.asked))
    assert len(chat.summariser.requests) == 1
    assert chat.asked[-1][: len(chat.asked[-2])] == chat.asked[-2]


def test_a_history_that_cannot_be_is_refused():
    with pytest.raises(GraphError, match="1 or more"):
        History(last=0)
    with pytest.raises(GraphError, match="names? of crew.toml|a name"):
        History(summarise_with=7)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="history= takes True"):
        Agent("x", history="yes")  # type: ignore[arg-type]


async def test_a_window_is_what_the_terms_say_else_the_engine_else_a_default():
    class Served(ScriptedModel):
        async def context_window(self):
            return 2048

    assert await window_of(Chat().model) == WINDOW
    assert await window_of(ScriptedModel()) == DEFAULT_WINDOW
    assert await window_of(Served()) == 2048

    class Listed:
        max_model_len = 512

    async def props(path):
        return {"default_generation_settings": {"n_ctx": 4096}} if path == "/props" else {}

    assert listed_window(Listed()) == 512
    assert listed_window(object()) is None
    assert await served_window(props) == 4096
