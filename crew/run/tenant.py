"""What one tenant may do: start, find, vary and remove its own runs and conversations."""

import json
import time
from collections.abc import AsyncIterable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypedDict, overload

from typing_extensions import TypeVar

from crew.budget import Budget
from crew.errors import InputInvalid
from crew.graph import Workflow
from crew.journal import NO_OPENING, OPEN, WHEN_BUSY, KeepThread, RunRow, WhenBusy
from crew.message import Json, Message
from crew.run import door
from crew.run.handle import Answered, Asked, Question, Run
from crew.run.recorded import Recorded
from crew.thread import Branch, Thread, opening_text

if TYPE_CHECKING:
    from crew.run.batch import Batch, Keys
    from crew.run.retention import Removed

In = TypeVar("In")
Out = TypeVar("Out")


AT_ONCE = 64
"""How many runs of a batch are at work at once, where nobody says so."""


class StartOptions(TypedDict, total=False):
    """What a start of a run takes besides; see `Tenant.start`."""

    thread: str | None
    key: str | None
    budget: Budget | None
    when_busy: WhenBusy
    metadata: Mapping[str, Json] | None
    behind: int | None


class Tenant(Recorded):
    """A runtime as one tenant sees it: nothing of anybody else's is there.

    Args:
        home: the runtime.
        tenant: who the runs and threads belong to.
    """

    @overload
    async def start(
        self,
        workflow: Workflow[None, Out],
        input: None = None,
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Json] | None = None,
        behind: int | None = None,
    ) -> Run[Out]: ...
    @overload
    async def start(
        self,
        workflow: Workflow[In, Out],
        input: In | Mapping[str, Json],
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Json] | None = None,
        behind: int | None = None,
    ) -> Run[Out]: ...
    async def start(
        self,
        workflow: Workflow,
        input: Any = None,  # noqa: A002  the public surface fixes the name
        *,
        thread: str | None = None,
        key: str | None = None,
        budget: Budget | None = None,
        when_busy: WhenBusy = "queue",
        metadata: Mapping[str, Json] | None = None,
        behind: int | None = None,
    ) -> Run[Any]:
        """Start a run; on return it is accepted, and will not be lost.

        Args:
            workflow: what to run.
            input: a value of the workflow's input type, or its JSON.
            thread: the conversation it is a turn of.
            key: an idempotency key: the same key with the same input is the same run.
            budget: what it may spend, with all its agents and children.
            when_busy: what to do while an earlier turn runs: `queue`, `reject`, or `cancel` it.
            metadata: JSON that is kept in the run's first event, for its caller alone.
            behind: the number of the turn that it comes behind: the last that its caller knows of.

        Raises:
            InputInvalid: the input, or another argument, does not validate; nothing was stored.
            GraphError: the workflow cannot work.
            ThreadBusy: an earlier turn runs, and `when_busy` is `reject`; or the thread's last
                turn is not the one that it was to come `behind`.
            KeyReused: the key was used with another input, thread or budget.
        """
        if budget is not None:
            door.instance("budget", budget, Budget, "a Budget(tokens=…)")
        return await self._home.acceptance.begin(
            self.tenant,
            door.instance("workflow", workflow, Workflow, "a Graph or a function with @workflow"),
            input,
            thread=door.text_or_none("thread", thread),
            key=door.text_or_none("key", key),
            budget=budget,
            when_busy=door.one_of("when_busy", when_busy, WHEN_BUSY),
            metadata=None if metadata is None else door.json_object("metadata", metadata),
            behind=None if behind is None else door.count("behind", behind),
        )

    def start_many(
        self,
        workflow: Workflow[In, Out],
        inputs: Iterable[In | Mapping[str, Json]] | AsyncIterable[In | Mapping[str, Json]],
        *,
        keys: "Keys" = None,
        at_once: int = AT_ONCE,
        budget: Budget | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> "Batch[Out]":
        """Start a run for each input, as there is room; return what follows them all.

        The inputs may be any number: they are read as they are needed. With `keys` a program that
        is started again finds the runs that it has started before, and starts the others alone;
        those that failed stay as they are, see `retry`.

        Args:
            workflow: what to run.
            inputs: values of its input type, or their JSON.
            keys: an idempotency key for each input, a function that makes it of the input, or a
                name by which the inputs are numbered.
            at_once: how many of its runs are at work at once; those that wait do not count.
            budget: what each may spend.
            metadata: JSON that is kept with each, to find them by.

        Raises:
            InputInvalid: an argument is of another type.
        """
        if budget is not None:
            door.instance("budget", budget, Budget, "a Budget(tokens=…)")
        door.instance("workflow", workflow, Workflow, "a Graph or a function with @workflow")
        from crew.run.batch import Batch, keyed  # a run alone needs none

        async def start(value: Any, key: str | None) -> Run[Out]:
            return await self.start(workflow, value, key=key, budget=budget, metadata=metadata)

        many = door.count("at_once", at_once, least=1)
        return Batch(self._home, start, keyed(inputs, keys), many)

    async def questions(
        self,
        *,
        to: Collection[str] | None = None,
        before: str | None = None,
        limit: int = 1000,
    ) -> list[Asked]:
        """Return what this tenant's runs ask, the newest run first, of each the newest first.

        Args:
            to: roles and names; what is for one of them, or for nobody in particular. By default
                all that is asked.
            before: the `id` of one; those behind it in this order.
            limit: how many at most.

        Raises:
            RunNotFound: `before` is of no run of this tenant.
            InputInvalid: an argument is of another type.
        """
        run, _, offset = ("" if before is None else door.text("before", before)).partition(":")
        last = None if before is None else self._row(run)
        door.count("limit", limit)
        found = list[Asked]()
        if last is not None and offset.isdecimal() and last.status in OPEN:
            asked = [item for item in self._home.asked.of(last) if item.offset < int(offset)]
            found += self._asked(last, asked, to)
        of_all = self._home.asked.of_all(self.tenant, before=None if last is None else last.number)
        async with aclosing(of_all) as rows:
            async for row, asked in rows:
                if len(found) >= limit:
                    break
                found += self._asked(row, asked, to)
        return found[:limit]

    def _asked(
        self, row: RunRow, questions: Sequence[Question], to: Collection[str] | None
    ) -> list[Asked]:
        run = Run(self._home, row)
        return [
            Asked(run, question)
            for question in reversed(questions)
            if to is None or question.to is None or question.to in to
        ]

    async def answered(self, idempotency_key: str, *, thread: str) -> Answered | None:
        """Return the answer that a turn of a thread was given under a key, or None."""
        key = door.text("idempotency_key", idempotency_key)
        for letter in self._home.store.answers(self.tenant, key):
            row = self._home.store.numbered(letter.number)
            if row is not None and row.thread == thread and row.turn is not None:
                return await Run(self._home, row).answered(key)
        return None

    async def thread(self, thread: str) -> Thread:
        """Return a conversation of this tenant, empty if nothing was said on it."""
        return self._home.conversations.whole(self.tenant, door.text("thread", thread))

    async def thread_metadata(self, thread: str) -> dict[str, Json]:
        """Return the JSON that is kept with a conversation, without reading what was said."""
        kept = self._home.store.thread(self.tenant, door.text("thread", thread))
        return {} if kept is None else json.loads(kept.metadata)

    async def open_thread(
        self,
        thread: str,
        messages: Sequence[Message] = (),
        *,
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        """Begin a conversation with what was said elsewhere; every turn of it sees that.

        Args:
            thread: its name.
            messages: of `user` and `assistant`, the oldest first; text alone is kept.
            metadata: JSON that its caller keeps with it.

        Raises:
            InputInvalid: it was begun before, or a message is of another role.
        """
        opening = self._opening_of(thread, messages)
        await self._keep(thread, metadata or {}, opening)

    async def branch_thread(
        self, thread: str, messages: Sequence[Message] = (), *, base: str, turn: int
    ) -> None:
        """Begin a conversation as a branch of another one: what was said there, up to a turn of it.

        Its state is that which the turn left; what the other one comes to later is no part of it.

        Args:
            thread: its name.
            messages: of `user` and `assistant`, which come behind that turn; text alone is kept.
            base: the other conversation, with which it is erased.
            turn: the number of the last turn that both share; 0 for what was there before turn 1,
                -1 for nothing of it.

        Raises:
            InputInvalid: it was begun before, or a turn up to that one has not ended.
        """
        opening = self._opening_of(thread, messages)
        door.text("base", base)
        door.count("turn", turn, least=-1)
        kept = self._home.store.thread(self.tenant, base)
        while kept is not None and kept.base is not None and turn < kept.base_turn:
            base = kept.base  # what a branch has of its base is the base's
            kept = self._home.store.thread(self.tenant, base)
        await self._keep(thread, {}, opening, base, turn)

    async def branches(self, thread: str) -> list[Branch]:
        """Return a conversation with all branches of it, each behind what it stands on.

        The first is the one that all others come from, if `thread` is itself a branch.
        """
        return self._home.conversations.family(self.tenant, door.text("thread", thread))

    def _opening_of(self, thread: str, messages: Sequence[Message]) -> str:
        door.text("thread", thread)
        if self._home.store.thread(self.tenant, thread) or self._home.store.turns(
            self.tenant, thread
        ):
            raise InputInvalid(message=f"the thread {thread!r} was begun before; use a new name")
        if roles := {item.role for item in messages} - {"user", "assistant"}:
            raise InputInvalid(
                message=f"a thread is what user and assistant said; it cannot hold {min(roles)!r}"
            )
        return opening_text(messages)

    async def describe_thread(self, thread: str, metadata: Mapping[str, Json]) -> None:
        """Keep JSON with a conversation, in the place of what was kept with it."""
        await self._keep(thread, metadata)

    async def _keep(
        self,
        thread: str,
        metadata: Mapping[str, Json],
        opening: str = NO_OPENING,
        base: str | None = None,
        turn: int = 0,
    ) -> None:
        text = json.dumps(door.json_object("metadata", metadata))
        name = door.text("thread", thread)
        await self._home.writer.execute(
            KeepThread(self.tenant, name, text, time.time(), opening, base, turn)
        )

    async def prune(self, *, older_than: float | None = None, keep: int | None = None) -> "Removed":
        """Remove this tenant's runs that have ended and are old.

        A run goes with its children, and a conversation whole or not at all; what a fork that stays
        stands on stays too. What is removed cannot be replayed any more, and its idempotency keys
        may be used anew.

        Args:
            older_than: seconds since it was last used, at least.
            keep: how many of the newest runs and conversations stay in any case.

        Raises:
            InputInvalid: neither was given.
        """
        from crew.run.retention import prune  # a run alone needs none

        return await prune(
            self._home.store,
            self._home.writer,
            self.tenant,
            older_than=None if older_than is None else door.number("older_than", older_than),
            keep=None if keep is None else door.count("keep", keep),
        )

    async def erase(self, *, thread: str | None = None) -> "Removed":
        """Remove a conversation for good, or without `thread` everything of this tenant.

        With it go its forks and children, its blobs, and what is left of it in free pages, logs and
        dictionaries: no byte of it stays in the store's files. It takes as long as copying the
        store.

        Raises:
            InputInvalid: a run of it has not ended.
            StoreError: other processes hold on to what is to be overwritten.
        """
        from crew.run.retention import erase

        name = door.text_or_none("thread", thread)
        return await erase(self._home.store, self._home.writer, self.tenant, name)
