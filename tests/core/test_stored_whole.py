"""What a run passes on is what was given, whole, or the run says what would be lost."""

import asyncio
import collections
import dataclasses
import datetime
import enum
import functools
import math
from typing import Annotated, Any

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    Field,
    Json,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from crew import (
    Agent,
    Append,
    AskError,
    Context,
    Graph,
    GraphError,
    RunFailed,
    Runtime,
    tool,
    workflow,
)
from crew.testing import ScriptedModel, ToolCall

stores = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class Camel(BaseModel, alias_generator=to_camel):
    max_price: int = 100


class Choice(BaseModel):
    price: int = Field(7, validation_alias=AliasChoices("cost", "sum"))


class Written(BaseModel, serialize_by_alias=True):
    price: int = Field(7, serialization_alias="cost")


class Trip(BaseModel):
    legs: list[Camel] = []


class Base(BaseModel):
    a: int


class Child(Base):
    b: int


class Holder(BaseModel):
    base: Base
    more: list[Base] = []


class Left(BaseModel):
    n: int


class Right(BaseModel):
    n: int


class Either(BaseModel):
    item: Left | Right


class Area(BaseModel, extra="forbid"):
    side: int

    @computed_field
    @property
    def size(self) -> int:
        return self.side**2


class OpenArea(Area, extra="allow"):
    pass


class Areas(BaseModel):
    by_name: dict[str, Area]


class Loose(BaseModel):
    value: Any = None


class Private(BaseModel):
    a: int = 1
    _log: list[str] = PrivateAttr(default_factory=list)


class Secret(BaseModel):
    key: SecretStr


class Secrets(BaseModel):
    keys: dict[str, SecretBytes]


class Left_out(BaseModel):  # noqa: N801  read in a table beside the field
    note: str = Field("", exclude=True)


class Colour(enum.StrEnum):
    RED = "red"


class Packed(BaseModel):
    numbers: Json[list[int]]


class Rounded(BaseModel):
    n: Annotated[int, AfterValidator(lambda n: n + 1)]


@dataclasses.dataclass
class Log:
    a: int
    lines: list[str] = dataclasses.field(init=False, default_factory=list)


@dataclasses.dataclass
class Scaled:
    a: int
    factor: dataclasses.InitVar[int] = 1
    b: int = 0

    def __post_init__(self, factor: int) -> None:
        self.b = self.a * factor


def logged() -> Log:
    made = Log(2)
    made.lines.append("x")
    return made


def private() -> Private:
    made = Private()
    made._log.append("x")
    return made


HOUR = datetime.timezone(datetime.timedelta(hours=1), "Home")
SAME, REFUSED, AT_BUILD = "same", "refused", "refused when it is built"
VALUES = [
    ("P1", Camel, Camel(maxPrice=5), SAME),
    ("P1", Choice, Choice(cost=5), SAME),
    ("P1", Written, Written(price=5), SAME),
    ("P1", list[Camel], [Camel(maxPrice=5)], SAME),
    ("P1", Trip, Trip(legs=[Camel(maxPrice=5)]), SAME),
    ("P2", Secret, Secret(key="hush"), AT_BUILD),
    ("P2", Secrets, Secrets(keys={"a": b"hush"}), AT_BUILD),
    ("P2", SecretStr, SecretStr("hush"), AT_BUILD),
    ("P2", list[Secret], [Secret(key="hush")], AT_BUILD),
    ("P2", Left_out, Left_out(note="keep"), AT_BUILD),
    ("P3", Base, Child(a=1, b=2), REFUSED),
    ("P3", list[Base], [Base(a=1), Child(a=1, b=2)], REFUSED),
    ("P3", Holder, Holder(base=Child(a=1, b=2)), REFUSED),
    ("P3", dict[str, Base], {"x": Child(a=1, b=2)}, REFUSED),
    ("P3", Base | None, Child(a=1, b=2), REFUSED),
    ("P3", Base | Child, Child(a=1, b=2), SAME),
    ("P4", Log, logged(), REFUSED),
    ("P4", Scaled, Scaled(2, 5), REFUSED),
    ("P4", list[Log], [logged()], REFUSED),
    ("P4", dict[str, Scaled], {"x": Scaled(2, 5)}, REFUSED),
    ("P4", Log | None, logged(), REFUSED),
    ("P5", Area, Area(side=3), SAME),
    ("P5", OpenArea, OpenArea(side=3), SAME),
    ("P5", list[Area], [Area(side=3)], SAME),
    ("P5", Areas, Areas(by_name={"x": Area(side=3)}), SAME),
    ("P5", Area | None, Area(side=3), SAME),
    ("P6", Any, {"x": math.nan}, REFUSED),
    ("P6", Loose, Loose(value=datetime.date(2026, 11, 24)), REFUSED),
    ("P6", Loose, Loose(value=(1, 2)), REFUSED),
    ("P6", Loose, Loose(value={1}), REFUSED),
    ("P6", dict[str, Any], {"x": math.nan}, REFUSED),
    ("P7", collections.deque[int], collections.deque([1], 3), REFUSED),
    ("P7", Private, private(), REFUSED),
    ("P7", dict[str, Colour | str], {"x": Colour.RED}, REFUSED),
    ("P7", Packed, Packed(numbers="[1, 2]"), SAME),
    ("P7", dict[tuple[int, int], str], {(1, 2): "x"}, REFUSED),
    ("P7", Rounded, Rounded(n=1), REFUSED),
    ("P7", Either, Either(item=Right(n=1)), REFUSED),
    ("P7", datetime.datetime, datetime.datetime(2026, 11, 24, tzinfo=HOUR), REFUSED),
    ("P21", int, True, REFUSED),
    ("P21", list[int], [True], REFUSED),
    ("P21", dict[str, int], {"x": True}, REFUSED),
    ("P21", Left, Left.model_construct(n=True), REFUSED),
    ("P21", int | None, True, REFUSED),
]
NAMES = [f"{number}-{kind}-{value!r:.30}" for number, kind, value, _ in VALUES]


