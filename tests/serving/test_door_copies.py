"""What a client keeps of messages, beside what was said."""

import pytest

from crew.content import Image
from serving.conversations.comparing import is_same

DOT = Image(b"dot", "image/png")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a b", " a\n b "),
        ("answer", '<details type="reasoning" done="true">\n> hm\n</details>\nanswer'),
        ("answer", "<think>hm</think>answer"),
        ("a <b", "a <b"),
        ('{"a":1,"b":[2]}', '{ "b": [2], "a": 1 }'),
        (("look", DOT), "look"),
        (("look", DOT), ("look", DOT)),
        ("", " \n"),
    ],
)
def test_what_says_the_same_is_the_same(said, kept):
    assert is_same(said, kept)
    assert is_same(kept, said)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a", "b"),
        ("a b", "a c"),
        ("a", ""),
        ('{"a":1}', '{"a":2}'),
        ("{a", "{b"),
        (("look", DOT), ("look", Image(b"other", "image/png"))),
        ("<details>a</details>", "a"),
    ],
)
def test_what_says_something_else_is_not(said, kept):
    assert not is_same(said, kept)
    assert not is_same(kept, said)


@pytest.mark.parametrize("piece", ["<details ", "<think>", "</details>", "[", "{", " ", "a"])
def test_no_text_takes_long_to_be_compared(piece):
    text = piece * (300_000 // len(piece))
    assert not is_same(text + "x", text + "y")
