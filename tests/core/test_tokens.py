"""How tokens move, step by step: the engine alone, without an event loop."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import BaseModel

from crew import Graph, Quorum
from crew.event import (
    Failure,
    QuorumAwaited,
    QuorumReached,
    RunForked,
    RunStarted,
    StepCompleted,
    StepFailed,
)
from crew.graph import Workflow
from crew.graph.engine import apply, unfinished
from crew.graph.state import CancelStep, Fail, Finish, RunState, RunStep, WaitForQuorum


class Go(BaseModel):
    n: int = 0


class Red(BaseModel):
    n: int


class Blue(BaseModel):
    n: int


class Part(BaseModel):
    n: int


class Piece(BaseModel):
    n: int


class End(BaseModel):
    n: int


class Last(BaseModel):
    n: int


@dataclass
class Board:
    """A run of a graph whose steps are completed by hand, in whatever order."""

    graph: Workflow
    state: RunState = field(default_factory=RunState)
    ready: dict[str, RunStep] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    waits: list[WaitForQuorum] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    outcome: Any = None

    def begin(self, value: Any) -> "Board":
        stored = self.graph.input_codec.encode(value)
        return self.apply(RunStarted(workflow=self.graph.name, version="1", input=stored))

    def apply(self, event: Any) -> "Board":
        for command in apply(self.graph.build(), self.state, event):
            match command:
                case RunStep(path=path):
                    self.ready[path] = command
                    self.seen.append(path)
                case CancelStep(path=path):
                    self.cancelled.append(path)
                case WaitForQuorum():
                    self.waits.append(command)
                case Finish(output=output):
                    self.outcome = self.graph.output_codec.decode(output)
                case Fail(error=error):
                    self.outcome = error
        return self

    def given(self, path: str) -> Any:
        """Return what the step at `path` is called with."""
        node = self.graph.build().nodes[self.ready[path].node]
        return node.input.decode(self.ready[path].value)

    def gives(self, path: str, value: Any) -> "Board":
        """Complete the step at `path` with a value."""
        node = self.graph.build().nodes[self.ready.pop(path).node]
        return self.apply(StepCompleted(path, node.output.encode(value)))


def painted() -> Graph:
    """Items of two classes, each to a node that takes both, joined by one that takes both."""
    graph = Graph("painted", input=Go, output=End | Last)

    @graph.node
    async def split(go: Go) -> list[Red | Blue]: ...

    @graph.node
    async def paint(item: Red | Blue) -> Part | Piece: ...

    @graph.node
    async def join(parts: list[Part | Piece]) -> End | Last: ...

    return graph


def test_a_node_of_two_types_gets_each_value_as_its_own_class():
    board = Board(painted()).begin(Go()).gives("split[0]", [Red(n=1), Blue(n=2)])
    assert board.given("paint[0]") == Red(n=1)
    assert board.given("paint[1]") == Blue(n=2)


def test_a_join_of_two_types_gets_each_value_as_its_own_class_in_fan_out_order():
    board = Board(painted()).begin(Go()).gives("split[0]", [Red(n=1), Blue(n=2)])
    board.gives("paint[1]", Piece(n=2)).gives("paint[0]", Part(n=1))
    assert board.given("join[0]") == [Part(n=1), Piece(n=2)]


def test_an_output_of_two_types_is_of_its_own_class():
    board = Board(painted()).begin(Go()).gives("split[0]", [])
    assert board.gives("join[0]", Last(n=3)).outcome == Last(n=3)


def test_every_taker_of_a_broadcast_in_a_fan_out_gets_it():
    graph = Graph("shared", input=Go, output=End)

    @graph.node(broadcast=True)
    async def split(go: Go) -> list[Red]: ...

    @graph.node
    async def look(item: Red) -> None: ...

    @graph.node
    async def join(items: list[Red]) -> End: ...

    board = Board(graph).begin(Go()).gives("split[0]", [Red(n=1), Red(n=2)])
    assert sorted(board.ready) == ["look[0]", "look[1]"]
    board.gives("look[0]", None).gives("look[1]", None)
    assert board.given("join[0]") == [Red(n=1), Red(n=2)]


def test_every_taker_of_a_broadcast_outside_gets_it_and_one_may_end():
    graph = Graph("shared", input=Go, output=End)

    @graph.node(broadcast=True)
    async def begin(go: Go) -> Red | Part: ...

    @graph.node(broadcast=True)
    async def fan(item: Red) -> list[Part]: ...

    @graph.node
    async def look(part: Part) -> None: ...

    @graph.node
    async def join(parts: list[Part]) -> End: ...

    board = Board(graph).begin(Go()).gives("begin[0]", Part(n=1))
    assert sorted(board.ready) == ["join[0]", "look[0]"]
    assert board.gives("look[0]", None).outcome is None  # the other one is under way
    assert board.gives("join[0]", End(n=1)).outcome == End(n=1)


def test_each_join_of_a_fan_out_fires_once():
    graph = Graph("two", input=Go, output=End)

    @graph.node
    async def split(go: Go) -> list[Red | Blue]: ...

    @graph.node
    async def reds(items: list[Red]) -> Part | None: ...

    @graph.node
    async def blues(items: list[Blue]) -> Part | None: ...

    @graph.node
    async def end(part: Part) -> End: ...

    board = Board(graph).begin(Go()).gives("split[0]", [Blue(n=1), Red(n=2), Blue(n=3)])
    assert board.given("reds[0]") == [Red(n=2)]
    assert board.given("blues[0]") == [Blue(n=1), Blue(n=3)]
    assert board.gives("reds[0]", None).outcome is None
    assert board.gives("blues[0]", None).outcome.type == "NoOutput"


def counted() -> Graph:
    """A loop through a fan-out and its join; each item goes round once before it is joined."""
    graph = Graph("counted", input=Go, output=End, max_steps=40)

    @graph.node
    async def split(go: Go) -> list[Red]: ...

    @graph.node
    async def turn(item: Red) -> Red | Part: ...

    @graph.node
    async def join(parts: list[Part]) -> Go | End: ...

    return graph


def round_of(board: Board, number: int, turns: int) -> None:
    """Go once round the loop, `turns` times in the first branch."""
    split = next(path for path in board.ready if path.startswith("split"))
    board.gives(split, [Red(n=0), Red(n=1)])
    for turn in range(turns):
        first, *rest = sorted(board.ready)
        board.gives(first, Red(n=turn) if turn < turns - 1 else Part(n=number))
        del rest
    (other,) = board.ready
    board.gives(other, Part(n=1))


def test_a_further_firing_at_a_place_has_a_path_of_its_own():
    board = Board(counted()).begin(Go())
    round_of(board, 0, turns=3)
    board.gives("join[0]", Go(n=1))
    round_of(board, 1, turns=2)
    board.gives("join[1]", Go(n=2))
    round_of(board, 2, turns=1)
    assert len(set(board.seen)) == len(board.seen)
    assert board.seen == [
        *("split[0]", "turn[0]", "turn[1]", "turn[0,1]", "turn[0,2]", "join[0]"),
        *("split[1]", "turn[0,3]", "turn[1,3]", "turn[0,4]", "join[1]"),
        *("split[2]", "turn[0,5]", "turn[1,5]", "join[2]"),
    ]


def test_a_settled_fan_out_leaves_one_number_behind():
    board = Board(counted()).begin(Go())
    round_of(board, 0, turns=3)
    assert board.state.firings == {(): {"split": 1, "join": 1}}
    assert board.state.settled == {(): 3}


def test_an_empty_fan_out_forgets_nothing_and_counts_nothing():
    board = Board(counted()).begin(Go()).gives("split[0]", [])
    assert board.state.settled == {(): 0}
    board.gives("join[0]", Go())
    round_of(board, 0, turns=1)
    assert "turn[0]" in board.seen
    board.gives("join[1]", Go()).gives("split[2]", []).gives("join[2]", Go())
    round_of(board, 1, turns=1)
    assert "turn[0,1]" in board.seen


def test_places_at_which_nothing_fires_count_nothing():
    graph = Graph("direct", input=Go, output=End)

    @graph.node
    async def split(go: Go) -> list[Part]: ...

    @graph.node
    async def join(parts: list[Part]) -> End: ...

    board = Board(graph).begin(Go()).gives("split[0]", [Part(n=1), Part(n=2)])
    assert board.given("join[0]") == [Part(n=1), Part(n=2)]
    assert board.state.settled == {(): 0}


def test_a_loop_through_joins_has_a_bound():
    board = Board(counted()).begin(Go())
    answers = {"split": [Red(n=0)], "turn": Part(n=0), "join": Go()}
    while board.outcome is None:
        (path,) = board.ready
        board.gives(path, answers[path.partition("[")[0]])
    assert (board.outcome.type, board.outcome.path) == ("StepLimit", "turn")
    assert len(board.seen) == 40
    assert Graph("g", input=Go, output=End).max_steps == 1000


def test_counts_of_places_within_places_are_kept_apart():
    graph = Graph("deep", input=Go, output=End)

    @graph.node
    async def split(go: Go) -> list[Red]: ...

    @graph.node
    async def deal(item: Red) -> list[Blue]: ...

    @graph.node
    async def work(item: Blue) -> Blue | Part: ...

    @graph.node
    async def inner(parts: list[Part]) -> Red | End: ...

    @graph.node
    async def outer(parts: list[End]) -> End: ...

    board = Board(graph).begin(Go()).gives("split[0]", [Red(n=0), Red(n=1)])
    board.gives("deal[0]", [Blue(n=0)]).gives("work[0.0]", Blue(n=1)).gives(
        "work[0.0,1]", Part(n=1)
    )
    assert board.state.settled == {(0,): 2}
    board.gives("inner[0]", Red(n=0))
    board.gives("deal[0,1]", [Blue(n=0)])
    assert "work[0.0,2]" in board.ready
    board.gives("work[0.0,2]", Part(n=1)).gives("inner[0,1]", End(n=1))
    assert board.state.settled == {(0,): 3}
    board.gives("deal[1]", []).gives("inner[1]", End(n=2))
    assert board.state.settled == {(): 3}
    assert board.given("outer[0]") == [End(n=1), End(n=2)]


def partial(after: float) -> Graph:
    graph = Graph("partial", input=Go, output=End)

    @graph.node
    async def split(go: Go) -> list[Red]: ...

    @graph.node
    async def work(item: Red) -> Part: ...

    @graph.node(join=Quorum(0.5, after=after))
    async def join(parts: list[Part]) -> End: ...

    return graph


def test_a_quorum_is_counted_of_the_whole_fan_out_and_waits_once():
    board = Board(partial(30)).begin(Go()).gives("split[0]", [Red(n=n) for n in range(4)])
    board.gives("work[3]", Part(n=3))
    assert board.waits == []
    board.gives("work[1]", Part(n=1))
    assert [(wait.scope, wait.seconds) for wait in board.waits] == [(1, 30)]
    board.gives("work[0]", Part(n=0))
    assert len(board.waits) == 1
    board.apply(QuorumReached("quorum[1]", 1))
    assert board.cancelled == ["work[2]"]
    assert board.given("join[0]") == [Part(n=0), Part(n=1), Part(n=3)]


def test_a_worker_that_takes_over_goes_on_waiting_for_a_quorum():
    board = Board(partial(30)).begin(Go()).gives("split[0]", [Red(n=n) for n in range(4)])
    board.gives("work[3]", Part(n=3)).gives("work[1]", Part(n=1))
    kinds = [type(command).__name__ for command in unfinished(board.state)]
    assert kinds == ["RunStep", "RunStep", "WaitForQuorum"]


def test_a_worker_that_takes_over_waits_for_as_long_as_is_on_record():
    board = Board(partial(30)).begin(Go()).gives("split[0]", [Red(n=n) for n in range(4)])
    board.gives("work[3]", Part(n=3)).gives("work[1]", Part(n=1))
    (wait,) = board.waits
    board.apply(QuorumAwaited(wait.path, wait.scope, 77.5))
    assert unfinished(board.state)[-1] == replace(wait, until=77.5)
    board.apply(QuorumAwaited(wait.path, wait.scope + 5, 99.0))  # settled meanwhile
    assert unfinished(board.state)[-1] == replace(wait, until=77.5)


def test_a_step_that_is_tried_again_later_is_so_for_whoever_takes_over():
    board = Board(painted()).begin(Go())
    board.apply(StepFailed("split[0]", Failure("E", "no", ""), 1, final=False, until=12.5))
    again = board.ready[board.seen[-1]]
    assert (again.attempt, again.until) == (2, 12.5)
    assert unfinished(board.state) == [again]


def test_the_failure_of_a_step_that_ends_the_run_names_the_step():
    board = Board(painted()).begin(Go())
    board.apply(StepFailed("split[0]", Failure("E", "no", "somewhere"), 1, final=True))
    assert board.outcome == Failure("E", "no", "split[0]")
    assert unfinished(board.state) == [Fail(board.outcome)]


@pytest.mark.parametrize(
    ("own", "above", "forked", "left"),
    [
        ({"budget": 9}, None, {"budget": 5}, (5, None, None, False)),
        ({"budget": 5, "budget_strict": True}, None, {"budget": 9}, (5, None, None, True)),
        ({"budget_calls": 2}, None, {"budget_calls": 3}, (None, 2, None, False)),
        ({"budget_seconds": 4.0}, None, {"budget_seconds": 3.0}, (None, None, 3.0, False)),
        ({"budget_seconds": 3.0}, None, {"budget_strict": True}, (None, None, 3.0, True)),
        ({}, [["r0", 7, 4, True]], {"budget": 8}, (7, 4, None, True)),
        ({}, [["r0", 7, None, False], ["r1", 6, 1, False]], {}, (6, 1, None, False)),
        ({}, [["r0", 5, 1, False], ["r1", 6, 2, False]], {}, (5, 1, None, False)),
    ],
)
def test_a_fork_has_the_limits_of_its_base_those_above_and_its_own(own, above, forked, left):
    board = Board(painted())
    board.apply(
        RunStarted("painted", "1", board.graph.input_codec.encode(Go()), above=above, **own)
    )
    board.apply(RunForked("r1", 1, **forked))
    started = board.state.started
    assert (
        started.budget,
        started.budget_calls,
        started.budget_seconds,
        bool(started.budget_strict),
    ) == left
    assert started.above is None
