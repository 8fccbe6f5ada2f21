"""Label a file of reviews, a line each: two thousand runs, forty at once.

    python batch.py reviews.txt
    crew export --jsonl --workflow label > labels.jsonl

Started again after a crash, it goes on with the lines that have no label yet.
"""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from crew import Agent, Context, Retry, Runtime, workflow


class Label(BaseModel):
    sentiment: Literal["good", "bad", "mixed"]
    subject: str


labeller = Agent(
    "labeller",
    instructions="You label a customer's review: its sentiment, and what it is about in one word.",
    model="cheap",
    output=Label,
    temperature=0,
)


@workflow
async def label(ctx: Context, review: str) -> Label:
    """Label one review; what fails for a passing reason is tried again."""
    return (await ctx.run(labeller, review, retry=Retry(attempts=3))).output


async def main(file: Path) -> None:
    """Label every line of a file, and print what came of it."""
    async with Runtime(workflows=[label]) as runtime:
        with file.open() as lines:
            reviews = (line.strip() for line in lines)
            batch = runtime.start_many(label, reviews, keys=f"label {file.name}", at_once=40)
            async for _ in batch:
                print(f"\r{batch.counts.total()} labelled", end="", file=sys.stderr)
        outcomes = await batch.results()
    labels = [outcome.output for outcome in outcomes if outcome.output is not None]
    print(f"\n{dict(Counter(label.sentiment for label in labels))}, {batch.usage}")
    for outcome in outcomes:
        if outcome.output is None:
            print(f"line {outcome.index + 1} is {outcome.status}: {outcome.error}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
