import json

import pytest
from openai import OpenAI, PermissionDeniedError

from crew import ToolCall
from tests.examples.folder import Folder, kill
from tests.examples.models import eventually, last

BILLING = "You settle bills"
PAID = "45.00 are on their way."


def billing(body):
    if "B2" in last(body):
        return "The tea is on its way."
    done = [message["role"] for message in body["messages"]].count("tool") - 1  # the handoff's
    calls = [
        ToolCall("find_order", {"number": "A7"}),
        ToolCall("refund", {"number": "A7", "cents": 4500}),
    ]
    return calls[done] if done < 2 else PAID


SAYS = {
    "You are the front desk": lambda body: ToolCall("transfer_to_billing"),
    BILLING: billing,
    "You know where": lambda body: "Tomorrow.",
}


class Shop:
    """The example, served, and two who call it: a customer's front end, and a manager."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.secrets = [folder.key("web"), folder.key("eva", "--role", "manager")]
        self.open()

    def open(self) -> None:
        self.server, url = self.folder.serve("triage.py", "--keys", "keys.toml")
        self.web, self.eva = (
            OpenAI(base_url=url, api_key=secret, max_retries=0) for secret in self.secrets
        )

    def close(self) -> None:
        self.web.close()
        self.eva.close()

    def say(self, text: str) -> str:
        answer = self.web.chat.completions.create(
            model="support",
            messages=[{"role": "user", "content": text}],
            metadata={"thread_id": "c1"},
        )
        return answer.choices[0].message.content

    def get(self, path: str) -> dict:
        return self.eva.get(path, cast_to=object)

    def answer(self, client: OpenAI, question: dict, value: object) -> None:
        body = {"key": question["key"], "value": value}
        client.post(f"/runs/{question['run']}/answer", body=body, cast_to=object)


@pytest.fixture
def shop(scene):
    folder, models = scene(SAYS)
    shop = Shop(folder)
    yield shop, models
    shop.close()


def test_a_manager_approves_over_http_and_the_refund_is_paid_once_though_it_is_killed(shop):
    shop, models = shop
    told = shop.say("My kettle, order A7, is broken.")
    assert "manager" in told
    assert "4500" not in told
    (question,) = shop.get("/questions")["data"]
    assert question["to"] == "manager"
    with pytest.raises(PermissionDeniedError):
        shop.answer(shop.web, question, True)

    models.hold(4)
    shop.answer(shop.eva, question, {"approved": True})
    models.wait_until_held()
    kill(shop.server)
    models.let_go()
    shop.close()
    shop.open()

    run = f"/runs/{question['run']}"
    done = eventually(lambda: (it := shop.get(run))["status"] == "completed" and it)
    assert done["output"] == PAID
    assert (shop.folder.path / "refunds.csv").read_text() == "A7,4500\n"
    assert (len(models.calls), models.repeated) == (4, [2])

    models.asked.clear()
    assert shop.say("And B2?") == "The tea is on its way."
    assert models.asked == [BILLING]  # the conversation has stayed there
    assert json.dumps(models.bodies[-1]["messages"]).count(PAID) == 1


def test_a_refusal_reaches_the_model_with_its_reason(shop):
    shop, models = shop
    shop.say("My kettle, order A7, is broken.")
    (question,) = shop.get("/questions")["data"]
    refusal = {"approved": False, "reason": "it was dropped"}
    shop.answer(shop.eva, question, refusal)
    eventually(lambda: shop.get(f"/runs/{question['run']}")["status"] == "completed")
    assert "it was dropped" in last(models.bodies[-1])
    assert not (shop.folder.path / "refunds.csv").exists()
