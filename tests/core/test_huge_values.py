"""Big values go through quickly; what is too big for a journal is refused, with a way on."""

from typing import Any

import pytest
from pydantic import BaseModel

from crew import Context, OutputInvalid, RunFailed, Runtime, workflow
from crew.journal.text import TextReader, TextWriter
from crew.value import Codec
from crew.value.shape import MOST_BYTES
from tests.core.lives import result, stores


class Parts(BaseModel):
    parts: list[str]


class Odd(BaseModel):
    model_config = {"extra": "allow"}
    name: str


HALF = "x" * (MOST_BYTES // 2)
HUGE: dict[str, tuple[Any, Any]] = {
    "text": (str, 2 * HALF),
    "text that grows by being written": (str, "\x01" * (MOST_BYTES // 5)),
    "a list": (list[str], [HALF, HALF]),
    "a model": (Parts, Parts(parts=[HALF, HALF])),
    "a model with more": (Odd, Odd(name=HALF, more=HALF)),
    "a dict": (dict[str, str], {"a": HALF, "b": HALF}),
    "anything": (Any, {"a": [HALF, {"b": HALF}]}),
    "a union": (int | Parts, Parts(parts=[HALF, HALF])),
    "a text in a union": (str | Parts, 2 * HALF),
    "bytes": (bytes, b"x" * (MOST_BYTES + 1)),
    "numbers": (list[int], [10**15] * (MOST_BYTES // 16)),
}


@pytest.mark.parametrize(("annotation", "value"), HUGE.values(), ids=HUGE.keys())
def test_a_value_that_is_too_big_is_refused_with_a_way_on(annotation, value):
    codec = Codec(annotation, where="the result")
    with pytest.raises(OutputInvalid, match="write it to a file or a store of your own") as caught:
        codec.passed_on(value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("value", [HALF, "é" * (MOST_BYTES // 6)])
def test_a_long_text_that_fits_goes_on(value):
    assert Codec(str, where="the result").passed_on(value) == (value, value)


@stores
async def test_a_run_that_returns_too_much_fails_and_says_why(url):
    @workflow
    async def flow(ctx: Context, value: int) -> str:
        return 2 * HALF

    async with Runtime(url) as runtime:
        with pytest.raises(RunFailed, match="write it to a file"):
            await result(await runtime.start(flow, 0))


@stores
async def test_a_call_that_returns_too_much_can_be_caught(url):
    async def work(kind: int) -> list[str]:
        return [HALF] * kind

    @workflow
    async def flow(ctx: Context, value: int) -> str:
        try:
            await ctx.run(work, 2)
        except OutputInvalid as error:
            return str(error)
        return ""

    async with Runtime(url) as runtime:
        assert "write it to a file" in await result(await runtime.start(flow, 0))


NUMBERS = {
    "numbers": [*range(300_000)],
    "fractions": [n / 7 for n in range(100_000)],
    "rows": [[n, None, True] for n in range(30_000)],
    "in a dict": {"values": [*range(100_000)], "name": "a long name " * 9},
    "words among them": [1, 2, "three " * 30, 4],
}


@stores
@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS.keys())
async def test_many_numbers_come_back_as_they_were(url, value):
    @workflow
    async def flow(ctx: Context, n: int) -> Any:
        return value

    async with Runtime(url, workflows=[flow]) as runtime:
        run = await runtime.start(flow, 0)
        assert await result(run) == value
    async with Runtime(url, workflows=[flow]) as runtime:
        assert await result(await runtime.get(run.id)) == value


def test_a_list_of_numbers_is_not_walked():
    writer, data = TextWriter(), {"result": [*range(1000)], "text": "said " * 30}
    packed, _ = writer.pack(1, data)
    assert packed["result"] is data["result"]
    reader = TextReader(lambda offset: packed, str, lambda first, last: [], str)
    assert reader.unpack(1, packed) == data
