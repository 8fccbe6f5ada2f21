"""What a plan keeps of a model's answer is what the conversation bears out."""

from crew.message import Message
from crew.team import Plan, settled, unplanned

FIRST = "How many Ray actors fit in 8 GB of memory?"
EARLIER = (Message("user", FIRST), Message("assistant", "170 Ray actors: 47 MB each."))


def plan(question, *searches, calculation=""):
    return Plan(question=question, searches=list(searches) or [question], calculation=calculation)


def test_a_good_plan_stays_as_it_is():
    good = plan(
        "What is KubeRay and what does a StatefulSet do?",
        "what is KubeRay",
        "what does a StatefulSet do",
    )
    assert settled(good, "What is KubeRay and what does a StatefulSet do?") == good


def test_a_question_restated_with_other_figures_falls_back_to_the_original():
    assert settled(plan("How many fit in 16 GB?"), "How many fit in 8 GB?").question == (
        "How many fit in 8 GB?"
    )


def test_a_follow_up_that_lost_its_own_words_is_joined_to_the_question_before():
    kept = settled(plan(FIRST), "and in twice that memory?", EARLIER)
    assert kept.question == f"{FIRST} and in twice that memory?"
    assert kept.calculation == kept.question


def test_a_follow_up_restated_with_words_of_both_turns_is_believed():
    restated = "How many Ray actors fit in twice 8 GB of memory?"
    kept = settled(plan(restated, calculation=restated), "and in twice that memory?", EARLIER)
    assert kept.question == kept.calculation == restated


def test_a_new_question_on_an_old_thread_stands_alone():
    kept = settled(plan("nonsense of a weak model"), "What does KubeRay do on Kubernetes?", EARLIER)
    assert kept.question == "What does KubeRay do on Kubernetes?"


def test_a_follow_up_of_a_follow_up_reaches_back_to_the_first():
    earlier = (*EARLIER, Message("user", "and in twice that?"), Message("assistant", "340"))
    kept = settled(plan("?"), "and in half that?", earlier)
    assert kept.question == f"{FIRST} and in twice that? and in half that?"


def test_a_search_for_something_else_is_dropped_and_the_question_searched():
    kept = settled(plan("What does KubeRay do?", "what is a lamp"), "What does KubeRay do?")
    assert kept.searches == ["What does KubeRay do?"]


def test_searches_that_hardly_differ_are_one():
    asked = ["memory of a Ray actor", "the memory of Ray actors", "memory of the Ray actor?"]
    assert (
        len(
            settled(
                plan("How is memory of a Ray actor?", *asked), "How is memory of a Ray actor?"
            ).searches
        )
        == 1
    )


def test_nothing_is_calculated_where_no_number_is_asked_for():
    kept = settled(plan("Who restarts a pod?", calculation="restarts"), "Who restarts a pod?")
    assert kept.calculation == ""


def test_a_calculation_that_forgets_a_figure_becomes_the_question():
    kept = settled(plan(FIRST, calculation="how many Ray actors fit"), FIRST)
    assert kept.calculation == FIRST


def test_without_a_usable_plan_the_question_is_searched_and_calculated():
    kept = settled(unplanned(FIRST), FIRST)
    assert (kept.searches, kept.calculation) == ([FIRST], FIRST)
