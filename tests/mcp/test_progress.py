"""How far the call of a server's tool is: told to those who watch the run, now and then."""

import pytest

from crew import Runtime, ToolCall
from crew.mcp.progress import MOST_CHARACTERS, MOST_LINES, Progress
from tests.core.lives import result
from tests.mcp.flows import desk
from tests.mcp.places import library, shop


async def told(tools, *calls: ToolCall) -> list[str]:
    """What the journal of a run holds of progress."""
    flow = desk(tools, *calls)
    async with Runtime(":memory:", workflows=[flow]) as runtime:
        run = await runtime.start(flow, "hello")
        await result(run)
        events = await run.recorded()
        assert all("/clerk/" in event.path for event in events if event.kind == "progress.made")
        return [event.data["text"] for event in events if event.kind == "progress.made"]


async def test_what_a_server_tells_is_in_the_journal_of_the_run():
    lines = await told([shop(prefix="shop")], ToolCall("shop_count", {"to": 9}))

    assert lines[0] == "shop_count: 0 of 9"


async def test_server_without_a_total_tells_how_far_it_is_all_the_same():
    assert await told([library()], ToolCall("find", {"title": "Emma"})) == ["find: 1"]


async def test_each_call_of_a_tool_has_its_own():
    lines = await told([library()], *[ToolCall("find", {"title": "Emma"})] * 3)

    assert lines == ["find: 1"] * 3


class Clock:
    """What a call has reported, and when."""

    def __init__(self, monkeypatch) -> None:
        self.lines: list[tuple[int, str]] = []
        self.progress = Progress(self._report, lambda words: words.replace("secret", "***"))
        self._monkeypatch = monkeypatch
        self._now = 100.0

    async def _report(self, number: int, text: str) -> None:
        self.lines.append((number, text))

    async def at(self, seconds: float, message: str | None = None) -> None:
        self._monkeypatch.setattr("crew.mcp.progress.monotonic", lambda: self._now + seconds)
        await self.progress(seconds, None, message)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


async def test_more_than_a_line_each_half_second_is_left_out(clock):
    for tenth in range(21):
        await clock.at(tenth / 10, f"{tenth}")

    assert clock.lines == [(0, "0"), (1, "5"), (2, "10"), (3, "15"), (4, "20")]


async def test_call_that_takes_a_day_has_so_many_lines_and_no_more(clock):
    for minute in range(24 * 60):
        await clock.at(60.0 * minute)

    assert len(clock.lines) == MOST_LINES


async def test_line_is_short_and_holds_nothing_that_was_given_in_confidence(clock):
    await clock.at(0, "the secret of " + "x" * 1000)

    [(_, line)] = clock.lines
    assert line.startswith("the *** of x")
    assert len(line) == MOST_CHARACTERS
