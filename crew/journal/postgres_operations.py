"""What each operation of a commit does in PostgreSQL, within a transaction that is under way."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, assert_never

from crew.errors import AskError, Fenced, KeyReused, RunNotFound, ThreadBusy
from crew.journal import (
    OPEN,
    Append,
    Blob,
    Clear,
    Draw,
    KeepThread,
    NewRun,
    Operation,
    Post,
    Release,
    Remove,
    RemoveNotes,
    RunRow,
    Settle,
    Snapshot,
    Started,
    StoredEvent,
    Take,
    rules,
)
from crew.journal.postgres_accounts import draw, settle, tree_of
from crew.journal.postgres_link import Db
from crew.journal.postgres_notes import change_notes, remove_notes

COLUMNS = (
    "number, id, tenant, workflow, version, key, input_hash, thread, turn, parent, status, owner, "
    "epoch, last_offset, crc, created_at, updated_at, base, base_offset, due"
)
_IS_OPEN = "status IN ('running', 'waiting')"

COUNT = (
    "UPDATE writers SET commits = commits + 1, at = now() WHERE name = %s AND commits = %s "
    "RETURNING commits"
)

_MOVE = """
given AS (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::float8[], %s::bigint[],
        %s::bigint[], %s::float8[]) AS given(number, epoch, status, due, last_offset, crc, at)
), moved AS (
    UPDATE runs SET status = coalesce(given.status, runs.status),
        due = CASE WHEN given.status IS NULL THEN runs.due ELSE given.due END,
        last_offset = coalesce(given.last_offset, runs.last_offset),
        crc = coalesce(given.crc, runs.crc), updated_at = coalesce(given.at, runs.updated_at),
        owner = CASE WHEN given.status NOT IN ('running', 'waiting') THEN NULL ELSE owner END
    FROM given WHERE runs.number = given.number AND runs.epoch = given.epoch
        AND runs.status IN ('running', 'waiting') {only}
    RETURNING runs.number, runs.status
), written AS (
    INSERT INTO events (number, "offset", kind, path, body, crc, at)
    SELECT e.* FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],
        %s::bigint[], %s::float8[]) AS e(number, "offset", kind, path, body, crc, at)
    WHERE e.number IN (SELECT number FROM moved)
), forgotten AS (
    DELETE FROM letters WHERE key IS NULL AND number IN (
        SELECT number FROM moved WHERE status NOT IN ('running', 'waiting'))
), emptied AS (
    UPDATE letters SET body = NULL WHERE key IS NOT NULL AND number IN (
        SELECT number FROM moved WHERE status NOT IN ('running', 'waiting'))
), unneeded AS (
    DELETE FROM snapshots WHERE number IN (
        SELECT number FROM moved WHERE status NOT IN ('running', 'waiting'))
)
"""
_APPEND = f"WITH {_MOVE.format(only='')} SELECT array(SELECT number FROM moved)"  # noqa: S608  constants
_APPEND_ALONE = (
    f"WITH counted AS ({COUNT}), {_MOVE.format(only='AND EXISTS (SELECT 1 FROM counted)')} "  # noqa: S608
    f"SELECT (SELECT commits FROM counted), array(SELECT number FROM moved)"
)

_INSERT_RUN = (
    f"WITH made AS (INSERT INTO runs ({COLUMNS.removeprefix('number, ')}) "  # noqa: S608
    f"VALUES ({', '.join(['%s'] * (len(RunRow._fields) - 1))}) RETURNING number) "
    "INSERT INTO events SELECT number, %s, %s, %s, %s, %s, %s FROM made RETURNING number"
)
_THREAD = (
    "SELECT (SELECT max(turn) FROM runs WHERE tenant = %(tenant)s AND thread = %(thread)s "  # noqa: S608
    "AND turn IS NOT NULL), array(SELECT number FROM runs WHERE tenant = %(tenant)s "
    f"AND thread = %(thread)s AND turn IS NOT NULL AND {_IS_OPEN} ORDER BY number)"
)
_OF_THREAD = (
    # A turn or a fork, each by an index of its own.
    "SELECT number FROM runs WHERE tenant = %s AND thread = %s AND turn IS NOT NULL UNION ALL "
    "SELECT number FROM runs WHERE tenant = %s AND thread = %s AND base IS NOT NULL"
)
_REMOVING = "removing"


def lock(db: Db, operations: Sequence[Operation]) -> None:
    """Wait until no other transaction decides about what `operations` decide about.

    That is what has a name but no row yet: a key, the next turn of a thread, a use of a blob; and
    whether a conversation goes on, and what is left of the budgets of a tree of runs. All
    locks are taken at once and in one order, so that no two transactions wait for each other.
    """
    names = {name for item in operations for name in _names(item)}
    if any(isinstance(item, Remove) for item in operations):
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_lock_number(_REMOVING),))
    elif any(_is_kept_from_removal(item) for item in operations):
        db.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_lock_number(_REMOVING),))
    if names:
        query = "SELECT pg_advisory_xact_lock(number) FROM unnest(%s::bigint[]) AS number"
        db.execute(query, (sorted(map(_lock_number, names)),))


def _names(operation: Operation) -> Iterator[str]:
    match operation:
        case NewRun(tenant=tenant, thread=thread, workflow=workflow, key=key):
            if key is not None:
                yield repr(("key", tenant, workflow, key))
        case Remove(tenant=tenant, thread=thread) | KeepThread(tenant=tenant, thread=thread):
            pass
        case Draw() | Settle():
            yield repr(("accounts", tree_of(operation)))
            return
        case _:
            return
    if thread is not None:
        yield repr(("thread", tenant, thread))


def _lock_number(name: str) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _is_kept_from_removal(operation: Operation) -> bool:
    match operation:
        case NewRun(base=base, first=first):
            return base is not None or bool(first.blobs)
        case Append(events=events):
            return any(event.blobs for event in events)
        case _:
            return False


def append_alone(
    db: Db, appends: Sequence[Append], *, writer: str, commits: int
) -> tuple[int | None, set[int]]:
    """Write appends in a transaction of their own: one statement, one round trip.

    Returns the number of commits of this writer, None if it was another one than `commits`, so that
    nothing was written; and the runs that were not fenced.
    """
    values = [writer, commits, *_values(appends)]
    counted, moved = _row(db.execute(_APPEND_ALONE, values))
    return counted, set(moved)


def written_of(db: Db, appends: Sequence[Append]) -> set[int]:
    """Return the runs of those appends that are there, of a commit that went through."""
    rows = [(a.number, a.epoch, *_last(a.events)[:2]) for a in appends]
    query = (
        "SELECT given.number FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) "
        "AS given(number, epoch, last_offset, crc) WHERE EXISTS (SELECT 1 FROM events "
        'WHERE events.number = given.number AND events."offset" = given.last_offset '
        "AND events.crc = given.crc) OR given.last_offset IS NULL AND EXISTS "
        "(SELECT 1 FROM runs WHERE runs.number = given.number AND runs.epoch = given.epoch)"
    )
    return {number for (number,) in db.execute(query, _columns(rows, 4))}


def results_of(db: Db, appends: Sequence[Append], moved: set[int]) -> list[object]:
    """Return an append's result each, given the runs that were not fenced."""
    return [None if a.number in moved else _fenced(db, a.number) for a in appends]


