"""What agents see on a branch of a conversation, and what becomes of its notes."""

import pytest

from crew import Agent, Context, History, Message, Runtime, tool, workflow
from crew.testing import ScriptedModel, ToolCall
from tests.core.lives import result, stores
from tests.memory.chats import Chat, stands_for
from tests.memory.test_notes import done, family, keep, look


def heard(messages: tuple[Message, ...]) -> list[str]:
    """The numbers of the questions of a prompt."""
    texts = [message.text for message in messages if message.role == "user"]
    return [text.split()[1].strip(":") for text in texts if text.startswith("question")]


@pytest.mark.parametrize("options", [{}, {"summarise_with": True}])
@stores
async def test_branch_sees_its_own_turns_and_no_summary_of_what_came_later(url, options):
    chat = Chat(**options)
    async with Runtime(url) as runtime:
        for number in range(10):
            await chat.turn(runtime, number)
        assert stands_for(chat.asked[-1])
        await runtime.branch_thread("b", base="t", turn=2)
        await chat.turn(runtime, 50, "b")
        assert stands_for(chat.asked[-1]) is None
        assert heard(chat.asked[-1]) == ["0", "1", "50"]
        await chat.turn(runtime, 10)
        assert stands_for(chat.asked[-1])


@stores
async def test_branch_goes_on_with_the_summary_of_its_base_and_makes_its_own(url):
    chat = Chat(summarise_with=True)
    async with Runtime(url) as runtime:
        for number in range(10):
            await chat.turn(runtime, number)
        before, made = stands_for(chat.asked[-1]), len(chat.summariser.requests)
        assert before is not None
        await runtime.branch_thread("b", base="t", turn=10)
        await chat.turn(runtime, 50, "b")
        assert stands_for(chat.asked[-1]) == before
        assert len(chat.summariser.requests) == made
        while len(chat.summariser.requests) == made:
            await chat.turn(runtime, 51, "b")
        assert (own := stands_for(chat.asked[-1])) is not None
        assert own != before
        await chat.turn(runtime, 10)
        assert stands_for(chat.asked[-1]) != own


async def test_branch_without_the_turns_of_a_summary_does_not_see_it(runtime):
    """A branch on turn 0 or on nothing has none of what its base has compacted."""
    chat = Chat(summarise_with=True)
    for number in range(10):
        await chat.turn(runtime, number)
    for turn in (0, -1):
        await runtime.branch_thread(
            f"b{turn}", [Message("user", "question x")], base="t", turn=turn
        )
        await chat.turn(runtime, 50, f"b{turn}")
        assert heard(chat.asked[-1]) == ["x", "50"]
        assert stands_for(chat.asked[-1]) is None


@tool(effect="read")
async def number_of(word: str) -> str:
    """Return the number of a word."""
    return f"no. {len(word)}"


def counted(request) -> object:
    last = request.messages[-1]
    return (
        f"it is {last.text}" if last.role == "tool" else ToolCall("number_of", {"word": last.text})
    )


@stores
async def test_calls_of_tools_stand_in_their_turns_on_a_branch(url):
    model = ScriptedModel(counted)
    agent = Agent("desk", model=model, tools=[number_of], history=History(tools=True))

    @workflow(name="desk_chat")
    async def chat(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(url) as runtime:
        for text in ("a", "bb", "ccc"):
            await result(await runtime.start(chat, text, thread="t"))
        said = [Message("user", "said elsewhere"), Message("assistant", "heard elsewhere")]
        await runtime.branch_thread("b", said, base="t", turn=2)
        for text in ("dddd", "eeeee"):
            await result(await runtime.start(chat, text, thread="b"))
    seen = [message.text for message in model.requests[-1].messages if message.text]
    assert [text for text in seen if not text.startswith("it is")][-9:] == [
        *("a", "no. 1", "bb", "no. 2", "said elsewhere", "heard elsewhere"),
        *("dddd", "no. 4", "eeeee", "no. 5"),
    ][-9:]


async def test_replay_of_a_turn_reads_the_calls_of_tools_of_the_turns_before():
    model = ScriptedModel(counted)
    agent = Agent("desk", model=model, tools=[number_of], history=History(tools=True))

    @workflow(name="desk_replayed")
    async def chat(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(":memory:") as runtime:
        for text in ("a", "bb"):
            run = await runtime.start(chat, text, thread="t")
            await result(run)
        asked = len(model.requests)
        again = await runtime.replay(run.id)
        assert await result(again) == await result(run)
    assert len(model.requests) == asked


@stores
async def test_notes_of_a_branch_are_erased_with_its_base(url):
    async with Runtime(url) as runtime:
        await done(runtime, keep, "a fish of the base", thread="t")
        await runtime.branch_thread("b", base="t", turn=1)
        await done(runtime, family, "a fish of a child on the branch", thread="b")
        await runtime.branch_thread("c", base="b", turn=2)
        await done(runtime, keep, "a fish of its branch", thread="c")
        await done(runtime, keep, "a fish of another", thread="u")
        await runtime.erase(thread="c")
        assert sorted(await done(runtime, look, "fish")) == [
            "a fish of a child on the branch",
            "a fish of another",
            "a fish of the base",
        ]
        await runtime.erase(thread="t")
        assert await done(runtime, look, "fish") == ["a fish of another"]


@stores
async def test_notes_of_a_branch_that_was_pruned_are_erased_with_its_base(url):
    async with Runtime(url) as runtime:
        await done(runtime, keep, "a fish of the base", thread="t")
        await runtime.branch_thread("b", base="t", turn=1)
        await done(runtime, keep, "a fish of the branch", thread="b")
        await runtime.branch_thread("c", base="b", turn=2)
        await done(runtime, keep, "a fish of its branch", thread="c")
        await runtime.prune(keep=0)
        assert await runtime.runs() == []
        assert len(await done(runtime, look, "fish")) == 3
        await runtime.erase(thread="t")
        assert await done(runtime, look, "fish") == []


@stores
async def test_notes_of_one_branch_outlive_the_prune_of_another(url):
    async with Runtime(url) as runtime:
        await done(runtime, keep, "a fish of the base", thread="t")
        for name in ("b", "c"):
            await runtime.branch_thread(name, base="t", turn=1)
            await done(runtime, keep, f"a fish of {name}", thread=name)
        await runtime.prune(keep=2)
        await runtime.erase(thread="c")
        assert sorted(await done(runtime, look, "fish")) == ["a fish of b", "a fish of the base"]
