"""What a store may do: given the rows that an operation is about, what comes of it.

All of it is pure. Memory and SQLite ask here; PostgreSQL states the same conditions in its
statements, so that a commit is one of them. tests/conformance/test_rules.py holds all three, and
these functions, to one table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from crew.errors import AskError, Fenced, KeyReused, RunNotFound, StoreError, ThreadBusy
from crew.journal import (
    OPEN,
    Append,
    Clear,
    KeepThread,
    NewRun,
    Operation,
    Post,
    Release,
    Remove,
    RemoveNotes,
    RunRow,
    RunStatus,
    Started,
    Take,
    ThreadRow,
)


def start(
    new: NewRun, known: RunRow | None, open_turns: Sequence[object]
) -> Started | KeyReused | ThreadBusy | None:
    """Return what a start comes to where it is no new run; None: it is one.

    `known` is the run that has its key, `open_turns` are those of its thread that have not ended.
    """
    if known is not None:
        return found_by_key(new, known)
    return busy(new) if is_turn(new) and new.when_busy == "reject" and open_turns else None


def found_by_key(new: NewRun, known: RunRow) -> Started | KeyReused:
    """Return the run that was started with this key, if it was started with the same."""
    others = list[str]()
    if known.input_hash != new.input_hash:
        others.append("another input")
    if known.thread != new.thread:
        others.append(f"another thread ({known.thread!r}, now {new.thread!r})")
    return reused(new.workflow, new.key or "", others) if others else Started(known, False)


def is_turn(new: NewRun) -> bool:
    """Return whether a run is a turn of its thread; a fork is none."""
    return new.thread is not None and new.base is None


def append(append: Append, row: RunRow | None) -> RunRow | Fenced:
    """Return a run's row as an append leaves it, or its refusal."""
    if row is None or row.epoch != append.epoch or row.status not in OPEN:
        return Fenced(run=row.id if row else str(append.number))
    status, owner, due = row.status, row.owner, row.due
    if append.status is not None:
        status, owner, due = append.status, None if ends(append) else row.owner, append.due
    if not append.events:
        return row._replace(status=status, owner=owner, due=due)
    last = append.events[-1]
    return row._replace(
        offset=last.offset,
        crc=last.crc,
        updated_at=last.at,
        status=status,
        owner=owner,
        due=due,
    )


def ends(append: Append) -> bool:
    """Return whether an append is a run's end."""
    return append.status is not None and append.status not in OPEN


def take(take: Take, row: RunRow | None) -> RunRow | Fenced | RunNotFound:
    """Return a run's row as a take leaves it, or its refusal."""
    if row is None:
        return RunNotFound(run=str(take.number))
    if row.owner != take.from_owner or row.status not in OPEN:
        return Fenced(run=row.id)
    return row._replace(owner=take.owner, epoch=row.epoch + 1)


def is_unbegun(row: RunRow) -> bool:
    """Return whether nothing was written of a run but its start."""
    return row.epoch == 1 and row.offset == row.base_offset + 1 and row.status == "running"


def release(release: Release, row: RunRow | None) -> RunRow | None:
    """Return a run's row as a release leaves it; None: it is left as it is."""
    if row is None or row.epoch != release.epoch or row.status not in OPEN:
        return None
    return row._replace(owner=release.to)


def post(
    post: Post, row: RunRow | None, is_answered: bool, key: str | None
) -> AskError | RunNotFound | bool:
    """Return whether a letter is put into an inbox, or its refusal.

    `is_answered`: there is an answer to the question that it names; it came with `key`.
    """
    if row is None:
        return RunNotFound(run=str(post.number))
    if is_answered and is_again(post, key):
        return False
    if row.status not in OPEN:
        return False if post.kind == "cancel" else answered_too_late(row.id, row.status)
    if is_answered and post.kind == "answer":
        return answered_before(row.id, post.name)
    return True


def is_again(post: Post, key: str | None) -> bool:
    """Return whether an answer is the one that came with `key`, sent once more."""
    return post.key is not None and post.key == key


def clear(clear: Clear, row: RunRow | None) -> bool:
    """Return whether letters may be cleared."""
    return row is not None and row.epoch == clear.epoch


def remove(
    remove: Remove,
    statuses: Mapping[int, RunStatus],
    conversation: Iterable[int],
    changed_at: float,
    forks: Iterable[tuple[int, int]],
) -> tuple[int, ...] | None:
    """Return the runs that go, or None if their conversation goes on, so that none does.

    Args:
        remove: what is asked for.
        statuses: of those of its runs that exist.
        conversation: all runs of its thread, forks too; none without a thread.
        changed_at: when what is kept of its thread was changed last; 0 if nothing is.
        forks: base and number of all forks there are.
    """
    going = set(statuses)
    if any(status in OPEN for status in statuses.values()) or not going.issuperset(conversation):
        return None
    if remove.changed_at is not None and remove.changed_at != changed_at:
        return None
    links = list(forks)
    while stays := {base for base, fork in links if base in going and fork not in going}:
        going -= stays
    return tuple(sorted(going))


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
        base=new.base,
        base_offset=new.base_offset,
    )


def keep(keep: KeepThread, row: ThreadRow | None) -> ThreadRow:
    """Return what is kept of a thread from now on, given what was."""
    if row is None:
        return ThreadRow(
            keep.tenant, keep.thread, keep.metadata, keep.opening, float(keep.at), float(keep.at)
        )
    return replace(row, metadata=keep.metadata, updated_at=float(keep.at))


def reused(workflow: str, key: str, others: Sequence[str]) -> KeyReused:
    """Return the error of a key that came back with `others`, such as another input."""
    return KeyReused(
        message=f"key {key!r} of workflow {workflow!r} was used with {' and '.join(others)}; "
        "use a new key, or start with the same to get the same run",
        key=key,
    )


def busy(new: NewRun) -> ThreadBusy:
    """Return the error of a turn that came while another one runs."""
    return ThreadBusy(
        message=f"thread {new.thread!r} has a turn that is still running; wait for it, or start "
        "with when_busy='queue' or 'cancel'",
        thread=new.thread or "",
    )


def answered_before(run: str, path: str) -> AskError:
    """Return the error of a second answer to one question."""
    return AskError(message=f"the question {path} of run {run} was answered before; the first wins")


def answered_too_late(run: str, status: RunStatus) -> AskError:
    """Return the error of an answer to a run that has ended."""
    return AskError(message=f"run {run} is {status}; nothing is asked there any more")


def unwritable(operation: Operation, error: Exception) -> StoreError:
    """Return the error of an operation that no transaction can hold, and that failed alone."""
    match operation:
        case NewRun(id=run):
            what = f"the start of run {run}"
        case KeepThread(thread=thread):
            what = f"what was to be kept of the thread {thread!r}"
        case RemoveNotes(tenant=tenant):
            what = f"the removal of notes of the tenant {tenant!r}"
        case Remove(numbers=numbers):
            what = f"the removal of {len(numbers)} runs"
        case _:
            what = f"{type(operation).__name__} of run number {operation.number}"
    return StoreError(
        message=f"{what} was refused: {type(error).__name__}: {error}; nothing of it was written, "
        "and nothing else is affected; give it values of the types that are asked for"
    )
