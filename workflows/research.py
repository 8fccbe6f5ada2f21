"""Answer a question from documents: every claim with its quote, every number from code that ran."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from crew import Context, Graph, OutputInvalid, Retry, team
from crew.agent import Agent

NOTHING = "Nothing was found in the documents that answers this."
CLOSEST = "The closest sentence, which may be about something else:"
Reply = TypeVar("Reply", bound=BaseModel)


class Question(BaseModel):
    """What is asked; `docs` is the folder that answers (default: settings, else our own docs)."""

    text: str
    docs: str = ""


class SearchTask(BaseModel):
    """One thing to look up for a question."""

    query: str
    question: str
    docs: str


class CodeTask(BaseModel):
    """A number to work out; `said` are the texts, besides the documents, that may give figures."""

    goal: str
    question: str
    docs: str
    said: list[str]


class Finding(BaseModel):
    """What one task found; without claims, `missing` says why, and `closest` what came near."""

    question: str
    docs: str
    claims: list[team.Claim] = []
    closest: list[team.Claim] = []
    missing: str = ""


class Answer(BaseModel):
    """The answer as text, and claim by claim with the quotes and the code that prove it."""

    text: str
    sources: list[str] = []
    claims: list[team.Claim] = []


research = Graph("research", input=Question, output=Answer, version="1")


@research.node
async def plan(ctx: Context, question: Question) -> list[SearchTask | CodeTask]:
    earlier = ctx.thread.messages
    drafted = await reply(ctx, team.planner, question.text, team.unplanned(question.text))
    plan = team.settled(drafted, question.text, earlier)
    ctx.progress(f"understood as: {plan.question}")
    docs = await ctx.run(team.documents_folder, question.docs)
    tasks: list[SearchTask | CodeTask] = [
        SearchTask(query=query, question=plan.question, docs=docs) for query in plan.searches
    ]
    if plan.calculation:
        said = [question.text, *(message.text for message in earlier)]
        goal = plan.calculation
        tasks.append(CodeTask(goal=goal, question=plan.question, docs=docs, said=said))
    return tasks


@research.node(retry=Retry(attempts=3), concurrency=16)
async def look_up(ctx: Context, task: SearchTask) -> Finding:
    passages = await ctx.run(team.find, task.docs, task.query)
    offered = team.candidates(task.query, passages)
    if not offered:
        return Finding(**shared(task), missing=f"no passage speaks of {task.query!r}")
    prompt = team.searcher_prompt(task.query, offered)
    chosen = team.selected(
        await reply(ctx, team.searcher, prompt, team.Selection(sentences=[1])), offered
    )
    if not chosen:
        missing = f"no sentence answers {task.query!r}"
        return Finding(**shared(task), closest=[team.quoted(offered[0])], missing=missing)
    return Finding(**shared(task), claims=[team.quoted(quote) for quote in chosen])


@research.node
async def compute(ctx: Context, task: CodeTask) -> Finding:
    passages = await ctx.run(team.find, task.docs, task.goal)
    offered = team.candidates(task.goal, passages, with_figures=True)
    texts = [quote.text for quote in offered]
    written = await reply(ctx, team.coder, team.coder_prompt(task.goal, texts), team.Code(code=""))
    options, why = team.runnable(written, task.question, task.said, texts)
    if why:
        ctx.progress(f"the coder's code was refused: {why}")
    for option in options:
        ran = await ctx.run(team.run_code, option.code)
        why = ran.error
        if not why:
            claim = team.worked_out(option, ran, task.question, offered)
            return Finding(**shared(task), claims=[claim])
    return Finding(**shared(task), missing="no number was worked out")


@research.node
async def summarise(ctx: Context, findings: list[Finding]) -> Answer:
    question, docs = findings[0].question, findings[0].docs
    toy = await ctx.run(team.is_toy)
    proven = await ctx.run(team.proven, docs, [c for finding in findings for c in finding.claims])
    missing = [f"({finding.missing})" for finding in findings if finding.missing]
    notes = [*missing, team.TOY_NOTE] if toy else missing
    if not proven:
        closest = await ctx.run(team.proven, docs, [c for f in findings for c in f.closest])
        return told(ctx, [NOTHING, *(f"{CLOSEST}\n{team.shown(c)}" for c in closest[:1]), *notes])
    prompt = team.summariser_prompt(question, proven)
    draft = await reply(ctx, team.summariser, prompt, team.Draft(claims=[]))
    claims = team.arranged(draft, proven, question, literal=toy)
    return told(ctx, [*map(team.shown, claims), *notes], claims)


def told(ctx: Context, parts: list[str], claims: Sequence[team.Claim] = ()) -> Answer:
    """Emit the answer part by part as it will be read, and return the same text as a value."""
    for number, part in enumerate(parts):
        ctx.emit(part if number == 0 else f"\n\n{part}")
    sources = dict.fromkeys(quote.source for claim in claims for quote in claim.quotes)
    return Answer(text="\n\n".join(parts), sources=list(sources), claims=list(claims))


def shared(task: SearchTask | CodeTask) -> dict[str, str]:
    return {"question": task.question, "docs": task.docs}


async def reply(ctx: Context, agent: Agent[Any], text: str, otherwise: Reply) -> Reply:
    """Return the agent's output, or `otherwise` where a weak model's reply has no usable form."""
    try:
        return (await ctx.run(agent, text)).output
    except OutputInvalid:
        return otherwise
