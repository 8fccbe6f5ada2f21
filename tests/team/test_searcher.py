"""Sentences are ranked by plain code; the searcher only chooses among them."""

from crew.team import Selection, candidates, searcher_prompt, selected
from crew.tool.search import Passage

ACTORS = Passage(
    source="actors.md",
    heading="When an actor dies",
    text="Ray restarts an actor up to `max_restarts` times. A restart runs the constructor\n"
    "again, and every field is lost.\n\nCalls under way fail.",
)
PROBES = Passage(
    source="probes.md",
    heading="Probes",
    text="- The liveness probe runs every 10 s by default.\n- A probe can be a command.",
)


def test_two_sentences_that_say_more_together_come_first():
    best = candidates("Is an actor's state lost when it is restarted?", [PROBES, ACTORS])[0]
    assert best.source == "actors.md"
    assert best.text.endswith("every field is lost.")


def test_passages_about_something_else_give_nothing():
    assert candidates("What is the capital of France?", [ACTORS, PROBES]) == []


def test_half_of_two_words_is_not_enough():
    page = Passage(source="a.md", heading="", text="Code that a model wrote runs in a sandbox.")
    assert candidates("Who wrote Hamlet?", [page]) == []


def test_a_question_for_a_number_prefers_sentences_with_figures():
    best = candidates("How often does a probe run?", [PROBES])[0]
    assert "10 s" in best.text


def test_with_figures_only_such_sentences_are_offered():
    offered = candidates("How often does the probe run?", [PROBES], with_figures=True)
    assert [quote.text for quote in offered] == ["The liveness probe runs every 10 s by default."]


def test_spans_that_overlap_are_offered_once():
    texts = [quote.text for quote in candidates("actor restarts field lost", [ACTORS])]
    assert not any(a in b for a in texts for b in texts if a != b)


def test_figures_and_units_of_the_question_need_not_stand_in_a_source():
    page = Passage(source="a.md", heading="", text="A Ray actor is one process of about 47 MB.")
    question = "How many Ray actors fit in 8 GB of memory? and in twice that memory?"
    assert candidates(question, [page], with_figures=True)


def test_a_chinese_page_answers_a_chinese_question():
    page = Passage(source="状态.md", heading="状态", text="重启后状态会丢失。请把状态存到数据库。")
    offered = candidates("重启后状态会怎样?", [page])
    assert offered[0].text.startswith("重启后状态会丢失。")


def test_the_prompt_numbers_from_one_and_ends_with_the_question():
    quotes = candidates("liveness probe", [PROBES])
    prompt = searcher_prompt("liveness probe", quotes)
    assert prompt.startswith("1 The liveness probe")
    assert prompt.endswith("Question: liveness probe")


def test_numbers_never_offered_choose_nothing():
    quotes = candidates("liveness probe", [PROBES])
    assert selected(Selection(sentences=[6, 1, 1]), quotes) == quotes[:1]
