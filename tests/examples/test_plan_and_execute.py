from tests.examples.models import last


def planner(body):
    if "Between 2 and 5 tasks" in last(body):
        return {"tasks": ["Weigh SQLite.", "Weigh plain files."]}
    return {"tasks": ["Do it."]}


def critic(body):
    if "shorter" in last(body):
        return {"is_good": True, "advice": ""}
    return {"is_good": False, "advice": "Make it shorter."}


SAYS = {
    "You plan": planner,
    "You carry out": lambda body: f"{last(body)} Done.",
    "You write": lambda body: "A shorter one." if "Revise it" in last(body) else last(body),
    "You review": critic,
}


def test_the_plan_is_refused_once_then_carried_out_and_its_answer_revised(scene):
    folder, models = scene(SAYS)
    assert folder.output(folder.python("plan_and_execute.py", "Which?")) == "A shorter one.\n"
    assert models.asked[:2] == ["You plan"] * 2
    assert sorted(models.asked[2:4]) == ["You carry out"] * 2
    assert models.asked[4:] == ["You write", "You review", "You write", "You review"]
    draft = last(models.bodies[4])
    assert draft == (
        "Which?\n\n## Weigh SQLite.\nWeigh SQLite. Done.\n\n## Weigh plain files.\n"
        "Weigh plain files. Done."
    )
    assert [m["role"] for m in models.bodies[6]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
