"""The journal in memory: for tests, notebooks and runs that nobody needs to keep."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import assert_never

from crew.errors import AskError, BudgetExceeded, Fenced, InputInvalid, RunNotFound
from crew.journal import (
    OPEN,
    PARKED,
    AccountRow,
    Append,
    Blob,
    Clear,
    Draw,
    KeepThread,
    Letter,
    NewRun,
    Operation,
    Post,
    Release,
    Remove,
    RemoveNotes,
    RunRow,
    RunStatus,
    Settle,
    Sign,
    Snapshot,
    Started,
    StoredEvent,
    Take,
    ThreadRow,
    accounts,
    rules,
)
from crew.journal.notes import Note, NoteChange, asked_terms, best, is_meant, terms_of


class MemoryStore:
    """Dictionaries that behave like a database; the simplest store, and the model of the others."""

    url = ":memory:"
    sockets: Path | None = None

    def __init__(self) -> None:
        self._rows: dict[int, RunRow] = {}
        self._numbers: dict[str, int] = {}
        self._by_key: dict[tuple[str, str, str], int] = {}
        self._turns: dict[tuple[str, str], list[int]] = {}
        self._threads: dict[tuple[str, str], ThreadRow] = {}
        self._open: dict[int, None] = {}
        self._events: dict[int, list[StoredEvent]] = {}
        self._snapshots: dict[int, Snapshot] = {}
        self._letters: dict[int, dict[int, Letter]] = {}
        self._answered: dict[int, dict[str, Letter]] = {}
        self._tags: dict[int, frozenset[str]] = {}
        self._accounts: dict[str, AccountRow] = {}
        self._accounts_of: dict[int, dict[str, None]] = {}
        self._blobs: dict[str, bytes] = {}
        self._uses: dict[str, set[int]] = {}
        self._notes: dict[str, Note] = {}
        self._owners: dict[str, int] = {}
        self._serves: dict[str, set[tuple[str, str]]] = {}
        self._next_run = 1
        self._next_letter = 1

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        return [self._carry_out(operation) for operation in operations]

    def _carry_out(self, operation: Operation) -> object:
        try:
            return self._apply(operation)
        except Exception as error:  # noqa: BLE001  whatever one fails of, the others are carried out
            return rules.unwritable(operation, error)

    def _apply(self, operation: Operation) -> object:
        match operation:
            case NewRun():
                return self._start(operation)
            case Append():
                return self._append(operation)
            case Take():
                return self._take(operation)
            case Release(number=number):
                released = rules.release(operation, self._rows.get(number))
                if released is not None:
                    self._rows[number] = released
                return None
            case Post():
                return self._post(operation)
            case Clear():
                return self._clear(operation)
            case Remove():
                return self._remove(operation)
            case RemoveNotes(tenant=tenant, threads=threads):
                self._forget(lambda note: self._is_left(note, tenant, threads))
                return None
            case KeepThread():
                return self._keep_thread(operation)
            case Draw():
                return self._draw(operation)
            case Settle():
                return self._settle(operation)
            case _:
                assert_never(operation)

    def _start(self, new: NewRun) -> Started | Exception:
        known = None
        if new.key is not None:
            known = self._by_key.get((new.tenant, new.workflow, new.key))
        is_turn = new.thread is not None and new.base is None
        turns = self.turns(new.tenant, new.thread or "") if is_turn else []
        open_turns = [row for row in turns if row.status in OPEN]
        other = rules.start(new, None if known is None else self._rows[known], open_turns)
        if other is not None:
            return other
        last = self._last_turn(new.tenant, new.thread or "") if is_turn else 0
        if is_turn and (late := rules.moved_on(new, last)) is not None:
            return late
        for row in open_turns if new.when_busy == "cancel" else ():
            self._post(Post(row.number, "cancel", "", "null", new.at))
        row = rules.row_of(self._next_run, new, last + 1 if is_turn else None)
        return self._insert(row, new)

    def _last_turn(self, tenant: str, thread: str) -> int:
        if turns := self.turns(tenant, thread):
            return turns[-1].turn or 0
        kept = self.thread(tenant, thread)
        return max(0, kept.base_turn) if kept is not None else 0

    def _keep_thread(self, keep: KeepThread) -> InputInvalid | None:
        row = rules.keep(keep, self.thread(keep.tenant, keep.thread), self._may_be_based(keep))
        if isinstance(row, InputInvalid):
            return row
        self._threads[keep.tenant, keep.thread] = row
        return None

    def _may_be_based(self, keep: KeepThread) -> bool:
        if keep.base is None:
            return True
        last = keep.base_turn
        statuses = [
            row.status
            for row in self.turns(keep.tenant, keep.base)
            if row.turn == last or ((row.turn or 0) < last and row.status in OPEN)
        ]
        return rules.may_be_base(last, self.thread(keep.tenant, keep.base), statuses)

    def _insert(self, row: RunRow, new: NewRun) -> Started:
        self._next_run += 1
        self._rows[row.number] = row
        self._numbers[row.id] = row.number
        self._open[row.number] = None
        if new.key is not None:
            self._by_key[new.tenant, new.workflow, new.key] = row.number
        if new.thread is not None and row.turn is not None:
            self._turns.setdefault((new.tenant, new.thread), []).append(row.number)
        if new.tags:
            self._tags[row.number] = frozenset(new.tags)
        self._events[row.number] = []
        self._keep_events(row.number, (new.first,))
        return Started(row, True)

    def _keep_events(self, number: int, events: Sequence[StoredEvent]) -> None:
        for event in events:
            for blob in event.blobs:
                self._blobs[blob.digest] = blob.body
                self._uses.setdefault(blob.digest, set()).add(number)
            self._events[number].append(event._replace(blobs=()) if event.blobs else event)

    def _append(self, append: Append) -> Fenced | None:
        row = rules.append(append, self._rows.get(append.number))
        if isinstance(row, Fenced):
            return row
        self._keep_events(append.number, append.events)
        self._rows[append.number] = row
        for change in append.notes:
            self._change_note(change)
        if append.snapshot is not None:
            self._snapshots[append.number] = append.snapshot
        if rules.ends(append):
            self._open.pop(append.number, None)
            self._keep_answers(append.number)
            self._snapshots.pop(append.number, None)
        return None

    def _change_note(self, change: NoteChange) -> None:
        if isinstance(change, Note):
            self._notes[change.id] = change
        else:
            self._forget(lambda note: is_meant(note, change))

    def _forget(self, is_gone: Callable[[Note], bool]) -> None:
        self._notes = {name: note for name, note in self._notes.items() if not is_gone(note)}

    def _is_left(self, note: Note, tenant: str, threads: Sequence[str] | None) -> bool:
        """Return whether the run that wrote a note of a tenant is no more; see `RemoveNotes`."""
        is_there = note.run in self._numbers or note.tenant != tenant
        return not is_there and (threads is None or note.thread in threads)

    def _take(self, take: Take) -> RunRow | Exception:
        taken = rules.take(take, self._rows.get(take.number))
        if isinstance(taken, RunRow):
            self._rows[take.number] = taken
        return taken

    def _post(self, post: Post) -> AskError | RunNotFound | None:
        first = next((item for item in self._answers(post.number) if item.name == post.name), None)
        key = first.key if first is not None else None
        verdict = rules.post(post, self._rows.get(post.number), first is not None, key)
        if not isinstance(verdict, bool):
            return verdict
        if verdict:
            self._put(post)
        return None

    def _put(self, post: Post) -> None:
        posted = (post.kind, post.name, post.body, post.at, post.key, post.seen)
        letter = Letter(self._next_letter, post.number, *posted)
        self._letters.setdefault(post.number, {})[letter.id] = letter
        self._next_letter += 1

    def _clear(self, clear: Clear) -> None:
        if not rules.clear(clear, self._rows.get(clear.number)):
            return
        letters = self._letters.get(clear.number, {})
        for number in (*clear.letters, *clear.kept):
            letter = letters.pop(number, None)
            if letter is not None and number in clear.kept:
                self._answered.setdefault(clear.number, {})[letter.name] = replace(letter, body="")

    def _draw(self, draw: Draw) -> Fenced | BudgetExceeded | None:
        changed = accounts.draw(draw, self._rows.get(draw.number), self.accounts)
        if isinstance(changed, Exception):
            return changed
        self._keep_accounts(changed)
        return None

    def _settle(self, settle: Settle) -> AccountRow | Fenced:
        held = self.accounts(list(self._accounts_of.get(settle.number, ())))
        row = self._rows.get(settle.number)
        changed = accounts.settle(settle, row, held, self.accounts)
        if isinstance(changed, Fenced):
            return changed
        self._keep_accounts(changed)
        return changed[0]

    def _keep_accounts(self, rows: Sequence[AccountRow]) -> None:
        for row in rows:
            self._accounts[row.id] = row
            self._accounts_of.setdefault(row.number, {})[row.id] = None

    def accounts(self, ids: Sequence[str]) -> list[AccountRow]:
        return [self._accounts[name] for name in ids if name in self._accounts]

    def notes(self, tenant: str, scopes: Sequence[str], words: str, limit: int) -> list[Note]:
        asked = asked_terms(words)
        found = [
            note
            for note in self._notes.values()
            if note.tenant == tenant
            and note.scope in scopes
            and (not asked or not set(asked).isdisjoint(terms_of(note.text)))
        ]
        return best(found, asked, limit)

    def _answers(self, number: int) -> list[Letter]:
        waiting = self._letters.get(number, {}).values()
        taken = self._answered.get(number, {}).values()
        return [*taken, *(letter for letter in waiting if letter.kind == "answer")]

    def _keep_answers(self, number: int) -> None:
        """Of a run that ends, the answers that have a key are still found by it."""
        keyed = [letter for letter in self._answers(number) if letter.key is not None]
        self._letters.pop(number, None)
        self._answered[number] = {letter.name: replace(letter, body="") for letter in keyed}

    def _remove(self, remove: Remove) -> tuple[int, ...] | None:
        place = remove.tenant, remove.thread or ""
        rows, kept = self._rows.values(), self._threads.get(place)
        is_base = remove.thread is not None and bool(self.branches(*place))
        of_thread = [
            row.number
            for row in rows
            if remove.thread is not None and (row.tenant, row.thread) == place
        ]
        going = rules.remove(
            remove,
            {n: self._rows[n].status for n in remove.numbers if n in self._rows},
            of_thread,
            kept.updated_at if kept is not None else 0.0,
            [(row.base, row.number) for row in rows if row.base is not None],
            has_branches=is_base,
        )
        if going is None:
            return None
        self._drop(going)
        if remove.thread is not None and not is_base and set(of_thread).issubset(going):
            if kept is not None and kept.base is not None and remove.changed_at is not None:
                self._hand_notes(kept, kept.base)
            self._threads.pop(place, None)
        return going

    def _hand_notes(self, branch: ThreadRow, base: str) -> None:
        place = branch.tenant, branch.thread
        for name, note in self._notes.items():
            if (note.tenant, note.thread) == place:
                self._notes[name] = replace(note, thread=base)

    def _drop(self, going: Sequence[int]) -> None:
        for number in going:
            row = self._rows.pop(number)
            self._numbers.pop(row.id)
            self._by_key = {key: kept for key, kept in self._by_key.items() if kept != number}
            if row.thread is not None and row.turn is not None:
                self._turns[row.tenant, row.thread].remove(number)
            for kept in (self._open, self._events, self._snapshots, self._letters, self._answered):
                kept.pop(number, None)
            self._tags.pop(number, None)
            for name in self._accounts_of.pop(number, ()):
                del self._accounts[name]
        for digest, users in list(self._uses.items()):
            users.difference_update(going)
            if not users:
                del self._uses[digest], self._blobs[digest]

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None:
        row = self._rows.get(self._numbers.get(run_id, 0))
        return row if row is not None and tenant in (None, row.tenant) else None

    def numbered(self, number: int) -> RunRow | None:
        return self._rows.get(number)

    def runs(
        self,
        *,
        tenant: str | None = None,
        status: Sequence[RunStatus] = (),
        thread: str | None = None,
        parent: str | None = None,
        workflow: str | None = None,
        since: float | None = None,
        tags: Sequence[str] = (),
        before: int | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        found = (
            row
            for row in reversed(self._rows.values())
            if tenant in (None, row.tenant)
            and (not status or row.status in status)
            and thread in (None, row.thread)
            and parent in (None, row.parent)
            and workflow in (None, row.workflow)
            and (since is None or row.created_at >= since)
            and (before is None or row.number < before)
            and self._tags.get(row.number, frozenset()).issuperset(tags)
        )
        return list(islice(found, limit))

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        row = self._rows.get(number)
        first = max(0, after - row.base_offset) if row is not None else 0
        return self._events.get(number, [])[first : first + limit]

    def snapshot(self, number: int) -> Snapshot | None:
        return self._snapshots.get(number)

    def blob(self, digest: str) -> bytes | None:
        return self._blobs.get(digest)

    def write_ahead(self, blob: Blob) -> None:
        """Nothing takes long here."""

    def owners(self) -> list[str]:
        owners = {self._rows[number].owner for number in self._open}
        return sorted(owner for owner in owners if owner not in (None, PARKED))

    def unbegun(self, owner: str) -> list[RunRow]:
        rows = [self._rows[number] for number in self._open]
        return [row for row in rows if row.owner == owner and rules.is_unbegun(row)]

    def takeable(
        self,
        known: Sequence[tuple[str, str]],
        dead: Sequence[str],
        now: float,
        *,
        limit: int = 256,
    ) -> list[RunRow]:
        found: list[RunRow] = []
        for number in self._open:
            row = self._rows[number]
            is_known = (row.workflow, row.version) in known
            if is_known and self._may_be_taken(row, dead, now) and self._is_first(row):
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def of_other_code(
        self, known: Collection[tuple[str, str]], *, limit: int = 100
    ) -> list[RunRow]:
        rows = (self._rows[number] for number in self._open)
        others = (
            row for row in rows if row.owner != PARKED and (row.workflow, row.version) not in known
        )
        return list(islice(others, limit))

    def _may_be_taken(self, row: RunRow, dead: Sequence[str], now: float) -> bool:
        letters = self._letters.get(row.number, {}).values()
        if row.owner is None:
            is_due = row.due is not None and row.due <= now
            return row.status == "running" or is_due or bool(letters)
        if row.owner == PARKED:
            return any(letter.kind == "cancel" for letter in letters)
        return row.owner in dead

    def _is_first(self, row: RunRow) -> bool:
        if row.thread is None or row.turn is None:
            return True
        turns = self._turns[row.tenant, row.thread]
        return next(number for number in turns if number in self._open) == row.number

    def turns(self, tenant: str, thread: str, *, after: int = 0) -> list[RunRow]:
        rows = [self._rows[number] for number in self._turns.get((tenant, thread), ())]
        return [row for row in rows if (row.turn or 0) > after]

    def thread(self, tenant: str, thread: str) -> ThreadRow | None:
        return self._threads.get((tenant, thread))

    def threads(self, tenant: str) -> dict[str, float]:
        rows = [row for row in self._threads.values() if row.tenant == tenant]
        return {row.thread: row.updated_at for row in rows}

    def branches(self, tenant: str, thread: str) -> list[ThreadRow]:
        place = tenant, thread
        found = [row for row in self._threads.values() if (row.tenant, row.base) == place]
        return sorted(found, key=lambda row: (row.created_at, row.thread))

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        found = [letter for n in numbers for letter in self._letters.get(n, {}).values()]
        return sorted(found, key=lambda letter: letter.id)

    def answers(self, tenant: str, key: str) -> list[Letter]:
        numbers = [row.number for row in self._rows.values() if row.tenant == tenant]
        found = [letter for n in numbers for letter in self._answers(n) if letter.key == key]
        return sorted(found, key=lambda letter: letter.id)

    def changed(self) -> int:
        return 0

    def claim_owner(self, owner: str) -> None:
        self._owners[owner] = 0

    def release_owner(self, owner: str) -> None:
        self._owners.pop(owner, None)
        self._serves.pop(owner, None)

    def serve(self, owner: str, workflows: Sequence[tuple[str, str]]) -> None:
        self._serves[owner] = set(workflows)

    def served(self) -> set[tuple[str, str]]:
        return set().union(*(self._serves.get(owner, set()) for owner in self._owners))

    def forget_owners(self) -> None:
        """Take every owner for dead, as after a crash of the process."""
        self._owners.clear()

    def beat(self, owner: str) -> None:
        if owner in self._owners:
            self._owners[owner] += 1

    def sign(self, owner: str) -> Sign:
        return Sign(dead=owner not in self._owners, beat=self._owners.get(owner, 0))

    def scrub(self) -> None:
        """Nothing is left behind in memory."""

    def close(self) -> None:
        """Forget nothing: the store lives as long as its object."""
