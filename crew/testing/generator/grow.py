"""Random programs, grown by choices."""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from crew.budget import Budget
from crew.testing.generator.tree import (
    Act,
    AgentCall,
    Ask,
    Block,
    Body,
    Called,
    Cancel,
    Caught,
    Child,
    Clock,
    First,
    Flaky,
    Function,
    Funded,
    How,
    Keep,
    Kind,
    Leaf,
    Left,
    Locked,
    Map,
    Nodes,
    Note,
    Odd,
    Oddity,
    Pipe,
    Plain,
    Refused,
    Repeat,
    Signal,
    Statement,
    Stubborn,
    Timed,
    Together,
    Tree,
    Unkept,
    What,
    Within,
)
from crew.testing.generator.world import FOREVER

T = TypeVar("T")

Choose: TypeAlias = Callable[[int], int]
"""Returns a number below the one it is given; 0 leads to the simplest program."""

MOST_DEPTH = 3
AMPLE = 1_000_000
"""Tokens, or calls of models, of which every program needs less."""


def grow(choose: Choose, *, size: int = 9) -> Tree:
    """Return a program of about `size` calls, one in eight a graph."""
    is_graph = choose(8) == 7
    grower = _Grower(choose, size, calm=is_graph)
    return grower.nodes() if is_graph else grower.plain()


_ERRORS: tuple[Kind, ...] = (
    "builtin",
    "refusal",
    "missing",
    "refusal",
    "missing",
    "refusal",
    "uncaught",
)
_HOWS: tuple[How, ...] = ("gather", "group", "each")
_ODDITIES: tuple[Oddity, ...] = ("number", "order", "tuple")
_CALLED: tuple[Called, ...] = ("look", "look", "look", "hold", "ask", "order", "sign")
_WHATS: tuple[What, ...] = ("function", "function", "child", "agent")


