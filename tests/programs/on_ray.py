"""Random programs whose agents work in Ray hosts that are killed: is what comes of them right?

python -m tests.programs.on_ray --kills 50

Each kill is of a host, in one case of three with the run's own, at which a call of the program has
begun and has not ended: a model's or a tool's. What hosts execute they write into one file, so that
what died with them is known, too. Left out are programs with budgets, since what a model counted is
known to its process alone, and those in which somebody waits in vain for real time.
"""

import argparse
import asyncio
import itertools
import math
import os
import random
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from crew.errors import AskError, Diverged
from crew.hosts.cluster import quiet_cluster
from crew.journal.reading import JournalReader
from crew.run import Run, Runtime
from crew.testing.generator import tree_of
from crew.testing.generator.branch import Start
from crew.testing.generator.history import History, read, rows_of
from crew.testing.generator.letters import answer_to
from crew.testing.generator.life import Life, outcome_of
from crew.testing.generator.lives import check_acts, check_counts
from crew.testing.generator.points import Subject
from crew.testing.generator.tree import Flaky, Nodes, Tree
from crew.testing.generator.world import WITNESS, World, read_witness
from tests.hosts.victims import end_all, host

MOST_KILLS = 3
"""Of one program: its owners' deaths are counted, and a third without progress parks it."""
SETTLE_SECONDS = 0.3
"""What a host sent before it was stopped is in the journal after so long."""
AT_ONCE_SECONDS = 0.005
"""Ends of calls may be so far apart, and have come before code went on behind the first one."""
MOST_SECONDS = 180.0
LOOK_SECONDS = 0.05
_WITHOUT = re.compile(r"strikes=True|'passes'|Budget\(")
_WITH = re.compile(r"AgentCall\(|what='agent'")


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that had begun and had not ended in a host: its run's number, path and last offset."""

    run: int
    path: str
    offset: int


@dataclass(slots=True)
class Kill:
    """A host was killed, with its run's or alone."""

    whole: bool
    begun: list[Begun]
    held: History
    """What was on disk then."""
    witnessed: int
    """The size of the file of what was executed till then."""


@dataclass(slots=True)
class Lived:
    """What one program came to."""

    seed: int
    outcome: str = ""
    kills: list[Kill] = field(default_factory=list)
    late: list[Kill] = field(default_factory=list)
    """Those at which no call was cut off after all."""
    history: History = field(default_factory=History)
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """Counts of programs and kills."""

    programs: int = 0
    alone: int = 0
    whole: int = 0
    late: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.alone + self.whole

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.programs:6} programs",
                f"{self.kills:6} kills of a host with a begun, unfinished call",
                f"{self.alone:6} of the agent host alone",
                f"{self.whole:6} of the agent host and the run host",
                f"{self.late:6} more, when the call had ended after all",
                f"{len(self.wrong):6} wrong",
                *(f"  {wrong:.400}" for wrong in self.wrong),
            ]
        )


def count(kills: int, *, first: int = 0, seed: int = 1, store: str = "") -> Table:
    """Kill hosts of one program after the other, on the cluster that this process is connected to.

    Args:
        kills: how many of them, about.
        first: the seed of the first program.
        seed: of the moments.
        store: where the runs are; a file that goes afterwards, by default.
    """
    table, chance = Table(), random.Random(seed)
    witness = Path(os.environ[WITNESS])
    url = store or f"sqlite:///{witness}.db"
    numbers = (number for number in itertools.count(first) if is_fit(tree_of(number)))
    while table.kills < kills:
        number = next(numbers)
        subject = Subject(tree_of(number), number)
        witness.write_bytes(b"")
        lived = asyncio.run(_lived(subject, url, witness, chance))
        _add(table, subject, lived, witness)
    return table


def is_fit(tree: Tree) -> bool:
    """Return whether a program has an agent, and nothing that real time does not suit."""
    return bool(_WITH.search(repr(tree))) and not _WITHOUT.search(repr(tree))


@contextmanager
def witnessed() -> Iterator[None]:
    """Let the hosts of a cluster that is started meanwhile write down what they execute."""
    with tempfile.TemporaryDirectory(prefix="crew-programs-") as folder:
        os.environ[WITNESS] = f"{folder}/executed"
        try:
            yield
        finally:
            del os.environ[WITNESS]


