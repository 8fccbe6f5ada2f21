"""Images and files: to an agent, out of a tool, in a journal, a thread and another process."""

import pytest
from pydantic import BaseModel

from crew import Agent, Context, File, Image, Message, ModelError, Runtime, ToolCall, tool, workflow
from crew.testing import ScriptedModel
from tests.core.lives import restarted, result, stores

PIXEL = b"\x89PNG\r\n\x1a\n\xfb\xff"
PICTURE = Image(PIXEL, "image/png")
BIG = Image(PIXEL * 500_000, "image/png")
PAPER = File("a.pdf", b"%PDF-1.7")


class Note(BaseModel):
    text: str
    parts: list[str | Image | File] = []


def seen(request):
    """Say what a model sees."""
    found = [part for message in request.messages for part in message.parts]
    return "; ".join(part if isinstance(part, str) else f"{len(part.data)} B" for part in found)


def looking(**options):
    return Agent("looker", model=ScriptedModel(seen), **options)


@workflow
async def look(ctx: Context, note: Note) -> str:
    return (await ctx.run(looking(), ["what is this?", *note.parts])).output


async def lived(url, flow, value, **start):
    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, value, **start)
        return await result(run), await result(await runtime.replay(run.id)), run.id


@stores
@pytest.mark.parametrize(
    ("part", "size"), [(PICTURE, "10 B"), (BIG, "5000000 B"), (PAPER, "8 B")], ids=str
)
async def test_an_agent_is_given_what_is_no_text(url, part, size):
    live, replayed, _ = await lived(url, look, Note(text="", parts=[part]))
    assert live == replayed == f"what is this?; {size}"


@stores
async def test_a_big_image_lies_in_the_journal_once(url):
    @workflow
    async def twice(ctx: Context, asked: str) -> str:
        first = await ctx.run(looking(), [asked, BIG])
        second = await ctx.run(looking(), [asked, BIG])
        assert first.messages[0].parts == (asked, BIG)
        return first.output + second.output

    async with Runtime(url, workflows=[twice]) as runtime:
        run = await runtime.start(twice, "hm")
        assert await result(run) == "hm; 5000000 Bhm; 5000000 B"
        blobs = {str(event.data).count("'data'") for event in await run.recorded()}
        assert max(blobs) <= 2


@pytest.mark.parametrize(
    "given",
    [PICTURE, PAPER, ["a", PICTURE], (PICTURE, PAPER, "a"), [PICTURE] * 3],
    ids=["image", "file", "list", "tuple", "images"],
)
@stores
async def test_a_tool_returns_what_is_no_text(url, given):
    @tool(effect="read")
    async def draw():
        """Draw."""
        return given

    model = ScriptedModel([ToolCall("draw"), seen])
    artist = Agent("artist", model=model, tools=[draw])

    @workflow
    async def work(ctx: Context, asked: str) -> str:
        done = await ctx.run(artist, asked)
        return f"{done.output} {len(done.messages[-2].parts)}"

    live, replayed, _ = await lived(url, work, "draw")
    parts = tuple(given) if isinstance(given, list | tuple) else (given,)
    sizes = [part if isinstance(part, str) else f"{len(part.data)} B" for part in parts]
    assert live == replayed == f"{'; '.join(sizes)} {len(parts)}"


@pytest.mark.parametrize("kind", [Image, list[str | Image], Image | None, tuple[Image, ...]])
async def test_a_tool_says_by_its_annotation_that_it_returns_an_image(kind):
    @tool(effect="read")
    async def draw() -> kind:
        """Draw."""
        in_a_list = kind in (list[str | Image], tuple[Image, ...])
        return [PICTURE] if in_a_list else PICTURE

    model = ScriptedModel([ToolCall("draw"), seen])
    artist = Agent("artist", model=model, tools=[draw])
    assert (await artist.run("draw")).output == "10 B"


@workflow
async def remember(ctx: Context, parts: list[str | Image]) -> str:
    return (await ctx.run(looking(history=True), parts)).output


@stores
async def test_a_thread_keeps_what_its_turns_were_shown(url):
    async with Runtime(url, workflows=[remember]) as runtime:
        first = await runtime.start(remember, ["one", PICTURE], thread="t")
        assert await result(first) == "one; 10 B"
        second = await runtime.start(remember, ["two", PICTURE], thread="t")
        assert await result(second) == "one; 10 B; two; 10 B"
        thread = await runtime.thread("t")
    assert [message.text for message in thread.messages][::2] == ["one", "two"]
    assert thread.messages[0].parts == ("one", PICTURE)


@workflow
async def resumed(ctx: Context, asked: str) -> str:
    done = await ctx.run(looking(), [asked, PICTURE])
    await ctx.ask(bool, "go?", key="go")
    return f"{done.output} {done.messages[0] == Message('user', asked, parts=(asked, PICTURE))}"


@stores
async def test_a_run_that_goes_on_elsewhere_has_its_images(url):
    assert await restarted(url, resumed, value="hm") == "hm; 10 B True"


async def test_a_list_of_texts_is_one_text():
    agent = Agent("reader", model=ScriptedModel(lambda request: request.messages[-1].text))
    assert (await agent.run(["a", "b"])).output == "a\nb"


@pytest.mark.parametrize("given", [[], [1], b"x", None, ["a", b"x"], [["a"]]], ids=repr)
async def test_what_is_no_content_is_refused(given):
    @workflow
    async def wrong(ctx: Context, asked: str) -> str:
        return (await ctx.run(looking(), given)).output

    async with Runtime(":memory:", workflows=[wrong]) as runtime:
        run = await runtime.start(wrong, "x")
        with pytest.raises(Exception, match="takes one text, or a list of texts, Image"):
            await result(run)


async def test_the_embedded_model_says_that_it_takes_text_alone():
    from crew.llm.embedded import EmbeddedModel

    agent = Agent("blind", model=EmbeddedModel())
    with pytest.raises(ModelError, match="takes no images.*set CREW_BASE_URL"):
        await agent.run(["what is this?", PICTURE])
