"""A run as its caller sees it: its events, its result, and what may be said to it."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

from typing_extensions import TypeVar

from crew.clock import wall_clock
from crew.define import frozen
from crew.errors import AskError, KeyReused, RunCancelled, RunNotFound
from crew.failure import run_failed
from crew.fold import (
    Accounts,
    Answer,
    Ending,
    Event,
    Origin,
    Question,
    Questions,
    folded,
    in_currency,
    is_end,
    is_parking,
)
from crew.journal import OPEN, Post, RunRow, RunStatus, Store, StoredEvent
from crew.journal.reading import JournalReader
from crew.journal.writer import Writer
from crew.message import Json
from crew.run import door
from crew.run.asked import OpenQuestions
from crew.run.followers import Followers
from crew.run.workflows import Workflows
from crew.value import aside, canonical, is_big

if TYPE_CHECKING:
    from crew.fold import Span
    from crew.notebook.view import View

Out = TypeVar("Out", default=Any, covariant=True)

ANSWER_SECONDS = 5.0
"""How long an answer is followed until it is recorded; it is safe before."""


class Home(Protocol):
    """What a handle needs of its runtime."""

    store: Store
    writer: Writer
    workflows: Workflows
    """Those that are known here."""
    followers: Followers
    asked: OpenQuestions

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start a task of the runtime's own."""
        ...

    async def poke(self, row: RunRow, *, is_new: bool = False) -> None:
        """Let whoever drives the run look at its inbox; have one that `is_new` driven."""
        ...

    async def cancel_unowned(self, row: RunRow) -> bool:
        """Record the cancel of a run that nobody drives; False where somebody does."""
        ...

    def is_loaded(self, row: RunRow) -> bool:
        """Return whether somebody who lives has the code of a run loaded."""
        ...

    def check_answer(self, number: int, path: str, value: Json) -> bool:
        """Refuse what is no answer to an open question; say whether this process records it."""
        ...


@frozen
class Answered:
    """An answer that a run was given under an idempotency key.

    Whoever gave it had read the run's events up to offset `after`.
    """

    run: "Run"
    question: Question
    after: int


@frozen
class Asked:
    """A question that is open in a run."""

    run: "Run"
    question: Question

    @property
    def id(self) -> str:
        """Its place among all that is asked; see `Tenant.questions`."""
        return f"{self.run.id}:{self.question.offset}"


