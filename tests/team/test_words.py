"""Texts fall into sentences, and sentences into the words that carry meaning."""

from crew.team.words import asks_number, content_words, coverage, paragraphs


def test_a_paragraph_is_joined_and_lists_and_rows_stand_alone():
    text = (
        "# Title\nOne two.\nThree\nfour.\n\n- item a\n- item b\n\n| x | y |\n|---|---|\n| 1 | 2 |\n"
    )
    assert paragraphs(text) == [
        ["One two.", "Three four."],
        ["item a"],
        ["item b"],
        ["| x | y |"],
        ["| 1 | 2 |"],
    ]


def test_a_number_at_a_sentence_end_is_no_list_item():
    assert paragraphs("The default is 0. More is -1.\n1. first") == [
        ["The default is 0.", "More is -1."],
        ["first"],
    ]


def test_inflections_meet_and_stop_words_go():
    assert content_words("restarts") == content_words("restarted")
    assert content_words("What does it do?") == []


def test_names_in_code_are_found_whole_and_in_parts():
    assert {"max", "restart"} <= set(content_words("`max_restarts`"))
    assert {"stateful", "set"} <= set(content_words("StatefulSet"))


def test_chinese_words_are_bigrams():
    assert content_words("状态恢复") == ["状态", "态恢", "恢复"]


def test_coverage_is_the_share_of_words_found():
    assert coverage(["actor", "memory"], "an actor") == 0.5
    assert coverage([], "anything") == 1


def test_questions_for_numbers_are_recognised():
    assert asks_number("How many fit?")
    assert asks_number("需要多少内存?")
    assert not asks_number("Who restarts it?")
