"""Answer a question from documents: every claim with its quote, every number from code that ran."""

from typing import Any, TypeVar

from pydantic import BaseModel

from crew import Context, Graph, OutputInvalid, Retry, team
from crew.agent import Agent

NOTHING = "Nothing was found in the documents that answers this."
NO_NUMBER = "no number was worked out"
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
    """What one task found; without claims, `missing` may say what not, `closest` what came near."""

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
        return Finding(**shared(task), missing=unanswered(task))
    prompt = team.searcher_prompt(task.query, offered)
    selection = await reply(ctx, team.searcher, prompt, team.Selection(sentences=[1]))
    claims = [team.quoted(quote) for quote in team.selected(selection, offered)]
    if claims:
        return Finding(**shared(task), claims=claims)
    return Finding(**shared(task), closest=[team.quoted(offered[0])], missing=unanswered(task))


@research.node
async def compute(ctx: Context, task: CodeTask) -> Finding:
    passages = await ctx.run(team.find, task.docs, task.question)
    offered = team.candidates(task.question, passages, with_figures=True)
    texts = [quote.text for quote in offered]
    prompt = team.coder_prompt(task.goal, task.question, texts)
    written = await reply(ctx, team.coder, prompt, team.Code(code=""))
    options, why = team.runnable(written, task.question, task.said, texts)
    if why:
        ctx.progress(f"the coder's code was refused: {why}")
    for option in options:
        ran = await ctx.run(team.run_code, option.code)
        why = ran.error
        if not why:
            claim = team.worked_out(option, ran, task.question, offered)
            return Finding(**shared(task), claims=[claim])
    return Finding(**shared(task), missing=NO_NUMBER)


@research.node
async def summarise(ctx: Context, findings: list[Finding]) -> Answer:
    question, docs = findings[0].question, findings[0].docs
    toy = await ctx.run(team.is_toy)
    proven = await ctx.run(team.proven, docs, [c for f in findings for c in f.claims])
    claims: list[team.Claim] = []
    if proven:
        prompt = team.summariser_prompt(question, proven)
        draft = await reply(ctx, team.summariser, prompt, team.Draft(claims=[]))
        claims = team.arranged(draft, proven, question, literal=toy)
    parts = [team.shown(claim) for claim in claims] or [NOTHING]
    if not any(claim.quotes for claim in claims):
        near = await ctx.run(team.proven, docs, [c for f in findings for c in f.closest])
        parts += [f"{CLOSEST}\n{team.shown(claim)}" for claim in near[:1]]
    missing = {finding.missing for finding in findings if finding.missing}
    if any(team.figures(quote.text) for claim in claims for quote in claim.quotes):
        missing.discard(NO_NUMBER)  # it was there to be read
    parts += [f"({text})" for text in sorted(missing)]
    return emitted(ctx, [*parts, team.TOY_NOTE] if toy else parts, claims)


def emitted(ctx: Context, parts: list[str], claims: list[team.Claim]) -> Answer:
    """Emit the answer part by part as it will be read, and return the same text as a value."""
    for number, part in enumerate(parts):
        ctx.emit(part if number == 0 else f"\n\n{part}")
    sources = dict.fromkeys(quote.source for claim in claims for quote in claim.quotes)
    return Answer(text="\n\n".join(parts), sources=list(sources), claims=claims)


def unanswered(task: SearchTask) -> str:
    """Name what was not found, unless that is the whole question."""
    query, question = (text.strip(" ?.").lower() for text in (task.query, task.question))
    return "" if query == question else f"nothing was found on {task.query!r}"


def shared(task: SearchTask | CodeTask) -> dict[str, str]:
    return {"question": task.question, "docs": task.docs}


async def reply(ctx: Context, agent: Agent[Any], text: str, otherwise: Reply) -> Reply:
    """Return the agent's output, or `otherwise` where a weak model's reply has no usable form."""
    try:
        return (await ctx.run(agent, text)).output
    except OutputInvalid:
        return otherwise
