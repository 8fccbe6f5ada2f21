"""How a caller wants the answer: settings that are handed down, and its form."""

import asyncio
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field

from crew.call.context import Context
from crew.config import Settings
from crew.run import Runtime, workflow
from serving.app import create_app, serve_http
from serving.chat.form import wants_json
from serving.http.errors import ApiError
from tests.serving.conftest import Endpoint


class Tuned(BaseModel):
    text: str
    temperature: float = Field(default=1.0, le=1.5)
    stop: list[str] = []
    max_tokens: int | None = None
    seed: int = 0
    user: str = ""


class Part(BaseModel):
    name: str
    parts: list["Part"] = []


class Plan(BaseModel):
    """What to do."""

    text: str = Field(description="in a sentence")
    mood: Literal["calm", "busy"] = "calm"
    parts: list[Part] = []
    note: str | None = None


@workflow
async def tuned(ctx: Context, given: Tuned) -> Tuned:
    return given


@workflow
async def planning(ctx: Context, text: str) -> Plan:
    ctx.emit("I am thinking aloud. ")
    return Plan(text=text, parts=[Part(name="a", parts=[Part(name="b")])])


@workflow
async def telling(ctx: Context, text: str) -> str:
    return text


@pytest.fixture
async def served(tmp_path):
    settings, flows = Settings(store=f"sqlite:///{tmp_path}/runs.db"), [tuned, planning, telling]
    async with Runtime(workflows=flows, settings=settings) as runtime:
        app = create_app(runtime, flows, settings=settings)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve_http(app, port=0, on_ready=ready.set_result))
        async with openai.AsyncOpenAI(base_url=await ready, api_key="k", max_retries=0) as client:
            yield Endpoint(str(client.base_url), runtime, client)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_settings_reach_a_workflow_that_has_a_field_for_them(served):
    reply = await served.ask(
        "tuned", "hi", temperature=0.5, stop="end", max_tokens=9, seed=4, user="u1", top_p=0.1
    )
    expected = {"temperature": 0.5, "stop": ["end"], "max_tokens": 9, "seed": 4, "user": "u1"}
    assert reply.crew["output"] == {"text": "hi", **expected}

    told = await served.client.responses.create(model="tuned", input="hi", max_output_tokens=7)
    assert told.crew["output"]["max_tokens"] == 7


async def test_setting_that_the_workflow_does_not_bear_is_named(served):
    with pytest.raises(openai.BadRequestError, match="less than or equal to 1.5") as caught:
        await served.ask("tuned", "hi", temperature=1.8)

    assert caught.value.param == "temperature"


async def test_answer_is_parsed_into_the_type_that_the_workflow_gives(served):
    parsed = await served.client.chat.completions.parse(
        model="planning", messages=[{"role": "user", "content": "hi"}], response_format=Plan
    )
    assert parsed.choices[0].message.parsed.parts[0].parts[0].name == "b"

    told = await served.client.responses.parse(model="planning", input="hi", text_format=Plan)
    assert told.output_parsed == parsed.choices[0].message.parsed
    again = await served.client.responses.retrieve(told.id)
    assert again.output_text == told.output_text
    assert again.text.format.type == "json_schema"


async def test_streamed_json_is_nothing_but_json(served):
    wanted = {"response_format": {"type": "json_object"}}
    chunks = await served.stream("planning", "hi", **wanted)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert Plan.model_validate_json(said).text == "hi"


@pytest.mark.parametrize(
    ("model", "wanted", "message"),
    [
        ("telling", {"type": "json_object"}, "answers with str, which is no JSON object"),
        ("planning", {"type": "regex"}, "'regex' is no format"),
        ("planning", {"type": "json_schema"}, "needs a `schema`"),
        (
            "planning",
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "its own type Plan, and the schema is another one",
        ),
    ],
)
async def test_form_that_the_workflow_does_not_give_is_refused(served, model, wanted, message):
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        await served.ask(model, "hi", response_format=wanted)

    assert caught.value.param == "response_format"
    assert await served.runtime.runs() == []


async def test_schema_of_a_model_is_one_to_ask_with(served):
    model = await served.client.models.retrieve("planning")
    schema = {"name": "plan", "schema": model.crew["output"]}
    wanted = {"response_format": {"type": "json_schema", "json_schema": schema}}

    assert (await served.ask("planning", "hi", **wanted)).choices[0].message.content


@pytest.mark.parametrize("changed", ["name", "type", "missing", "loop", "nothing"])
def test_schema_that_differs_deep_inside_is_another_one(changed):
    schema = Plan.model_json_schema()
    part = schema["$defs"]["Part"]["properties"]
    match changed:
        case "name":
            part["nom"] = part.pop("name")
        case "type":
            part["name"] = {"type": "integer"}
        case "missing":
            del part["name"]
        case "loop":
            part["name"] = {"$ref": "#/$defs/loop"}
            schema["$defs"]["loop"] = {"$ref": "#/$defs/loop"}
        case _:
            part["name"] = {"$ref": "#/$defs/nothing"}

    with pytest.raises(ApiError):
        wants_json(planning, {"type": "json_schema", "schema": schema}, "text.format")


def test_schema_that_unfolds_without_end_is_answered_at_once():
    doubling = {
        f"d{n}": {
            "type": "object",
            "properties": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in ("name", "parts")},
        }
        for n in range(5_000)
    }
    schema = {**Plan.model_json_schema(), "$defs": doubling | {"Part": doubling["d0"]}}

    with pytest.raises(ApiError):
        wants_json(planning, {"type": "json_schema", "schema": schema}, "text.format")


async def test_what_a_caller_says_about_a_chat_is_kept_with_its_run(served):
    reply = await served.ask("telling", "hi", metadata={"order": "7"}, user="u1")
    told = await served.client.responses.retrieve(f"resp_{reply.crew['run_id']}")

    assert (told.metadata, told.user) == ({"order": "7"}, "u1")
