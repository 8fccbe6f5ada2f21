"""Kill -9 at every position of a journal, on SQLite and on PostgreSQL, and see what is left.

    python -m tests.crash.matrix [--every N] [--store sqlite postgres]

Each point is a process that is killed by itself at one moment, and a second one that goes on from
what is stored. Prints a table; exits with 1 if anything was lost, repeated or not reported.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crew import AskError, RunFailed, Runtime
from crew.journal.opening import open_store
from crew.journal.reading import JournalReader
from crew.journal.writer import Writer
from crew.run import Run
from crew.run.driver import Driver
from tests.crash.flow import WAYS, Order, order_flow
from tests.postgres import Server

KINDS = ("before append", "after append", "after commit", "before effect", "after effect")
SECONDS = 30


@dataclass
class Finding:
    """What came of one store and kind of moment."""

    points: int = 0
    unaccepted: int = 0
    unknown: int = 0
    problems: list[str] = field(default_factory=list)


class Moment:
    """Counts the moments that a process comes through, and kills it at one of them."""

    def __init__(self, kind: str = "", number: int = 0) -> None:
        self._target = (kind, number)
        self.counts: Counter[str] = Counter()

    def reached(self, kind: str) -> None:
        self.counts[kind] += 1
        if (kind, self.counts[kind]) == self._target:
            os.kill(os.getpid(), signal.SIGKILL)


def live(
    url: str, folder: Path, moment: Moment, key: str, *, commits: bool = False
) -> dict[str, Any]:
    """Run the order to its end in this process, going on with what is stored.

    `commits`: each event is committed by itself, so that a commit ends at every position.
    """
    kill_around_appends(moment)
    if commits:
        commit_each_event()
    return asyncio.run(finish(url, folder, moment, key))


def kill_around_appends(moment: Moment) -> None:
    append = Writer.append

    def appending(self: Writer, *arguments: Any, **options: Any) -> int:
        moment.reached("before append")
        offset = append(self, *arguments, **options)
        moment.reached("after append")
        return offset

    Writer.append = appending  # type: ignore[method-assign]


def commit_each_event() -> None:
    """Commit as soon as the engine knows of an event: a snapshot holds what was appended."""
    record = Driver.append

    def recording(self: Driver, *arguments: Any) -> None:
        record(self, *arguments)
        self._around.writer._commit()

    Driver.append = recording  # type: ignore[method-assign]


async def finish(url: str, folder: Path, moment: Moment, key: str) -> dict[str, Any]:
    flow = order_flow(folder, moment.reached)
    store = open_store(url)
    commit = store.commit

    def committing(operations: Any) -> list[object]:
        results = commit(operations)
        moment.reached("after commit")
        return results

    store.commit = committing  # type: ignore[method-assign]
    try:
        async with Runtime(store, workflows=[flow]) as runtime:
            run = await runtime.start(flow, Order(name="order"), key=key)
            answering = asyncio.ensure_future(answer(run, folder))
            try:
                output = (await run.result()).model_dump()
            except RunFailed as error:
                output = {"error": error.cause_type}
            finally:
                answering.cancel()
    finally:
        store.close()
    return {"output": output, "counts": dict(moment.counts), "run": run.id}


async def answer(run: Run, folder: Path) -> None:
    """Answer as a person would: approve, and tell what did happen."""
    while True:
        for question in await run.questions():
            said = True
            if "happen?" in question.question:
                label = label_of(question.path).partition(":")[0]
                said = label in labels(folder)
            with contextlib.suppress(AskError):  # whoever was killed had taken the answer
                await run.answer(question.path, said)
        await asyncio.sleep(0.005)


def labels(folder: Path, process: int | None = None) -> list[str]:
    """Return what was done, in order: by one process, or by all."""
    log = folder / "done"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    pairs = [line.split(" ", 1) for line in lines]
    return [label for pid, label in pairs if process in (None, int(pid))]


def forked(work: Callable[[], dict[str, Any]]) -> tuple[int, int, dict[str, Any] | None]:
    """Do some work in a process of its own; return its id, its end, and what it came to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.alarm(SECONDS)
        try:
            with os.fdopen(writing, "w") as pipe:
                pipe.write(json.dumps(work()))
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return pid, status, json.loads(text) if text else None


def stored(url: str, key: str) -> list[Any]:
    """Return the events that are on disk."""
    store = open_store(url)
    try:
        found = [row for row in store.runs(limit=10) if row.key == key]
        return JournalReader(store, found[0]).every(upto=found[0].offset) if found else []
    finally:
        store.close()


