"""Twenty questions over docs/: the research workflow beside one direct call with the same passages.

    python benchmarks/golden.py [--limit N] [--docs FOLDER]

Prints per question whether each answer holds what golden.json expects, then scores, seconds and
tokens. The direct call is the same model, asked once, with the passages the search finds first.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from crew import Agent, Context, Graph, Runtime, team  # noqa: E402  from this checkout
from workflows.research import Question, research  # noqa: E402

QUESTIONS = Path(__file__).with_name("golden.json")
PASSAGES = 4
MARKS = {True: "✓", False: "✗"}


@dataclass(slots=True)
class Score:
    """What one way of answering came to."""

    right: int = 0
    seconds: float = 0.0
    tokens: int = 0


direct = Graph("direct", input=Question, output=str)
answerer = Agent(
    "answerer",
    instructions="Answer the question from the passages, in one or two sentences.",
    max_tokens=120,
    temperature=0.0,
)


@direct.node
async def answer(ctx: Context, question: Question) -> str:
    found = await ctx.run(team.find, question.docs, question.text)
    passages = "\n\n".join(passage.text for passage in found[:PASSAGES])
    return (await ctx.run(answerer, f"{passages}\n\nQuestion: {question.text}")).output


async def main() -> None:
    options = _options()
    items = json.loads(QUESTIONS.read_text(encoding="utf-8"))[: options.limit]
    scores = {"research": Score(), "direct": Score()}
    async with Runtime(":memory:") as runtime:
        for item in items:
            question = Question(text=item["question"], docs=options.docs)
            marks = {}
            for workflow in (research, direct):
                score = scores[workflow.name]
                text = await _asked(runtime, workflow, question, score)
                marks[workflow.name] = holds(text, item["must_contain"])
                score.right += marks[workflow.name]
                if options.verbose:
                    print(f"--- {workflow.name}\n{text}")
            print(
                "  ".join(f"{MARKS[right]} {name}" for name, right in marks.items()),
                item["question"],
            )
    for name, score in scores.items():
        print(
            f"{name:9} {score.right} of {len(items)} right, {score.seconds:.1f} s, "
            f"{score.tokens} tokens"
        )


def holds(text: str, expected: list[list[str]]) -> bool:
    """Tell whether an answer holds, of each group of alternatives, one as a word of its own."""
    return all(any(_stands(word, text) for word in group) for group in expected)


def _stands(word: str, text: str) -> bool:
    pattern = rf"(?<![\w.,]){re.escape(word)}(?![.,]?\d)"
    return re.search(pattern, text, re.IGNORECASE) is not None


async def _asked(runtime: Runtime, workflow: Graph, question: Question, score: Score) -> str:
    began = time.monotonic()
    run = await runtime.start(workflow, question)
    result = await run.result()
    score.seconds += time.monotonic() - began
    async for event in run.events():
        if event.kind == "model.completed":
            usage = event.data["usage"]
            score.tokens += usage["input_tokens"] + usage["output_tokens"]
    text = result if isinstance(result, str) else result.text
    return text.replace(team.TOY_NOTE, "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="ask the first N questions only")
    parser.add_argument("--docs", default=str(ROOT / "docs"), help="the folder to answer from")
    parser.add_argument("--verbose", action="store_true", help="print the answers, too")
    options = parser.parse_args()
    options.docs = str(Path(options.docs).resolve())
    return options


if __name__ == "__main__":
    asyncio.run(main())
