"""A snapshot spares the fold, and changes nothing."""

import asyncio
import contextlib
import json
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from crew import Agent, Context, Graph, Runtime, StoreError
from crew.journal import writer
from crew.journal.reading import JournalReader
from crew.journal.sqlite import SqliteStore
from crew.journal.text import list_long
from crew.journal.writer import Writer
from crew.llm import ModelReply
from crew.run import course, schedule, snapshot
from crew.run.driver import Driver
from crew.run.folding import fold_stored
from crew.run.snapshot import snapshot_version, state_to_data
from crew.testing import CrashingStore, ScriptedModel
from tests.core.flows import Count, loop


class Batch(BaseModel):
    items: int


class Item(BaseModel):
    number: int
    round: int = 0
    text: str = ""


class Piece(BaseModel):
    number: int
    text: str


class Whole(BaseModel):
    texts: list[str]


def wide() -> Graph:
    """A fan-out whose branches loop, with a long text in each that never changes."""
    graph = Graph("wide", input=Batch, output=Whole)

    @graph.node
    async def split(batch: Batch) -> list[Item]:
        return [Item(number=n, text=f"{n} " + "words " * 30) for n in range(batch.items)]

    @graph.node(concurrency=4)
    async def work(ctx: Context, item: Item) -> Item | Piece:
        await ctx.run(one_more, item.round)
        if item.round < 9:
            return Item(number=item.number, round=item.round + 1, text=item.text)
        return Piece(number=item.number, text=item.text)

    @graph.node
    async def join(pieces: list[Piece]) -> Whole:
        return Whole(texts=[piece.text for piece in pieces])

    return graph


async def one_more(number: int) -> int:
    return number + 1


@pytest.fixture(autouse=True)
def small_commits(monkeypatch):
    """So that a store that goes down has some of the run, not all or nothing."""
    monkeypatch.setattr(schedule, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(writer, "MAX_PENDING", 8)


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "runs.db")
    yield store
    store.close()


async def stopped(store, graph, value, after: int):
    """Run until the store goes down after so many events; return the run's row."""
    async with Runtime(CrashingStore(store, after=after), workflows=[graph]) as runtime:
        run = await runtime.start(graph, value)
        with pytest.raises(StoreError):
            await run.result()
    store._owners.close()
    return store.run(run.id)


async def folded(store, graph, row, *, from_snapshot: bool):
    folding = Driver(SimpleNamespace(writer=Writer(store, on_commit=dict)), graph, row)
    if from_snapshot:
        await fold_stored(store, folding, graph, row)
    else:
        folding.course.fold(JournalReader(store, row).every(upto=row.offset))
    return state_to_data(folding.course.state), folding.calls.to_data()


@pytest.mark.parametrize("after", [550, 620, 700])
async def test_a_fold_from_a_snapshot_is_the_fold_of_everything(store, after):
    graph = wide()
    row = await stopped(store, graph, Batch(items=24), after)
    assert store.snapshot(row.number) is not None
    whole = await folded(store, graph, row, from_snapshot=False)
    assert await folded(store, graph, row, from_snapshot=True) == whole


async def test_a_run_goes_on_from_its_snapshot(store):
    graph = wide()
    row = await stopped(store, graph, Batch(items=24), 700)
    async with Runtime(store, workflows=[graph]) as runtime:
        result = await (await runtime.get(row.id)).result()
        events = await (await runtime.get(row.id)).recorded()
    assert [text.split()[0] for text in result.texts] == [str(n) for n in range(24)]
    done = [event.path for event in events if event.kind == "step.completed"]
    assert len(done) == len(set(done)) == 24 * 10 + 2


async def test_no_snapshot_is_made_of_what_is_as_long_as_the_journal(store):
    row = await stopped(store, wide(), Batch(items=300), 1200)
    assert row.offset > course.SNAPSHOT_EVENTS
    assert store.snapshot(row.number) is None


