"""Random programs as data: trees of statements.

Each statement has a number of its own in its program, its site, by which its calls are known.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from crew.budget import Budget

Kind: TypeAlias = Literal["refusal", "missing", "builtin", "uncaught"]
How: TypeAlias = Literal["gather", "group", "each"]
What: TypeAlias = Literal["function", "child", "agent"]
Limit: TypeAlias = Literal["none", "kept", "passes"]
Oddity: TypeAlias = Literal["number", "order", "tuple"]
Called: TypeAlias = Literal["look", "order", "sign", "hold", "ask"]


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
class Stubborn:
    """A call of a function that swallows a cancel: it returns, or raises an error, in its place."""

    site: int
    raises: bool = False


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
    """A question to a person, without a time limit, with one that is kept, or one that passes.

    In the last case nobody answers; it is asked where no other branch races it, since the run
    leaves memory meanwhile.
    """

    site: int
    limit: Limit = "none"


@dataclass(frozen=True, slots=True)
class Clock:
    """A journalled value, or a short journalled sleep.

    It sleeps where no other branch races it: a time that is given cannot wait for its turn.
    """

    site: int
    sleeps: bool = False


@dataclass(frozen=True, slots=True)
class AgentCall:
    """An agent that calls so many tools at once, then answers.

    The first of them may be called once at most, with a person's approval or without, or hold the
    run: it calls functions at once and acts, or asks the agent.
    """

    site: int
    tools: int = 1
    first: Called = "look"
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """A workflow of its own as a run of its own."""

    site: int
    body: "Body" = ()
    budget: Budget | None = None


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
    budget: Budget | None = None


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
class Timed:
    """A block in `ctx.timeout`, whose time is never up, or is up behind its last statement.

    What it waits for then is a call, or a journalled sleep, where no other branch races it.
    """

    site: int
    body: "Body" = ()
    strikes: bool = False
    asleep: bool = False


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
Funded: TypeAlias = AgentCall | Child | Map
Leaf: TypeAlias = Function | Flaky | Refused | Act | Ask | Clock | AgentCall | Note | Caught
Block: TypeAlias = (
    Funded | Together | First | Cancel | Locked | Signal | Pipe | Within | Repeat | Timed
)
Statement: TypeAlias = Leaf | Block | Left | Stubborn
Body: TypeAlias = tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """A program that is one async function; `budget` is what it may spend in all."""

    body: Body
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Nodes:
    """A program that is a graph: split, work on each item, join, loop so often, end.

    `fails` is how often the work on each item fails before a further attempt does it; `budget`,
    what it may spend in all.
    """

    width: int
    work: Body
    fails: int
    concurrency: int | None
    loops: int
    tick: Body
    budget: Budget | None = None


Tree: TypeAlias = Plain | Nodes
