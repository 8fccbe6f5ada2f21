"""The llama.cpp deployment without a cluster: Serve's local testing mode."""

import json

import pytest

from crew.errors import ModelError
from crew.llm.weights import default_weights_path
from serving.llm import LLMSettings, build

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # ray's own models
    pytest.mark.skipif(default_weights_path() is None, reason="no weights: run `make install`"),
]
ASKED = {
    "model": "embedded",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "max_tokens": 12,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def replica():
    from ray import serve

    handle = serve.run(build(LLMSettings(parallel=2)), name="llm", _local_testing_mode=True)
    yield handle
    handle.close.remote().result()


def test_whole_answer_has_usage(replica):
    reply = replica.complete.remote(ASKED).result()

    assert reply["choices"][0]["message"]["content"]
    assert 0 < reply["usage"]["completion_tokens"] <= 12


def test_stream_gives_the_same_text_in_pieces(replica):
    whole = replica.complete.remote(ASKED).result()["choices"][0]["message"]["content"]
    chunks = list(replica.options(stream=True).stream.remote(ASKED))
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]

    assert len(chunks) > 5
    assert "".join(pieces) == whole


def test_schema_is_kept_by_the_engine(replica):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "out", "schema": schema}}
    body = {**ASKED, "max_tokens": 60, "response_format": wanted}
    text = replica.complete.remote(body).result()["choices"][0]["message"]["content"]

    assert set(json.loads(text)) == {"city"}


def test_request_longer_than_the_context_is_refused(replica):
    body = {**ASKED, "messages": [{"role": "user", "content": "word " * 9_000}]}

    with pytest.raises(ModelError) as caught:
        replica.complete.remote(body).result()
    assert caught.value.status == 400


def test_unknown_model_is_named_with_the_one_there_is(replica):
    refusal = replica.refusal.remote({"model": "gpt-9", "messages": [{}]}).result()

    assert refusal["error"]["code"] == "model_not_found"
    assert "served here: embedded" in refusal["error"]["message"]
