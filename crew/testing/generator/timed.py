"""What random programs do that comes to its end by time, or would."""

from collections.abc import Awaitable, Callable

from crew.testing.generator import calls
from crew.testing.generator.branch import Branch
from crew.testing.generator.calls import weight
from crew.testing.generator.tree import Limit, Timed
from crew.testing.generator.world import FOREVER, UNANSWERED, world


async def timed(branch: Branch, statement: Timed, body: Callable[[], Awaitable[int]]) -> None:
    """Carry out a block with a deadline, which passes behind its body or never."""
    ctx, site = branch.ctx, branch.at(statement.site)
    try:
        async with ctx.timeout(world().patience(weight(site)) if statement.strikes else FOREVER):
            await body()
            if statement.asleep:
                await ctx.sleep(FOREVER)
            elif statement.strikes:
                await ctx.run(calls.hang, site)
    except TimeoutError:
        branch.see(weight(site))


async def asked(branch: Branch, site: str, limit: Limit) -> None:
    """Ask a person, who answers in time, or never."""
    name = f"{UNANSWERED if limit == 'passes' else 'q'}-{site}".replace("/", "-")
    seconds = {"none": None, "kept": FOREVER, "passes": world().patience(weight(site))}[limit]
    try:
        branch.see(await branch.ctx.ask(int, f"How many at {site}?", key=name, timeout=seconds))
    except TimeoutError:
        branch.see(weight(site))
