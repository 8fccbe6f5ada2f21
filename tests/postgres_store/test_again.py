"""A commit that is tried again, perhaps longer, writes only what did not go through."""

from hypothesis import given
from hypothesis import strategies as st

from crew import Fenced
from crew.journal import Append, Post, Release
from crew.journal.again import Again
from crew.testing.store_suite import event


def append(upto, number=1, epoch=1, status=None):
    return Append(number, epoch, tuple(event(n) for n in range(2, upto + 1)), status)


def test_what_went_through_is_not_left():
    again, post = Again(), Post(1, "cancel", "", "null", 1.0)
    again.note([post, append(3)], ["done", None])
    assert again.left([post, append(3)]) == []
    assert again.merged([post, append(3)], []) == ["done", None]


def test_a_longer_append_leaves_its_new_part():
    again = Again()
    again.note([append(3)], [None])
    (rest,) = again.left([append(5)])
    assert [item.offset for item in rest.events] == [4, 5]
    assert [item.events for item in again.left([append(3, status="waiting")])] == [()]


def test_an_equal_operation_that_is_another_one_is_left():
    again = Again()
    again.note([Release(1, 1)], [None])
    assert again.left([Release(1, 1)]) == [Release(1, 1)]


def test_another_epoch_is_another_append():
    again = Again()
    again.note([append(3)], [None])
    assert again.left([append(3, epoch=2)]) == [append(3, epoch=2)]


def test_a_fenced_append_stays_fenced():
    again, fenced = Again(), Fenced(run="a")
    again.note([append(3)], [fenced])
    assert again.merged([append(4), append(2, number=2)], ["later"]) == [fenced, "later"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_each_event_is_written_once_however_often_it_is_tried(growths, data):
    again, written, upto = Again(), list[int](), 1
    for growth in growths:
        upto += growth
        left = again.left([append(upto)])
        if left and data.draw(st.booleans(), label="goes through"):
            written += [item.offset for item in left[0].events]
            again.note(left, [None])
    for item in again.left([append(upto)]):
        written += [part.offset for part in item.events]
    assert written == list(range(2, upto + 1))
