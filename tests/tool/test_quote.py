"""A quote stands in a source, or it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew.tool.quote import plain, quote_stands

SOURCE = """A **Ray actor** is one [process](x.md). An idle actor uses about 47 MB of memory –
that’s measured, and “quoted”. It starts in 0.6 seconds.
每个演员都是一个操作系统进程。"""


@pytest.mark.parametrize(
    "quote",
    [
        "A Ray actor is one process.",
        "uses about 47 MB of memory",
        "An idle actor uses about\n 47 MB of memory - that's measured",
        'measured, and "quoted"',
        "It starts in 0.6 seconds.",
        "操作系统进程",
    ],
)
def test_what_stands_there_stands(quote):
    assert quote_stands(quote, SOURCE)


@pytest.mark.parametrize(
    "quote",
    [
        "uses about 48 MB of memory",
        "uses about 7 MB of memory",
        "uses about 4",
        "It starts in 0.6 second",
        "An idle actor uses around 47 MB",
        "",
        "actor",
        "Ray actor",
        "进程",
        "操作系统任务",
    ],
)
def test_what_does_not_stand_there_does_not(quote):
    assert not quote_stands(quote, SOURCE)


@given(st.text(), st.text())
def test_any_text_gives_an_answer(quote, source):
    assert quote_stands(quote, source) in (True, False)


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma", "47", "MB", "is"]), min_size=3))
def test_a_whole_text_stands_in_itself(words):
    text = " ".join(words)
    assert quote_stands(text, f"Before. {text} After.")
    assert plain(text) == text
