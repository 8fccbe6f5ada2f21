"""How tokens move: behaviour of graphs through the runtime, on both stores."""

import asyncio

import pytest
from pydantic import BaseModel

from crew import Append, Context, Graph, NoOutput, Quorum, Retry, RunFailed, workflow
from tests.core.flows import (
    Answer,
    Code,
    Count,
    Done,
    Finding,
    Notes,
    Question,
    Search,
    loop,
    research,
)


async def run(runtime, graph, value):
    return await (await runtime.start(graph, value)).result()


async def test_a_join_gets_values_in_fan_out_order(runtime):
    answer = await run(runtime, research(), Question(text="c"))
    assert answer == Answer(text="found a, computed b, found c")


async def test_paths_name_the_item_of_the_fan_out(runtime):
    started = await runtime.start(research(), Question(text="c"))
    await started.result()
    paths = [e.path async for e in started.events() if e.kind == "step.completed"]
    assert sorted(paths) == ["compute[1]", "look_up[0]", "look_up[2]", "plan[0]", "summarise[0]"]


async def test_offsets_are_dense_from_one(runtime):
    started = await runtime.start(research(), Question(text="c"))
    assert [e.offset async for e in started.events()] == list(range(1, 13))


async def test_a_reader_comes_back_at_any_offset(runtime):
    started = await runtime.start(research(), Question(text="c"))
    everything = [e async for e in started.events()]
    assert [e async for e in started.events(after=5)] == everything[5:]


async def test_an_empty_fan_out_joins_at_once(runtime):
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> list[Search]:
        return []

    @graph.node
    async def look_up(task: Search) -> Finding: ...

    @graph.node
    async def join(findings: list[Finding]) -> Answer:
        return Answer(text=f"{len(findings)} findings")

    assert (await run(runtime, graph, Question(text=""))).text == "0 findings"


async def test_none_ends_a_branch(runtime):
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> list[Search]:
        return [Search(query=letter) for letter in "abc"]

    @graph.node
    async def look_up(task: Search) -> Finding | None:
        return None if task.query == "b" else Finding(text=task.query)

    @graph.node
    async def join(findings: list[Finding]) -> Answer:
        return Answer(text="".join(finding.text for finding in findings))

    assert (await run(runtime, graph, Question(text=""))).text == "ac"


def nested(work, *, size=2, at_once=None, row_join=None, table_join=None) -> Graph:
    """Rows of cells, joined twice; `work` is what a cell does with its name."""
    graph = Graph("nested", input=int, output=str)

    @graph.node
    async def rows(n: int) -> list[Search]:
        return [Search(query=str(number)) for number in range(n)]

    @graph.node
    async def cells(row: Search) -> list[Code]:
        return [Code(goal=f"{row.query}.{number}") for number in range(size)]

    @graph.node(concurrency=at_once)
    async def cell(task: Code) -> Finding:
        await work(task.goal)
        return Finding(text=task.goal)

    @graph.node(join=row_join)
    async def row(findings: list[Finding]) -> Answer:
        return Answer(text="+".join(finding.text for finding in findings))

    @graph.node(join=table_join)
    async def table(rows: list[Answer]) -> str:
        return " ".join(row.text for row in rows)

    return graph


def sleeping(**seconds: float):
    """Return work that takes as long as is said of it, `_0_1` for cell 0.1, else no time."""

    async def work(name: str) -> None:
        await asyncio.sleep(seconds.get(f"_{name.replace('.', '_')}", 0))

    return work


async def test_scopes_nest(runtime):
    assert await run(runtime, nested(sleeping(_0_0=0.001)), 3) == "0.0+0.1 1.0+1.1 2.0+2.1"


async def test_a_join_takes_a_value_that_no_fan_out_leads_to(runtime):
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> Search | Code:
        return Search(query="x") if question.text == "one" else Code(goal="x")

    @graph.node
    async def find(task: Search) -> Finding:
        return Finding(text="alone")

    @graph.node
    async def find_all(task: Code) -> list[Finding]:
        return [Finding(text="a"), Finding(text="b")]

    @graph.node
    async def join(findings: list[Finding]) -> Answer:
        return Answer(text="+".join(finding.text for finding in findings))

    assert (await run(runtime, graph, Question(text="one"))).text == "alone"
    assert (await run(runtime, graph, Question(text="all"))).text == "a+b"


async def test_a_fan_out_that_no_join_waits_for_leaves_nothing(runtime):
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> Code | Answer:
        return Code(goal="x")

    @graph.node
    async def split(task: Code) -> list[Search]:
        return [Search(query="a"), Search(query="b")]

    @graph.node
    async def act(task: Search) -> None: ...

    with pytest.raises(NoOutput, match="after 4 steps nothing is left to run"):
        await run(runtime, graph, Question(text=""))


