"""Requests of front ends for themselves, callers who leave, and progress that is not shown."""

import asyncio
import json

import openai
import pytest

from crew import Context, workflow
from serving.chat.side_requests import side_answer
from tests.serving.raw import request

CHAT = "\n<chat_history>\nUSER: What is a lease for?\nASSISTANT: …\n</chat_history>"
TOOLS = '[{"name": "get_weather", "parameters": {}}]'

SIDE_REQUESTS = {
    "title": [f'### Task:\nName it.\nJSON format: {{ "title": "…" }}{CHAT}'],
    "title in German": [f'### Aufgabe:\nEin Titel. JSON-Format: {{ "title": "…" }}{CHAT}'],
    "title without a heading": [f'Give it a name as {{"title": "…"}}.{CHAT}'],
    "title behind a system message": ["Be kind.", f'### Task:\n{{ "title": "…" }}{CHAT}'],
    "tags in French": [f'### Tâche:\nDes étiquettes: {{ "tags": ["a", "b"] }}{CHAT}'],
    "follow-ups": [f'### Task:\nAsk. A JSON object with a "follow_ups" key.{CHAT}'],
    "queries": [f'### Task:\nSearch.\n{{\n  "queries": ["a"]\n}}{CHAT}'],
    "autocompletion": [
        f'### Task:\n`{{ "text": "" }}`{CHAT}\n<type>General</type>\n<text>a</text>'
    ],
    "image prompt": [f'### Task:\nStrictly return\n{{\n    "prompt": "…"\n}}{CHAT}'],
    "tools": [f"Available Tools: {TOOLS}\n\nChoose.", "Query: what is the weather?"],
    "tools in German": [
        f"Werkzeuge: {TOOLS}\n\nWähle.",
        'Query: History:\nUSER: """a"""\nQuery: b',
    ],
    "emoji": ["Choose one (such as 😊, 😢).\n\nMessage: ```I won```"],
    "LibreChat": ["A 5-word-or-less title, please.\n\nConversation:\nUser: hi\nAI: hello"],
    "LibreChat in Spanish": ["Un título de 5 palabras.\n\nConversación:\nUser: hola\nAI: buenas"],
    "LibreChat with a language": ["1. The language\n2. A title (5 words)\n\nUser: hi\nAI: hello"],
    "LibreChat of assistants": ["A title of 40 letters for:\nUser: a\nAssistant: b\n\nTitle:"],
    "LobeChat": ["Name it. A title of 10 words.", "user: hi\nassistant: hello\nuser: more"],
    "LobeChat in Chinese": ["请总结为标题，不超过10个字。", "user: 你好\nassistant: 您好"],
    "LobeChat of before": ["User: hi\nAssistant: hello\n\nSum it up as a title of 10 characters"],
    "Continue": ["Reply with a title for the chat, 3-4 words in length.\n\nUse a lock."],
}
REAL = {
    "a question": ["What is a lease?"],
    "a chat to be explained": ["User: hi\nAssistant: hello\n\nWhat went wrong in these 2 lines?"],
    "a title for a text": ["A title of 5 words for my essay.\n\nShips are slow."],
    "an answer from documents": [
        '### Task:\nUse the context.\n<context><source>{"title": "x"}</source></context>\nhi'
    ],
    "an object": ['### Task:\nWrite a config.\nJSON format: { "port": 1 }'],
    "a query": ["You know about weather [1].", "Query: is it cold?"],
    "fences": ["What does this print? 😀\n```print(1)```"],
}


def sent(texts: list[str]) -> list[dict[str, str]]:
    told = [{"role": "system", "content": text} for text in texts[:-1]]
    return [*told, {"role": "user", "content": texts[-1]}]


async def test_side_requests_cost_no_run_and_no_turn(endpoint):
    for name, texts in SIDE_REQUESTS.items():
        reply = await endpoint.ask(
            "echo",
            "",
            messages=sent(texts),
            max_completion_tokens=4 if name == "emoji" else None,
            extra_headers={"X-OpenWebUI-Chat-Id": "c-1"},
        )
        assert reply.crew["run_id"] is None, name
    assert await endpoint.runtime.runs() == []
    assert (await endpoint.runtime.thread("c-1")).messages == ()


async def test_side_requests_of_streams_and_responses_cost_no_run(endpoint):
    texts = SIDE_REQUESTS["LobeChat"]
    chunks = await endpoint.stream("echo", "", messages=sent(texts))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hi"
    response = await endpoint.client.responses.create(model="echo", input=sent(texts))
    assert response.output_text == "hi"
    assert await endpoint.runtime.runs() == []


async def test_questions_that_look_like_side_requests_are_answered(endpoint):
    for name, texts in REAL.items():
        reply = await endpoint.ask("echo", "", messages=sent(texts))
        assert reply.crew["run_id"] is not None, name


async def test_side_request_within_a_chat_is_a_question(endpoint):
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    texts = SIDE_REQUESTS["Continue"]
    reply = await endpoint.ask("echo", "", messages=[*earlier, *sent(texts)])
    assert reply.crew["run_id"] is not None


@pytest.mark.parametrize("name", ["title", "title in German", "title without a heading"])
def test_title_is_made_of_the_first_words(name):
    *told, question = SIDE_REQUESTS[name]
    answer = side_answer(question, told="".join(told))
    assert json.loads(answer) == {"title": "What is a lease for?"}


