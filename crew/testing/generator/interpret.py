"""A tree as a workflow: its statements carried out over a context."""

import asyncio
import functools
from collections.abc import Coroutine
from typing import Any, assert_never

from crew.call.context import Context
from crew.graph import Workflow
from crew.graph.retry import Retry
from crew.run import Graph, workflow
from crew.testing.generator import calls
from crew.testing.generator.branch import Branch, Done, Part, Round, Seen, Shared, Start
from crew.testing.generator.calls import mixed, weight
from crew.testing.generator.caught import caught
from crew.testing.generator.spending import given, paid
from crew.testing.generator.timed import asked, timed
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
    Within,
)
from crew.testing.generator.world import FOREVER, world


def workflow_of(tree: Tree, name: str, *, renamed: str = "") -> Workflow:
    """Return a workflow that does what `tree` says, for an input of type `Start`.

    `renamed` is the place of an effect that has another key, as in a later version of the code.
    """
    interpreter = Interpreter(name, renamed)
    if isinstance(tree, Plain):
        return interpreter.plain(tree.body, name)
    return _graph(tree, name, interpreter)


class Interpreter:
    """Carries out the statements of one program."""

    def __init__(self, name: str, renamed: str = "") -> None:
        self._name = name
        self._renamed = renamed
        self._agent = calls.agent()
        self._children: dict[int, Workflow] = {}

    def plain(self, body: Body, name: str) -> Workflow:
        async def program(ctx: Context, start: Start) -> Seen:
            if start.place:
                world().note(f"child:{start.place}")
            branch = Branch(ctx, start.place and f"{start.place}/", start.value, Shared())
            await self.run(branch, body)
            if start.place:
                await world().turn(f"child:{start.place}")
            return Seen(site=f"site:{start.place}", value=branch.value, log=branch.shared.log)

        return workflow(name=name)(program)

    async def run(self, branch: Branch, body: Body) -> int:
        """Carry out statements one after the other; return what the branch has seen."""
        for statement in body:
            await self._do(branch, statement)
        return branch.value

    async def _do(self, branch: Branch, statement: Statement) -> None:
        match statement:
            case Function() | Flaky() | Refused() | Act() | Ask() | Clock() | AgentCall() | Child():
                await self._call(branch, statement)
            case Keep() | Odd() | Unkept():
                await caught(branch, statement)
            case Stubborn():
                await self._stubborn(branch, statement)
            case Note(site):
                branch.shared.log.append(f"{branch.at(site)}={branch.value}")
                branch.see(len(branch.shared.log))
            case Together():
                await self._together(branch, statement)
            case First():
                await self._first(branch, statement)
            case Map():
                await self._map(branch, statement)
            case Cancel():
                await self._cancel(branch, statement)
            case Locked(_, body):
                async with branch.shared.lock:
                    branch.see(len(branch.shared.log))
                    await self.run(branch, body)
            case Signal():
                await self._signal(branch, statement)
            case Pipe():
                await self._pipe(branch, statement)
            case Within(_, body):
                await asyncio.wait_for(self.run(branch, body), FOREVER)
            case Timed():
                await timed(branch, statement, lambda: self.run(branch, statement.body))
            case Repeat(site, times, body):
                for n in range(times):
                    inner = branch.branch(f"{branch.at(site)}.{n}/")
                    branch.see(await self.run(inner, body))
            case Left(site):
                task = branch.ctx.run(calls.work, branch.at(site), branch.value)
                branch.shared.left.append(asyncio.create_task(task))
            case _:
                assert_never(statement)

    async def _call(self, branch: Branch, statement: Statement) -> None:
        ctx, value, site = branch.ctx, branch.value, branch.at(statement.site)
        match statement:
            case Function(plain=True):
                branch.see(await ctx.run(calls.work_at_once, site + calls.AT_ONCE, value))
            case Function(keyed=keyed):
                key = f"f-{site}".replace("/", "-") if keyed else None
                branch.see(await ctx.run(calls.work, site, value, key=key))
                if key is not None:
                    branch.see(await ctx.run(calls.named(key), f"{site}n", value))
            case Flaky(fails=fails):
                retry = Retry(attempts=fails + 1, first_delay=0.01)
                branch.see(await ctx.run(calls.flaky, site, value, fails, retry=retry))
            case Refused(error=error):
                await self._refused(branch, site, error)
            case Act():
                await self._act(branch, statement, site)
            case Ask(limit=limit):
                await asked(branch, site, limit)
            case Clock(sleeps=sleeps):
                await (ctx.sleep(0.02) if sleeps else ctx.now())
            case AgentCall(tools=tools, first=first, budget=budget):
                task = calls.task(site, value, tools=tools, first=first)
                call = ctx.run(self._agent, task, budget=given(site, budget))
                if (said := await paid(branch, call)) is not None:
                    branch.see(said.output)
            case Child(budget=budget):
                child, start = self._child(statement), Start(place=site, value=value)
                branch.see((await ctx.run(child, start, budget=given(site, budget))).value)
            case _:
                raise AssertionError(statement)

    def _child(self, statement: Child | Map) -> Workflow:
        site = statement.site
        if site not in self._children:
            self._children[site] = self.plain(statement.body, f"{self._name}-{site}")
        return self._children[site]

    async def _refused(self, branch: Branch, site: str, error: str) -> None:
        call = branch.ctx.run(calls.refuse, site, branch.value, error)
        if error == "uncaught":
            await call
            return
        try:
            await call
        except calls.Refusal as refusal:
            branch.see(mixed(refusal.amount, weight(str(refusal))))
        except calls.Missing as missing:
            branch.see(mixed(missing.args[1], weight(str(missing))))
        except ValueError as invalid:
            branch.see(weight(str(invalid)))

    async def _stubborn(self, branch: Branch, statement: Stubborn) -> None:
        function = functools.partial(calls.stubborn, raises=statement.raises)
        site = branch.at(statement.site)
        try:
            branch.see(await branch.ctx.run(function, site, branch.value))
        except calls.Refusal as refusal:
            branch.see(mixed(refusal.amount, weight(str(refusal))))
        # What was swallowed does not come again.
        branch.see(await branch.ctx.run(calls.work, f"{site}s", branch.value))

    async def _act(self, branch: Branch, statement: Act, site: str) -> None:
        keys = {
            "none": None,
            "site": f"a-{site}".replace("/", "-"),
            "seen": f"a-{site}-{branch.value}".replace("/", "-"),
        }
        key = keys[statement.key]
        if site == self._renamed:
            key = f"renamed-{key}-{site}".replace("/", "-")
        effect = branch.ctx.effect(
            calls.act, site, branch.value, key=key, unknown=statement.unknown
        )
        branch.see(await effect)

    def _started(self, branch: Branch, site: int, bodies: tuple[Body, ...]) -> "list[Work]":
        return [
            self.run(branch.branch(f"{branch.at(site)}.{n}/"), body)
            for n, body in enumerate(bodies)
        ]

    async def _together(self, branch: Branch, statement: Together) -> None:
        work = self._started(branch, statement.site, statement.branches)
        match statement.how:
            case "gather":
                results = await asyncio.gather(*work)
            case "group":
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(item) for item in work]
                results = [task.result() for task in tasks]
            case "each":
                tasks = [asyncio.create_task(item) for item in work]
                results = [await task for task in asyncio.as_completed(tasks)]
        for result in results:
            branch.see(result)

    async def _first(self, branch: Branch, statement: First) -> None:
        work = self._started(branch, statement.site, statement.branches)
        tasks = [asyncio.create_task(item) for item in work]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task in done)
        branch.see(winner.result())
        await self._act(branch, Act(statement.site, "seen"), branch.at(statement.site))
        for task in tasks:
            if statement.cancels and task is not winner:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            branch.see(_ended(result))

    async def _map(self, branch: Branch, statement: Map) -> None:
        site = branch.at(statement.site)
        places = [(f"{site}.{n}", branch.value) for n in range(statement.items)]
        what, items = self._mapped(statement, places)
        limit, budget = statement.concurrency, given(site, statement.budget)
        made = branch.ctx.map(what, items, concurrency=limit, budget=budget)
        for result in await paid(branch, made) or ():
            if isinstance(result, Seen):
                branch.see(result.value)
            else:
                branch.see(result if isinstance(result, str) else result.output)

    def _mapped(self, statement: Map, places: list[tuple[str, int]]) -> tuple[Any, list[Any]]:
        """Return what is called with each item, and the items."""
        if statement.what == "function":
            return calls.work_on, places
        if statement.what == "agent":
            return self._agent, [calls.task(place, value, tools=1) for place, value in places]
        items = [Start(place=place, value=value) for place, value in places]
        return self._child(statement), items

    async def _cancel(self, branch: Branch, statement: Cancel) -> None:
        bodies = ((statement.victim,), (statement.other,))
        victim, other = map(asyncio.create_task, self._started(branch, statement.site, bodies))
        branch.see(await other)
        victim.cancel()
        (result,) = await asyncio.gather(victim, return_exceptions=True)
        branch.see(_ended(result))

    async def _signal(self, branch: Branch, statement: Signal) -> None:
        event = asyncio.Event()
        first = branch.branch(f"{branch.at(statement.site)}.0/")
        second = branch.branch(f"{branch.at(statement.site)}.1/")

        async def sets() -> int:
            value = await self.run(first, statement.setter)
            second.see(value)
            event.set()
            return value

        async def waits() -> int:
            await event.wait()
            return await self.run(second, statement.waiter)

        for result in await asyncio.gather(waits(), sets()):
            branch.see(result)

    async def _pipe(self, branch: Branch, statement: Pipe) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        place = branch.at(statement.site)

        async def make(number: int, body: Body) -> None:
            maker = branch.branch(f"{place}.{number}/")
            await queue.put(await self.run(maker, body))

        async def take() -> None:
            for n in range(len(statement.makers)):
                branch.see(await queue.get())
                result = await branch.ctx.run(calls.work, f"{place}.q{n}", branch.value)
                branch.see(result)

        makers = (make(number, body) for number, body in enumerate(statement.makers))
        await asyncio.gather(take(), *makers)


