import json

import pytest

from serving.chat.side_requests import side_answer

CHAT = "\n<chat_history>\nUSER: What is a lease for, and why?\nASSISTANT: …\n</chat_history>"


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('JSON format: { "title": "your concise title here" }', {"title": "What is a lease for,"}),
        ('JSON format: { "tags": ["tag1", "tag2"] }', {"tags": []}),
        ('JSON format: { "follow_ups": ["Question 1?"] }', {"follow_ups": []}),
        ('JSON format: { "queries": ["query1"] }', {"queries": []}),
        (
            'Strictly return in JSON format:\n{\n    "prompt": "Your description."\n}',
            {"prompt": ""},
        ),
    ],
)
def test_request_of_a_front_end_for_itself_gets_what_it_asks_for(output, answer):
    question = f"### Task:\nDo something.\n### Output:\n{output}\n### Chat History:{CHAT}"

    assert json.loads(side_answer(question)) == answer


@pytest.mark.parametrize(
    "question",
    [
        "What is a lease?",
        'Return JSON format: { "title": "x" }',
        "### Task:\nRespond to the user query using the context.\n<user_query>hi</user_query>",
        '### Task:\nWrite a config.\nJSON format: { "port": 1 }',
    ],
)
def test_real_question_is_left_to_the_workflow(question):
    assert side_answer(question) is None
