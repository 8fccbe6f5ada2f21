"""Plan, execute, reflect: a typed plan, its tasks side by side, and a critic who is hard to please.

python plan_and_execute.py "Compare three ways to store a journal."
crew serve plan_and_execute.py        # or as the model `solve`, with each run's tree on a page
"""

import asyncio
import sys

from pydantic import BaseModel, Field

from crew import Agent, Context, Runtime, workflow

ROUNDS = 3


class Plan(BaseModel):
    tasks: list[str] = Field(description="Each can be done without the others.")


class Review(BaseModel):
    is_good: bool
    advice: str = Field(description="What to change; empty if nothing.")


def is_feasible(plan: Plan) -> str | None:
    """Say what is wrong with a plan; its author reads that, and tries again."""
    if not 2 <= len(plan.tasks) <= 5:
        return f"Between 2 and 5 tasks, please, not {len(plan.tasks)}."
    if len(set(plan.tasks)) < len(plan.tasks):
        return "Two tasks are the same."
    return None


planner = Agent(
    "planner",
    instructions="You plan. Split the question into tasks.",
    model="strong",
    output=Plan,
    check=is_feasible,
    retries=2,
)
worker = Agent(
    "worker",
    instructions="You carry out one task. Give the result in a paragraph.",
    model="cheap",
)
author = Agent(
    "author",
    instructions="You write the answer to a question from the results you are given.",
    model="strong",
)
critic = Agent(
    "critic",
    instructions="You review an answer to a question. It is good if it is right, whole and short.",
    model="strong",
    output=Review,
    temperature=0,
)


@workflow
async def solve(ctx: Context, question: str) -> str:
    """Answer a question, by a plan."""
    plan = (await ctx.run(planner, question)).output
    ctx.progress(f"{len(plan.tasks)} tasks")
    done = await ctx.map(worker, plan.tasks, concurrency=4)
    results = [f"## {task}\n{each.output}" for task, each in zip(plan.tasks, done, strict=True)]
    draft = await ctx.run(author, "\n\n".join([question, *results]))
    for _ in range(ROUNDS):
        review = (await ctx.run(critic, f"{question}\n\n{draft.output}")).output
        if review.is_good:
            break
        draft = await ctx.run(author, f"Revise it: {review.advice}", messages=draft.messages)
    return draft.output


async def main(question: str) -> None:
    """Ask, and print the answer."""
    async with Runtime(workflows=[solve]) as runtime:
        run = await runtime.start(solve, question, key=f"solve: {question}")
        print(await run.result())


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:])))