async def test_nothing_left_and_no_output_is_said(runtime):
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> Answer | None:
        return None

    with pytest.raises(NoOutput, match="no node gave the output"):
        await run(runtime, graph, Question(text=""))


async def test_a_loop_goes_back_until_it_is_done(runtime):
    assert await run(runtime, loop(50), Count(n=0)) == Done(n=50)


async def test_an_endless_loop_is_ended(runtime):
    with pytest.raises(RunFailed, match="StepLimit: more than max_steps=20"):
        await run(runtime, loop(10**9, max_steps=20), Count(n=0))


async def test_a_loop_through_empty_fan_outs_is_ended_too(runtime):
    graph = Graph("g", input=Question, output=Answer, max_steps=20)
    fired: list[int] = []

    @graph.node
    async def split(question: Question) -> list[Search]:
        return []

    @graph.node
    async def again(found: list[Search]) -> list[Search | Code]:
        fired.append(len(found))
        assert len(fired) < 100, "it does not end"
        return []  # its own fan-out leads back to it

    @graph.node
    async def finish(goals: list[Code]) -> Answer | None:
        return Answer(text="") if goals else None

    with pytest.raises(RunFailed, match="StepLimit: more than max_steps=20"):
        await run(runtime, graph, Question(text=""))
    assert fired == [0] * 19


async def test_after_takes_exactly_one_nodes_output(runtime):
    graph = Graph("g", input=str, output=Answer)

    @graph.node
    async def upper(text: str) -> str:
        return text.upper()

    @graph.node(after=upper)
    async def twice(text: str) -> str:
        return text * 2

    @graph.node(after=twice)
    async def done(text: str) -> Answer:
        return Answer(text=text)

    assert (await run(runtime, graph, "ab")).text == "ABAB"


async def test_broadcast_feeds_every_taker(runtime):
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> list[Search]:
        return [Search(query="x")]

    @graph.node(broadcast=True)
    async def look_up(task: Search) -> Code:
        return Code(goal=task.query)

    @graph.node
    async def one(task: Code) -> Finding:
        return Finding(text="one")

    @graph.node
    async def two(task: Code) -> Finding:
        return Finding(text="two")

    @graph.node
    async def join(findings: list[Finding]) -> Answer:
        return Answer(text=" ".join(sorted(finding.text for finding in findings)))

    assert (await run(runtime, graph, Question(text=""))).text == "one two"


def searches(work, *, pause=0.0, join=None, **options) -> Graph:
    """Searches whose findings are joined, which takes `pause` seconds."""
    graph = Graph("searches", input=int, output=Answer, **options)

    @graph.node
    async def plan(n: int) -> list[Search]:
        return [Search(query=str(item)) for item in range(n)]

    @graph.node
    async def look_up(task: Search) -> Finding:
        await work(task.query)
        return Finding(text=task.query)

    @graph.node(join=join)
    async def gather(findings: list[Finding]) -> Answer:
        await asyncio.sleep(pause)
        return Answer(text="".join(finding.text for finding in findings))

    return graph


async def test_a_quorum_fires_early_and_cancels_the_rest(runtime):
    graph = searches(sleeping(_3=60), join=Quorum(0.7, after=0.05))
    assert (await run(runtime, graph, 4)).text == "012"


async def test_a_quorum_takes_what_arrives_while_it_waits(runtime):
    graph = searches(sleeping(_3=0.02), join=Quorum(0.7, after=0.06), pause=0.1)
    assert (await run(runtime, graph, 4)).text == "0123"


@pytest.mark.parametrize("error", [None, OSError])
async def test_a_straggler_that_does_not_stop_changes_nothing(runtime, error):
    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60 if name == "1" else 0)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    graph = searches(work, join=Quorum(0.5, after=0.01), pause=0.05)
    started = await runtime.start(graph, 2)
    assert (await started.result()).text == "0"
    kinds = [event.kind async for event in started.events() if event.path == "look_up[1]"]
    assert kinds == ["step.started"]


async def test_a_quorum_lets_go_of_the_fan_outs_inside_it(runtime):
    graph = nested(sleeping(_1_1=60), table_join=Quorum(0.5, after=0.01))
    assert await run(runtime, graph, 2) == "0.0+0.1"


async def test_a_quorum_leaves_other_fan_outs_alone(runtime):
    work = sleeping(_0_1=60, _1_0=0.1, _1_1=0.1)
    assert await run(runtime, nested(work, row_join=Quorum(0.5, after=0.05)), 2) == "0.0 1.0+1.1"


async def test_a_quorum_lets_go_of_what_a_nodes_limit_held_back(runtime):
    began = []

    async def work(name: str) -> None:
        began.append(name)
        await asyncio.sleep(60 if name == "0.1" else 0)

    graph = nested(work, size=3, at_once=1, row_join=Quorum(0.3, after=0.05))
    assert await run(runtime, graph, 2) == "0.0 1.0+1.1+1.2"
    assert began == ["0.0", "0.1", "1.0", "1.1", "1.2"]


