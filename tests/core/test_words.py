"""Words as they are looked for: without the endings of English."""

import pytest

from crew.value.words import stem


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("restarted", "restart"),
        ("glass", "glass"),
        ("virus", "virus"),
        ("axis", "axis"),
        ("a1", "a1"),
    ],
)
def test_ending_that_is_none_stays(word, stemmed):
    assert stem(word) == stemmed
