"""Which variables around it a function changes: each function here says so in its name."""

import itertools
from collections import Counter, deque
from dataclasses import dataclass

import pytest

from crew.hosts.changes import changed_by


@dataclass
class Stats:
    total: int = 0


ITEMS: list[object] = []
NAMES: dict[object, object] = {}
COUNTS: Counter[object] = Counter()
QUEUE: deque[object] = deque()
NUMBERS = itertools.count()
STATS = Stats()
TIMES = 0


def changes_items_by_a_method(x):
    ITEMS.append(x)


def changes_items_by_a_slice(x):
    ITEMS[1:2] = x


def changes_names_by_a_key(x):
    NAMES[x.y(1)] = ITEMS


def changes_names_by_deleting(x):
    del NAMES[x]


def changes_names_in_a_chain(x):
    NAMES.setdefault(x, []).append(1)


async def changes_names_in_a_loop(x):
    async for y in x:
        NAMES[y] = await y


def changes_counts_in_place(x):
    COUNTS[x + 1] += 1


def changes_counts_in_a_comprehension(x):
    return [COUNTS.update([y]) for y in x]


def changes_queue_in_an_inner_function(x):
    def inner():
        return QUEUE.popleft()

    return inner


def changes_numbers(x):
    return next(NUMBERS)


def changes_stats(x):
    STATS.total = x


def changes_stats_in_place(x):
    STATS.total += 1


def changes_times(x):
    global TIMES  # noqa: PLW0603  what is to be found
    TIMES += 1


def only_reads(x):
    return ITEMS[0], NAMES.get(x), {**NAMES}, [*ITEMS], x in COUNTS, STATS.total, next(iter(QUEUE))


def only_copies(x):
    NAMES.copy().update(x)
    sorted(ITEMS).append(1)
    return NAMES | {x: 1}


def only_its_own(x):
    found, names = list[object](), {}
    found.append(ITEMS)
    names[x] = STATS

    def inner():
        names[ITEMS[0]] = NAMES[x]
        found.clear()

    return inner


def only_what_it_was_given(x, y):
    x.append(NAMES)
    x.total = STATS.total
    x[y] = ITEMS
    x[ITEMS[0]] = NAMES[y]


CHANGING = [each for name, each in list(globals().items()) if name.startswith("changes_")]
ONLY = [only_reads, only_copies, only_its_own, only_what_it_was_given]


@pytest.mark.parametrize("function", CHANGING, ids=lambda each: each.__name__)
def test_what_a_function_changes_is_found(function):
    assert [*changed_by(function)] == [function.__name__.split("_")[1].upper()]


@pytest.mark.parametrize("function", ONLY, ids=lambda each: each.__name__)
def test_what_a_function_does_to_its_own_is_no_change(function):
    assert changed_by(function) == {}


def test_what_an_enclosing_function_holds_is_changed_by_its_inner_ones_alone():
    count, held = 0, {}

    def binds_anew():
        nonlocal count
        count += 1

    def stores():
        held[count] = 1

    assert list(changed_by(binds_anew)) == ["count"]
    assert list(changed_by(stores)) == ["held"]
