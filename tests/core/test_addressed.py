"""Questions that are for somebody, and answers that say whose they are."""

import asyncio

import pytest

from crew import Agent, Context, GraphError, Runtime, ToolCall, tool, workflow
from crew.errors import InputInvalid, ToolError
from crew.testing import ScriptedModel, simulate
from tests.core.lives import left_waiting, result, stores


@workflow
async def refund(ctx: Context, cents: int) -> bool:
    return await ctx.ask(bool, f"Refund {cents}?", key="go", to="manager")


@workflow
async def parent(ctx: Context, cents: int) -> bool:
    return await ctx.run(refund, cents)


def pay(cents: int) -> str:
    return f"paid {cents}"


@tool
async def settle(ctx: Context, cents: int) -> str:
    """Settle a bill."""
    if await ctx.ask(bool, "Settle it?", key="go", to="manager"):
        return await ctx.effect(pay, cents)
    return "refused"


@tool(approve=True, to="manager")
def wire(cents: int) -> str:
    """Wire money."""
    return pay(cents)


def clerk(name: str) -> Agent:
    def says(request):
        last = request.messages[-1]
        return last.text if last.role == "tool" else ToolCall(name, {"cents": 7})

    return Agent("clerk", model=ScriptedModel(says), tools=[settle, wire])


@workflow
async def by_tool(ctx: Context, cents: int) -> str:
    return (await ctx.run(clerk("settle"), "pay")).output


@workflow
async def by_approval(ctx: Context, cents: int) -> str:
    return (await ctx.run(clerk("wire"), "pay")).output


async def asked(runtime: Runtime):
    async with asyncio.timeout(20):
        while True:
            for run in await runtime.runs(status=("running", "waiting")):
                if questions := await run.questions():
                    return run, questions[0]
            await asyncio.sleep(0.01)


@stores
@pytest.mark.parametrize("flow", [refund, parent, by_tool, by_approval], ids=lambda f: f.name)
async def test_question_says_whom_it_is_for_and_the_journal_who_answered(url, flow):
    async with Runtime(url, workflows=[flow, refund]) as runtime:
        run = await runtime.start(flow, 7)
        asking, question = await asked(runtime)
        assert question.to == "manager"
        await asking.answer(question.path, True, by="eva")
        assert await result(run) in (True, "paid 7")
        events = await asking.recorded()
    [opened] = [event for event in events if event.kind == "ask.opened"]
    [answered] = [event for event in events if event.kind == "ask.answered"]
    assert opened.data["to"] == "manager"
    assert answered.data == {"value": True, "by": "eva"}
    assert (question.offset, question.at) == (opened.offset, opened.at)


@stores
async def test_answer_that_lies_in_the_inbox_keeps_its_author(url):
    run_id = await left_waiting(url, refund, value=7)
    async with Runtime(url, worker=False) as office:
        await (await office.get(run_id)).answer("go", False, by="eva")
    async with Runtime(url, workflows=[refund]) as runtime:
        run = await runtime.get(run_id)
        assert await result(run) is False
        last = [event for event in await run.recorded() if event.kind == "ask.answered"]
        assert last[0].data["by"] == "eva"
        replayed = await runtime.replay(run_id)
        assert await replayed.result() is False


async def test_answer_without_an_author_has_none_on_record():
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(refund, 7)
        _, question = await asked(runtime)
        await run.answer(question.key, True)
        await run.result()
        [event] = [each for each in await run.recorded() if each.kind == "ask.answered"]
    assert event.data == {"value": True}


async def test_new_addressee_is_no_other_call_than_the_one_on_record(tmp_path):
    """A run that waits goes on where its code asks somebody else by now: it was asked already."""
    url = f"sqlite:///{tmp_path}/runs.db"
    run_id = await left_waiting(url, globals()["refund"], value=7)

    async def refund(ctx: Context, cents: int) -> bool:
        return await ctx.ask(bool, f"Refund {cents}?", key="go", to="director")

    async with Runtime(url, workflows=[workflow(refund)]) as runtime:
        run = await runtime.get(run_id)
        assert [question.to for question in await run.questions()] == ["manager"]
        await run.answer("go", True, by="eva")
        assert await result(run) is True


@pytest.mark.parametrize("flow", [refund, by_tool, by_approval], ids=lambda flow: flow.name)
def test_simulated_crashes_lose_no_question_of_a_manager(flow):
    done = simulate(flow, 7, seeds=8, answer=lambda question: question.to == "manager")
    assert done.output in (True, "paid 7")


@pytest.mark.parametrize("to", ["", "a\nb", "x" * 65, 7, ["manager"]])
async def test_addressee_that_no_key_could_have_is_refused_with_an_example(to):
    @workflow
    async def odd(ctx: Context, text: str) -> bool:
        try:
            return await ctx.ask(bool, "Well?", to=to)
        except GraphError as error:
            return "to='manager'" in str(error)

    async with Runtime(":memory:") as runtime:
        assert await (await runtime.start(odd, "")).result() is True
    with pytest.raises(ToolError, match="to='manager'"):
        tool(approve=True, to=to)(pay)


def test_tool_that_nobody_approves_is_for_nobody():
    with pytest.raises(ToolError, match="give approve= too"):
        tool(to="manager")(pay)


async def test_author_is_text():
    async with Runtime(":memory:") as runtime:
        run = await runtime.start(refund, 7)
        with pytest.raises(InputInvalid, match="by must be a string"):
            await run.answer("go", True, by=7)  # type: ignore[arg-type]