async def test_a_graph_that_was_rewired_folds_everything(store):
    row = await stopped(store, loop(400, max_steps=1000), Count(n=0), 700)
    assert store.snapshot(row.number) is not None
    other = loop(400, max_steps=1000)

    @other.node
    async def never(value: Item) -> Count:
        return Count(n=0)

    other.nodes.pop("never")
    other.max_steps = 2000
    other._wiring = None
    assert snapshot_version(other) == snapshot_version(loop(400, max_steps=1000))
    assert snapshot_version(wide()) != snapshot_version(other)


@pytest.mark.parametrize(
    "change", ["body_crc = body_crc + 1", "body = x'01ff'", "body = 5", "version = 'of others'"]
)
async def test_a_snapshot_that_cannot_be_read_is_not_used(change, store):
    graph = wide()
    row = await stopped(store, graph, Batch(items=24), 700)
    store._connected().execute(f"UPDATE snapshots SET {change}")
    assert JournalReader(store, row).snapshot(snapshot_version(graph)) is None
    async with Runtime(store, workflows=[graph]) as runtime:
        assert len((await (await runtime.get(row.id)).result()).texts) == 24


async def test_a_snapshot_of_an_older_form_is_not_used(store, monkeypatch):
    graph = wide()
    with monkeypatch.context() as older:
        older.setattr(snapshot, "FORMAT", snapshot.FORMAT - 1)
        older.setattr(course, "state_to_data", lambda state: "of a form that nobody reads now")
        row = await stopped(store, graph, Batch(items=24), 700)
    assert store.snapshot(row.number) is not None
    folding = Driver(SimpleNamespace(writer=Writer(store, on_commit=dict)), graph, row)
    await fold_stored(store, folding, graph, row)
    anew = await folded(store, graph, row, from_snapshot=False)
    assert (state_to_data(folding.course.state), folding.calls.to_data()) == anew
    async with Runtime(store, workflows=[graph]) as runtime:
        assert len((await (await runtime.get(row.id)).result()).texts) == 24


class Halting(ScriptedModel):
    """Says the half of its answer, and the rest when it is let on."""

    def __init__(self, go_on: asyncio.Event) -> None:
        super().__init__(continues=True)
        self.go_on = go_on

    async def complete(self, request, *, on_text=None):
        self.requests.append(request)
        if not request.partial:
            on_text("held ")
        await self.go_on.wait()
        on_text("on")
        return ModelReply("held on", model="halting")


def beside(model: ScriptedModel, pause: float = 0.0) -> Graph:
    """A step that has told and called, and whose model halts, while another one goes round."""
    graph = Graph("beside", input=Batch, output=Whole)
    speaker = Agent("speaker", model=model)

    async def fails(number: int) -> int:
        raise ValueError(f"no {number}")

    @graph.node
    async def split(batch: Batch) -> list[Item | Count]:
        return [Item(number=1), Count(n=0)]

    @graph.node
    async def hold(ctx: Context, item: Item) -> Piece:
        ctx.emit("holding")
        more = await ctx.run(one_more, item.number)
        with contextlib.suppress(ValueError):
            await ctx.effect(fails, more)
        said = await ctx.run(speaker, "go", emit=True)
        return Piece(number=more, text=said.output)

    @graph.node
    async def go_round(count: Count) -> Count | Piece:
        await asyncio.sleep(pause)
        return Piece(number=0, text="round") if count.n == 400 else Count(n=count.n + 1)

    @graph.node
    async def join(pieces: list[Piece]) -> Whole:
        return Whole(texts=[piece.text for piece in pieces])

    return graph


async def test_a_snapshot_holds_what_a_step_under_way_has_called_told_and_said(store):
    go_on = asyncio.Event()
    model = Halting(go_on)
    graph = beside(model)
    row = await stopped(store, graph, Batch(items=2), 700)
    whole = await folded(store, graph, row, from_snapshot=False)
    assert await folded(store, graph, row, from_snapshot=True) == whole
    go_on.set()
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.get(row.id)
        assert (await run.result()).texts == ["held on", "round"]
        held = [e.kind async for e in run.events() if e.path.startswith("hold[0]/")]
    assert held[:4] == ["text.emitted", "function.completed", "effect.started", "effect.failed"]
    assert held[4:7] == ["agent.started", "model.started", "text.emitted"]
    assert [request.partial for request in model.requests] == ["", "held "]