Work = Coroutine[Any, Any, int]


def _ended(result: int | BaseException) -> int:
    """Return what a task came to as a number; an error that is no cancel goes on."""
    if isinstance(result, asyncio.CancelledError):
        return 1
    if isinstance(result, BaseException):
        raise result
    return result


def _graph(tree: Nodes, name: str, interpreter: Interpreter) -> Workflow:
    graph = Graph(name, input=Start, output=Seen)
    retry = Retry(attempts=tree.fails + 1, first_delay=0.01)

    @graph.node
    async def split(start: Start) -> list[Part]:
        return [Part(place=f"n{n}/", value=start.value + n) for n in range(tree.width)]

    @graph.node(retry=retry, concurrency=tree.concurrency)
    async def part(ctx: Context, part: Part) -> Done:
        branch = Branch(ctx, part.place, part.value, Shared())
        if tree.fails:
            # The effect is found by its key by the next attempt; the call that fails is new there.
            await interpreter.run(branch, (Act(0, "site"),))
            await ctx.run(calls.flaky, f"{part.place}0f", branch.value, tree.fails)
        await interpreter.run(branch, tree.work)
        return Done(value=branch.value, log=branch.shared.log)

    @graph.node
    async def join(done: list[Done]) -> Round:
        value = 0
        for item in done:
            value = mixed(value, item.value)
        return Round(number=0, value=value, log=[line for item in done for line in item.log])

    @graph.node
    async def tick(ctx: Context, round: Round) -> Round | Seen:  # noqa: A002  as a graph's loop
        branch = Branch(ctx, f"l{round.number}/", round.value, Shared(log=round.log))
        await interpreter.run(branch, tree.tick)
        if round.number < tree.loops:
            return Round(number=round.number + 1, value=branch.value, log=branch.shared.log)
        return Seen(site="site:", value=branch.value, log=branch.shared.log)

    return graph