def apply_all(db: Db, operations: Sequence[Operation]) -> list[object]:
    """Carry out operations in their order, those appends together that are beside each other."""
    results: list[object] = []
    for is_append, group in groupby(operations, lambda item: isinstance(item, Append)):
        items = list(group)
        appends = [item for item in items if isinstance(item, Append)]
        if is_append and have_a_run_each(appends):
            results += _append(db, appends)
        else:
            results += [apply(db, item) for item in items]
    return results


def have_a_run_each(appends: Sequence[Append]) -> bool:
    """Return whether one statement may write them: it changes a row once."""
    return len({item.number for item in appends}) == len(appends)


def apply(db: Db, operation: Operation) -> object:
    """Carry out one operation, and return its result."""
    match operation:
        case NewRun():
            return _start(db, operation)
        case Append():
            return _append(db, [operation])[0]
        case Take():
            return _take(db, operation)
        case Release(number=number, epoch=epoch, to=to):
            held = f"number = %s AND epoch = %s AND {_IS_OPEN}"
            db.execute(f"UPDATE runs SET owner = %s WHERE {held}", (to, number, epoch))  # noqa: S608
            return None
        case Post():
            return _post(db, operation)
        case Clear():
            return _clear(db, operation)
        case Remove():
            return _remove(db, operation)
        case RemoveNotes():
            return remove_notes(db, operation)
        case KeepThread():
            return _keep_thread(db, operation)
        case Draw(number=number):
            return draw(db, operation, one(db, "WHERE number = %s", (number,)))
        case Settle(number=number):
            return settle(db, operation, one(db, "WHERE number = %s", (number,)))
        case _:
            assert_never(operation)