class Telling(Halting):
    """Says a long half of its answer in pieces, and the rest when it is let on."""

    half = "words of an answer that is long enough to be worth a pointer, and more of the like "

    async def complete(self, request, *, on_text=None):
        self.requests.append(request)
        if not request.partial:
            for word in self.half.split():
                on_text(f"{word} ")
                await asyncio.sleep(0.02)  # two or three make an event
        await self.go_on.wait()
        on_text("on")
        return ModelReply(f"{self.half}on", model="telling")


async def test_a_snapshot_holds_no_text_that_the_journal_holds(store):
    graph = beside(Telling(asyncio.Event()), pause=0.002)
    row = await stopped(store, graph, Batch(items=2), 700)
    snapshot = store.snapshot(row.number)
    streamed = [e for e in JournalReader(store, row).every() if e.kind == "text.emitted"]
    assert len(streamed) > 3
    assert streamed[2].offset < snapshot.offset
    assert not list_long(json.loads(snapshot.body))
    assert "words" not in snapshot.body


async def test_what_was_streamed_before_a_snapshot_is_not_stored_again_behind_it(store):
    go_on = asyncio.Event()
    model = Telling(go_on)
    graph = beside(model, pause=0.002)
    row = await stopped(store, graph, Batch(items=2), 700)
    go_on.set()
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.get(row.id)
        assert (await run.result()).texts == [f"{Telling.half}on", "round"]
        done = await run.offset()
    assert len(model.requests) == 2
    for stored in store.events(row.number, limit=done):
        if stored.kind in ("model.completed", "agent.completed", "step.completed"):
            assert Telling.half not in stored.body


class Page(BaseModel):
    number: int
    text: str = ""


async def test_a_long_text_from_before_a_snapshot_is_found_again_behind_it(store):
    text = "a long text that is not live where the snapshot is taken " * 3
    graph = Graph("pages", input=Page, output=Count, max_steps=1000)

    @graph.node
    async def turn(page: Page) -> Page | Count:
        number = page.number + 1
        shown = text if number in (3, 160, 170, 180) else f"page {number}"
        return Count(n=number) if number == 200 else Page(number=number, text=shown)

    row = await stopped(store, graph, Page(number=0), 345)
    assert store.snapshot(row.number).offset > 128
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.get(row.id)
        assert (await run.result()).n == 200
        outputs = [event.data["output"] for event in await run.recorded() if "output" in event.data]
    assert [value["value"]["number"] for value in outputs if text in str(value)] == [
        3,
        160,
        170,
        180,
    ]


async def test_a_streamed_text_that_is_live_at_a_snapshot_is_not_stored_again_behind_it(store):
    go_on = asyncio.Event()
    go_on.set()
    agent = Agent("talker", model=Telling(go_on))
    graph = Graph("relay", input=Batch, output=Count, max_steps=1000)

    @graph.node
    async def speak(ctx: Context, batch: Batch) -> Page:
        return Page(number=0, text=(await ctx.run(agent, "go", emit=True)).output)

    @graph.node
    async def turn(page: Page) -> Page | Count:
        number = page.number + 1
        return Count(n=number) if number == 200 else Page(number=number, text=page.text)

    row = await stopped(store, graph, Batch(items=1), 345)
    before = store.snapshot(row.number).offset
    assert before > 128
    async with Runtime(store, workflows=[graph]) as runtime:
        run = await runtime.get(row.id)
        assert (await run.result()).n == 200
        done = await run.offset()
    assert all(Telling.half not in stored.body for stored in store.events(row.number, after=before))
    assert done > 400
