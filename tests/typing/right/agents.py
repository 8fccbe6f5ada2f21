"""Agents: what their output is, by `output=`."""

import enum
from dataclasses import dataclass
from typing import Literal, assert_type

from pydantic import BaseModel

from crew import Agent, AgentResult, Fallback, History, Image, ModelSettings
from crew.testing import ScriptedModel


class Plan(BaseModel):
    tasks: list[str]


@dataclass
class Refusal:
    reason: str


class Grade(enum.Enum):
    GOOD = "good"
    BAD = "bad"


def is_sound(plan: Plan) -> str | None:
    return None if plan.tasks else "name a task"


async def is_known(plan: Plan) -> bool:
    return bool(plan.tasks)


hello = Agent("hello", instructions="Be brief.")
recalling = Agent("recalling", history=History(last=20, summarise_with="cheap", tools=True))
planner = Agent("planner", output=Plan, check=is_sound, retries=2)
checked = Agent("checked", output=Plan, check=is_known)
by_lambda = Agent("by_lambda", output=Plan, check=lambda plan: len(plan.tasks) > 1)
either = Agent("either", output=Plan | Refusal)
or_text = Agent("or_text", output=Plan | str)
maybe = Agent("maybe", output=Plan | None)
many = Agent("many", output=list[Plan])
by_name = Agent("by_name", output=dict[str, int])
chosen = Agent("chosen", output=Literal["yes", "no"])
graded = Agent("graded", output=Grade)
number = Agent("number", output=int, model=Fallback("strong", "cheap"))
scripted = Agent("scripted", model=ScriptedModel(["hello"]), settings=ModelSettings(temperature=0))

assert_type(hello, Agent[str])
assert_type(planner, Agent[Plan])
assert_type(checked, Agent[Plan])
assert_type(by_lambda, Agent[Plan])
assert_type(either, Agent[Plan | Refusal])
assert_type(or_text, Agent[Plan | str])
assert_type(maybe, Agent[Plan | None])
assert_type(many, Agent[list[Plan]])
assert_type(by_name, Agent[dict[str, int]])
assert_type(chosen, Agent[Literal["yes", "no"]])
assert_type(graded, Agent[Grade])
assert_type(number, Agent[int])
assert_type(scripted, Agent[str])

# Who hands on to agents of other outputs says what may come of it.
desk: Agent[Plan | str] = Agent("desk", output=Plan, handoffs=[hello, planner])
texts = Agent("texts", handoffs=[hello, scripted])
boss = Agent("boss", output=int, tools=[planner, hello.as_tool(name="greet")])

assert_type(texts, Agent[str])
assert_type(boss, Agent[int])

wider: Agent[Plan | str] = planner
"""An agent that answers plans is one that answers plans or texts."""
team: list[Agent[object]] = [hello, planner, chosen]


async def ask() -> None:
    answer = await hello.run("Say hello")
    assert_type(answer, AgentResult[str])
    assert_type(answer.output, str)
    plan = (await planner.run(["What is this?", Image(b"", "image/png")])).output
    assert_type(plan, Plan)
    assert_type((await desk.run("Hello")).output, Plan | str)
    for each in (await many.run("…")).output:
        assert_type(each, Plan)
    found = (await either.run("…")).output
    match found:
        case Plan():
            assert_type(found.tasks, list[str])
        case Refusal():
            assert_type(found.reason, str)


assert_type(planner.run_sync("…").output, Plan)
