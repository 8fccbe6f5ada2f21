"""Agents used as what they are not: each marked line is refused, and no other."""

from dataclasses import dataclass

from pydantic import BaseModel

from crew import Agent


class Plan(BaseModel):
    tasks: list[str]


@dataclass
class Refusal:
    reason: str


def shout(text: str) -> bool:
    return text.isupper()


def counted(plan: Plan) -> int:
    return len(plan.tasks)


hello = Agent("hello")
planner = Agent("planner", output=Plan)
either = Agent("either", output=Plan | Refusal)

other: Agent[Refusal] = Agent("other", output=Plan)  # refused
narrower: Agent[Plan] = either  # refused
text: Agent[str] = planner  # refused
by_default: Agent[Plan] = Agent("by_default")  # refused by pyright
Agent("checked", output=Plan, check=shout)  # refused
Agent("counted", output=Plan, check=counted)  # refused
Agent("member", output=Plan, check=lambda plan: plan.steps == [])  # refused
Agent("value", output=3)  # refused
Agent("object", output=Plan(tasks=[]))  # refused
Agent("named", outputs=Plan)  # refused
Agent("turns", max_turns="8")  # refused
Agent("tools", tools=["search"])  # refused
Agent("models", model=3.5)  # refused
Agent()  # refused
handing: Agent[Plan] = Agent("handing", output=Plan, handoffs=[hello])  # refused


async def ask() -> None:
    (await hello.run("…")).output.tasks  # refused
    (await planner.run("…")).output.steps  # refused
    (await either.run("…")).output.reason  # refused
    await planner.run(3)  # refused
    count: int = (await hello.run("…")).usage  # refused
    plan: Refusal = (await planner.run("…")).output  # refused
    planner.run("…").output  # refused
    print(count, plan)
