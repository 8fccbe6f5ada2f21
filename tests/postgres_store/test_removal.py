"""What is removed and what is written at the same moment agree."""

import threading

from crew.journal import Append, Blob, Remove
from crew.testing.store_suite import event, new_run
from tests.postgres_store.committing import commit, start

BLOB = Blob("b1" * 32, b"b" * 1000)


def test_a_blob_that_is_used_again_while_its_last_run_is_removed_stays(store, other, wire):
    old = start(other, "old", first=event(1, blobs=(BLOB,)))
    commit(other, [Append(old, 1, (event(2),), "completed")])
    new = start(store, "new")
    removing = threading.Thread(target=commit, args=(other, [Remove((old,))]))
    # The new use is written and not yet committed when the removal begins.
    wire.cut("COMMIT", "pause", lambda: (removing.start(), removing.join(0.3)))
    commit(store, [Append(new, 1, (event(2, blobs=(BLOB,)),))])
    removing.join(10)
    assert store.run("old") is None
    assert store.blob(BLOB.digest) == BLOB.body


def test_a_base_that_is_forked_while_it_is_removed_stays(store, other, wire):
    base = start(other, "base")
    commit(other, [Append(base, 1, (event(2),), "completed")])
    removed = []
    removing = threading.Thread(target=lambda: removed.extend(commit(other, [Remove((base,))])))
    wire.cut("COMMIT", "pause", lambda: (removing.start(), removing.join(0.3)))
    commit(store, [new_run("fork", first=event(2), base=base, base_offset=1)])
    removing.join(10)
    assert removed == [()]
    assert store.numbered(base) is not None