def try_point(
    url: str, folder: Path, kind: str, number: int, expected: Any, finding: Finding
) -> None:
    """Kill a run at one moment, let another process go on, and note what does not hold."""
    key = f"{kind}-{number}"
    commits = kind == "after commit"
    _, status, _ = forked(lambda: live(url, folder, Moment(kind, number), key, commits=commits))
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        if status:
            finding.problems.append(f"{key}: the first process ended with {status}")
        return  # this run did not come by here
    finding.points += 1
    before = stored(url, key)
    finding.unaccepted += not before
    pid, status, result = forked(lambda: live(url, folder, Moment(), key))
    if status or result is None:
        finding.problems.append(f"{key}: the second process ended with {status}")
        return
    after = stored(url, key)
    for problem in problems(before, after, labels(folder), labels(folder, pid), result, expected):
        finding.problems.append(f"{key}: {problem}")
    finding.unknown += any(event.kind.endswith(".unknown") for event in after)


def problems(
    before: list[Any],
    after: list[Any],
    done: list[str],
    done_again: list[str],
    result: dict[str, Any],
    expected: Any,
) -> list[str]:
    """Return which promises were broken."""
    found: list[str] = []
    if [(e.offset, e.kind, e.path, e.data) for e in after[: len(before)]] != [
        (e.offset, e.kind, e.path, e.data) for e in before
    ]:
        found.append("what was durable has changed")
    durable = {
        label
        for event in before
        if event.kind.endswith((".completed", ".answered"))
        for label in re.findall(r"#[\w.-]+", json.dumps(event.data))
    }
    found += [f"{label} was durable and was done again" for label in durable & set(done_again)]
    unknown = {label_of(e.path) for e in after if e.kind == "effect.unknown"}
    undecided = result["output"] == {"error": "EffectUnknown"} and unknown & {"#fail", "#pay"}
    if result["output"] != expected and not undecided:
        found.append(f"the output is {result['output']}")
    for label, count in Counter(label for label in done if label in WAYS).items():
        if count > 1 and WAYS[label] != "retry":
            found.append(f"the effect {label} was repeated, though it is not to be retried")
    begun = {label_of(e.path) for e in before if e.kind == "effect.started"}
    ended = {label_of(e.path) for e in before if e.kind == "effect.completed"}
    found += [
        f"nobody was told that the effect {label} is unknown"
        for label in (begun - ended) - unknown
        if WAYS[label] != "retry"
    ]
    once = ("step.completed", "ask.opened", "ask.answered")
    seen = Counter(f"{event.kind} {event.path}" for event in after if event.kind in once)
    found += [f"{each} came {n} times" for each, n in seen.items() if n > 1]
    return found


def label_of(path: str) -> str:
    """Return an effect's key, which is its label."""
    return path.rpartition("/=")[2]


def go_through(store: str, every: int, report: Callable[[str], None]) -> dict[str, Finding]:
    """Try every n-th point of one store."""
    folder = Path(tempfile.mkdtemp(prefix="crew-crash-"))
    server = Server() if store == "postgres" else None
    try:
        if server is not None:
            server.start()
        template = f"sqlite:///{folder}/template.db"
        open_store(template).close()
        shared = server.new_database() if server else ""
        places = iter(range(1_000_000))

        def place() -> tuple[str, Path]:
            own = folder / str(next(places))
            own.mkdir()
            if shared:
                return shared, own
            shutil.copy(folder / "template.db", own / "runs.db")
            return f"sqlite:///{own}/runs.db", own

        url, own = place()
        _, _, undisturbed = forked(lambda: live(url, own, Moment(), "undisturbed", commits=True))
        assert undisturbed is not None
        findings = {kind: Finding() for kind in KINDS}
        for kind in KINDS:
            for number in range(
                1, undisturbed["counts"][kind] + 1, every if "effect" not in kind else 1
            ):
                url, own = place()
                try_point(url, own, kind, number, undisturbed["output"], findings[kind])
                shutil.rmtree(own)
            report(row(store, kind, findings[kind]))
        return findings
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def row(store: str, kind: str, finding: Finding) -> str:
    broken = len(finding.problems)
    return (
        f"{store:<9} {kind:<14} {finding.points:>6} {finding.unaccepted:>11} "
        f"{finding.unknown:>16} {broken:>7}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try each n-th point only")
    parser.add_argument("--store", nargs="+", default=["sqlite", "postgres"])
    options = parser.parse_args()
    began = time.monotonic()
    print(
        f"{'store':<9} {'killed':<14} {'points':>6} {'unaccepted':>11} {'unknown reported':>16} "
        f"{'broken':>7}"
    )
    findings = [
        finding
        for store in options.store
        for finding in go_through(
            store, options.every, lambda text: print(text, flush=True)
        ).values()
    ]
    problems = [problem for finding in findings for problem in finding.problems]
    points = sum(finding.points for finding in findings)
    print(f"{points} points in {time.monotonic() - began:.0f} s; {len(problems)} promises broken")
    for problem in problems[:50]:
        print(f"  {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
