"""Images and files over HTTP: in chat completions, in responses, in conversations."""

import base64

import openai
import pytest

DATA = base64.b64encode(b"png").decode()
URL = f"data:image/png;base64,{DATA}"
IMAGE = {"type": "image_url", "image_url": {"url": URL}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:;base64,{DATA}"}}
INPUT_IMAGE = {"type": "input_image", "image_url": URL, "detail": "auto"}
INPUT_FILE = {"type": "input_file", "filename": "a.pdf", "file_data": f"data:;base64,{DATA}"}
ASKED = {"type": "text", "text": "what?"}


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize("model", ["seeing", "looking"])
async def test_a_chat_message_has_images_and_files(endpoint, model):
    reply = await endpoint.ask(model, "", messages=user(ASKED, IMAGE, FILE))
    assert reply.choices[0].message.content == "what?; image b'png'; file b'png'"


@pytest.mark.parametrize("model", ["seeing", "looking"])
async def test_an_image_alone_is_a_question(endpoint, model):
    reply = await endpoint.ask(model, "", messages=user(IMAGE))
    assert reply.choices[0].message.content == "image b'png'"


@pytest.mark.parametrize("model", ["seeing", "looking"])
async def test_a_response_has_images_and_files_and_lists_them(endpoint, model):
    said = [{"type": "input_text", "text": "what?"}, INPUT_IMAGE, INPUT_FILE]
    message = {"role": "user", "content": said}
    made = await endpoint.client.responses.create(model=model, input=[message])
    assert made.output_text == "what?; image b'png'; file b'png'"
    items = await endpoint.client.responses.input_items.list(made.id)
    (item,) = items.data
    assert [part.type for part in item.content] == ["input_text", "input_image", "input_file"]
    assert item.content[1].image_url == URL


async def test_a_conversation_begins_with_an_image_and_goes_on_with_one(endpoint):
    opening = [{"type": "message", "role": "user", "content": [INPUT_IMAGE]}]
    made = await endpoint.client.conversations.create(items=opening)
    message = {"role": "user", "content": [{"type": "input_text", "text": "and?"}, INPUT_IMAGE]}
    for count in (2, 4):
        reply = await endpoint.client.responses.create(
            model="seeing", input=[message], conversation=made.id
        )
        assert reply.output_text.count("b'png'") == count - (count == 4)
    items = await endpoint.client.conversations.items.list(made.id, order="asc")
    assert items.data[0].content[0].image_url == URL


async def test_a_workflow_that_takes_text_alone_says_so(endpoint):
    for model in ("echo", "telling", "ordering"):
        with pytest.raises(openai.BadRequestError, match="takes no images and files.*`parts`"):
            await endpoint.ask(model, "", messages=user(ASKED, IMAGE))
    assert await endpoint.runtime.runs() == []


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}, "come as data"),
        ({"type": "image_url"}, "come as data"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "come as data"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}, "no base64"),
        ({"type": "input_audio", "input_audio": {}}, "only parts of text, image_url and file"),
    ],
)
async def test_what_is_no_data_is_refused(endpoint, part, message):
    with pytest.raises(openai.BadRequestError, match=message):
        await endpoint.ask("seeing", "", messages=user(ASKED, part))
    assert await endpoint.runtime.runs() == []
