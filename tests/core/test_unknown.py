"""An effect of which nobody knows whether it happened is decided by its policy, or a person."""

import asyncio

import pytest

from crew import Context, RunFailed, Runtime, workflow
from crew.event import CallStarted, RunTaken, StepStarted
from crew.journal import Append, NewRun, Release, Take
from crew.journal.sqlite import SqliteStore
from crew.journal.writer import OpenRun, seal
from crew.run import leaving


class Acting:
    """Workflows with one effect, whose acts are counted."""

    def __init__(self, policy: str, *, named: bool) -> None:
        self.acts: list[str] = []

        async def nameless() -> str | None:
            self.acts.append("act")
            return "acted"

        async def with_key(idempotency_key: str) -> str | None:
            self.acts.append(idempotency_key)
            return "acted"

        @workflow
        async def flow(ctx: Context) -> str | None:
            return await ctx.effect(with_key if named else nameless, key="act", unknown=policy)

        self.flow = flow
        self.name = "with_key" if named else "nameless"


def left_in_the_middle(store, flow, name, *, proven: bool):
    """Write the journal of a run whose owner was lost after the effect's intent."""
    from crew.call.record import fingerprint_of, idempotency_key
    from crew.event import RunStarted

    chain = OpenRun("r1", 0, 1, 0, 0)
    first = seal(chain, 1, RunStarted("flow", "1", None))
    new = NewRun("r1", "default", "flow", "1", None, "", None, None, "lost", "queue", first, 1.0)
    store.commit([new])
    data = {
        "function": name,
        "unknown": "",
        "within": "flow[0]",
        "idempotency_key": idempotency_key("r1", "flow[0]/=act"),
        "fingerprint": fingerprint_of(name, []),
    }
    events = (
        seal(chain, 2, StepStarted("flow[0]")),
        seal(chain, 3, CallStarted("flow[0]/=act", "effect", data)),
    )
    store.commit([Append(1, 1, events), Take(1, "other", "lost")])
    taken = seal(chain, 4, RunTaken("host", 1, 2, proven=proven))
    store.commit([Append(1, 2, (taken,)), Release(1, 2)])


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "runs.db")
    yield store
    store.close()


async def test_one_whose_owner_is_proven_dead_is_retried(store):
    acting = Acting("retry", named=False)
    left_in_the_middle(store, acting.flow, acting.name, proven=True)
    async with Runtime(store, workflows=[acting.flow]) as runtime:
        assert await (await runtime.get("r1")).result() == "acted"
    assert acting.acts == ["act"]


async def test_one_that_the_far_side_knows_by_its_key_is_retried_in_any_case(store):
    acting = Acting("retry", named=True)
    left_in_the_middle(store, acting.flow, acting.name, proven=False)
    async with Runtime(store, workflows=[acting.flow]) as runtime:
        assert await (await runtime.get("r1")).result() == "acted"
    assert len(acting.acts) == 1


@pytest.mark.parametrize("happened", [True, False])
async def test_one_that_a_stopped_owner_may_be_at_is_asked_about_and_not_retried(
    store, happened, monkeypatch
):
    monkeypatch.setattr(leaving, "LINGER_SECONDS", 0.01)
    acting = Acting("retry", named=False)
    left_in_the_middle(store, acting.flow, acting.name, proven=False)
    async with Runtime(store, workflows=[acting.flow]) as runtime:
        run = await runtime.get("r1")
        async with asyncio.timeout(10):
            while not await run.questions() or store.run("r1").owner is not None:
                await asyncio.sleep(0.01)  # until it has left memory
        assert acting.acts == []
        await run.answer("act:happened", happened)
        assert await run.result() == (None if happened else "acted")
        kinds = [event.kind for event in await run.recorded()]
    assert kinds.count("effect.unknown") == 1
    assert acting.acts == ([] if happened else ["act"])


async def test_one_that_is_to_fail_does_so_and_says_where(store):
    acting = Acting("fail", named=False)
    left_in_the_middle(store, acting.flow, acting.name, proven=True)
    async with Runtime(store, workflows=[acting.flow]) as runtime:
        with pytest.raises(RunFailed, match="a crash hid whether the effect flow.0./=act"):
            await (await runtime.get("r1")).result()
    assert acting.acts == []