def by_function(kind, value, seen):
    async def make():
        return value

    make.__annotations__["return"] = kind

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        seen.append(await ctx.run(make))
        return text

    return flow


def by_effect(kind, value, seen):
    def make():
        return value

    make.__annotations__["return"] = kind

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        seen.append(await ctx.effect(make))
        return text

    return flow


def by_node(kind, value, seen):
    graph = Graph("graph", input=str, output=bytes)

    # In a dict, since a list would be a fan-out, and a union goes by its members.
    async def give(text: str):
        return {"x": value}

    async def take(ctx: Context, held) -> bytes:
        seen.append(held)
        return b""

    give.__annotations__["return"] = dict[str, kind]
    take.__annotations__["held"] = dict[str, kind]
    graph.node(give)
    graph.node(take)
    return graph


def by_child(kind, value, seen):
    async def child(ctx: Context, text: str):
        return value

    child.__annotations__["return"] = kind
    inner = workflow(child)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        seen.append(await ctx.run(inner, text))
        return text

    return flow


async def outcome(make, kind, value, url):
    seen: list[Any] = []
    try:
        flow = make(kind, value, seen)
        async with Runtime(url, workflows=[flow]) as runtime:
            run = await runtime.start(flow, "x")
            await run.result()
            await runtime.replay(run.id)
    except GraphError:
        return AT_BUILD
    except RunFailed as error:
        return AT_BUILD if error.cause_type == "GraphError" else REFUSED
    return [repr(item["x"] if make is by_node else item) for item in seen]


@pytest.mark.parametrize("make", [by_function, by_effect, by_node, by_child])
@pytest.mark.parametrize(("number", "kind", "value", "right"), VALUES, ids=NAMES)
async def test_a_value_is_passed_on_whole_or_refused(number, kind, value, right, make):
    found = await outcome(make, kind, value, ":memory:")
    if right is SAME:
        assert found == [repr(value)] * 2
    else:
        assert found == right


@stores
@pytest.mark.parametrize(("number", "kind", "value", "right"), VALUES[::6], ids=NAMES[::6])
async def test_a_value_is_stored_whole(number, kind, value, right, url):
    found = await outcome(by_function, kind, value, url)
    assert found == ([repr(value)] * 2 if right is SAME else right)


def test_an_agents_answer_is_read_by_its_aliases():
    agent = Agent("planner", output=Camel, model=ScriptedModel(['{"maxPrice": 5}']))
    assert agent.run_sync("plan").output == Camel(maxPrice=5)


