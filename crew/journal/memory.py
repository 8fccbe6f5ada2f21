"""The journal in memory: for tests, notebooks and runs that nobody needs to keep."""

from collections.abc import Sequence
from dataclasses import replace

from crew.errors import Fenced, KeyReused, RunNotFound, ThreadBusy
from crew.journal import (
    OPEN,
    Append,
    Clear,
    Letter,
    NewRun,
    Operation,
    Post,
    Release,
    RunRow,
    RunStatus,
    Started,
    StoredEvent,
    Take,
)


class MemoryStore:
    """Dictionaries that behave like a database; the simplest store, and the model of the others."""

    url = ":memory:"

    def __init__(self) -> None:
        self._rows: dict[int, RunRow] = {}
        self._events: dict[int, list[StoredEvent]] = {}
        self._letters: dict[int, Letter] = {}
        self._owners: set[str] = set()
        self._next_letter = 1

    def commit(self, operations: Sequence[Operation]) -> list[object]:
        return [self._apply(operation) for operation in operations]

    def _apply(self, operation: Operation) -> object:
        match operation:
            case NewRun():
                return self._start(operation)
            case Append():
                return self._append(operation)
            case Take():
                return self._take(operation)
            case Release(number=number, epoch=epoch, to=to):
                if self._rows[number].epoch == epoch:
                    self._rows[number] = replace(self._rows[number], owner=to)
                return None
            case Post():
                letter = self._next_letter
                self._letters[letter] = Letter(
                    letter, operation.number, operation.kind, operation.name, operation.body
                )
                self._next_letter += 1
                return None
            case Clear(letters=letters):
                for letter in letters:
                    self._letters.pop(letter, None)
                return None

    def _start(self, new: NewRun) -> Started | Exception:
        for row in self._rows.values():
            same = (row.tenant, row.workflow, row.key) == (new.tenant, new.workflow, new.key)
            if new.key is not None and same:
                return Started(row, False) if row.input_hash == new.input_hash else reused(new)
        turn = None
        if new.thread is not None:
            turns = self.turns(new.tenant, new.thread)
            if new.when_busy == "reject" and any(row.status in OPEN for row in turns):
                return busy(new)
            turn = (turns[-1].turn or 0) + 1 if turns else 1
        row = row_of(len(self._rows) + 1, new, turn)
        self._rows[row.number] = row
        self._events[row.number] = [new.first]
        return Started(row, True)

    def _append(self, append: Append) -> Fenced | None:
        row = self._rows[append.number]
        if row.epoch != append.epoch:
            return Fenced(run=row.id)
        self._events[append.number] += append.events
        last = append.events[-1] if append.events else None
        self._rows[append.number] = replace(
            row,
            status=append.status or row.status,
            owner=None if append.status not in (None, *OPEN) else row.owner,
            offset=last.offset if last else row.offset,
            crc=last.crc if last else row.crc,
            updated_at=last.at if last else row.updated_at,
        )
        return None

    def _take(self, take: Take) -> RunRow | Exception:
        row = self._rows.get(take.number)
        if row is None:
            return RunNotFound(run=str(take.number))
        if row.owner != take.from_owner or row.status not in OPEN:
            return Fenced(run=row.id)
        self._rows[take.number] = replace(row, owner=take.owner, epoch=row.epoch + 1)
        return self._rows[take.number]

    def run(self, run_id: str, *, tenant: str | None = None) -> RunRow | None:
        for row in self._rows.values():
            if row.id == run_id and tenant in (None, row.tenant):
                return row
        return None

    def runs(
        self,
        *,
        tenant: str | None = None,
        status: Sequence[RunStatus] = (),
        thread: str | None = None,
        limit: int = 1000,
    ) -> list[RunRow]:
        found = [
            row
            for row in reversed(self._rows.values())
            if tenant in (None, row.tenant)
            and (not status or row.status in status)
            and thread in (None, row.thread)
        ]
        return found[:limit]

    def events(self, number: int, *, after: int = 0, limit: int = 1024) -> list[StoredEvent]:
        return self._events[number][after : after + limit]

    def takeable(self) -> list[RunRow]:
        seen: set[tuple[str, str]] = set()
        found: list[RunRow] = []
        for row in self._rows.values():
            if row.status not in OPEN:
                continue
            if row.thread is not None:
                if (row.tenant, row.thread) in seen:
                    continue
                seen.add((row.tenant, row.thread))
            found.append(row)
        return found

    def turns(self, tenant: str, thread: str) -> list[RunRow]:
        rows = [r for r in self._rows.values() if (r.tenant, r.thread) == (tenant, thread)]
        return sorted(rows, key=lambda row: row.turn or 0)

    def letters(self, numbers: Sequence[int]) -> list[Letter]:
        return [letter for letter in self._letters.values() if letter.number in numbers]

    def changed(self) -> int:
        return 0

    def claim_owner(self, owner: str) -> None:
        self._owners.add(owner)

    def release_owner(self, owner: str) -> None:
        self._owners.discard(owner)

    def forget_owners(self) -> None:
        """Take every owner for dead, as after a crash of the process."""
        self._owners.clear()

    def owner_lives(self, owner: str) -> bool:
        return owner in self._owners

    def close(self) -> None:
        """Forget nothing: the store lives as long as its object."""


def row_of(number: int, new: NewRun, turn: int | None) -> RunRow:
    """Return the row of a run that starts now."""
    return RunRow(
        number=number,
        id=new.id,
        tenant=new.tenant,
        workflow=new.workflow,
        version=new.version,
        key=new.key,
        input_hash=new.input_hash,
        thread=new.thread,
        turn=turn,
        parent=new.parent,
        status="running",
        owner=new.owner,
        epoch=1,
        offset=new.first.offset,
        crc=new.first.crc,
        created_at=new.at,
        updated_at=new.at,
    )


def reused(new: NewRun) -> KeyReused:
    """Return the error of a key that came back with another input."""
    return KeyReused(
        message=f"key {new.key!r} of workflow {new.workflow!r} was used with another input; "
        "use a new key, or the same input to get the same run",
        key=new.key or "",
    )


def busy(new: NewRun) -> ThreadBusy:
    """Return the error of a turn that came while another one runs."""
    return ThreadBusy(
        message=f"thread {new.thread!r} has a turn that is still running; wait for it, or start "
        "with when_busy='queue' or 'cancel'",
        thread=new.thread or "",
    )