def _append(db: Db, appends: Sequence[Append]) -> list[object]:
    (moved,) = _row(db.execute(_APPEND, _values(appends)))
    results = results_of(db, appends, set(moved))
    for append, result in zip(appends, results, strict=True):
        if result is None:
            _keep_blobs(db, append.number, append.events)
            change_notes(db, append.notes)
            if append.snapshot is not None and not rules.ends(append):
                _keep_snapshot(db, append.number, append.snapshot)
    return results


def _values(appends: Sequence[Append]) -> list[list[object]]:
    moves = [(a.number, a.epoch, a.status, a.due, *_last(a.events)) for a in appends]
    events = [
        (a.number, e.offset, e.kind, e.path, e.body, e.crc, e.at) for a in appends for e in a.events
    ]
    return [*_columns(moves, 7), *_columns(events, 7)]


def _last(events: Sequence[StoredEvent]) -> tuple[int, int, float] | tuple[None, None, None]:
    return (events[-1].offset, events[-1].crc, events[-1].at) if events else (None, None, None)


def _columns(rows: Sequence[Sequence[object]], count: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * count


def _fenced(db: Db, number: int) -> Fenced:
    row = one(db, "WHERE number = %s", (number,))
    return Fenced(run=row.id if row else str(number))


def _keep_snapshot(db: Db, number: int, snapshot: Snapshot) -> None:
    db.execute(
        "INSERT INTO snapshots VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (number) DO UPDATE "
        "SET last_offset = excluded.last_offset, crc = excluded.crc, "
        "version = excluded.version, body = excluded.body, body_crc = excluded.body_crc",
        (number, snapshot.offset, snapshot.crc, snapshot.version, snapshot.body, snapshot.check),
    )


def _keep_blobs(db: Db, number: int, events: Sequence[StoredEvent]) -> None:
    found = {blob.digest: blob for event in events for blob in event.blobs}
    # In the order of their names: two transactions that keep the same ones wait for one another.
    blobs: list[Blob] = [found[digest] for digest in sorted(found)]
    if not blobs:
        return
    digests = [blob.digest for blob in blobs]
    db.execute(
        "INSERT INTO blobs SELECT * FROM unnest(%s::text[], %s::bytea[]) ON CONFLICT DO NOTHING",
        (digests, [blob.body for blob in blobs]),
    )
    db.execute(
        "INSERT INTO blob_uses SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING",
        (number, digests),
    )


def _start(db: Db, new: NewRun) -> Started | KeyReused | ThreadBusy:
    if new.key is not None:
        found = one(
            db,
            "WHERE tenant = %s AND workflow = %s AND key = %s",
            (new.tenant, new.workflow, new.key),
        )
        if found is not None:
            return rules.found_by_key(new, found)
    turn = None
    if rules.is_turn(new):
        place = {"tenant": new.tenant, "thread": new.thread}
        last, open_turns = _row(db.execute(_THREAD, place))
        if (refused := rules.start(new, None, open_turns)) is not None:
            return refused
        for number in open_turns if new.when_busy == "cancel" else ():
            _insert_letter(db, Post(number, "cancel", "", "null", new.at))
        turn = (last or 0) + 1
    row, first = rules.row_of(0, new, turn), new.first
    values = [*row[1:], first.offset, first.kind, first.path, first.body, first.crc, first.at]
    (number,) = _row(db.execute(_INSERT_RUN, values))  # pyrefly: ignore
    _keep_blobs(db, number, (first,))
    if new.tags:
        db.execute("INSERT INTO tags SELECT unnest(%s::text[]), %s", (list(new.tags), number))
    return Started(rules.row_of(number, new, turn), True)


def _take(db: Db, take: Take) -> RunRow | Fenced | RunNotFound:
    query = (
        f"UPDATE runs SET owner = %s, epoch = epoch + 1 WHERE number = %s "  # noqa: S608  constants
        f"AND owner IS NOT DISTINCT FROM %s AND {_IS_OPEN} RETURNING {COLUMNS}"
    )
    taken = db.execute(query, (take.owner, take.number, take.from_owner)).fetchone()
    if taken is not None:
        return RunRow(*taken)
    row = one(db, "WHERE number = %s", (take.number,))
    return Fenced(run=row.id) if row else RunNotFound(run=str(take.number))


def _post(db: Db, post: Post) -> AskError | RunNotFound | None:
    # Shared with other posts, but not with the end of the run.
    row = one(db, "WHERE number = %s FOR SHARE", (post.number,))
    if row is None:
        return RunNotFound(run=str(post.number))
    if _is_again(db, post):
        return None
    if row.status not in OPEN:
        verdict = rules.post(post, row, False, None)
        return verdict if not isinstance(verdict, bool) else None
    if _insert_letter(db, post) or _is_again(db, post):
        return None
    return rules.answered_before(row.id, post.name)


def _is_again(db: Db, post: Post) -> bool:
    if post.key is None:
        return False
    known = "SELECT key FROM letters WHERE number = %s AND name = %s AND kind = 'answer'"
    first = db.execute(known, (post.number, post.name)).fetchone()
    return first is not None and rules.is_again(post, first[0])


def _insert_letter(db: Db, post: Post) -> bool:
    query = (
        "INSERT INTO letters (number, kind, name, body, at, key, seen) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
    )
    values = (post.number, post.kind, post.name, post.body, post.at, post.key, post.seen)
    return db.execute(query, values).rowcount == 1


def _clear(db: Db, clear: Clear) -> None:
    query = (
        "WITH held AS (SELECT number FROM runs WHERE number = %s AND epoch = %s FOR UPDATE), "
        # An answer that was kept before stays: it refuses a second one.
        "gone AS (DELETE FROM letters WHERE id = ANY(%s) AND body IS NOT NULL "
        "AND number IN (SELECT number FROM held)) "
        "UPDATE letters SET body = NULL WHERE id = ANY(%s) AND number IN (SELECT number FROM held)"
    )
    db.execute(query, (clear.number, clear.epoch, list(clear.letters), list(clear.kept)))


def _remove(db: Db, remove: Remove) -> tuple[int, ...] | None:
    place = remove.tenant, remove.thread
    of_thread = [number for (number,) in db.execute(_OF_THREAD, place * 2)]
    query = "SELECT number, status FROM runs WHERE number = ANY(%s)"
    statuses = db.execute(query, (list(remove.numbers),)).fetchall()
    query = "SELECT updated_at FROM threads WHERE tenant = %s AND thread = %s"
    changed_at = next((at for (at,) in db.execute(query, place)), 0.0)
    query = "SELECT base, number FROM runs WHERE base = ANY(%s)"
    forks = db.execute(query, (list(remove.numbers),)).fetchall()
    going = rules.remove(remove, dict(statuses), of_thread, changed_at, forks)
    if going is None:
        return None
    _drop(db, list(going))
    if remove.thread is not None and set(of_thread).issubset(going):
        db.execute("DELETE FROM threads WHERE tenant = %s AND thread = %s", place)
    return going


def _drop(db: Db, removed: list[int]) -> None:
    uses = db.execute(
        "DELETE FROM blob_uses WHERE number = ANY(%s) RETURNING digest", (removed,)
    ).fetchall()
    for table in ("runs", "tags", "events", "letters", "snapshots", "accounts"):
        query = f"DELETE FROM {table} WHERE number = ANY(%s)"  # noqa: S608  constants
        db.execute(query, (removed,))  # pyrefly: ignore
    db.execute(
        "DELETE FROM blobs WHERE digest = ANY(%s) AND NOT EXISTS "
        "(SELECT 1 FROM blob_uses WHERE blob_uses.digest = blobs.digest)",
        ([digest for (digest,) in uses],),
    )


def _keep_thread(db: Db, keep: KeepThread) -> None:
    db.execute(
        "INSERT INTO threads VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant, thread) "
        "DO UPDATE SET metadata = excluded.metadata, updated_at = excluded.updated_at",
        (keep.tenant, keep.thread, keep.metadata, keep.opening, keep.at, keep.at),
    )


def one(db: Db, where: str, values: Sequence[object]) -> RunRow | None:
    """Return the run that is meant, if there is one."""
    query = f"SELECT {COLUMNS} FROM runs {where}"  # noqa: S608  constants
    row = db.execute(query, values).fetchone()  # pyrefly: ignore
    return RunRow(*row) if row else None


def _row(cursor: Any) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)