@pytest.mark.parametrize(
    ("kind", "said", "right"),
    [
        (list[Camel], '[{"maxPrice": 5}]', [Camel(maxPrice=5)]),
        (Trip, '{"legs": [{"maxPrice": 5}]}', Trip(legs=[Camel(maxPrice=5)])),
        (Choice, '{"sum": 5}', Choice(sum=5)),
        (Camel | None, '{"maxPrice": 5}', Camel(maxPrice=5)),
        (Camel | Left, '{"n": 5}', Left(n=5)),
    ],
)
async def test_what_a_model_says_by_the_schema_is_read(kind, said, right):
    agent = Agent("planner", output=kind, model=ScriptedModel([said]))

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return repr((await ctx.run(agent, text)).output)

    assert await flow.run("x") == repr(right)


async def test_a_refusal_names_the_field_and_what_it_was():
    with pytest.raises(RunFailed, match=r"item, the Right .* come back as the Left Left\(n=1\)"):
        await by_function(Either, Either(item=Right(n=1)), []).run("x")


def add(items: list) -> int:
    items.append("more")
    return len(items)


async def add_later(items):
    items.append("more")
    return len(items)


def add_inside(held: dict) -> int:
    held["items"].append("more")
    return len(held)


def add_to_model(trip: Trip) -> int:
    trip.legs.append(Camel())
    return len(trip.legs)


def add_by_name(number: int, items: list) -> int:
    return number + add(items)


@pytest.mark.parametrize("way", ["run", "effect", "map"])
@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (add, list),
        (add_later, list),
        (add_inside, lambda: {"items": []}),
        (add_to_model, Trip),
        (lambda pair: add(pair[0]), lambda: ([], 1)),
    ],
)
async def test_a_call_does_not_change_what_its_caller_holds(way, function, argument):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        held = argument()
        if way == "map":
            await ctx.map(function, [held])
        else:
            await getattr(ctx, way)(function, held)
        return repr(held)

    assert await live_and_replayed(flow) == repr(argument())


@pytest.mark.parametrize("way", ["run", "effect"])
async def test_a_partials_arguments_are_its_own(way):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        held: list[str] = []
        await getattr(ctx, way)(functools.partial(add_by_name, items=held), 1)
        await getattr(ctx, way)(functools.partial(add, held))
        return repr(held)

    assert await live_and_replayed(flow) == "[]"


async def test_a_tool_does_not_change_what_its_model_said():
    @tool
    def sort(held: dict[str, Any]) -> str:
        """Sort."""
        held["items"].sort()
        return "sorted"

    said: list[Any] = []

    def model(request):
        said.append([call.arguments for m in request.messages for call in m.tool_calls])
        return ToolCall("sort", {"held": {"items": [2, 1]}}) if len(said) == 1 else "done"

    await Agent("sorter", tools=[sort], model=ScriptedModel(model)).run("sort")
    assert said[1] == [{"held": {"items": [2, 1]}}]


async def test_a_result_without_an_annotation_is_not_shared_with_the_journal():
    def give():
        return {"items": []}

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        held = await ctx.run(give, key="give")
        held["items"].append("more")
        return repr(held)

    assert await live_and_replayed(flow) == "{'items': ['more']}"


async def live_and_replayed(flow):
    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, "x")
        result = await run.result()
        await runtime.replay(run.id)
        return result


class Notes(BaseModel):
    notes: Annotated[list[str], Append()] = ["first"]
    age: Annotated[int, Field(ge=0)] = 0
    top: Annotated[int | None, Field(le=9)] = None
    low: int = 0
    name: str = Field("", alias="Name")
    short: str = ""

    @model_validator(mode="after")
    def ordered(self):
        if self.low > 5:
            raise ValueError("low is too high")
        return self

    @field_validator("short")
    @classmethod
    def stripped(cls, text: str) -> str:
        return text.strip()


def patching(*patches, state=Notes):
    seen: list[Any] = []
    graph = Graph("patching", input=str, output=bytes, state=state)

    @graph.node
    async def write(ctx: Context, text: str) -> int:
        for patch in patches:
            ctx.patch(**patch)
        return 0

    @graph.node
    async def read(ctx: Context, n: int) -> bytes:
        seen.append(ctx.state)
        return b""

    return graph, seen


