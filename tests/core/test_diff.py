"""Two runs compared by their events."""

import pytest

from crew import Agent, Context, tool, workflow
from crew.event import Event
from crew.run.diff import Change, Cost, End, compare, cost_of, end_of, reused_of
from crew.testing import ScriptedModel, ToolCall


@tool(effect="read")
async def look(word: str) -> str:
    """Look a word up."""
    return word.upper()


def finder(text: str) -> Agent:
    def reply(request):
        told = [message.text for message in request.messages if message.role == "tool"]
        return f"{text} {told[0]}" if told else ToolCall("look", {"word": "x"})

    return Agent("finder", instructions=text, model=ScriptedModel(reply), tools=[look])


async def ended(runtime, flow, text="q"):
    run = await runtime.start(flow, text)
    await run.result()
    return run


def flow_of(agent: Agent):
    @workflow(name="flow")
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    return flow


def event(offset: int, kind: str, path: str = "", **data) -> Event:
    return Event(offset, kind, path, data)


async def test_two_runs_of_the_same_are_equal(runtime):
    flow = flow_of(finder("found"))
    one, two = await ended(runtime, flow), await ended(runtime, flow)
    found = compare(await one.recorded(), await two.recorded())
    assert found.equal
    assert found.ends[0] == End("completed", "found X")
    assert found.costs[0] == found.costs[1]


async def test_the_first_change_is_where_the_difference_begins(runtime):
    flow = flow_of(finder("found"))
    run = await ended(runtime, flow)
    fork = await runtime.fork(run.id, override={"finder": finder("saw")})
    await fork.result()
    found = compare(await run.recorded(), await fork.recorded())
    assert not found.same_answer
    assert [change.path for change in found.changed] == [
        "flow[0]/finder/model.1",
        "flow[0]/finder",
        "flow[0]",
    ]
    assert found.changed[-1] == Change("flow[0]", {"output": "found X"}, {"output": "saw X"})
    assert found.reused == ((), ("flow[0]/finder/look.0",))
    assert reused_of(await fork.recorded()) == ["flow[0]/finder/look.0"]


@pytest.mark.parametrize("at", [None, 1, 5, 99])
async def test_a_cost_is_what_the_end_of_the_run_says(runtime, at):
    run = await ended(runtime, flow_of(finder("found")))
    events = await run.recorded()
    fork = await runtime.fork(run.id, at=None if at is None else min(at, len(events)))
    await fork.result()
    for recorded in (events, await fork.recorded()):
        end, cost = recorded[-1].data, cost_of(recorded)
        for usage, told in (
            (end["usage"], (cost.calls, cost.tokens)),
            (end.get("reused") or {}, (cost.reused_calls, cost.reused_tokens)),
        ):
            tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
            assert (usage.get("calls", 0), tokens) == told


def test_steps_and_calls_that_one_run_alone_came_to_are_named():
    a = [event(1, "step.started", "a[0]"), event(2, "step.completed", "a[0]", output=1)]
    b = [event(1, "function.completed", "b[0]/look", result=1, fingerprint="f")]
    found = compare(a, b)
    assert (found.only_a, found.only_b, found.changed) == (("a[0]",), ("b[0]/look",), ())


def test_a_result_is_what_was_said_not_where_or_when():
    a = event(1, "model.completed", "m", text="hi", tool_calls=[], seconds=1.0, model="small")
    b = event(1, "model.completed", "m", text="hi", tool_calls=[], seconds=2.0, model="large")
    assert compare([a], [b]).changed == ()


def test_what_failed_is_unknown_or_cancelled_differs_from_what_succeeded():
    done = [event(1, "effect.completed", "e", result=None)]
    failed = [event(1, "effect.failed", "e", error={"type": "ValueError", "message": "no"})]
    unknown = [event(1, "effect.unknown", "e")]
    assert compare(done, failed).changed == (
        Change("e", {"result": None}, {"error": "ValueError: no"}),
    )
    assert compare(failed, unknown).changed[0].b == {"unknown": True}
    cancelled = [event(1, "effect.cancelled", "e")]
    assert compare(unknown, cancelled).changed[0].b == {"cancelled": True}
    assert compare(done, [event(1, "effect.started", "e")]).changed[0].b is None


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (event(2, "run.cancelled"), End("cancelled")),
        (
            event(2, "run.failed", error={"type": "E", "message": "m"}),
            End("failed", {"error": "E: m"}),
        ),
        (
            event(2, "run.parked", "p", reason="diverged", detail="d"),
            End("parked", {"reason": "diverged", "detail": "d", "path": "p", "asked": ""}),
        ),
        (event(2, "step.started", "a[0]"), End("open")),
    ],
)
def test_an_end_says_how_a_run_stands(last, end):
    assert end_of([last]) == end


def test_runs_that_have_not_ended_have_no_same_answer():
    assert not compare([], []).same_answer
    assert compare([], []).costs == (Cost(), Cost())