def test_answers_have_the_form_that_is_asked_for():
    forms = {
        "tags in French": {"tags": []},
        "tools": {"tool_calls": []},
        "queries": {"queries": []},
    }
    for name, form in forms.items():
        *told, question = SIDE_REQUESTS[name]
        assert json.loads(side_answer(question, told="".join(told))) == form


@workflow
async def reciting(ctx: Context, text: str) -> str:
    ctx.progress("looking it up")
    ctx.emit("Once upon ")
    ctx.emit("a time")
    await ctx.sleep(600)
    return "never"


LEAVING = {
    "our field": ("/v1/chat/completions", {"crew": {"on_disconnect": "cancel"}}, {}),
    "metadata": ("/v1/chat/completions", {"metadata": {"on_disconnect": "cancel"}}, {}),
    "a header": ("/v1/chat/completions", {}, {"X_On_Disconnect": "cancel"}),
    "not streamed": ("/v1/chat/completions", {"stream": False}, {"X_On_Disconnect": "cancel"}),
    "a response": ("/v1/responses", {"crew": {"on_disconnect": "cancel"}}, {}),
    "a response, not streamed": ("/v1/responses", {"stream": False}, {"X_On_Disconnect": "cancel"}),
}


async def left(endpoint, path: str, fields: dict, headers: dict):
    """Ask for a recital on the conversation `t`, and leave once something was emitted."""
    said = {"messages": [{"role": "user", "content": "tell"}], "conversation": "t"}
    said = said if "chat" in path else {"input": "tell", "conversation": "t"}
    body = json.dumps({"model": "reciting", "stream": True, **said, **fields}).encode()
    host, port = endpoint.url.split("/")[2].split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("POST", path, body, **headers))
    run = await until_emitted(endpoint)
    writer.close()
    return run


async def until_emitted(endpoint):
    async with asyncio.timeout(20):
        while True:
            for run in await endpoint.runtime.runs():
                if any(event.kind == "text.emitted" for event in await run.recorded()):
                    return run
            await asyncio.sleep(0.01)


@pytest.fixture
async def recital(opening):
    async with opening(":memory:", more=[reciting]) as opened:
        yield opened


@pytest.mark.parametrize("how", LEAVING)
async def test_run_whose_caller_leaves_is_cancelled_where_that_is_asked_for(recital, how):
    run = await left(recital, *LEAVING[how])
    async with asyncio.timeout(20):
        while await run.status() != "cancelled":
            await asyncio.sleep(0.01)
    said = [message.text for message in (await recital.runtime.thread("t")).messages]
    assert said == ["tell", "Once upon a time"]


async def test_run_whose_caller_leaves_goes_on_otherwise(recital):
    run = await left(recital, "/v1/chat/completions", {}, {})
    reply = await recital.ask("echo", "x", extra_headers={"X-On-Disconnect": "cancel"})
    assert reply.crew["status"] == "completed"
    assert await run.status() in ("running", "waiting")
    await run.cancel()


@pytest.mark.parametrize("place", ["crew", "metadata"])
async def test_what_is_no_choice_is_refused(endpoint, place):
    for name in ("on_disconnect", "progress"):
        more = {place: {name: "perhaps"}}
        with pytest.raises(openai.BadRequestError, match=name):
            await endpoint.ask("echo", "x", extra_body=more)
        with pytest.raises(openai.BadRequestError, match=name):
            await endpoint.client.responses.create(model="echo", input="x", extra_body=more)
    assert await endpoint.runtime.runs() == []


HIDDEN = {
    "our field": {"extra_body": {"crew": {"progress": False}}},
    "metadata": {"extra_body": {"metadata": {"progress": "false"}}},
    "a header": {"extra_headers": {"X-Progress": "off"}},
}


def reasoning(chunks) -> str:
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    return "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)


@pytest.mark.parametrize("how", HIDDEN)
async def test_progress_is_not_shown_where_it_is_not_wanted(endpoint, how):
    assert "thinking" in reasoning(await endpoint.stream("echo", "x"))
    assert reasoning(await endpoint.stream("echo", "x", **HIDDEN[how])) == ""
    response = await endpoint.client.responses.create(model="echo", input="x", **HIDDEN[how])
    assert [item.type for item in response.output] == ["message"]
    again = await endpoint.client.responses.retrieve(response.id)
    assert [item.type for item in again.output] == ["message"]


async def test_server_that_shows_no_progress_shows_it_to_nobody(opening):
    async with opening(":memory:", progress=False) as endpoint:
        wanted = {"extra_body": {"crew": {"progress": True}}}
        assert reasoning(await endpoint.stream("echo", "x", **wanted)) == ""
        response = await endpoint.client.responses.create(model="echo", input="x", **wanted)
        assert [item.type for item in response.output] == ["message"]


@pytest.mark.parametrize(
    "piece",
    ["<chat_history>", "```", '"""', "user:\n", "{ ", "[", 'JSON "', "#>|* ", "title 1\n\n"],
)
def test_no_question_takes_long_to_be_told_from_a_side_request(piece):
    question = "### Task: 😀" + piece * (300_000 // len(piece))
    for told in ("", question):
        side_answer(question, told=told, limit=4)
        side_answer(f"Query: {question}", told=told)
        side_answer(f"{question} x", told=told, limit=4)