class Killing:
    """One program on Ray, whose hosts are killed till it ends.

    Args:
        runtime: on Ray.
        subject: the program.
        witness: the file in which its hosts write down what they execute.
        chance: of the moments.
    """

    def __init__(
        self, runtime: Runtime, subject: Subject, witness: Path, chance: random.Random
    ) -> None:
        self._runtime, self._store = runtime, runtime.store
        self._subject, self._witness, self._chance = subject, witness, chance
        self._left = chance.randint(1, MOST_KILLS)
        self._number = 0
        self._killed: set[int] = set()
        self.lived = Lived(subject.seed)

    async def to_its_end(self) -> Lived:
        """Start the program, and kill its hosts until it has ended."""
        run = await self._runtime.start(self._subject.workflow, Start(), key=f"{time.time_ns()}")
        row = self._store.run(run.id)
        assert row is not None
        self._number = row.number
        ending = asyncio.create_task(outcome_of(run))
        while not ending.done():
            held = read(self._store, self._number)
            await self._answer(held)
            if self._left and self._chance.randrange(4) == 0:
                await self._kill()
            await asyncio.wait({ending}, timeout=LOOK_SECONDS)
        self.lived.outcome = await ending
        await self._replay(run)
        self.lived.history = read(self._store, self._number)
        self.lived.late = [kill for kill in self.lived.kills if not self._is_right(kill)]
        return self.lived

    async def _answer(self, held: History) -> None:
        for number, path in held.questions:
            row = self._store.numbered(number)
            assert row is not None
            try:
                await (await self._runtime.get(row.id)).answer(path, answer_to(path))
            except AskError:
                continue  # it was answered before, or is asked no more

    async def _kill(self) -> None:
        """Kill the host of a call that has begun, if there is one, with the run's or alone.

        They are stopped first: what they had sent is recorded meanwhile, or lost with them.
        """
        pid = next((pid for pid in self._begun() if pid not in self._killed), 0)
        if not pid:
            return
        victims = [pid]
        if whole := self._chance.randrange(3) == 0:
            name = f"{self._subject.workflow.name}@"
            victims.append((await host("run", name, but=self._killed)).pid)
        for victim in victims:
            os.kill(victim, signal.SIGSTOP)
        await asyncio.sleep(SETTLE_SECONDS)
        begun = self._begun().get(pid, [])
        if begun:
            held = read(self._store, self._number)
            self.lived.kills.append(Kill(whole, begun, held, self._witness.stat().st_size))
            self._left -= 1
            self._killed.update(victims)
        for victim in victims:
            os.kill(victim, signal.SIGKILL if begun else signal.SIGCONT)

    def _begun(self) -> dict[int, list[Begun]]:
        """Return the calls of models and tools that are under way, by their process."""
        found: dict[int, list[Begun]] = {}
        for row in rows_of(self._store, self._number):
            agents, calls = dict[str, int](), set[str]()
            events = JournalReader(self._store, row).every()
            for event in events:
                kind, _, phase = event.kind.rpartition(".")
                if kind == "agent" and phase == "started":
                    agents[event.path] = event.data["pid"]
                elif kind == "agent":
                    agents.pop(event.path, None)
                elif kind in ("model", "tool") and phase == "started":
                    calls.add(event.path)
                elif kind in ("model", "tool"):
                    calls.discard(event.path)
            for path, pid in agents.items():
                begun = [c for c in sorted(calls) if c.startswith(f"{path}/")]
                if begun and row.status == "running":
                    found.setdefault(pid, []).extend(
                        Begun(row.number, call, len(events)) for call in begun
                    )
        return found

    def _is_right(self, kill: Kill) -> bool:
        """Whether a call that was under way was so to the host's end: it did not just end next."""
        return any(self._next(begun) != "completed" for begun in kill.begun)

    def _next(self, begun: Begun) -> str:
        row = self._store.numbered(begun.run)
        assert row is not None
        events = JournalReader(self._store, row).every()[begun.offset :]
        phases = (e.kind.rpartition(".")[2] for e in events if e.path == begun.path)
        return next(phases, "")

    async def _replay(self, run: Run) -> None:
        size = self._witness.stat().st_size
        try:
            again = await outcome_of(await self._runtime.replay(run.id))
        except Diverged as diverged:
            self.lived.wrong.append(f"replay: {diverged}")
        else:
            if again != self.lived.outcome:
                self.lived.wrong.append(f"replay: {self.lived.outcome} is {again}")
        if self._witness.stat().st_size != size:
            self.lived.wrong.append("replay: it executed something")


