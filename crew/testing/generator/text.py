"""A program as text that reads like Python, for people who look at one that broke."""

from collections.abc import Iterator, Sequence

from crew.budget import Budget
from crew.testing.generator.tree import (
    Act,
    AgentCall,
    Ask,
    Body,
    Cancel,
    Child,
    Clock,
    First,
    Flaky,
    Function,
    Keep,
    Left,
    Locked,
    Map,
    Nodes,
    Note,
    Odd,
    Pipe,
    Refused,
    Repeat,
    Signal,
    Statement,
    Stubborn,
    Timed,
    Together,
    Tree,
    Unkept,
    Within,
)

_LIMITS = ("tokens", "calls", "seconds")
_CALLED = {
    "look": "",
    "order": ", one of them once",
    "sign": ", one of them once, if a person approves",
    "hold": ", one of which holds the run",
    "ask": ", one of which asks the agent",
}
_HOWS = {"gather": "asyncio.gather", "group": "TaskGroup", "each": "asyncio.as_completed"}


def text_of(tree: Tree) -> str:
    """Return a program as text; each statement begins with its site."""
    head = f"program{_within(tree.budget)}"
    lines = _graph(tree, head) if isinstance(tree, Nodes) else _block(head, tree.body)
    return "\n".join(lines)


def _within(budget: Budget | None) -> str:
    """Return what stands behind what is called with a budget."""
    if budget is None:
        return ""
    limits = [f"{name}={value:g}" for name in _LIMITS if (value := getattr(budget, name))]
    strict = ["strict=True"] if budget.strict else []
    return f", budget=Budget({', '.join(limits + strict)})"


def _graph(tree: Nodes, head: str) -> Iterator[str]:
    yield f"{head}: split, {tree.width} parts"
    yield from _block(f"part, fails={tree.fails}, concurrency={tree.concurrency}", tree.work)
    yield from _block(f"join, then tick, {tree.loops + 1} times", tree.tick)


def _block(head: str, *bodies: Body) -> Iterator[str]:
    for number, body in enumerate(bodies):
        yield f"{head}:" if number == 0 else "beside:"
        for statement in body:
            yield from (f"    {line}" for line in _lines(statement))


def _lines(statement: Statement) -> Iterator[str]:
    head, bodies = _parts(statement)
    if bodies:
        yield from _block(f"{statement.site} {head}", *bodies)
    else:
        yield f"{statement.site} {head}"


def _parts(statement: Statement) -> tuple[str, Sequence[Body]]:
    """Return what a statement does, and the bodies it holds."""
    match statement:
        case Function(keyed=keyed, plain=plain):
            second = ", then one named as its key" if keyed else ""
            return f"ctx.run({'work_at_once' if plain else 'work'}{second})", ()
        case Flaky(fails=fails):
            return f"ctx.run(flaky, retry=Retry(attempts={fails + 1}))  # fails {fails} times", ()
        case Stubborn(raises=raises):
            instead = "raises Refusal" if raises else "returns"
            return f"ctx.run(stubborn)  # {instead} when it is cancelled", ()
        case Refused(error=error):
            return f"ctx.run(refuse)  # raises {error}", ()
        case Keep():
            return "ctx.run(keep, items), twice  # changes items, and what it returned", ()
        case Odd(what=what):
            return f"ctx.run(odd_{what})  # raises OutputInvalid", ()
        case Unkept():
            return "ctx.run(…, retry=2), and in it ctx.effect(sign)  # raises OutputInvalid", ()
        case Act(key=key, unknown=unknown):
            return f"ctx.effect(act, key={key}, unknown={unknown!r})", ()
        case Ask(limit=limit):
            said = {"none": "", "kept": ", timeout=…", "passes": ", timeout=…)  # nobody answers"}
            return f"ctx.ask(int{said[limit]}".removesuffix(")") + ")", ()
        case Clock(sleeps=sleeps):
            return "ctx.sleep(0.02)" if sleeps else "ctx.now()", ()
        case AgentCall(tools=tools, first=first, budget=budget):
            once_said = _CALLED[first]
            return f"ctx.run(agent{_within(budget)})  # {tools} tools{once_said}", ()
        case Note():
            return "log.append(value)", ()
        case Left():
            return "create_task(ctx.run(work))  # left", ()
        case Child(body=body, budget=budget):
            return f"ctx.run(child{_within(budget)})", (body,)
        case Together(how=how, branches=branches):
            return _HOWS[how], branches
        case First(branches=branches, cancels=cancels):
            rest = "cancel the others" if cancels else "wait for the others"
            return f"wait(FIRST_COMPLETED), ctx.effect(act, key=winner), {rest}", branches
        case Map(what=what, items=items, concurrency=limit, body=body, budget=budget):
            how = f"{items} items, concurrency={limit}{_within(budget)}"
            return f"ctx.map({what}, {how})", (body,) if body else ()
        case Cancel(victim=victim, other=other):
            return "cancel the first once the second has ended", ((victim,), (other,))
        case Locked(body=body):
            return "async with lock", (body,)
        case Signal(setter=setter, waiter=waiter):
            return "gather, then event.set(), and after event.wait()", (setter, waiter)
        case Pipe(makers=makers):
            return "queue.put(…), and for each queue.get(), ctx.run(work)", makers
        case Within(body=body):
            return "asyncio.wait_for", (body,)
        case Timed(body=body, strikes=strikes, asleep=asleep):
            late = f"  # up while it {'sleeps' if asleep else 'calls'}" if strikes else ""
            return f"async with ctx.timeout{late}", (body,)
        case Repeat(times=times, body=body):
            return f"for _ in range({times})", (body,)
