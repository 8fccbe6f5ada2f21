"""What runs, batches and comparisons look like in a notebook."""

import asyncio
import sys
import types
from xml.etree import ElementTree

import pytest

from crew import Agent, Context, Graph, Runtime, workflow
from crew.fold import Question
from crew.graph.workflow import Edge
from crew.notebook.asking import Asking
from crew.notebook.picture import picture
from crew.testing import ScriptedModel
from tests.core.lives import SECONDS, result, until

EVIL = "<script>alert('x')</script>"


@workflow
async def says(ctx: Context, text: str) -> str:
    agent = Agent("a", model=ScriptedModel(lambda request: request.messages[-1].text))
    return (await ctx.run(agent, text)).output


@workflow
async def fails(ctx: Context, text: str) -> str:
    raise ValueError(text)


@workflow
async def asks(ctx: Context, text: str) -> bool:
    return await ctx.ask(bool, f"Go on with {text}?", key="go")


def well_formed(html: str) -> str:
    ElementTree.fromstring(html)
    return html


@pytest.mark.parametrize("flow", [says, fails, asks])
async def test_what_a_run_says_is_shown_and_never_markup(flow):
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(flow, EVIL)
        await until(run, "completed", "failed", "waiting")
        drawn = well_formed(run._repr_html_())
    assert "alert" in drawn
    assert "<script" not in drawn
    assert run.id in drawn


async def test_a_run_that_waits_says_how_it_is_answered():
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(asks, "x")
        await until(run, "waiting")
        drawn = run._repr_html_()
        assert "Go on with x?" in drawn
        assert "run.answer(&#x27;go&#x27;" in drawn
        await run.answer("go", True)
        await result(run)
        assert "run.answer" not in run._repr_html_()


async def test_a_batch_is_a_table_of_outcomes_and_cost():
    async with Runtime(":memory:") as runtime:
        batch = runtime.start_many(says, ["one", EVIL], keys="set")
        async with asyncio.timeout(SECONDS):
            await batch.results()
        drawn = well_formed(batch._repr_html_())
    assert "2 completed" in drawn
    assert "set:1" in drawn
    assert "tokens" in drawn
    assert "<script" not in drawn


async def test_two_runs_are_drawn_side_by_side():
    async with Runtime(":memory:") as runtime:
        one, two = await runtime.start(says, "left"), await runtime.start(says, EVIL)
        await one.result(), await two.result()
        drawn = well_formed((await runtime.diff(one, two))._repr_html_())
    assert one.id in drawn
    assert two.id in drawn
    assert "left" in drawn
    assert "<script" not in drawn


async def test_a_graph_is_drawn_with_the_state_of_its_nodes():
    graph = Graph("fan", input=int, output=str)

    @graph.node
    async def split(ctx: Context, number: int) -> list[float]:
        return [1.0, 2.0, 3.0]

    @graph.node
    async def work(ctx: Context, number: float) -> bytes:
        return b"x"

    @graph.node
    async def join(ctx: Context, parts: list[bytes]) -> str:
        return EVIL

    async with Runtime(":memory:") as runtime:
        run = await runtime.start(graph, 1)
        await run.result()
        whole = await run.spans()
    drawn = well_formed(picture(graph.edges(), whole))
    assert "work 3/3" in drawn
    assert drawn.count("<rect") == 5


async def test_a_graph_with_a_loop_is_drawn():
    edges = [
        Edge("input", "draft", "Text", False),
        Edge("draft", "review", "Draft", False),
        Edge("review", "draft", "Text", False),
        Edge("review", "output", "Answer", False),
        Edge("draft", "draft", "Note", True),
    ]
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(says, "x")
        await run.result()
        drawn = well_formed(picture(edges, await run.spans()))
    assert drawn.count("<rect") == 4


class Widget:
    def __init__(self, children=(), **options) -> None:
        self.children, self.value = list(children), ""
        self.__dict__.update(options)

    def on_click(self, clicked) -> None:
        self.click = clicked


@pytest.fixture
def widgets(monkeypatch):
    """ipywidgets as far as it is asked: the real one needs a front end."""
    names = ("VBox", "HBox", "HTML", "Text", "Button")
    module = types.SimpleNamespace(**dict.fromkeys(names, Widget))
    monkeypatch.setitem(sys.modules, "ipywidgets", module)


def question(**schema) -> Question:
    return Question("flow[0]/=go", "go", "Go on?", schema)


def fields_of(asking: Asking) -> list[Widget]:
    (shown,) = asking._box.children
    return shown.children[1].children


async def test_a_button_answers_a_question(widgets):
    given = asyncio.Queue()

    async def answer(key, value):
        await given.put((key, value))

    asking = Asking(answer)
    asking.update([question(type="boolean")])
    yes, no = fields_of(asking)
    assert (yes.description, no.description) == ("Yes", "No")
    no.click(no)
    async with asyncio.timeout(SECONDS):
        assert await given.get() == ("flow[0]/=go", False)
    asking.update([])
    assert asking._box.children == []


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "string"}, "12", "12"),
        ({"type": "integer"}, "12", 12),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": "integer"}, "twelve", "twelve"),
    ],
)
async def test_what_is_typed_answers_a_question(widgets, schema, typed, value):
    given = asyncio.Queue()

    async def answer(key, value):
        await given.put(value)

    asking = Asking(answer)
    asking.update([question(**schema)])
    field, send = fields_of(asking)
    field.value = typed
    send.click(send)
    async with asyncio.timeout(SECONDS):
        assert await given.get() == value


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """What cells are given to draw, also when they are drawn anew."""
    given: list[dict] = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(f"IPython.display.{name}", lambda drawn, **_: given.append(drawn))
    return given


async def test_cell_of_a_run_is_drawn_until_it_ends(shown):
    async with Runtime(":memory:", workflows=[says]) as runtime:
        run = await runtime.start(says, "hello")
        run._ipython_display_()
        await result(run)
        async with asyncio.timeout(SECONDS):
            while "completed" not in shown[-1]["text/html"]:
                await asyncio.sleep(0.01)
    assert "completed" not in shown[0]["text/html"]
    assert shown[0]["text/plain"] == repr(run)


async def test_cell_of_a_batch_is_drawn_until_all_have_ended(shown):
    async with Runtime(":memory:", workflows=[says]) as runtime:
        batch = runtime.start_many(says, ["a", "b"])
        batch._ipython_display_()
        assert repr(batch) == "<batch: none ended, 0 under way>"
        await batch.results()
        async with asyncio.timeout(SECONDS):
            while "2 completed" not in shown[-1]["text/html"]:
                await asyncio.sleep(0.01)
        drawn = len(shown)
        batch._ipython_display_()
        assert len(shown) == drawn + 1
    assert repr(batch) == "<batch: 2 completed, 0 under way>"
