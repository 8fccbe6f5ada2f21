"""Random programs as data: a tree of statements, grown by choices.

Each statement has a number of its own in its program, its site, by which its calls are known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")

Choose: TypeAlias = Callable[[int], int]
"""Returns a number below the one it is given; 0 leads to the simplest program."""

Kind: TypeAlias = Literal["refusal", "missing", "builtin", "uncaught"]
How: TypeAlias = Literal["gather", "group", "each"]
What: TypeAlias = Literal["function", "child", "agent"]
Oddity: TypeAlias = Literal["number", "order", "tuple"]

MOST_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Function:
    """A call of a function, with a key or without; a plain one takes no time.

    After one with a key comes a call without, of a function whose name is that key.
    """

    site: int
    keyed: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Flaky:
    """A call that is retried: its function fails the first `fails` times."""

    site: int
    fails: int = 1


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that raises an error of the user's own, which is caught by its class."""

    site: int
    error: Kind = "refusal"


@dataclass(frozen=True, slots=True)
class Keep:
    """Two calls of a function that changes its argument, and what it returned before."""

    site: int


@dataclass(frozen=True, slots=True)
class Odd:
    """A call whose result would not come back as it was, which is caught as OutputInvalid."""

    site: int
    what: Oddity = "number"


@dataclass(frozen=True, slots=True)
class Unkept:
    """An effect whose result cannot be stored, in a call that is retried and fails for it."""

    site: int


@dataclass(frozen=True, slots=True)
class Act:
    """An effect; its key is its place's, or depends on what was seen before, or there is none."""

    site: int
    key: Literal["none", "site", "seen"] = "none"
    unknown: Literal["retry", "fail"] = "retry"


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to a person."""

    site: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A journalled value, or a short journalled sleep.

    It sleeps where no other branch races it: a time that is given cannot wait for its turn.
    """

    site: int
    sleeps: bool = False


@dataclass(frozen=True, slots=True)
class AgentCall:
    """An agent that calls so many tools at once, then answers; one of them once at most."""

    site: int
    tools: int = 1
    once: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """A workflow of its own as a run of its own."""

    site: int
    body: "Body" = ()


@dataclass(frozen=True, slots=True)
class Note:
    """The branch writes into a list that all branches share."""

    site: int


@dataclass(frozen=True, slots=True)
class Together:
    """Branches at once."""

    site: int
    how: How = "gather"
    branches: tuple["Body", ...] = ()


@dataclass(frozen=True, slots=True)
class First:
    """A race on the first completion; an effect is keyed by who won.

    The others are waited for, or cancelled.
    """

    site: int
    branches: tuple["Body", ...] = ()
    cancels: bool = False


@dataclass(frozen=True, slots=True)
class Map:
    """`ctx.map` over so many items."""

    site: int
    what: What = "function"
    items: int = 2
    concurrency: int | None = None
    body: "Body" = ()


@dataclass(frozen=True, slots=True)
class Cancel:
    """A task is cancelled once another one has ended."""

    site: int
    victim: "Statement"
    other: "Statement"


@dataclass(frozen=True, slots=True)
class Locked:
    """A block under a lock that all branches share."""

    site: int
    body: tuple["Leaf", ...] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """One branch waits for an event that another one sets."""

    site: int
    setter: "Body" = ()
    waiter: "Body" = ()


@dataclass(frozen=True, slots=True)
class Pipe:
    """Branches put what they made into a queue, from which another one takes and works on it."""

    site: int
    makers: tuple["Body", ...] = ()


@dataclass(frozen=True, slots=True)
class Within:
    """A block in `asyncio.wait_for`, whose time is never up."""

    site: int
    body: "Body" = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop."""

    site: int
    times: int = 2
    body: "Body" = ()


@dataclass(frozen=True, slots=True)
class Left:
    """A task that nobody waits for."""

    site: int


Caught: TypeAlias = Keep | Odd | Unkept
Leaf: TypeAlias = Function | Flaky | Refused | Act | Ask | Clock | AgentCall | Note | Caught
Block: TypeAlias = (
    Child | Together | First | Map | Cancel | Locked | Signal | Pipe | Within | Repeat
)
Statement: TypeAlias = Leaf | Block | Left
Body: TypeAlias = tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """A program that is one async function."""

    body: Body


@dataclass(frozen=True, slots=True)
class Nodes:
    """A program that is a graph: split, work on each item, join, loop so often, end.

    `fails` is how often the work on each item fails before a further attempt does it.
    """

    width: int
    work: Body
    fails: int
    concurrency: int | None
    loops: int
    tick: Body


Tree: TypeAlias = Plain | Nodes


def grow(choose: Choose, *, size: int = 9) -> Tree:
    """Return a program of about `size` calls, one in eight a graph."""
    is_graph = choose(8) == 7
    grower = _Grower(choose, size, calm=is_graph)
    return grower.nodes() if is_graph else Plain(grower.program())


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

    def program(self) -> Body:
        first = self._block(1) if self._choose(6) else self._leaf(alone=True)
        sleep = (Clock(self._site(), sleeps=True),) if self._choose(6) == 5 else ()
        left = (Left(self._site()),) if self._choose(12) == 11 else ()
        return (first, *self._body(1, alone=True), *sleep, *left)

    def nodes(self) -> Nodes:
        return Nodes(
            width=1 + self._choose(3),
            work=self._body(2, alone=True),
            fails=self._choose(2),
            concurrency=self._of((None, 1, 2)),
            loops=self._choose(3),
            tick=self._body(2, alone=True),
        )

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
            return Function(site, keyed=self._choose(4) == 3, plain=alone and self._choose(8) == 7)
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
            once = self._choose(6) == 5 and not self._calm
            return AgentCall(site, self._choose(3), once)
        if kind > 15:
            return self._caught(site, kind)
        return Ask(site) if kind == 14 or not alone else Clock(site)

    def _caught(self, site: int, kind: int) -> Caught:
        if kind == 16:
            return Keep(site)
        return Unkept(site) if kind == 17 else Odd(site, self._of(_ODDITIES))

    def _block(self, depth: int) -> Block:
        site, kind = self._site(), self._choose(18)
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
        return Repeat(site, 2, self._body(depth))

    def _victim(self) -> Statement:
        self._left -= 1
        site = self._site()
        return Act(site, "site") if self._choose(4) == 3 else Function(site)

    def _map(self, site: int, depth: int) -> Map:
        what = self._of(_WHATS)
        body = (self._leaf(),) if what == "child" else ()
        return Map(site, what, 2 + self._choose(2), self._of((None, 1, 2)), body)