class Run(Generic[Out]):
    """One execution of a workflow, whose output is an `Out`."""

    def __init__(self, home: Home, row: RunRow) -> None:
        self._home = home
        self._row = row

    def __repr__(self) -> str:
        return f"<run {self.id} of {self.workflow!r}>"

    @property
    def id(self) -> str:
        return self._row.id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._row.workflow

    @property
    def version(self) -> str:
        return self._row.version

    @property
    def thread(self) -> str | None:
        return self._row.thread

    @property
    def turn(self) -> int | None:
        """Its number on its thread, from 1; None for a fork, and where there is no thread."""
        return self._row.turn

    @property
    def key(self) -> str | None:
        """The idempotency key it was started with."""
        return self._row.key

    @property
    def created_at(self) -> float:
        """When it was accepted, in unix seconds."""
        return self._row.created_at

    async def status(self) -> RunStatus:
        return self._fresh().status

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events after offset `after`, to the run's end; each is durable.

        The stream is the tail of the journal: whoever comes back with the last offset seen misses
        and repeats nothing, from any process.
        """
        async with aclosing(self.batches(after)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def batches(self, after: int = 0) -> AsyncGenerator[list[Event]]:
        """Yield the same in lists: of each, what became durable together, or was there already."""
        door.count("after", after)
        row = self._fresh()
        if row.status not in OPEN and row.offset <= after:
            return
        is_beyond = after > row.offset
        reader, offset, written = self._reader(), after, cast("Sequence[StoredEvent]", ())
        while True:
            # What this process has just written need not be read from the store.
            await reader.read_ahead(written)
            events = reader.written(written, after=offset) if written else None
            if events is None:
                events = await reader.read(after=offset)
            if events:
                offset = events[-1].offset
                yield events
                if is_end(events[-1]):
                    return
            elif is_beyond and self._fresh().status not in OPEN:
                return  # it came to its end before the place that was asked for
            if written or not events:
                written = await self._home.followers.grown(self._row.number, offset)

    async def page(self, *, after: int, limit: int) -> list[Event]:
        """Return events after offset `after` that are there now, up to `limit`."""
        door.count("after", after)
        door.count("limit", limit)
        found, reader = list[Event](), self._reader()
        while len(found) < limit:
            more = await reader.read(after=after + len(found), limit=limit - len(found))
            if not more:
                break
            found += more
        return found

    async def origin(self) -> Origin:
        """Return what it was started with, by its first event alone."""
        return folded([self._reader().one(1)], Origin())

    async def ending(self) -> Ending:
        """Return how it stands, by its newest event alone."""
        return await self._ending(self._fresh())

    async def _ending(self, row: RunRow) -> Ending:
        event = await JournalReader(self._home.store, row).read_one(row.offset)
        return folded([event], Ending())

    async def result(self) -> Out:
        """Wait for the end, and return the output.

        The output is of the workflow's own type where this runtime knows the workflow, else JSON.

        Raises:
            RunFailed: with the type, message and traceback of its cause, which is its `__cause__`.
            RunCancelled: somebody cancelled it.
            StoreError: the store failed while this process drove the run; it can be resumed.
            RuntimeLeft: the runtime was left before; the run goes on in another one.
        """
        end, workflow = await self.completed(), self._home.workflows.of(self._row)
        if workflow is None:
            return end.output
        if is_big(end.output):
            return await aside(workflow.output_codec.in_parts.decode, end.output)
        return workflow.output_codec.decode(end.output)

    async def completed(self) -> Ending:
        """Wait for the end, and return it, with the output as it is stored.

        Raises:
            RunFailed, RunCancelled, StoreError, RuntimeLeft: as `result`.
        """
        end, workflow = await self._ended(), self._home.workflows.of(self._row)
        if end.kind == "cancelled":
            raise RunCancelled(run=self._row.id)
        if end.error is not None:
            nodes = workflow.nodes.values() if workflow is not None else ()
            raise run_failed(self._row.id, end.error, *(node.function for node in nodes))
        return end

    async def _ended(self) -> Ending:
        """Wait for the end, and return it."""
        row = self._fresh()
        while row.status in OPEN:
            written = await self._home.followers.grown(row.number, row.offset, to_end=True)
            if written:
                reader = self._reader()
                await reader.read_ahead(written[-1:])
                return folded([reader.just_written(written[-1])], Ending())
            row = self._fresh()
        return await self._ending(row)

    async def is_loaded(self) -> bool:
        """Return whether somebody who lives has its code loaded: else it waits for a process."""
        return self._home.is_loaded(self._fresh())

    async def usage(self) -> dict[str, float]:
        """Return what a run cost so far, by unit, over all its agents and children.

        Tokens and calls are whole numbers; `money` is in the currency of the models' prices. Empty
        where nothing was asked. Calls under way that a budget reserves tokens for count at their
        bounds, as those do that nobody answered.
        """
        return in_currency(await self._spent())

    async def _spent(self) -> dict[str, int]:
        row = self._fresh()
        if (counted := (await self._ending(row)).usage) is not None:
            return counted
        spent = folded(await self.recorded(), Accounts(row.created_at)).total()
        for child in self._home.store.runs(parent=self.id, status=OPEN):
            for unit, count in (await Run(self._home, child)._spent()).items():  # noqa: SLF001
                spent[unit] = spent.get(unit, 0) + count
        return spent

    async def spans(self) -> "Span":
        """Return what it did and does: its steps, and the agents, models and tools beneath them."""
        from crew.fold import Spans  # a run alone needs none

        return folded(await self.recorded(), Spans()).tree(self.workflow)

    async def questions(self) -> list[Question]:
        """Return the questions that wait for an answer, the oldest first."""
        return self._home.asked.of(self._fresh())

    async def recorded(self, after: int = 0) -> list[Event]:
        """Return the events after offset `after` that are there now, without waiting for more."""
        door.count("after", after)
        reader, upto = self._reader(), self._fresh().offset
        known = await reader.read_every(after=after, upto=max(after, upto))
        return known + reader.every(after=max(after, upto))

    async def offset(self) -> int:
        """Return the offset of its newest event."""
        return self._fresh().offset

    def _reader(self) -> JournalReader:
        return JournalReader(self._home.store, self._row)

    async def answer(
        self, key: str, value: Any, *, by: str | None = None, idempotency_key: str | None = None
    ) -> None:
        """Answer an open question, by its key or its full name; the first answer wins.

        On return the answer is stored, and recorded too if this process drives the run.

        Args:
            key: the question's.
            value: JSON of the question's type.
            by: who answers, for the record. Whether that person may is the caller's to check.
            idempotency_key: the same answer under the same key is the first one, sent again, also
                once the run has ended.

        Raises:
            AskError: no open question, or several, have that key (the message lists them); it was
                answered before; or the answer is not of its type.
            KeyReused: the idempotency key came with another answer before.
            InputInvalid: a key, or `by`, is no text.
        """
        door.text("key", key)
        door.text_or_none("by", by)
        door.text_or_none("idempotency_key", idempotency_key)
        if idempotency_key is not None and (first := await self.answered(idempotency_key)):
            self._compare(first, key, value, idempotency_key)
        else:
            await self._answer(key, value, by, idempotency_key)

    async def answered(self, idempotency_key: str) -> Answered | None:
        """Return the answer that came with an idempotency key, or None."""
        for letter in self._home.store.answers(self._row.tenant, idempotency_key):
            if letter.number == self._row.number:
                return Answered(self, self._asked(letter.name), letter.seen)
        return None

    def _asked(self, path: str) -> Question:
        """Return the question at a path; one was asked there."""
        opened = (
            folded([event], Questions()).open.get(path)
            for event in self._reader().backwards(self._fresh().offset)
            if event.path == path
        )
        return next(question for question in opened if question is not None)

    async def _answer(
        self, key: str, value: Any, by: str | None, idempotency_key: str | None
    ) -> None:
        row = self._fresh()
        if row.status not in OPEN:
            raise AskError(
                message=f"run {self.id} is {row.status}; nothing is asked there any more"
            )
        questions = await self.questions()
        matching = [item for item in questions if key in (item.key, item.path)]
        if len(matching) != 1:
            names = ", ".join(f"{item.path} ({_public(item)})" for item in questions) or "none"
            problem = "several open questions have" if matching else "no open question has"
            raise AskError(message=f"{problem} the key {key!r} in run {self.id}; open: {names}")
        path, stored = matching[0].path, json.loads(canonical(value))
        is_mine = self._home.check_answer(row.number, path, stored)
        await self._post("answer", path, stored, idempotency_key, row.offset, by)
        if is_mine:
            await self._recorded_answer(path, row.offset)

    def _compare(self, first: Answered, key: str, value: Any, idempotency_key: str) -> None:
        """Refuse another answer than the one that came first with an idempotency key."""
        path = first.question.path
        recorded = folded(self._reader().every(after=first.after), Answer(path))
        is_answered = recorded.state == "answered"
        is_other = is_answered and recorded.value != json.loads(canonical(value))
        if is_other or key not in (path, first.question.key):
            raise KeyReused(
                message=f"key {idempotency_key!r} came with another answer to run {self.id}; use a "
                "new key, or the same answer to get the same result",
                key=idempotency_key,
            )

    async def _recorded_answer(self, path: str, after: int) -> None:
        """Return when the answer to a question is an event, or it takes unusually long."""
        reader, deadline = self._reader(), time.monotonic() + ANSWER_SECONDS
        answer = Answer(path)
        while time.monotonic() < deadline:
            events = reader.events(after=after)
            if any(_is_taken(folded([event], answer), event) for event in events):
                return
            after += len(events)
            if not events:
                await self._home.followers.grown(self._row.number, after)

    async def cancel(self) -> None:
        """Stop the run, down to its engine's requests; one that has ended is left as it is."""
        row = self._fresh()
        if row.status in OPEN and not await self._home.cancel_unowned(row):
            await self._post("cancel", "", None)

    async def _post(
        self,
        kind: str,
        name: str,
        value: Json,
        key: str | None = None,
        seen: int = 0,
        by: str | None = None,
    ) -> None:
        said: dict[str, Json] = {"value": value} if by is None else {"value": value, "by": by}
        number, body = self._row.number, json.dumps(said)
        await self._home.writer.execute(Post(number, kind, name, body, wall_clock(), key, seen))
        await self._home.poke(self._row)

    def _fresh(self) -> RunRow:
        row = self._home.store.run(self.id)
        if row is None:
            raise RunNotFound(run=self.id)
        return row

    def _repr_html_(self) -> str:
        """Draw the run as it stands, for a notebook."""
        return self._view().html(wall_clock())

    def _ipython_display_(self) -> None:
        """Draw the run in a notebook's cell, until it ends; what it asks is answered there."""
        from crew.notebook.live import show_run  # only where there is a notebook

        show_run(self, self._view(), self._home.spawn)

    def _view(self) -> "View":
        from crew.notebook.view import View

        workflow = self._home.workflows.of(self._row)
        edges = () if workflow is None or workflow.plain else workflow.edges()
        view = View(self.id, self.workflow, edges)
        view.add(self._reader().every())
        return view


def _public(question: Question) -> str:
    return question.question if question.to is None else question.waiting_for


def _is_taken(answer: Answer, event: Event) -> bool:
    """Return whether an answer is on record by now, or its run is parked with it.

    Raises:
        AskError: its question was closed, or it was refused.
    """
    if answer.state == "closed" or (answer.state != "answered" and is_end(event)):
        raise AskError(message=f"{answer.path} was closed before the answer came")
    if answer.state == "refused":
        raise AskError(message=f"that is no answer to {answer.path}: {answer.reason}")
    return answer.state == "answered" or is_parking(event)