class _Grower:
    """Grows statements until their number is used up.

    Nothing but what is to be retried fails in a calm program: a further attempt of a node makes
    its plain calls anew, which would look like calls that are made again.
    """

    def __init__(self, choose: Choose, size: int, *, calm: bool) -> None:
        self._choose = choose
        self._left = size
        self._calm = calm
        self._sites = 0

    def plain(self) -> Plain:
        if self._choose(10) < 9:
            return Plain(self._program())
        budget = self._budget()
        return Plain((self._spenders(), *self._program()), budget)

    def _program(self) -> Body:
        first = self._block(1) if self._choose(6) else self._leaf(alone=True)
        sleep = (Clock(self._site(), sleeps=True),) if self._choose(6) == 5 else ()
        late = (self._late(),) if self._choose(6) == 5 else ()
        left = (Left(self._site()),) if self._choose(12) == 11 else ()
        return (first, *self._body(1, alone=True), *sleep, *late, *left)

    def _late(self) -> Statement:
        """Return what comes to nothing in its time, while the run is out of memory."""
        if self._choose(2):
            return Ask(self._site(), "passes")
        return Timed(self._site(), self._body(2), strikes=True, asleep=True)

    def nodes(self) -> Nodes:
        return Nodes(
            width=1 + self._choose(3),
            work=self._body(2, alone=True),
            fails=self._choose(2),
            concurrency=self._of((None, 1, 2)),
            loops=self._choose(3),
            tick=self._body(2, alone=True),
            budget=self._budget() if self._choose(8) == 7 else None,
        )

    def _budget(self) -> Budget:
        """Return what is ample, or enough for few calls of models, or not for one."""
        kind = self._choose(8)
        if kind < 5:
            return Budget(tokens=150 * (1 + self._choose(14)), strict=kind == 4)
        if kind < 7:
            return Budget(calls=1 + self._choose(4), tokens=AMPLE if kind == 5 else None)
        return Budget(tokens=AMPLE, calls=AMPLE, seconds=FOREVER)

    def _site(self) -> int:
        self._sites += 1
        return self._sites

    def _of(self, options: Sequence[T]) -> T:
        return options[self._choose(len(options))]

    def _body(self, depth: int, *, alone: bool = False) -> Body:
        return tuple(self._statement(depth, alone=alone) for _ in range(1 + self._choose(2)))

    def _bodies(self, depth: int) -> tuple[Body, ...]:
        return tuple(self._body(depth) for _ in range(2 + (self._choose(4) == 3)))

    def _statement(self, depth: int, *, alone: bool) -> Statement:
        if depth >= MOST_DEPTH or self._left <= 0 or self._choose(3) < 2:
            return self._leaf(alone=alone)
        return self._block(depth + 1)

    def _leaf(self, *, alone: bool = False) -> Leaf:
        """Return a call; one that takes no time only where no branch of its step is beside it.

        An order of completions does not tell how many of them came at one moment, and what takes
        no time comes behind all of those.
        """
        self._left -= 1
        site, kind = self._site(), self._choose(20)
        if kind < 4:
            return Function(site, keyed=self._choose(3) == 2, plain=alone and self._choose(8) == 7)
        if kind < 6:
            return Note(site)
        if kind < 9:
            unknown = "fail" if self._choose(8) == 7 and not self._calm else "retry"
            return Act(site, self._of(("none", "site", "seen")), unknown)
        if kind < 11:
            return Flaky(site, 1 + self._choose(2))
        if kind < 13:
            return Refused(site, self._of(_ERRORS[: -1 if self._calm else None]))
        if kind == 13:
            return self._agent(site)
        if kind > 15:
            return self._caught(site, kind)
        if kind == 15 and alone:
            return Clock(site)
        return Ask(site, self._of(("none", "kept")))

    def _agent(self, site: int, budget: Budget | None = None) -> AgentCall:
        first = self._of(_CALLED)
        if first in ("order", "sign") and self._calm:
            first = "look"
        tools = max(self._choose(3), 0 if first == "look" else 1)
        return AgentCall(site, tools, first, budget)

    def _caught(self, site: int, kind: int) -> Caught:
        if kind == 16:
            return Keep(site)
        return Unkept(site) if kind == 17 else Odd(site, self._of(_ODDITIES))

    def _block(self, depth: int) -> Block:
        site, kind = self._site(), self._choose(24)
        if kind < 4:
            return Together(site, self._of(_HOWS), self._bodies(depth))
        if kind < 7:
            return First(site, self._bodies(depth), cancels=self._choose(2) == 1)
        if kind < 9:
            return Child(site, self._body(depth, alone=True))
        if kind < 11:
            return self._map(site, depth)
        if kind < 13:
            return Cancel(site, self._victim(), self._leaf())
        if kind == 13:
            # Leaves alone: whoever holds the lock must not ask for it again.
            return Locked(site, (self._leaf(), self._leaf()))
        if kind == 14:
            return Signal(site, self._body(depth), self._body(depth))
        if kind == 15:
            return Pipe(site, self._bodies(depth))
        if kind == 16:
            return Within(site, self._body(depth))
        if kind > 20:
            return self._funded(site, depth)
        if kind > 17:
            return Timed(site, self._body(depth), strikes=self._choose(3) > 0)
        return Repeat(site, 2, self._body(depth))

    def _funded(self, site: int, depth: int) -> Funded:
        """Return what calls models, and has a budget for that."""
        self._left -= 1
        budget, kind = self._budget(), self._choose(4)
        if kind > 1:
            return Child(site, (self._spenders(), *self._body(depth, alone=True)), budget)
        if kind == 0:
            return self._agent(site, budget)
        limit = self._of((None, 1, 2))
        return Map(site, "agent", 2 + self._choose(2), limit, budget=budget)

    def _spenders(self) -> Together:
        """Return branches that call models, one of them perhaps in a child."""
        branches = list[Body]()
        for _ in range(2):
            is_map = self._choose(3) == 2
            agents = Map(self._site(), "agent") if is_map else self._agent(self._site())
            in_child = self._choose(2) == 1
            branches.append((Child(self._site(), (agents,)) if in_child else agents,))
        self._left -= 2
        return Together(self._site(), branches=tuple(branches))

    def _victim(self) -> Statement:
        self._left -= 1
        site = self._site()
        match self._choose(4):
            case 3:
                return Act(site, "site")
            case 2:
                return Stubborn(site, raises=site % 2 == 1)
            case _:
                return Function(site)

    def _map(self, site: int, depth: int) -> Map:
        what = self._of(_WHATS)
        body = (self._leaf(),) if what == "child" else ()
        return Map(site, what, 2 + self._choose(2), self._of((None, 1, 2)), body)
