"""Figures are read with their units, and two of them make a calculation."""

import pytest

from crew.team.figures import figures, is_conversion, standing_values, stands, suggestion

ACTOR = "A Ray actor is one process of about 47 MB, and starting one takes about 0.6 s of CPU."


def test_a_figure_has_a_number_a_unit_and_a_kind():
    found = figures("One takes 47 MB, 1,000 take 0.6 s at 80%.")
    assert [(f.number, f.unit, f.kind) for f in found] == [
        ("47", "MB", "memory"),
        ("1000", "take", "count"),
        ("0.6", "s", "time"),
        ("80", "%", "share"),
    ]


def test_a_version_number_is_no_figure():
    assert figures("Ray 2.60.1 and v1.7.0") == []


def test_numbers_stand_in_a_text_in_digits_and_in_words():
    assert standing_values("twice as many, or 2 million") >= {2.0, 2_000_000.0}
    assert stands(47, ["it takes 47MB"])
    assert not stands(48, ["it takes 47 MB"])


def test_a_conversion_counts_only_where_its_units_are_spoken_of():
    assert is_conversion(60, ["every 10 s"])
    assert not is_conversion(60, ["about 47 MB"])
    assert is_conversion(1000, ["about 47 MB"])
    assert not is_conversion(7, ["about 47 MB"])


@pytest.mark.parametrize(
    ("question", "quotes", "line", "unit"),
    [
        ("How many Ray actors fit in 8 GB?", [ACTOR], "print(8 * 1000 // 47)", "Ray actors"),
        ("How much memory do 200 actors need?", [ACTOR], "print(200 * 47)", "MB"),
        ("How long do 200 actors take to start?", [ACTOR], "print(200 * 0.6)", "s"),
        ("How many fit in 8 GB? And in twice that?", [ACTOR], "print(2 * 8 * 1000 // 47)", ""),
        ("How many fit in 8 GB? And in 32 GB?", [ACTOR], "print(32 * 1000 // 47)", ""),
        (
            "How many fit in 8 GB? In twice that? And in 32 GB?",
            [ACTOR],
            "print(32 * 1000 // 47)",
            "",
        ),
        ("How many Ray actors fit in 8 GB?", ["Pods take 512 MiB."], "", ""),
        ("How many fit in 8 GB? And how long do they take to start?", [ACTOR], "", ""),
        ("How many actors of 47 MB each fit into 8 GB?", [], "print(8 * 1000 // 47)", "actors"),
        (
            "How many actors of 47 MB each fit into 8 GB? And how many fit into twice that memory?",
            [],
            "print(2 * 8 * 1000 // 47)",
            "actors",
        ),
        (
            "A replica works on 5 requests at once. How many do 12 replicas work on?",
            [],
            "print(12 * 5)",
            "requests",
        ),
        (
            "How many requests do 12 replicas work on?",
            ["By default a Serve replica works on at most 5 requests at once."],
            "print(12 * 5)",
            "requests",
        ),
        ("5 of 12 pods failed. How many are left?", [], "", ""),
        ("How long do 3 probes at 10 s each take?", [], "print(3 * 10)", "s"),
        ("What is an actor?", [ACTOR], "", ""),
    ],
)
def test_a_suggestion_divides_one_kind_and_multiplies_a_count_and_a_measure(
    question, quotes, line, unit
):
    made, made_unit = suggestion(question, quotes)
    assert (made, made_unit or unit) == (line, unit)
