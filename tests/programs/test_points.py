"""Random programs, stopped after every event on all stores, end as undisturbed ones do.

A failure shows the simplest program that fails, as text; `make programs` counts many, and
`python -m crew.testing.generator --seed …` shows all about one of those.
"""

import itertools
import zlib

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from crew import Budget
from crew.journal.memory import MemoryStore
from crew.testing.generator import tree_of
from crew.testing.generator.grow import grow
from crew.testing.generator.points import Subject
from crew.testing.generator.table import SIGHTS, Table, count
from crew.testing.generator.text import text_of
from crew.testing.generator.tree import (
    Act,
    AgentCall,
    Ask,
    Cancel,
    Child,
    First,
    Flaky,
    Function,
    Map,
    Odd,
    Plain,
    Timed,
    Together,
    Tree,
    Unkept,
)
from tests.programs.places import Places, places

FEW, MANY = 500, 2_500
LEAST_SHARE = 0.05
_NAMES = (f"p{number}" for number in itertools.count())


CANCELLED_BEFORE_IT_BEGAN = Plain(
    (
        Together(
            1,
            branches=(
                (First(2, ((Ask(3),), (Unkept(4),))), Function(5, keyed=True)),
                (Cancel(6, victim=Act(7, key="site"), other=Flaky(8)),),
            ),
        ),
        Odd(9, what="tuple"),
    )
)
"""An act waits behind one that is on record, and is cancelled there; other code goes on then."""


CANCELLED_BY_A_DEADLINE = Plain(
    (
        Timed(1, (Act(2, key="site"), Odd(3, what="order")), strikes=True),
        Function(4),
        Odd(5, what="tuple"),
    )
)
"""An act by another name waits behind the one on record, until a deadline on record cuts it off."""


CHILD_OF_AN_ACCOUNT_THAT_WAS_NOT_WRITTEN = Plain(
    (
        Child(
            1,
            (
                Together(
                    6,
                    "gather",
                    (
                        (Child(3, (Map(2, what="agent"),)),),
                        (Child(5, (AgentCall(4, tools=0),)),),
                    ),
                ),
                Function(7),
            ),
            Budget(tokens=1_000_000, calls=3),
        ),
        Function(8, keyed=True),
    )
)
"""The commit that opens an account fails, and children would draw on it."""


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Programs of which hypothesis finds the simplest that fails."""
    size = draw(st.integers(1, 9))
    return grow(lambda below: draw(st.integers(0, below - 1)), size=size)


def check(points: int, first: int, stores: Places) -> Table:
    """Check programs until there were so many points; fail at the first wrong one."""
    table = Table()

    @seed(first)
    @settings(
        max_examples=points,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(tree=trees())
    def every_point_is_right(tree: Tree) -> None:
        if table.points >= points and not table.wrong:
            return
        number = zlib.crc32(repr(tree).encode())
        subject = Subject(tree, number, name=next(_NAMES), stores=stores.of(number))
        for wrong in table.add(subject.points()):
            note(text_of(tree))
            raise AssertionError(wrong)

    every_point_is_right()
    return table


def test_programs_stopped_after_every_event_end_as_undisturbed_ones(postgres_url):
    with places(postgres_url) as stores:
        assert check(FEW, 0, stores).points >= FEW


@pytest.mark.parametrize(
    ("tree", "number"),
    [
        (CANCELLED_BEFORE_IT_BEGAN, 3070610993),
        (CANCELLED_BY_A_DEADLINE, 90009),
        (CHILD_OF_AN_ACCOUNT_THAT_WAS_NOT_WRITTEN, 14113578),
    ],
)
def test_a_program_that_was_wrong_once_is_right(tree, number):
    table = Table()
    assert list(table.add(Subject(tree, number, name="p").points())) == []
    assert table.points > 0


def test_no_run_of_a_program_is_left_to_whoever_comes_next():
    store = MemoryStore()
    wrong = [p.wrong for p in Subject(tree_of(205), 205, stores=lambda: store).points() if p.wrong]
    assert wrong == []


@pytest.mark.parametrize(("number", "event", "how"), [(117, 18, "stop"), (723, 27, "leaves")])
def test_nothing_of_a_program_outlives_its_runtime(number, event, how):
    subject = Subject(tree_of(number), number, stores=MemoryStore)
    subject.undisturbed()
    assert subject.point(event, how).wrong is None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, 5))
def test_thousands_of_points_are_right_on_every_store(first, postgres_url):
    with places(postgres_url) as stores:
        table = check(MANY, first, stores)
        assert all(stores.counts.values())
    assert table.points >= MANY


@pytest.mark.slow
def test_programs_do_enough_of_everything():
    table = count(range(3000, 3060), lambda seed: MemoryStore)
    assert all(table.saw[sight] >= LEAST_SHARE * table.programs for sight in SIGHTS), str(table)