async def _lived(subject: Subject, url: str, witness: Path, chance: random.Random) -> Lived:
    async with Runtime(url, agents="ray") as runtime:
        killing = Killing(runtime, subject, witness, chance)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                return await killing.to_its_end()
        except TimeoutError:
            killing.lived.wrong.append(f"stuck: it did not end within {MOST_SECONDS:.0f} s")
            return killing.lived
        finally:
            end_all()


def _add(table: Table, subject: Subject, lived: Lived, witness: Path) -> None:
    if lived.outcome:
        _check(subject, lived, witness)
    late = lived.late
    table.programs += 1
    table.late += len(late)
    table.whole += sum(kill.whole for kill in lived.kills if kill not in late)
    table.alone += sum(not kill.whole for kill in lived.kills if kill not in late)
    table.wrong += [f"program {lived.seed}: {wrong}" for wrong in lived.wrong]


def _check(subject: Subject, lived: Lived, witness: Path) -> None:
    """Look whether something was executed again, or came to what no undisturbed schedule gives."""
    attempts = _attempts(subject.tree, lived.history)
    keys: dict[str, set[str]] = {}
    ends = [*(kill.witnessed for kill in lived.kills), None]
    begins = [0, *(kill.witnessed for kill in lived.kills)]
    before = [None, *lived.kills]
    for begin, end, kill in zip(begins, ends, before, strict=True):
        world = read_witness(witness, begin=begin, end=end)
        world.attempts = attempts
        life = Life(world, held=_held(kill))
        check_counts(life)
        check_acts(life, keys)
        for name, under in world.keys.items():
            keys.setdefault(name, set()).update(under)
        lived.wrong += [f"{kind}: {detail}" for kind, detail in life.problems]
    life = Life(World(random.Random(0)), outcome=lived.outcome)
    for _ in range(3):
        subject.undisturbed()
    subject.check_outcome(life, lived.history, _at_once(lived.history))
    lived.wrong += [f"{kind}: {detail}" for kind, detail in life.problems]
    if lived.history.behind:
        lived.wrong.append(f"behind: {lived.history.behind}")


def _held(kill: Kill | None) -> History:
    """Return what was on disk at a kill: where the run's host lived on, its acts went on, too."""
    if kill is None:
        return History()
    never_again = kill.held.never_again
    if not kill.whole:
        never_again = {name for name in never_again if name.startswith("tool:")}
    return replace(kill.held, never_again=never_again)


def _at_once(history: History) -> list[tuple[float, float]]:
    """Return from when to when calls ended so close that no code may have come between them."""
    at = sorted(end.at for end in history.ends)
    close = (pair for pair in itertools.pairwise(at) if pair[1] - pair[0] < AT_ONCE_SECONDS)
    return [(math.nextafter(one, 0), other) for one, other in close]


def _attempts(tree: Tree, history: History) -> dict[str, int]:
    """Return how often each call that is retried may be executed in all."""
    fails = {str(each.site): each.fails for each in _flaky(tree)}
    if isinstance(tree, Nodes):
        fails["0f"] = tree.fails
    names = {*history.done, *history.failed}
    sites = {name: name.rpartition(":")[2].rpartition("/")[2] for name in names}
    return {name: fails[site] + 1 for name, site in sites.items() if site in fails}


def _flaky(part: Any) -> Iterator[Flaky]:
    if isinstance(part, Flaky):
        yield part
    elif isinstance(part, tuple):
        for each in part:
            yield from _flaky(each)
    elif is_dataclass(part):
        for item in fields(part):
            yield from _flaky(getattr(part, item.name))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.on_ray", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first program's seed")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    began = time.monotonic()
    with witnessed(), quiet_cluster():
        table = count(options.kills, first=options.first, seed=options.seed)
    print(f"{table}\n{time.monotonic() - began:6.0f} s", flush=True)
    return 1 if table.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
