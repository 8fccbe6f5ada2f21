"""Calls that do to values what no journal could keep: to arguments, and in results."""

from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from crew.call.context import Context
from crew.errors import OutputInvalid
from crew.graph.retry import Retry
from crew.testing.generator import calls
from crew.testing.generator.branch import Branch
from crew.testing.generator.calls import weight
from crew.testing.generator.tree import Caught, Keep, Odd, Oddity, Unkept
from crew.testing.generator.world import world

_ODD: dict[Oddity, Callable[[str, int], Any]] = {
    "number": calls.odd_number,
    "order": calls.odd_order,
    "tuple": calls.odd_tuple,
}


async def caught(branch: Branch, statement: Caught) -> None:
    """Carry out a call whose value would not come back as it was, or changes behind its back."""
    site = branch.at(statement.site)
    match statement:
        case Keep():
            await _kept(branch, site)
        case Odd(what=what):
            await _refused(branch, branch.ctx.run(_ODD[what], site, branch.value))
        case Unkept():
            retry = Retry(attempts=2, first_delay=0.01)
            call = branch.ctx.run(_unkept, branch.ctx, site, branch.value, retry=retry)
            await _refused(branch, call)
        case _:
            assert_never(statement)


async def _kept(branch: Branch, site: str) -> None:
    items = [branch.value]
    first = await branch.ctx.run(calls.keep, f"{site}a", items, site)
    await branch.ctx.run(calls.keep, f"{site}b", items, site)
    branch.see(first[0])
    branch.see(len(first) + len(items))


async def _refused(branch: Branch, call: Awaitable[Any]) -> None:
    try:
        branch.see(weight(repr(await call)))
    except OutputInvalid as invalid:
        branch.see(weight(type(invalid).__name__))


async def _unkept(ctx: Context, site: str, value: int) -> Any:
    key = f"u-{site}".replace("/", "-")
    try:
        return await ctx.effect(calls.sign, site, value, key=key, unknown="retry")
    except OutputInvalid:
        await world().turn(f"function:{site}")
        raise
