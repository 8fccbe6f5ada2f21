"""What is said of an operation that a store could not write."""

import pytest

from crew.journal import KeepThread, Remove, RemoveNotes
from crew.journal.rules import unwritable


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (KeepThread("default", "t", "{}", 1.0), "what was to be kept of the thread 't'"),
        (RemoveNotes("shop"), "the removal of notes of the tenant 'shop'"),
        (Remove((1, 2)), "the removal of 2 runs"),
    ],
)
def test_operation_that_no_transaction_can_hold_is_named(operation, named):
    error = unwritable(operation, ValueError("no text"))
    assert str(error).startswith(f"{named} was refused: ValueError: no text")