@stores
@pytest.mark.parametrize(
    ("patches", "field", "right"),
    [
        ([{"notes": ["a"]}, {"notes": ["b"]}], "notes", ["first", "a", "b"]),
        ([{"notes": ["a"], "age": 1}, {"notes": ["b"]}, {"age": 2}], "notes", ["first", "a", "b"]),
        ([{"notes": []}, {"notes": ["b"]}, {"notes": ["c"]}], "notes", ["first", "b", "c"]),
        ([{"notes": ["a"]}], "notes", ["first", "a"]),
        ([{"name": "x"}], "name", "x"),
        ([{"age": 1}, {"age": 2}], "age", 2),
    ],
)
async def test_patches_of_one_step_all_count(patches, field, right, url):
    graph, seen = patching(*patches)
    async with Runtime(url, workflows=[graph]) as runtime:
        await (await runtime.start(graph, "x")).result()
    assert getattr(seen[0], field) == right


@pytest.mark.parametrize(
    "patch",
    [{"age": -1}, {"age": True}, {"top": 10}, {"low": 6}, {"short": " a "}, {"notes": [1]}],
)
async def test_a_patch_that_the_state_forbids_fails_the_step_that_writes_it(patch):
    graph, _ = patching(patch)
    with pytest.raises(RunFailed) as caught:
        await graph.run("x")
    assert (caught.value.path, caught.value.cause_type) == ("write[0]", "OutputInvalid")


class Needs(BaseModel):
    n: int


class Never(BaseModel):
    n: int = 0

    @model_validator(mode="after")
    def never(self):
        raise ValueError("not so")


class Hides(BaseModel):
    key: SecretStr = SecretStr("")


class Adds(BaseModel):
    total: Annotated[int, Append()] = 0


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (Needs, "Needs.n has no default"),
        (Never, r"Never\(\) does not validate.*not so"),
        (Hides, "Hides.key: SecretStr is a secret"),
        (Adds, "Append.. is for lists"),
        (dict, "must be a pydantic model, not dict"),
    ],
)
def test_a_state_that_cannot_work_is_refused_when_the_graph_is_built(state, problem):
    graph, _ = patching(state=state)
    with pytest.raises(GraphError, match=problem):
        graph.build()


@stores
@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        (int, True, 3),
        (int | None, True, 3),
        (float, False, 1.5),
        (list[int], [True], [1]),
        (Left, {"n": True}, {"n": 1}),
        (bool, 1, True),
    ],
)
async def test_a_truth_value_answers_no_question_for_a_number(kind, wrong, right, url):
    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return repr(await ctx.ask(kind, "How many?", key="n"))

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, "x")
        while not await run.questions():
            await asyncio.sleep(0.01)
        with pytest.raises(AskError, match="that is no answer"):
            await run.answer("n", wrong)
        await run.answer("n", right)
        assert await run.result() == repr(Left(**right) if kind is Left else right)


def chained(*, b_after=None, c_after=None):
    graph = Graph("chained", input=bytes, output=str)

    @graph.node
    async def a(given: bytes) -> str:
        return "a"

    @graph.node(after=b_after)
    async def b(text: str) -> str:
        return text + "b"

    @graph.node(after=c_after)
    async def c(text: str) -> str:
        return text + "c"

    return graph


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (chained(), "'b' is never reached: 'a' gives str, which is the output.*`after=a` on 'b'"),
        (chained(b_after="a"), "'c' is never reached: .*'b' gives str, .*`after=b` on 'c'"),
        (chained(c_after="a"), "'b' is never reached: '[ac]' gives .*write `after=[ac]` on 'b'"),
        (chained(c_after="b"), "'b' is never reached: 'a' gives str.*`after=a` on 'b'"),
    ],
)
def test_a_node_behind_the_output_is_told_how_to_be_reached(graph, problem):
    with pytest.raises(GraphError, match=problem):
        graph.build()


def test_what_keeps_values_from_a_node_is_named_even_far_before_it():
    graph = Graph("far", input=bytes, output=str)

    @graph.node
    async def last(n: int) -> str:
        return str(n)

    @graph.node
    async def middle(text: str) -> int:
        return len(text)

    @graph.node
    async def first(given: bytes) -> str:
        return "x"

    with pytest.raises(GraphError, match="only 'middle' gives it int, and is never reached itself"):
        graph.build()


async def test_with_what_the_message_says_the_chain_works():
    assert await chained(b_after="a", c_after="b").run(b"") == "abc"
