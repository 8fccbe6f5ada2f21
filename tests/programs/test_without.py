"""Random programs notice each of the core's mends: without it, they soon turn wrong."""

import pytest

from crew.call.gate import Gate
from crew.testing.generator import tree_of
from crew.testing.generator.points import Subject
from tests.programs.mends import MENDS, without
from tests.programs.without import points_until_red

ORDER = next(mend for mend in MENDS if mend.rule == 1)


def test_each_rule_of_the_core_has_a_mend_that_can_be_taken_out():
    assert {mend.rule for mend in MENDS} == set(range(1, 14))


def test_a_mend_is_back_after_it_was_taken_out():
    turn = Gate.turn
    with without(ORDER):
        assert Gate.turn is not turn
    assert Gate.turn is turn


def problems_with_all_mends(found):
    """What is wrong in the program in which a mend was missed, once all are there."""
    seed = found.point.seed
    return [point.wrong for point in Subject(tree_of(seed), seed).points() if point.wrong]


def test_without_the_order_a_point_is_soon_wrong_and_with_it_right():
    found = points_until_red(ORDER, most=200)
    assert found.point is not None
    assert problems_with_all_mends(found) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mend", MENDS, ids=str)
def test_without_a_mend_a_point_is_wrong_that_is_right_with_all(mend):
    found = points_until_red(mend)
    assert found.point is not None
    assert problems_with_all_mends(found) == []