async def test_a_fan_out_beyond_the_most_steps_fails_the_run_once(runtime):
    started = await runtime.start(searches(sleeping(), max_steps=1), 3)
    with pytest.raises(RunFailed, match="StepLimit: more than max_steps=1"):
        await started.result()
    kinds = [event.kind async for event in started.events()]
    assert kinds == ["run.started", "step.started", "step.completed", "run.failed"]


async def test_shared_state_is_reduced(runtime):
    graph = Graph("g", input=Question, output=Answer, state=Notes)

    @graph.node
    async def plan(ctx: Context, question: Question) -> list[Search]:
        ctx.patch(last="plan")
        return [Search(query=letter) for letter in "abc"]

    @graph.node
    async def look_up(ctx: Context, task: Search) -> Finding:
        ctx.patch(notes=[task.query])
        return Finding(text=ctx.state.last)

    @graph.node
    async def join(ctx: Context, findings: list[Finding]) -> Answer:
        seen = {finding.text for finding in findings}
        return Answer(text=f"{sorted(ctx.state.notes)} {seen}")

    assert (await run(runtime, graph, Question(text=""))).text == "['a', 'b', 'c'] {'plan'}"


async def test_a_union_of_two_alike_classes_keeps_the_class(runtime):
    class Yes(BaseModel):
        why: str

    class No(BaseModel):
        why: str

    graph = Graph("g", input=str, output=str)

    @graph.node
    async def decide(text: str) -> Yes | No:
        return No(why=text)

    @graph.node
    async def yes(answer: Yes) -> str:
        return "yes"

    @graph.node
    async def no(answer: No) -> str:
        return "no"

    assert await run(runtime, graph, "x") == "no"


async def test_a_wrong_type_fails_the_node_that_gave_it(runtime):
    graph = Graph("g", input=str, output=Answer)

    @graph.node
    async def answer(text: str) -> Answer:
        return Finding(text="not an answer")

    started = await runtime.start(graph, "x")
    with pytest.raises(RunFailed, match="OutputInvalid: what node 'answer'.*must be Answer"):
        await started.result()
    assert not [e async for e in started.events() if e.kind == "step.completed"]


async def test_retry_makes_further_attempts(runtime):
    attempts = []
    graph = Graph("g", input=str, output=Answer)

    @graph.node(retry=Retry(attempts=3, first_delay=0.001))
    async def answer(text: str) -> Answer:
        attempts.append(text)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return Answer(text=text)

    started = await runtime.start(graph, "x")
    assert (await started.result()).text == "x"
    failed = [e.data async for e in started.events() if e.kind == "step.failed"]
    assert [(data["attempt"], data["final"]) for data in failed] == [(1, False), (2, False)]


async def test_the_last_failure_is_the_runs(runtime):
    @workflow
    async def fails(ctx: Context, text: str) -> str:
        raise ValueError("broken on purpose")

    with pytest.raises(RunFailed, match="ValueError: broken on purpose") as caught:
        await run(runtime, fails, "x")
    assert (caught.value.cause_type, caught.value.path) == ("ValueError", "fails[0]")


async def test_a_timeout_fails_the_step(runtime):
    graph = Graph("g", input=str, output=Answer)

    @graph.node(timeout=0.02)
    async def slow(text: str) -> Answer:
        await asyncio.sleep(60)

    with pytest.raises(RunFailed, match=r"StepTimeout: step 'slow' took longer .* 0.02 s"):
        await run(runtime, graph, "x")


async def test_concurrency_bounds_the_steps_of_a_node(runtime):
    running, most = 0, 0
    graph = Graph("g", input=int, output=Answer)

    @graph.node
    async def plan(n: int) -> list[Search]:
        return [Search(query=str(item)) for item in range(n)]

    @graph.node(concurrency=3)
    async def look_up(task: Search) -> Finding:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return Finding(text=task.query)

    @graph.node
    async def join(findings: list[Finding]) -> Answer:
        return Answer(text=str(len(findings)))

    assert (await run(runtime, graph, 20)).text == "20"
    assert most == 3


async def test_a_wide_fan_out_is_flat(runtime):
    graph = Graph("g", input=int, output=int)

    @graph.node
    async def plan(n: int) -> list[Search]:
        return [Search(query=str(item)) for item in range(n)]

    @graph.node
    async def look_up(task: Search) -> Finding:
        return Finding(text=task.query)

    @graph.node
    async def join(findings: list[Finding]) -> int:
        return len(findings)

    assert await run(runtime, graph, 2000) == 2000


async def test_a_wide_run_that_fails_at_once_leaves_nothing_running(runtime):
    async def work(name: str) -> None:
        raise ValueError(name)

    with pytest.raises(RunFailed, match="ValueError: 0"):
        await run(runtime, searches(work), 2000)
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) < 20


def test_append_is_a_value():
    assert Append() == Append()
